//! TINY: the growth operator whitened by the second moments of the input (Verbockhaven et al. 2024).

use faer::{Mat, MatRef, Side as Triangle};
use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request};
use crate::error::Error;
use crate::matrix::Matrix;
use crate::operator::directions::leading_directions;
use crate::operator::linear_operator::{LinearOperator, Transposed};
use crate::site::side::Side;
use crate::surgery::new_neurons::NewNeurons;

/// The neurons that best make up for what the layers cannot express: the leading directions of `G S^-1/2`, where `G` is
/// the growth matrix and `S` the second moments of the producer's input, and where the part of `delta` that changes of
/// the existing outgoing weights can make is taken off before.
///
/// Where GradMax asks which neurons learn fastest by gradient descent, this asks which reduce the loss most if each
/// step were solved by least squares: a direction along which inputs vary little counts as much as any. One side is
/// zero, as the placement says: zero incoming weights take the left singular directions as outgoing weights, zero
/// outgoing ones take `S^-1/2` times the right ones as incoming weights. (The paper fills both, with an amplitude by
/// line search, which changes the function.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tiny {
    /// Whether what existing neurons can make is taken off.
    pub project: bool,
}

impl Default for Tiny {
    fn default() -> Self {
        Self { project: true }
    }
}

/// Second moments below this share of the largest are rounding: such directions do not occur in the input.
const NOISE: f64 = 1e-6;

impl GrowthMethod for Tiny {
    fn name(&self) -> &str {
        "tiny"
    }

    fn needs(&self) -> &'static [Need] {
        match self.project {
            true => &[Need::Moments, Need::Branch],
            false => &[Need::Operator, Need::Moments],
        }
    }

    fn draws(&self) -> bool {
        false
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let zero_side = request.zero_side;
        // Without existing neurons there is nothing that they could make.
        let whitened = match self.project && request.width > 0 {
            false => Whitened::new(request.operator()?, request)?,
            true => {
                let existing = request.existing().as_neurons();
                let operator = request.branch()?.beyond(&existing)?.operator(zero_side)?;
                return Whitened::new(&operator, request)?.place(request);
            }
        };
        whitened.place(request)
    }
}

/// The operator with `S^-1/2` on the side of the incoming weights.
struct Whitened<'a> {
    operator: &'a dyn LinearOperator,
    /// `[fan_in, fan_in]`
    root: Matrix,
}

impl<'a> Whitened<'a> {
    fn new(operator: &'a dyn LinearOperator, request: &Request<'_>) -> Result<Self, Error> {
        let size = request.fan_in;
        let moments = request.input_moments(Mat::identity(size, size).as_ref())?;
        if !moments.is_all_finite() {
            return Err(Error::OperatorNotFinite);
        }
        let eigen = moments.self_adjoint_eigen(Triangle::Lower).expect("the eigenvalues of a finite matrix converge");
        let (vectors, values) = (eigen.U(), eigen.S().column_vector());
        let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(*value));
        // Relative to the largest, so that the scale of the input does not matter.
        let root = |value: f64| if value > NOISE * largest { (largest / value).sqrt() } else { 0.0 };
        let scaled = Mat::from_fn(size, size, |i, j| vectors[(i, j)] * root(values[j]));
        Ok(Self { operator, root: scaled * vectors.transpose() })
    }

    fn place(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        match request.zero_side {
            Side::Incoming => request.place(leading_directions(self, request.count)?.vectors.transpose()),
            Side::Outgoing => {
                let directions = leading_directions(&Transposed(self), request.count)?;
                request.place((directions.vectors.transpose() * &self.root).as_ref())
            }
        }
    }
}

impl LinearOperator for Whitened<'_> {
    fn fan_in(&self) -> usize {
        self.operator.fan_in()
    }

    fn fan_out(&self) -> usize {
        self.operator.fan_out()
    }

    fn apply(&self, outgoing: MatRef<'_, f64>) -> Matrix {
        self.operator.apply(outgoing) * &self.root
    }

    fn adjoint(&self, incoming: MatRef<'_, f64>) -> Matrix {
        self.operator.adjoint((incoming * &self.root).as_ref())
    }
}
