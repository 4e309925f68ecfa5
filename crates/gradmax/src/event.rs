//! One growth event: look, choose weights, widen, verify, and say what was done.

pub(crate) mod change;
pub(crate) mod checks;
pub(crate) mod choose;
pub(crate) mod chosen;
pub(crate) mod context;
pub(crate) mod first_step;
pub(crate) mod gain;
pub(crate) mod gradients;
pub(crate) mod grower;
pub(crate) mod look;
pub(crate) mod loss_on_batch;
pub(crate) mod new_entries;
pub(crate) mod pass;
pub(crate) mod plan;
pub(crate) mod receipt;
pub(crate) mod replay;
pub(crate) mod rounding;
pub(crate) mod verify;

pub use self::context::EventContext;
pub use self::first_step::FirstStep;
pub use self::grower::{Grower, Growth};
pub use self::look::{EVIDENCE_MEMORY, Look};
pub use self::pass::{Part, Pass, TrainingPass};
pub use self::plan::Planned;
pub use self::receipt::{Receipt, SiteReceipt, Timing};
pub use self::verify::Verification;
