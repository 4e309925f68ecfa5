//! Growth of convolutional networks is exact at any geometry, with anything between two layers.

mod common;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::Tensor;
use common::{Images, all_gradients, check_growth, device, everywhere, incoming};
use gradmax::event::{EventContext, Grower, Part, Planned};
use gradmax::methods::SidePolicy;
use gradmax::methods::{GradMax, Placement, Random};
use gradmax::modules::{DepthwiseConv2d, NormKind};
use gradmax::networks::{Architecture, ConvNetConfig, MlpConfig, Stage, WideResNetConfig};
use gradmax::operator::{GrowthOperator, LinearOperator};
use gradmax::site::{
    Activation, Beside, BetweenLayer, ChangingLayerNorm, Flatten, GlobalAverage, Growable, OutputChange, Probe,
    Recorder, Site, global_average,
};
use gradmax::{Error, Seed};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

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

/// Stages with everything that can lie between two layers.
fn everything() -> ConvNetConfig {
    let conv = |channels, stride| Stage::Conv {
        channels,
        kernel: 3,
        stride,
        padding: None,
        dilation: 1,
        groups: 1,
        bias: true,
    };
    let act = |function| Stage::Activation { function };
    let stages = vec![
        conv(4, 1),
        Stage::Norm { norm: NormKind::Batch },
        act(Activation::Relu),
        Stage::Depthwise { kernel: 3, stride: 2 },
        act(Activation::Gelu),
        conv(6, 1),
        act(Activation::Relu),
        Stage::Norm { norm: NormKind::Batch },
        Stage::AveragePool { size: 2 },
        conv(4, 1),
        act(Activation::Tanh),
        Stage::Norm { norm: NormKind::Group(1) },
        Stage::Flatten,
        Stage::Norm { norm: NormKind::Batch },
        Stage::Dense { units: 5, bias: true },
        Stage::Norm { norm: NormKind::Batch },
        act(Activation::Silu),
        Stage::Dense { units: 3, bias: true },
    ];
    ConvNetConfig { input: [2, 9, 10], stages }
}

fn zero(zero_side: SidePolicy) -> Placement {
    Placement { zero_side, ..Placement::default() }
}

#[test]
fn the_training_step_after_growth_has_every_gradient_of_the_grown_network() {
    let network = everything().init(Seed::new(1), &device()).unwrap();
    let images = Images::new(7, [2, 9, 10], 3, Seed::new(2));
    for zero_side in [SidePolicy::Incoming, SidePolicy::Outgoing, SidePolicy::Automatic] {
        let grower = Grower::new(Random {}).with_placement(zero(zero_side));
        let parts = [Part::whole(|n: &_, probe: &mut dyn Probe| images.pass(n, probe))];
        let context = EventContext { batch_is_training_step: true, ..EventContext::default() };
        let plan = everywhere(&network, 2);
        let growth = grower.grow_on(&network, &SgdConfig::new().init(), &plan, &parts, context).unwrap();
        let own = images.pass(&growth.network.valid().train(), &mut ());
        let copy = growth.network.valid().train();
        let own_again = images.pass(&copy, &mut ());
        assert_eq!(own.loss.into_scalar::<f32>(), own_again.loss.clone().into_scalar::<f32>());
        let own = all_gradients(&copy, &GradientsParams::from_grads(own_again.loss.backward(), &copy));
        let reused = all_gradients(&growth.network, &growth.training_pass.unwrap().gradients);
        assert_eq!(own.len(), reused.len());
        let scale = own.iter().flat_map(|(_, own)| own).fold(0.0_f32, |largest, x| largest.max(x.abs()));
        for ((id, own), (reused_id, reused)) in own.iter().zip(&reused) {
            assert_eq!((id, own.len()), (reused_id, reused.len()));
            let largest = own.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            // A bias before norms receives nothing but rounding, 316 times enlarged by each.
            let near = own.iter().zip(reused).all(|(a, b)| (a - b).abs() <= 1e-4 * largest + 1e-5 * scale);
            assert!(near, "{zero_side:?} {own:?} {reused:?}");
        }
    }
}

