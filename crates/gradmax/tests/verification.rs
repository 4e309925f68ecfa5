//! What the verification of a growth event notices, and what it does not take for a fault.

mod common;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor};
use common::{Batch, Images, device, everywhere, mlp, values, widths_of};
use gradmax::event::{EventContext, Grower, Part, Pass, Planned, Verification};
use gradmax::methods::{Firefly, GradMax, GrowthMethod, Need, Net2Wider, Random, Request};
use gradmax::networks::{Architecture, ConvNetConfig, Mlp, Stage};
use gradmax::policies::Periodic;
use gradmax::site::{Activation, Growable, Probe, Site, SiteWidth};
use gradmax::surgery::NewNeurons;
use gradmax::training::{
    GrowthBatch, GrowthSettings, InMemory, OnFailure, Run, Settings, Supervised, Trainer, checkpoint, with_draws,
};
use gradmax::{Error, Seed};

fn one(site: &str, count: usize) -> Vec<Planned> {
    vec![Planned { site: site.into(), count }]
}

fn grow<N: Growable<Output = Tensor<2>>>(
    grower: Grower,
    network: &N,
    pass: impl Fn(&N, &mut dyn Probe) -> Pass,
) -> Result<gradmax::event::Growth<N>, Error> {
    grower.grow(network, &SgdConfig::new().init(), &everywhere(network, 2), pass)
}

/// A network whose loss can read its neurons.
#[derive(Module, Debug)]
struct Penalised {
    hidden: Linear,
    output: Linear,
}

impl Penalised {
    fn new() -> Self {
        Self { hidden: LinearConfig::new(6, 5).init(&device()), output: LinearConfig::new(5, 2).init(&device()) }
    }

    fn neurons(&self, input: Tensor<2>) -> Tensor<2> {
        Activation::Relu.apply(self.hidden.forward(input))
    }
}

impl Growable for Penalised {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        vec![Site::new("hidden", &self.hidden, [Activation::Relu], &self.output)]
    }

    fn forward_probed(&self, input: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
        probe.site("hidden", &input, self.output.forward(self.neurons(input.clone())))
    }
}

#[test]
fn a_loss_that_reads_the_neurons_is_noticed_whatever_its_sign() {
    let (network, batch) = (Penalised::new(), Batch::new(30, 6, 2));
    for weight in [1.0, -1.0, 1e-3, -20.0] {
        let pass = |network: &Penalised, probe: &mut dyn Probe| {
            let pass = batch.pass(network, probe);
            let penalty = network.neurons(batch.input.clone()).abs().mean().mul_scalar(weight);
            Pass { loss: pass.loss + penalty, output: pass.output }
        };
        let error = grow(Grower::new(GradMax::default()), &network, pass).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::LossChanged { .. }), "{weight}: {error}");
        assert!(error.to_string().contains("the loss reads the neurons"), "{error}");
    }
    // A loss may be negative, and small, without a word.
    for (weight, shift) in [(-1.0, 0.0), (1e-6, -1e-3), (1.0, -100.0)] {
        let pass = |network: &Penalised, probe: &mut dyn Probe| {
            let pass = batch.pass(network, probe);
            Pass { loss: pass.loss.mul_scalar(weight).add_scalar(shift), output: pass.output }
        };
        grow(Grower::new(GradMax::default()), &network, pass).unwrap();
    }
}

/// With a negative loss, gradients are compared all the same.
#[test]
fn wrong_activations_are_caught_under_a_negative_loss() {
    #[derive(Module, Debug)]
    struct Wrong {
        inside: Penalised,
    }
    impl Growable for Wrong {
        type Input = Tensor<2>;
        type Output = Tensor<2>;
        fn sites(&self) -> Vec<Site> {
            vec![Site::new("hidden", &self.inside.hidden, [Activation::Gelu], &self.inside.output)]
        }
        fn forward_probed(&self, input: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
            self.inside.forward_probed(input, probe)
        }
    }
    let (network, batch) = (Wrong { inside: Penalised::new() }, Batch::new(30, 6, 2));
    let error = grow(Grower::new(GradMax::default()), &network, |network, probe| {
        let pass = batch.pass(network, probe);
        Pass { loss: pass.loss.sub_scalar(50.0), output: pass.output }
    });
    assert!(matches!(error.map(|_| ()).unwrap_err(), Error::GradientMismatch { .. }));
}

/// GradMax whose gradients are stated in another order than they come in.
struct Permuted;

