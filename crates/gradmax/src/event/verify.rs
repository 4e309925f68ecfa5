//! Verifying a growth event on the grown network: did the output stay, and do the new weights receive what was
//! predicted?

use std::collections::BTreeMap;
use std::ops::Range;

use burn::module::{ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::draws::with_draws;
use crate::error::Error;
use crate::event::chosen::Chosen;
use crate::event::look::Looked;
use crate::event::pass::{Part, Pass, probed};
use crate::matrix::{norm, values};
use crate::operator::branch::ROUNDING;
use crate::panics::caught;
use crate::seed::Seed;
use crate::site::growable::Growable;
use crate::site::output::Output;
use crate::site::side::Side;
use crate::sums::SharedSums;
use crate::surgery::addition::Addition;
use crate::surgery::index_map::IndexMaps;

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
    /// For each site, whether the gradient of its new weights was found to be no more than rounding.
    pub(crate) only_rounding: Vec<bool>,
}

/// Gradient norms of new weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewGradientNorms {
    pub(crate) incoming: f64,
    pub(crate) outgoing: f64,
}

/// How far the measured gradient of new weights may be from its prediction, entry by entry, relative to the larger
/// one's norm: a wrong layer or activation is off by far more.
const GRADIENT_TOLERANCE: f64 = 1e-2;
/// How far the loss may be from what it was, relative to its size, where no output changed by more than its tolerance.
const LOSS_TOLERANCE: f64 = 1e-5;
/// By how many times as much as last digits of the weights change a quantity it may change. A device that sums in
/// another order rounds outputs differently; near convergence that moves loss and gradients, which are then differences
/// of nearly equal numbers.
const ROUNDING_ALLOWANCE: f64 = 10.0;
/// A gradient that last digits of the weights change by this share of its size is rounding, and no more.
pub(crate) const ONLY_ROUNDING: f64 = 0.1;
/// Draws of last digits that a rounding is estimated from: a single one can change a quantity by next to nothing.
const ROUNDING_DRAWS: u64 = 3;

/// The network before growth, and what a look at it gave.
pub(crate) struct Before<'a, N: Growable> {
    pub(crate) network: &'a N,
    pub(crate) looked: &'a Looked<N::Output>,
    pub(crate) sums: &'a SharedSums,
}

/// What was chosen for every site, what that adds to which parameters, and where.
pub(crate) struct Grown<'a> {
    /// Gradient steps taken before.
    pub(crate) step: usize,
    pub(crate) chosen: &'a [Chosen],
    /// What the gradients of each site's new weights are sums of, in size.
    pub(crate) magnitudes: &'a [f64],
    pub(crate) additions: &'a [Addition],
    /// Of the extensions of all additions, one after another.
    pub(crate) maps: &'a IndexMaps<'a>,
}

impl Grown<'_> {
    fn sites(&self) -> String {
        self.chosen.iter().map(|chosen| format!("`{}`", chosen.site.name)).collect::<Vec<_>>().join(", ")
    }
}

