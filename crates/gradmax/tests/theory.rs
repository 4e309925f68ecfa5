//! What the paper proves, checked on small networks.

mod common;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::Tensor;
use common::{Batch, device, everywhere, mlp, normal, values};
use faer::Mat;
use gradmax::Seed;
use gradmax::event::{EventContext, Grower, Part};
use gradmax::methods::SidePolicy;
use gradmax::methods::{GradMax, GradMaxRectified, Placement, Random, RandomPositive, Scale, Sign};
use gradmax::networks::{Architecture, Mlp, MlpConfig};
use gradmax::operator::{GrowthOperator, LinearOperator, Solver, alignment, leading_directions_by};
use gradmax::site::{Activation, Growable, Probe, Recorder};
use gradmax::training::Target;

const GROWABLE: [Activation; 6] =
    [Activation::Relu, Activation::LeakyRelu, Activation::Tanh, Activation::Gelu, Activation::Silu, Activation::Elu];

#[test]
fn new_weights_receive_exactly_the_predicted_gradient() {
    for activation in GROWABLE {
        for bias in [false, true] {
            let network = mlp(7, &[5, 4, 6], 3, activation, bias);
            let batch = Batch::new(40, 7, 3);
            let growth = Grower::new(GradMax::default())
                .grow(&network, &SgdConfig::new().init(), &everywhere(&network, 2), |n, probe| batch.pass(n, probe))
                .unwrap();
            assert!(growth.receipt.output_change.unwrap() <= 1e-6);
            for site in &growth.receipt.sites {
                let (predicted, measured) = (site.predicted_gradient_norm, site.gradient_norm.unwrap());
                assert!((predicted - measured).abs() <= 1e-4 * predicted, "{activation:?} {site:?}");
                assert_eq!(site.outgoing_gradient_norm, Some(0.0));
            }
        }
    }
}

#[test]
fn the_training_step_after_growth_uses_the_gradients_of_the_grown_network() {
    for placement in [Placement::default(), Placement { zero_side: SidePolicy::Outgoing, ..Placement::default() }] {
        let network = mlp(6, &[5, 4], 3, Activation::Gelu, true);
        let batch = Batch::new(50, 6, 3);
        let grower = Grower::new(Random {}).with_placement(placement);
        let parts = [Part::whole(|n: &Mlp, probe: &mut dyn Probe| batch.pass(n, probe))];
        let context = EventContext { batch_is_training_step: true, ..EventContext::default() };
        let plan = everywhere(&network, 2);
        let growth = grower.grow_on(&network, &SgdConfig::new().init(), &plan, &parts, context).unwrap();
        let own = GradientsParams::from_grads(batch.pass(&growth.network, &mut ()).loss.backward(), &growth.network);
        let reused = growth.training_pass.unwrap().gradients;
        for site in growth.network.sites() {
            for id in [site.producer().weight(), site.paths[0].consumer.weight()] {
                let (a, b) = (own.get::<2>(id).unwrap(), reused.get::<2>(id).unwrap());
                let difference = (a.clone() - b).abs().max().into_scalar::<f64>();
                assert!(difference <= 1e-6 * a.abs().max().into_scalar::<f64>());
            }
            let id = site.producer().bias().unwrap().id;
            let (a, b) = (own.get::<1>(id).unwrap(), reused.get::<1>(id).unwrap());
            assert!((a.clone() - b).abs().max().into_scalar::<f64>() <= 1e-6 * a.abs().max().into_scalar::<f64>());
        }
    }
}

