//! Verifying a growth event on the grown network: did the output stay, and do the new weights receive what was
//! predicted?

use std::collections::BTreeMap;

use burn::module::{ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::addition::Addition;
use crate::chosen::Chosen;
use crate::error::Error;
use crate::extension::Extension;
use crate::growable::Growable;
use crate::matrix::norm;
use crate::pass::{Looked, Part};
use crate::seed::Seed;

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
    /// What the change had to stay below.
    pub(crate) tolerance: Option<f64>,
    /// For each site, in full verification only.
    pub(crate) gradient_norms: Vec<NewGradientNorms>,
}

/// Gradient norms of new weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewGradientNorms {
    pub(crate) incoming: f64,
    pub(crate) outgoing: f64,
}

/// How far a measured gradient norm may be from its prediction, relative to the larger of the two: a wrong layer or
/// activation is off by far more.
const GRADIENT_TOLERANCE: f64 = 1e-2;
/// By how many times the loss's relative change it may be further off. A device that sums in another order rounds the
/// output differently; near convergence that moves loss and gradients, which are then differences of nearly equal
/// numbers.
const ROUNDING_ALLOWANCE: f64 = 10.0;

/// The network before growth, and what a look at it gave.
pub(crate) struct Before<'a, N> {
    pub(crate) network: &'a N,
    pub(crate) looked: &'a Looked,
}

/// The part of the sizes of what is summed below which a gradient is rounding.
const CANCELLATION: f64 = 1e-6;

/// Measures the grown network on the growth batch; with a tolerance, checks what was measured.
///
/// Where the network draws at random in training mode (dropout), two of its passes differ by themselves: outputs are
/// then compared in evaluation mode, and gradients are measured but not checked.
///
/// # Errors
/// [`Error::OutputChanged`] and [`Error::GradientMismatch`].
pub(crate) fn verify<N: Growable>(
    verification: Verification,
    before: &Before<'_, N>,
    grown: &N,
    parts: &[Part<'_, N>],
    chosen: &[Chosen],
    additions: &[Addition],
    tolerance: Option<f64>,
) -> Result<Verified, Error> {
    if verification == Verification::Off {
        return Ok(Verified { tolerance, ..Verified::default() });
    }
    let measured = grown.valid().train();
    let mut entries = NewEntries::of(additions);
    let mut loss = 0.0;
    let mut change = Change::default();
    for (part, output) in parts.iter().zip(&before.looked.outputs) {
        let after = (part.pass)(&measured, &mut ());
        change.count(output.clone(), after.output.inner());
        if verification == Verification::Full {
            entries.add(&measured, GradientsParams::from_grads(after.loss.backward(), &measured), part.weight);
        }
        loss += part.weight * after.loss.into_scalar::<f64>();
    }
    let suspicious = tolerance.is_some_and(|tolerance| change.relative() > tolerance);
    let random = suspicious && is_random(before, parts);
    if random {
        change = change_in_evaluation(before.network, grown, parts);
    }
    let tolerance = match suspicious && !random {
        true => tolerance.map(|tolerance| tolerance.max(change_by_rounding(before, parts))),
        false => tolerance,
    };
    let gradient_norms = match verification {
        Verification::Full => (0..chosen.len()).map(|site| entries.norms(site)).collect(),
        _ => Vec::new(),
    };
    if let Some(tolerance) = tolerance {
        check_output(chosen, change.relative(), tolerance)?;
        let drift = (loss - before.looked.loss).abs() / loss.max(before.looked.loss).max(f64::MIN_POSITIVE);
        let allowed = GRADIENT_TOLERANCE + ROUNDING_ALLOWANCE * drift;
        // Where existing weights change, other sites of the same event read other neurons than the branch did.
        let known = |chosen: &Chosen| !random && chosen.changes().is_empty();
        let mut measured = chosen.iter().zip(&gradient_norms).filter(|(chosen, _)| known(chosen));
        measured.try_for_each(|(chosen, norms)| check_gradient(chosen, norms, allowed))?;
    }
    Ok(Verified { loss: Some(loss), output_change: Some(change.relative()), tolerance, gradient_norms })
}

/// The largest change of an output, and the largest output.
#[derive(Default)]
struct Change {
    largest: f64,
    largest_output: f64,
}

impl Change {
    fn count(&mut self, before: Tensor<2>, after: Tensor<2>) {
        let largest = |tensor: Tensor<2>| tensor.abs().max().into_scalar::<f64>();
        self.largest_output = self.largest_output.max(largest(before.clone()));
        self.largest = self.largest.max(largest(after - before));
    }

    fn relative(&self) -> f64 {
        self.largest / self.largest_output.max(f64::MIN_POSITIVE)
    }
}

/// Whether a further pass through the network before growth gives other outputs than the first.
fn is_random<N: Growable>(before: &Before<'_, N>, parts: &[Part<'_, N>]) -> bool {
    let again = (parts[0].pass)(&before.network.valid().train(), &mut ());
    let mut change = Change::default();
    change.count(before.looked.outputs[0].clone(), again.output.inner());
    change.largest != 0.0
}

