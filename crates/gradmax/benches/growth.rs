//! What a growth event costs, part by part, in milliseconds and in training steps of the network before it.
//!
//! `cargo bench -p gradmax --bench growth` prints, for each case, medians over fresh runs: training steps until the
//! step time is settled, then one growth event of all sites. Timings are noisy; the ratio is what counts.

use std::cell::RefCell;
use std::rc::Rc;

use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, ModuleOptimizer, SgdConfig};
use burn::tensor::Device;
use gradmax::Seed;
use gradmax::event::{Grower, Receipt, Timing};
use gradmax::methods::{GradMax, GrowthMethod, Random};
use gradmax::networks::{Architecture, MlpConfig};
use gradmax::policies::{Amount, Order, Periodic};
use gradmax::site::Activation;
use gradmax::training::{
    GrowthBatch, GrowthSettings, InMemory, Observer, ObserverError, OnFailure, Run, Settings, Supervised, Trainer,
};
use rand::RngExt;

struct Case {
    name: &'static str,
    hidden: &'static [usize],
    inputs: usize,
    examples: usize,
    batch: Option<usize>,
    count: usize,
    method: fn() -> Box<dyn GrowthMethod>,
    optimizer: fn() -> ModuleOptimizer,
}

const REPEATS: usize = 20;

fn momentum() -> ModuleOptimizer {
    let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: true };
    SgdConfig::new().with_momentum(Some(momentum)).init()
}

fn adam() -> ModuleOptimizer {
    AdamConfig::new().init()
}

fn plain() -> ModuleOptimizer {
    SgdConfig::new().init()
}

fn gradmax() -> Box<dyn GrowthMethod> {
    Box::new(GradMax::default())
}

fn random() -> Box<dyn GrowthMethod> {
    Box::new(Random {})
}

fn main() {
    let mlp = |name, method, optimizer| Case {
        name,
        hidden: &[128, 128],
        inputs: 784,
        examples: 2048,
        batch: Some(128),
        count: 16,
        method,
        optimizer,
    };
    let cases = [
        mlp(
            "784:128:128:10 gradmax, sgd-momentum",
            gradmax as fn() -> Box<dyn GrowthMethod>,
            momentum as fn() -> ModuleOptimizer,
        ),
        mlp("784:128:128:10 gradmax, adam", gradmax, adam),
        mlp("784:128:128:10 random, sgd-momentum", random, momentum),
        Case {
            name: "20:5:10 gradmax, sgd, 1000 examples",
            hidden: &[5],
            inputs: 20,
            examples: 1000,
            batch: None,
            count: 1,
            method: gradmax,
            optimizer: plain,
        },
    ];
    println!(
        "{:<38} {:>6} {:>6} {:>6} {:>6} {:>7} {:>7} {:>7} {:>6}",
        "milliseconds, median of 20", "probe", "init", "widen", "carry", "verify", "growth", "step", "ratio"
    );
    // `cargo bench --bench growth -- 20:5` runs the cases with that in their name.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for case in cases.into_iter().filter(|case| case.name.contains(&wanted)) {
        let timings = (0..REPEATS).map(|repeat| timing(&case, repeat as u64)).collect::<Vec<_>>();
        let median = |of: fn(&Timing) -> f64| {
            let mut values = timings.iter().map(of).collect::<Vec<_>>();
            values.sort_by(f64::total_cmp);
            (values[(REPEATS - 1) / 2] + values[REPEATS / 2]) / 2.0
        };
        println!(
            "{:<38} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>7.3} {:>7.3} {:>7.3} {:>6.2}",
            case.name,
            median(|t| t.probe),
            median(|t| t.initialize),
            median(|t| t.widen),
            median(|t| t.carry),
            median(|t| t.verify),
            median(|t| t.growth),
            median(|t| t.training_step.unwrap_or(f64::NAN)),
            median(|t| t.growth_in_steps.unwrap_or(f64::NAN)),
        );
    }
}

fn timing(case: &Case, repeat: u64) -> Timing {
    let device = Device::flex().autodiff();
    let seed = Seed::new(repeat);
    let mut rng = seed.fold("data").rng();
    let pixels = (0..case.examples * case.inputs).map(|_| rng.random::<f32>()).collect();
    let classes = (0..case.examples).map(|_| rng.random_range(0..10)).collect::<Vec<u8>>();
    let data = InMemory::classes(pixels, &classes, &device.clone().inner());
    let config = MlpConfig::new(case.inputs, case.hidden, 10, Activation::Relu);
    let grow_at = 120;
    let settings = Settings { batch_size: case.batch, log_every: 1000, seed, ..Settings::new(grow_at + 1, 0.01) };
    let schedule = Periodic {
        start: grow_at,
        every: grow_at,
        times: 1,
        order: Order::AllAtOnce,
        amount: Amount::Count(case.count),
        stretch: 1.0,
    };
    let policy = GrowthSettings {
        policy: Box::new(schedule),
        grower: Grower::boxed((case.method)()),
        batch: GrowthBatch::Training,
        on_failure: OnFailure::Stop,
    };
    let seen = Rc::new(RefCell::new(None));
    let run = Run::new(config.init(seed, &device).expect("the network has neurons"), (case.optimizer)());
    Trainer::new(settings, Supervised::Classification, &data)
        .with_growth(policy)
        .with_observer(Keep(seen.clone()))
        .train(run)
        .unwrap_or_else(|error| panic!("{}: {error}", case.name));
    seen.take().expect("the network grew once")
}

/// Keeps the timing of the growth event.
struct Keep(Rc<RefCell<Option<Timing>>>);

impl<N> Observer<N> for Keep {
    fn grown(&mut self, receipt: &Receipt) -> Result<(), ObserverError> {
        self.0.replace(Some(receipt.timing));
        Ok(())
    }
}
