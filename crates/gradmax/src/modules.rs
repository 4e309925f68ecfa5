//! Modules that store no width, so that widening their parameters is all that growth has to do.
//!
//! Burn's own group norm and depthwise convolution keep their number of channels in a field that growth cannot reach.

mod depthwise;
mod group_norm;
mod norm;

pub use self::depthwise::DepthwiseConv2d;
pub use self::group_norm::GroupNorm;
pub use self::norm::{Norm, NormKind};
