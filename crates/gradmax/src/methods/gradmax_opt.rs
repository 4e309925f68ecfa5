//! GradMaxOpt: the largest gradient by iteration in place of a decomposition (Evci et al. 2022, section 3).

use faer::Mat;
use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request, rows_of_norm, standard_normal};
use crate::error::Error;
use crate::matrix::Matrix;
use crate::methods::adam::Adam;
use crate::site::side::Side;
use crate::surgery::new_neurons::NewNeurons;

/// The weights of norm 1 that give the zero side the largest gradient, sought step by step from a random start.
///
/// With zero incoming weights the outgoing ones are sought, on the growth operator alone: no pass through the network.
/// With zero outgoing weights the incoming ones are, under the activation as it is; there the problem has no closed
/// form, and this is the method of the paper.
///
/// By default it climbs by power iteration, keeps neurons orthogonal and stops when it has converged; with zero
/// incoming weights it then finds what [`GradMax`](super::gradmax::GradMax) finds. [`authors`](Self::authors) are the
/// settings of the published code, which hardly move.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GradMaxOpt {
    /// Steps at most.
    pub steps: usize,
    /// What a step is.
    pub ascent: Ascent,
    /// Whether neurons are kept orthogonal to each other; else all of them seek the same direction.
    pub orthogonal: bool,
}

/// How to climb.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ascent {
    /// The gradient of the objective takes the place of the weights: power iteration.
    Power,
    /// Adam, its weights scaled back to norm 1 after each step.
    Adam {
        /// Its learning rate.
        learning_rate: f64,
    },
}

/// Power iteration has converged when the norm grows by less than this share in a step.
const CONVERGED: f64 = 1e-6;

impl Default for GradMaxOpt {
    fn default() -> Self {
        Self { steps: 200, ascent: Ascent::Power, orthogonal: true }
    }
}

impl GradMaxOpt {
    /// The settings of the authors' code: 100 steps of Adam at a rate of .001.
    pub fn authors() -> Self {
        Self { steps: 100, ascent: Ascent::Adam { learning_rate: 1e-3 }, orthogonal: false }
    }
}

impl GrowthMethod for GradMaxOpt {
    fn name(&self) -> &str {
        if *self == Self::authors() { "gradmax_opt_authors" } else { "gradmax_opt" }
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Operator, Need::Branch]
    }

    fn check(&self) -> Result<(), Error> {
        match self.ascent {
            Ascent::Adam { learning_rate } => super::method::check_positive("learning_rate", learning_rate),
            Ascent::Power => Ok(()),
        }
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let mut rows = self.projected(request.draw(standard_normal));
        let mut adam = match self.ascent {
            Ascent::Adam { learning_rate } => Some(Adam::new(learning_rate, rows.shape())),
            Ascent::Power => None,
        };
        let mut best = (rows.clone(), 0.0);
        for step in 0..=self.steps {
            let (norm, uphill) = objective(request, &rows)?;
            // Adam's steps, and the projection, can lower the objective again.
            let gained = norm - best.1;
            if gained > 0.0 {
                best = (rows.clone(), norm);
            }
            if norm == 0.0 || step == self.steps || (adam.is_none() && gained <= CONVERGED * norm) {
                break;
            }
            rows = self.projected(match &mut adam {
                Some(adam) => adam.stepped(&rows, &(uphill * faer::Scale(-1.0 / norm))),
                None => uphill,
            });
        }
        request.place(best.0.as_ref())
    }
}

impl GradMaxOpt {
    /// The rows with norm 1, orthogonal if that is asked for and possible.
    fn projected(&self, rows: Matrix) -> Matrix {
        let (count, fan) = rows.shape();
        if !self.orthogonal || count > fan {
            return rows_of_norm(rows.as_ref(), 1.0);
        }
        // Orthogonalised power iteration converges to the leading singular directions, in their order (Golub and Van
        // Loan).
        rows.transpose().to_owned().qr().compute_thin_Q().transpose().to_owned()
    }
}

/// The norm of the gradient that the zero side receives, and the gradient of half its square at the other side, a
/// neuron a row.
fn objective(request: &Request<'_>, rows: &Matrix) -> Result<(f64, Matrix), Error> {
    match request.zero_side {
        Side::Incoming => {
            let operator = request.operator()?;
            let received = operator.apply(rows.transpose());
            Ok((received.norm_l2(), operator.adjoint(received.as_ref()).transpose().to_owned()))
        }
        Side::Outgoing => {
            let none = Mat::zeros(request.fan_out, request.count);
            let branch = request.branch()?;
            let of = |outgoing| branch.gradients(&NewNeurons::unbiased(rows.clone(), outgoing));
            // The form is linear in the outgoing weights: its gradient at the incoming ones, with the received gradient
            // as outgoing weights, is that of half the received gradient's square.
            let received = of(none)?.outgoing;
            Ok((received.norm_l2(), of(received)?.incoming))
        }
    }
}