#[test]
fn zero_outgoing_weights_preserve_the_function_through_everything() {
    let network = everything().init(Seed::new(3), &device()).unwrap();
    let images = Images::new(6, [2, 9, 10], 3, Seed::new(4));
    for (grower, side) in [
        (Grower::new(Random {}), SidePolicy::Outgoing),
        (Grower::new(GradMax::default()), SidePolicy::Outgoing),
        (Grower::new(GradMax::default()), SidePolicy::Automatic),
    ] {
        let growth = images.grow(&grower.with_placement(zero(side)), &network, &everywhere(&network, 2)).unwrap();
        assert!(growth.receipt.output_change.unwrap() <= 1e-6);
        assert!(images.change_in_evaluation(&network, &growth.network) <= 1e-6);
        for site in &growth.receipt.sites {
            assert_eq!(site.gradient_norm, Some(0.0), "{site:?}");
            assert!(site.outgoing_gradient_norm.unwrap() > 0.0, "{site:?}");
        }
    }
}

#[test]
fn a_norm_after_the_producer_makes_the_outgoing_side_the_zero_one() {
    let conv = |channels| Stage::conv3x3(channels, 1);
    let act = Stage::Activation { function: Activation::Relu };
    let stages = vec![conv(3), act.clone(), conv(3), Stage::Norm { norm: NormKind::Batch }, act, conv(2)];
    let network = ConvNetConfig { input: [1, 6, 6], stages }.init(Seed::new(1), &device()).unwrap();
    let images = Images::new(5, [1, 6, 6], 2, Seed::new(2));
    let growth = images.grow(&Grower::new(GradMax::default()), &network, &everywhere(&network, 1)).unwrap();
    let [plain, normed] = [0, 1].map(|site| &growth.receipt.sites[site]);
    assert_eq!((plain.outgoing_gradient_norm, normed.gradient_norm), (Some(0.0), Some(0.0)));
    assert!(plain.gradient_norm > Some(0.0) && normed.outgoing_gradient_norm > Some(0.0));
}

#[test]
fn apply_and_adjoint_are_adjoint_through_everything() {
    let network = everything().init(Seed::new(5), &device()).unwrap();
    let images = Images::new(6, [2, 9, 10], 3, Seed::new(6));
    let mut recorder = Recorder::new();
    let mut gradients = images.pass(&network, &mut recorder).loss.backward();
    let evidence = recorder.into_evidence(&mut gradients);
    for site in network.sites() {
        let operator = GrowthOperator::new(&site, &evidence).unwrap();
        let mut draw = Draw(Seed::new(7).rng());
        let mut random = |rows, columns| faer::Mat::from_fn(rows, columns, |_, _| draw.0.random::<f64>() - 0.5);
        let (outgoing, incoming) = (random(site.fan_out(), 1), random(1, site.fan_in()));
        let left = (operator.apply(outgoing.as_ref()) * incoming.transpose())[(0, 0)];
        let right = (outgoing.transpose() * operator.adjoint(incoming.as_ref()))[(0, 0)];
        assert!((left - right).abs() <= 1e-4 * left.abs().max(1e-2), "{}: {left} {right}", site.name);
    }
}

#[test]
fn groups_of_a_group_norm_stay_whole() {
    let stages = vec![
        Stage::conv3x3(4, 1),
        Stage::Norm { norm: NormKind::Group(2) },
        Stage::Activation { function: Activation::Relu },
        Stage::conv3x3(2, 1),
    ];
    let network = ConvNetConfig { input: [2, 5, 5], stages }.init(Seed::new(1), &device()).unwrap();
    let images = Images::new(4, [2, 5, 5], 2, Seed::new(2));
    // Two neurons share a group, so each one's gradient depends on both; the prediction counts that.
    check_growth(&network, &images, &everywhere(&network, 4), "group norm");
    let uneven =
        images.grow(&Grower::new(GradMax::default()), &network, &everywhere(&network, 3)).map(|_| ()).unwrap_err();
    assert!(matches!(uneven, Error::UnevenGroups { unit: 2, .. }), "{uneven}");
}

