//! GradMax: outgoing weights along the leading left singular directions of the growth operator (Evci et al. 2022, eq.
//! 11 and 20).

use faer::Mat;
use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request};
use crate::error::Error;
use crate::matrix::Matrix;
use crate::operator::directions::leading_directions;
use crate::operator::linear_operator::Transposed;
use crate::site::side::Side;
use crate::surgery::new_neurons::NewNeurons;

/// Zero incoming weights, and the outgoing weights that give them the largest gradient.
///
/// The directions maximise the gradient norm of the new incoming weights among orthogonal ones of equal norm; without
/// orthogonality, copies of the first one would.
///
/// With zero outgoing weights it takes the leading *right* singular directions as incoming weights. They solve the
/// problem for the network linearised at zero, which new neurons of any size leave; exact for linear networks, a
/// starting point elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GradMax {
    /// Which of a direction's two signs to take.
    pub sign: Sign,
    /// The leading directions to pass over: 0, unless one wants to see what the lesser ones are worth (Evci et al.
    /// 2022, fig. 8).
    pub skip: usize,
}

/// The sign of a singular direction. Both give the same gradient norm; under a rectifier they do not lead to the same
/// neuron.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// The one that makes the largest entry positive: arbitrary, as in the paper.
    #[default]
    Fixed,
    /// The one with the larger one-sided gain `-<delta, f(h w_in) w_out>`, where the side that is zero stands for the
    /// direction of its first step. A pass through the branch.
    OneSided,
}

impl GrowthMethod for GradMax {
    fn name(&self) -> &str {
        match self.sign {
            Sign::Fixed => "gradmax",
            Sign::OneSided => "gradmax_one_sided",
        }
    }

    fn needs(&self) -> &'static [Need] {
        match self.sign {
            Sign::Fixed => &[Need::Operator],
            Sign::OneSided => &[Need::Operator, Need::Branch],
        }
    }

    fn draws(&self) -> bool {
        false
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let operator = request.operator()?;
        match request.zero_side {
            Side::Outgoing => {
                let found = leading_directions(&Transposed(operator), self.skip + request.count)?;
                let mut rows = found.without_first(self.skip).vectors.transpose().to_owned();
                if self.sign == Sign::OneSided {
                    let turned = -&rows;
                    let gains =
                        |incoming: &Matrix| one_sided_gains(request, incoming, &-operator.adjoint(incoming.as_ref()));
                    let (first, second) = (gains(&rows)?, gains(&turned)?);
                    turn_rows(&mut rows, |j| second[j] > first[j]);
                }
                request.place(rows.as_ref())
            }
            Side::Incoming => {
                let mut directions = leading_directions(operator, self.skip + request.count)?.without_first(self.skip);
                if self.sign == Sign::OneSided {
                    // Down the gradient: where the incoming weights will be after their first step, but for its length.
                    let first_step = -&directions.images;
                    let first = one_sided_gains(request, &first_step, &directions.vectors)?;
                    let second = one_sided_gains(request, &directions.images, &-&directions.vectors)?;
                    let turn = |j: usize| second[j] > first[j];
                    directions
                        .vectors
                        .transpose_mut()
                        .row_iter_mut()
                        .enumerate()
                        .for_each(|(j, row)| flip(row, turn(j)));
                    turn_rows(&mut directions.images, turn);
                }
                let neurons = request.place(directions.vectors.transpose())?;
                // The form is linear in the outgoing weights, so the placement's lengths scale the images too.
                let lengths = (0..request.count).map(|j| neurons.outgoing.col(j).norm_l2()).collect::<Vec<_>>();
                let images = &directions.images;
                let gradient = Mat::from_fn(images.nrows(), images.ncols(), |j, i| images[(j, i)] * lengths[j]);
                Ok(NewNeurons { singular_values: directions.values, incoming_gradient: Some(gradient), ..neurons })
            }
        }
    }
}

/// What each neuron gives in the direction in which it will go, relative to the norms of both its sides.
fn one_sided_gains(request: &Request<'_>, incoming: &Matrix, outgoing: &Matrix) -> Result<Vec<f64>, Error> {
    let neurons = NewNeurons::unbiased(incoming.clone(), outgoing.clone());
    let towards = request.branch()?.outgoing_gradients(&neurons)?;
    Ok((0..outgoing.ncols()).map(|j| -(towards.col(j).transpose() * outgoing.col(j))).collect())
}

fn turn_rows(rows: &mut Matrix, turn: impl Fn(usize) -> bool) {
    rows.row_iter_mut().enumerate().for_each(|(j, row)| flip(row, turn(j)));
}

fn flip(row: faer::RowMut<'_, f64>, turn: bool) {
    if turn {
        row.iter_mut().for_each(|entry| *entry = -*entry);
    }
}
