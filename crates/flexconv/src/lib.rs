//! CPU kernels for the training step of convolutional networks, as an extension of Burn's `flex` backend.
#![warn(missing_docs)]

mod activations;
mod attention;
mod batch_norm;
#[cfg(any(feature = "cube", all(test, feature = "flex")))]
mod composed;
mod convolution;
#[cfg(feature = "flex")]
mod correlate;
mod dense;
#[cfg(feature = "flex")]
mod elementwise;
#[cfg(feature = "flex")]
mod exponential;
#[cfg(feature = "flex")]
mod geometry;
mod gradient;
#[cfg(feature = "flex")]
mod kernel;
mod memory;
#[cfg(feature = "flex")]
mod operation;
#[cfg(feature = "flex")]
mod passes;
#[cfg(feature = "flex")]
mod product;
mod rectifier;
#[cfg(feature = "flex")]
mod tile;
mod token_norm;
mod unrolled;
#[cfg(feature = "flex")]
mod weight_gradient;

pub use activations::{gelu, silu};
pub use attention::attention;
pub use batch_norm::{Across, Normalized, SumOverProcesses, batch_norm_train, batch_norm_train_across, centre_across};
pub use convolution::{
    Joined, conv2d, conv2d_input_gradient, conv2d_weight_gradient, convolve, convolve_joined, options,
};
pub use dense::{dense, dense_rectified, linear};
pub use gradient::{SeeGradient, gradient_key, with_gradients_seen};
pub use memory::{computes_on_threads, keep_freed_memory, map_side_by_side, with_threads};
pub use rectifier::relu;
pub use token_norm::token_norm;

/// Runs multiply-adds in registers, so many rounds, on this thread, and returns the number of operations: what
/// benchmarks compare the kernels with.
#[cfg(feature = "flex")]
#[doc(hidden)]
pub fn run_peak(rounds: usize) -> usize {
    let (operations, result) = kernel::InstructionSet::best().chain(rounds);
    std::hint::black_box(result);
    operations
}

/// The name of the instruction set that the kernels use on this processor.
#[cfg(feature = "flex")]
pub fn instruction_set() -> &'static str {
    kernel::InstructionSet::best().name
}