#[test]
fn max_pooling_gives_new_neurons_the_gradient_of_the_first_entry_of_each_window() {
    let act = Stage::Activation { function: Activation::Relu };
    let stages = vec![Stage::conv1x1(3, 1), act, Stage::MaxPool { size: 2 }, Stage::conv1x1(2, 1)];
    let network = ConvNetConfig { input: [2, 6, 6], stages }.init(Seed::new(1), &device()).unwrap();
    let images = Images::new(4, [2, 6, 6], 2, Seed::new(2));
    let mut recorder = Recorder::new();
    let output = images.pass(&network, &mut recorder);
    let evidence = recorder.into_evidence(&mut output.loss.backward());
    let operator = GrowthOperator::new(&network.sites()[0], &evidence).unwrap();
    let applied = operator.apply(faer::Mat::identity(2, 2).as_ref());

    // By hand: the output is the mean over 3x3 windows, the loss the mean over 4 x 2 squares, and a 1x1 kernel reads
    // the entry at even rows and columns.
    let gradmax::training::Target::Values(target) = &images.target else { unreachable!("the images have values") };
    let delta = common::values((output.output.inner() - target.clone()).mul_scalar(2.0 / 8.0 / 9.0));
    let pixels = common::values(images.input.clone());
    for class in 0..2 {
        for channel in 0..2 {
            let entry = |example: usize, position: usize| {
                pixels[((example * 2 + channel) * 6 + position / 3 * 2) * 6 + position % 3 * 2]
            };
            let of = |example: usize| (0..9).map(|at| entry(example, at)).sum::<f32>() * delta[example * 2 + class];
            let expected = f64::from((0..4).map(of).sum::<f32>());
            assert!((applied[(class, channel)] - expected).abs() <= 1e-5, "{expected} {}", applied[(class, channel)]);
        }
    }
}

#[test]
fn dropout_is_verified_where_it_is_silent() {
    let stages = vec![
        Stage::conv3x3(4, 1),
        Stage::Activation { function: Activation::Relu },
        Stage::Dropout { rate: 0.5 },
        Stage::GlobalAverage,
        Stage::Dense { units: 2, bias: true },
    ];
    let network = ConvNetConfig { input: [2, 5, 5], stages }.init(Seed::new(1), &device()).unwrap();
    let images = Images::new(30, [2, 5, 5], 2, Seed::new(2));
    let growth = images.grow(&Grower::new(GradMax::default()), &network, &everywhere(&network, 2)).unwrap();
    assert!(growth.receipt.output_change.unwrap() <= 1e-6);
    assert!(growth.receipt.sites[0].gradient_norm.unwrap() > 0.0);
}

/// Two convolutions side by side; the neurons of the first are read twice, those of both once together.
#[derive(Module, Debug)]
struct Branching {
    left: Conv2d,
    right: Conv2d,
    norm: BatchNorm,
    depthwise: DepthwiseConv2d,
    join: Conv2d,
    side: Conv2d,
    output: Linear,
}

impl Branching {
    fn new() -> Self {
        let device = device();
        let conv = |channels, kernel: usize| {
            let padding = PaddingConfig2d::Explicit(kernel / 2, kernel / 2, kernel / 2, kernel / 2);
            Conv2dConfig::new(channels, [kernel, kernel]).with_padding(padding).init(&device)
        };
        let depthwise = Conv2dConfig::new([7, 7], [3, 3])
            .with_groups(7)
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .init(&device);
        Self {
            left: conv([2, 4], 3),
            right: conv([2, 3], 1),
            norm: BatchNormConfig::new(7).init(&device),
            depthwise: DepthwiseConv2d {
                weight: depthwise.weight,
                bias: depthwise.bias,
                stride: [1, 1],
                padding: [1, 1],
                dilation: [1, 1],
            },
            join: conv([7, 5], 3),
            side: conv([4, 5], 1),
            output: LinearConfig::new(5, 2).init(&device),
        }
    }

