//! What a run keeps and goes by: validation examples, the best network, averages of weights, parts of batches, and going
//! on after the end.

mod common;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData};
use common::{Images, Seen, device, normal, values, weights, widths_of};
use gradmax::event::{Grower, Planned};
use gradmax::methods::GradMax;
use gradmax::modules::NormKind;
use gradmax::networks::{Architecture, Mlp, MlpConfig, WideResNet, WideResNetConfig};
use gradmax::policies::{Amount, Order, Periodic};
use gradmax::site::{Activation, EntriesOf, Growable, SiteWidth};
use gradmax::surgery::SecondMoments;
use gradmax::training::{
    CohortRates, GrowthBatch, GrowthSettings, InMemory, Keep, NewWeights, OnFailure, Outcome, Run, Settings, Split,
    Supervised, Target, Trainer, checkpoint, evaluate,
};
use gradmax::{Error, Seed};

/// Few examples of much noise, which a network learns by heart.
fn data(seed: u64) -> InMemory {
    let inputs = values(normal([40, 6], seed));
    let classes = inputs.chunks(6).map(|x| u8::from(x[0] + x[1] > 0.0) + 2 * u8::from(x[2] > 0.2)).collect::<Vec<_>>();
    InMemory::classes(inputs, &classes, &Device::flex())
}

fn sgd() -> ModuleOptimizer {
    let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: true };
    SgdConfig::new().with_momentum(Some(momentum)).init()
}

fn settings(steps: usize) -> Settings {
    Settings {
        batch_size: Some(16),
        log_every: 1,
        evaluate_every: Some(5),
        checkpoint_every: Some(7),
        seed: Seed::new(5),
        ..Settings::new(steps, 0.1)
    }
}

fn growth(batch: GrowthBatch) -> GrowthSettings {
    let schedule =
        Periodic { start: 10, every: 10, times: 2, order: Order::AllAtOnce, amount: Amount::Count(2), stretch: 1.0 };
    let grower = Grower::new(GradMax::default()).with_seed(Seed::new(8));
    GrowthSettings { policy: Box::new(schedule), grower, batch, on_failure: OnFailure::Stop }
}

fn network(sites: &[SiteWidth]) -> Result<Mlp, Error> {
    MlpConfig::new(6, &widths_of(sites), 4, Activation::Relu).init(Seed::new(99), &device())
}

fn fresh() -> Run<Mlp> {
    Run::new(MlpConfig::new(6, &[3], 4, Activation::Relu).init(Seed::new(1), &device()).unwrap(), sgd())
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("keeping").join(name)
}

/// Where a run is saved, and the step that it is stopped at.
type Ends = (Option<PathBuf>, Option<usize>);

fn train(settings: Settings, run: Run<Mlp>, seen: &mut Seen, (folder, stop): Ends) -> Outcome<Mlp> {
    let (train, validation, test) = (data(4), data(14), data(24));
    let flag = AtomicBool::new(false);
    let trainer = Trainer::new(settings, Supervised::Classification, &train)
        .with_validation(&validation)
        .with_test(&test)
        .with_growth(growth(GrowthBatch::Training))
        .with_observer(common::Keep { seen, folder, stop: stop.map(|step| (step, &flag)) })
        .with_stop(&flag);
    trainer.train(run).unwrap()
}

