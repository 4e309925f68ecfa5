//! The growth operator: the bilinear form of a new neuron's weights, and its two partial derivatives (Evci et al. 2022,
//! eq. 9 and 16).

use faer::{Mat, MatRef};

use crate::branch::{Branch, LinearPassage};
use crate::directions::{Directions, leading_directions};
use crate::error::Error;
use crate::matrix::{Matrix, from_tensor, to_tensor};
use crate::placement::ZeroSide;
use crate::probe::Evidence;
use crate::site::Site;

/// A linear map between the incoming and the outgoing weights of a neuron, given by its products only.
///
/// Its matrix would be the *growth matrix* `G`, `[fan_out, fan_in]`; no method needs it.
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

/// The growth operator of a site on a growth batch.
///
/// A neuron with zero incoming weights adds `branch(h, w_in, w_out)` to the consumer's output: the producer's own
/// arithmetic, the slope of what lies between, the consumer's own arithmetic. With `delta` the gradient of the loss
/// there, `B(w_in, w_out) = <delta, branch(h, w_in, w_out)>` is bilinear, and
///
/// - [`apply`](LinearOperator::apply) is `dB/dw_in`: the gradient that a new neuron's incoming weights will receive,
/// - [`adjoint`](LinearOperator::adjoint) is `dB/dw_out`, the adjoint map.
///
/// Both come from the adjoints of producer, between and consumer, for a block of neurons at a time. Biases are no part
/// of it, as in the paper.
#[derive(Debug)]
pub struct GrowthOperator {
    branch: Branch,
    passages: Vec<LinearPassage>,
}

impl GrowthOperator {
    /// The operator of a site without groups, or of the first of its [blocks](Site::blocks), from evidence taken on the
    /// growth batch.
    ///
    /// # Errors
    /// [`Error::SiteNotShown`], [`Error::ShownWrongTensors`] and [`Error::BranchMismatch`] if the evidence does not fit the site;
    /// those of [`Site::check`] and [`Site::slopes_at_zero`] if the site cannot grow with zero incoming weights.
    pub fn new(site: &Site, evidence: &Evidence) -> Result<Self, Error> {
        Self::of_block(site, 0, evidence)
    }

    /// As [`new`](Self::new), of the site's block with this index.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_block(site: &Site, block: usize, evidence: &Evidence) -> Result<Self, Error> {
        Self::of_branch(Branch::new(site, block, evidence)?, ZeroSide::Incoming)
    }

    /// The operator of a branch; with zero outgoing weights, its activations need not be zero at zero.
    pub(crate) fn of_branch(branch: Branch, zero_side: ZeroSide) -> Result<Self, Error> {
        let device = branch.passages[0].input.device();
        let slopes = match zero_side {
            ZeroSide::Outgoing => branch.site.slopes_for_directions(&device),
            ZeroSide::Incoming | ZeroSide::Automatic => branch.site.slopes_at_zero(&device)?,
        };
        let passages = branch.linearised(&slopes);
        Ok(Self { branch, passages })
    }

    /// The leading left singular directions of the operator: the outgoing weights that GradMax gives `count` new
    /// neurons (eq. 11 and 20), and their singular values.
    ///
    /// # Errors
    /// [`Error::OperatorNotFinite`], if the gradients on the growth batch overflowed.
    pub fn directions(&self, count: usize) -> Result<Directions, Error> {
        leading_directions(self, count)
    }

    /// The sum over passages of the form's gradient at one side, which has the given shape, the other side fixed.
    fn derivative(&self, fixed: MatRef<'_, f64>, side: Side, shape: [usize; 2]) -> Matrix {
        let mut total = Mat::zeros(shape[0], shape[1]);
        for linear in &self.passages {
            let fixed = to_tensor(fixed, &linear.passage.input.device());
            match side {
                Side::Incoming => total += from_tensor(self.branch.incoming_derivative(linear, &fixed)),
                Side::Outgoing => {
                    let derivative = from_tensor(self.branch.outgoing_derivative(linear, &fixed));
                    let mut rows =
                        total.subrows_mut(self.branch.first_row(linear.passage.consumer), derivative.nrows());
                    rows += derivative;
                }
            }
        }
        total
    }
}

/// The side of a neuron's weights that a derivative is taken at.
#[derive(Clone, Copy)]
enum Side {
    Incoming,
    Outgoing,
}

impl LinearOperator for GrowthOperator {
    fn fan_in(&self) -> usize {
        self.branch.site.fan_in()
    }

    fn fan_out(&self) -> usize {
        self.branch.site.fan_out()
    }

    fn apply(&self, outgoing: MatRef<'_, f64>) -> Matrix {
        self.derivative(outgoing, Side::Incoming, [outgoing.ncols(), self.fan_in()])
    }

    fn adjoint(&self, incoming: MatRef<'_, f64>) -> Matrix {
        self.derivative(incoming, Side::Outgoing, [self.fan_out(), incoming.nrows()])
    }
}

/// An operator with incoming and outgoing weights exchanged: its left singular directions are the other's right ones.
pub(crate) struct Transposed<'a>(pub(crate) &'a dyn LinearOperator);

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