    fn widths(&self) -> [usize; 2] {
        [&self.left, &self.right].map(|conv| conv.weight.dims()[0])
    }
}

impl Growable for Branching {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        let [left, right] = self.widths();
        let joined = |before, after| (Activation::Relu, Beside { before, after }, &self.norm, &self.depthwise);
        vec![
            Site::new("left", &self.left, joined(0, right), &self.join).and([Activation::Relu], &self.side),
            Site::new("right", &self.right, joined(left, 0), &self.join),
        ]
    }

    fn forward_probed(&self, input: Tensor<4>, probe: &mut dyn Probe) -> Tensor<2> {
        let left = Activation::Relu.apply(self.left.forward(input.clone()));
        let right = Activation::Relu.apply(self.right.forward(input.clone()));
        let both = self.depthwise.forward(self.norm.forward(Tensor::cat(vec![left.clone(), right], 1)));
        let joined = probe.site("left", &input, self.join.forward(both));
        let joined = probe.site("right", &input, joined);
        let side = probe.consumer("left", 1, &input, self.side.forward(left));
        self.output.forward(global_average(Activation::Relu.apply(joined + side)))
    }
}

#[test]
fn neurons_with_several_readers_and_beside_others_grow_at_their_place() {
    let network = Branching::new();
    let images = Images::new(6, [2, 5, 5], 2, Seed::new(8));
    check_growth(&network, &images, &everywhere(&network, 2), "branching");
    let growth = images.grow(&Grower::new(GradMax::default()), &network, &everywhere(&network, 2)).unwrap();
    assert_eq!(growth.network.widths(), [6, 5]);
    // Grown again, at places that the first growth has moved.
    check_growth(&growth.network, &images, &everywhere(&growth.network, 3), "branching again");
    // Old weights of the join lie where the old neurons do.
    let (old, new) = (network.join.weight.val().inner(), growth.network.join.weight.val().inner());
    let data = |weight: Tensor<4>| weight.into_data();
    assert_eq!(data(old.clone().narrow(1, 0, 4)), data(new.clone().narrow(1, 0, 4)));
    assert_eq!(data(old.narrow(1, 4, 3)), data(new.narrow(1, 6, 3)));
}

/// A network whose site is declared in some way or other.
#[derive(Module, Debug)]
struct Declared {
    first: Conv2d,
    norm: LayerNorm,
    second: Conv2d,
    #[module(skip)]
    between: Vec<BetweenLayer>,
}

impl Growable for Declared {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        let between = self.between.iter().map(|between| match between.traits().output_change {
            Some(OutputChange::Refused) => (&self.norm).into(),
            Some(OutputChange::Accepted) => ChangingLayerNorm(self.norm.clone()).into(),
            None => between.clone(),
        });
        vec![Site::new("first", &self.first, between.collect::<Vec<_>>(), &self.second)]
    }

    fn forward_probed(&self, input: Tensor<4>, probe: &mut dyn Probe) -> Tensor<2> {
        let neurons = self.first.forward(input.clone()).permute([0, 2, 3, 1]);
        let neurons = self.norm.forward(neurons).permute([0, 3, 1, 2]);
        let output = self.second.forward(Activation::Relu.apply(neurons));
        global_average(probe.site("first", &input, output))
    }
}

fn declared(between: impl FnOnce(LayerNorm) -> Vec<BetweenLayer>) -> Declared {
    let device = device();
    let conv = |channels| Conv2dConfig::new(channels, [3, 3]).init(&device);
    let norm = LayerNormConfig::new(4).init(&device);
    Declared { first: conv([2, 4]), second: conv([4, 2]), between: between(norm.clone()), norm }
}

