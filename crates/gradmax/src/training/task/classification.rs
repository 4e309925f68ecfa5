//! Classification.

use burn::tensor::{Int, Tensor, activation};

use super::Task;
use crate::error::Error;

/// Mean cross-entropy of the softmax of the outputs, `[batch, classes]`, with class indices, `[batch]`; the score is
/// the share of correct answers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Classification {
    /// The share of each class's probability that training spreads evenly over all classes (Szegedy et al. 2016); 0 for
    /// none.
    pub label_smoothing: f64,
}

impl Task for Classification {
    type Output = Tensor<2>;
    type Target = Tensor<1, Int>;

    fn examples(&self, target: &Tensor<1, Int>) -> usize {
        target.dims()[0]
    }

    fn loss(&self, output: &Tensor<2>, target: &Tensor<1, Int>) -> Tensor<1> {
        cross_entropy(output.clone(), target.clone())
    }

    fn training_loss(&self, output: &Tensor<2>, target: &Tensor<1, Int>) -> Tensor<1> {
        let loss = self.loss(output, target);
        if self.label_smoothing == 0.0 {
            return loss;
        }
        // The cross-entropy with even probabilities is the mean over all classes.
        let even = activation::log_softmax(output.clone(), 1).mean().neg();
        loss.mul_scalar(1.0 - self.label_smoothing) + even.mul_scalar(self.label_smoothing)
    }

    fn correct(&self, output: &Tensor<2>, target: &Tensor<1, Int>) -> Option<f64> {
        Some(correct(output.clone(), target.clone()))
    }

    fn check(
        &self,
        set: &'static str,
        output: &Tensor<2>,
        target: &Tensor<1, Int>,
        largest: Option<usize>,
    ) -> Result<(), Error> {
        check_classes(set, output.dims()[1], target, largest)
    }

    fn has_classes(&self) -> bool {
        true
    }
}

/// Mean cross-entropy of the softmax of rows `[rows, classes]` with class indices `[rows]`.
pub(super) fn cross_entropy(rows: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
    let [count] = classes.dims();
    activation::log_softmax(rows, 1).gather(1, classes.reshape([count, 1])).mean().neg()
}

/// Number of rows whose largest entry is that of the class.
pub(super) fn correct(rows: Tensor<2>, classes: Tensor<1, Int>) -> f64 {
    let answers = rows.argmax(1).reshape(classes.dims());
    answers.equal(classes).int().sum().into_scalar::<f64>()
}

/// Checks that there is an output for every class.
pub(super) fn check_classes<const D: usize>(
    set: &'static str,
    outputs: usize,
    classes: &Tensor<D, Int>,
    largest: Option<usize>,
) -> Result<(), Error> {
    let range = match largest {
        Some(largest) => Some([0, largest as i64]),
        None => class_range(classes),
    };
    match range {
        Some([least, largest]) if least < 0 || largest >= outputs as i64 => {
            let label = if least < 0 { least } else { largest };
            Err(Error::LabelOutOfRange { set, label, outputs })
        }
        _ => Ok(()),
    }
}

/// The least and the largest of class indices; none if there are none.
pub(crate) fn class_range<const D: usize>(classes: &Tensor<D, Int>) -> Option<[i64; 2]> {
    // On the host: a minimum and a maximum on the device would wait for it twice.
    let data = classes.clone().into_data();
    let (least, largest) = (data.iter::<i64>().min()?, data.iter::<i64>().max()?);
    Some([least, largest])
}
