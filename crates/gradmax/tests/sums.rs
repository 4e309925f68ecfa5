//! Several machines, here threads, train and grow one network: all end with the same bits, and with what one ends with.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::Builder;

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::optim::SgdConfig;
use burn::tensor::Tensor;
use common::{Images, Keep, Seen, device, mlp, normal, weights};
use gradmax::event::{Grower, Receipt};
use gradmax::methods::{METHODS, Placement, SidePolicy};
use gradmax::modules::NormKind;
use gradmax::networks::{Architecture, ConvNetConfig, Stage, WideResNetConfig};
use gradmax::policies::POLICIES;
use gradmax::site::{Activation, Growable, Probe, Site};
use gradmax::training::{
    BatchStatistics, Examples, GrowthBatch, GrowthSettings, InMemory, OnFailure, Regression, Run, Settings, Target,
    Trainer,
};
use gradmax::{Options, Seed, Sums};
use serde_json::json;

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
        if std::thread::current().name() != Some(RANK) {
            BESIDE.fetch_add(1, Ordering::Relaxed);
        }
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

/// The name of a rank's own thread.
const RANK: &str = "rank";
/// Sums that were taken on other threads, while a pass went on.
static BESIDE: AtomicUsize = AtomicUsize::new(0);

/// Does the same on so many ranks.
fn on_ranks<T: Send + 'static>(size: usize, work: impl Fn(Rank) -> T + Copy + Send + 'static) -> Vec<T> {
    let spawn = |rank| Builder::new().name(RANK.into()).spawn(move || work(rank)).unwrap();
    let threads = Rank::all(size).into_iter().map(spawn).collect::<Vec<_>>();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
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

const GRADMAX: Case = Case {
    method: "gradmax",
    policy: "periodic",
    batch: GrowthBatch::Training,
    zero_side: SidePolicy::Incoming,
    memory: usize::MAX,
};

/// A run's end: the weights and running statistics, the final losses, the receipts.
type End = (Vec<u8>, f64, Vec<Receipt>);

impl Case {
    fn growth(self) -> GrowthSettings {
        let method = METHODS.iter().find(|named| named.name() == self.method).unwrap();
        let (_, mut options) = method.with(&Options::new()).unwrap();
        options.retain(|option, _| option == "steps");
        options.values_mut().for_each(|steps| *steps = 3.into());
        let placement = Placement { zero_side: self.zero_side, ..Placement::default() };
        let grower = Grower::boxed(method.with(&options).unwrap().0).with_placement(placement);
        let policy = POLICIES.iter().find(|named| named.name() == self.policy).unwrap();
        // So that each policy grows twice.
        let options = match self.policy {
            "marginal" => json!({ "every": 1, "tau": 0.0, "amount": { "count": 1 } }),
            "plateau" => json!({ "every": 2, "patience": 1, "threshold": 0.99, "times": 2 }),
            "target" => json!({ "start": 4, "every": 4 }),
            _ => json!({ "start": 4, "every": 4, "times": 2 }),
        };
        let options = options.as_object().unwrap().clone();
        GrowthSettings {
            policy: policy.with(&options).unwrap().0,
            grower: grower.with_evidence_memory(self.memory),
            batch: self.batch,
            on_failure: OnFailure::Stop,
        }
    }

    /// Trains as one of several ranks, or alone.
    fn train<N: Growable<Output = Tensor<2>>>(
        self,
        network: N,
        [data, test]: [&dyn Examples<Input = N::Input, Target = Tensor<2>>; 2],
        settings: &Settings,
        rank: Option<Rank>,
    ) -> End {
        let mut seen = Seen::default();
        let keep = Keep { seen: &mut seen, folder: None, stop: None };
        let settings = Settings { batch_size: Some(16), log_every: 1, evaluation_batch: 8, ..settings.clone() };
        let trainer = Trainer::new(settings, Regression, data).with_test(test).with_growth(self.growth());
        let trainer = match rank {
            Some(rank) => trainer.with_sums(Arc::new(rank)).with_observer(keep),
            None => trainer.with_observer(keep),
        };
        let outcome = trainer.train(Run::new(network, SgdConfig::new().init()));
        let outcome = outcome.unwrap_or_else(|error| panic!("{}: {error}", self.method));
        let summary = outcome.finished.unwrap();
        (weights(&outcome.run.network), summary.train.loss + summary.test.unwrap().loss, seen.receipts)
    }
}

/// A small network on plain features.
fn on_features(case: Case, rank: Option<Rank>) -> End {
    // Of 49 examples, the last batch has one: all machines but one have none.
    let inputs = normal([49, 6], 1);
    let targets = match case.policy {
        // Looks agree on what is no noise.
        "marginal" => inputs.clone().narrow(1, 0, 3).square(),
        _ => normal([49, 3], 2),
    };
    let data = InMemory::new(inputs, targets);
    let test = InMemory::new(normal([21, 6], 3), normal([21, 3], 4));
    let network = mlp(6, &[4, 3], 3, Activation::Tanh, true);
    case.train(network, [&data, &test], &Settings::new(12, 0.05), rank)
}

/// Methods that compare numbers which rounding can turn, or descend where it is enlarged: ranks agree to the bit, but
/// not with what one machine gets.
const TURNING: [&str; 4] = ["north", "splitting_steepest_descent", "signed_splitting_descent", "firefly_opt"];

fn check(case: Case, train: fn(Case, Option<Rank>) -> End) {
    let what = format!("{} {} {:?} {:?} {}", case.method, case.policy, case.batch, case.zero_side, case.memory);
    let (_, loss, receipts) = train(case, None);
    assert!(receipts.len() >= 2, "{what}");
    for size in [2, 4] {
        let ranks = on_ranks(size, move |rank| train(case, Some(rank)));
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

/// Every method of the registry but those that copy whole blocks, of which these networks have none.
fn methods() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|method| method.name()).filter(|name| !["stack", "interleave"].contains(name))
}

#[test]
fn every_method_grows_on_several_ranks_as_on_one() {
    for method in methods() {
        for zero_side in [SidePolicy::Incoming, SidePolicy::Outgoing] {
            check(Case { method, zero_side, ..GRADMAX }, on_features);
        }
    }
}

#[test]
fn growth_batches_of_their_own_are_shared_too() {
    // The last part of 25 examples has one.
    for batch in [GrowthBatch::Examples(25), GrowthBatch::All] {
        for memory in [usize::MAX, 0] {
            for method in ["gradmax", "tiny", "gradmax_rectified"] {
                check(Case { method, batch, memory, ..GRADMAX }, on_features);
            }
        }
    }
}

#[test]
fn policies_see_the_same_on_all_ranks() {
    for policy in POLICIES.iter().map(|policy| policy.name()) {
        check(Case { policy, ..GRADMAX }, on_features);
    }
}

fn images(count: usize, seed: u64) -> InMemory<Tensor<4>, Tensor<2>> {
    let images = Images::new(count, [3, 12, 12], 4, Seed::new(seed));
    let Target::Values(values) = images.target else { unreachable!("images have values") };
    InMemory::new(images.input, values)
}

/// A small residual network on images, whose batches end with 8 examples.
fn on_images(norm: NormKind, statistics: BatchStatistics, case: Case, rank: Option<Rank>) -> End {
    let (data, test) = (images(40, 1), images(10, 2));
    // Fewer incoming weights than examples and positions: else second moments have directions of rounding only.
    let (streams, inside) = (vec![4, 6, 8], vec![3; 3]);
    let config = WideResNetConfig { norm, streams, inside, classes: 4, ..WideResNetConfig::new(10, 1, 0.25) };
    let network = WideResNetConfig { input: [3, 12, 12], ..config }.init(Seed::new(3), &device()).unwrap();
    let settings = Settings { batch_norm: statistics, accumulate: 2, ..Settings::new(9, 0.02) };
    case.train(network, [&data, &test], &settings, rank)
}

#[test]
fn residual_networks_grow_by_every_method() {
    // Their convolutions have no biases.
    for method in methods().filter(|name| *name != "unit_bias") {
        check(Case { method, ..GRADMAX }, |case, rank| {
            on_images(NormKind::Group(1), BatchStatistics::Local, case, rank)
        });
    }
}

#[test]
fn batch_norm_over_all_ranks_is_that_of_one() {
    for method in ["gradmax", "tiny"] {
        for batch in [GrowthBatch::Training, GrowthBatch::Examples(20)] {
            check(Case { method, batch, ..GRADMAX }, |case, rank| {
                on_images(NormKind::Batch, BatchStatistics::Synchronised, case, rank)
            });
        }
    }
}

#[test]
fn batch_norm_of_each_rank_keeps_the_same_running_statistics() {
    let train = |rank| on_images(NormKind::Batch, BatchStatistics::Local, GRADMAX, rank);
    let alone = train(None);
    let ends = on_ranks(2, move |rank| train(Some(rank)));
    assert!(ends[0].0 == ends[1].0 && ends[0].1 == ends[1].1, "ranks differ");
    assert!(ends[0].0 != alone.0, "statistics are those of half a batch");
}

#[test]
fn neurons_are_dropped_as_on_one_rank() {
    let train = |rank: Option<Rank>| {
        let stages = vec![
            Stage::conv3x3(4, 1),
            Stage::Activation { function: Activation::Tanh },
            Stage::Dropout { rate: 0.5 },
            Stage::Flatten,
            Stage::Dense { units: 4, bias: true },
        ];
        let network = ConvNetConfig { input: [3, 12, 12], stages }.init(Seed::new(3), &device()).unwrap();
        let data = images(48, 1);
        GRADMAX.train(network, [&data, &data], &Settings::new(12, 0.01), rank).1
    };
    let alone = train(None);
    for loss in on_ranks(4, move |rank| train(Some(rank))) {
        assert!((loss - alone).abs() < 1e-5 * alone, "{loss} {alone}");
    }
}

#[test]
fn gradients_of_large_networks_are_summed_while_the_backward_pass_goes_on() {
    let before = BESIDE.load(Ordering::Relaxed);
    check(GRADMAX, |case, rank| {
        let data = InMemory::new(normal([49, 30], 1), normal([49, 3], 2));
        let network = mlp(30, &[600, 600], 3, Activation::Tanh, true);
        case.train(network, [&data, &data], &Settings { overlap: true, ..Settings::new(9, 0.01) }, rank)
    });
    // On 2 and 4 ranks, 9 steps less the 2 that grow, two rows each; other tests add theirs.
    assert!(BESIDE.load(Ordering::Relaxed) - before >= (2 + 4) * 7 * 2);
}

/// Two layers whose weights Burn's operations read too, after those that show gradients early.
#[derive(Module, Debug)]
struct Twice {
    first: Linear,
    last: Linear,
}

impl Growable for Twice {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        Vec::new()
    }

    fn forward_probed(&self, input: Tensor<2>, _probe: &mut dyn Probe) -> Tensor<2> {
        let twice = |layer: &Linear, input: Tensor<2>| {
            flexconv::linear(input.clone(), layer.weight.val(), None) + input.matmul(layer.weight.val())
        };
        twice(&self.last, Activation::Tanh.apply(twice(&self.first, input)))
    }
}