/// The loss of a 4:3:2 network with one more tanh neuron, in double precision and without Burn.
fn loss_with_neuron(network: &gradmax::networks::Mlp, batch: &Batch, incoming: &[f64], outgoing: &[f64]) -> f64 {
    let weights = network.sites().into_iter().next().unwrap();
    let matrix = |weight: Option<Tensor<2>>| values(weight.unwrap()).into_iter().map(f64::from).collect::<Vec<_>>();
    let first = matrix(weights.producer().incoming(gradmax::site::EntriesOf::Values).map(Tensor::transpose));
    let second = matrix(weights.paths[0].consumer.outgoing(gradmax::site::EntriesOf::Values));
    let input = values(batch.input.clone()).into_iter().map(f64::from).collect::<Vec<_>>();
    let target = match &batch.target {
        gradmax::training::Target::Values(target) => {
            values(target.clone()).into_iter().map(f64::from).collect::<Vec<_>>()
        }
        _ => unreachable!("the batch is for regression"),
    };
    let examples = input.len() / 4;
    let mut sum = 0.0;
    for example in 0..examples {
        let x = &input[example * 4..example * 4 + 4];
        let dot = |column: usize| (0..4).map(|i| x[i] * first[i * 3 + column]).sum::<f64>().tanh();
        let hidden = [dot(0), dot(1), dot(2)];
        let new = (0..4).map(|i| x[i] * incoming[i]).sum::<f64>().tanh();
        for output in 0..2 {
            let z = (0..3).map(|j| hidden[j] * second[j * 2 + output]).sum::<f64>() + new * outgoing[output];
            sum += (z - target[example * 2 + output]).powi(2);
        }
    }
    sum / (examples * 2) as f64
}

#[test]
fn the_operator_agrees_with_finite_differences_in_double_precision() {
    let network = mlp(4, &[3], 2, Activation::Tanh, false);
    let batch = Batch::new(30, 4, 2);
    let mut recorder = Recorder::new();
    let mut gradients = batch.pass(&network, &mut recorder).loss.backward();
    let operator = GrowthOperator::new(&network.sites()[0], &recorder.into_evidence(&mut gradients)).unwrap();

    let outgoing = [0.7, -0.4];
    let predicted = operator.apply(Mat::from_fn(2, 1, |i, _| outgoing[i]).as_ref());
    for entry in 0..4 {
        let at = |h: f64| {
            let mut incoming = [0.0; 4];
            incoming[entry] = h;
            loss_with_neuron(&network, &batch, &incoming, &outgoing)
        };
        let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((difference - predicted[(0, entry)]).abs() <= 1e-6, "{difference} {}", predicted[(0, entry)]);
    }
}

#[test]
fn apply_and_adjoint_are_adjoint() {
    let network = mlp(9, &[5, 8], 4, Activation::Silu, true);
    let batch = Batch::new(33, 9, 4);
    let mut recorder = Recorder::new();
    let mut gradients = batch.pass(&network, &mut recorder).loss.backward();
    let evidence = recorder.into_evidence(&mut gradients);
    for site in network.sites() {
        let operator = GrowthOperator::new(&site, &evidence).unwrap();
        let random = |rows, columns, seed| {
            let entries = values(normal([rows, columns], seed));
            Mat::from_fn(rows, columns, |i, j| f64::from(entries[i * columns + j]))
        };
        let (outgoing, incoming) = (random(site.fan_out(), 1, 5), random(1, site.fan_in(), 6));
        let left = (operator.apply(outgoing.as_ref()) * incoming.transpose())[(0, 0)];
        let right = (outgoing.transpose() * operator.adjoint(incoming.as_ref()))[(0, 0)];
        assert!((left - right).abs() <= 1e-5 * left.abs().max(1e-3), "{left} {right}");
    }
}

#[test]
fn no_other_directions_of_equal_norm_receive_a_larger_gradient() {
    let network = mlp(12, &[6], 8, Activation::Relu, false);
    let batch = Batch::new(60, 12, 8);
    let placement = Placement { scale: Scale::Fixed, factor: 1.0, ..Placement::default() };
    let gradient_norm = |grower: Grower| {
        let growth = grower
            .with_placement(placement)
            .grow(&network, &SgdConfig::new().init(), &everywhere(&network, 1), |n, probe| batch.pass(n, probe))
            .unwrap();
        growth.receipt.sites[0].gradient_norm.unwrap()
    };
    let best = gradient_norm(Grower::new(GradMax::default()));
    for seed in 0..50 {
        let seed = Seed::new(seed);
        assert!(best >= gradient_norm(Grower::new(Random {}).with_seed(seed)));
        assert!(best >= gradient_norm(Grower::new(RandomPositive {}).with_seed(seed)));
    }
}

