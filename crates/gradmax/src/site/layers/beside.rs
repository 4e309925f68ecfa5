//! Neurons beside others, for concatenations.

use crate::site::between::{Between, Gained, Traits, between_by_value};
use crate::site::signal::Signal;

/// From here on, the neurons lie beside others. What follows (norms, depthwise convolutions, the consumer) reads them
/// all together.
#[derive(Debug, Clone, Copy)]
pub struct Beside {
    /// Channels before the neurons.
    pub before: usize,
    /// Channels after them.
    pub after: usize,
}

between_by_value!(Beside);

impl Between for Beside {
    fn name(&self) -> &str {
        "concatenation"
    }

    fn applied(&self, neurons: Signal, _gained: &Gained) -> Signal {
        neurons
    }

    fn traits(&self) -> Traits {
        Traits { is_factor: true, beside: [self.before, self.after], ..Traits::default() }
    }
}
