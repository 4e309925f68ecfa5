//! Passes over the growth batch, taken again.

use crate::error::Error;
use crate::event::pass::{Part, probed};
use crate::operator::seen::Again;
use crate::operator::work::Work;
use crate::site::growable::Growable;
use crate::site::probe::Evidence;

/// A network and the parts of the growth batch.
pub(crate) struct Replay<'a, 'p, N: Growable> {
    pub(crate) network: &'a N,
    pub(crate) parts: &'a [Part<'p, N>],
    pub(crate) sample: &'a Evidence,
    /// What the parts' shares of the loss are multiplied by.
    pub(crate) weight: f64,
    pub(crate) work: &'a Work,
}

impl<N: Growable> Again for Replay<'_, '_, N> {
    fn sample(&self) -> &Evidence {
        self.sample
    }

    fn each_part(&self, see: &mut dyn FnMut(&Evidence) -> Result<(), Error>) -> Result<(), Error> {
        self.parts.iter().try_for_each(|part| {
            self.work.pass(part.weight);
            see(&probed(self.network, part)?.evidence.weighted(self.weight))
        })
    }
}