#[test]
fn gradients_that_were_sent_too_early_are_sent_again() {
    let train = |rank: Option<Rank>| {
        let data = InMemory::new(normal([48, 500], 1), normal([48, 600], 2));
        let settings = Settings { batch_size: Some(16), overlap: true, ..Settings::new(6, 0.02) };
        let trainer = Trainer::new(settings, Regression, &data);
        let trainer = match rank {
            Some(rank) => trainer.with_sums(Arc::new(rank)),
            None => trainer,
        };
        let layer = |inputs: usize| {
            let weights = normal([inputs, 600], inputs as u64).div_scalar(30.0);
            Linear { weight: Param::from_tensor(weights.autodiff()), bias: None }
        };
        let network = Twice { first: layer(500), last: layer(600) };
        let outcome = trainer.train(Run::new(network, SgdConfig::new().init())).unwrap();
        outcome.finished.unwrap().train.loss
    };
    let alone = train(None);
    for loss in on_ranks(2, move |rank| train(Some(rank))) {
        assert!((loss - alone).abs() < 1e-5 * alone, "{loss} {alone}");
    }
}

#[test]
fn statistics_over_ranks_that_have_no_examples_are_refused() {
    let refused = on_ranks(2, |rank| {
        let data = InMemory::new(normal([17, 6], 1), normal([17, 3], 2));
        let (batch_size, batch_norm) = (Some(16), BatchStatistics::Synchronised);
        let settings = Settings { batch_size, batch_norm, ..Settings::new(4, 0.05) };
        let trainer = Trainer::new(settings, Regression, &data).with_sums(Arc::new(rank));
        let run = Run::new(mlp(6, &[4], 3, Activation::Tanh, true), SgdConfig::new().init());
        trainer.train(run).err().unwrap().to_string()
    });
    assert!(refused.iter().all(|error| error.contains("fewer examples than there are machines")), "{refused:?}");
}
