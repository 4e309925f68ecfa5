//! What a network is trained to do: its loss and its score.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

/// A kind of supervised learning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Mean squared error over examples and outputs; no score.
    Regression,
    /// Mean cross-entropy of the softmax of the outputs; the score is the share of correct answers.
    Classification,
}

/// What a batch's outputs should be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Target {
    /// Values, `[batch, outputs]`.
    Values(Tensor<2>),
    /// Class indices, `[batch]`.
    Classes(Tensor<1, Int>),
}

impl Target {
    /// Class indices on a device.
    pub fn classes(classes: impl Iterator<Item = u32>, device: &Device) -> Self {
        let classes = classes.map(|class| class as i32).collect::<Vec<_>>();
        let count = classes.len();
        Self::Classes(Tensor::from_data(TensorData::new(classes, [count]), device))
    }

    /// Number of examples.
    pub fn count(&self) -> usize {
        match self {
            Self::Values(values) => values.dims()[0],
            Self::Classes(classes) => classes.dims()[0],
        }
    }
}

impl Task {
    /// As [`loss`](Self::loss), with a share of each class's probability spread evenly over all classes (label
    /// smoothing, Szegedy et al. 2016); 0 for none.
    ///
    /// # Panics
    /// As [`loss`](Self::loss).
    pub fn smoothed_loss(&self, output: Tensor<2>, target: &Target, smoothing: f64) -> Tensor<1> {
        if smoothing == 0.0 || *self == Self::Regression {
            return self.loss(output, target);
        }
        let even = activation::log_softmax(output.clone(), 1).mean().neg();
        self.loss(output, target).mul_scalar(1.0 - smoothing) + even.mul_scalar(smoothing)
    }

    /// The mean loss of outputs `[batch, outputs]`.
    ///
    /// # Panics
    /// If the target is not of the task's kind.
    pub fn loss(&self, output: Tensor<2>, target: &Target) -> Tensor<1> {
        match (self, target) {
            (Self::Regression, Target::Values(values)) => (output - values.clone()).square().mean(),
            (Self::Classification, Target::Classes(classes)) => {
                let [batch] = classes.dims();
                activation::log_softmax(output, 1).gather(1, classes.clone().reshape([batch, 1])).mean().neg()
            }
            _ => panic!("a {self:?} task needs a target of its kind"),
        }
    }

    /// The number of correct answers, for tasks that have a score.
    pub fn correct(&self, output: Tensor<2>, target: &Target) -> Option<f64> {
        match target {
            Target::Values(_) => None,
            Target::Classes(classes) => {
                let answers = output.argmax(1).reshape(classes.dims());
                Some(answers.equal(classes.clone()).int().sum().into_scalar::<f64>())
            }
        }
    }
}
