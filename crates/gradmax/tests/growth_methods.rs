//! What each way of initialising promises beyond growing: optimality, equivalences, orthogonality, and what it never
//! does.

mod common;

use burn::module::Module;
use burn::optim::SgdConfig;
use burn::tensor::{Tensor, TensorData};
use common::{Batch, device, everywhere, mlp, normal, values};
use faer::Mat;
use gradmax::event::{Grower, Growth};
use gradmax::methods::SidePolicy;
use gradmax::methods::{
    Firefly, FireflyOpt, GradMax, GradMaxOpt, GrowthMethod, Need, Nest, Net2Wider, North, Placement, Random,
    RandomPositive, Request, Scale, SplittingSteepestDescent, Tiny, UnitBias, VarianceTransfer,
};
use gradmax::networks::Mlp;
use gradmax::site::{Activation, EntriesOf, Growable, Site};
use gradmax::surgery::NewNeurons;
use gradmax::training::Target;
use gradmax::{Error, Seed};

fn unit(zero_side: SidePolicy) -> Placement {
    Placement { zero_side, scale: Scale::Fixed, factor: 1.0, ..Placement::default() }
}

fn grown(network: &Mlp, batch: &Batch, grower: &Grower, count: usize) -> Growth<Mlp> {
    let plan = everywhere(network, count);
    grower.grow(network, &SgdConfig::new().init(), &plan, |n, probe| batch.pass(n, probe)).unwrap()
}

/// The gradient norm that new neurons of norm 1 receive at their zero side.
fn received(network: &Mlp, batch: &Batch, grower: Grower, zero_side: SidePolicy, count: usize) -> f64 {
    let growth = grown(network, batch, &grower.with_placement(unit(zero_side)), count);
    let site = &growth.receipt.sites[0];
    match zero_side {
        SidePolicy::Outgoing => site.outgoing_gradient_norm.unwrap(),
        _ => site.gradient_norm.unwrap(),
    }
}

/// The weight of the dense layer that computes the neurons, `[inputs, outputs]`.
fn incoming(site: &Site) -> Mat<f64> {
    matrix(site.producer().incoming(EntriesOf::Values).unwrap().transpose())
}

/// The weight of the dense layer that reads the neurons, `[inputs, outputs]`.
fn outgoing(site: &Site) -> Mat<f64> {
    matrix(site.paths[0].consumer.outgoing(EntriesOf::Values).unwrap())
}

fn matrix(tensor: Tensor<2>) -> Mat<f64> {
    let [rows, columns] = tensor.dims();
    let entries = values(tensor);
    Mat::from_fn(rows, columns, |i, j| f64::from(entries[i * columns + j]))
}

fn site(network: &Mlp) -> Site {
    network.sites().into_iter().next().unwrap()
}

/// Random outgoing directions, orthonormal.
struct Orthonormal;

impl GrowthMethod for Orthonormal {
    fn name(&self) -> &str {
        "orthonormal"
    }
    fn needs(&self) -> &'static [Need] {
        &[]
    }
    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        use rand::RngExt;
        let rows = request.draw(|rng| rng.random_range(-1.0..1.0));
        request.place(rows.transpose().to_owned().qr().compute_thin_Q().transpose())
    }
}

#[test]
fn no_orthogonal_neurons_of_equal_norm_receive_more_than_gradmax_gives() {
    let (network, batch) = (mlp(12, &[6], 8, Activation::Relu, false), Batch::new(60, 12, 8));
    let norm = |grower: Grower, count| received(&network, &batch, grower, SidePolicy::Incoming, count);
    for count in [1, 3, 8] {
        let best = norm(Grower::new(GradMax::default()), count) * (1.0 + 1e-6);
        for seed in 0..30 {
            assert!(norm(Grower::new(Orthonormal).with_seed(Seed::new(seed)), count) <= best);
        }
        assert!(norm(Grower::new(GradMaxOpt::default()), count) <= best);
        assert!(norm(Grower::new(Tiny::default()), count) <= best);
    }
    // Alone, any neuron is orthogonal to the others.
    let best = norm(Grower::new(GradMax::default()), 1) * (1.0 + 1e-6);
    let others: [Box<dyn GrowthMethod>; 4] = [
        Box::new(Random {}),
        Box::new(RandomPositive {}),
        Box::new(GradMaxOpt::authors()),
        Box::new(gradmax::methods::GradMaxRectified {}),
    ];
    others.into_iter().for_each(|other| assert!(norm(Grower::boxed(other), 1) <= best));
}

