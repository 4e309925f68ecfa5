//! Random directions: the baselines of the paper.

use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request, standard_normal, unit_uniform};
use crate::error::Error;
use crate::surgery::new_neurons::NewNeurons;

/// Isotropic random directions: every weight from a normal distribution, then each neuron scaled.
///
/// Works with either zero side. The baseline "Random" of Evci et al. 2022 (after Berner et al. 2019), with signs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Random {}

impl GrowthMethod for Random {
    fn name(&self) -> &str {
        "random"
    }

    fn needs(&self) -> &'static [Need] {
        &[]
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        request.place(request.draw(standard_normal).as_ref())
    }
}

/// Positive random directions: every weight from `U[0, 1)`, then each neuron scaled.
///
/// What the authors' published code draws for "Random". The new neurons are nearly parallel, so it is a weak baseline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomPositive {}

impl GrowthMethod for RandomPositive {
    fn name(&self) -> &str {
        "random_positive"
    }

    fn needs(&self) -> &'static [Need] {
        &[]
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        request.place(request.draw(unit_uniform).as_ref())
    }
}
