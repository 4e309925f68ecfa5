//! Growth of convolutional networks is exact at any geometry, with anything between two layers.

mod common;

use burn::optim::SgdConfig;
use burn::tensor::{Tensor, TensorData};
use common::device;
use gradmax::{
    Activation, Architecture, ConvNetConfig, Error, GradMax, Growable, Grower, Growth, NormKind, Pass, Placement,
    Planned, Probe, Seed, Stage, Target, Task, ZeroSide,
};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// A batch of images, and values to come near.
struct Images {
    input: Tensor<4>,
    target: Target,
}

impl Images {
    fn new(examples: usize, [channels, height, width]: [usize; 3], outputs: usize, seed: Seed) -> Self {
        let mut rng = seed.rng();
        let mut normal = |count: usize| (0..count).map(|_| StandardNormal.sample(&mut rng)).collect::<Vec<f32>>();
        let input = TensorData::new(normal(examples * channels * height * width), [examples, channels, height, width]);
        let target = TensorData::new(normal(examples * outputs), [examples, outputs]);
        let device = device().inner();
        Self { input: Tensor::from_data(input, &device), target: Target::Values(Tensor::from_data(target, &device)) }
    }

    fn pass<N: Growable<Input = Tensor<4>>>(&self, network: &N, probe: &mut dyn Probe) -> Pass {
        let output = network.forward_probed(self.input.clone(), probe);
        Pass { loss: Task::Regression.loss(output.clone(), &self.target), output }
    }

    fn grow<N: Growable<Input = Tensor<4>>>(
        &self,
        grower: &Grower,
        network: &N,
        plan: &[Planned],
    ) -> Result<Growth<N>, Error> {
        grower.grow(network, &SgdConfig::new().init(), plan, |network, probe| self.pass(network, probe))
    }

    /// Largest change of an evaluation-mode output, relative to the largest output.
    fn change_in_evaluation<N: Growable<Input = Tensor<4>>>(&self, before: &N, after: &N) -> f64 {
        let [before, after] = [before, after].map(|network| network.valid().forward(self.input.clone()));
        let largest = |tensor: Tensor<2>| tensor.abs().max().into_scalar::<f64>();
        largest(after - before.clone()) / largest(before).max(f64::MIN_POSITIVE)
    }
}

fn incoming() -> Placement {
    Placement { zero_side: ZeroSide::Incoming, ..Placement::default() }
}

/// Gradients below this are what cancellation leaves where the true one is 0, as where a kernel of 1 reads nothing but padding.
const SILENT: f64 = 1e-3;

/// Grows every site with GradMax and zero incoming weights, and checks all that growth promises; counts sites that receive a gradient.
fn check_growth<N: Growable<Input = Tensor<4>>>(network: &N, images: &Images, plan: &[Planned], case: &str) -> usize {
    // A pass in training mode, so that running statistics are not what they start with.
    images.pass(network, &mut ());
    let grower = Grower::new(GradMax).with_placement(incoming());
    let growth = images.grow(&grower, network, plan).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(growth.receipt.output_change.unwrap() <= 1e-6, "{case}: {:?}", growth.receipt);
    assert!(images.change_in_evaluation(network, &growth.network) <= 1e-6, "{case}");
    for site in &growth.receipt.sites {
        let (predicted, measured) = (site.predicted_gradient_norm, site.gradient_norm.unwrap());
        let near = (predicted - measured).abs() <= 1e-4 * predicted.max(measured);
        assert!(near || predicted.max(measured) < SILENT, "{case}: {site:?}");
        assert_eq!(site.outgoing_gradient_norm, Some(0.0), "{case}: {site:?}");
    }
    for (site, planned) in network.sites().iter().zip(plan) {
        let grown = growth.network.sites().into_iter().find(|grown| grown.name == site.name).unwrap();
        assert_eq!(grown.width(), site.width() + planned.count, "{case}");
        assert_eq!(grown.producer.weight(), site.producer.weight(), "{case}");
    }
    growth.receipt.sites.iter().filter(|site| site.predicted_gradient_norm >= SILENT).count()
}

