//! Gradients, seen while the backward pass goes on.

use std::cell::RefCell;
use std::rc::Rc;

use burn::tensor::Tensor;

/// Sees what an operation adds to the gradient of a tensor, which has this key: entry by entry, in order.
pub type SeeGradient = dyn Fn(u64, &[f32]);

thread_local! {
    static SEES: RefCell<Option<Rc<SeeGradient>>> = const { RefCell::new(None) };
}

/// Runs something in which the operations of this crate show what they add to gradients in a backward pass, each as soon
/// as it is computed. What other operations add is not shown.
pub fn with_gradients_seen<T>(see: Rc<SeeGradient>, run: impl FnOnce() -> T) -> T {
    /// Puts back what was, even if a pass panics.
    struct Back(Option<Rc<SeeGradient>>);
    impl Drop for Back {
        fn drop(&mut self) {
            SEES.replace(self.0.take());
        }
    }
    let _back = Back(SEES.replace(Some(see)));
    run()
}

/// The key that the gradient of a tensor is shown with. None where the kernels of this crate do not run.
#[allow(unused_variables)]
pub fn gradient_key<const D: usize>(tensor: &Tensor<D>) -> Option<u64> {
    #[cfg(feature = "flex")]
    return crate::operation::Operand::of(tensor)?.key();
    #[cfg(not(feature = "flex"))]
    None
}

/// Shows what is added to a gradient, if anybody looks.
#[cfg(feature = "flex")]
pub(crate) fn show(key: u64, entries: &[f32]) {
    let see = SEES.with_borrow(Clone::clone);
    see.into_iter().for_each(|see| see(key, entries));
}
