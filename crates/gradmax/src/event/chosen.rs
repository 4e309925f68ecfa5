//! What was chosen for a site at a growth event: new neurons, and what is known of them beforehand.

use crate::error::Error;
use crate::operator::branch::{Branch, ROUNDING, magnitudes_of};
use crate::operator::seen::Seen;
use crate::site::declaration::Site;
use crate::site::extension::Extension;
use crate::surgery::addition::{Addition, BlockValues, addition, changes, gradient_addition};
use crate::surgery::existing::Existing;
use crate::surgery::index_map::IndexMaps;
use crate::surgery::new_neurons::NewNeurons;

/// New neurons at a site, block by block, and the gradients that they will receive.
pub(crate) struct Chosen {
    pub(crate) site: Site,
    pub(crate) blocks: Vec<ChosenBlock>,
}

/// New neurons of one block of a site, and the gradients that they will receive.
pub(crate) struct ChosenBlock {
    pub(crate) neurons: NewNeurons,
    pub(crate) gradients: BlockValues,
}

impl Chosen {
    pub(crate) fn count(&self) -> usize {
        self.blocks.iter().map(|block| block.neurons.count()).sum()
    }

    pub(crate) fn addition(&self) -> Addition {
        addition(&self.site, &self.blocks.iter().map(|block| &block.neurons).collect::<Vec<_>>())
    }

    pub(crate) fn gradient_addition(&self) -> Addition {
        gradient_addition(&self.site, &self.blocks.iter().map(|block| &block.gradients).collect::<Vec<_>>())
    }

    /// What is added to existing weights.
    pub(crate) fn changes(&self) -> Vec<Extension> {
        let of_neurons = changes(&self.site, &self.blocks.iter().map(|block| &block.neurons).collect::<Vec<_>>());
        let reads = self.blocks.iter().any(|block| block.neurons.outgoing.norm_max() > 0.0);
        of_neurons.into_iter().chain(self.site.copied_shifts(reads)).collect()
    }

    /// Whether weights of neurons that were there before change.
    pub(crate) fn changes_neurons(&self) -> bool {
        self.blocks.iter().any(|block| block.neurons.changes.is_some())
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
        self.preserves_function() && self.site.is_seen_whole() && !self.site.is_random() && !self.changes_neurons()
    }

    /// The norm that the gradients of the new incoming and outgoing weights will have.
    pub(crate) fn gradient_norms(&self) -> [f64; 2] {
        let norm = |of: fn(&NewNeurons) -> f64| {
            self.blocks.iter().map(|block| of(&block.gradients.neurons).powi(2)).sum::<f64>().sqrt()
        };
        [norm(|neurons| neurons.incoming.norm_l2()), norm(|neurons| neurons.outgoing.norm_l2())]
    }

    /// Whether no more than rounding arrives at the new weights, whose gradients are sums of entries of this size: all
    /// neurons before or behind them are silent, or the loss does not depend on what they do.
    pub(crate) fn has_no_gradient(&self, magnitude: f64) -> bool {
        let [incoming, outgoing] = self.gradient_norms();
        incoming.hypot(outgoing) <= ROUNDING * magnitude
    }

    /// The gradient norm of the new incoming weights by singular values and scale where there are any, or else by the
    /// branch.
    pub(crate) fn predicted_gradient_norm(&self) -> f64 {
        let predicted = self.blocks.iter().map(|block| block.neurons.predicted_gradient_norm());
        // Neurons that a norm mixes receive more than their own directions give.
        match predicted.collect::<Option<Vec<_>>>().filter(|_| self.site.neurons_are_independent()) {
            Some(norms) => norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt(),
            None => self.gradient_norms()[0],
        }
    }
}

/// What was chosen for every site, what that adds to which parameters, and where.
pub(crate) struct Grown<'a> {
    /// Gradient steps taken before.
    pub(crate) step: usize,
    pub(crate) chosen: &'a [Chosen],
    /// What the gradients of each site's new weights are sums of, in size.
    pub(crate) magnitudes: &'a [f64],
    pub(crate) additions: &'a [Addition],
    /// Of the extensions of all additions, one after another.
    pub(crate) maps: &'a IndexMaps<'a>,
}

impl Grown<'_> {
    pub(crate) fn sites(&self) -> String {
        self.chosen.iter().map(|chosen| format!("`{}`", chosen.site.name)).collect::<Vec<_>>().join(", ")
    }
}

/// For each site, what the gradients of its new weights are sums of, in size.
pub(crate) fn magnitudes(chosen: &[Chosen], seen: Seen<'_>) -> Result<Vec<f64>, Error> {
    let branches = chosen.iter().map(|chosen| {
        let branches = (0..chosen.blocks.len()).map(|block| Branch::of_checked(&chosen.site, block, seen));
        branches.collect::<Result<Vec<_>, _>>()
    });
    let branches = branches.collect::<Result<Vec<_>, _>>()?;
    let blocks = branches.iter().flatten().zip(chosen.iter().flat_map(|chosen| &chosen.blocks));
    let mut of_blocks =
        magnitudes_of(&blocks.map(|(branch, block)| (branch, &block.neurons)).collect::<Vec<_>>())?.into_iter();
    Ok(chosen.iter().map(|chosen| of_blocks.by_ref().take(chosen.blocks.len()).sum()).collect())
}
