//! How a module gets wider, and its optimizer keeps up.

pub(crate) mod addition;
pub(crate) mod carry;
pub(crate) mod existing;
pub(crate) mod index_map;
pub(crate) mod new_neurons;
pub(crate) mod removal;
pub(crate) mod rescale;
pub(crate) mod widen;

pub use self::carry::{Carried, SecondMoments, carry, matrix_optimizer_on, optimizer_on};
pub use self::existing::Existing;
pub use self::new_neurons::{Changes, NewNeurons};
pub use self::widen::{Widening, widen};
