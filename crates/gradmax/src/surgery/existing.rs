//! The weights of the existing neurons of a site, as growth methods see them.

use burn::tensor::Tensor;

use crate::matrix::{Matrix, from_tensor, values};
use crate::site::declaration::Site;
use crate::site::layer::EntriesOf;
use crate::surgery::new_neurons::NewNeurons;

/// The existing neurons of a site, or of one of its blocks.
#[derive(Debug, Clone)]
pub struct Existing {
    /// Weights into them, `[width, fan_in]`.
    pub incoming: Matrix,
    /// Weights out of them, `[fan_out, width]`.
    pub outgoing: Matrix,
    /// Their biases; zeros where the producer has none.
    pub bias: Vec<f64>,
}

/// How far outgoing weights of a split neuron may be from adding up to the old ones, relative to these: rounding.
const ROUNDING: f64 = 1e-6;

impl Existing {
    /// The neurons of one block of a site.
    pub(crate) fn of(site: &Site, block: usize) -> Self {
        let width = site.width() / site.blocks();
        // Burn's `reshape` takes a length of 0 for "as it is": layers without neurons are passed over.
        if width == 0 {
            let (incoming, outgoing) = (Matrix::zeros(0, site.fan_in()), Matrix::zeros(site.fan_out(), 0));
            return Self { incoming, outgoing, bias: Vec::new() };
        }
        let first = block * width;
        let bias = match site.bias() {
            Some(bias) => values(&bias.val().inner().narrow(0, first, width).into_data()),
            None => vec![0.0; width],
        };
        let own = |weights: Option<Tensor<2>>| weights.expect("layers have weights").narrow(0, first, width);
        Self {
            incoming: from_tensor(own(site.incoming(EntriesOf::Values))),
            outgoing: from_tensor(own(site.outgoing(EntriesOf::Values)).transpose()),
            bias,
        }
    }

    /// As if they were new: each takes over its own entries of what lies between.
    pub fn as_neurons(&self) -> NewNeurons {
        let parents = (0..self.count()).map(Some).collect();
        NewNeurons { parents, ..NewNeurons::new(self.incoming.clone(), self.outgoing.clone(), self.bias.clone()) }
    }

    /// Number of neurons.
    pub fn count(&self) -> usize {
        self.incoming.nrows()
    }

    /// Whether the new neurons only share the outgoing weights of existing ones, of which they are copies.
    pub(crate) fn are_split_by(&self, neurons: &NewNeurons) -> bool {
        let Some(changes) = &neurons.changes else {
            return false;
        };
        let copied = |neuron: usize| {
            neurons.parent(neuron).is_some_and(|parent| {
                neurons.incoming.row(neuron) == self.incoming.row(parent) && neurons.bias[neuron] == self.bias[parent]
            })
        };
        let untouched = changes.incoming.norm_max() == 0.0 && changes.bias.iter().all(|change| *change == 0.0);
        if !untouched || !(0..neurons.count()).all(copied) {
            return false;
        }
        let mut left = changes.outgoing.clone();
        for neuron in 0..neurons.count() {
            let parent = neurons.parent(neuron).expect("every neuron is a copy");
            let mut column = left.col_mut(parent);
            column += neurons.outgoing.col(neuron);
        }
        // What the original keeps and what its copies get must add up to what it had.
        left.norm_max() <= ROUNDING * self.outgoing.norm_max()
    }
}
