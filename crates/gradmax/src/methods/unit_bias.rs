//! Both sides zero, and a bias of 1 (Evci et al. 2022, figure 13a).

use faer::Mat;
use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request};
use crate::error::Error;
use crate::site::declaration::Site;
use crate::site::side::Side;
use crate::surgery::new_neurons::NewNeurons;

/// Neurons that are 1 everywhere, and that nothing reads yet.
///
/// Need a producer with biases. All neurons of one event are the same, and receive the same gradient: only weight
/// decay, dropout or noise that comes later tells them apart. A baseline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UnitBias {}

impl GrowthMethod for UnitBias {
    fn name(&self) -> &str {
        "unit_bias"
    }

    fn needs(&self) -> &'static [Need] {
        &[]
    }

    fn zero_side(&self, _: Side) -> Option<Side> {
        Some(Side::Outgoing)
    }

    fn draws(&self) -> bool {
        false
    }

    fn check_site(&self, site: &Site) -> Result<(), Error> {
        match site.bias() {
            Some(_) => Ok(()),
            None => Err(super::method::refused(
                self.name(),
                &site.name,
                "it needs biases, and the layer that computes the neurons has none; use another method",
            )),
        }
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let (incoming, outgoing) =
            (Mat::zeros(request.count, request.fan_in), Mat::zeros(request.fan_out, request.count));
        Ok(NewNeurons::new(incoming, outgoing, vec![1.0; request.count]))
    }
}
