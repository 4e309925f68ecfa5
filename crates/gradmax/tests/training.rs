//! Training with growth: every growth method, network depth and optimizer; and resuming, bit for bit.

mod common;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, AdamWConfig, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor};
use common::{Images, Keep, Seen, device, normal, values, weights, widths_of};
use gradmax::event::{Grower, Planned, Receipt};
use gradmax::methods::{GradMax, GradMaxRectified, GrowthMethod, Random, RandomPositive};
use gradmax::modules::NormKind;
use gradmax::networks::{Architecture, Mlp, MlpConfig, WideResNetConfig};
use gradmax::policies::{Amount, Order, Periodic};
use gradmax::site::{Activation, Growable, SiteWidth};
use gradmax::training::{
    Decay, Decayed, Examples, GrowthBatch, GrowthSettings, InMemory, LearningRate, Observer, ObserverError, OnFailure,
    Run, Settings, Supervised, Target, Task, Trainer, WeightDecay, checkpoint,
};
use gradmax::{Error, Seed};

fn data() -> InMemory {
    let inputs = values(normal([90, 6], 4));
    let classes = inputs.chunks(6).map(|x| u8::from(x[0] * x[1] > 0.0) + u8::from(x[2] > 0.3)).collect::<Vec<_>>();
    InMemory::classes(inputs, &classes, &Device::flex())
}

fn settings(steps: usize) -> Settings {
    Settings {
        batch_size: Some(16),
        log_every: 1,
        evaluate_every: Some(9),
        checkpoint_every: Some(7),
        seed: Seed::new(5),
        ..Settings::new(steps, 0.02)
    }
}

fn sgd() -> ModuleOptimizer {
    let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: true };
    SgdConfig::new().with_momentum(Some(momentum)).init()
}

fn adam() -> ModuleOptimizer {
    AdamConfig::new().init()
}

fn config(hidden: &[usize]) -> MlpConfig {
    MlpConfig::new(6, hidden, 3, Activation::Relu)
}

fn policy(method: Box<dyn GrowthMethod>, batch: GrowthBatch) -> GrowthSettings {
    let schedule =
        Periodic { start: 10, every: 10, times: 3, order: Order::AllAtOnce, amount: Amount::Count(2), stretch: 1.0 };
    let grower = Grower::boxed(method).with_seed(Seed::new(8));
    GrowthSettings { policy: Box::new(schedule), grower, batch, on_failure: OnFailure::Stop }
}

