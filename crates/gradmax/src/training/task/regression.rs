//! Regression.

use burn::tensor::Tensor;

use super::Task;

/// Mean squared error over examples and outputs, `[batch, outputs]`; no score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Regression;

impl Task for Regression {
    type Output = Tensor<2>;
    type Target = Tensor<2>;

    fn examples(&self, target: &Tensor<2>) -> usize {
        target.dims()[0]
    }

    fn loss(&self, output: &Tensor<2>, target: &Tensor<2>) -> Tensor<1> {
        (output.clone() - target.clone()).square().mean()
    }
}