#[test]
fn the_network_with_the_least_validation_loss_is_kept_and_tested_once() {
    let mut seen = Seen::default();
    let best = Settings { keep: Keep::Best, ..settings(120) };
    let Outcome { run, finished } = train(best, fresh(), &mut seen, (None, None));
    let summary = finished.unwrap();
    let validated = seen.rows.iter().filter(|row| row.split == Split::Validation).collect::<Vec<_>>();
    assert_eq!(validated.len(), 120 / 5 + 1, "every fifth step, and at the end");
    let least = validated.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).unwrap();
    assert!(least.step > 0 && least.step < 120, "it gets better, and then worse: {}", least.step);
    assert_eq!((summary.kept_step, summary.validation.unwrap().loss), (least.step, least.loss));
    let (kept, sites) = run.kept();
    assert_eq!(evaluate(kept, &Supervised::Classification, &data(14), 1000).unwrap().loss, least.loss);
    assert_eq!(kept.sites()[0].width(), sites[0].width);
    let tests = seen.rows.iter().filter(|row| row.split == Split::Test).collect::<Vec<_>>();
    assert_eq!((tests.len(), tests[0].step), (1, 120), "test examples are looked at once, at the end");
    assert_eq!(evaluate(kept, &Supervised::Classification, &data(24), 1000).unwrap(), summary.test.unwrap());
    assert_ne!(weights(kept), weights(&run.network));
    // Two neurons more at steps 10 and 20, of 6 + 1 + 4 parameters each.
    let parameters = |step: usize| 3 * 11 + 4 + 22 * (usize::from(step > 10) + usize::from(step > 20));
    for row in seen.rows.iter().filter(|row| row.step < 120) {
        // Evaluations before an event at the same step are of the network before it.
        let grown = usize::from(row.split == Split::Train && [10, 20].contains(&row.step));
        assert_eq!(row.parameters, parameters(row.step) + 22 * grown, "{row:?}");
    }
    assert_eq!(summary.parameters, parameters(least.step));
    assert!(tests.iter().all(|row| row.parameters == summary.parameters));
}

#[test]
fn a_run_without_progress_on_validation_examples_ends_and_can_be_taken_up_again() {
    let mut seen = Seen::default();
    let patient = |patience, steps| Settings { patience: Some(patience), ..settings(steps) };
    let Outcome { run, finished } = train(patient(3, 500), fresh(), &mut seen, (None, None));
    let (best, ended) = (run.progress.best.clone().unwrap().step, run.progress.step);
    assert!(finished.is_some() && ended < 500);
    assert_eq!(ended, best + 3 * 5, "three evaluations after the best one");
    // With as much patience it has none left, with more it goes on.
    assert_eq!(train(patient(3, 600), run.clone(), &mut seen, (None, None)).run.progress.step, ended);
    assert!(train(patient(9, 600), run, &mut seen, (None, None)).run.progress.step > ended);
}

#[test]
fn what_goes_by_validation_examples_needs_some() {
    let examples = data(4);
    for (settings, option) in [
        (Settings { keep: Keep::Best, ..settings(5) }, "keep"),
        (Settings { patience: Some(2), ..settings(5) }, "patience"),
        (Settings { patience: Some(0), ..settings(5) }, "patience"),
        (Settings { accumulate: 0, ..settings(5) }, "accumulate"),
        (Settings { average: Some(1.0), ..settings(5) }, "average"),
    ] {
        let error = Trainer::new(settings, Supervised::Classification, &examples).train(fresh()).map(|_| ());
        assert!(matches!(error, Err(Error::BadOption { option: of, .. }) if of == option), "{option}");
    }
}

#[test]
fn runs_with_averages_and_a_best_network_resume_bit_for_bit() {
    let kept = || Settings { keep: Keep::Best, average: Some(0.9), accumulate: 3, ..settings(60) };
    let mut whole = Seen::default();
    let uninterrupted = train(kept(), fresh(), &mut whole, (None, None));
    for stop in [3, 10, 11, 20, 27, 55] {
        let folder = folder(&format!("resume{stop}"));
        let mut seen = Seen::default();
        train(kept(), fresh(), &mut seen, (Some(folder.clone()), Some(stop)));
        let run = checkpoint::load(&folder, network, sgd()).unwrap();
        let resumed = train(kept(), run, &mut seen, (None, None));
        let all = |run: &Run<Mlp>| [&run.network, run.averaged(), run.kept().0].map(weights);
        assert!(all(&resumed.run) == all(&uninterrupted.run), "{stop}");
        assert_eq!(resumed.run.progress.best, uninterrupted.run.progress.best);
        assert_eq!(seen.rows, whole.rows, "{stop}");
    }
}

