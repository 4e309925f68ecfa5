//! Variance transfer (Yuan, Savarese and Maire 2023): random neurons, and existing weights scaled to make room for
//! them.

use faer::Mat;
use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request, standard_normal};
use crate::error::Error;
use crate::matrix::Matrix;
use crate::site::declaration::Site;
use crate::site::side::Side;
use crate::surgery::new_neurons::{Changes, NewNeurons};

/// Random weights on both sides, as large as the existing ones, and all outgoing weights times `sqrt(width / new
/// width)`, so that the variance of what the next layer computes stays what it was.
///
/// The function is not preserved: the receipt states the change. The paper adapts learning rates too, which is no part
/// of this.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VarianceTransfer {}

impl GrowthMethod for VarianceTransfer {
    fn name(&self) -> &str {
        "variance_transfer"
    }

    fn needs(&self) -> &'static [Need] {
        &[]
    }

    fn zero_side(&self, _: Side) -> Option<Side> {
        None
    }

    fn check_site(&self, site: &Site) -> Result<(), Error> {
        super::method::check_parents(self.name(), site)
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let existing = request.existing();
        let kept = (request.width as f64 / (request.width + request.count) as f64).sqrt();
        let spread = |weights: &Matrix| weights.norm_l2() / ((weights.nrows() * weights.ncols()) as f64).sqrt();
        // Incoming weights keep their scale: what they sum over does not become more.
        let spreads = [spread(&existing.incoming), kept * spread(&existing.outgoing)];
        let mut rng = request.rng();
        let incoming = Mat::from_fn(request.count, request.fan_in, |_, _| spreads[0] * standard_normal(&mut rng));
        let outgoing = Mat::from_fn(request.fan_out, request.count, |_, _| spreads[1] * standard_normal(&mut rng));
        let none = Changes::none(request.width, request.fan_in, request.fan_out);
        let changes = Changes { outgoing: existing.outgoing * faer::Scale(kept - 1.0), ..none };
        Ok(NewNeurons { changes: Some(changes), ..NewNeurons::unbiased(incoming, outgoing) })
    }
}