type Choice = (&'static str, fn() -> Box<dyn GrowthMethod>);

const INITIALIZERS: [Choice; 4] = [
    ("random", || Box::new(Random {})),
    ("random_positive", || Box::new(RandomPositive {})),
    ("gradmax", || Box::<GradMax>::default()),
    ("gradmax_rectified", || Box::new(GradMaxRectified {})),
];

/// A network of other weights, for a checkpoint to be read into.
fn other(sites: &[SiteWidth]) -> Result<Mlp, Error> {
    config(&widths_of(sites)).init(Seed::new(99), &device())
}

#[test]
fn every_initializer_grows_every_depth_under_every_optimizer() {
    let data = data();
    for (name, method) in INITIALIZERS {
        for hidden in [&[3][..], &[3, 4], &[4, 3, 3]] {
            for optimizer in [sgd, adam] {
                for batch in [GrowthBatch::Training, GrowthBatch::Examples(40), GrowthBatch::All] {
                    let mut seen = Seen::default();
                    let run = Run::new(config(hidden).init(Seed::new(1), &device()).unwrap(), optimizer());
                    let outcome = Trainer::new(settings(80), Supervised::Classification, &data)
                        .with_test(&data)
                        .with_growth(policy(method(), batch))
                        .with_observer(Keep { seen: &mut seen, folder: None, stop: None })
                        .train(run)
                        .unwrap();
                    let summary = outcome.finished.unwrap();
                    let what = format!("{name} {hidden:?} {batch:?}");
                    assert_eq!(seen.receipts.iter().map(|r| r.step).collect::<Vec<_>>(), [10, 20, 30], "{what}");
                    let widths = outcome.run.network.sites().iter().map(|site| site.width()).collect::<Vec<_>>();
                    assert_eq!(widths, hidden.iter().map(|width| width + 6).collect::<Vec<_>>(), "{what}");
                    assert!(seen.receipts.iter().all(|r| r.output_change.unwrap() <= 1e-6), "{what}");
                    assert!(summary.train.loss < 0.9 * seen.rows[0].loss, "{what} {summary:?}");
                    assert_eq!(summary.train, summary.test.unwrap(), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_run_stopped_anywhere_resumes_to_the_same_weights() {
    let data = data();
    let folder = |name: &str| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("resume").join(name);
    for (name, method) in INITIALIZERS {
        for (kind, optimizer) in [("sgd", sgd as fn() -> ModuleOptimizer), ("adam", adam)] {
            let fresh = || Run::new(config(&[3, 3]).init(Seed::new(1), &device()).unwrap(), optimizer());
            let train = |run, seen: &mut Seen, folder: Option<PathBuf>, stop: Option<usize>| {
                let flag = AtomicBool::new(false);
                Trainer::new(settings(45), Supervised::Classification, &data)
                    .with_test(&data)
                    .with_growth(policy(method(), GrowthBatch::Training))
                    .with_observer(Keep { seen, folder, stop: stop.map(|at| (at, &flag)) })
                    .with_stop(&flag)
                    .train(run)
                    .unwrap()
            };
            let mut whole = Seen::default();
            let uninterrupted = train(fresh(), &mut whole, None, None);
            // Before any growth, just before and after events, and late.
            for stop in [1, 9, 10, 11, 20, 29, 44] {
                let folder = folder(&format!("{name}-{kind}-{stop}"));
                let mut seen = Seen::default();
                let stopped = train(fresh(), &mut seen, Some(folder.clone()), Some(stop));
                assert!(stopped.finished.is_none());
                let run = checkpoint::load(&folder, other, optimizer()).unwrap();
                assert_eq!(run.progress.step, stop);
                let resumed = train(run, &mut seen, None, None);
                assert_eq!(weights(&resumed.run.network), weights(&uninterrupted.run.network), "{name} {kind} {stop}");
                assert_eq!(seen.rows, whole.rows, "{name} {kind} {stop}");
                assert_eq!(seen.receipts, whole.receipts, "{name} {kind} {stop}");
            }
        }
    }
}

#[test]
fn a_residual_network_with_batch_norm_resumes_to_the_same_weights_and_statistics() {
    let images = Images::new(60, [3, 8, 8], 1, Seed::new(1));
    let classes = Target::classes((0..60).map(|index| index % 4), &Device::flex());
    let data = InMemory::<Tensor<4>>::new(images.input, classes);
    let config =
        WideResNetConfig { norm: NormKind::Batch, input: [3, 8, 8], classes: 4, ..WideResNetConfig::new(10, 1, 0.25) }
            .with_new_blocks(1);
    let folder = |stop: usize| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("resume-resnet-{stop}"));
    let settings = Settings { learning_rate: 0.05.into(), ..settings(26) };
    let fresh = || Run::new(config.init(Seed::new(1), &device()).unwrap(), sgd());
    let train = |run, seen: &mut Seen, folder: Option<PathBuf>, stop: Option<usize>| {
        let flag = AtomicBool::new(false);
        Trainer::new(settings.clone(), Supervised::Classification, &data)
            .with_test(&data)
            .with_growth(policy(Box::<GradMax>::default(), GrowthBatch::Training))
            .with_observer(Keep { seen, folder, stop: stop.map(|at| (at, &flag)) })
            .with_stop(&flag)
            .train(run)
            .unwrap()
    };
    let mut whole = Seen::default();
    let uninterrupted = train(fresh(), &mut whole, None, None);
    assert_eq!(whole.receipts.len(), 2);
    for stop in [5, 10, 11, 20, 23] {
        let mut seen = Seen::default();
        train(fresh(), &mut seen, Some(folder(stop)), Some(stop));
        let network = |sites: &[SiteWidth]| config.with_site_widths(&widths_of(sites)).init(Seed::new(99), &device());
        let resumed = train(checkpoint::load(&folder(stop), network, sgd()).unwrap(), &mut seen, None, None);
        assert_eq!(weights(&resumed.run.network), weights(&uninterrupted.run.network), "{stop}");
        assert_eq!(seen.rows, whole.rows, "{stop}");
        assert_eq!(seen.receipts, whole.receipts, "{stop}");
    }
}

/// All weights after a few steps with some settings and an optimizer.
fn trained_with(settings: Settings, optimizer: ModuleOptimizer) -> Vec<f32> {
    let run = Run::new(config(&[4]).init(Seed::new(1), &device()).unwrap(), optimizer);
    let outcome = Trainer::new(settings, Supervised::Classification, &data()).train(run).unwrap();
    let bytes = weights(&outcome.run.network);
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6)
}

#[test]
fn weight_decay_is_that_of_other_trainers_and_keeps_to_its_parameters() {
    let decay =
        |rate, on, decoupled| Settings { weight_decay: Some(WeightDecay { rate, on, decoupled }), ..settings(12) };
    let burns = WeightDecayConfig { penalty: 0.1 };
    let coupled = trained_with(decay(0.1, Decayed::All, false), SgdConfig::new().init());
    assert!(near(&coupled, &trained_with(settings(12), SgdConfig::new().with_weight_decay(Some(burns)).init())));
    let decoupled = trained_with(decay(0.1, Decayed::All, true), adam());
    assert!(near(&decoupled, &trained_with(settings(12), AdamWConfig::new().with_weight_decay(0.1).init())));

    // A rate that takes a weight away whole in a step leaves only what that step's gradient gives.
    let all = Settings { log_every: 1000, evaluate_every: None, ..decay(1.0 / 0.02, Decayed::Weights, false) };
    let once = trained_with(Settings { steps: 1, ..all }, SgdConfig::new().init());
    let plain = trained_with(Settings { steps: 1, ..settings(1) }, SgdConfig::new().init());
    let start = trained_with(Settings { steps: 0, ..settings(1) }, SgdConfig::new().init());
    // 6:4:3 with biases: weights at 0..24 and 28..40.
    for index in 0..start.len() {
        let is_weight = index < 24 || (28..40).contains(&index);
        let expected = if is_weight { plain[index] - start[index] } else { plain[index] };
        assert!((once[index] - expected).abs() <= 1e-5, "{index}");
    }
}

#[test]
fn gradients_are_clipped_together_and_rates_follow_their_schedule() {
    let start = trained_with(Settings { steps: 0, ..settings(1) }, SgdConfig::new().init());
    let clipped = Settings { clip_gradients: Some(1e-3), learning_rate: 1.0.into(), ..settings(1) };
    let end = trained_with(clipped, SgdConfig::new().init());
    let moved = start.iter().zip(&end).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
    assert!((moved - 1e-3).abs() <= 1e-6, "{moved}");

    let mut seen = Seen::default();
    let rate = LearningRate { base: 0.1, warm_up: 2, decay: Decay::Linear };
    let run = Run::new(config(&[4]).init(Seed::new(1), &device()).unwrap(), sgd());
    let settings = Settings { learning_rate: rate, evaluate_every: None, ..settings(4) };
    Trainer::new(settings, Supervised::Classification, &data())
        .with_observer(Keep { seen: &mut seen, folder: None, stop: None })
        .train(run)
        .unwrap();
    let rates = seen.rows.iter().map(|row| row.learning_rate).collect::<Vec<_>>();
    assert_eq!(rates[..4].iter().map(|rate| (rate * 1e6).round()).collect::<Vec<_>>(), [5e4, 1e5, 1e5, 5e4]);
}

#[test]
fn smoothed_labels_have_the_loss_of_the_mixture() {
    let output = normal([5, 3], 1);
    let target = Target::classes([0, 2, 1, 1, 0].into_iter(), &Device::flex());
    let loss =
        |smoothing| Supervised::SmoothedClassification(smoothing).training_loss(&output, &target).into_scalar::<f64>();
    let even = (0..3).map(|class| {
        let target = Target::classes([class; 5].into_iter(), &Device::flex());
        Supervised::Classification.loss(&output, &target).into_scalar::<f64>() / 3.0
    });
    let even = even.sum::<f64>();
    assert!((loss(0.2) - (0.8 * loss(0.0) + 0.2 * even)).abs() < 1e-6);
}

#[test]
fn looking_at_another_batch_leaves_running_statistics_alone() {
    let config = WideResNetConfig { norm: NormKind::Batch, input: [3, 8, 8], ..WideResNetConfig::new(10, 1, 0.25) };
    let network = config.init(Seed::new(1), &device()).unwrap();
    let images = Images::new(9, [3, 8, 8], 10, Seed::new(2));
    images.pass(&network, &mut ());
    let before = weights(&network);
    let plan = [Planned { site: "group2.block1".into(), count: 2 }];
    let growth = images.grow(&Grower::new(GradMax::default()), &network, &plan).unwrap();
    assert_eq!(weights(&network), before);
    // What did not grow is as it was: every parameter of the other groups, in order.
    let grown = weights(&growth.network);
    assert!(grown.len() > before.len());
    assert_eq!(grown[..4 * 3 * 16 * 9], before[..4 * 3 * 16 * 9]);
    let tail = 4 * 2 * 64;
    assert_eq!(grown[grown.len() - tail..], before[before.len() - tail..]);
}

#[test]
fn growth_batches_may_be_larger_than_what_passes_at_once() {
    let images = Images::new(60, [3, 8, 8], 1, Seed::new(1));
    let data =
        InMemory::<Tensor<4>>::new(images.input, Target::classes((0..60).map(|index| index % 4), &Device::flex()));
    let config =
        WideResNetConfig { norm: NormKind::Batch, input: [3, 8, 8], classes: 4, ..WideResNetConfig::new(10, 1, 0.25) };
    for batch in [GrowthBatch::Examples(40), GrowthBatch::All] {
        let mut seen = Seen::default();
        let settings = Settings { evaluation_batch: 15, ..settings(22) };
        Trainer::new(settings, Supervised::Classification, &data)
            .with_growth(policy(Box::<GradMax>::default(), batch))
            .with_observer(Keep { seen: &mut seen, folder: None, stop: None })
            .train(Run::new(config.init(Seed::new(1), &device()).unwrap(), sgd()))
            .unwrap();
        assert_eq!(seen.receipts.len(), 2);
        for receipt in &seen.receipts {
            assert!(receipt.output_change.unwrap() <= receipt.tolerance.unwrap());
            assert!(receipt.sites.iter().all(|site| site.outgoing_gradient_norm.unwrap() > 0.0));
        }
    }
}

/// Examples of which one cannot be read.
struct Unreadable<'a> {
    data: &'a InMemory,
    which: usize,
}

impl Examples for Unreadable<'_> {
    type Input = Tensor<2>;
    type Target = Target;

    fn count(&self) -> usize {
        self.data.count()
    }
    fn batch(&self, indices: &[usize]) -> Result<gradmax::training::Batch<Tensor<2>>, Error> {
        match indices.contains(&self.which) {
            true => Err(Error::Examples(format!("example {} is torn", self.which).into())),
            false => self.data.batch(indices),
        }
    }
}

#[test]
fn an_example_that_cannot_be_read_ends_the_run_with_a_checkpoint() {
    let data = data();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("unreadable");
    let torn = Unreadable { data: &data, which: 77 };
    let settings = || Settings { checkpoint_every: None, evaluate_every: None, ..settings(20) };
    let (mut seen, mut whole) = (Seen::default(), Seen::default());
    let fresh = || Run::new(config(&[3]).init(Seed::new(1), &device()).unwrap(), sgd());
    let keep = |seen| Keep { seen, folder: Some(folder.clone()), stop: None };
    let error = Trainer::new(settings(), Supervised::Classification, &torn)
        .with_observer(keep(&mut seen))
        .train(fresh())
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(&error, Error::Examples(_)) && error.to_string().contains("example 77 is torn"));
    let step = checkpoint::load_progress(&folder).unwrap().step;
    assert!(step < 6, "an epoch has six batches");

    // Mended, it goes on where it ended.
    let run = checkpoint::load(&folder, other, sgd()).unwrap();
    let resumed = Trainer::new(settings(), Supervised::Classification, &data).train(run).unwrap();
    let uninterrupted = Trainer::new(settings(), Supervised::Classification, &data)
        .with_observer(keep(&mut whole))
        .train(fresh())
        .unwrap();
    assert_eq!(weights(&resumed.run.network), weights(&uninterrupted.run.network));
}

#[test]
fn damaged_and_foreign_checkpoints_are_refused() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("damaged");
    let fresh = |hidden: &[usize]| config(hidden).init(Seed::new(1), &device()).unwrap();
    let data = data();
    let trained = Trainer::new(settings(3), Supervised::Classification, &data)
        .train(Run::new(fresh(&[3, 3]), sgd()))
        .unwrap()
        .run;
    let saved = || checkpoint::save(&trained, &folder).unwrap();
    let load = |network: Mlp| {
        let build = |_: &[SiteWidth]| Ok::<_, Error>(network.clone());
        checkpoint::load(&folder, build, sgd()).map(|_| ()).map_err(|error| error.to_string())
    };

    saved();
    assert_eq!(load(fresh(&[3, 3])), Ok(()));
    assert!(load(fresh(&[4, 3])).unwrap_err().contains("another network"));
    assert!(load(fresh(&[3])).unwrap_err().contains("another network"));
    for file in ["progress.json", "network.bpk", "optimizer.bpk"] {
        saved();
        let path = folder.join(file);
        let contents = std::fs::read(&path).unwrap();
        std::fs::write(&path, &contents[..contents.len() / 2]).unwrap();
        let error = load(fresh(&[3, 3])).unwrap_err();
        assert!(error.contains(file) && error.contains("cut short"), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(load(fresh(&[3, 3])).unwrap_err().contains("cannot be read"));
    }
}

#[test]
fn writing_that_was_cut_off_between_two_renames_loses_nothing() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cut_off").join("checkpoint");
    let network = || config(&[3]).init(Seed::new(1), &device()).unwrap();
    checkpoint::save(&Run::new(network(), sgd()), &folder).unwrap();
    let previous = folder.with_file_name("checkpoint.old");
    let _ = std::fs::remove_dir_all(&previous);
    std::fs::rename(&folder, &previous).unwrap();
    assert!(checkpoint::load(&folder, other, sgd()).is_ok());
    checkpoint::save(&Run::new(network(), sgd()), &folder).unwrap();
    assert!(folder.exists() && !previous.exists());
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_with_its_step() {
    let data = data();
    let run = Run::new(config(&[3]).init(Seed::new(1), &device()).unwrap(), SgdConfig::new().init());
    let diverging = Settings { learning_rate: 1e18.into(), ..settings(50) };
    let error = Trainer::new(diverging.clone(), Supervised::Classification, &data).train(run).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::LossNotFinite { step: 1..10, .. }), "{error}");

    // The same where it shows first at a growth event.
    let run = Run::new(config(&[3]).init(Seed::new(1), &device()).unwrap(), SgdConfig::new().init());
    let error = Trainer::new(
        Settings { log_every: 1000, evaluate_every: None, ..diverging },
        Supervised::Classification,
        &data,
    )
    .with_growth(policy(Box::<GradMax>::default(), GrowthBatch::Training))
    .train(run)
    .map(|_| ())
    .unwrap_err();
    assert!(matches!(error, Error::LossNotFinite { step: 10, .. } | Error::OperatorNotFinite), "{error}");
}

