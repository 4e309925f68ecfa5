//! Policies decide when they are asked to, see what growth would give, and remember over checkpoints.

mod common;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use burn::optim::{AdamConfig, SgdConfig};
use common::{Keep, Seen, device, mlp, normal, weights, widths_of};
use gradmax::event::{FirstStep, Grower, Planned};
use gradmax::methods::{GradMax, GradMaxRectified, METHODS};
use gradmax::networks::{Architecture, Mlp, MlpConfig};
use gradmax::policies::{Budget, Observed, POLICIES, Policy, PolicyLook, PolicyState};
use gradmax::site::{Activation, Growable, SiteWidth, trainable_parameters};
use gradmax::training::{
    Decay, GrowthBatch, GrowthSettings, InMemory, LearningRate, OnFailure, Run, Settings, Split, Supervised, Target,
    Trainer, checkpoint,
};
use gradmax::{Error, Options, Seed};

fn data() -> InMemory {
    InMemory::new(normal([60, 6], 1), Target::Values(normal([60, 3], 2)))
}

/// Looks every third step, and grows the site of the largest singular value for each parameter at every second look.
struct EverySecondLook;

impl Policy for EverySecondLook {
    fn name(&self) -> &str {
        "every second look"
    }

    fn due(&self, observed: &Observed<'_>, _state: &PolicyState) -> bool {
        observed.step > 0 && observed.step.is_multiple_of(3)
    }

    fn plan(
        &self,
        observed: &Observed<'_>,
        look: &dyn PolicyLook,
        state: &mut PolicyState,
    ) -> Result<Vec<Planned>, Error> {
        assert!(look.loss()? > 0.0 && look.gradient_norm()? > 0.0 && observed.loss.is_some());
        let looks = state.read::<usize>().unwrap_or(0) + 1;
        state.write(&looks);
        let gain = |site: &str| Ok::<_, Error>(look.spectrum(site, 2)?[0] / look.cost(site, 1)?.parameters as f64);
        let gains = observed.sites.iter().map(|at| Ok((gain(&at.site)?, at.site.clone())));
        let gains = gains.collect::<Result<Vec<_>, Error>>()?;
        let best = gains.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, site)| site);
        Ok(best.filter(|_| looks.is_multiple_of(2)).map(|site| Planned { site, count: 1 }).into_iter().collect())
    }
}

const STEPS: usize = 20;

fn train(
    policy: Box<dyn Policy>,
    batch: GrowthBatch,
    run: Run<gradmax::networks::Mlp>,
    seen: &mut Seen,
    folder: Option<PathBuf>,
    stop: Option<usize>,
) -> Result<gradmax::training::Outcome<gradmax::networks::Mlp>, Error> {
    let (flag, data) = (AtomicBool::new(false), data());
    let grower = Grower::new(GradMax::default());
    let growth = GrowthSettings { policy, grower, batch, on_failure: OnFailure::Stop };
    let settings =
        Settings { log_every: 1, checkpoint_every: Some(100), batch_size: Some(20), ..Settings::new(STEPS, 0.05) };
    Trainer::new(settings, Supervised::Regression, &data)
        .with_growth(growth)
        .with_observer(Keep { seen, folder, stop: stop.map(|at| (at, &flag)) })
        .with_stop(&flag)
        .train(run)
}

fn start() -> Run<gradmax::networks::Mlp> {
    Run::new(mlp(6, &[3, 4], 3, Activation::Tanh, true), SgdConfig::new().init())
}

/// A network of other weights, for a checkpoint to be read into.
fn other(sites: &[SiteWidth]) -> Result<Mlp, Error> {
    let shape = MlpConfig::new(6, &[3, 4], 3, Activation::Tanh).with_site_widths(&widths_of(sites));
    shape.init(Seed::new(99), &device())
}

#[test]
fn a_policy_looks_and_remembers_over_checkpoints() {
    for batch in [GrowthBatch::Training, GrowthBatch::Examples(30), GrowthBatch::All] {
        let mut whole = Seen::default();
        let outcome = train(Box::new(EverySecondLook), batch, start(), &mut whole, None, None).unwrap();
        assert_eq!(whole.receipts.iter().map(|receipt| receipt.step).collect::<Vec<_>>(), [6, 12, 18], "{batch:?}");
        assert_eq!(outcome.run.progress.policy.read::<usize>(), Some(6));

        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("policy-{batch:?}").replace(['(', ')'], ""));
        let mut seen = Seen::default();
        train(Box::new(EverySecondLook), batch, start(), &mut seen, Some(folder.clone()), Some(10)).unwrap();
        let run = checkpoint::load(&folder, other, SgdConfig::new().init()).unwrap();
        let resumed = train(Box::new(EverySecondLook), batch, run, &mut seen, None, None).unwrap();
        assert!(weights(&resumed.run.network) == weights(&outcome.run.network), "{batch:?}");
        assert!(seen.rows == whole.rows && seen.receipts == whole.receipts, "{batch:?}");
    }
}