#[test]
fn with_zero_outgoing_weights_no_incoming_directions_do_better_in_a_linear_network() {
    let network = mlp(7, &[4], 9, Activation::Identity, false);
    let batch = Batch::new(60, 7, 9);
    let placement =
        Placement { zero_side: SidePolicy::Outgoing, scale: Scale::Fixed, factor: 1.0, ..Placement::default() };
    let site = |grower: Grower| {
        let growth = grower
            .with_placement(placement)
            .grow(&network, &SgdConfig::new().init(), &everywhere(&network, 1), |n, probe| batch.pass(n, probe))
            .unwrap();
        growth.receipt.sites[0].clone()
    };
    let best = site(Grower::new(GradMax::default()));
    assert_eq!(best.gradient_norm, Some(0.0));
    for seed in 0..20 {
        let random = site(Grower::new(Random {}).with_seed(Seed::new(seed)));
        assert!(best.outgoing_gradient_norm > random.outgoing_gradient_norm);
    }
}

#[test]
fn joint_scale_gives_the_new_weights_a_gradient_of_the_norm_it_says() {
    let network = mlp(6, &[5], 4, Activation::Relu, false);
    let batch = Batch::new(40, 6, 4);
    let placement = Placement { scale: Scale::Joint, factor: 0.3, ..Placement::default() };
    let mean = network.sites()[0].mean_outgoing_norm(3);
    let growers = [Grower::new(GradMax::default()), Grower::new(Random {}), Grower::new(RandomPositive {})];
    for grower in growers.map(|grower| grower.with_placement(placement)) {
        let growth = grower
            .grow(&network, &SgdConfig::new().init(), &everywhere(&network, 3), |n, probe| batch.pass(n, probe))
            .unwrap();
        let measured = growth.receipt.sites[0].gradient_norm.unwrap();
        assert!((measured - 0.3 * mean).abs() <= 1e-4 * measured);
    }
}

/// Loss gradients at the outputs, `delta`, and the one-sided gain `-<delta u, relu(h w)>` for unit `w` at many angles.
fn gains_by_angle(network: &Mlp, batch: &Batch, outgoing: &[f64]) -> Vec<f64> {
    let output = values(network.forward_probed(batch.input.clone(), &mut ()));
    let Target::Values(target) = &batch.target else { panic!("a regression") };
    let (target, input) = (values(target.clone()), values(batch.input.clone()));
    let delta = output.iter().zip(&target).map(|(y, t)| f64::from(y - t)).collect::<Vec<_>>();
    let along = delta.chunks(outgoing.len()).map(|row| row.iter().zip(outgoing).map(|(d, u)| d * u).sum::<f64>());
    let along = along.collect::<Vec<_>>();
    let gain = |angle: f64| {
        let neuron = |h: &[f32]| (f64::from(h[0]) * angle.cos() + f64::from(h[1]) * angle.sin()).max(0.0);
        -input.chunks(2).zip(&along).map(|(h, along)| neuron(h) * along).sum::<f64>()
    };
    (0..360).map(|degree| gain(f64::from(degree).to_radians())).collect()
}

/// All entries of a module's parameters, in order: those of the last layer's last neuron come last.
#[derive(Default)]
struct Entries(Vec<f32>);

impl ModuleVisitor for Entries {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.extend(values(param.val().inner()));
    }
}

#[test]
fn gradmax_rectified_finds_the_largest_one_sided_gain() {
    let largest = |gains: Vec<f64>| gains.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let mut slope_loses = false;
    for seed in 0..10 {
        let network = MlpConfig { bias: false, ..MlpConfig::new(2, &[3], 2, Activation::Relu) }
            .init(Seed::new(seed), &device())
            .unwrap();
        let batch = Batch::new(60, 2, 2);
        // Outgoing directions lie on a circle: all of them can be tried.
        let best = (0..360).map(|degree| {
            let angle = f64::from(degree).to_radians();
            largest(gains_by_angle(&network, &batch, &[angle.cos(), angle.sin()]))
        });
        let best = largest(best.collect());
        let share = |grower: Grower| {
            let plan = everywhere(&network, 1);
            let growth =
                grower.grow(&network, &SgdConfig::new().init(), &plan, |n, probe| batch.pass(n, probe)).unwrap();
            let mut weights = Entries::default();
            growth.network.visit(&mut weights);
            let neuron = weights.0[weights.0.len() - 2..].iter().map(|w| f64::from(*w)).collect::<Vec<_>>();
            let norm = neuron.iter().map(|w| w * w).sum::<f64>().sqrt();
            let unit = neuron.iter().map(|w| w / norm).collect::<Vec<_>>();
            largest(gains_by_angle(&network, &batch, &unit)) / best
        };
        let rectified = share(Grower::new(GradMaxRectified {}));
        assert!(rectified >= 0.995, "seed {seed}: {rectified}");
        let fixed = share(Grower::new(GradMax::default()));
        let one_sided = share(Grower::new(GradMax { sign: Sign::OneSided, ..GradMax::default() }));
        assert!(one_sided >= fixed - 1e-6 && rectified >= one_sided - 5e-3, "seed {seed}: {fixed} {one_sided}");
        slope_loses |= fixed < 0.9;
    }
    assert!(slope_loses, "the signs of singular vectors are arbitrary: some must be wrong");
}

