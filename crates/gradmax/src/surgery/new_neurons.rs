//! What a growth method answers: the weights of new neurons, and what they take over from existing ones.

use crate::matrix::Matrix;

/// The weights of new neurons.
#[derive(Debug, Clone)]
pub struct NewNeurons {
    /// Weights into the new neurons, `[count, fan_in]`.
    pub incoming: Matrix,
    /// Weights out of them, `[fan_out, count]`.
    pub outgoing: Matrix,
    /// Their biases; ignored where the producer has none.
    pub bias: Vec<f64>,
    /// Singular values of their directions, for methods that find them; else empty.
    pub singular_values: Vec<f64>,
    /// The gradient that their incoming weights will receive, `[count, fan_in]`, if the method came by it; else it is
    /// computed. Only looked at where the incoming weights and biases are zero.
    pub incoming_gradient: Option<Matrix>,
    /// For each new neuron the existing one that it is split from, if any: it starts with that one's entries of all
    /// that lies between (norms, depthwise kernels). Empty if none is.
    pub parents: Vec<Option<usize>>,
    /// What is added to the weights of the existing neurons, for methods that touch them.
    pub changes: Option<Changes>,
}

/// What is added to the weights of the existing neurons of a site (or of one of its blocks).
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// To the weights into them, `[width, fan_in]`.
    pub incoming: Matrix,
    /// To the weights out of them, `[fan_out, width]`.
    pub outgoing: Matrix,
    /// To their biases.
    pub bias: Vec<f64>,
}

impl Changes {
    /// No change to `width` neurons.
    pub fn none(width: usize, fan_in: usize, fan_out: usize) -> Self {
        Self { incoming: Matrix::zeros(width, fan_in), outgoing: Matrix::zeros(fan_out, width), bias: vec![0.0; width] }
    }
}

impl NewNeurons {
    /// Neurons with these weights: `[count, fan_in]`, `[fan_out, count]`, and a bias each.
    pub fn new(incoming: Matrix, outgoing: Matrix, bias: Vec<f64>) -> Self {
        Self {
            incoming,
            outgoing,
            bias,
            singular_values: Vec::new(),
            incoming_gradient: None,
            parents: Vec::new(),
            changes: None,
        }
    }

    /// Neurons with these weights and zero biases.
    pub fn unbiased(incoming: Matrix, outgoing: Matrix) -> Self {
        let bias = vec![0.0; incoming.nrows()];
        Self::new(incoming, outgoing, bias)
    }

    /// Neurons whose weights and biases are all zero.
    pub(crate) fn zeros(count: usize, fan_in: usize, fan_out: usize) -> Self {
        Self::unbiased(Matrix::zeros(count, fan_in), Matrix::zeros(fan_out, count))
    }

    /// Number of neurons.
    pub fn count(&self) -> usize {
        self.incoming.nrows()
    }

    /// The gradient norm of the new incoming weights that singular values and scale predict, where there are any.
    pub fn predicted_gradient_norm(&self) -> Option<f64> {
        // A singular value is the gradient at outgoing weights of norm 1, and the gradient is linear in these.
        let squared = |(j, value): (usize, &f64)| (self.outgoing.col(j).norm_l2() * value).powi(2);
        match self.singular_values.is_empty() {
            true => None,
            false => Some(self.singular_values.iter().enumerate().map(squared).sum::<f64>().sqrt()),
        }
    }

    /// Whether incoming weights and biases are zero.
    pub(crate) fn are_silent(&self) -> bool {
        self.incoming.norm_max() == 0.0 && self.bias.iter().all(|bias| *bias == 0.0)
    }

    /// Whether adding these neurons leaves the network's output exactly as it is, for activations with `f(0) = 0`, by
    /// one of their sides being zero. (Neurons that are split from others can preserve it too.)
    pub fn one_side_is_zero(&self) -> bool {
        self.changes.is_none() && (self.outgoing.norm_max() == 0.0 || self.are_silent())
    }

    /// The neuron that a new one is split from.
    pub(crate) fn parent(&self, neuron: usize) -> Option<usize> {
        self.parents.get(neuron).copied().flatten()
    }
}