#[test]
fn growing_on_all_examples_costs_no_pass_where_every_step_takes_them_all() {
    let data = data();
    let mut timings = Vec::new();
    for batch_size in [None, Some(16)] {
        struct Timings<'a>(&'a mut Vec<bool>);
        impl Observer<Mlp> for Timings<'_> {
            fn grown(&mut self, receipt: &Receipt) -> Result<(), ObserverError> {
                self.0.push(receipt.timing.probe_is_training_step);
                Ok(())
            }
        }
        let run = Run::new(config(&[3]).init(Seed::new(1), &device()).unwrap(), sgd());
        Trainer::new(Settings { batch_size, ..settings(11) }, Supervised::Classification, &data)
            .with_growth(policy(Box::<GradMax>::default(), GrowthBatch::All))
            .with_observer(Timings(&mut timings))
            .train(run)
            .unwrap();
    }
    assert_eq!(timings, [true, false]);
}

#[test]
fn data_that_is_not_finite_is_noticed_at_the_first_step() {
    let mut inputs = values(normal([90, 6], 4));
    inputs[77] = f32::NAN;
    let data = InMemory::classes(inputs, &[1; 90], &Device::flex());
    let run = Run::new(config(&[3]).init(Seed::new(1), &device()).unwrap(), sgd());
    let whole = Settings { batch_size: None, ..settings(5) };
    let error = Trainer::new(whole, Supervised::Classification, &data).train(run).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::LossNotFinite { step: 0, .. }), "{error}");
}

