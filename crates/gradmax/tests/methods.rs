//! Every method grows every kind of network under every optimizer, keeps what it promises, and resumes bit for bit.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use burn::module::{ModuleVisitor, Param, ParamId};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor};
use common::{Images, Keep, Seen, device, weights, widths_of};
use gradmax::event::Grower;
use gradmax::methods::{GrowthMethod, METHODS};
use gradmax::modules::NormKind;
use gradmax::networks::{Architecture, ConvNetConfig, Downsampling, MlpConfig, Stage, VggConfig, WideResNetConfig};
use gradmax::policies::{Amount, Order, Periodic};
use gradmax::site::{Activation, Growable, SiteWidth};
use gradmax::training::{
    Examples, GrowthBatch, GrowthSettings, InMemory, OnFailure, Run, Settings, Supervised, Target, Trainer, checkpoint,
};
use gradmax::{Error, Named, Options, Seed};

/// A growth method, and what it promises.
struct Method {
    name: &'static str,
    make: Box<dyn Fn() -> Box<dyn GrowthMethod>>,
    /// Whether the network's output stays as it is.
    preserves: bool,
}

/// Methods that change the output.
const CHANGING: [&str; 7] = [
    "nest",
    "firefly",
    "firefly_opt",
    "split",
    "splitting_steepest_descent",
    "signed_splitting_descent",
    "variance_transfer",
];

/// The method whose neurons need biases.
const NEEDS_BIASES: &str = "unit_bias";

/// Methods that copy whole blocks, of which these networks have none.
const OF_BLOCKS: [&str; 2] = ["stack", "interleave"];

/// Every other method of the registry, with fewer steps where it searches, and a variant that promises more.
fn methods() -> Vec<Method> {
    let of = |named: &'static Named<dyn GrowthMethod>, options: Options, name, preserves| Method {
        name,
        make: Box::new(move || named.with(&options).unwrap().0),
        preserves,
    };
    let listed = METHODS.iter().filter(|named| !OF_BLOCKS.contains(&named.name())).map(|named| {
        let (_, mut options) = named.with(&Options::new()).unwrap();
        options.retain(|option, _| option == "steps");
        options.values_mut().for_each(|steps| *steps = 3.into());
        of(named, options, named.name(), !CHANGING.contains(&named.name()))
    });
    let split = METHODS.iter().find(|named| named.name() == "split").unwrap();
    let exact = Options::from_iter([("noise".to_string(), 0.0.into())]);
    listed.chain([of(split, exact, "split_without_noise", true)]).collect()
}

#[test]
fn options_that_a_method_does_not_have_are_refused() {
    let unknown = Options::from_iter([("no_such_option".to_string(), 1.into())]);
    for named in METHODS {
        let error = named.with(&unknown).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("no_such_option"), "{error}");
    }
}

fn optimizers() -> [(&'static str, ModuleOptimizer); 2] {
    let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: true };
    [("momentum", SgdConfig::new().with_momentum(Some(momentum)).init()), ("adam", AdamConfig::new().init())]
}

/// Shapes by the ids of a network's parameters.
fn parameters<N: Growable>(network: &N) -> BTreeMap<ParamId, Vec<usize>> {
    struct Shapes(BTreeMap<ParamId, Vec<usize>>);
    impl ModuleVisitor for Shapes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.insert(param.id, param.val().dims().to_vec());
        }
    }
    let mut shapes = Shapes(BTreeMap::new());
    network.visit(&mut shapes);
    shapes.0
}

const STEPS: usize = 14;
const SCHEDULE: Periodic =
    Periodic { start: 4, every: 4, times: 2, order: Order::AllAtOnce, amount: Amount::Count(1), stretch: 1.0 };

/// Takes every method through training with two growth events, and through an interruption between them.
fn check_every_method<A: Architecture>(
    what: &str,
    shape: &A,
    data: &dyn Examples<Input = <A::Network as Growable>::Input, Target = Target>,
) where
    A::Network: Growable<Output = Tensor<2>>,
{
    for method in &methods() {
        for (optimizer_name, optimizer) in optimizers() {
            check(&format!("{} {what} {optimizer_name}", method.name), method, shape, data, &optimizer);
        }
    }
}

