//! Optimizer state survives growth: for every Burn optimizer whose state has the parameter's shape.

mod common;

use burn::module::ParamId;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    AdaGradConfig, AdafactorConfig, AdamConfig, AdamWConfig, AdanConfig, LambConfig, LionConfig, ModuleOptimizer,
    MuonConfig, RmsPropConfig, SgdConfig,
};
use burn::tensor::TensorData;
use common::{Batch, everywhere, mlp, state, values};
use faer::Mat;
use gradmax::Error;
use gradmax::event::Grower;
use gradmax::methods::{GradMax, GrowthMethod, Need, Request};
use gradmax::networks::Mlp;
use gradmax::site::{Activation, EntriesOf, Growable, Site};
use gradmax::surgery::{NewNeurons, SecondMoments};

fn momentum() -> ModuleOptimizer {
    let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: true };
    SgdConfig::new().with_momentum(Some(momentum)).init()
}

/// Every optimizer of burn-optim that steps a whole module with state for each entry, and its second moments' fields.
fn optimizers() -> Vec<(&'static str, ModuleOptimizer, &'static [&'static str])> {
    vec![
        ("sgd", SgdConfig::new().init(), &[]),
        ("sgd with momentum", momentum(), &[]),
        ("adam", AdamConfig::new().init(), &["moment_2"]),
        ("amsgrad", AdamConfig::new().with_amsgrad(true).init(), &["moment_2", "max_moment_2"]),
        ("adamw", AdamWConfig::new().init(), &["moment_2"]),
        ("adan", AdanConfig::new().init(), &["exp_avg_sq"]),
        ("lamb", LambConfig::new().init(), &["moment_2"]),
        ("lion", LionConfig::new().init(), &[]),
        ("muon", MuonConfig::new().init(), &[]),
        ("adagrad", AdaGradConfig::new().init(), &["sum"]),
        ("rmsprop", RmsPropConfig::new().with_centered(true).with_momentum(0.9).init(), &["square_avg", "avg"]),
    ]
}

/// A network without biases (Muon wants matrices only), after a few steps.
fn trained(optimizer: &mut ModuleOptimizer) -> (Mlp, Batch) {
    let batch = Batch::new(40, 6, 3);
    let network = (0..5).fold(mlp(6, &[4, 5], 3, Activation::Tanh, false), |n, _| batch.step(n, optimizer, 1e-3));
    (network, batch)
}

fn entries(data: &TensorData) -> (usize, usize, Vec<f32>) {
    let shape = data.shape().to_vec();
    (shape[0], shape[1], data.clone().try_into_vec_as::<f32>().unwrap())
}

#[test]
fn old_entries_are_bit_identical_and_new_ones_as_chosen() {
    for (name, mut optimizer, second_moments) in optimizers() {
        let (network, batch) = trained(&mut optimizer);
        let before = state(&optimizer);
        let growth = Grower::new(GradMax::default())
            .grow(&network, &optimizer, &everywhere(&network, 2), |n, probe| batch.pass(n, probe))
            .unwrap();
        let after = state(&growth.optimizer);
        assert!(growth.receipt.optimizer_reset.is_empty(), "{name}");
        assert_eq!(before.len(), after.len(), "{name}");
        for ((id, field, old), (new_id, new_field, new)) in before.iter().zip(&after) {
            assert_eq!((id, field), (new_id, new_field), "{name}");
            let (rows, columns, old) = entries(old);
            let (grown_rows, grown_columns, new) = entries(new);
            assert!(grown_rows + grown_columns > rows + columns, "{name} {field}");
            for row in 0..rows {
                let (old, new) =
                    (&old[row * columns..(row + 1) * columns], &new[row * grown_columns..(row + 1) * grown_columns]);
                assert_eq!(old, &new[..columns], "{name} {field}");
                let mean = old.iter().sum::<f32>() / columns as f32;
                let expected = if second_moments.contains(&field.as_str()) { mean } else { 0.0 };
                assert!(new[columns..].iter().all(|x| (x - expected).abs() <= 1e-6 * mean.abs()), "{name} {field}");
            }
        }
        // The next step runs with the carried state.
        let (mut optimizer, loss) = (growth.optimizer, batch.pass(&growth.network, &mut ()).loss.into_scalar::<f32>());
        let network = batch.step(growth.network, &mut optimizer, 1e-3);
        assert!(batch.pass(&network, &mut ()).loss.into_scalar::<f32>() != loss, "{name}");
    }
}

#[test]
fn second_moments_can_start_at_zero() {
    let mut optimizer = AdamConfig::new().init();
    let (network, batch) = trained(&mut optimizer);
    let growth = Grower::new(GradMax::default())
        .with_second_moments(SecondMoments::Zeros)
        .grow(&network, &optimizer, &everywhere(&network, 1), |n, probe| batch.pass(n, probe))
        .unwrap();
    let first = network.sites()[0].producer().weight().val();
    let state = state(&growth.optimizer);
    let (_, _, moment) = state.iter().find(|(id, field, _)| *id == first && field == "moment_2").unwrap();
    let (rows, columns, values) = entries(moment);
    assert!((0..rows).all(|row| values[row * columns + columns - 1] == 0.0));
}

#[test]
fn state_of_another_shape_is_dropped_and_the_receipt_says_so() {
    let mut optimizer = AdafactorConfig::new().init();
    let (network, batch) = trained(&mut optimizer);
    let growth = Grower::new(GradMax::default())
        .grow(&network, &optimizer, &everywhere(&network, 2), |n, probe| batch.pass(n, probe))
        .unwrap();
    assert_eq!(growth.receipt.optimizer_reset, ["layers.0.weight", "layers.1.weight", "layers.2.weight"]);
    let mut optimizer = growth.optimizer;
    batch.step(growth.network, &mut optimizer, 1e-3);
}

/// Both sides zero: the new neurons do nothing and learn nothing, so the old weights must go on as if nothing happened.
struct Zeros;

impl GrowthMethod for Zeros {
    fn name(&self) -> &str {
        "zeros"
    }
    fn needs(&self) -> &'static [Need] {
        &[]
    }
    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        Ok(NewNeurons::unbiased(Mat::zeros(request.count, request.fan_in), Mat::zeros(request.fan_out, request.count)))
    }
}