#[test]
fn looking_without_growing_leaves_a_run_as_it_is() {
    struct Looks(bool);
    impl Policy for Looks {
        fn name(&self) -> &str {
            "looks"
        }
        fn due(&self, _: &Observed<'_>, _: &PolicyState) -> bool {
            self.0
        }
        fn plan(&self, _: &Observed<'_>, look: &dyn PolicyLook, _: &mut PolicyState) -> Result<Vec<Planned>, Error> {
            look.spectrum("hidden2", 1).map(|_| Vec::new())
        }
    }
    let [with, without] = [true, false].map(|looks| {
        let mut seen = Seen::default();
        let outcome = train(Box::new(Looks(looks)), GrowthBatch::Training, start(), &mut seen, None, None).unwrap();
        let flops = seen.rows.iter_mut().map(|row| std::mem::take(&mut row.flops)).collect::<Vec<_>>();
        ((weights(&outcome.run.network), seen.rows), flops)
    });
    assert!(with.0 == without.0);
    // A look takes operations of its own.
    assert!(with.1.iter().zip(&without.1).skip(1).all(|(with, without)| with > without));
}

#[test]
fn a_look_says_what_neurons_cost() {
    struct Costs;
    impl Policy for Costs {
        fn name(&self) -> &str {
            "costs"
        }
        fn due(&self, observed: &Observed<'_>, _: &PolicyState) -> bool {
            observed.step == 0
        }
        fn plan(
            &self,
            _: &Observed<'_>,
            look: &dyn PolicyLook,
            state: &mut PolicyState,
        ) -> Result<Vec<Planned>, Error> {
            let cost = look.cost("hidden1", 2)?;
            state.write(&(cost.parameters, cost.flops));
            let unknown = look.spectrum("no such site", 1).unwrap_err();
            assert!(matches!(unknown, Error::UnknownSite { .. }), "{unknown}");
            Ok(vec![Planned { site: "hidden1".into(), count: 2 }])
        }
    }
    let (before, mut seen) = (start().network, Seen::default());
    let outcome = train(Box::new(Costs), GrowthBatch::Training, start(), &mut seen, None, None).unwrap();
    let after = &outcome.run.network;
    let gained =
        [trainable_parameters(after) - trainable_parameters(&before), (after.flops() - before.flops()) as usize];
    assert_eq!(outcome.run.progress.policy.read::<[usize; 2]>(), Some(gained));
}

#[test]
fn every_policy_of_the_registry_trains_and_resumes_to_the_same_weights() {
    for named in POLICIES {
        let mut options = Options::from_iter([("every".to_string(), 4.into())]);
        // In so few steps the loss falls by less than noise, and than a plateau's default.
        match named.name() {
            "plateau" => options.extend([("threshold".to_string(), 0.9.into()), ("patience".to_string(), 1.into())]),
            // It waits until several looks agree.
            "marginal" => options.extend([("tau".to_string(), 0.0.into()), ("every".to_string(), 1.into())]),
            _ => {}
        }
        let make = || named.with(&options).unwrap().0;
        assert_eq!(make().name(), named.name());
        make().check().unwrap();
        let mut whole = Seen::default();
        let outcome = train(make(), GrowthBatch::Training, start(), &mut whole, None, None).unwrap();
        assert!(!whole.receipts.is_empty(), "{}", named.name());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("policy-{}", named.name()));
        let mut seen = Seen::default();
        train(make(), GrowthBatch::Training, start(), &mut seen, Some(folder.clone()), Some(10)).unwrap();
        let run = checkpoint::load(&folder, other, SgdConfig::new().init()).unwrap();
        let resumed = train(make(), GrowthBatch::Training, run, &mut seen, None, None).unwrap();
        assert!(weights(&resumed.run.network) == weights(&outcome.run.network), "{}", named.name());
        assert!(seen.rows == whole.rows && seen.receipts == whole.receipts, "{}", named.name());
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let named = POLICIES.iter().find(|named| named.name() == "periodic").unwrap();
    let refused = |option: &str, value: serde_json::Value| {
        let (policy, _) = named.with(&Options::from_iter([(option.to_string(), value)])).unwrap();
        matches!(policy.check(), Err(Error::BadOption { .. }))
    };
    assert!(refused("every", 0.into()) && refused("amount", serde_json::json!({ "count": 0 })));
    assert!(refused("amount", serde_json::json!({ "fraction": -0.5 })));
}

