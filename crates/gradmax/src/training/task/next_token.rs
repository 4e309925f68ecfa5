//! Next-token prediction.

use burn::tensor::{Int, Tensor};

use super::Task;
use super::classification::{check_classes, correct, cross_entropy};
use crate::error::Error;

/// Mean cross-entropy over the tokens of all sequences: outputs `[batch, time, vocabulary]`, and at each time the token
/// that follows, `[batch, time]`. An example is a sequence, a scored unit a token; the score is the share of tokens
/// that are foretold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextToken;

impl Task for NextToken {
    type Output = Tensor<3>;
    type Target = Tensor<2, Int>;

    fn examples(&self, target: &Tensor<2, Int>) -> usize {
        target.dims()[0]
    }

    fn units(&self, target: &Tensor<2, Int>) -> usize {
        target.dims().iter().product()
    }

    fn loss(&self, output: &Tensor<3>, target: &Tensor<2, Int>) -> Tensor<1> {
        let (rows, tokens) = by_token(output, target);
        cross_entropy(rows, tokens)
    }

    fn correct(&self, output: &Tensor<3>, target: &Tensor<2, Int>) -> Option<f64> {
        let (rows, tokens) = by_token(output, target);
        Some(correct(rows, tokens))
    }

    fn check(
        &self,
        set: &'static str,
        output: &Tensor<3>,
        target: &Tensor<2, Int>,
        largest: Option<usize>,
    ) -> Result<(), Error> {
        check_classes(set, output.dims()[2], target, largest)
    }

    fn has_classes(&self) -> bool {
        true
    }
}

/// A row for each token: `[batch * time, vocabulary]` and `[batch * time]`.
fn by_token(output: &Tensor<3>, target: &Tensor<2, Int>) -> (Tensor<2>, Tensor<1, Int>) {
    let [batch, time, vocabulary] = output.dims();
    (output.clone().reshape([batch * time, vocabulary]), target.clone().reshape([batch * time]))
}