#[test]
fn a_finished_run_goes_on_as_if_it_had_been_longer_from_the_start() {
    let longer = || Settings { average: Some(0.9), ..settings(50) };
    let mut whole = Seen::default();
    let uninterrupted = train(longer(), fresh(), &mut whole, (None, None));
    for first in [15, 23] {
        let (folder, mut seen) = (folder(&format!("longer{first}")), Seen::default());
        train(Settings { steps: first, ..longer() }, fresh(), &mut seen, (Some(folder.clone()), None));
        let run = checkpoint::load(&folder, network, sgd()).unwrap();
        // What was written of the run's end goes.
        seen.rows.truncate(run.progress.rows);
        let on = train(longer(), run, &mut seen, (None, None));
        assert!(weights(&on.run.network) == weights(&uninterrupted.run.network), "{first}");
        assert!(weights(on.run.averaged()) == weights(uninterrupted.run.averaged()), "{first}");
        // The evaluation at the end of the shorter run stays.
        seen.rows.retain(|row| row.step != first || first % 5 == 0 || row.split != Split::Validation);
        assert_eq!(seen.rows, whole.rows, "{first}");
    }
}

#[test]
fn batches_in_parts_give_the_gradients_of_whole_batches() {
    let examples = data(4);
    for batch in [GrowthBatch::Training, GrowthBatch::All] {
        let end = |accumulate: usize| {
            let mut seen = Seen::default();
            let settings = Settings { accumulate, ..settings(25) };
            let trainer = Trainer::new(settings, Supervised::Classification, &examples)
                .with_growth(growth(batch))
                .with_observer(common::Keep { seen: &mut seen, folder: None, stop: None });
            let run = trainer.train(fresh()).unwrap().run;
            (run.network.forward(normal([20, 6], 3)).into_data().try_to_vec::<f32>().unwrap(), seen)
        };
        let (whole, rows) = end(1);
        // More parts than examples are as many as examples; the last batch of an epoch has 8.
        for accumulate in [2, 4, 5, 16, 40] {
            let (parts, of_parts) = end(accumulate);
            let far = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-4, "{batch:?} {accumulate}: {far}");
            for (a, b) in rows.rows.iter().zip(&of_parts.rows) {
                assert!((a.loss - b.loss).abs() < 1e-5 && a.score == b.score, "{a:?} {b:?}");
                // A training step does not go on from the pass of an event whose batch has several parts.
                let taken_again = if batch == GrowthBatch::Training { 2 * 3 * 16 * b.parameters as u64 * 2 } else { 0 };
                assert!(b.flops >= a.flops && b.flops - a.flops <= taken_again, "{a:?} {b:?}");
            }
            assert_eq!(of_parts.receipts.len(), 2);
        }
    }
}

/// Trains a network with rates of its own for new weights, Adam's own counts and rescaling, in one go and resumed.
#[test]
fn new_weights_that_train_by_themselves_resume_to_the_same_bits() {
    let examples = data(4);
    let adam = || AdamConfig::new().init();
    for rates in [CohortRates::Boost { factor: 2.0, steps: 12 }, CohortRates::Norm] {
        let settings = |steps: usize| Settings {
            new_weights: NewWeights { rates, own_steps: Some([0.9, 0.999]) },
            rewarm: 3,
            ..settings(steps)
        };
        let train = |settings: Settings, run: Run<Mlp>, keep: (Option<PathBuf>, Option<usize>)| {
            let (flag, mut seen) = (AtomicBool::new(false), Seen::default());
            let mut growth = growth(GrowthBatch::Training);
            growth.grower = growth.grower.with_second_moments(SecondMoments::Own);
            let stop = keep.1.map(|at| (at, &flag));
            let trainer = Trainer::new(settings, Supervised::Classification, &examples).with_growth(growth);
            trainer
                .with_observer(common::Keep { seen: &mut seen, folder: keep.0, stop })
                .with_stop(&flag)
                .train(run)
                .unwrap()
                .run
        };
        let start = || Run::new(fresh().network, adam());
        let whole = train(settings(40), start(), (None, None));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("new-weights");
        train(settings(40), start(), (Some(folder.clone()), Some(23)));
        let resumed = train(settings(40), checkpoint::load(&folder, network, adam()).unwrap(), (None, None));
        assert!(weights(&resumed.network) == weights(&whole.network), "{rates:?}");
        let plain = train(Settings { new_weights: NewWeights::default(), ..settings(40) }, start(), (None, None));
        assert!(weights(&plain.network) != weights(&whole.network), "{rates:?} change something");
    }
}

