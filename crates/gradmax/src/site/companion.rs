//! What is chosen of new neurons before their incoming and outgoing weights: a gated neuron's gate, a head's query and key.

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use faer::Scale;

use crate::matrix::{Matrix, from_tensor, to_tensor, values};
use crate::seed::Seed;
use crate::site::layer::{EntriesOf, Producer};
use crate::site::signal::Signal;

/// Weights beside those of writers and readers, which decide what a new neuron's incoming weights see of what the writer
/// reads: the gate of a gated neuron scales it, the query and key of a head mix its tokens.
///
/// Once they are chosen, that is a linear map of what the writer reads, and a new neuron is any other: with one side zero its
/// effect on the loss is bilinear in incoming and outgoing weights. They receive no gradient themselves until both sides have
/// left zero.
pub trait Companion: Debug + Send + Sync {
    /// The name to use in messages.
    fn name(&self) -> &str;

    /// Neurons that share their companions: the width of a head.
    fn unit(&self) -> usize {
        1
    }

    /// The layers whose outputs go along with the neurons, one each.
    fn layers(&self) -> Vec<&dyn Producer>;

    /// What incoming weights see of what the writer reads, by the weights of one unit in each of the layers; differentiable in
    /// these.
    fn seen_through(&self, read: Signal, of_unit: &[UnitTensors]) -> Signal;

    /// Weights of a unit in each of the layers, drawn as a fresh network has them.
    fn drawn(&self, seed: Seed) -> Vec<CompanionWeights>;
}

/// A unit's weights in one of the layers of a [`Companion`].
#[derive(Debug, Clone, PartialEq)]
pub struct CompanionWeights {
    /// `[unit, fan_in]`.
    pub incoming: Matrix,
    /// `[unit]`; zeros where the layer has no bias.
    pub bias: Vec<f64>,
}

/// The same on a device.
#[derive(Debug, Clone)]
pub struct UnitTensors {
    /// `[unit, fan_in]`.
    pub incoming: Tensor<2>,
    /// `[unit]`.
    pub bias: Tensor<1>,
}

impl CompanionWeights {
    /// On a device, outside of any graph.
    pub(crate) fn on(&self, device: &Device) -> UnitTensors {
        let bias = self.bias.iter().map(|value| *value as f32).collect::<Vec<_>>();
        let count = bias.len();
        let bias = Tensor::from_data(TensorData::new(bias, [count]), device);
        UnitTensors { incoming: to_tensor(self.incoming.as_ref(), device), bias }
    }
}

/// The companions of a site's neurons, and those that new neurons have.
#[derive(Debug, Clone)]
pub struct Companions {
    pub(crate) companion: Arc<dyn Companion>,
    /// In each of the layers, of one new unit after another, or of all.
    chosen: Arc<Vec<Vec<CompanionWeights>>>,
    /// Whether each new unit has its own.
    are_several: bool,
}

impl Companions {
    /// Until something else is chosen, new neurons copy the first unit, or are drawn if there is none.
    pub(crate) fn new(companion: Arc<dyn Companion>) -> Self {
        let chosen = Arc::new(Vec::new());
        let first = Self { companion, chosen, are_several: false };
        let weights = match first.units() {
            0 => first.companion.drawn(Seed::new(0)),
            _ => first.of_unit(0),
        };
        first.choosing(weights)
    }

    /// The same with these weights for all new units.
    pub(crate) fn choosing(&self, weights: Vec<CompanionWeights>) -> Self {
        Self { companion: self.companion.clone(), chosen: Arc::new(vec![weights]), are_several: false }
    }

    /// The same with these weights for new units, one after another.
    pub(crate) fn choosing_each(&self, units: Vec<Vec<CompanionWeights>>) -> Self {
        Self { companion: self.companion.clone(), chosen: Arc::new(units), are_several: true }
    }

    /// The number of units that are there.
    pub(crate) fn units(&self) -> usize {
        self.companion.layers()[0].outputs() / self.companion.unit()
    }

    /// The weights of a unit that is there.
    pub(crate) fn of_unit(&self, unit: usize) -> Vec<CompanionWeights> {
        let size = self.companion.unit();
        let of_layer = |layer: &dyn Producer| {
            let incoming = layer.incoming(EntriesOf::Values).expect("layers have weights");
            let bias = match layer.bias() {
                Some(bias) => values(&bias.val().inner().narrow(0, unit * size, size).into_data()),
                None => vec![0.0; size],
            };
            CompanionWeights { incoming: from_tensor(incoming.narrow(0, unit * size, size)), bias }
        };
        self.companion.layers().into_iter().map(of_layer).collect()
    }

    /// The weights of all units that are there.
    pub(crate) fn all_units(&self) -> Vec<Vec<CompanionWeights>> {
        (0..self.units()).map(|unit| self.of_unit(unit)).collect()
    }

    /// The weights of a new unit.
    pub(crate) fn of_new(&self, unit: usize) -> &[CompanionWeights] {
        &self.chosen[unit % self.chosen.len()]
    }

    /// Whether each new unit sees something of its own.
    pub(crate) fn are_several(&self) -> bool {
        self.are_several
    }

    /// What a new unit sees of what the writer reads.
    pub(crate) fn seen_through(&self, unit: usize, read: Signal) -> Signal {
        let device = read.device();
        let chosen = self.of_new(unit).iter().map(|weights| weights.on(&device)).collect::<Vec<_>>();
        self.companion.seen_through(read, &chosen)
    }

    /// The gradients at the chosen weights, which all new units share, a matrix `[unit, fan_in]` for each layer, from that of
    /// what new neurons see of what the writer reads.
    pub(crate) fn gradients(&self, read: Signal, at_seen: Signal) -> Vec<Matrix> {
        let device = read.device();
        let leaf = |weights: &CompanionWeights| {
            let UnitTensors { incoming, bias } = weights.on(&device);
            UnitTensors { incoming: incoming.autodiff().require_grad(), bias: bias.autodiff() }
        };
        let leaves = self.of_new(0).iter().map(leaf).collect::<Vec<_>>();
        let seen = self.companion.seen_through(read.untracked(), &leaves);
        let gradients = seen.inner_product(at_seen.untracked()).backward();
        let gradient = |leaf: &UnitTensors| match leaf.incoming.grad(&gradients) {
            Some(gradient) => from_tensor(gradient),
            None => Matrix::zeros(leaf.incoming.dims()[0], leaf.incoming.dims()[1]),
        };
        leaves.iter().map(gradient).collect()
    }

    /// The chosen weights, which all new units share, moved along these gradients by a share of their norms, which stay as
    /// they are.
    pub(crate) fn moved(&self, gradients: &[Matrix], share: f64) -> Vec<CompanionWeights> {
        let moved = |(weights, gradient): (&CompanionWeights, &Matrix)| {
            let (norm, slope) = (weights.incoming.norm_l2(), gradient.norm_l2());
            if norm == 0.0 || slope == 0.0 {
                return weights.clone();
            }
            let moved = &weights.incoming + gradient * Scale(share * norm / slope);
            let to_norm = norm / moved.norm_l2();
            CompanionWeights { incoming: moved * Scale(to_norm), bias: weights.bias.clone() }
        };
        self.of_new(0).iter().zip(gradients).map(moved).collect()
    }
}