#[test]
fn gradmax_opt_converges_and_the_authors_settings_hardly_move() {
    let (mut started, mut moved) = (0.0, 0.0);
    for seed in 0..10 {
        let network = gradmax::networks::MlpConfig {
            bias: false,
            ..gradmax::networks::MlpConfig::new(20, &[5], 10, Activation::Relu)
        };
        let network = gradmax::networks::Architecture::init(&network, Seed::new(seed), &device()).unwrap();
        let batch = Batch::new(100, 20, 10);
        let norm = |method: Box<dyn GrowthMethod>| {
            let grower = Grower::boxed(method).with_seed(Seed::new(seed));
            received(&network, &batch, grower, SidePolicy::Incoming, 1)
        };
        let best = norm(Box::<GradMax>::default());
        assert!(norm(Box::<GradMaxOpt>::default()) >= 0.999 * best);
        started += norm(Box::new(Random {})) / best / 10.0;
        moved += norm(Box::new(GradMaxOpt::authors())) / best / 10.0;
    }
    println!("share of the optimum: {started:.3} at the start, {moved:.3} after the authors' steps");
    assert!(moved > started && moved < started + 0.15 && moved < 0.8);
}

#[test]
fn gradmax_opt_finds_incoming_directions_too() {
    let batch = Batch::new(60, 7, 9);
    let norm = |network: &Mlp, method: Box<dyn GrowthMethod>, seed: u64| {
        received(network, &batch, Grower::boxed(method).with_seed(Seed::new(seed)), SidePolicy::Outgoing, 1)
    };
    // In a linear network the right singular directions are the optimum.
    let linear = mlp(7, &[4], 9, Activation::Identity, false);
    let best = norm(&linear, Box::<GradMax>::default(), 0);
    assert!(norm(&linear, Box::<GradMaxOpt>::default(), 0) >= 0.999 * best);
    // Under a rectifier, nothing random comes near.
    let rectified = mlp(7, &[4], 9, Activation::Relu, false);
    let found = norm(&rectified, Box::<GradMaxOpt>::default(), 0);
    assert!((0..30).all(|seed| norm(&rectified, Box::new(Random {}), seed) < found));
}

#[test]
fn tiny_is_gradmax_where_inputs_are_white() {
    // Inputs with orthonormal columns: their second moments are the identity.
    let drawn = values(normal([40, 6], 3));
    let drawn = Mat::from_fn(40, 6, |i, j| f64::from(drawn[i * 6 + j]));
    let white = drawn.qr().compute_thin_Q();
    let entries = (0..40 * 6).map(|index| white[(index / 6, index % 6)] as f32).collect::<Vec<_>>();
    let input = Tensor::<2>::from_data(TensorData::new(entries, [40, 6]), &device().inner());
    let batch = Batch { input, target: Target::Values(normal([40, 5], 2)) };
    let network = mlp(6, &[4], 5, Activation::Tanh, false);
    for zero_side in [SidePolicy::Incoming, SidePolicy::Outgoing] {
        let weights = |method: Box<dyn GrowthMethod>| {
            let grower = Grower::boxed(method).with_placement(unit(zero_side));
            let site = site(&grown(&network, &batch, &grower, 3).network);
            match zero_side {
                SidePolicy::Outgoing => incoming(&site).subcols(4, 3).transpose().to_owned(),
                _ => outgoing(&site).subrows(4, 3).to_owned(),
            }
        };
        let tiny = weights(Box::new(Tiny { project: false }));
        assert!((tiny - weights(Box::<GradMax>::default())).norm_max() <= 1e-4, "{zero_side:?}");
    }
}

#[test]
fn tiny_leaves_to_existing_weights_what_they_can_do() {
    // What the existing neurons can make by other outgoing weights does not count, however large it is.
    let network = mlp(6, &[4], 5, Activation::Tanh, false);
    let input = normal([40, 6], 3);
    let weight = site(&network).producer().incoming(EntriesOf::Values).unwrap().transpose();
    let hidden = input.clone().matmul(weight).tanh();
    let reachable = hidden.matmul(normal([4, 5], 8)).mul_scalar(3.0);
    let beyond = normal([40, 5], 2);
    let batch = |target: Tensor<2>| Batch { input: input.clone(), target: Target::Values(target) };
    let (alone, both) = (batch(beyond.clone()), batch(beyond + reachable));
    let difference = |method: fn() -> Box<dyn GrowthMethod>| {
        let chosen = |batch: &Batch| {
            let grown = grown(&network, batch, &Grower::boxed(method()), 1).network;
            outgoing(&site(&grown)).subrows(4, 1).to_owned()
        };
        let (alone, both) = (chosen(&alone), chosen(&both));
        (&alone - &both).norm_l2() / alone.norm_l2()
    };
    let tiny = difference(|| Box::<Tiny>::default());
    assert!(tiny < 1e-3, "{tiny}");
    assert!(difference(|| Box::<GradMax>::default()) > 0.1);
}