#[test]
fn both_solvers_find_the_same_directions() {
    let network = mlp(40, &[6], 30, Activation::Tanh, false);
    let batch = Batch::new(200, 40, 30);
    let mut recorder = Recorder::new();
    let mut gradients = batch.pass(&network, &mut recorder).loss.backward();
    let operator = GrowthOperator::new(&network.sites()[0], &recorder.into_evidence(&mut gradients)).unwrap();
    let [exact, krylov] =
        [Solver::Explicit, Solver::BlockKrylov].map(|solver| leading_directions_by(solver, &operator, 4).unwrap());
    let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    assert!(norm(&krylov.values) >= 0.999 * norm(&exact.values));
    assert!(norm(&krylov.values) <= (1.0 + 1e-6) * norm(&exact.values));
}

/// An operator given by its matrix, for solvers at sizes and spectra of choice.
struct Explicit(Mat<f64>);

impl LinearOperator for Explicit {
    fn fan_in(&self) -> usize {
        self.0.ncols()
    }
    fn fan_out(&self) -> usize {
        self.0.nrows()
    }
    fn apply(&self, outgoing: faer::MatRef<'_, f64>) -> Mat<f64> {
        outgoing.transpose() * &self.0
    }
    fn adjoint(&self, incoming: faer::MatRef<'_, f64>) -> Mat<f64> {
        &self.0 * incoming.transpose()
    }
}

fn noise(rows: usize, columns: usize) -> Explicit {
    let entries = values(normal([rows, columns], 11));
    Explicit(Mat::from_fn(rows, columns, |i, j| f64::from(entries[i * columns + j])))
}

#[test]
fn block_krylov_captures_white_noise() {
    let operator = noise(1000, 1000);
    let [exact, krylov] =
        [Solver::Explicit, Solver::BlockKrylov].map(|solver| leading_directions_by(solver, &operator, 16).unwrap());
    let captured = operator.apply(krylov.vectors.as_ref()).norm_l2() / operator.apply(exact.vectors.as_ref()).norm_l2();
    println!("captured {captured}");
    assert!(captured >= 0.99);
}

#[test]
fn directions_beyond_the_rank_complete_an_orthonormal_set() {
    for solver in [Solver::Explicit, Solver::BlockKrylov] {
        let (left, right) = (noise(20, 3), noise(3, 30));
        let operator = Explicit(&left.0 * &right.0);
        let found = leading_directions_by(solver, &operator, 10).unwrap();
        let gram = found.vectors.transpose() * &found.vectors;
        assert!((gram - Mat::<f64>::identity(10, 10)).norm_max() <= 1e-9);
        assert!(
            found.values[..3].iter().all(|value| *value > 1.0) && found.values[3..].iter().all(|value| *value < 1e-12)
        );
    }
}

#[test]
fn more_directions_than_there_are_dimensions_are_all_different() {
    let operator = noise(3, 12);
    let found = leading_directions_by(Solver::Explicit, &operator, 11).unwrap();
    for i in 0..11 {
        assert!((found.vectors.col(i).norm_l2() - 1.0).abs() < 1e-12);
        assert!((operator.apply(found.vectors.subcols(i, 1)).norm_l2() - found.values[i]).abs() < 1e-9);
        assert!((0..i).all(|j| (found.vectors.col(i) - found.vectors.col(j)).norm_l2() > 1e-3));
    }
}

#[test]
fn an_operator_of_zeros_still_gives_directions() {
    for solver in [Solver::Explicit, Solver::BlockKrylov] {
        let found = leading_directions_by(solver, &Explicit(Mat::zeros(6, 5)), 4).unwrap();
        assert!(found.values.iter().all(|value| *value == 0.0));
        assert!((found.vectors.transpose() * &found.vectors - Mat::<f64>::identity(4, 4)).norm_max() <= 1e-9);
    }
}

