//! Splitting neurons: copies that share the outgoing weights (Net2Wider; Chen et al. 2016).

use faer::Mat;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request, rows_of_norm, standard_normal};
use crate::error::Error;
use crate::matrix::Matrix;
use crate::site::declaration::Site;
use crate::site::side::Side;
use crate::surgery::existing::Existing;
use crate::surgery::new_neurons::{Changes, NewNeurons};

/// Copies of existing neurons, drawn with replacement, each sharing the outgoing weights of its original in equal
/// parts, and pushed away from it by a little noise, which the original is pushed against.
///
/// Without noise the function is preserved exactly, under any activation and norm, but a copy then receives the same
/// gradient as its original, and stays one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Net2Wider {
    /// The norm of the noise, as a share of the original's incoming weights.
    pub noise: f64,
}

impl Default for Net2Wider {
    fn default() -> Self {
        Self { noise: 1e-2 }
    }
}

impl GrowthMethod for Net2Wider {
    fn name(&self) -> &str {
        "split"
    }

    fn needs(&self) -> &'static [Need] {
        &[]
    }

    fn zero_side(&self, _: Side) -> Option<Side> {
        None
    }

    fn check(&self) -> Result<(), Error> {
        super::method::check_not_negative("noise", self.noise)
    }

    fn check_site(&self, site: &Site) -> Result<(), Error> {
        super::method::check_parents(self.name(), site)
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let existing = request.existing();
        let mut rng = request.rng();
        let unit = request.unit;
        let units = (0..request.count / unit).map(|_| rng.random_range(0..request.width / unit)).collect::<Vec<_>>();
        let parents = units.into_iter().flat_map(|parent| parent * unit..(parent + 1) * unit).collect::<Vec<_>>();
        let noise = Mat::from_fn(request.count, request.fan_in, |_, _| standard_normal(&mut rng));
        Ok(split(&existing, &parents, &offsets(&existing, &parents, &noise, self.noise)))
    }
}

/// Directions, a neuron a row, with norms that are a share of their parents' incoming weights.
pub(super) fn offsets(existing: &Existing, parents: &[usize], directions: &Matrix, share: f64) -> Matrix {
    let unit = rows_of_norm(directions.as_ref(), 1.0);
    let norms = parents.iter().map(|parent| share * existing.incoming.row(*parent).norm_l2()).collect::<Vec<_>>();
    Mat::from_fn(unit.nrows(), unit.ncols(), |i, j| unit[(i, j)] * norms[i])
}

/// Copies of the parents, moved by the offsets `[count, fan_in]`; their originals are moved against the sum of these,
/// and share their outgoing weights with the copies in equal parts.
pub(super) fn split(existing: &Existing, parents: &[usize], offsets: &Matrix) -> NewNeurons {
    let (fan_in, fan_out) = (existing.incoming.ncols(), existing.outgoing.nrows());
    let parts = |parent: usize| 1.0 + parents.iter().filter(|other| **other == parent).count() as f64;
    let mut changes = Changes::none(existing.count(), fan_in, fan_out);
    for (neuron, parent) in parents.iter().enumerate() {
        let share = parts(*parent).recip();
        for i in 0..fan_in {
            changes.incoming[(*parent, i)] -= offsets[(neuron, i)];
        }
        for i in 0..fan_out {
            changes.outgoing[(i, *parent)] = (share - 1.0) * existing.outgoing[(i, *parent)];
        }
    }
    let incoming = Mat::from_fn(parents.len(), fan_in, |i, j| existing.incoming[(parents[i], j)] + offsets[(i, j)]);
    let outgoing = Mat::from_fn(fan_out, parents.len(), |i, j| existing.outgoing[(i, parents[j])] / parts(parents[j]));
    let bias = parents.iter().map(|parent| existing.bias[*parent]).collect();
    NewNeurons {
        parents: parents.iter().copied().map(Some).collect(),
        changes: Some(changes),
        ..NewNeurons::new(incoming, outgoing, bias)
    }
}