/// A policy of the registry with some of its options.
fn named(name: &str, options: &[(&str, serde_json::Value)]) -> Box<dyn Policy> {
    let options = options.iter().map(|(key, value)| (key.to_string(), value.clone()));
    POLICIES.iter().find(|named| named.name() == name).unwrap().with(&options.collect()).unwrap().0
}

/// A task that a network with one hidden neuron cannot do, and one with a few can.
fn wide_task() -> (InMemory, Run<Mlp>) {
    let inputs = normal([200, 6], 3);
    let teacher = mlp(6, &[4], 3, Activation::Relu, false);
    let targets = teacher.forward(inputs.clone()).inner();
    let run = Run::new(mlp(6, &[1], 3, Activation::Relu, false), SgdConfig::new().init());
    (InMemory::new(inputs, Target::Values(targets)), run)
}

fn train_wide(policy: Box<dyn Policy>, settings: Settings) -> (Run<Mlp>, Seen) {
    let (data, run) = wide_task();
    let grower = Grower::new(GradMaxRectified::default()).with_seed(Seed::new(2));
    let growth = GrowthSettings { policy, grower, batch: GrowthBatch::Training, on_failure: OnFailure::Stop };
    let mut seen = Seen::default();
    let trainer = Trainer::new(settings, Supervised::Regression, &data).with_growth(growth);
    let run = trainer.with_observer(Keep { seen: &mut seen, folder: None, stop: None }).train(run).unwrap().run;
    (run, seen)
}

#[test]
fn growth_by_marginal_gains_stops_where_a_further_neuron_gains_too_little() {
    let width = |tau: f64| {
        let policy = named("marginal", &[("tau", tau.into()), ("every", 20.into())]);
        let (run, seen) = train_wide(policy, Settings::new(1500, 0.05));
        let late = seen.receipts.iter().filter(|receipt| receipt.step > 750).count();
        (run.progress.sites[0].width, seen.rows.last().unwrap().loss, late)
    };
    let (found, loss, late) = width(1.0);
    // The teacher has four neurons, one of which may be of no use to these examples.
    assert!((3..=8).contains(&found) && late <= 1, "{found} {late}");
    // No more events than it is told, whatever they would gain.
    let policy = named("marginal", &[("tau", 0.0.into()), ("every", 20.into()), ("times", 2.into())]);
    assert_eq!(train_wide(policy, Settings::new(400, 0.05)).1.receipts.len(), 2);
    // Nor once the learning rate has fallen by half, along a line at half of the run.
    let policy = named("marginal", &[("tau", 0.0.into()), ("every", 20.into())]);
    let falling = LearningRate { base: 0.05, warm_up: 0, decay: Decay::Linear };
    let receipts = train_wide(policy, Settings::new(400, falling)).1.receipts;
    assert!(receipts.len() > 1 && receipts.iter().all(|receipt| receipt.step <= 200));
    let (stayed, without, _) = width(1e9);
    assert!(stayed <= 2 && loss < 0.1 * without, "{stayed}: {loss} {without}");
}

/// Under Adam the loss falls by much more per unit of the learning rate than the squared gradient says: what neurons gain
/// is told by Adam's steps too.
#[test]
fn gains_are_those_of_the_optimizer_s_own_steps() {
    let width = |first_step: FirstStep| {
        let (data, Run { network, .. }) = wide_task();
        let growth = GrowthSettings {
            policy: named("marginal", &[("every", 20.into())]),
            grower: Grower::new(GradMaxRectified::default()).with_first_step(first_step),
            batch: GrowthBatch::Training,
            on_failure: OnFailure::Stop,
        };
        let trainer = Trainer::new(Settings::new(1000, 0.01), Supervised::Regression, &data).with_growth(growth);
        let run = trainer.train(Run::new(network, AdamConfig::new().init())).unwrap().run;
        run.progress.sites[0].width
    };
    let [by_sign, by_gradient] = [FirstStep::Sign, FirstStep::Gradient].map(width);
    assert!((3..=8).contains(&by_sign) && by_gradient < by_sign, "{by_sign} {by_gradient}");
}