/// In a fresh network all weights are as old as Adam's count: new ones that count for themselves move just as far.
#[test]
fn the_first_step_of_new_weights_under_adam_is_one_learning_rate_long() {
    let examples = data(4);
    let first_step = |second: SecondMoments, own_steps: Option<[f64; 2]>| {
        let run_to = |steps: usize| {
            let mut growth = growth(GrowthBatch::Training);
            growth.grower = growth.grower.with_second_moments(second);
            let new_weights = NewWeights { own_steps, ..NewWeights::default() };
            let settings = Settings { new_weights, learning_rate: 0.01.into(), ..settings(steps) };
            let trainer = Trainer::new(settings, Supervised::Classification, &examples).with_growth(growth);
            trainer.train(Run::new(fresh().network, AdamConfig::new().init())).unwrap().run.network
        };
        // Growth comes before step 10, with zero incoming weights for the neurons after the third.
        let grown = run_to(11).sites()[0].clone();
        let rows = grown.writers[0].incoming(EntriesOf::Values).unwrap().narrow(0, 3, 2);
        rows.abs().max().into_scalar::<f64>()
    };
    let own = first_step(SecondMoments::Own, Some([0.9, 0.999]));
    assert!((own - 0.01).abs() < 1e-4, "{own}");
    let shared = first_step(SecondMoments::Zeros, None);
    // (1 - b1) / (1 - b1^11) / sqrt((1 - b2) / (1 - b2^11)) of a rate: 0.1 / 0.686 * sqrt(0.01094 / 0.001).
    assert!((shared / 0.01 - 0.482).abs() < 0.01, "{shared}");
}

#[test]
fn rescaled_weights_compute_the_same_and_are_as_large_as_fresh_ones() {
    let config = WideResNetConfig { norm: NormKind::Batch, input: [3, 8, 8], ..WideResNetConfig::new(10, 1, 0.25) };
    let network = config.with_growing_streams(0.25).init(Seed::new(1), &device()).unwrap();
    let images = Images::new(24, [3, 8, 8], 10, Seed::new(9));
    // Running statistics that are not those of a fresh norm.
    (0..30).for_each(|_| drop(network.forward(images.input.clone())));
    let plan = [Planned { site: "stream1".into(), count: 2 }];
    let grow = |rescale: bool| {
        let grower = Grower::new(GradMax::default()).with_rescaling(rescale);
        images.grow(&grower, &network, &plan).unwrap()
    };
    let (plain, rescaled) = (grow(false), grow(true));
    let incoming = |network: &WideResNet| {
        let site = network.sites().into_iter().find(|site| site.name == "group1.block1").unwrap();
        // Nine weights for each of the four channels that were there.
        let weights = site.writers[0].incoming(EntriesOf::Values).unwrap();
        values(weights.narrow(1, 0, 4 * 9))
    };
    let [before, without, with] = [&network, &plain.network, &rescaled.network].map(incoming);
    assert_eq!(before, without);
    let factor = (4.0_f32 / 6.0).sqrt();
    assert!(before.iter().zip(&with).all(|(before, after)| (factor * before - after).abs() < 1e-6));
    assert_eq!(plain.receipt.rescaling_change, None);
    let change = rescaled.receipt.rescaling_change.unwrap();
    assert!(change > 0.0 && change < 1e-3, "{change}");
    let in_evaluation = images.change_in_evaluation(&network, &rescaled.network);
    assert!(in_evaluation < 1e-3, "{in_evaluation}");
    // The gradient of the new weights is measured against what was predicted at the rescaled network.
    assert!(rescaled.receipt.sites[0].outgoing_gradient_norm.unwrap() > 0.0);
}

