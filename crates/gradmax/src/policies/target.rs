//! Growth to given widths by a given time.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::plan::Planned;
use crate::policies::look::PolicyLook;
use crate::policies::periodic::Periodic;
use crate::policies::policy::{Observed, Policy, PolicyState};
use crate::site::width::SiteWidth;

/// Grows every site evenly over the run to a width that is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// The first step at which growth may happen.
    pub start: usize,
    /// Steps between two times at which sites may grow.
    pub every: usize,
    /// The widths to come to, site by site; if there are none, so many times the seed widths.
    pub widths: Vec<usize>,
    /// How many times.
    pub factor: f64,
    /// The share of the run at which they are reached: of its steps, or of its budget.
    pub until: f64,
}

impl Default for Target {
    /// Twice the seed widths, by the middle of the run.
    fn default() -> Self {
        Self { start: 0, every: 100, widths: Vec::new(), factor: 2.0, until: 0.5 }
    }
}

impl Target {
    fn pace(&self) -> Periodic {
        let Self { start, every, .. } = *self;
        Periodic { start, every, ..Periodic::default() }
    }

    /// The width that a site is to come to.
    fn width(&self, index: usize, seed: usize) -> usize {
        let given = self.widths.get(index).copied();
        given.unwrap_or((self.factor * seed as f64).round() as usize).max(seed)
    }

    /// The width that a site is to have once this share of the run is done.
    fn aim(&self, index: usize, seed: usize, done: f64) -> usize {
        let share = (done / self.until).min(1.0);
        let gain = share * (self.width(index, seed) - seed) as f64;
        // Rounding must not keep a site a unit short of its target.
        seed + (gain + 1e-9) as usize
    }
}

impl Policy for Target {
    fn name(&self) -> &str {
        "target"
    }

    fn check(&self) -> Result<(), Error> {
        self.pace().check()?;
        let bad = |option, value: f64, remedy| Err(Error::BadOption { option, value: value.to_string(), remedy });
        match *self {
            Self { factor, .. } if !(factor >= 1.0 && factor.is_finite()) => {
                bad("factor", factor, "sites grow to so many times their seed widths: 1 or more")
            }
            Self { until, .. } if !(until > 0.0 && until <= 1.0) => {
                bad("until", until, "it is a share of the run: above 0, and at most 1")
            }
            _ => Ok(()),
        }
    }

    fn due(&self, observed: &Observed<'_>, state: &PolicyState) -> bool {
        let ahead = observed.sites.iter().enumerate().any(|(index, at)| at.width < self.width(index, at.seed));
        ahead && self.pace().due(observed, state)
    }

    fn plan(
        &self,
        observed: &Observed<'_>,
        look: &dyn PolicyLook,
        _state: &mut PolicyState,
    ) -> Result<Vec<Planned>, Error> {
        if !self.widths.is_empty() && self.widths.len() != observed.sites.len() {
            return Err(Error::BadOption {
                option: "widths",
                value: format!("{:?}", self.widths),
                remedy: "name one width for each site of the network, in order",
            });
        }
        let mut planned = Vec::new();
        for (index, at) in observed.sites.iter().enumerate() {
            let unit = look.growth_unit(&at.site)?;
            let count = self.aim(index, at.seed, observed.done).saturating_sub(at.width) / unit * unit;
            planned.extend(Planned::some(&at.site, count));
        }
        Ok(planned)
    }

    fn target(&self, seed: &[SiteWidth], steps: usize) -> Option<Vec<SiteWidth>> {
        // Reached only if there is a time for it.
        let last = (0..steps).rev().find(|step| self.pace().comes(*step, 0))?;
        let done = last as f64 / steps as f64;
        let reached = |(index, at): (usize, &SiteWidth)| SiteWidth {
            width: at.width + self.aim(index, at.seed, done).saturating_sub(at.width) / at.unit * at.unit,
            ..at.clone()
        };
        Some(seed.iter().enumerate().map(reached).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_reached_where_there_is_a_time_for_it() {
        let seed = [("a", 4), ("b", 6)].map(|(site, width)| crate::networks::seed_width(site, width));
        let widths = |policy: Target, steps: usize| {
            policy.target(&seed, steps).unwrap().iter().map(|at| at.width).collect::<Vec<_>>()
        };
        assert_eq!(widths(Target { every: 10, ..Target::default() }, 100), [8, 12]);
        assert_eq!(widths(Target { every: 10, widths: vec![5, 3], ..Target::default() }, 100), [5, 6]);
        // The last time is at 90 of 100 steps, three quarters of 1.2.
        assert_eq!(widths(Target { every: 30, until: 1.0, factor: 3.0, ..Target::default() }, 101), [11, 16]);
    }
}
