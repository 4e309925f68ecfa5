//! When a network grows, where, and by how much.

pub(crate) mod periodic;
pub(crate) mod schedule;

pub use self::periodic::{Amount, Order, Periodic};
pub use self::schedule::{Observed, Schedule, target_widths};
