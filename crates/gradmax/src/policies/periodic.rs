//! Growth at fixed steps.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::plan::Planned;
use crate::policies::look::PolicyLook;
use crate::policies::policy::{Observed, Policy, PolicyState};
use crate::site::width::SiteWidth;

/// Growth at fixed steps: at step `t` iff `t >= start`, `t` is a multiple of `every`, and fewer than `times` events
/// were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Periodic {
    /// The first step at which growth may happen.
    pub start: usize,
    /// Steps between two events.
    pub every: usize,
    /// Number of events.
    pub times: usize,
    /// Which sites grow at an event.
    pub order: Order,
    /// By how much.
    pub amount: Amount,
}

/// Which sites grow at an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Every site at every event.
    #[default]
    AllAtOnce,
    /// One site an event, in turn.
    RoundRobin,
}

/// By how many neurons a site grows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// A number of neurons.
    Count(usize),
    /// A share of the site's seed width, rounded down, but at least one neuron.
    Fraction(f64),
}

impl Amount {
    /// The number of neurons for a site of the given seed width.
    pub fn of(&self, seed_width: usize) -> usize {
        match self {
            Self::Count(count) => *count,
            Self::Fraction(fraction) => ((fraction * seed_width as f64).floor() as usize).max(1),
        }
    }
}

impl Default for Periodic {
    /// A neuron at every site every hundredth step, without end.
    fn default() -> Self {
        Self { start: 0, every: 100, times: u32::MAX as usize, order: Order::default(), amount: Amount::Count(1) }
    }
}

impl Periodic {
    /// Whether growth comes before this step.
    pub(crate) fn comes(&self, step: usize, events: usize) -> bool {
        step >= self.start && step.is_multiple_of(self.every) && events < self.times
    }

    /// The growth of the event after so many.
    fn planned(&self, events: usize, sites: &[SiteWidth]) -> Vec<Planned> {
        // By events, not by steps: a skipped event passes its turn on.
        let turn = events % sites.len().max(1);
        let grows = |index: usize| self.order == Order::AllAtOnce || index == turn;
        let sites = sites.iter().enumerate().filter(|(index, _)| grows(*index));
        sites.map(|(_, at)| Planned { site: at.site.clone(), count: self.amount.of(at.seed) }).collect()
    }
}

impl Policy for Periodic {
    fn name(&self) -> &str {
        "periodic"
    }

    fn check(&self) -> Result<(), Error> {
        let bad = |option, value: String, remedy| Err(Error::BadOption { option, value, remedy });
        match self.amount {
            _ if self.every == 0 => bad("every", "0".into(), "growth needs at least one step between two events"),
            Amount::Count(0) => {
                bad("count", "0".into(), "each growth must add at least one neuron; use `times = 0` for no growth")
            }
            Amount::Fraction(share) if !(share > 0.0 && share.is_finite()) => bad(
                "fraction",
                share.to_string(),
                "growth adds a share of the seed width; it must be a positive number",
            ),
            _ => Ok(()),
        }
    }

    fn due(&self, observed: &Observed<'_>, _state: &PolicyState) -> bool {
        self.comes(observed.step, observed.events)
    }

    fn plan(
        &self,
        observed: &Observed<'_>,
        _look: &dyn PolicyLook,
        _state: &mut PolicyState,
    ) -> Result<Vec<Planned>, Error> {
        Ok(self.planned(observed.events, observed.sites))
    }

    fn target(&self, seed: &[SiteWidth], steps: usize) -> Option<Vec<SiteWidth>> {
        let (mut sites, mut events) = (seed.to_vec(), 0);
        for step in 0..steps {
            if self.comes(step, events) {
                for Planned { site, count } in self.planned(events, &sites) {
                    sites.iter_mut().filter(|at| at.site == site).for_each(|at| at.width += count);
                }
                events += 1;
            }
        }
        Some(sites)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites() -> Vec<SiteWidth> {
        [("a", 8), ("b", 3)].map(|(site, seed)| SiteWidth { site: site.into(), seed, width: seed }).to_vec()
    }

    fn periodic(order: Order, amount: Amount) -> Periodic {
        Periodic { start: 20, every: 15, times: 4, order, amount }
    }

    fn events(schedule: &Periodic) -> Vec<(usize, Vec<Planned>)> {
        let mut seen = Vec::new();
        for step in 0..200 {
            if schedule.comes(step, seen.len()) {
                seen.push((step, schedule.planned(seen.len(), &sites())));
            }
        }
        seen
    }

    #[test]
    fn growth_is_at_multiples_from_the_start_on() {
        let steps = events(&periodic(Order::AllAtOnce, Amount::Count(1))).into_iter().map(|(step, _)| step);
        assert_eq!(steps.collect::<Vec<_>>(), [30, 45, 60, 75]);
    }

    #[test]
    fn round_robin_takes_the_sites_in_turn() {
        let grown = events(&periodic(Order::RoundRobin, Amount::Count(2)));
        let names = grown.iter().map(|(_, plan)| plan[0].site.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["a", "b", "a", "b"]);
        assert!(grown.iter().all(|(_, plan)| plan.len() == 1));
    }

    #[test]
    fn fractions_are_of_the_seed_width_and_at_least_one_neuron() {
        let widths = periodic(Order::AllAtOnce, Amount::Fraction(0.25)).target(&sites(), 1000).unwrap();
        assert_eq!(widths.iter().map(|at| at.width).collect::<Vec<_>>(), [8 + 4 * 2, 3 + 4]);
    }

    #[test]
    fn a_short_run_reaches_only_part_of_the_target() {
        let widths = periodic(Order::AllAtOnce, Amount::Count(1)).target(&sites(), 46).unwrap();
        assert_eq!(widths[0].width, 10);
    }
}
