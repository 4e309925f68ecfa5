//! Linear maps between the incoming and the outgoing weights of a neuron.

use faer::MatRef;

use crate::matrix::Matrix;

/// A linear map between the incoming and the outgoing weights of a neuron, given by its products only.
///
/// Its matrix is the *growth matrix* `G`, `[fan_out, fan_in]`; no method needs it in memory.
pub trait LinearOperator {
    /// Incoming weights of one neuron.
    fn fan_in(&self) -> usize;
    /// Outgoing weights of one neuron.
    fn fan_out(&self) -> usize;
    /// `W' G`, for `outgoing` `W` of shape `[fan_out, n]`: `[n, fan_in]`.
    fn apply(&self, outgoing: MatRef<'_, f64>) -> Matrix;
    /// `G V'`, for `incoming` `V` of shape `[n, fan_in]`: `[fan_out, n]`.
    fn adjoint(&self, incoming: MatRef<'_, f64>) -> Matrix;
}

/// A growth matrix, `[fan_out, fan_in]`.
impl LinearOperator for Matrix {
    fn fan_in(&self) -> usize {
        self.ncols()
    }

    fn fan_out(&self) -> usize {
        self.nrows()
    }

    fn apply(&self, outgoing: MatRef<'_, f64>) -> Matrix {
        outgoing.transpose() * self
    }

    fn adjoint(&self, incoming: MatRef<'_, f64>) -> Matrix {
        self * incoming.transpose()
    }
}

/// An operator with incoming and outgoing weights exchanged: its left singular directions are the other's right ones.
pub struct Transposed<'a>(pub &'a dyn LinearOperator);

impl LinearOperator for Transposed<'_> {
    fn fan_in(&self) -> usize {
        self.0.fan_out()
    }

    fn fan_out(&self) -> usize {
        self.0.fan_in()
    }

    fn apply(&self, outgoing: MatRef<'_, f64>) -> Matrix {
        self.0.adjoint(outgoing.transpose()).transpose().to_owned()
    }

    fn adjoint(&self, incoming: MatRef<'_, f64>) -> Matrix {
        self.0.apply(incoming.transpose()).transpose().to_owned()
    }
}