#[test]
fn old_weights_follow_the_trajectory_of_the_ungrown_network() {
    for mut optimizer in [momentum(), AdamConfig::new().init()] {
        let (network, batch) = trained(&mut optimizer);
        let growth = Grower::new(Zeros)
            .grow(&network, &optimizer, &everywhere(&network, 3), |n, probe| batch.pass(n, probe))
            .unwrap();
        let (mut small, mut grown) = (network, growth.network);
        let (mut of_small, mut of_grown) = (optimizer, growth.optimizer);
        for _ in 0..50 {
            small = batch.step(small, &mut of_small, 1e-2);
            grown = batch.step(grown, &mut of_grown, 1e-2);
        }
        for (old, new) in small.sites().iter().zip(grown.sites()) {
            let incoming = |site: &Site| site.producer().incoming(EntriesOf::Values).unwrap();
            let outgoing = |site: &Site| site.paths[0].consumer.outgoing(EntriesOf::Values).unwrap();
            for (old, new) in [(incoming(old), incoming(&new)), (outgoing(old), outgoing(&new))] {
                let [rows, columns] = old.dims();
                let (new, old) = (values(new.slice([0..rows, 0..columns])), values(old));
                let largest = old.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
                assert!(old.iter().zip(&new).all(|(a, b)| (a - b).abs() <= 1e-6 * largest));
            }
        }
    }
}

#[test]
fn parameters_keep_their_ids() {
    let mut optimizer = momentum();
    let (network, batch) = trained(&mut optimizer);
    let growth = Grower::new(GradMax::default())
        .grow(&network, &optimizer, &everywhere(&network, 2), |n, probe| batch.pass(n, probe))
        .unwrap();
    let ids = |network: &Mlp| network.sites().iter().map(|site| site.producer().weight()).collect::<Vec<ParamId>>();
    assert_eq!(ids(&network), ids(&growth.network));
}
