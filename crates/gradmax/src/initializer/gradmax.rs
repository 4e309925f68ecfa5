//! GradMax: outgoing weights along the leading left singular directions of the growth operator (Evci et al. 2022, eq. 11 and 20).

use super::{Initializer, Needs, NewNeurons, Request};
use crate::error::Error;
use crate::placement::ZeroSide;

/// Zero incoming weights, and the outgoing weights that give them the largest gradient.
///
/// The directions maximise the gradient norm of the new incoming weights among orthogonal ones of equal norm; without
/// orthogonality, copies of the first one would.
#[derive(Debug, Clone, Copy, Default)]
pub struct GradMax;

impl Initializer for GradMax {
    fn name(&self) -> &str {
        "gradmax"
    }

    fn needs(&self) -> Needs {
        Needs::Operator
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        if request.placement.zero_side == ZeroSide::Outgoing {
            return Err(request.refuse(
                "its closed form needs zero incoming weights; set the zero side to `incoming`, or use another method",
            ));
        }
        let directions = request.operator()?.directions(request.count)?;
        let neurons = request.place(directions.vectors.transpose())?;
        Ok(NewNeurons { singular_values: directions.values, ..neurons })
    }
}
