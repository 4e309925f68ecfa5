//! A task that is chosen at run time.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::Task;
use super::classification::Classification;
use super::regression::Regression;
use crate::error::Error;

/// Regression, classification or next-token prediction, for programs that are told which when they run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Supervised {
    /// [`Regression`].
    Regression,
    /// [`Classification`], without label smoothing.
    Classification,
    /// [`Classification`] with label smoothing.
    SmoothedClassification(f64),
    /// [`NextToken`](super::NextToken), with a row of outputs for each token, one sequence after another: `[batch * time,
    /// vocabulary]`.
    NextToken,
}

/// What a batch's outputs should be, in a task that is chosen at run time.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Target {
    /// Values, `[batch, outputs]`.
    Values(Tensor<2>),
    /// Class indices, `[batch]`.
    Classes(Tensor<1, Int>),
    /// For every token of a sequence the one that follows, `[batch, time]`.
    Tokens(Tensor<2, Int>),
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
            Self::Tokens(tokens) => tokens.dims()[0],
        }
    }
}

impl Supervised {
    fn classification(self) -> Classification {
        match self {
            Self::SmoothedClassification(label_smoothing) => Classification { label_smoothing },
            Self::Regression | Self::Classification | Self::NextToken => Classification::default(),
        }
    }

    fn wrong(self) -> ! {
        panic!("a {self:?} task needs a target of its kind")
    }
}

/// # Panics
/// If a target is not of the task's kind.
impl Task for Supervised {
    type Output = Tensor<2>;
    type Target = Target;

    fn examples(&self, target: &Target) -> usize {
        target.count()
    }

    fn units(&self, target: &Target) -> usize {
        match target {
            Target::Tokens(tokens) => tokens.dims().iter().product(),
            Target::Values(_) | Target::Classes(_) => target.count(),
        }
    }

    fn loss(&self, output: &Tensor<2>, target: &Target) -> Tensor<1> {
        match (self, target) {
            (Self::Regression, Target::Values(values)) => Regression.loss(output, values),
            (Self::Classification | Self::SmoothedClassification(_), Target::Classes(classes)) => {
                self.classification().loss(output, classes)
            }
            (Self::NextToken, Target::Tokens(tokens)) => self.classification().loss(output, &flat(tokens)),
            _ => self.wrong(),
        }
    }

    fn training_loss(&self, output: &Tensor<2>, target: &Target) -> Tensor<1> {
        match (self, target) {
            (Self::SmoothedClassification(_), Target::Classes(classes)) => {
                self.classification().training_loss(output, classes)
            }
            _ => self.loss(output, target),
        }
    }

    fn correct(&self, output: &Tensor<2>, target: &Target) -> Option<f64> {
        match target {
            Target::Values(_) => None,
            Target::Classes(classes) => self.classification().correct(output, classes),
            Target::Tokens(tokens) => self.classification().correct(output, &flat(tokens)),
        }
    }

    fn check(
        &self,
        set: &'static str,
        output: &Tensor<2>,
        target: &Target,
        largest: Option<usize>,
    ) -> Result<(), Error> {
        match target {
            Target::Values(_) => Ok(()),
            Target::Classes(classes) => self.classification().check(set, output, classes, largest),
            Target::Tokens(tokens) => self.classification().check(set, output, &flat(tokens), largest),
        }
    }

    fn has_classes(&self) -> bool {
        *self != Self::Regression
    }
}

/// One for each row of outputs.
fn flat(tokens: &Tensor<2, Int>) -> Tensor<1, Int> {
    let count = tokens.dims().iter().product::<usize>();
    tokens.clone().reshape([count])
}