#[test]
fn a_growth_batch_in_parts_is_the_same_batch() {
    use gradmax::event::{EventContext, Part};
    let network = mlp(5, &[4, 3], 2, Activation::Relu, true);
    let whole = Batch::new(30, 5, 2);
    let rows = |from: usize, to: usize| {
        let gradmax::training::Target::Values(target) = whole.target.clone() else {
            unreachable!("the batch is for regression")
        };
        Batch {
            input: whole.input.clone().narrow(0, from, to - from),
            target: gradmax::training::Target::Values(target.narrow(0, from, to - from)),
        }
    };
    let (head, tail) = (rows(0, 10), rows(10, 30));
    let parts = [
        Part {
            weight: 1.0 / 3.0,
            pass: Box::new(|n: &gradmax::networks::Mlp, probe: &mut dyn gradmax::site::Probe| Ok(head.pass(n, probe))),
        },
        Part {
            weight: 2.0 / 3.0,
            pass: Box::new(|n: &gradmax::networks::Mlp, probe: &mut dyn gradmax::site::Probe| Ok(tail.pass(n, probe))),
        },
    ];
    let (plan, optimizer) = (everywhere(&network, 2), SgdConfig::new().init());
    let grower = Grower::new(GradMax::default());
    let in_parts = grower.grow_on(&network, &optimizer, &plan, &parts, EventContext::default()).unwrap();
    let at_once = grower.grow(&network, &optimizer, &plan, |n, probe| whole.pass(n, probe)).unwrap();
    for (a, b) in in_parts.receipt.sites.iter().zip(&at_once.receipt.sites) {
        let (a, b) = (a.gradient_norm.unwrap(), b.gradient_norm.unwrap());
        assert!((a - b).abs() <= 1e-5 * b);
    }
    assert!((in_parts.receipt.loss_before - at_once.receipt.loss_before).abs() <= 1e-6);
}

#[test]
fn what_is_predicted_is_measured_at_sites_of_any_size() {
    let mut rng = Seed::new(21).rng();
    for case in 0..60 {
        let mut size = |most: usize| rand::RngExt::random_range(&mut rng, 1..=most);
        let (inputs, outputs, examples, count) = (size(40), size(12), size(50), size(15));
        let hidden = (0..size(3)).map(|_| size(20)).collect::<Vec<_>>();
        let activation = GROWABLE[case % GROWABLE.len()];
        let network = mlp(inputs, &hidden, outputs, activation, case % 2 == 0);
        let batch = Batch::new(examples, inputs, outputs);
        let growth = Grower::new(GradMax::default())
            .grow(&network, &SgdConfig::new().init(), &everywhere(&network, count), |n, probe| batch.pass(n, probe))
            .unwrap_or_else(|error| panic!("{inputs}:{hidden:?}:{outputs}, {count} at once: {error}"));
        for (site, before) in growth.receipt.sites.iter().zip(network.sites()) {
            let (predicted, measured) = (site.predicted_gradient_norm, site.gradient_norm.unwrap());
            assert!((predicted - measured).abs() <= 1e-4 * measured + 1e-9, "{activation:?} {site:?}");
            assert_eq!(site.outgoing_gradient_norm, Some(0.0));
            assert_eq!(site.width, before.width() + count);
        }
        assert!(growth.receipt.output_change.unwrap() <= 1e-6);
    }
}

#[test]
fn epsilon_changes_the_output_a_little_and_the_receipt_says_so() {
    let network = mlp(6, &[5], 4, Activation::Tanh, false);
    let batch = Batch::new(40, 6, 4);
    for zero_side in [SidePolicy::Incoming, SidePolicy::Outgoing] {
        let placement = Placement { epsilon: 1e-2, zero_side, ..Placement::default() };
        let growth = Grower::new(Random {})
            .with_placement(placement)
            .grow(&network, &SgdConfig::new().init(), &everywhere(&network, 3), |n, probe| batch.pass(n, probe))
            .unwrap();
        assert!(growth.training_pass.is_none(), "the old pass is not that of the grown network");
        assert_eq!(growth.receipt.tolerance, None);
        let change = growth.receipt.output_change.unwrap();
        assert!(change > 1e-5 && change < 0.1, "{change}");
    }
}

