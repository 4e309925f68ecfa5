//! Growth batches of any size: evidence that is not kept is seen again, in bounded memory, and gives the same neurons.

mod common;

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::optim::SgdConfig;
use burn::tensor::Tensor;
use common::{Batch, Images, device, mlp};
use gradmax::event::{EventContext, Grower, Look, Part, Pass, Planned};
use gradmax::methods::SidePolicy;
use gradmax::methods::{
    Firefly, GradMax, GradMaxOpt, GradMaxRectified, GrowthMethod, Need, Nest, North, Placement, Random, Request, Scale,
    Sign, SplittingSteepestDescent, Tiny,
};
use gradmax::modules::NormKind;
use gradmax::networks::{Architecture, ConvNetConfig, Mlp, Stage};
use gradmax::policies::Periodic;
use gradmax::site::{Activation, Growable, Probe, Side};
use gradmax::surgery::NewNeurons;
use gradmax::training::{
    Examples, GrowthBatch, GrowthSettings, InMemory, OnFailure, Run, Settings, Supervised, Target, Task, Trainer,
};
use gradmax::{Error, Seed};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory is that of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

type Make = fn() -> Box<dyn GrowthMethod>;

/// Methods that look at evidence in every way that there is.
const METHODS: [(&str, Make); 12] = [
    ("random", || Box::new(Random {})),
    ("gradmax", || Box::<GradMax>::default()),
    ("gradmax_one_sided", || Box::new(GradMax { sign: Sign::OneSided, ..GradMax::default() })),
    ("gradmax_rectified", || Box::new(GradMaxRectified {})),
    ("gradmax_opt", || Box::new(GradMaxOpt { steps: 5, ..GradMaxOpt::default() })),
    ("tiny", || Box::<Tiny>::default()),
    ("tiny without projection", || Box::new(Tiny { project: false })),
    ("north", || Box::new(North {})),
    ("nest", || Box::<Nest>::default()),
    ("firefly", || Box::new(Firefly { steps: 3, ..Firefly::default() })),
    ("splitting_steepest_descent", || Box::<SplittingSteepestDescent>::default()),
    ("least squares", || Box::new(LeastSquares)),
];

/// Grows as GradMax does where existing neurons cannot; and sees that they then really cannot.
#[derive(Debug)]
struct LeastSquares;

impl GrowthMethod for LeastSquares {
    fn name(&self) -> &str {
        "least_squares"
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Branch]
    }

    fn draws(&self) -> bool {
        false
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let (branch, existing) = (request.branch()?, request.existing().as_neurons());
        let [all, of_outgoing] = [branch.gradients(&existing)?.outgoing, branch.outgoing_gradients(&existing)?];
        assert!((&all - &of_outgoing).norm_l2() <= 1e-6 * all.norm_l2(), "both are the same gradient");
        let beyond = branch.beyond(&existing)?;
        let left = beyond.outgoing_gradients(&existing)?;
        assert!(left.norm_l2() <= 1e-2 * all.norm_l2(), "of {} {} is left", all.norm_l2(), left.norm_l2());
        let directions = beyond.operator(request.zero_side)?.directions(request.count)?;
        match request.zero_side {
            Side::Incoming => request.place(directions.vectors.transpose()),
            Side::Outgoing => request.place(directions.images.as_ref()),
        }
    }
}

/// A growth unit at every site.
fn units<N: Growable>(network: &N) -> Vec<Planned> {
    let planned = |site: gradmax::site::Site| Planned { site: site.name.clone(), count: 2 * site.blocks() };
    network.sites().into_iter().map(planned).collect()
}

