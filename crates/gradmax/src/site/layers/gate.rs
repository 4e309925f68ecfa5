//! Gates: neurons that are multiplied by a function of the same input, as in gated linear units (Dauphin et al. 2017; Shazeer
//! 2020).

use burn::nn::Linear;
use burn::tensor::Tensor;

use crate::matrix::Matrix;
use crate::seed::Seed;
use crate::site::activation::Activation;
use crate::site::companion::{Companion, CompanionWeights, UnitTensors};
use crate::site::layer::{Layer, Producer};
use crate::site::layers::linear::rowwise;
use crate::site::signal::Signal;

/// The gates of a site's neurons: each neuron is what its writer, which has no bias, computes times a function of what a
/// dense layer makes of the same input.
#[derive(Debug, Clone)]
pub struct Gate {
    /// One output for each neuron.
    pub layer: Linear,
    /// The function.
    pub activation: Activation,
}

impl Companion for Gate {
    fn name(&self) -> &str {
        "gate"
    }

    fn layers(&self) -> Vec<&dyn Producer> {
        vec![&self.layer]
    }

    fn seen_through(&self, read: Signal, of_unit: &[UnitTensors]) -> Signal {
        let [UnitTensors { incoming, bias }] = of_unit else {
            panic!("a gate has one layer, and {} were chosen", of_unit.len());
        };
        let gated = |rows: Tensor<2>| {
            let gates = rows.clone().matmul(incoming.clone().transpose()) + bias.clone().unsqueeze();
            rows * self.activation.apply(gates)
        };
        rowwise(&read, gated)
    }

    fn drawn(&self, seed: Seed) -> Vec<CompanionWeights> {
        vec![drawn_as(&self.layer, 1, seed)]
    }
}

/// Weights of a unit of a dense layer, as large as those that are there, or as fresh ones: normal, with the variance of
/// `1 / inputs`.
pub(crate) fn drawn_as(layer: &Linear, unit: usize, seed: Seed) -> CompanionWeights {
    use rand_distr::{Distribution, StandardNormal};
    let inputs = layer.inputs();
    let deviation = match layer.outputs() {
        0 => (inputs.max(1) as f64).sqrt().recip(),
        _ => layer.weight.val().inner().square().mean().sqrt().into_scalar::<f64>(),
    };
    let mut rng = seed.rng();
    let incoming = Matrix::from_fn(unit, inputs, |_, _| {
        let entry: f64 = StandardNormal.sample(&mut rng);
        entry * deviation
    });
    // Few entries would differ in size from draw to draw, and larger ones look better than they are.
    let to_norm = match incoming.norm_l2() {
        0.0 => 1.0,
        norm => deviation * ((unit * inputs) as f64).sqrt() / norm,
    };
    CompanionWeights { incoming: incoming * faer::Scale(to_norm), bias: vec![0.0; unit] }
}
