//! Growth at fixed steps.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::plan::Planned;
use crate::policies::schedule::{Observed, Schedule};

/// Growth at fixed steps: at step `t` iff `t >= start`, `t` is a multiple of `every`, and fewer than `times` events
/// were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

impl Periodic {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// [`Error::BadOption`].
    pub fn check(&self) -> Result<(), Error> {
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
}

impl Schedule for Periodic {
    fn plan(&self, observed: &Observed<'_>) -> Vec<Planned> {
        let due =
            observed.step >= self.start && observed.step.is_multiple_of(self.every) && observed.events < self.times;
        if !due || observed.sites.is_empty() {
            return Vec::new();
        }
        let turn = observed.events % observed.sites.len();
        let grows = |index: usize| self.order == Order::AllAtOnce || index == turn;
        let sites = observed.sites.iter().enumerate().filter(|(index, _)| grows(*index));
        sites.map(|(_, at)| Planned { site: at.site.clone(), count: self.amount.of(at.seed) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::schedule::target_widths;
    use crate::site::width::SiteWidth;

    fn sites() -> Vec<SiteWidth> {
        [("a", 8), ("b", 3)].map(|(site, seed)| SiteWidth { site: site.into(), seed, width: seed }).to_vec()
    }

    fn periodic(order: Order, amount: Amount) -> Periodic {
        Periodic { start: 20, every: 15, times: 4, order, amount }
    }

    fn events(schedule: &Periodic) -> Vec<(usize, Vec<Planned>)> {
        let mut seen = Vec::new();
        for step in 0..200 {
            let plan = schedule.plan(&Observed::new(step, seen.len(), &sites()));
            if !plan.is_empty() {
                seen.push((step, plan));
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
        let widths = target_widths(&periodic(Order::AllAtOnce, Amount::Fraction(0.25)), &sites(), 1000);
        assert_eq!(widths.iter().map(|at| at.width).collect::<Vec<_>>(), [8 + 4 * 2, 3 + 4]);
    }

    #[test]
    fn a_short_run_reaches_only_part_of_the_target() {
        let widths = target_widths(&periodic(Order::AllAtOnce, Amount::Count(1)), &sites(), 46);
        assert_eq!(widths[0].width, 10);
    }
}