/// Neurons of a sigmoid are not zero at zero: methods that leave no side zero, or the outgoing one, grow them.
#[test]
fn gains_are_told_at_any_activation() {
    for (method, activation) in
        [("split", Activation::Sigmoid), ("gradmax", Activation::Gelu), ("gradmax", Activation::Tanh)]
    {
        let method = METHODS.iter().find(|named| named.name() == method).unwrap().with(&Options::new()).unwrap().0;
        let policy = named("marginal", &[("every", 2.into()), ("tau", 0.0.into())]);
        let growth = GrowthSettings {
            policy,
            grower: Grower::boxed(method),
            batch: GrowthBatch::Training,
            on_failure: OnFailure::Stop,
        };
        let data = data();
        let trainer = Trainer::new(Settings::new(12, 0.05), Supervised::Regression, &data).with_growth(growth);
        let run = trainer.train(Run::new(mlp(6, &[3, 4], 3, activation, true), SgdConfig::new().init())).unwrap().run;
        assert!(run.progress.events > 0);
    }
}

#[test]
fn a_batch_without_halves_is_passed_over_and_too_small_ones_are_refused() {
    // Of 60 examples in batches of 59, every other one has a single example, and every second step looks at it.
    let run = |batch_size: usize| {
        let data = data();
        let policy = named("marginal", &[("every", 1.into()), ("tau", 0.0.into())]);
        let grower = Grower::new(GradMax::default());
        let growth = GrowthSettings { policy, grower, batch: GrowthBatch::Training, on_failure: OnFailure::Stop };
        let settings = Settings { batch_size: Some(batch_size), ..Settings::new(12, 0.01) };
        Trainer::new(settings, Supervised::Regression, &data).with_growth(growth).train(start())
    };
    let grown = run(59).unwrap().run.progress;
    assert!(grown.events > 0 && grown.step == 12);
    let refused = run(1).err().unwrap();
    assert!(matches!(refused, Error::BadOption { option: "growth batch", .. }), "{refused}");
}

#[test]
fn a_budget_ends_a_run_and_keeps_its_network_small() {
    let policy = || named("periodic", &[("every", 10.into()), ("amount", serde_json::json!({ "count": 2 }))]);
    let budget = |budget: Budget, learning_rate: LearningRate| {
        // More steps than the budget of operations allows.
        let steps = if budget.ends_runs() { 100_000 } else { 200 };
        train_wide(policy(), Settings { budget, log_every: 1, ..Settings::new(steps, learning_rate) })
    };
    let rate = LearningRate { base: 0.1, warm_up: 0, decay: Decay::Linear };
    let (whole, _) = budget(Budget::default(), rate.clone());
    let half = whole.progress.flops() / 2;
    let (run, seen) = budget(Budget { flops: Some(half), ..Budget::default() }, rate.clone());
    assert!(run.progress.step < 200 && run.progress.flops() >= half);
    let a_step = 3 * 200 * run.network.flops();
    assert!(run.progress.flops() < half + 4 * a_step, "it ends with the step that uses it up");
    let rates = seen.rows.iter().filter(|row| row.split == Split::Train).map(|row| (row.flops, row.learning_rate));
    for (flops, rate) in rates {
        // Along what is spent, not along steps.
        assert!((rate - 0.1 * (1.0 - flops as f64 / half as f64).max(0.0)).abs() < 1e-9, "{flops} {rate}");
    }
    let most = 6 * 7 + 3 * 7;
    let (run, seen) = budget(Budget { parameters: Some(most), ..Budget::default() }, rate);
    assert!(seen.rows.iter().all(|row| row.parameters as u64 <= most));
    assert_eq!((run.progress.step, run.progress.sites[0].width), (200, 7));
}

#[test]
fn the_spectrum_decides_where_neurons_go() {
    let named = POLICIES.iter().find(|named| named.name() == "spectrum").unwrap();
    let added = |threshold: f64| {
        let options =
            Options::from_iter([("threshold".to_string(), threshold.into()), ("times".to_string(), 1.into())]);
        let mut seen = Seen::default();
        train(named.with(&options).unwrap().0, GrowthBatch::Training, start(), &mut seen, None, None).unwrap();
        seen.receipts[0].sites.iter().map(|site| (site.site.clone(), site.added)).collect::<Vec<_>>()
    };
    let [largest, half, all] = [1.0, 0.5, 1e-9].map(added);
    assert_eq!(largest.iter().map(|(_, added)| added).sum::<usize>(), 1);
    let sum = |added: &[(String, usize)]| added.iter().map(|(_, added)| added).sum::<usize>();
    assert!(sum(&largest) < sum(&half) && sum(&half) < sum(&all), "{largest:?} {half:?} {all:?}");
    // As many as the smaller side of each operator has.
    assert_eq!(all, [("hidden1".to_string(), 4), ("hidden2".to_string(), 3)]);
}
