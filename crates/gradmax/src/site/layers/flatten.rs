//! Flattening: the positions of a neuron become features.

use crate::site::between::{Between, Gained, Positions, Traits, between_by_value};
use crate::site::signal::Signal;

/// Maps become plain features, the positions of a channel side by side.
#[derive(Debug, Clone, Copy)]
pub struct Flatten;

between_by_value!(Flatten);

impl Between for Flatten {
    fn name(&self) -> &str {
        "flatten"
    }

    fn applied(&self, neurons: Signal, _gained: &Gained) -> Signal {
        Signal::of_features(neurons.flattened())
    }

    fn traits(&self) -> Traits {
        Traits { positions: Positions::Flattened, ..Traits::default() }
    }
}