impl GrowthMethod for Permuted {
    fn name(&self) -> &str {
        "permuted"
    }
    fn needs(&self) -> &'static [Need] {
        &[Need::Operator]
    }
    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let neurons = GradMax::default().neurons(request)?;
        let gradient = neurons.incoming_gradient.clone().expect("GradMax knows its gradient");
        let turned =
            faer::Mat::from_fn(gradient.nrows(), gradient.ncols(), |i, j| gradient[(i, (j + 1) % gradient.ncols())]);
        Ok(NewNeurons { incoming_gradient: Some(turned), ..neurons })
    }
}

#[test]
fn a_permuted_gradient_is_noticed() {
    let (network, batch) = (mlp(6, &[5], 3, Activation::Tanh, false), Batch::new(40, 6, 3));
    let error =
        grow(Grower::new(Permuted), &network, |network, probe| batch.pass(network, probe)).map(|_| ()).unwrap_err();
    let Error::GradientMismatch { predicted, measured, difference, .. } = error else { panic!("{error}") };
    assert!((predicted - measured).abs() < 1e-3 * predicted && difference > 0.1 * predicted, "norms alone agree");
}

/// A network that gives NaN once it has grown.
#[derive(Module, Debug)]
struct Breaking {
    inside: Mlp,
}

impl Growable for Breaking {
    type Input = Tensor<2>;
    type Output = Tensor<2>;
    fn sites(&self) -> Vec<Site> {
        self.inside.sites()
    }
    fn forward_probed(&self, input: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
        let output = self.inside.forward_probed(input, probe);
        match self.inside.sites()[0].width() {
            5 => output,
            _ => {
                // One entry of many.
                let mask = Tensor::<2>::zeros(output.dims(), &output.device()).slice_fill([0..1, 0..1], f32::NAN);
                output + mask
            }
        }
    }
}

#[test]
fn outputs_that_are_not_numbers_pass_no_verification() {
    let (network, batch) = (Breaking { inside: mlp(6, &[5], 3, Activation::Tanh, false) }, Batch::new(40, 6, 3));
    for verification in [Verification::Full, Verification::Output] {
        let grower = Grower::new(Random {}).with_verification(verification);
        let pass = |network: &Breaking, probe: &mut dyn Probe| {
            let output = network.forward_probed(batch.input.clone(), probe);
            // A loss that does not look at all outputs.
            Pass { loss: output.clone().slice([1..40, 0..3]).square().mean(), output }
        };
        let error = grow(grower, &network, pass).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::OutputChanged { change, .. } if change.is_nan()), "{error}");
    }
}

/// Two grouped convolutions: `[a0 a1 | b0 b1]`.
#[derive(Module, Debug)]
struct Grouped {
    first: Conv2d,
    second: Conv2d,
    output: Linear,
}

impl Grouped {
    fn new() -> Self {
        let conv = |channels: [usize; 2]| {
            let config = Conv2dConfig::new(channels, [3, 3]).with_groups(2);
            config.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(&device())
        };
        Self { first: conv([4, 4]), second: conv([4, 6]), output: LinearConfig::new(6 * 25, 3).init(&device()) }
    }
}

impl Growable for Grouped {
    type Input = Tensor<4>;
    type Output = Tensor<2>;
    fn sites(&self) -> Vec<Site> {
        vec![Site::new("grouped", &self.first, [Activation::Tanh], &self.second)]
    }
    fn forward_probed(&self, input: Tensor<4>, probe: &mut dyn Probe) -> Tensor<2> {
        let neurons = Activation::Tanh.apply(self.first.forward(input.clone()));
        let maps = probe.site("grouped", &input, self.second.forward(neurons));
        let [batch, ..] = maps.dims();
        self.output.forward(maps.reshape([batch, 6 * 25]))
    }
}

/// Plain neurons in the first block it is asked about, and splits in the second one.
struct PlainThenSplit;

impl GrowthMethod for PlainThenSplit {
    fn name(&self) -> &str {
        "plain_then_split"
    }
    fn needs(&self) -> &'static [Need] {
        &[]
    }
    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        // Blocks are told apart by their weights: the first one has the larger first weight, as the test sees to.
        match request.existing().incoming[(0, 0)] > 5.0 {
            true => Random {}.neurons(request),
            false => Net2Wider { noise: 0.0 }.neurons(request),
        }
    }
}