#[test]
fn a_layer_norm_over_neurons_is_refused_unless_the_change_is_accepted() {
    let images = Images::new(5, [2, 6, 6], 2, Seed::new(1));
    let grow = |declare: fn(LayerNorm) -> BetweenLayer| {
        let network = declared(|norm| vec![declare(norm), Activation::Relu.into()]);
        images.grow(&Grower::new(GradMax::default()), &network, &everywhere(&network, 2))
    };
    assert!(matches!(grow(|norm| (&norm).into()).map(|_| ()), Err(Error::LayerNormAcrossNeurons { .. })));
    let growth = grow(|norm| ChangingLayerNorm(norm).into()).unwrap();
    assert_eq!(growth.network.first.weight.dims()[0], 6);
    assert_eq!(growth.receipt.tolerance, None);
    assert!(growth.receipt.output_change.unwrap() > 1e-3);
}

#[test]
fn sites_that_do_not_fit_together_are_refused_with_the_layer_that_does_not() {
    let images = Images::new(5, [2, 6, 6], 2, Seed::new(1));
    let refused = |between: Vec<BetweenLayer>| {
        let network = declared(|_| between);
        images.grow(&Grower::new(GradMax::default()), &network, &everywhere(&network, 2)).map(|_| ()).unwrap_err()
    };
    let pool = burn::nn::pool::AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
    let norm = BatchNormConfig::new(9).init(&device());
    let cases = [
        (vec![Flatten.into()], "consumer reads maps"),
        (vec![GlobalAverage.into(), (&pool).into()], "average pool reads maps"),
        (vec![(&norm).into()], "batch norm is made for 9 features, but 4 reach it"),
        (vec![Beside { before: 1, after: 0 }.into()], "consumer is made for 4 features, but 5 reach it"),
        (vec![(&pool).into()], "outputs of shape"),
    ];
    for (between, says) in cases {
        let error = refused(between).to_string();
        assert!(error.contains(says) && error.contains("`first`"), "{error}");
    }
}

#[test]
fn new_layers_grow_from_nothing() {
    // Beside the hidden layers of a perceptron: past one, and from input to output.
    let paths = [(0, 2), (0, 3), (1, 3)].map(|(from, to)| gradmax::networks::HiddenPath { from, to, width: 0 });
    let config = MlpConfig { paths: paths.to_vec(), ..MlpConfig::new(6, &[4, 3], 2, Activation::Relu) };
    let network = config.init(Seed::new(1), &device()).unwrap();
    let batch = common::Batch::new(30, 6, 2);
    let growth = Grower::new(GradMax::default())
        .grow(&network, &SgdConfig::new().init(), &everywhere(&network, 2), |n, probe| batch.pass(n, probe))
        .unwrap();
    let widths = growth.network.sites().iter().map(|site| site.width()).collect::<Vec<_>>();
    assert_eq!(widths, [6, 5, 2, 2, 2]);
    for site in &growth.receipt.sites {
        let (predicted, measured) = (site.predicted_gradient_norm, site.gradient_norm.unwrap());
        assert!(measured > 0.0 && (predicted - measured).abs() <= 1e-4 * predicted, "{site:?}");
    }
    assert!(growth.receipt.output_change.unwrap() <= 1e-6);
    assert_eq!(
        growth.network.num_params(),
        config.with_site_widths(&widths).init(Seed::new(2), &device()).unwrap().num_params()
    );

    // New blocks of a residual network, with and without norms inside.
    for norm in [NormKind::None, NormKind::Batch, NormKind::Group(4)] {
        let config =
            WideResNetConfig { norm, input: [3, 8, 8], ..WideResNetConfig::new(10, 1, 0.25) }.with_new_blocks(1);
        let network = config.init(Seed::new(3), &device()).unwrap();
        let images = Images::new(4, [3, 8, 8], 10, Seed::new(4));
        check_growth(&network, &images, &everywhere(&network, 4), &format!("new blocks, {norm:?}"));
        let grower = Grower::new(GradMax::default()).with_placement(incoming());
        let growth = images.grow(&grower, &network, &everywhere(&network, 4)).unwrap();
        assert_eq!(growth.network.sites()[1].width(), 4);
        check_growth(&growth.network, &images, &everywhere(&growth.network, 4), &format!("newer blocks, {norm:?}"));
    }
}