#[test]
fn the_order_of_examples_does_not_depend_on_the_method() {
    let data = data();
    let first_losses = INITIALIZERS.map(|(_, method)| {
        let mut seen = Seen::default();
        let run = Run::new(config(&[3]).init(Seed::new(1), &device()).unwrap(), sgd());
        Trainer::new(settings(12), Supervised::Classification, &data)
            .with_growth(policy(method(), GrowthBatch::Training))
            .with_observer(Keep { seen: &mut seen, folder: None, stop: None })
            .train(run)
            .unwrap();
        seen.rows.iter().take(11).map(|row| row.loss).collect::<Vec<_>>()
    });
    assert_eq!(first_losses[0], first_losses[1]);
    assert_eq!(first_losses[0], first_losses[2]);
}

#[test]
fn networks_of_any_depth_count_their_parameters_and_operations() {
    let network = config(&[4, 5]).init(Seed::new(0), &device()).unwrap();
    assert_eq!(network.num_params(), (6 * 4 + 4) + (4 * 5 + 5) + (5 * 3 + 3));
    assert_eq!(network.flops(), 2 * (6 * 4 + 4 * 5 + 5 * 3) + 4 + 5 + 3);
    assert!(config(&[]).init(Seed::new(0), &device()).unwrap().sites().is_empty());
    assert!(config(&[0]).init(Seed::new(0), &device()).is_err());
}

