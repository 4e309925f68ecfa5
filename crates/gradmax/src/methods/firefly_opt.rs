//! Firefly-Opt: new neurons trained on the loss itself (Evci et al. 2022, section 4.2; a part of Wu et al. 2020a).

use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request, rows_of_norm, standard_normal};
use crate::error::Error;
use crate::matrix::Matrix;
use crate::methods::adam::Adam;
use crate::surgery::new_neurons::NewNeurons;

/// Random neurons, trained by Adam on the loss of the growth batch, each side of each neuron scaled back to the norm
/// that it started with after every step; of all that it comes by, those with the lowest loss.
///
/// The side that would be zero has norm epsilon, or there would be nothing to train: the function changes a little, and
/// the receipt states by how much. The defaults are the settings of the authors' code. A pass through the whole network
/// each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FireflyOpt {
    /// Steps of Adam.
    pub steps: usize,
    /// Its learning rate.
    pub learning_rate: f64,
    /// The norm on the side that would be zero, where the placement's epsilon is 0.
    pub epsilon: f64,
}

impl Default for FireflyOpt {
    fn default() -> Self {
        Self { steps: 100, learning_rate: 1e-3, epsilon: 1e-4 }
    }
}

impl GrowthMethod for FireflyOpt {
    fn name(&self) -> &str {
        "firefly_opt"
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Loss]
    }

    fn check(&self) -> Result<(), Error> {
        super::method::check_positive("learning_rate", self.learning_rate)?;
        super::method::check_positive("epsilon", self.epsilon)
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let epsilon = if request.placement.epsilon > 0.0 { request.placement.epsilon } else { self.epsilon };
        let mut neurons = request.place_with(request.draw(standard_normal).as_ref(), epsilon)?;
        let loss = request.loss()?;
        let mut optimizers =
            [neurons.incoming.shape(), neurons.outgoing.shape()].map(|shape| Adam::new(self.learning_rate, shape));
        // The placement gives every neuron the same norms.
        let norms = [neurons.incoming.row(0).norm_l2(), neurons.outgoing.col(0).norm_l2()];
        let mut best = (neurons.clone(), f64::INFINITY);
        for step in 0..=self.steps {
            let at = loss.at(&neurons)?;
            if at.loss < best.1 {
                best = (neurons.clone(), at.loss);
            }
            // Adam's moments would be NaN from here on, and so would all later weights.
            if step == self.steps || !at.loss.is_finite() {
                break;
            }
            let [of_incoming, of_outgoing] = &mut optimizers;
            let incoming = of_incoming.stepped(&neurons.incoming, &at.incoming);
            let outgoing = of_outgoing.stepped(&neurons.outgoing, &at.outgoing);
            let outgoing: Matrix = rows_of_norm(outgoing.transpose(), norms[1]).transpose().to_owned();
            neurons = NewNeurons::unbiased(rows_of_norm(incoming.as_ref(), norms[0]), outgoing);
        }
        Ok(best.0)
    }
}
