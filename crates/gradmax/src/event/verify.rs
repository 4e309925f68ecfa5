//! Verifying a growth event on the grown network: did the output stay, and do the new weights receive what was
//! predicted?

use burn::optim::GradientsParams;
use serde::{Deserialize, Serialize};

use crate::draws::with_draws;
use crate::error::Error;
use crate::event::change::{Change, Losses, is_within};
use crate::event::chosen::{Chosen, Grown};
use crate::event::look::Before;
use crate::event::new_entries::{Compared, NewEntries, NewGradientNorms};
use crate::event::pass::{Part, Pass};
use crate::event::rounding::{ONLY_ROUNDING, Rounding, gradient_rounding};
use crate::operator::branch::ROUNDING;
use crate::panics::caught;
use crate::seed::Seed;
use crate::site::growable::Growable;
use crate::site::output::Output;

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

/// How far the measured gradient of new weights may be from its prediction, entry by entry, relative to the larger
/// one's norm: a wrong layer or activation is off by far more.
const GRADIENT_TOLERANCE: f64 = 1e-2;
/// By how many times as much as last digits of the weights change a quantity it may change. A device that sums in
/// another order rounds outputs differently; near convergence that moves loss and gradients, which are then differences
/// of nearly equal numbers.
const ROUNDING_ALLOWANCE: f64 = 10.0;

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
    let measured = Measured::of(verification, before, (grown, what), parts)?;
    let full = verification == Verification::Full;
    let mut verified = Verified {
        loss: Some(measured.losses.after),
        output_change: Some(measured.change.relative()),
        tolerance,
        gradient_norms: (0..what.chosen.len()).filter(|_| full).map(|site| measured.entries.norms(site)).collect(),
        only_rounding: vec![false; what.chosen.len()],
    };
    let Some(tolerance) = tolerance else {
        return Ok(verified);
    };
    let Unchanged { change, tolerance, random } = check_function(&measured, before, (grown, what), parts, tolerance)?;
    (verified.output_change, verified.tolerance) = (Some(change), Some(tolerance));
    for (site, chosen) in what.chosen.iter().enumerate().filter(|_| full && !random) {
        // Where existing weights change, other sites of the same event read other neurons than the branch did; what
        // lies between at random is known in the mean only.
        if !chosen.changes_neurons() && !chosen.site.is_random() {
            let compared = measured.entries.compared(site);
            verified.only_rounding[site] = check_gradient((chosen, what.magnitudes[site]), &compared, before, parts)?;
        }
    }
    Ok(verified)
}

/// What passes through the grown network over the growth batch gave.
struct Measured<'a> {
    change: Change,
    losses: Losses,
    entries: NewEntries<'a>,
}

impl<'a> Measured<'a> {
    fn of<N: Growable>(
        verification: Verification,
        before: &Before<'_, N>,
        (grown, what): (&N, &'a Grown<'a>),
        parts: &[Part<'_, N>],
    ) -> Result<Self, Error> {
        // Batch norm's statistics change in every training pass, in clones too: this copy has its own.
        let grown = grown.valid().train();
        let (mut change, mut entries) = (Change::default(), NewEntries::of(what));
        let mut losses = Losses { before: before.looked.loss, after: 0.0 };
        for (part, output) in parts.iter().zip(&before.looked.outputs) {
            let after = passed(part, &grown, what)?;
            change.count(output, &after.output.inner());
            losses.after += part.weight * after.loss.clone().into_scalar::<f64>();
            if verification == Verification::Full {
                entries.add(&grown, GradientsParams::from_grads(after.loss.backward(), &grown), part.weight);
            }
        }
        change.share(before.sums);
        losses.after = before.sums.number(losses.after);
        entries.share(before.sums);
        match losses.after.is_finite() {
            true => Ok(Self { change, losses, entries }),
            false => Err(Error::LossNotFinite { step: what.step, loss: losses.after }),
        }
    }
}

/// A function that growth left as it was.
struct Unchanged {
    /// The relative change of the outputs.
    change: f64,
    /// What it had to stay below.
    tolerance: f64,
    /// Whether the network draws at random in training, by a generator of its own.
    random: bool,
}

/// Checks that outputs and loss stayed as they were, to the tolerance or to what rounding does to them.
fn check_function<N: Growable>(
    measured: &Measured<'_>,
    before: &Before<'_, N>,
    (grown, what): (&N, &Grown<'_>),
    parts: &[Part<'_, N>],
    mut tolerance: f64,
) -> Result<Unchanged, Error> {
    let Measured { mut change, mut losses, .. } = *measured;
    // Further passes are taken only where something looks wrong: most events cost one.
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
    Ok(Unchanged { change: change.relative(), tolerance, random })
}

/// A pass through the grown network. A layer that reads the neurons and that `sites()` does not name still has its old
/// width, and an operation inside of it panics.
fn passed<N: Growable>(part: &Part<'_, N>, grown: &N, what: &Grown<'_>) -> Result<Pass<N::Output>, Error> {
    let pass = caught(|| part.run(grown, &mut ()));
    pass.unwrap_or_else(|reason| Err(Error::GrownNetworkFails { sites: what.sites(), reason }))
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
    // Relative to the larger of both, so that a prediction of zero is not trivially met.
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
