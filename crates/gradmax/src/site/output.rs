//! What a network computes, of whatever shape.

use burn::tensor::{Tensor, TensorData};

/// What a network computes: a tensor of any rank, or several.
pub trait Output: Clone {
    /// The same without its graph of automatic differentiation.
    fn inner(self) -> Self;

    /// All entries, by which growth compares outputs.
    fn entries(&self) -> Vec<TensorData>;
}

impl<const D: usize> Output for Tensor<D> {
    fn inner(self) -> Self {
        Tensor::inner(self)
    }

    fn entries(&self) -> Vec<TensorData> {
        vec![self.clone().into_data()]
    }
}

impl<A: Output, B: Output> Output for (A, B) {
    fn inner(self) -> Self {
        (self.0.inner(), self.1.inner())
    }

    fn entries(&self) -> Vec<TensorData> {
        [self.0.entries(), self.1.entries()].concat()
    }
}

impl<O: Output> Output for Vec<O> {
    fn inner(self) -> Self {
        self.into_iter().map(Output::inner).collect()
    }

    fn entries(&self) -> Vec<TensorData> {
        self.iter().flat_map(Output::entries).collect()
    }
}
