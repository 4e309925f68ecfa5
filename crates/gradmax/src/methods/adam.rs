//! Adam on host matrices, for growth methods that train new neurons (Kingma and Ba 2015).

use faer::Mat;

use crate::matrix::Matrix;

const BETAS: [f64; 2] = [0.9, 0.999];
// Keras' default, and so that of the published code; PyTorch's is 1e-8.
const EPSILON: f64 = 1e-7;

/// The state of Adam for one matrix.
pub(crate) struct Adam {
    learning_rate: f64,
    step: i32,
    moments: [Matrix; 2],
}

impl Adam {
    pub(crate) fn new(learning_rate: f64, (rows, columns): (usize, usize)) -> Self {
        Self { learning_rate, step: 0, moments: [(); 2].map(|()| Mat::zeros(rows, columns)) }
    }

    /// The weights after a step down the gradient.
    pub(crate) fn stepped(&mut self, weights: &Matrix, gradient: &Matrix) -> Matrix {
        self.step += 1;
        let corrections = BETAS.map(|beta| 1.0 - beta.powi(self.step));
        let [first, second] = &mut self.moments;
        Mat::from_fn(weights.nrows(), weights.ncols(), |i, j| {
            let g = gradient[(i, j)];
            first[(i, j)] = BETAS[0] * first[(i, j)] + (1.0 - BETAS[0]) * g;
            second[(i, j)] = BETAS[1] * second[(i, j)] + (1.0 - BETAS[1]) * g * g;
            let root = (second[(i, j)] / corrections[1]).sqrt();
            weights[(i, j)] - self.learning_rate * (first[(i, j)] / corrections[0]) / (root + EPSILON)
        })
    }
}
