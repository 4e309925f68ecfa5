//! The layers that come with the library, a file each: those that compute and read neurons, and those that lie between.

mod activation;
mod average_pool;
mod batch_norm;
mod beside;
mod conv1d;
mod conv2d;
mod depthwise;
mod dropout;
mod embedding;
mod flatten;
mod gate;
mod group_norm;
mod layer_norm;
mod linear;
mod max_pool;

pub use self::activation::Elementwise;
pub use self::average_pool::{GlobalAverage, global_average};
pub use self::beside::Beside;
pub use self::flatten::Flatten;
pub use self::gate::Gate;
pub(crate) use self::gate::drawn_as;
pub use self::layer_norm::ChangingLayerNorm;