/// w_0, then d w + (1 - d) w_t with d = min(decay, (1 + t) / (10 + t)) after the step from t to t + 1.
#[test]
fn the_average_is_that_of_the_weights_of_all_steps() {
    let examples = data(4);
    let weights_after = |steps: usize| {
        let trainer = Trainer::new(settings(steps), Supervised::Classification, &examples);
        values_of(&trainer.train(fresh()).unwrap().run.network)
    };
    let mut expected = values_of(&fresh().network);
    for step in 0..30 {
        let decay = 0.8_f64.min((1.0 + step as f64) / (10.0 + step as f64));
        let weights = weights_after(step + 1);
        expected
            .iter_mut()
            .zip(weights)
            .for_each(|(average, weight)| *average = decay * *average + (1.0 - decay) * weight);
    }
    let settings = Settings { average: Some(0.8), ..settings(30) };
    let run = Trainer::new(settings, Supervised::Classification, &examples).train(fresh()).unwrap().run;
    let average = values_of(run.averaged());
    assert!(average.iter().zip(&expected).all(|(own, expected)| (own - expected).abs() < 1e-5));
}

fn values_of<N: Growable>(network: &N) -> Vec<f64> {
    weights(network).chunks_exact(4).map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()))).collect()
}

#[test]
fn averages_grow_along_without_a_change_of_what_they_compute() {
    let images = Images::new(24, [3, 8, 8], 1, Seed::new(1));
    let classes = Target::classes((0..24).map(|index| index % 4), &Device::flex());
    let examples: InMemory<Tensor<4>> = InMemory::new(images.input.clone(), classes);
    let shape =
        WideResNetConfig { norm: NormKind::Batch, input: [3, 8, 8], classes: 4, ..WideResNetConfig::new(10, 1, 0.25) };
    let shape = shape.with_growing_streams(0.25);
    let fresh = || Run::new(shape.init(Seed::new(1), &device()).unwrap(), sgd());
    let train = |steps: usize, growth: Option<GrowthSettings>, run: Run<WideResNet>| {
        let settings = Settings { average: Some(0.9), evaluate_every: None, ..settings(steps) };
        let trainer = Trainer::new(settings, Supervised::Classification, &examples);
        match growth {
            Some(growth) => trainer.with_growth(growth),
            None => trainer,
        }
        .train(run)
        .unwrap()
        .run
    };
    let before = train(10, None, fresh());
    let grower = || Grower::new(GradMax::default()).with_seed(Seed::new(8));
    let plan = common::everywhere(&before.network, 2);
    let target = Target::Values(Tensor::from_data(TensorData::zeros::<f32, _>([24, 4]), &Device::flex()));
    let images = Images { input: images.input, target };
    let grown = images.grow(&grower(), &before.network, &plan).unwrap();
    let average = grown.widening.apply(before.averaged().valid()).unwrap();
    assert!(images.change_in_evaluation(before.averaged(), &average) < 1e-5);
    assert_eq!(widths_after(&average), widths_after(&grown.network));
    // In training, the averages go on with the network's new widths.
    let after = train(14, Some(growth(GrowthBatch::Training)), train(10, None, fresh()));
    assert_eq!(widths_after(after.averaged()), widths_after(&after.network));
    assert!(widths_after(&after.network) > widths_after(&before.network));
    assert!(after.network.valid().num_params() == after.averaged().num_params());
}

fn widths_after<N: Growable>(network: &N) -> Vec<usize> {
    network.sites().iter().map(|site| site.width()).collect()
}