fn check<A: Architecture>(
    what: &str,
    method: &Method,
    shape: &A,
    data: &dyn Examples<Input = <A::Network as Growable>::Input, Target = Target>,
    optimizer: &ModuleOptimizer,
) where
    A::Network: Growable<Output = Tensor<2>>,
{
    let settings =
        Settings { log_every: 1, checkpoint_every: Some(100), seed: Seed::new(5), ..Settings::new(STEPS, 5e-3) };
    let train = |run, seen: &mut Seen, folder: Option<PathBuf>, stop: Option<usize>| {
        let flag = AtomicBool::new(false);
        let grower = Grower::boxed((method.make)()).with_name(method.name).with_seed(Seed::new(8));
        let (batch, on_failure) = (GrowthBatch::Training, OnFailure::Stop);
        let policy = GrowthSettings { policy: Box::new(SCHEDULE), grower, batch, on_failure };
        Trainer::new(settings.clone(), Supervised::Classification, data)
            .with_growth(policy)
            .with_observer(Keep { seen, folder, stop: stop.map(|at| (at, &flag)) })
            .with_stop(&flag)
            .train(run)
    };
    let mut whole = Seen::default();
    // Clones of a network share running statistics: each run has its own.
    let fresh = || shape.init(Seed::new(1), &device()).unwrap();
    let network = fresh();
    let before = parameters(&network);
    let outcome = train(Run::new(network.clone(), optimizer.clone()), &mut whole, None, None);
    if method.name == NEEDS_BIASES && network.sites().iter().any(|site| site.producer().bias().is_none()) {
        let Err(Error::Method { reason, .. }) = outcome else { panic!("{what}: grown without biases") };
        assert!(reason.contains("biases"), "{what}: {reason}");
        return;
    }
    let outcome = outcome.unwrap_or_else(|error| panic!("{what}: {error}"));

    assert_eq!(whole.receipts.iter().map(|receipt| receipt.step).collect::<Vec<_>>(), [4, 8], "{what}");
    assert!(whole.receipts.iter().all(|receipt| receipt.method == method.name), "{what}");
    for (grown, seed) in outcome.run.network.sites().iter().zip(network.sites()) {
        assert_eq!(grown.width(), seed.width() + 2, "{what}");
    }
    let after = parameters(&outcome.run.network);
    assert!(before.keys().eq(after.keys()), "{what}: ids are kept");
    assert!(before.iter().all(|(id, old)| old.iter().zip(&after[id]).all(|(old, new)| new >= old)), "{what}");
    for receipt in &whole.receipts {
        let change = receipt.output_change.unwrap();
        assert_eq!(receipt.tolerance.is_some(), method.preserves, "{what}: {change}");
        assert!(!method.preserves || change <= receipt.tolerance.unwrap(), "{what}: {change}");
        assert!(receipt.optimizer_reset.is_empty(), "{what}");
        assert!(receipt.sites.iter().all(|site| site.gradient_norm.is_some_and(f64::is_finite)), "{what}");
    }
    let loss = |step: usize| whole.rows.iter().find(|row| row.step == step).unwrap().loss;
    assert!(loss(STEPS) < loss(8), "{what}: it trains on, from {} to {}", loss(8), loss(STEPS));

    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(what.replace([' ', ','], "-"));
    let mut seen = Seen::default();
    train(Run::new(fresh(), optimizer.clone()), &mut seen, Some(folder.clone()), Some(6)).unwrap();
    let other = |sites: &[SiteWidth]| shape.with_site_widths(&widths_of(sites)).init(Seed::new(99), &device());
    let resumed = train(checkpoint::load(&folder, other, optimizer.clone()).unwrap(), &mut seen, None, None).unwrap();
    assert!(weights(&resumed.run.network) == weights(&outcome.run.network), "{what}: resumed to other weights");
    assert!(seen.rows == whole.rows && seen.receipts == whole.receipts, "{what}: resumed by another way");
}

fn images([channels, height, width]: [usize; 3]) -> InMemory<Tensor<4>> {
    let images = Images::new(48, [channels, height, width], 1, Seed::new(1));
    InMemory::new(images.input, Target::classes((0..48).map(|index| index % 4), &Device::flex()))
}

#[test]
fn multilayer_perceptrons() {
    let input = common::normal([48, 6], 4);
    let data = InMemory::new(input, Target::classes((0..48).map(|index| index % 3), &Device::flex()));
    check_every_method("mlp", &MlpConfig::new(6, &[4, 5], 3, Activation::Relu), &data);
}

#[test]
fn convolutional_networks() {
    let (conv, activation) = (|channels| Stage::conv3x3(channels, 1), |function| Stage::Activation { function });
    let stages = vec![
        conv(4),
        activation(Activation::Relu),
        Stage::Depthwise { kernel: 3, stride: 1 },
        Stage::Norm { norm: NormKind::Batch },
        conv(5),
        activation(Activation::Gelu),
        Stage::MaxPool { size: 2 },
        Stage::Flatten,
        Stage::Dense { units: 4, bias: true },
    ];
    check_every_method("conv_net", &ConvNetConfig { input: [2, 6, 6], stages }, &images([2, 6, 6]));
}

#[test]
fn residual_networks() {
    for norm in [NormKind::None, NormKind::Batch] {
        let shape = WideResNetConfig { norm, input: [3, 8, 8], classes: 4, ..WideResNetConfig::new(10, 1, 0.25) };
        check_every_method(&format!("wide_resnet {norm:?}"), &shape, &images([3, 8, 8]));
    }
}

#[test]
fn vgg_networks() {
    let config = VggConfig {
        depth: 11,
        fraction: 0.0625,
        norm: NormKind::None,
        downsampling: Downsampling::Stride,
        input: [3, 32, 32],
        classes: 4,
    };
    check_every_method("vgg", &config.stack().unwrap(), &images([3, 32, 32]));
}
