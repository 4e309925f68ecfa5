//! When, where and by how much a network grows: the contract of policies, and a file for each of them.

pub(crate) mod budget;
pub(crate) mod look;
pub(crate) mod policy;

pub use self::budget::Budget;
pub use self::look::{Cost, PolicyLook, SingularValue};
pub use self::policy::{Observed, Policy, PolicyState, Stretch};
use crate::registry::registry;

registry! {
    /// Every policy that configurations can name.
    POLICIES: dyn Policy;
    marginal { Marginal }
        "marginal" = Marginal::default() =>
            "where a further neuron pays more for what it costs than training does without it";
    periodic { Amount, Order, Periodic }
        "periodic" = Periodic::default() =>
            "so many neurons at fixed steps, at all sites at once or one after another";
    plateau { Plateau }
        "plateau" = Plateau::default() =>
            "once the training loss has not fallen any more";
    target { Target }
        "target" = Target::default() =>
            "evenly, to given widths by a given share of the run";
    spectrum { Spectrum }
        "spectrum" = Spectrum::default() =>
            "at fixed steps, the neurons whose singular value is near the largest one of all sites";
}
