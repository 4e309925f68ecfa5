//! The growth operator: the bilinear form of a new neuron's weights, and its two partial derivatives (Evci et al. 2022,
//! eq. 9 and 16).

use faer::{Mat, MatRef};

use crate::error::Error;
use crate::matrix::{Matrix, from_tensor, to_tensor};
use crate::operator::block::{Block, LinearPassage};
use crate::operator::branch::{Branch, each_of};
use crate::operator::directions::{Directions, leading_directions};
use crate::operator::linear_operator::LinearOperator;
use crate::operator::seen::{Seen, Source};
use crate::operator::work::Work;
use crate::site::declaration::Site;
use crate::site::probe::Evidence;
use crate::site::side::Side;
use crate::sums::{SharedSums, alone};

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
    block: Block,
    form: Form,
    sums: SharedSums,
}

/// The bilinear form.
#[derive(Debug)]
enum Form {
    /// What it is a sum over.
    Passages(Vec<LinearPassage>),
    /// Its matrix `[fan_out, fan_in]`, where passages are too many to keep.
    Matrix(Matrix),
}

impl GrowthOperator {
    /// The operator of a site without groups, or of the first of its [blocks](Site::blocks), from evidence taken on the
    /// growth batch.
    ///
    /// # Errors
    /// [`Error::SiteNotShown`], [`Error::ShownWrongTensors`] and [`Error::BranchMismatch`] if the evidence does not fit
    /// the site; those of [`Site::check`] and [`Site::slopes_at_zero`] if the site cannot grow with zero incoming
    /// weights.
    pub fn new(site: &Site, evidence: &Evidence) -> Result<Self, Error> {
        Self::of_block(site, 0, evidence)
    }

    /// As [`new`](Self::new), of the site's block with this index.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_block(site: &Site, block: usize, evidence: &Evidence) -> Result<Self, Error> {
        let seen = Seen { source: Source::Kept(evidence), sums: &alone(), work: &Work::default() };
        Branch::new(site, block, seen)?.operator(Side::Incoming)
    }

    /// The operators of several branches of one network.
    pub(crate) fn of_branches(branches: &[(&Branch<'_>, Side)]) -> Result<Vec<Self>, Error> {
        // With zero outgoing weights the new neurons are active from the start, and the slope at zero need not exist:
        // it only says how directions compare.
        let slopes = branches.iter().map(|(branch, zero_side)| match zero_side {
            Side::Outgoing => Ok(branch.block.site.slopes_for_directions(&branch.device)),
            Side::Incoming => branch.block.site.slopes_at_zero(&branch.device),
        });
        let slopes = slopes.collect::<Result<Vec<_>, _>>()?;
        let branches = branches.iter().map(|(branch, _)| *branch).collect::<Vec<_>>();
        let form = |branch: &&Branch<'_>| match branch.is_kept() {
            true => Form::Passages(Vec::new()),
            false => Form::Matrix(Mat::zeros(branch.block.site.fan_out(), branch.block.site.fan_in())),
        };
        let mut forms = branches.iter().map(form).collect::<Vec<_>>();
        each_of(&branches, |index, passage| {
            let block = &branches[index].block;
            let linear = block.linear_passage(passage, &slopes[index][passage.consumer]);
            match &mut forms[index] {
                Form::Passages(passages) => passages.push(linear),
                Form::Matrix(total) => block.add_matrix(&linear, total),
            }
        })?;
        let operators = branches.iter().zip(forms).map(|(branch, mut form)| {
            if let Form::Matrix(matrix) = &mut form {
                branch.sums.matrix(matrix);
            }
            Self { block: branch.block.clone(), form, sums: branch.sums.clone() }
        });
        Ok(operators.collect())
    }

    /// The leading left singular directions of the operator: the outgoing weights that GradMax gives `count` new
    /// neurons (eq. 11 and 20), and their singular values.
    ///
    /// # Errors
    /// [`Error::OperatorNotFinite`], if the gradients on the growth batch overflowed.
    pub fn directions(&self, count: usize) -> Result<Directions, Error> {
        leading_directions(self, count)
    }
}

impl Branch<'_> {
    /// Its growth operator. With zero outgoing weights, activations need not be zero at zero.
    ///
    /// # Errors
    /// [`Site::slopes_at_zero`]'s, if the site cannot grow with zero incoming weights; [`Error::Examples`], if the
    /// growth batch is read again and cannot be.
    pub fn operator(&self, zero_side: Side) -> Result<GrowthOperator, Error> {
        Ok(GrowthOperator::of_branches(&[(self, zero_side)])?.remove(0))
    }
}

impl LinearOperator for GrowthOperator {
    fn fan_in(&self) -> usize {
        self.block.site.fan_in()
    }

    fn fan_out(&self) -> usize {
        self.block.site.fan_out()
    }

    fn apply(&self, outgoing: MatRef<'_, f64>) -> Matrix {
        let passages = match &self.form {
            Form::Passages(passages) => passages,
            Form::Matrix(matrix) => return matrix.apply(outgoing),
        };
        let mut total = Mat::zeros(outgoing.ncols(), self.fan_in());
        for linear in passages {
            let outgoing = to_tensor(outgoing, &linear.passage.delta.device());
            self.block.add_incoming_derivative(linear, &outgoing, total.as_mut());
        }
        self.sums.matrix(&mut total);
        total
    }

    fn adjoint(&self, incoming: MatRef<'_, f64>) -> Matrix {
        let passages = match &self.form {
            Form::Passages(passages) => passages,
            Form::Matrix(matrix) => return LinearOperator::adjoint(matrix, incoming),
        };
        let mut total = Mat::zeros(self.fan_out(), incoming.nrows());
        for linear in passages {
            let incoming = to_tensor(incoming, &linear.passage.delta.device());
            let derivative = from_tensor(self.block.outgoing_derivative(linear, &incoming));
            let mut rows = total.subrows_mut(self.block.first_row(linear.passage.consumer), derivative.nrows());
            rows += derivative;
        }
        self.sums.matrix(&mut total);
        total
    }
}
