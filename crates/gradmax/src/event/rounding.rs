//! What rounding does to a network's outputs, loss and gradients, measured by turning the last digits of its weights.

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::error::Error;
use crate::event::change::Change;
use crate::event::look::Before;
use crate::event::pass::{Part, probed};
use crate::seed::Seed;
use crate::site::growable::Growable;
use crate::site::output::Output;
use crate::sums::SharedSums;

/// A gradient that last digits of the weights change by this share of its size is rounding, and no more.
pub(crate) const ONLY_ROUNDING: f64 = 0.1;
/// Draws of last digits that a rounding is estimated from: a single one can change a quantity by next to nothing.
const ROUNDING_DRAWS: u64 = 3;

/// How much outputs (relative to the largest) and loss of the network before growth change when every weight is turned
/// by a last digit or two: sums of another length round differently, and norms over nearly silent neurons enlarge that.
pub(super) struct Rounding {
    pub(super) output: f64,
    pub(super) loss: f64,
}

impl Rounding {
    pub(super) fn of<N: Growable>(before: &Before<'_, N>, parts: &[Part<'_, N>]) -> Result<Self, Error> {
        let mut rounding = Self { output: 0.0, loss: 0.0 };
        for draw in 0..ROUNDING_DRAWS {
            let (turned, mut change, mut loss) = (turned(before.network, draw), Change::default(), 0.0);
            for (part, output) in parts.iter().zip(&before.looked.outputs) {
                let after = part.run(&turned, &mut ())?;
                change.count(output, &after.output.inner());
                loss += part.weight * after.loss.into_scalar::<f64>();
            }
            change.share(before.sums);
            let loss = before.sums.number(loss);
            rounding.output = rounding.output.max(change.relative());
            rounding.loss = rounding.loss.max((loss - before.looked.loss).abs());
        }
        Ok(rounding)
    }
}

/// A copy of the network with every weight turned by a last digit or two.
fn turned<N: Growable>(network: &N, draw: u64) -> N {
    // The draw does not depend on the run's seed, so that a failed event fails again when it is resumed, and can be
    // looked into.
    network.valid().train().map(&mut LastDigits(Seed::new(0).fold("last digits").at(draw).rng()))
}

struct LastDigits(ChaCha8Rng);

/// Two units in the last place of single precision.
const LAST_DIGITS: f32 = 2.0 * f32::EPSILON;

impl ModuleMapper for LastDigits {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|weights| {
            let (shape, tracked) = (weights.dims(), weights.is_require_grad());
            let count = shape.iter().product::<usize>();
            let factor = |sign: bool| if sign { 1.0 + LAST_DIGITS } else { 1.0 - LAST_DIGITS };
            let factors = (0..count).map(|_| factor(self.0.random::<bool>())).collect::<Vec<f32>>();
            let weights = weights.inner();
            let factors = Tensor::<D>::from_data(TensorData::new(factors, shape), &weights.device());
            (weights * factors).autodiff().set_require_grad(tracked)
        })
    }
}

/// By how much the gradients at a site's consumers change, relative to their size, when the weights of the network
/// before growth are turned by a last digit or two.
pub(crate) fn gradient_rounding<N: Growable>(
    site: &str,
    network: &N,
    parts: &[Part<'_, N>],
    sums: &SharedSums,
) -> Result<f64, Error> {
    let evidence = |network: &N| Ok::<_, Error>(probed(network, &parts[0])?.evidence);
    let as_it_is = evidence(&network.valid().train())?;
    let mut rounding = 0.0_f64;
    for draw in 0..ROUNDING_DRAWS {
        let mut squares = as_it_is.delta_change(&evidence(&turned(network, draw))?, site).unwrap_or_default();
        sums.sum(&mut squares);
        // A gradient of exactly zero stays zero, and divides to NaN.
        let change = (squares[0] / squares[1]).sqrt();
        rounding = rounding.max(if change.is_finite() { change } else { 0.0 });
    }
    Ok(rounding)
}
