//! A network of one's own made growable: a line per site in `sites`, and a line per site in the forward pass.
//!
//! `cargo run --release -p gradmax --example own_network`

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Distribution, Tensor};
use gradmax::event::{Grower, Pass, Planned};
use gradmax::methods::GradMax;
use gradmax::site::{Activation, Growable, Probe, Site};
use gradmax::training::{Regression, Task};

/// Two hidden layers, and a shortcut from the inputs to the outputs.
#[derive(Module, Debug)]
struct Network {
    first: Linear,
    second: Linear,
    output: Linear,
    shortcut: Linear,
}

impl Network {
    fn new(device: &Device) -> Self {
        let dense = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        Self { first: dense(8, 3), second: dense(3, 3), output: dense(3, 2), shortcut: dense(8, 2) }
    }
}

impl Growable for Network {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        vec![
            Site::new("first", &self.first, [Activation::Relu], &self.second),
            Site::new("second", &self.second, [Activation::Tanh], &self.output),
        ]
    }

    fn forward_probed(&self, input: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
        let first = Activation::Relu.apply(self.first.forward(input.clone()));
        let second = probe.site("first", &input, self.second.forward(first.clone()));
        let second = Activation::Tanh.apply(second);
        let output = probe.site("second", &first, self.output.forward(second));
        output + self.shortcut.forward(input)
    }
}

fn main() -> Result<(), gradmax::Error> {
    let device = Device::flex();
    let input = Tensor::<2>::random([256, 8], Distribution::Normal(0.0, 1.0), &device);
    let target = (input.clone().slice([0..256, 0..2]) * input.clone().slice([0..256, 2..4])).sin();

    let mut network = Network::new(&device.autodiff());
    let mut optimizer = SgdConfig::new().init();
    let grower = Grower::new(GradMax::default());
    for step in 0..2000 {
        let pass = |network: &Network, probe: &mut dyn Probe| {
            let output = network.forward_probed(input.clone(), probe);
            Pass { loss: Regression.loss(&output, &target), output }
        };
        if step % 400 == 0 && step > 0 {
            let plan = ["first", "second"].map(|site| Planned { site: site.into(), count: 2 });
            let growth = grower.grow(&network, &optimizer, &plan, pass)?;
            (network, optimizer) = (growth.network, growth.optimizer);
            let [before, after] = growth.receipt.parameters;
            println!("step {step}: loss {:.4}, {before} -> {after} parameters", growth.receipt.loss_before);
        }
        let gradients = GradientsParams::from_grads(pass(&network, &mut ()).loss.backward(), &network);
        network = optimizer.step(0.1, network, gradients);
    }
    println!("in the end: loss {:.4}", Regression.loss(&network.forward(input), &target).into_scalar::<f32>());
    Ok(())
}