struct Draw(ChaCha8Rng);

impl Draw {
    fn upto(&mut self, from: usize, to: usize) -> usize {
        self.0.random_range(from..=to)
    }

    fn chance(&mut self, share: f64) -> bool {
        self.0.random::<f64>() < share
    }
}

/// A stack of two to four convolutions of any geometry, with anything between, to a convolution or a dense layer.
fn drawn(draw: &mut Draw) -> ConvNetConfig {
    let activations =
        [Activation::Relu, Activation::LeakyRelu, Activation::Tanh, Activation::Gelu, Activation::Identity];
    let groups = if draw.chance(0.3) { draw.upto(2, 3) } else { 1 };
    let input = [draw.upto(1, 3) * groups, draw.upto(2, 11), draw.upto(2, 11)];
    let mut stages = Vec::new();
    for _ in 0..draw.upto(2, 4) {
        let groups = if draw.chance(0.7) { groups } else { 1 };
        let (kernel, dilation) = (draw.upto(1, 5), draw.upto(1, 2));
        // More padding than a kernel reaches over leaves positions that read nothing else; a few of these are enough.
        let most = if draw.chance(0.9) { (dilation * (kernel - 1)).min(2) } else { 2 };
        stages.push(Stage::Conv {
            channels: draw.upto(1, 2) * 6,
            kernel,
            stride: draw.upto(1, 3),
            padding: Some(draw.upto(0, most)),
            dilation,
            groups,
            bias: draw.chance(0.5),
        });
        let norm_first = draw.chance(0.5);
        let norm = draw.chance(0.4).then_some(Stage::Norm { norm: NormKind::Batch });
        stages.extend(norm.clone().filter(|_| norm_first));
        stages.push(Stage::Activation { function: activations[draw.upto(0, 4)] });
        stages.extend(norm.filter(|_| !norm_first));
        if draw.chance(0.25) {
            stages.push(Stage::Depthwise { kernel: [1, 3, 5][draw.upto(0, 2)], stride: draw.upto(1, 2) });
            stages.extend(draw.chance(0.5).then_some(Stage::Activation { function: Activation::Relu }));
        }
        stages.extend(draw.chance(0.25).then_some(Stage::AveragePool { size: 2 }));
        stages.extend(draw.chance(0.2).then_some(Stage::MaxPool { size: 2 }));
    }
    match draw.upto(0, 2) {
        0 => stages.push(Stage::Conv {
            channels: 6,
            kernel: draw.upto(1, 3),
            stride: draw.upto(1, 2),
            padding: Some(1),
            dilation: 1,
            groups,
            bias: true,
        }),
        1 => stages.extend([Stage::Flatten, Stage::Dense { units: 6, bias: true }]),
        _ => stages.extend([Stage::GlobalAverage, Stage::Dense { units: 6, bias: false }]),
    }
    ConvNetConfig { input, stages }
}

#[test]
fn growth_is_exact_at_any_geometry() {
    let (mut cases, mut attempts, mut sites, mut silent) = (0, 0, 0, 0);
    while cases < 240 {
        attempts += 1;
        let seed = Seed::new(attempts);
        let mut draw = Draw(seed.fold("network").rng());
        let config = drawn(&mut draw);
        // Kernels that do not fit into small maps are no network.
        let Ok(network) = config.init(seed, &device()) else {
            continue;
        };
        let images = Images::new(draw.upto(3, 6), config.input, 6, seed.fold("images"));
        let plan = network.sites().into_iter().map(|site| {
            let count = site.blocks() * draw.upto(1, 2);
            Planned { site: site.name, count }
        });
        let plan = plan.collect::<Vec<_>>();
        let reached = check_growth(&network, &images, &plan, &format!("case {attempts}, {config:?}"));
        (sites, silent) = (sites + reached, silent + plan.len() - reached);
        cases += 1;
    }
    println!("{cases} networks of {attempts} drawn, {sites} sites, and {silent} that receive no gradient");
    assert!(silent * 5 < sites);
}
