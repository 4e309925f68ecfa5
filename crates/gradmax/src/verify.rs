//! Verifying a growth event on the grown network: did the output stay, and do the new weights receive what was predicted?

use std::collections::BTreeMap;

use burn::module::{ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Slice, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::growable::Growable;
use crate::grower::{Chosen, neuron_axes};
use crate::matrix::norm;
use crate::pass::{Looked, Part};

/// How much of a growth event is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Output and gradients: a forward and a backward pass through the grown network.
    #[default]
    Full,
    /// Output only: a forward pass.
    Output,
    /// Nothing.
    Off,
}

/// What was measured on the grown network.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    pub(crate) loss: Option<f64>,
    pub(crate) output_change: Option<f64>,
    /// For each site, in full verification only.
    pub(crate) gradient_norms: Vec<NewGradientNorms>,
}

/// Gradient norms of new weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewGradientNorms {
    pub(crate) incoming: f64,
    pub(crate) outgoing: f64,
}

/// How far a measured gradient norm may be from its prediction, relative to the larger of the two: a wrong layer or activation
/// is off by far more.
const GRADIENT_TOLERANCE: f64 = 1e-2;
/// By how many times the loss's relative change it may be further off. A device that sums in another order rounds the output
/// differently; near convergence that moves loss and gradients, which are then differences of nearly equal numbers.
const ROUNDING_ALLOWANCE: f64 = 10.0;

/// Measures the grown network on the growth batch; with a tolerance, checks what was measured.
///
/// # Errors
/// [`Error::OutputChanged`] and [`Error::GradientMismatch`].
pub(crate) fn verify<N: Growable>(
    verification: Verification,
    grown: &N,
    parts: &[Part<'_, N>],
    before: &Looked,
    chosen: &[Chosen],
    tolerance: Option<f64>,
) -> Result<Verified, Error> {
    if verification == Verification::Off {
        return Ok(Verified::default());
    }
    let mut loss = 0.0;
    let (mut largest_change, mut largest_output) = (0.0_f64, 0.0_f64);
    let mut gradients = NewEntries::of(chosen);
    for (part, output) in parts.iter().zip(&before.outputs) {
        let after = (part.pass)(grown, &mut ());
        let change = (after.output.inner() - output.clone()).abs().max().into_scalar::<f64>();
        largest_change = largest_change.max(change);
        largest_output = largest_output.max(output.clone().abs().max().into_scalar::<f64>());
        if verification == Verification::Full {
            gradients.add(grown, GradientsParams::from_grads(after.loss.backward(), grown), part.weight);
        }
        loss += part.weight * after.loss.into_scalar::<f64>();
    }
    let output_change = largest_change / largest_output.max(f64::MIN_POSITIVE);
    let gradient_norms = match verification {
        Verification::Full => chosen.iter().map(|chosen| gradients.norms(chosen)).collect(),
        _ => Vec::new(),
    };
    if let Some(tolerance) = tolerance {
        check_output(chosen, output_change, tolerance)?;
        let drift = (loss - before.loss).abs() / loss.max(before.loss).max(f64::MIN_POSITIVE);
        let allowed = GRADIENT_TOLERANCE + ROUNDING_ALLOWANCE * drift;
        chosen.iter().zip(&gradient_norms).try_for_each(|(chosen, norms)| check_gradient(chosen, norms, allowed))?;
    }
    Ok(Verified { loss: Some(loss), output_change: Some(output_change), gradient_norms })
}

fn check_output(chosen: &[Chosen], change: f64, tolerance: f64) -> Result<(), Error> {
    if change <= tolerance {
        return Ok(());
    }
    let sites = chosen.iter().map(|chosen| format!("`{}`", chosen.site.name)).collect::<Vec<_>>().join(", ");
    Err(Error::OutputChanged { sites, change, tolerance })
}

fn check_gradient(chosen: &Chosen, norms: &NewGradientNorms, allowed: f64) -> Result<(), Error> {
    let predicted = chosen.gradients.incoming.norm_l2().hypot(chosen.gradients.outgoing.norm_l2());
    let measured = norms.incoming.hypot(norms.outgoing);
    if (predicted - measured).abs() <= allowed * predicted.max(measured) {
        return Ok(());
    }
    Err(Error::GradientMismatch { site: chosen.site.name.clone(), predicted, measured })
}

/// The gradients of new entries, summed over the parts of the growth batch.
struct NewEntries {
    /// By parameter and axis: the old length of the axis, and the sum of the new entries' gradients.
    sums: BTreeMap<(ParamId, usize), (usize, Option<Tensor<1>>)>,
}

impl NewEntries {
    fn of(chosen: &[Chosen]) -> Self {
        let axes = chosen.iter().flat_map(|chosen| neuron_axes(&chosen.site));
        Self { sums: axes.map(|(id, axis, at)| ((id, axis), (at, None))).collect() }
    }

    fn add<N: Growable>(&mut self, grown: &N, gradients: GradientsParams, weight: f64) {
        grown.visit(&mut NewEntriesVisitor { entries: self, gradients, weight });
    }

    fn norms(&self, chosen: &Chosen) -> NewGradientNorms {
        let [incoming, outgoing] = neuron_axes(&chosen.site).map(|(id, axis, _)| match &self.sums[&(id, axis)].1 {
            Some(sum) => norm(sum.clone()),
            None => 0.0,
        });
        NewGradientNorms { incoming, outgoing }
    }
}

struct NewEntriesVisitor<'a> {
    entries: &'a mut NewEntries,
    gradients: GradientsParams,
    weight: f64,
}

impl ModuleVisitor for NewEntriesVisitor<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return;
        };
        for axis in 0..D {
            if let Some((at, sum)) = self.entries.sums.get_mut(&(param.id, axis)) {
                let mut slices = vec![Slice::full(); D];
                slices[axis] = Slice::from(*at..gradient.dims()[axis]);
                let new = gradient.clone().slice(slices.as_slice());
                let entries = new.dims().iter().product::<usize>();
                let new = new.reshape([entries]).mul_scalar(self.weight);
                *sum = Some(match sum.take() {
                    Some(sum) => sum + new,
                    None => new,
                });
            }
        }
    }
}
