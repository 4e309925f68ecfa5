//! What was chosen for a site at a growth event: new neurons, and what is known of them beforehand.

use crate::addition::{Addition, addition, changes, gradient_addition};
use crate::branch::Received;
use crate::existing::Existing;
use crate::extension::Extension;
use crate::new_neurons::NewNeurons;
use crate::site::Site;

/// The part of the sizes of what is summed below which a gradient is rounding.
pub(crate) const ROUNDING: f64 = 1e-6;

/// New neurons at a site, block by block, and the gradients that they will receive.
pub(crate) struct Chosen {
    pub(crate) site: Site,
    pub(crate) blocks: Vec<ChosenBlock>,
}

/// New neurons of one block of a site, and the gradients that they will receive.
pub(crate) struct ChosenBlock {
    pub(crate) neurons: NewNeurons,
    pub(crate) received: Received,
}

impl Chosen {
    pub(crate) fn count(&self) -> usize {
        self.blocks.iter().map(|block| block.neurons.count()).sum()
    }

    pub(crate) fn addition(&self) -> Addition {
        addition(&self.site, &self.blocks.iter().map(|block| &block.neurons).collect::<Vec<_>>())
    }

    pub(crate) fn gradient_addition(&self) -> Addition {
        gradient_addition(&self.site, &self.blocks.iter().map(|block| &block.received.gradients).collect::<Vec<_>>())
    }

    /// What is added to existing weights.
    pub(crate) fn changes(&self) -> Vec<Extension> {
        changes(&self.site, &self.blocks.iter().map(|block| &block.neurons).collect::<Vec<_>>())
    }

    pub(crate) fn preserves_function(&self) -> bool {
        let preserves = |(index, block): (usize, &ChosenBlock)| {
            let neurons = &block.neurons;
            neurons.one_side_is_zero()
                || (neurons.changes.is_some() && Existing::of(&self.site, index).are_split_by(neurons))
        };
        self.site.preserves_function() && self.blocks.iter().enumerate().all(preserves)
    }

    /// Whether the gradients of all that was there before stay as they are.
    pub(crate) fn keeps_gradients(&self) -> bool {
        let untouched = self.blocks.iter().all(|block| block.neurons.changes.is_none());
        self.preserves_function() && self.site.is_seen_whole() && !self.site.is_random() && untouched
    }

    /// The norm that the gradients of the new incoming and outgoing weights will have.
    pub(crate) fn gradient_norms(&self) -> [f64; 2] {
        let norm = |of: fn(&NewNeurons) -> f64| {
            self.blocks.iter().map(|block| of(&block.received.gradients.neurons).powi(2)).sum::<f64>().sqrt()
        };
        [norm(|neurons| neurons.incoming.norm_l2()), norm(|neurons| neurons.outgoing.norm_l2())]
    }

    /// What the gradients of the new weights are sums of, in size.
    pub(crate) fn magnitude(&self) -> f64 {
        self.blocks.iter().map(|block| block.received.magnitude).sum()
    }

    /// Whether no more than rounding arrives at the new weights: all neurons before or behind them are silent, or the loss
    /// does not depend on what they do.
    pub(crate) fn has_no_gradient(&self) -> bool {
        let [incoming, outgoing] = self.gradient_norms();
        incoming.hypot(outgoing) <= ROUNDING * self.magnitude()
    }

    /// The gradient norm of the new incoming weights by singular values and scale where there are any, or else by the
    /// branch.
    pub(crate) fn predicted_gradient_norm(&self) -> f64 {
        let predicted = self.blocks.iter().map(|block| block.neurons.predicted_gradient_norm());
        match predicted.collect::<Option<Vec<_>>>().filter(|_| self.site.neurons_are_independent()) {
            Some(norms) => norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt(),
            None => self.gradient_norms()[0],
        }
    }
}
