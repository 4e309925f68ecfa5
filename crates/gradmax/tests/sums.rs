//! Several machines, here threads, train and grow one network: all end with the same bits, and with what one ends with.

mod common;

use std::sync::{Arc, Barrier, Mutex};

use burn::optim::SgdConfig;
use common::{Keep, Seen, mlp, normal, weights};
use gradmax::event::{Grower, Receipt};
use gradmax::methods::{METHODS, Placement, SidePolicy};
use gradmax::networks::Mlp;
use gradmax::policies::POLICIES;
use gradmax::site::Activation;
use gradmax::training::{GrowthBatch, GrowthSettings, InMemory, OnFailure, Regression, Run, Settings, Trainer};
use gradmax::{Options, Sums};

/// What the ranks of a run give each other.
#[derive(Debug)]
struct Shared {
    parts: Mutex<Vec<Vec<f64>>>,
    barrier: Barrier,
}

/// One of several threads.
#[derive(Debug)]
struct Rank {
    number: usize,
    shared: Arc<Shared>,
}

impl Rank {
    fn all(size: usize) -> Vec<Self> {
        let (parts, barrier) = (Mutex::new(vec![Vec::new(); size]), Barrier::new(size));
        let shared = Arc::new(Shared { parts, barrier });
        (0..size).map(|number| Self { number, shared: shared.clone() }).collect()
    }

    /// Folds all ranks' values, in the order of ranks.
    fn fold(&self, values: &mut [f64], of: impl Fn(f64, f64) -> f64) {
        self.shared.parts.lock().unwrap()[self.number] = values.to_vec();
        self.shared.barrier.wait();
        for (at, value) in values.iter_mut().enumerate() {
            let parts = self.shared.parts.lock().unwrap();
            assert!(parts.iter().all(|part| part.len() == parts[0].len()), "ranks sum different things");
            *value = parts[1..].iter().fold(parts[0][at], |sum, part| of(sum, part[at]));
        }
        self.shared.barrier.wait();
    }
}

impl Sums for Rank {
    fn rank(&self) -> usize {
        self.number
    }

    fn size(&self) -> usize {
        self.shared.parts.lock().unwrap().len()
    }

    fn sum(&self, values: &mut [f64]) {
        self.fold(values, |a, b| a + b);
    }

    fn largest(&self, values: &mut [f64]) {
        self.fold(values, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) });
    }

    fn barrier(&self) {
        self.shared.barrier.wait();
    }
}

/// What a run is: a growth method, a policy, a growth batch.
#[derive(Clone, Copy)]
struct Case {
    method: &'static str,
    policy: &'static str,
    batch: GrowthBatch,
    zero_side: SidePolicy,
    memory: usize,
}

/// Trains as one of several ranks, or alone: the weights, the final losses, the receipts.
fn train(case: Case, rank: Option<Rank>) -> (Vec<u8>, f64, Vec<Receipt>) {
    let (inputs, targets) = (normal([48, 6], 1), normal([48, 3], 2));
    let (data, test) = (InMemory::new(inputs, targets), InMemory::new(normal([21, 6], 3), normal([21, 3], 4)));
    let method = METHODS.iter().find(|named| named.name() == case.method).unwrap();
    let (_, mut options) = method.with(&Options::new()).unwrap();
    options.retain(|option, _| option == "steps");
    options.values_mut().for_each(|steps| *steps = 3.into());
    let placement = Placement { zero_side: case.zero_side, ..Placement::default() };
    let grower = Grower::boxed(method.with(&options).unwrap().0).with_placement(placement);
    let policy = POLICIES.iter().find(|named| named.name() == case.policy).unwrap();
    let options = [("start", 4), ("every", 4), ("times", 2)].map(|(key, value)| (key.to_string(), value.into()));
    let growth = GrowthSettings {
        policy: policy.with(&options.into_iter().collect()).unwrap().0,
        grower: grower.with_evidence_memory(case.memory),
        batch: case.batch,
        on_failure: OnFailure::Stop,
    };
    let settings = Settings { batch_size: Some(16), log_every: 1, evaluation_batch: 8, ..Settings::new(12, 0.05) };
    let mut seen = Seen::default();
    let keep = Keep { seen: &mut seen, folder: None, stop: None };
    let trainer = Trainer::new(settings, Regression, &data).with_test(&test).with_growth(growth).with_observer(keep);
    let trainer = match rank {
        Some(rank) => trainer.with_sums(Arc::new(rank)),
        None => trainer,
    };
    let run: Run<Mlp> = Run::new(mlp(6, &[4, 3], 3, Activation::Tanh, true), SgdConfig::new().init());
    let outcome = trainer.train(run).unwrap_or_else(|error| panic!("{}: {error}", case.method));
    let summary = outcome.finished.unwrap();
    (weights(&outcome.run.network), summary.train.loss + summary.test.unwrap().loss, seen.receipts)
}

/// Methods that compare numbers which rounding can turn, or descend where it is enlarged: ranks agree to the bit, but
/// not with what one machine gets.
const TURNING: [&str; 4] = ["north", "splitting_steepest_descent", "signed_splitting_descent", "firefly_opt"];

fn check(case: Case) {
    let what = format!("{} {} {:?} {:?} {}", case.method, case.policy, case.batch, case.zero_side, case.memory);
    let (_, loss, receipts) = train(case, None);
    assert_eq!(receipts.len(), 2, "{what}");
    for size in [2, 4] {
        let threads = Rank::all(size).into_iter().map(|rank| std::thread::spawn(move || train(case, Some(rank))));
        let ranks = threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>();
        assert!(ranks.iter().all(|rank| rank.0 == ranks[0].0 && rank.1 == ranks[0].1), "{what}: ranks differ");
        for rank in ranks.iter().filter(|_| !TURNING.contains(&case.method)) {
            assert!((rank.1 - loss).abs() <= 1e-5 * loss, "{what}: {} on {size} ranks, {loss} alone", rank.1);
            for (mine, alone) in rank.2.iter().zip(&receipts) {
                for (mine, alone) in mine.sites.iter().zip(&alone.sites) {
                    let norms = [mine.predicted_gradient_norm, alone.predicted_gradient_norm];
                    let near = |a: f64, b: f64| (a - b).abs() <= 1e-3 * a.max(b).max(1e-6);
                    assert!(near(norms[0], norms[1]), "{what}: {norms:?} on {size} ranks");
                    assert_eq!((mine.width, &mine.site), (alone.width, &alone.site), "{what}");
                }
            }
        }
    }
}

#[test]
fn every_method_grows_on_several_ranks_as_on_one() {
    for method in METHODS.iter().map(|method| method.name()) {
        for zero_side in [SidePolicy::Incoming, SidePolicy::Outgoing] {
            check(Case { method, policy: "periodic", batch: GrowthBatch::Training, zero_side, memory: usize::MAX });
        }
    }
}

#[test]
fn growth_batches_of_their_own_are_shared_too() {
    for batch in [GrowthBatch::Examples(30), GrowthBatch::All] {
        for memory in [usize::MAX, 0] {
            for method in ["gradmax", "tiny", "gradmax_rectified"] {
                check(Case { method, policy: "periodic", batch, zero_side: SidePolicy::Incoming, memory });
            }
        }
    }
}

#[test]
fn policies_see_the_same_on_all_ranks() {
    for policy in POLICIES.iter().map(|policy| policy.name()) {
        let (batch, zero_side) = (GrowthBatch::Training, SidePolicy::Incoming);
        check(Case { method: "gradmax", policy, batch, zero_side, memory: usize::MAX });
    }
}
