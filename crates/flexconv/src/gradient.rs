//! Gradients, seen while the backward pass goes on.

use std::sync::Arc;

use burn::tensor::Tensor;

/// Sees a gradient, in the order of the tensor's entries.
pub type SeeGradient = dyn Fn(&[f32]) + Send + Sync;

/// The same tensor, whose whole gradient is seen as soon as a backward pass has it: when all that was computed from this
/// tensor has given its part, and nothing yet of what lies before it. None where the kernels of this crate do not run.
#[allow(unused_variables)]
pub fn when_gradient<const D: usize>(tensor: &Tensor<D>, see: Arc<SeeGradient>) -> Option<Tensor<D>> {
    #[cfg(feature = "flex")]
    {
        let operand = crate::operation::Operand::of(tensor)?;
        let values = operand.values();
        Some(crate::operation::output([operand], values, move |gradient, [needed]| {
            see(gradient.get());
            [needed.then_some(gradient)]
        }))
    }
    #[cfg(not(feature = "flex"))]
    None
}
