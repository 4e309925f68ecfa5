//! Growth receipts: what a growth event did, predicted and measured.

use serde::{Deserialize, Deserializer, Serialize};

use crate::event::context::EventContext;

/// What one growth event did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Gradient steps taken before the event.
    pub step: usize,
    /// The event's number, from 0.
    pub event: usize,
    /// The growth method's name.
    pub method: String,
    /// Loss on the growth batch before growing; not a number for an event that was refused.
    #[serde(deserialize_with = "number")]
    pub loss_before: f64,
    /// Loss on the growth batch after growing; none if not verified.
    pub loss_after: Option<f64>,
    /// Largest change of an output on the growth batch, over the largest output; none if not verified.
    pub output_change: Option<f64>,
    /// What the change must stay below; none if the method does not preserve the function. Larger than what was asked
    /// for where the network's output depends on the last digits of its weights that much.
    pub tolerance: Option<f64>,
    /// Largest change of an output by rescaling existing weights before, over the largest output; none if none were, or
    /// if not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescaling_change: Option<f64>,
    /// Each site that grew.
    pub sites: Vec<SiteReceipt>,
    /// Trainable parameters of the network, before and after.
    pub parameters: [usize; 2],
    /// Floating-point operations of an example's forward pass, before and after.
    pub flops: [u64; 2],
    /// Parameters whose optimizer state could not be carried and starts anew.
    pub optimizer_reset: Vec<String>,
    /// Fields of the optimizer's state whose meaning is not known, so that their new entries are zeros.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub optimizer_unknown_fields: Vec<String>,
    /// Why nothing grew, if the event failed and the run goes on without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Everything that was timed, and so differs between runs.
    pub timing: Timing,
}

impl Receipt {
    /// The receipt of an event that failed, at a network with so many trainable parameters and operations.
    pub(crate) fn of_refused(
        context: EventContext,
        method: &str,
        reason: String,
        [parameters, flops]: [u64; 2],
    ) -> Self {
        Self {
            step: context.step,
            event: context.event,
            method: method.to_string(),
            loss_before: f64::NAN,
            parameters: [parameters as usize; 2],
            flops: [flops; 2],
            refused: Some(reason),
            ..Self::default()
        }
    }

    /// The norm of all new weights' gradients, incoming and outgoing, measured on the grown network; none if not
    /// verified in full.
    pub fn gradient_norm(&self) -> Option<f64> {
        let norms = self.sites.iter().map(|site| Some(site.gradient_norm?.hypot(site.outgoing_gradient_norm?)));
        Some(norms.map(|norm| norm.map(|norm| norm * norm)).sum::<Option<f64>>()?.sqrt())
    }
}

/// What one growth event did at one site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteReceipt {
    /// The site's name.
    pub site: String,
    /// New neurons.
    pub added: usize,
    /// The site's width after growing.
    pub width: usize,
    /// Singular values of the new neurons' directions, for methods that find them.
    pub singular_values: Vec<f64>,
    /// Gradient norm of the new incoming weights, as singular values and scale (or else the growth operator) predict
    /// it.
    #[serde(deserialize_with = "number")]
    pub predicted_gradient_norm: f64,
    /// Whether no gradient, or no more than rounding, arrives at the new weights: the neurons before them are silent,
    /// or the loss does not depend on what comes after them. They are then as good as random.
    #[serde(default)]
    pub without_gradient: bool,
    /// Gradient norm of the new incoming weights, measured on the grown network; none if not verified in full.
    pub gradient_norm: Option<f64>,
    /// Gradient norm of the new outgoing weights, measured on the grown network; none if not verified in full.
    pub outgoing_gradient_norm: Option<f64>,
}

/// Milliseconds of each part of a growth event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Forward and backward pass with the probe. Where it is the training step's own pass, only what it takes beyond an
    /// ordinary one is part of the growth's cost.
    pub probe: f64,
    /// Whether that pass was the training step's own.
    pub probe_is_training_step: bool,
    /// Growth operator, directions and weights of the new neurons.
    pub initialize: f64,
    /// Widening the network and its gradients.
    pub widen: f64,
    /// Carrying the optimizer's state.
    pub carry: f64,
    /// Verifying the event; no part of the growth's cost.
    pub verify: f64,
    /// The growth's cost: all parts but verification, and but the pass that training needed anyway.
    pub growth: f64,
    /// Median milliseconds of a training step of the network before the event, if known.
    pub training_step: Option<f64>,
    /// The growth's cost in training steps, if known.
    pub growth_in_steps: Option<f64>,
}

/// A number that JSON, which knows no others, may have as `null`.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
