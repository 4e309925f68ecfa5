//! Growth where training has come to a standstill.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::plan::Planned;
use crate::policies::look::PolicyLook;
use crate::policies::periodic::{Amount, Order, Periodic};
use crate::policies::policy::{Observed, Policy, PolicyState};

/// Grows once the training loss has not fallen any more: its mean over the steps between two checks, compared with the
/// least one since the last growth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plateau {
    /// The first step at which growth may happen.
    pub start: usize,
    /// Steps between two checks.
    pub every: usize,
    /// Number of events.
    pub times: usize,
    /// Which sites grow at an event.
    pub order: Order,
    /// By how much.
    pub amount: Amount,
    /// By which share of it the loss has to fall to count as falling.
    pub threshold: f64,
    /// Checks in a row at which it does not, after which the network grows.
    pub patience: usize,
}

impl Default for Plateau {
    /// A check every hundredth step; a fifth more neurons at every site after two without a fall of a hundredth.
    fn default() -> Self {
        let Periodic { start, every, times, order, .. } = Periodic::default();
        Self { start, every, times, order, amount: Amount::Geometric(0.2), threshold: 0.01, patience: 2 }
    }
}

impl Plateau {
    /// When it checks, and what grows.
    fn pace(&self) -> Periodic {
        let Self { start, every, times, order, amount, .. } = *self;
        Periodic { start, every, times, order, amount, ..Periodic::default() }
    }
}

/// The least mean loss since the last growth, and the checks since then.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Least {
    loss: f64,
    waited: usize,
}

impl Policy for Plateau {
    fn name(&self) -> &str {
        "plateau"
    }

    fn check(&self) -> Result<(), Error> {
        self.pace().check()?;
        let bad = |option, value: String, remedy| Err(Error::BadOption { option, value, remedy });
        match *self {
            Self { threshold, .. } if !(0.0..1.0).contains(&threshold) => {
                bad("threshold", threshold.to_string(), "it is a share of the loss: at least 0, and below 1")
            }
            Self { patience: 0, .. } => bad("patience", "0".into(), "growth comes after at least one check"),
            _ => Ok(()),
        }
    }

    fn due(&self, observed: &Observed<'_>, state: &PolicyState) -> bool {
        self.pace().due(observed, state)
    }

    fn follows_loss(&self) -> bool {
        true
    }

    fn plan(
        &self,
        observed: &Observed<'_>,
        _look: &dyn PolicyLook,
        state: &mut PolicyState,
    ) -> Result<Vec<Planned>, Error> {
        let Some(loss) = observed.stretch.mean_loss() else {
            return Ok(Vec::new());
        };
        let least = match state.read::<Least>() {
            // Losses can be negative: a share is one of their size.
            Some(least) if loss > least.loss - self.threshold * least.loss.abs() => {
                Least { loss: least.loss.min(loss), waited: least.waited + 1 }
            }
            _ => Least { loss, waited: 0 },
        };
        if least.waited < self.patience {
            state.write(&least);
            return Ok(Vec::new());
        }
        *state = PolicyState::default();
        Ok(self.pace().planned(observed.events, observed.sites))
    }
}
