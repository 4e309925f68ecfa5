//! When, where and by how much a network grows: the contract of policies, and a file for each of them.

pub(crate) mod look;
pub(crate) mod policy;

pub use self::look::{Cost, PolicyLook};
pub use self::policy::{Observed, Policy, PolicyState};
use crate::registry::registry;

registry! {
    /// Every policy that configurations can name.
    POLICIES: dyn Policy;
    periodic { Amount, Order, Periodic }
        "periodic" = Periodic::default() =>
            "so many neurons at fixed steps, at all sites at once or one after another";
    spectrum { Spectrum }
        "spectrum" = Spectrum::default() =>
            "at fixed steps, the neurons whose singular value is near the largest one of all sites";
}
