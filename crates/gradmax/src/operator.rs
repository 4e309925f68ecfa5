//! What a new neuron would do, and which ones would learn fastest.

pub(crate) mod block;
pub(crate) mod branch;
pub(crate) mod directions;
pub(crate) mod growth_operator;
pub(crate) mod linear_operator;
pub(crate) mod seen;
pub(crate) mod work;

pub use self::branch::Branch;
pub use self::directions::{Directions, Solver, alignment, leading_directions, leading_directions_by};
pub use self::growth_operator::GrowthOperator;
pub use self::linear_operator::{LinearOperator, Transposed};
