//! What rounding does to a network's outputs, loss and gradients, measured by turning the last digits of its weights.

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::error::Error;
use crate::event::change::Change;
use crate::event::look::Before;
use crate::event::pass::{Part, probed};
use crate::matrix::{Matrix, from_tensor, to_tensor};
use crate::seed::Seed;
use crate::site::growable::{Growable, device_of};
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
        let digits = last_digits(&device_of(before.network));
        for draw in 0..ROUNDING_DRAWS {
            let (turned, mut change, mut loss) = (turned(before.network, digits, draw), Change::default(), 0.0);
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

/// A copy of the network with every weight turned by a last digit or two of what its device computes with.
fn turned<N: Growable>(network: &N, digits: f32, draw: u64) -> N {
    // The draw does not depend on the run's seed, so that a failed event fails again when it is resumed, and can be
    // looked into.
    let rng = Seed::new(0).fold("last digits").at(draw).rng();
    network.valid().train().map(&mut LastDigits { digits, rng })
}

struct LastDigits {
    /// By how much, relative to each weight.
    digits: f32,
    rng: ChaCha8Rng,
}

impl ModuleMapper for LastDigits {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|weights| {
            let (shape, tracked) = (weights.dims(), weights.is_require_grad());
            let count = shape.iter().product::<usize>();
            let factor = |sign: bool| if sign { 1.0 + self.digits } else { 1.0 - self.digits };
            let factors = (0..count).map(|_| factor(self.rng.random::<bool>())).collect::<Vec<f32>>();
            let weights = weights.inner();
            let factors = Tensor::<D>::from_data(TensorData::new(factors, shape), &weights.device());
            (weights * factors).autodiff().set_require_grad(tracked)
        })
    }
}

/// Two units in the last place of single precision.
const LAST_DIGITS: f32 = 2.0 * f32::EPSILON;
/// The side of the square matrices whose product tells how a device rounds: enough for a GPU's matrix units.
const SIDE: usize = 256;

/// The last digits that a device computes with, relative to a number: those of single precision, or coarser ones where
/// products of matrices round what they multiply. The matrix units of GPUs do so in TF32, which keeps 10 bits, and
/// nothing says whether they are used; so a product is measured.
fn last_digits(device: &Device) -> f32 {
    let device = device.clone().inner();
    let mut rng = Seed::new(0).fold("precision").rng();
    let [a, b] = [(); 2].map(|()| Matrix::from_fn(SIDE, SIDE, |_, _| f64::from(rng.random_range(-1.0_f32..1.0))));
    let found = from_tensor(to_tensor(a.as_ref(), &device).matmul(to_tensor(b.as_ref(), &device)));
    let exact = a * b;
    let error = ((found - &exact).norm_l2() / exact.norm_l2()) as f32;
    // Summing in single precision is off by several of its digits; what is wrong altogether is no rounding.
    if error.is_finite() && error > 16.0 * LAST_DIGITS { error } else { LAST_DIGITS }
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
    let (digits, mut rounding) = (last_digits(&device_of(network)), 0.0_f64);
    for draw in 0..ROUNDING_DRAWS {
        let mut squares = as_it_is.delta_change(&evidence(&turned(network, digits, draw))?, site).unwrap_or_default();
        sums.sum(&mut squares);
        // A gradient of exactly zero stays zero, and divides to NaN.
        let change = (squares[0] / squares[1]).sqrt();
        rounding = rounding.max(if change.is_finite() { change } else { 0.0 });
    }
    Ok(rounding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_in_single_precision_has_its_last_digits() {
        assert_eq!(last_digits(&Device::flex()), LAST_DIGITS);
        assert_eq!(last_digits(&Device::flex().autodiff()), LAST_DIGITS);
    }
}