#[test]
fn firefly_opt_never_ends_above_its_start() {
    let (network, batch) = (mlp(6, &[5], 4, Activation::Relu, true), Batch::new(50, 6, 4));
    for (seed, learning_rate) in [(1, 1e-3), (2, 1e-2), (3, 1.0), (4, 100.0)] {
        let loss = |steps: usize| {
            let firefly = FireflyOpt { steps, learning_rate, epsilon: 0.05 };
            let grower = Grower::new(firefly).with_seed(Seed::new(seed));
            grown(&network, &batch, &grower, 2).receipt.loss_after.unwrap()
        };
        let (start, end) = (loss(0), loss(100));
        assert!(end <= start * (1.0 + 1e-6), "{learning_rate}: from {start} to {end}");
        assert!(learning_rate > 0.1 || end < start, "{learning_rate}: from {start} to {end}");
    }
}

#[test]
fn candidates_of_firefly_lower_the_loss() {
    let (network, batch) = (mlp(6, &[5], 4, Activation::Tanh, true), Batch::new(50, 6, 4));
    for seed in 0..5 {
        let grower = Grower::new(Firefly::default()).with_seed(Seed::new(seed));
        let receipt = grown(&network, &batch, &grower, 2).receipt;
        assert!(receipt.loss_after.unwrap() < receipt.loss_before, "{receipt:?}");
        assert!(receipt.output_change.unwrap() < 0.2, "{receipt:?}");
    }
}

#[test]
fn splitting_without_noise_changes_nothing_at_any_depth() {
    for activation in [Activation::Relu, Activation::Sigmoid, Activation::Gelu] {
        let network = mlp(6, &[3, 4, 5], 4, activation, true);
        let batch = Batch::new(50, 6, 4);
        for count in [1, 9] {
            let receipt = grown(&network, &batch, &Grower::new(Net2Wider { noise: 0.0 }), count).receipt;
            assert!(receipt.output_change.unwrap() <= 1e-6, "{activation:?} {count}");
            assert!(receipt.tolerance.is_some());
        }
        let receipt = grown(&network, &batch, &Grower::new(Net2Wider::default()), 2).receipt;
        assert!(receipt.tolerance.is_none() && receipt.output_change.unwrap() > 0.0);
    }
}

/// A network at which gradient descent has come to rest.
fn at_rest(activation: Activation) -> (Mlp, Batch) {
    // The target is what a wider network computes.
    let teacher = mlp(4, &[6], 3, activation, false);
    let input = normal([60, 4], 1);
    let target = teacher.valid().forward(input.clone()).mul_scalar(3.0);
    let batch = Batch { input, target: Target::Values(target) };
    let mut optimizer = SgdConfig::new().init();
    let network = mlp(4, &[2], 3, activation, false);
    (0..4000).fold((network, batch), |(network, batch), _| (batch.step(network, &mut optimizer, 0.2), batch))
}

#[test]
fn steepest_splits_lower_the_loss_at_rest_where_random_ones_do_not() {
    let (network, batch) = at_rest(Activation::Tanh);
    let change = |method: Box<dyn GrowthMethod>, seed: u64| {
        let grower = Grower::boxed(method).with_seed(Seed::new(seed));
        let receipt = grown(&network, &batch, &grower, 1).receipt;
        receipt.loss_after.unwrap() - receipt.loss_before
    };
    let epsilon = 0.1;
    let split = SplittingSteepestDescent { epsilon, distance: 1e-2, ..SplittingSteepestDescent::default() };
    let steepest = change(Box::new(split), 0);
    let signed = change(Box::new(SplittingSteepestDescent { signed: true, ..split }), 0);
    let random = (0..20).map(|seed| change(Box::new(Net2Wider { noise: epsilon }), seed)).fold(f64::INFINITY, f64::min);
    println!("steepest {steepest} signed {signed} random {random}");
    assert!(steepest < 0.0 && steepest <= random, "{steepest} {random}");
    assert!(signed < 0.0, "{signed}");
}

#[test]
fn neurons_of_north_respond_to_what_the_others_do_not() {
    let (network, batch) = (mlp(9, &[4], 3, Activation::Relu, false), Batch::new(80, 9, 3));
    let growth = grown(&network, &batch, &Grower::new(North {}), 3);
    let input = values(batch.input.clone());
    let input = Mat::from_fn(80, 9, |i, j| f64::from(input[i * 9 + j]));
    let responses = input * incoming(&site(&growth.network));
    for new in 4..7 {
        for other in (0..7).filter(|other| *other != new) {
            let cosine = responses.col(new).transpose() * responses.col(other)
                / (responses.col(new).norm_l2() * responses.col(other).norm_l2());
            assert!(cosine.abs() < 0.02, "{new} {other}: {cosine}");
        }
    }
    assert_eq!(growth.receipt.output_change, Some(0.0));
}

