//! Growth where singular values are large (Evci et al. 2022, section 6, leave this as future work).

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::plan::Planned;
use crate::policies::look::PolicyLook;
use crate::policies::periodic::{Amount, Order, Periodic};
use crate::policies::policy::{Observed, Policy, PolicyState};

/// At fixed steps, looks at all sites and adds the neurons that would receive the largest gradients: those whose
/// singular value is at least a share of the largest one of all sites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spectrum {
    /// The first step at which growth may happen.
    pub start: usize,
    /// Steps between two events.
    pub every: usize,
    /// Number of events.
    pub times: usize,
    /// The most that a site grows by at an event.
    pub amount: Amount,
    /// The share of the largest singular value that a neuron's must reach.
    pub threshold: f64,
}

impl Default for Spectrum {
    /// At most eight neurons a site every hundredth step, with at least half the largest singular value.
    fn default() -> Self {
        let Periodic { start, every, times, .. } = Periodic::default();
        Self { start, every, times, amount: Amount::Count(8), threshold: 0.5 }
    }
}

impl Spectrum {
    /// When it looks, and the most that can come of it.
    fn pace(&self) -> Periodic {
        let Self { start, every, times, amount, .. } = *self;
        Periodic { start, every, times, order: Order::AllAtOnce, amount, ..Periodic::default() }
    }
}

impl Policy for Spectrum {
    fn name(&self) -> &str {
        "spectrum"
    }

    fn check(&self) -> Result<(), Error> {
        self.pace().check()?;
        self.amount.check_by_site()?;
        match self.threshold > 0.0 && self.threshold <= 1.0 {
            true => Ok(()),
            false => Err(Error::BadOption {
                option: "threshold",
                value: self.threshold.to_string(),
                remedy: "it is a share of the largest singular value: above 0, and at most 1",
            }),
        }
    }

    fn due(&self, observed: &Observed<'_>, state: &PolicyState) -> bool {
        self.pace().due(observed, state)
    }

    fn plan(
        &self,
        observed: &Observed<'_>,
        look: &dyn PolicyLook,
        _state: &mut PolicyState,
    ) -> Result<Vec<Planned>, Error> {
        let most = self.amount.of(observed.sites);
        let spectra = observed.sites.iter().zip(&most).map(|(at, most)| look.spectrum(&at.site, *most));
        let spectra = spectra.collect::<Result<Vec<_>, Error>>()?;
        let largest = spectra.iter().flatten().fold(0.0_f64, |largest, value| largest.max(*value));
        let mut planned = Vec::new();
        for ((at, values), most) in observed.sites.iter().zip(spectra).zip(most) {
            let large = values.iter().filter(|value| **value > 0.0 && **value >= self.threshold * largest).count();
            // Rounded up: a site with one large singular value still grows by a whole group.
            let count = large.min(most).next_multiple_of(look.growth_unit(&at.site)?);
            planned.extend(Planned::some(&at.site, count));
        }
        Ok(planned)
    }
}
