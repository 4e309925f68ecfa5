//! NeST's growth of neurons: wire what has the largest gradient (Dai, Yin and Jha 2017).

use faer::Mat;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request, rows_of_norm};
use crate::error::Error;
use crate::site::side::Side;
use crate::surgery::new_neurons::NewNeurons;

/// Neurons that bridge the pairs of an input and an output between which the gradient is largest.
///
/// The entries of the growth matrix `G` of largest magnitude are each given a connection of both sides: `sqrt(|G|)`
/// times a random sign at the input, and the same with the sign that lowers the loss at the output. Both sides are then
/// scaled as the placement says, so neither is zero: the function is not preserved, and the receipt states the change.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nest {
    /// The share of the growth matrix's entries that is wired.
    pub share: f64,
}

impl Default for Nest {
    fn default() -> Self {
        Self { share: 0.1 }
    }
}

impl GrowthMethod for Nest {
    fn name(&self) -> &str {
        "nest"
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Operator]
    }

    fn zero_side(&self, _: Side) -> Option<Side> {
        None
    }

    fn check(&self) -> Result<(), Error> {
        super::method::check_positive("share", self.share)
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let operator = request.operator()?;
        let matrix = operator.apply(Mat::identity(request.fan_out, request.fan_out).as_ref());
        let mut entries = (0..request.fan_out)
            .flat_map(|output| (0..request.fan_in).map(move |input| (output, input)))
            .collect::<Vec<_>>();
        let wired = ((self.share * entries.len() as f64).ceil() as usize).clamp(1, entries.len());
        let size = |(output, input): &(usize, usize)| matrix[(*output, *input)].abs();
        entries.select_nth_unstable_by(wired - 1, |a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
        entries.truncate(wired);
        // The order of what is drawn must not depend on how the selection works.
        entries.sort_unstable();

        let mut rng = request.rng();
        let (mut incoming, mut outgoing) =
            (Mat::zeros(request.count, request.fan_in), Mat::zeros(request.count, request.fan_out));
        for neuron in 0..request.count {
            for &(output, input) in &entries {
                let gradient: f64 = matrix[(output, input)];
                // The product of both weights then has the size of the entry, and the sign that lowers the loss,
                // whichever side is turned.
                let weight = if rng.random::<bool>() { gradient.abs().sqrt() } else { -gradient.abs().sqrt() };
                incoming[(neuron, input)] += weight;
                outgoing[(neuron, output)] -= weight * gradient.signum();
            }
        }
        let incoming = rows_of_norm(incoming.as_ref(), request.norm(Side::Outgoing)?);
        let outgoing = rows_of_norm(outgoing.as_ref(), request.norm(Side::Incoming)?);
        Ok(NewNeurons::unbiased(incoming, outgoing.transpose().to_owned()))
    }
}