/// The trained weights of a network, in single precision.
fn numbers<N: Growable>(network: &N) -> Vec<f32> {
    let bytes = common::weights(network);
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Grows with all evidence kept, and with none.
fn check<N: Growable>(what: &str, network: &N, parts: &[Part<'_, N>], placement: Placement) {
    for (name, make) in METHODS {
        let grow = |grower: Grower| {
            let grower = grower.with_placement(placement).with_seed(Seed::new(3));
            let (optimizer, plan) = (SgdConfig::new().init(), units(network));
            grower.grow_on(network, &optimizer, &plan, parts, EventContext::default())
        };
        let (kept, again) = (grow(Grower::boxed(make())), grow(Grower::boxed(make()).with_evidence_memory(0)));
        let (kept, again) = match (kept, again) {
            (Ok(kept), Ok(again)) => (kept, again),
            // A method that cannot take a placement cannot take it either way.
            (Err(kept), Err(again)) => {
                assert_eq!(kept.to_string(), again.to_string(), "{what} {name}");
                continue;
            }
            (kept, again) => panic!("{what} {name}: {:?}, {:?}", kept.err(), again.err()),
        };
        let (kept_weights, again_weights) = (numbers(&kept.network), numbers(&again.network));
        let largest = kept_weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
        let differences = kept_weights.iter().zip(&again_weights).map(|(kept, again)| (kept - again).abs());
        let difference = differences.fold(0.0_f32, f32::max);
        assert!(difference <= 2e-3 * largest, "{what} {name}: weights of {largest} differ by {difference}");
        for (kept, again) in kept.receipt.sites.iter().zip(&again.receipt.sites) {
            let (kept, again) = (kept.predicted_gradient_norm, again.predicted_gradient_norm);
            assert!((kept - again).abs() <= 1e-3 * kept, "{what} {name}: {kept} and {again}");
        }
    }
}

#[test]
fn evidence_that_is_seen_again_gives_every_method_the_same_neurons() {
    let _alone = alone();
    // More examples than features that a layer reads, or the existing neurons could do all and leave rounding.
    let batches = (0..3).map(|seed| Batch {
        input: common::normal([40, 70], 10 + seed),
        target: Target::Values(common::normal([40, 66], 20 + seed)),
    });
    let batches = batches.collect::<Vec<_>>();
    let network = mlp(70, &[8, 68], 66, Activation::Tanh, true);
    let parts = batches.iter().map(|batch| Part {
        weight: 1.0 / 3.0,
        pass: Box::new(|network: &Mlp, probe: &mut dyn Probe| Ok(batch.pass(network, probe))),
    });
    let parts = parts.collect::<Vec<_>>();
    for zero_side in [SidePolicy::Incoming, SidePolicy::Outgoing] {
        for scale in [Scale::Mean, Scale::Joint] {
            check("mlp", &network, &parts, Placement { zero_side, scale, ..Placement::default() });
        }
    }

    let grouped = |channels, groups| Stage::Conv {
        channels,
        kernel: 3,
        stride: 1,
        padding: None,
        dilation: 1,
        groups,
        bias: false,
    };
    let stages = vec![
        grouped(4, 1),
        Stage::Norm { norm: NormKind::Batch },
        Stage::Activation { function: Activation::Gelu },
        grouped(6, 2),
        Stage::Activation { function: Activation::Tanh },
        Stage::Depthwise { kernel: 3, stride: 1 },
        Stage::conv1x1(5, 1),
        Stage::MaxPool { size: 2 },
        Stage::Flatten,
        Stage::Dense { units: 4, bias: true },
    ];
    let network = ConvNetConfig { input: [2, 6, 6], stages }.init(Seed::new(1), &device()).unwrap();
    let images = (0..3).map(|seed| Images::new(30, [2, 6, 6], 4, Seed::new(seed))).collect::<Vec<_>>();
    let parts = images.iter().map(|images| Part {
        weight: 1.0 / 3.0,
        pass: Box::new(|network: &_, probe: &mut dyn Probe| Ok(images.pass(network, probe))),
    });
    check("conv_net", &network, &parts.collect::<Vec<_>>(), Placement::default());
}

/// Parts whose examples are made when they are asked for.
fn made(count: usize) -> Vec<Part<'static, Mlp>> {
    let part = move |seed: usize| Part {
        weight: 1.0 / count as f64,
        pass: Box::new(move |network: &Mlp, probe: &mut dyn Probe| {
            let input = common::normal([2000, 200], seed as u64);
            let target = Target::Values(input.clone().narrow(1, 0, 10));
            let output = network.forward_probed(input, probe);
            Ok(Pass { loss: Supervised::Regression.loss(&output, &target), output })
        }),
    };
    (0..count).map(part).collect()
}

/// Megabytes in use at most during a growth event, beyond what was in use before.
fn peak(count: usize, grower: &Grower) -> f32 {
    let (network, optimizer, parts) =
        (mlp(200, &[20], 10, Activation::Relu, false), SgdConfig::new().init(), made(count));
    let plan = units(&network);
    let before = MEMORY.current_usage_as_mb();
    MEMORY.reset_peak_usage();
    grower.grow_on(&network, &optimizer, &plan, &parts, EventContext::default()).unwrap();
    MEMORY.peak_usage_as_mb() - before
}

#[test]
fn memory_does_not_grow_with_the_growth_batch() {
    let _alone = alone();
    for (name, make) in METHODS {
        let of = |count| peak(count, &Grower::boxed(make()).with_evidence_memory(4 << 20));
        let (few, many) = (of(4), of(32));
        println!("{name}: {few} MB, {many} MB");
        assert!(many < 1.25 * few + 2.0, "{name}: {few} MB for 4 parts, {many} MB for 32");
    }
    // What is kept does: the measurement sees it.
    let kept = |count| peak(count, &Grower::new(GradMax::default()));
    let (few, many) = (kept(4), kept(32));
    assert!(many > few + 28.0 * 1.6, "{few} MB for 4 parts, {many} MB for 32 of 1.6 MB of evidence");
}

/// Examples that can be read so many times.
struct Vanishing<'a> {
    data: &'a InMemory,
    left: Cell<usize>,
}