#[test]
fn plain_neurons_in_one_block_and_splits_in_another_leave_the_output() {
    let mut network = Grouped::new();
    network.first.weight = network
        .first
        .weight
        .map(|weight| weight.inner().slice_fill([0..1, 0..1, 0..1, 0..1], 9.0).autodiff().require_grad());
    let images = Images::new(5, [4, 5, 5], 3, Seed::new(1));
    let plan = one("grouped", 4);
    let growth = images.grow(&Grower::new(PlainThenSplit), &network, &plan).unwrap();
    assert!(growth.receipt.output_change.unwrap() <= 1e-6, "{:?}", growth.receipt);
    // Copies lie in the second block, and are copies of its neurons.
    let weight = growth.network.first.weight.val().inner();
    let rows = (0..8).map(|row| values(weight.clone().narrow(0, row, 1))).collect::<Vec<_>>();
    let old = network.first.weight.val().inner();
    let old = (0..4).map(|row| values(old.clone().narrow(0, row, 1))).collect::<Vec<_>>();
    assert_eq!([&rows[0], &rows[1], &rows[4], &rows[5]], [&old[0], &old[1], &old[2], &old[3]]);
    assert!(rows[6..].iter().all(|copy| copy == &old[2] || copy == &old[3]));

    // Firefly adds plain silent neurons to one block while it evaluates splits in the other one.
    images.grow(&Grower::new(Firefly::default()), &network, &plan).unwrap();
}

fn with_dropout() -> ConvNetConfig {
    let stages = vec![
        Stage::conv3x3(4, 1),
        Stage::Activation { function: Activation::Relu },
        Stage::Dropout { rate: 0.3 },
        Stage::conv3x3(4, 1),
        Stage::Activation { function: Activation::Relu },
        Stage::Flatten,
        Stage::Dropout { rate: 0.5 },
        Stage::Dense { units: 6, bias: true },
        Stage::Activation { function: Activation::Relu },
        Stage::Dense { units: 3, bias: true },
    ];
    ConvNetConfig { input: [2, 5, 5], stages }
}

#[test]
fn existing_neurons_drop_the_same_before_and_after_growth() {
    let network = with_dropout().init(Seed::new(1), &device()).unwrap();
    let images = Images::new(8, [2, 5, 5], 3, Seed::new(2));
    let parts = [Part::whole(|network: &_, probe: &mut dyn Probe| images.pass(network, probe))];
    let context = EventContext { batch_is_training_step: true, ..EventContext::default() };
    for step in 0..5 {
        let growth = with_draws(Seed::new(step), || {
            let (plan, optimizer) = (everywhere(&network, 2), SgdConfig::new().init());
            Grower::new(GradMax::default()).grow_on(&network, &optimizer, &plan, &parts, context).unwrap()
        });
        // In training mode, with the masks of the step.
        assert!(growth.receipt.output_change.unwrap() <= 1e-6);
        assert!(growth.training_pass.is_none(), "the mean gradient is not that of the step's masks");
        let output = |network: &_| {
            let pass = with_draws(Seed::new(step), || parts[0].run(network, &mut ()).unwrap());
            values(pass.output.inner())
        };
        let (before, after) = (output(&network), output(&growth.network));
        assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-5), "{step}");
    }
}

#[test]
fn runs_with_dropout_are_reproducible_side_by_side_and_resumed() {
    let data = InMemory::<Tensor<4>>::new(
        Images::new(60, [2, 5, 5], 3, Seed::new(2)).input,
        gradmax::training::Target::classes((0..60).map(|index| index % 3), &Device::flex()),
    );
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dropout");
    let train = |seed: u64, stop: Option<usize>, run: Option<Run<_>>| {
        let settings = Settings { batch_size: Some(16), seed: Seed::new(seed), ..Settings::new(12, 0.05) };
        let schedule = Periodic {
            start: 4,
            every: 4,
            times: 1,
            order: gradmax::policies::Order::AllAtOnce,
            amount: gradmax::policies::Amount::Count(2),
            stretch: 1.0,
        };
        let growth = GrowthSettings {
            policy: Box::new(schedule),
            grower: Grower::new(GradMax::default()),
            batch: GrowthBatch::Training,
            on_failure: OnFailure::Stop,
        };
        let flag = std::sync::atomic::AtomicBool::new(false);
        let mut seen = common::Seen::default();
        let keep = common::Keep {
            seen: &mut seen,
            folder: stop.map(|_| folder.clone()),
            stop: stop.map(|stop| (stop, &flag)),
        };
        let run = run.unwrap_or_else(|| {
            Run::new(with_dropout().init(Seed::new(3), &device()).unwrap(), SgdConfig::new().init())
        });
        let trainer = Trainer::new(settings, Supervised::Classification, &data).with_growth(growth);
        let outcome = trainer.with_observer(keep).with_stop(&flag).train(run).unwrap();
        common::weights(&outcome.run.network)
    };
    let alone = train(1, None, None);
    assert_ne!(alone, train(2, None, None));
    // Another run on another thread draws what it draws.
    let beside = std::thread::scope(|scope| {
        let other = scope.spawn(|| train(2, None, None));
        let own = train(1, None, None);
        other.join().unwrap();
        own
    });
    assert!(beside == alone);
    for stop in [2, 6] {
        train(1, Some(stop), None);
        let network =
            |sites: &[SiteWidth]| with_dropout().with_site_widths(&widths_of(sites)).init(Seed::new(9), &device());
        let run = checkpoint::load(&folder, network, SgdConfig::new().init()).unwrap();
        assert!(train(1, None, Some(run)) == alone, "stopped at {stop}");
    }
}

