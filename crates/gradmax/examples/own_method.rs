//! A growth method of one's own, in one file, compared with GradMax.
//!
//! `cargo run --release -p gradmax --example own_method`

use burn::optim::SgdConfig;
use burn::tensor::{Device, Distribution, Tensor};
use gradmax::event::{Grower, Pass, Planned};
use gradmax::methods::{GradMax, GrowthMethod, Need, Request};
use gradmax::networks::{Architecture, Mlp, MlpConfig};
use gradmax::operator::leading_directions;
use gradmax::site::{Activation, Growable, Probe};
use gradmax::surgery::NewNeurons;
use gradmax::training::{Regression, Task};
use gradmax::{Error, Matrix, Seed};

/// Neurons in pairs: each leading direction once with either sign, so that after the first step one of the two is
/// active on every input of a rectifier. Fewer directions than GradMax takes, but the best ones, twice.
struct Twins;

impl GrowthMethod for Twins {
    fn name(&self) -> &str {
        "twins"
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Operator]
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let leading = leading_directions(request.operator()?, request.count.div_ceil(2))?.vectors;
        let sign = |neuron: usize| if neuron.is_multiple_of(2) { 1.0 } else { -1.0 };
        let rows = Matrix::from_fn(request.count, request.fan_out, |neuron, j| sign(neuron) * leading[(j, neuron / 2)]);
        request.place(rows.as_ref())
    }
}

fn main() -> Result<(), Error> {
    let device = Device::flex();
    let input = Tensor::<2>::random([500, 12], Distribution::Normal(0.0, 1.0), &device);
    let target = input.clone().slice([0..500, 0..6]).abs();
    let config = MlpConfig::new(12, &[4], 6, Activation::Relu);
    let network = config.init(Seed::new(1), &device.autodiff())?;
    let pass = |network: &Mlp, probe: &mut dyn Probe| {
        let output = network.forward_probed(input.clone(), probe);
        Pass { loss: Regression.loss(&output, &target), output }
    };

    let plan = [Planned { site: "hidden1".into(), count: 4 }];
    for grower in [Grower::new(Twins), Grower::new(GradMax::default())] {
        let receipt = grower.grow(&network, &SgdConfig::new().init(), &plan, pass)?.receipt;
        let norm = receipt.sites[0].gradient_norm.unwrap_or(f64::NAN);
        println!("{:>8}: the new weights receive a gradient of norm {norm:.4}", receipt.method);
    }
    Ok(())
}
