//! GradMax with the activation itself in place of its slope at zero: the directions of the largest one-sided gain.

use faer::{Mat, MatRef};

use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request};
use crate::error::Error;
use crate::matrix::Matrix;
use crate::operator::branch::Branch;
use crate::operator::linear_operator::LinearOperator;
use crate::site::side::Side;
use crate::surgery::new_neurons::NewNeurons;

/// How many leading singular directions, each with both signs, compete for the start.
const STARTS: usize = 4;
/// Bounds on the alternation.
const ITERATIONS: usize = 50;
const CONVERGED: f64 = 1e-4;

/// GradMax that knows its activation.
///
/// Under a rectifier the slope of 1 at zero promises too much: after its first step a new neuron is active on half of
/// the inputs, and the sign of a singular vector, arbitrary in GradMax, decides which half. This method maximises what
/// a neuron gives in the direction in which it will go, the one-sided gain `-<delta, f(h w_in) w_out>` over `w_in` and
/// `w_out` of norm 1, `h` being the producer's input and `delta` the gradient of the loss at the consumer's output.
///
/// It alternates between the two sides (a power iteration of the operator restricted to the inputs on which the neuron
/// is active), from the best of the leading singular directions of the growth operator with either sign. Several
/// neurons are found one after another, what each can explain of `delta` being taken off before the next.
///
/// With zero incoming weights it gives the neurons the directions `w_out`, with zero outgoing weights `w_in`; either
/// way the network's output stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GradMaxRectified {}

impl GrowthMethod for GradMaxRectified {
    fn name(&self) -> &str {
        "gradmax_rectified"
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Branch]
    }

    fn draws(&self) -> bool {
        false
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let mut branch = request.branch()?.clone();
        let mut directions = match request.zero_side {
            Side::Outgoing => Mat::zeros(request.count, request.fan_in),
            Side::Incoming => Mat::zeros(request.count, request.fan_out),
        };
        for neuron in 0..request.count {
            let found = best_start(&branch, request)?.improved(&branch)?;
            let side = match request.zero_side {
                Side::Outgoing => found.incoming.as_ref(),
                Side::Incoming => found.outgoing.transpose(),
            };
            directions.row_mut(neuron).copy_from(side.row(0));
            // Else the next neuron would be the same one: this method's gain does not know of the others.
            branch = branch.without(&block(&found.incoming, &found.outgoing))?;
        }
        request.place(directions.as_ref())
    }
}

/// Unit weights of a neuron, and its one-sided gain.
struct Candidate {
    /// `[1, fan_in]`
    incoming: Matrix,
    /// `[fan_out, 1]`
    outgoing: Matrix,
    gain: f64,
}

/// The leading singular direction and sign whose gain is largest, each with the direction of its first step as incoming
/// weights.
fn best_start(branch: &Branch<'_>, request: &Request<'_>) -> Result<Candidate, Error> {
    let operator = branch.operator(request.zero_side)?;
    let leading = operator.directions(STARTS.min(request.fan_out))?;
    let outgoing = Mat::from_fn(request.fan_out, 2 * leading.values.len(), |i, j| {
        let sign = if j % 2 == 0 { 1.0 } else { -1.0 };
        sign * leading.vectors[(i, j / 2)]
    });
    let incoming = descent(operator.apply(outgoing.as_ref()).as_ref());
    let towards = branch.gradients(&block(&incoming, &outgoing))?.outgoing;
    let gain = |j: usize| -(0..request.fan_out).map(|i| towards[(i, j)] * outgoing[(i, j)]).sum::<f64>();
    let gains = (0..outgoing.ncols()).map(gain).collect::<Vec<_>>();
    let best = (0..gains.len()).max_by(|a, b| gains[*a].total_cmp(&gains[*b])).expect("a site has outgoing weights");
    Ok(Candidate {
        incoming: incoming.subrows(best, 1).to_owned(),
        outgoing: outgoing.subcols(best, 1).to_owned(),
        gain: gains[best],
    })
}

impl Candidate {
    /// The best of the neurons that alternating between the sides comes by.
    fn improved(self, branch: &Branch<'_>) -> Result<Self, Error> {
        let mut best = self;
        let (mut incoming, mut outgoing) = (best.incoming.clone(), best.outgoing.clone());
        for _ in 0..ITERATIONS {
            let towards = branch.gradients(&block(&incoming, &outgoing))?.outgoing;
            // The form is linear in the outgoing weights: its gradient is the best direction, and its length the gain.
            let gain = towards.norm_l2();
            if gain == 0.0 {
                break;
            }
            outgoing = descent(towards.transpose()).transpose().to_owned();
            let gained = gain - best.gain;
            if gained > 0.0 {
                best = Self { incoming: incoming.clone(), outgoing: outgoing.clone(), gain };
            }
            if gained.abs() <= CONVERGED * gain {
                break;
            }
            incoming = descent(branch.gradients(&block(&incoming, &outgoing))?.incoming.as_ref());
        }
        Ok(best)
    }
}

/// Rows of norm 1 against those of a gradient.
fn descent(gradient: MatRef<'_, f64>) -> Matrix {
    let norms = (0..gradient.nrows()).map(|i| gradient.row(i).norm_l2().max(f64::MIN_POSITIVE)).collect::<Vec<_>>();
    Mat::from_fn(gradient.nrows(), gradient.ncols(), |i, j| -gradient[(i, j)] / norms[i])
}

fn block(incoming: &Matrix, outgoing: &Matrix) -> NewNeurons {
    NewNeurons::unbiased(incoming.clone(), outgoing.clone())
}
