//! NORTH: neurons whose responses are orthogonal to those of the existing ones (Maile et al. 2022).

use faer::linalg::solvers::Solve;
use faer::{Mat, Side as Triangle};
use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request, standard_normal};
use crate::error::Error;
use crate::matrix::Matrix;
use crate::site::side::Side;
use crate::surgery::new_neurons::NewNeurons;

/// Random incoming weights with the part taken off that existing neurons respond to alike, on the growth batch, before
/// their activations; zero outgoing weights.
///
/// `w = r - W' (W S W' + t)^-1 W S r`, with the existing (and earlier new) incoming weights `W`, the second moments `S`
/// of the producer's input, `r` drawn at random. The small `t` matters where the existing neurons respond to
/// everything: the directions to which they respond least are then left. The pre-activation variant of the paper
/// (NORTH-Pre); its schedule is no part of this.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct North {}

/// `t`, relative to the mean square of the existing neurons' responses.
const DAMPING: f64 = 1e-3;

impl GrowthMethod for North {
    fn name(&self) -> &str {
        "north"
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Moments]
    }

    fn zero_side(&self, _: Side) -> Option<Side> {
        Some(Side::Outgoing)
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let drawn = request.draw(standard_normal);
        let existing = request.existing().incoming;
        let rows = Mat::from_fn(request.width + request.count, request.fan_in, |i, j| match i < request.width {
            true => existing[(i, j)],
            false => drawn[(i - request.width, j)],
        });
        let mut weights = rows.clone();
        let mut moments = request.input_moments(rows.as_ref())?;
        for neuron in request.width..request.width + request.count {
            if neuron == 0 {
                continue;
            }
            let (before, in_moments) = (weights.subrows(0, neuron), moments.subrows(0, neuron));
            let mut gram: Matrix = before * in_moments.transpose();
            let mean = (0..neuron).map(|i| gram[(i, i)]).sum::<f64>() / neuron as f64;
            // Where nothing responds the mean is zero too, and the matrix still has a Cholesky factor.
            (0..neuron).for_each(|i| gram[(i, i)] += DAMPING * mean + f64::MIN_POSITIVE);
            // Responses of this neuron times those before it.
            let overlap = in_moments * weights.row(neuron).transpose();
            let shares = match gram.llt(Triangle::Lower) {
                Ok(factor) => factor.solve(overlap),
                // Nothing responds: there is nothing to be orthogonal to.
                Err(_) => continue,
            };
            // Moments are linear in the weights: what is taken off these is taken off those, without a further pass.
            let (taken, taken_moments) = (shares.transpose() * before, shares.transpose() * in_moments);
            let mut weight = weights.row_mut(neuron);
            weight -= taken;
            let mut moment = moments.row_mut(neuron);
            moment -= taken_moments;
        }
        request.place(weights.subrows(request.width, request.count))
    }
}