#[test]
fn north_goes_on_where_the_others_respond_to_everything() {
    let (network, batch) = (mlp(3, &[8], 3, Activation::Relu, false), Batch::new(80, 3, 3));
    let growth = grown(&network, &batch, &Grower::new(North {}), 4);
    let new = incoming(&site(&growth.network)).subcols(8, 4).to_owned();
    assert!((0..4).all(|j| new.col(j).norm_l2() > 0.0 && new.col(j).norm_l2().is_finite()));
}

#[test]
fn variance_transfer_makes_room_for_the_new_neurons() {
    let (network, batch) = (mlp(6, &[8], 4, Activation::Relu, false), Batch::new(50, 6, 4));
    let growth = grown(&network, &batch, &Grower::new(VarianceTransfer {}), 8);
    let [before, after] = [&network, &growth.network].map(|network| outgoing(&site(network)));
    let kept = after.subrows(0, 8) - before * faer::Scale(0.5_f64.sqrt());
    assert!(kept.norm_max() <= 1e-6);
    assert!(growth.receipt.tolerance.is_none() && growth.receipt.output_change.unwrap() > 1e-3);
}

#[test]
fn nest_wires_the_largest_gradients_so_that_they_lower_the_loss() {
    let (network, batch) = (mlp(6, &[5], 4, Activation::Identity, false), Batch::new(50, 6, 4));
    let placement = Placement { scale: Scale::Fixed, factor: 1e-2, ..Placement::default() };
    let grower = Grower::new(Nest { share: 1e-6 }).with_placement(placement);
    let growth = grown(&network, &batch, &grower, 1);
    let site = site(&growth.network);
    let wired = |entries: Vec<f64>| entries.iter().filter(|entry| **entry != 0.0).count();
    assert_eq!(wired(incoming(&site).col(5).iter().copied().collect()), 1);
    assert_eq!(wired(outgoing(&site).row(5).iter().copied().collect()), 1);
    assert!(growth.receipt.loss_after.unwrap() < growth.receipt.loss_before);
}

#[test]
fn neurons_with_a_unit_bias_are_read_first() {
    let (network, batch) = (mlp(6, &[5], 4, Activation::Sigmoid, true), Batch::new(50, 6, 4));
    let growth = grown(&network, &batch, &Grower::new(UnitBias {}), 2);
    let site = &growth.receipt.sites[0];
    assert_eq!(growth.receipt.output_change, Some(0.0));
    assert!(site.gradient_norm == Some(0.0) && site.outgoing_gradient_norm.unwrap() > 0.0);

    let without = mlp(6, &[5], 4, Activation::Relu, false);
    let refused =
        Grower::new(UnitBias {})
            .grow(&without, &SgdConfig::new().init(), &everywhere(&without, 2), |n, probe| batch.pass(n, probe));
    assert!(refused.err().unwrap().to_string().contains("biases"));
}

#[test]
fn options_that_make_no_sense_are_refused_before_training() {
    let network = mlp(6, &[5], 4, Activation::Relu, true);
    let wrong: [Box<dyn GrowthMethod>; 6] = [
        Box::new(Net2Wider { noise: -1.0 }),
        Box::new(Nest { share: 0.0 }),
        Box::new(FireflyOpt { learning_rate: f64::NAN, ..FireflyOpt::default() }),
        Box::new(Firefly { epsilon: 0.0, ..Firefly::default() }),
        Box::new(SplittingSteepestDescent { iterations: 0, ..SplittingSteepestDescent::default() }),
        Box::new(GradMaxOpt { ascent: gradmax::methods::Ascent::Adam { learning_rate: 0.0 }, ..GradMaxOpt::default() }),
    ];
    for method in wrong {
        let name = method.name().to_string();
        assert!(matches!(Grower::boxed(method).check(&network), Err(Error::BadOption { .. })), "{name}");
    }
}

#[test]
fn signed_splits_use_positive_curvature_where_it_is_the_stronger() {
    // Turning the sign of what is to be learnt turns the sign of all curvature: one of the two has the stronger
    // positive one.
    let network = mlp(4, &[3], 3, Activation::Tanh, false);
    let input = normal([60, 4], 1);
    let output = network.valid().forward(input.clone());
    let mut used = 0;
    for seed in 0..10 {
        for sign in [1.0, -1.0] {
            let target = output.clone() + normal([60, 3], 50 + seed).mul_scalar(sign);
            let batch = Batch { input: input.clone(), target: Target::Values(target) };
            let grown_by = |signed| {
                let split = SplittingSteepestDescent { signed, ..SplittingSteepestDescent::default() };
                outgoing(&site(&grown(&network, &batch, &Grower::new(split), 1).network))
            };
            used += usize::from((grown_by(true) - grown_by(false)).norm_max() > 0.0);
        }
    }
    assert!(used > 0 && used < 20, "{used}");
}
