//! GradMax: outgoing weights along the leading left singular directions of the growth operator (Evci et al. 2022, eq. 11 and 20).

use faer::Mat;

use super::{Initializer, Needs, NewNeurons, Request};
use crate::directions::leading_directions;
use crate::error::Error;
use crate::operator::Transposed;
use crate::placement::ZeroSide;

/// Zero incoming weights, and the outgoing weights that give them the largest gradient.
///
/// The directions maximise the gradient norm of the new incoming weights among orthogonal ones of equal norm; without
/// orthogonality, copies of the first one would.
///
/// With zero outgoing weights it takes the leading *right* singular directions as incoming weights. They solve the problem for
/// the network linearised at zero, which new neurons of any size leave; exact for linear networks, a starting point elsewhere.
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
        let operator = request.operator()?;
        match request.placement.zero_side {
            ZeroSide::Outgoing => {
                let directions = leading_directions(&Transposed(operator), request.count)?;
                request.place(directions.vectors.transpose())
            }
            ZeroSide::Incoming | ZeroSide::Automatic => {
                let directions = operator.directions(request.count)?;
                let neurons = request.place(directions.vectors.transpose())?;
                let lengths = (0..request.count).map(|j| neurons.outgoing.col(j).norm_l2()).collect::<Vec<_>>();
                let images = &directions.images;
                let gradient = Mat::from_fn(images.nrows(), images.ncols(), |j, i| images[(j, i)] * lengths[j]);
                Ok(NewNeurons { singular_values: directions.values, incoming_gradient: Some(gradient), ..neurons })
            }
        }
    }
}