/// Burn's own dropout, which no seed reaches, is noticed as random: outputs are compared in evaluation mode.
#[test]
fn networks_that_draw_by_a_generator_of_their_own_can_grow() {
    #[derive(Module, Debug)]
    struct Own {
        hidden: Linear,
        dropout: burn::nn::Dropout,
        output: Linear,
    }
    impl Growable for Own {
        type Input = Tensor<2>;
        type Output = Tensor<2>;
        fn sites(&self) -> Vec<Site> {
            vec![Site::new("hidden", &self.hidden, (Activation::Relu, &self.dropout), &self.output)]
        }
        fn forward_probed(&self, input: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
            let neurons = self.dropout.forward(Activation::Relu.apply(self.hidden.forward(input.clone())));
            probe.site("hidden", &input, self.output.forward(neurons))
        }
    }
    let network = Own {
        hidden: LinearConfig::new(6, 5).init(&device()),
        dropout: burn::nn::DropoutConfig::new(0.5).init(),
        output: LinearConfig::new(5, 2).init(&device()),
    };
    let batch = Batch::new(30, 6, 2);
    let growth = grow(Grower::new(GradMax::default()), &network, |network, probe| batch.pass(network, probe)).unwrap();
    assert!(growth.receipt.output_change.unwrap() <= 1e-6);
}

/// A network without dropout is not taken for a random one, which would spare it the check of gradients.
#[test]
fn a_suspicious_change_of_a_network_that_draws_nothing_is_a_fault() {
    #[derive(Module, Debug)]
    struct Shifted {
        hidden: Linear,
        output: Linear,
    }
    impl Growable for Shifted {
        type Input = Tensor<2>;
        type Output = Tensor<2>;
        fn sites(&self) -> Vec<Site> {
            vec![Site::new("hidden", &self.hidden, [Activation::Tanh], &self.output)]
        }
        fn forward_probed(&self, input: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
            // In training mode only: evaluation would find nothing wrong.
            let shift = if input.device().is_autodiff() || self.output.weight.val().is_autodiff() { 0.5 } else { 0.0 };
            let neurons = Activation::Tanh.apply(self.hidden.forward(input.clone()).add_scalar(shift));
            probe.site("hidden", &input, self.output.forward(neurons))
        }
    }
    let network =
        Shifted { hidden: LinearConfig::new(6, 5).init(&device()), output: LinearConfig::new(5, 2).init(&device()) };
    let batch = Batch::new(30, 6, 2);
    let error = grow(Grower::new(GradMax::default()), &network, |network, probe| batch.pass(network, probe));
    assert!(matches!(error.map(|_| ()).unwrap_err(), Error::OutputChanged { .. }));
}

/// The training step after growth takes the gradients of the network as it is then.
#[test]
fn gradients_of_the_step_after_growth_are_those_of_its_own_masks() {
    let network = with_dropout().init(Seed::new(1), &device()).unwrap();
    let images = Images::new(8, [2, 5, 5], 3, Seed::new(2));
    let norm = |seed: u64| {
        let pass = with_draws(Seed::new(seed), || images.pass(&network, &mut ()));
        let gradients = GradientsParams::from_grads(pass.loss.backward(), &network);
        gradients.get::<4>(network.sites()[0].producer().weight()).unwrap().square().sum().into_scalar::<f32>()
    };
    assert_eq!(norm(1), norm(1));
    assert_ne!(norm(1), norm(2));
}