/// How much the network before growth changes its output when every weight is turned by a last digit or two: sums of
/// another length round differently, and norms over nearly silent neurons enlarge that.
fn change_by_rounding<N: Growable>(before: &Before<'_, N>, parts: &[Part<'_, N>]) -> f64 {
    let turned = before.network.valid().train().map(&mut LastDigits(Seed::new(0).fold("last digits").rng()));
    let after = (parts[0].pass)(&turned, &mut ());
    let mut change = Change::default();
    change.count(before.looked.outputs[0].clone(), after.output.inner());
    change.relative()
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

fn change_in_evaluation<N: Growable>(before: &N, grown: &N, parts: &[Part<'_, N>]) -> Change {
    let (before, grown) = (before.valid(), grown.valid());
    let mut change = Change::default();
    for part in parts {
        let output = |network: &N| (part.pass)(network, &mut ()).output.inner();
        change.count(output(&before), output(&grown));
    }
    change
}

fn check_output(chosen: &[Chosen], change: f64, tolerance: f64) -> Result<(), Error> {
    if change <= tolerance {
        return Ok(());
    }
    let sites = chosen.iter().map(|chosen| format!("`{}`", chosen.site.name)).collect::<Vec<_>>().join(", ");
    Err(Error::OutputChanged { sites, change, tolerance })
}

fn check_gradient(chosen: &Chosen, norms: &NewGradientNorms, allowed: f64) -> Result<(), Error> {
    let [incoming, outgoing] = chosen.gradient_norms();
    let (predicted, measured) = (incoming.hypot(outgoing), norms.incoming.hypot(norms.outgoing));
    let difference = (predicted - measured).abs();
    if difference <= allowed * predicted.max(measured) || difference <= CANCELLATION * chosen.magnitude() {
        return Ok(());
    }
    Err(Error::GradientMismatch { site: chosen.site.name.clone(), predicted, measured })
}

/// The gradients of new weights, summed over the parts of the growth batch.
struct NewEntries {
    of_parameter: BTreeMap<ParamId, Vec<NewRange>>,
}

/// New entries of one parameter, where they lie in the grown one, and the sum of their gradients.
struct NewRange {
    site: usize,
    side: Side,
    axis: usize,
    range: std::ops::Range<usize>,
    /// Entries of other extensions along other axes, which are not of this one.
    others: Vec<(usize, std::ops::Range<usize>)>,
    sum: Option<Tensor<1>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Incoming,
    Outgoing,
}

impl NewEntries {
    fn of(additions: &[Addition]) -> Self {
        let mut of_parameter = BTreeMap::<_, Vec<_>>::new();
        for (site, addition) in additions.iter().enumerate() {
            for (side, extensions) in [(Side::Incoming, &addition.incoming), (Side::Outgoing, &addition.outgoing)] {
                for extension in extensions {
                    let range = range_in_grown(extension, additions);
                    let others = additions
                        .iter()
                        .flat_map(Addition::all)
                        .filter(|other| other.parameter == extension.parameter && other.axis != extension.axis);
                    let others = others.map(|other| (other.axis, range_in_grown(other, additions))).collect();
                    let new = NewRange { site, side, axis: extension.axis, range, others, sum: None };
                    of_parameter.entry(extension.parameter).or_default().push(new);
                }
            }
        }
        Self { of_parameter }
    }

    fn add<N: Growable>(&mut self, grown: &N, gradients: GradientsParams, weight: f64) {
        grown.visit(&mut NewEntriesVisitor { entries: self, gradients, weight });
    }

    fn norms(&self, site: usize) -> NewGradientNorms {
        let of = |side: Side| {
            let ranges = self.of_parameter.values().flatten().filter(|new| new.site == site && new.side == side);
            ranges.filter_map(|new| new.sum.clone()).map(|sum| norm(sum).powi(2)).sum::<f64>().sqrt()
        };
        NewGradientNorms { incoming: of(Side::Incoming), outgoing: of(Side::Outgoing) }
    }
}

/// Where an extension's entries lie once all extensions are inserted.
fn range_in_grown(extension: &Extension, additions: &[Addition]) -> std::ops::Range<usize> {
    let same_axis = additions.iter().flat_map(Addition::all);
    let same_axis = same_axis.filter(|other| (other.parameter, other.axis) == (extension.parameter, extension.axis));
    let mut moved = 0;
    let mut passed = false;
    for other in same_axis {
        passed |= std::ptr::eq(other, extension);
        let earlier = other.at < extension.at || (other.at == extension.at && !passed);
        moved += if earlier { other.added() } else { 0 };
    }
    let start = extension.at + moved;
    start..start + extension.added()
}

struct NewEntriesVisitor<'a> {
    entries: &'a mut NewEntries,
    gradients: GradientsParams,
    weight: f64,
}

impl ModuleVisitor for NewEntriesVisitor<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(ranges) = self.entries.of_parameter.get_mut(&param.id) else {
            return;
        };
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return;
        };
        for new in ranges {
            let mut entries = gradient.clone().narrow(new.axis, new.range.start, new.range.len());
            for (axis, range) in &new.others {
                let mut zeroed = entries.dims().map(|length| 0..length);
                zeroed[*axis] = range.clone();
                let corner = entries.clone().slice(zeroed.clone()).zeros_like();
                entries = entries.slice_assign(zeroed, corner);
            }
            let count = entries.dims().iter().product::<usize>();
            let weighted = entries.reshape([count]).mul_scalar(self.weight);
            new.sum = Some(match new.sum.take() {
                Some(sum) => sum + weighted,
                None => weighted,
            });
        }
    }
}
