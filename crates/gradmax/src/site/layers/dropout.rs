//! Dropout. It linearises to its mean, the identity: the gradient of new weights is then what training sees in the
//! mean, not in its first step.

use crate::modules::Dropout;
use crate::site::between::{Between, Gained, Traits};
use crate::site::signal::Signal;

macro_rules! dropout {
    ($($kind:ty),+) => {$(
        impl Between for $kind {
            fn name(&self) -> &str {
                "dropout"
            }

            fn applied(&self, neurons: Signal, _gained: &Gained) -> Signal {
                neurons
            }

            fn traits(&self) -> Traits {
                Traits { is_factor: true, is_random: true, ..Traits::default() }
            }
        }
    )+};
}

dropout!(Dropout, burn::nn::Dropout);