#[test]
fn what_a_cut_off_writing_left_behind_gets_into_no_checkpoint() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("stale").join("checkpoint");
    let _ = std::fs::remove_dir_all(folder.parent().unwrap());
    let stale = folder.with_file_name("checkpoint.new");
    std::fs::create_dir_all(&stale).unwrap();
    for name in ["network.bpk", "progress.json", "left_over.bin"] {
        std::fs::write(stale.join(name), "half of it").unwrap();
    }
    assert!(!checkpoint::exists(&folder));
    checkpoint::save(&Run::new(config(&[3]).init(Seed::new(1), &device()).unwrap(), sgd()), &folder).unwrap();
    assert!(!folder.join("left_over.bin").exists() && !stale.exists());
    assert!(checkpoint::load(&folder, other, sgd()).is_ok());
}

#[test]
fn weights_and_states_that_are_not_finite_are_never_saved() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("not_finite");
    let fresh = || config(&[3]).init(Seed::new(1), &device()).unwrap();
    let data = data();
    let good =
        Trainer::new(settings(3), Supervised::Classification, &data).train(Run::new(fresh(), sgd())).unwrap().run;
    checkpoint::save(&good, &folder).unwrap();
    let before = std::fs::read(folder.join("network.bpk")).unwrap();
    struct Broken(f32);
    impl burn::module::ModuleMapper for Broken {
        fn map_float<const D: usize>(
            &mut self,
            param: burn::module::Param<Tensor<D>>,
        ) -> burn::module::Param<Tensor<D>> {
            param.map(|tensor| tensor.inner().mul_scalar(self.0).autodiff().require_grad())
        }
    }
    for factor in [f32::NAN, f32::INFINITY] {
        let network = good.network.clone().map(&mut Broken(factor));
        let error = checkpoint::save(&Run { network, ..good.clone() }, &folder).unwrap_err();
        assert!(matches!(error, Error::WeightsNotFinite { step: 3, .. }), "{error}");
    }
    // A velocity that overflows, while the weights are still numbers.
    let mut optimizer = sgd();
    let loss = good.network.forward(Tensor::<2>::ones([1, 6], &device())).sum().mul_scalar(f32::MAX).mul_scalar(1e3);
    let gradients = burn::optim::GradientsParams::from_grads(loss.backward(), &good.network);
    optimizer.step(0.0, good.network.clone(), gradients);
    let error = checkpoint::save(&Run { optimizer, ..good.clone() }, &folder).unwrap_err();
    assert!(error.to_string().contains("the optimizer's state"), "{error}");
    assert_eq!(std::fs::read(folder.join("network.bpk")).unwrap(), before);
}

