//! How an optimizer's first step with new weights follows from their gradient.

use crate::matrix::Matrix;
use crate::surgery::new_neurons::NewNeurons;

/// How an optimizer's first step with new weights follows from their gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirstStep {
    /// It is the gradient times the learning rate: stochastic gradient descent.
    #[default]
    Gradient,
    /// It is the learning rate in every entry, with the gradient's sign: Adam and its kin, which divide by the gradient's
    /// size (of weights whose second moments start at zero), and Lion.
    Sign,
}

impl FirstStep {
    /// The step down these gradients, per unit of the learning rate.
    pub(super) fn of(self, gradients: NewNeurons) -> NewNeurons {
        let Self::Sign = self else {
            return gradients;
        };
        let signs = |of: &Matrix| {
            // An entry without a gradient stays where it is.
            Matrix::from_fn(of.nrows(), of.ncols(), |i, j| if of[(i, j)] == 0.0 { 0.0 } else { of[(i, j)].signum() })
        };
        NewNeurons { incoming: signs(&gradients.incoming), outgoing: signs(&gradients.outgoing), ..gradients }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_by_signs_is_as_long_in_every_entry_that_has_a_gradient() {
        let gradients = NewNeurons::unbiased(
            Matrix::from_fn(1, 3, |_, j| [0.5, -2.0, 0.0][j]),
            Matrix::from_fn(2, 1, |i, _| [-1e-9, 3.0][i]),
        );
        let steps = FirstStep::Sign.of(gradients.clone());
        assert_eq!((0..3).map(|j| steps.incoming[(0, j)]).collect::<Vec<_>>(), [1.0, -1.0, 0.0]);
        assert_eq!([steps.outgoing[(0, 0)], steps.outgoing[(1, 0)]], [-1.0, 1.0]);
        assert_eq!(FirstStep::Gradient.of(gradients.clone()).incoming, gradients.incoming);
    }
}