#[test]
fn verification_measures_as_much_as_it_is_asked_to() {
    use gradmax::event::Verification;
    let network = mlp(6, &[5], 4, Activation::Tanh, false);
    let batch = Batch::new(40, 6, 4);
    let measured = [Verification::Full, Verification::Output, Verification::Off].map(|verification| {
        let growth = Grower::new(GradMax::default())
            .with_verification(verification)
            .grow(&network, &SgdConfig::new().init(), &everywhere(&network, 3), |n, probe| batch.pass(n, probe))
            .unwrap();
        (growth.receipt.output_change.is_some(), growth.receipt.sites[0].gradient_norm.is_some())
    });
    assert_eq!(measured, [(true, true), (true, false), (false, false)]);
}

#[test]
fn every_direction_is_a_singular_direction_of_its_own() {
    // Wide, tall and square; explicit and Krylov.
    for (rows, columns) in [(12, 40), (40, 12), (30, 30)] {
        let operator = noise(rows, columns);
        let exact = operator.0.thin_svd().unwrap();
        for solver in [Solver::Explicit, Solver::BlockKrylov] {
            let found = leading_directions_by(solver, &operator, 6).unwrap();
            let images = operator.apply(found.vectors.as_ref());
            let products = &images * images.transpose();
            for i in 0..6 {
                let value = exact.S().column_vector()[i];
                let close = if solver == Solver::Explicit { 1e-9 } else { 0.05 };
                assert!((found.values[i] - value).abs() <= close * value, "{rows}x{columns} {solver:?} {i}");
                assert!((products[(i, i)].sqrt() - found.values[i]).abs() <= 1e-9 * value);
                assert!((0..i).all(|j| products[(i, j)].abs() <= 1e-9 * value * value));
            }
        }
    }
}

#[test]
fn operators_that_are_not_finite_are_refused() {
    for solver in [Solver::Explicit, Solver::BlockKrylov] {
        let mut operator = noise(9, 9);
        operator.0[(4, 5)] = f64::INFINITY;
        assert!(matches!(leading_directions_by(solver, &operator, 2), Err(gradmax::Error::OperatorNotFinite)));
    }
}

#[test]
fn a_converged_network_can_still_grow() {
    let input = normal([50, 4], 1);
    let target = gradmax::training::Target::Values(input.clone().slice([0..50, 0..2]));
    let batch = Batch { input, target };
    let mut optimizer = SgdConfig::new().init();
    let network = mlp(4, &[3], 2, Activation::Identity, false);
    let network = (0..3000).fold(network, |network, _| batch.step(network, &mut optimizer, 0.2));
    let growth = Grower::new(GradMax::default())
        .grow(&network, &optimizer, &everywhere(&network, 2), |n, probe| batch.pass(n, probe))
        .unwrap();
    assert!(growth.receipt.loss_before < 1e-10, "{}", growth.receipt.loss_before);
}

#[test]
fn skipped_directions_leave_the_next_one() {
    let network = mlp(20, &[5], 10, Activation::Relu, false);
    let batch = Batch::new(200, 20, 10);
    let receipt = |count: usize, skip: usize| {
        let grower = Grower::new(GradMax { skip, ..GradMax::default() });
        let plan = everywhere(&network, count);
        let pass = |n: &Mlp, probe: &mut dyn Probe| batch.pass(n, probe);
        grower.grow(&network, &SgdConfig::new().init(), &plan, pass).unwrap().receipt.sites.remove(0)
    };
    let all = receipt(3, 0);
    for skip in 0..3 {
        let one = receipt(1, skip);
        assert_eq!(one.singular_values, all.singular_values[skip..=skip]);
        let (measured, predicted) = (one.gradient_norm.unwrap(), one.predicted_gradient_norm);
        assert!((measured - predicted).abs() <= 1e-4 * measured, "{measured} {predicted}");
    }
}

#[test]
fn alignment_is_of_each_direction_with_its_counterpart() {
    let unit = Mat::<f64>::identity(4, 2);
    let swapped = Mat::from_fn(4, 2, |i, j| if i + j == 1 { 1.0 } else { 0.0 });
    assert_eq!((alignment(&unit, &unit), alignment(&unit, &-&unit), alignment(&unit, &swapped)), (1.0, 1.0, 0.0));
}
