//! CPU kernels for the training step of convolutional networks, as an extension of Burn's `flex` backend.
#![warn(missing_docs)]

mod batch_norm;
mod convolution;
#[cfg(feature = "flex")]
mod correlate;
#[cfg(feature = "flex")]
mod elementwise;
#[cfg(feature = "flex")]
mod geometry;
#[cfg(feature = "flex")]
mod kernel;
#[cfg(feature = "flex")]
mod operation;
#[cfg(feature = "flex")]
mod passes;
mod memory;
mod rectifier;
#[cfg(feature = "flex")]
mod tile;
#[cfg(feature = "flex")]
mod weight_gradient;

pub use batch_norm::{Normalized, batch_norm_train};
pub use convolution::{Joined, conv2d, convolve, convolve_joined};
pub use memory::keep_freed_memory;
pub use rectifier::relu;