/// Measures the grown network on the growth batch; with a tolerance, checks what was measured.
///
/// Where the network draws at random in training mode by a generator of its own (dropout of other libraries), two of
/// its passes differ by themselves: outputs and loss are then compared in evaluation mode, and gradients are measured
/// but not checked.
///
/// # Errors
/// [`Error::OutputChanged`], [`Error::LossChanged`], [`Error::GradientMismatch`], [`Error::LossNotFinite`] and
/// [`Error::GrownNetworkFails`].
pub(crate) fn verify<N: Growable>(
    verification: Verification,
    before: &Before<'_, N>,
    grown: (&N, &Grown<'_>),
    parts: &[Part<'_, N>],
    tolerance: Option<f64>,
) -> Result<Verified, Error> {
    if verification == Verification::Off {
        return Ok(Verified { tolerance, ..Verified::default() });
    }
    let (grown, what) = grown;
    let measured = grown.valid().train();
    let mut entries = NewEntries::of(what);
    let mut losses = Losses { before: before.looked.loss, after: 0.0 };
    let mut change = Change::default();
    for (part, output) in parts.iter().zip(&before.looked.outputs) {
        let after = passed(part, &measured, what)?;
        change.count(output, &after.output.inner());
        losses.after += part.weight * after.loss.clone().into_scalar::<f64>();
        if verification == Verification::Full {
            entries.add(&measured, GradientsParams::from_grads(after.loss.backward(), &measured), part.weight);
        }
    }
    change.share(before.sums);
    losses.after = before.sums.number(losses.after);
    entries.share(before.sums);
    if !losses.after.is_finite() {
        return Err(Error::LossNotFinite { step: what.step, loss: losses.after });
    }
    let loss = losses.after;
    let gradient_norms = match verification {
        Verification::Full => (0..what.chosen.len()).map(|site| entries.norms(site)).collect(),
        _ => Vec::new(),
    };
    let Some(mut tolerance) = tolerance else {
        let output_change = Some(change.relative());
        let only_rounding = vec![false; what.chosen.len()];
        return Ok(Verified { loss: Some(loss), output_change, tolerance: None, gradient_norms, only_rounding });
    };

    let suspicious = !is_within(change.relative(), tolerance) || losses.are_apart();
    let random = suspicious && is_random(before, parts)?;
    let mut loss_rounding = 0.0;
    if random {
        (change, losses) = in_evaluation(before, grown, parts)?;
    } else if suspicious {
        let rounding = Rounding::of(before, parts)?;
        tolerance = tolerance.max(rounding.output);
        loss_rounding = ROUNDING_ALLOWANCE * rounding.loss;
    }
    if !is_within(change.relative(), tolerance) {
        return Err(Error::OutputChanged { sites: what.sites(), change: change.relative(), tolerance });
    }
    // Only changed outputs change a loss by rounding.
    if losses.are_apart() && (change.largest == 0.0 || losses.change() > loss_rounding) {
        return Err(Error::LossChanged { sites: what.sites(), before: losses.before, after: losses.after });
    }
    let mut only_rounding = vec![false; what.chosen.len()];
    for (site, chosen) in what.chosen.iter().enumerate().filter(|_| !random && verification == Verification::Full) {
        // Where existing weights change, other sites of the same event read other neurons than the branch did; what
        // lies between at random is known in the mean only.
        if chosen.changes().is_empty() && !chosen.site.is_random() {
            only_rounding[site] =
                check_gradient((chosen, what.magnitudes[site]), &entries.compared(site), before, parts)?;
        }
    }
    let (loss, output_change) = (Some(loss), Some(change.relative()));
    Ok(Verified { loss, output_change, tolerance: Some(tolerance), gradient_norms, only_rounding })
}

/// Whether a change is a number, and at most so large.
fn is_within(change: f64, tolerance: f64) -> bool {
    change <= tolerance
}

/// A pass through the grown network. A layer that reads the neurons and that `sites()` does not name still has its old
/// width, and an operation inside of it panics.
fn passed<N: Growable>(part: &Part<'_, N>, grown: &N, what: &Grown<'_>) -> Result<Pass<N::Output>, Error> {
    let pass = caught(|| part.run(grown, &mut ()));
    pass.unwrap_or_else(|reason| Err(Error::GrownNetworkFails { sites: what.sites(), reason }))
}

/// The largest change of an output, and the largest output.
#[derive(Default)]
struct Change {
    largest: f64,
    largest_output: f64,
}

impl Change {
    fn count(&mut self, before: &impl Output, after: &impl Output) {
        for (before, after) in before.entries().iter().zip(after.entries()) {
            for (before, after) in values(before).into_iter().zip(values(&after)) {
                self.largest_output = self.largest_output.max(before.abs());
                let change = (after - before).abs();
                // A maximum would pass over NaN.
                let is_nan = change.is_nan() || self.largest.is_nan();
                self.largest = if is_nan { f64::NAN } else { self.largest.max(change) };
            }
        }
    }

    /// The largest of all machines.
    fn share(&mut self, sums: &SharedSums) {
        let mut both = [self.largest, self.largest_output];
        sums.largest(&mut both);
        [self.largest, self.largest_output] = both;
    }

    fn relative(&self) -> f64 {
        self.largest / self.largest_output.max(f64::MIN_POSITIVE)
    }
}

/// The loss on the growth batch before and after growth.
#[derive(Clone, Copy)]
struct Losses {
    before: f64,
    after: f64,
}

impl Losses {
    fn change(&self) -> f64 {
        (self.after - self.before).abs()
    }

    /// Whether they differ by more than sums of another length do.
    fn are_apart(&self) -> bool {
        !is_within(self.change(), LOSS_TOLERANCE * self.before.abs().max(self.after.abs()))
    }
}

/// Whether passes through the network before growth draw at random: by a generator of their own, which a further pass
/// shows, or from the seed of the step, which a pass with another seed shows.
fn is_random<N: Growable>(before: &Before<'_, N>, parts: &[Part<'_, N>]) -> Result<bool, Error> {
    let seed = Seed::new(0).fold("other draws");
    let again = with_draws(seed, || parts[0].run(&before.network.valid().train(), &mut ()))?;
    let mut change = Change::default();
    change.count(&before.looked.outputs[0], &again.output.inner());
    change.share(before.sums);
    Ok(change.largest != 0.0)
}

/// How much outputs (relative to the largest) and loss of the network before growth change when every weight is turned
/// by a last digit or two: sums of another length round differently, and norms over nearly silent neurons enlarge that.
struct Rounding {
    output: f64,
    loss: f64,
}

impl Rounding {
    fn of<N: Growable>(before: &Before<'_, N>, parts: &[Part<'_, N>]) -> Result<Self, Error> {
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

/// Outputs and losses before and after growth, in evaluation mode.
fn in_evaluation<N: Growable>(
    before: &Before<'_, N>,
    grown: &N,
    parts: &[Part<'_, N>],
) -> Result<(Change, Losses), Error> {
    let (sums, before, grown) = (before.sums, before.network.valid(), grown.valid());
    let (mut change, mut losses) = (Change::default(), Losses { before: 0.0, after: 0.0 });
    for part in parts {
        let [before, after] = [&before, &grown].map(|network| part.run(network, &mut ()));
        let (before, after) = (before?, after?);
        change.count(&before.output.inner(), &after.output.inner());
        losses.before += part.weight * before.loss.into_scalar::<f64>();
        losses.after += part.weight * after.loss.into_scalar::<f64>();
    }
    change.share(sums);
    let [before, after] = [losses.before, losses.after].map(|loss| sums.number(loss));
    Ok((change, Losses { before, after }))
}

/// Checks that new weights receive the gradient that was predicted, entry by entry; says whether what they receive is
/// known to be no more than rounding.
fn check_gradient<N: Growable>(
    (chosen, magnitude): (&Chosen, f64),
    compared: &Compared,
    before: &Before<'_, N>,
    parts: &[Part<'_, N>],
) -> Result<bool, Error> {
    let Compared { predicted, measured, difference } = *compared;
    let agree = |allowed: f64| difference <= allowed * predicted.max(measured);
    if agree(GRADIENT_TOLERANCE) || difference <= ROUNDING * magnitude {
        return Ok(false);
    }
    // Where the gradient at the consumers is itself no more than rounding, so is that of new weights, and no two ways
    // of computing it agree: a loss that does not depend on what the neurons do, or one that is next to 0.
    let rounding = gradient_rounding(&chosen.site.name, before.network, parts, before.sums)?;
    match agree(GRADIENT_TOLERANCE + ROUNDING_ALLOWANCE * rounding) {
        true => Ok(rounding > ONLY_ROUNDING),
        false => Err(Error::GradientMismatch { site: chosen.site.name.clone(), predicted, measured, difference }),
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
        let change = (squares[0] / squares[1]).sqrt();
        rounding = rounding.max(if change.is_finite() { change } else { 0.0 });
    }
    Ok(rounding)
}

/// The gradients of new weights, summed over the parts of the growth batch.
struct NewEntries<'a> {
    of_parameter: BTreeMap<ParamId, Vec<NewRange>>,
    maps: &'a IndexMaps<'a>,
}

/// New entries of one parameter, and their gradients.
struct NewRange {
    /// The extension's, among all of the event.
    number: usize,
    site: usize,
    side: Side,
    axis: usize,
    /// Where they lie in the grown parameter.
    range: Range<usize>,
    /// The predicted gradient, in the shape that entries have before other axes grow.
    prediction: TensorData,
    /// The measured gradient, flat, and the predicted one in the same form.
    sum: Option<Tensor<1>>,
    predicted: Option<Tensor<1>>,
}

/// Norms of the gradients of a site's new weights, and of their difference.
struct Compared {
    predicted: f64,
    measured: f64,
    difference: f64,
}

impl<'a> NewEntries<'a> {
    fn of(what: &'a Grown<'_>) -> Self {
        let mut of_parameter = BTreeMap::<_, Vec<_>>::new();
        let mut first = 0;
        for (site, (addition, chosen)) in what.additions.iter().zip(what.chosen).enumerate() {
            let gradients = chosen.gradient_addition();
            let sides = [
                (Side::Incoming, &addition.incoming, &gradients.incoming),
                (Side::Outgoing, &addition.outgoing, &gradients.outgoing),
            ];
            let mut number = first;
            for (side, extensions, gradients) in sides {
                for (extension, gradient) in extensions.iter().zip(gradients) {
                    let new = NewRange {
                        number,
                        site,
                        side,
                        axis: extension.axis,
                        range: what.maps.range(number),
                        prediction: gradient.values.clone(),
                        sum: None,
                        predicted: None,
                    };
                    of_parameter.entry(extension.parameter).or_default().push(new);
                    number += 1;
                }
            }
            first += addition.all().count();
        }
        Self { of_parameter, maps: what.maps }
    }

    fn add<N: Growable>(&mut self, grown: &N, gradients: GradientsParams, weight: f64) {
        grown.visit(&mut NewEntriesVisitor { entries: self, gradients, weight });
    }

    /// The sums over all machines.
    fn share(&mut self, sums: &SharedSums) {
        // Parameters have other ids on other machines, and so another order.
        let mut all = self.of_parameter.values_mut().flatten().collect::<Vec<_>>();
        all.sort_by_key(|new| new.number);
        all.into_iter().for_each(|new| new.sum = new.sum.take().map(|sum| sums.tensor(sum)));
    }

    fn of_site(&self, site: usize) -> impl Iterator<Item = &NewRange> {
        self.of_parameter.values().flatten().filter(move |new| new.site == site)
    }

    fn norms(&self, site: usize) -> NewGradientNorms {
        let of = |side: Side| {
            let ranges = self.of_site(site).filter(|new| new.side == side);
            ranges.filter_map(|new| new.sum.clone()).map(|sum| norm(sum).powi(2)).sum::<f64>().sqrt()
        };
        NewGradientNorms { incoming: of(Side::Incoming), outgoing: of(Side::Outgoing) }
    }

    fn compared(&self, site: usize) -> Compared {
        let (mut predicted, mut measured, mut difference) = (0.0, 0.0, 0.0);
        for new in self.of_site(site) {
            // A frozen parameter has no gradient.
            if let (Some(sum), Some(prediction)) = (&new.sum, &new.predicted) {
                predicted += norm(prediction.clone()).powi(2);
                measured += norm(sum.clone()).powi(2);
                difference += norm(sum.clone() - prediction.clone()).powi(2);
            }
        }
        Compared { predicted: predicted.sqrt(), measured: measured.sqrt(), difference: difference.sqrt() }
    }
}

struct NewEntriesVisitor<'e, 'a> {
    entries: &'e mut NewEntries<'a>,
    gradients: GradientsParams,
    weight: f64,
}

impl ModuleVisitor for NewEntriesVisitor<'_, '_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (Some(ranges), Some(map)) = (self.entries.of_parameter.get_mut(&param.id), self.entries.maps.get(param.id))
        else {
            return;
        };
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return;
        };
        let flat = |tensor: Tensor<D>| {
            let count = tensor.dims().iter().product::<usize>();
            tensor.reshape([count])
        };
        for new in ranges {
            let others = map.axes().into_iter().filter(|axis| *axis != new.axis).collect::<Vec<_>>();
            let mut entries = gradient.clone().narrow(new.axis, new.range.start, new.range.len());
            // Where they meet new entries along other axes, they are of neither.
            for (axis, range) in others.iter().flat_map(|axis| map.new_ranges(*axis).map(|range| (*axis, range))) {
                let mut met = entries.dims().map(|length| 0..length);
                met[axis] = range;
                let zeros = entries.clone().slice(met.clone()).zeros_like();
                entries = entries.slice_assign(met, zeros);
            }
            let place = (&entries.device(), entries.dtype());
            let prediction = || {
                let prediction = Tensor::<D>::from_data(new.prediction.clone(), place);
                flat(others.iter().fold(prediction, |prediction, axis| map.spread(prediction, *axis)))
            };
            new.predicted = Some(new.predicted.take().unwrap_or_else(prediction));
            let weighted = flat(entries).mul_scalar(self.weight);
            new.sum = Some(match new.sum.take() {
                Some(sum) => sum + weighted,
                None => weighted,
            });
        }
    }
}