/// Refuses to grow at its second event.
struct Moody;

impl GrowthMethod for Moody {
    fn name(&self) -> &str {
        "moody"
    }
    fn needs(&self) -> &'static [gradmax::methods::Need] {
        &[]
    }
    fn neurons(&self, request: &gradmax::methods::Request<'_>) -> Result<gradmax::surgery::NewNeurons, Error> {
        match request.width {
            5 => Err(request.refuse("it does not want to")),
            _ => Random {}.neurons(request),
        }
    }
}

#[test]
fn a_growth_event_that_fails_saves_the_run_and_stops_it_or_is_passed_over() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("moody");
    let data = data();
    let train = |on_failure: OnFailure, run: Run<Mlp>, seen: &mut Seen| {
        let policy = GrowthSettings { on_failure, ..policy(Box::new(Moody), GrowthBatch::Training) };
        let settings = Settings { checkpoint_every: None, ..settings(45) };
        Trainer::new(settings, Supervised::Classification, &data)
            .with_growth(policy)
            .with_observer(Keep { seen, folder: Some(folder.clone()), stop: None })
            .train(run)
    };
    let fresh = || Run::new(config(&[3]).init(Seed::new(1), &device()).unwrap(), sgd());
    let mut seen = Seen::default();
    let error = train(OnFailure::Stop, fresh(), &mut seen).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("it does not want to"), "{error}");
    // Saved right before the event, from where it goes on once that is passed over.
    assert_eq!(checkpoint::load_progress(&folder).unwrap().step, 20);
    let saved = checkpoint::load(&folder, other, sgd()).unwrap();
    let mut resumed = Seen::default();
    let end = train(OnFailure::Skip, saved, &mut resumed).unwrap().run;
    let mut whole = Seen::default();
    let uninterrupted = train(OnFailure::Skip, fresh(), &mut whole).unwrap().run;
    assert!(weights(&end.network) == weights(&uninterrupted.network));
    let refused = whole.receipts.iter().map(|receipt| receipt.refused.clone()).collect::<Vec<_>>();
    assert_eq!(refused.len(), 3);
    assert!(
        refused[0].is_none() && refused[1..].iter().all(|reason| reason.as_ref().unwrap().contains("does not want to"))
    );
    assert_eq!(
        (whole.receipts[1].parameters, uninterrupted.progress.events),
        ([whole.receipts[0].parameters[1]; 2], 3)
    );
    // A receipt is read back as it was written, numbers that are none included.
    let line = serde_json::to_string(&whole.receipts[1]).unwrap();
    let read: Receipt = serde_json::from_str(&line).unwrap();
    assert!(read.loss_before.is_nan() && read.refused == whole.receipts[1].refused);
}