impl Examples for Vanishing<'_> {
    type Input = Tensor<2>;
    type Target = Target;

    fn count(&self) -> usize {
        self.data.count()
    }
    fn batch(&self, indices: &[usize]) -> Result<gradmax::training::Batch<Tensor<2>>, Error> {
        match self.left.get() {
            0 => Err(Error::Examples("the disk was taken away".into())),
            left => {
                self.left.set(left - 1);
                self.data.batch(indices)
            }
        }
    }
}

#[test]
fn examples_that_cannot_be_read_again_end_the_event_with_an_error() {
    let _alone = alone();
    let data = InMemory::new(common::normal([60, 5], 1), Target::Values(common::normal([60, 3], 2)));
    let network = || mlp(5, &[4], 3, Activation::Relu, false);
    for (name, make) in METHODS {
        let train = |reads: usize| {
            let examples = Vanishing { data: &data, left: Cell::new(reads) };
            let settings = Settings { batch_size: Some(20), evaluation_batch: 30, ..Settings::new(2, 0.1) };
            let (order, amount) = (gradmax::policies::Order::AllAtOnce, gradmax::policies::Amount::Count(2));
            let growth = GrowthSettings {
                policy: Box::new(Periodic { start: 1, every: 1, times: 1, order, amount, stretch: 1.0 }),
                grower: Grower::boxed(make()).with_evidence_memory(0),
                batch: GrowthBatch::All,
                // Passes over failures of growth; that examples cannot be read is none.
                on_failure: OnFailure::Skip,
            };
            let run = Run::new(network(), SgdConfig::new().init());
            let outcome = Trainer::new(settings, Supervised::Regression, &examples).with_growth(growth).train(run);
            outcome.map(|_| examples.left.get())
        };
        const PLENTY: usize = 100_000;
        let reads = PLENTY - train(PLENTY).unwrap();
        // Two training steps, a look of two parts, its verification and the evaluation leave some that were seen again.
        assert!(reads > 8, "{name}: {reads} reads");
        for reads in (0..reads).step_by(reads.div_ceil(8)).chain([reads - 1]) {
            match train(reads) {
                Err(Error::Examples(error)) => assert!(error.to_string().contains("taken away"), "{name}"),
                other => panic!("{name}, {reads} reads: {other:?}"),
            }
        }
    }
}

#[test]
fn looks_at_more_than_is_kept_give_the_operators_of_all_of_it() {
    let _alone = alone();
    let batches = (0..4).map(|seed| Batch {
        input: common::normal([15, 9], 10 + seed),
        target: Target::Values(common::normal([15, 7], 20 + seed)),
    });
    let batches = batches.collect::<Vec<_>>();
    let network = mlp(9, &[8, 6], 7, Activation::Relu, true);
    let parts = || {
        let parts = batches.iter().map(|batch| Part {
            weight: 0.25,
            pass: Box::new(|network: &Mlp, probe: &mut dyn Probe| Ok(batch.pass(network, probe))) as _,
        });
        parts.collect::<Vec<_>>()
    };
    let sites = ["hidden1", "hidden2"];
    let (kept, again) = (Look::of(&network, parts()).unwrap(), Look::keeping(&network, parts(), 0).unwrap());
    assert_eq!(kept.loss(), again.loss());
    let (kept, again) = (kept.operators(&sites).unwrap(), again.operators(&sites).unwrap());
    for (kept, again) in kept.iter().zip(&again) {
        let (kept, again) = (kept.directions(3).unwrap(), again.directions(3).unwrap());
        assert!((&kept.images - &again.images).norm_max() <= 1e-4 * kept.values[0]);
    }
}
