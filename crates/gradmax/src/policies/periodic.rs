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
    /// How many times as long as the one before each interval is: other than 1, the first event is at `start`, and the
    /// next ones come whatever they are multiples of.
    pub stretch: f64,
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
    /// A share of the site's width at that time, rounded down, but at least one neuron: growth in a geometric series.
    Geometric(f64),
    /// Whole blocks: of every [series](crate::site::Site::in_series), the first so many sites that have no neurons yet, by
    /// as many as the widest has. Other sites do not grow.
    Blocks(usize),
}

impl Amount {
    /// The numbers of neurons for sites; shares are rounded down to whole units, of which there is one at least.
    pub fn of(&self, sites: &[SiteWidth]) -> Vec<usize> {
        (0..sites.len()).map(|index| self.at(index, sites)).collect()
    }

    fn at(&self, index: usize, sites: &[SiteWidth]) -> usize {
        let at = &sites[index];
        let unit = at.unit.max(1);
        let share = |share: f64, width: usize| ((share * width as f64).floor() as usize / unit * unit).max(unit);
        match self {
            Self::Count(count) => *count,
            Self::Fraction(fraction) => share(*fraction, at.seed),
            Self::Geometric(fraction) => share(*fraction, at.width),
            Self::Blocks(_) if at.series.is_none() || at.width > 0 => 0,
            Self::Blocks(count) => {
                let series = |other: &&SiteWidth| other.series == at.series;
                let empty_before = sites[..index].iter().filter(series).filter(|other| other.width == 0).count();
                let widest = sites.iter().filter(series).map(|other| other.width).max().unwrap_or(0);
                if empty_before < *count { widest.max(unit) } else { 0 }
            }
        }
    }

    /// Refuses whole blocks where sites grow by what a look says of each.
    pub(crate) fn check_by_site(&self) -> Result<(), Error> {
        match self {
            Self::Blocks(count) => Err(Error::BadOption {
                option: "blocks",
                value: count.to_string(),
                remedy: "the policy says itself how much each site grows; name `count`, `fraction` or `geometric`",
            }),
            _ => Ok(()),
        }
    }
}

impl Default for Periodic {
    /// A neuron at every site every hundredth step, without end.
    fn default() -> Self {
        let (order, amount) = (Order::default(), Amount::Count(1));
        Self { start: 0, every: 100, times: u32::MAX as usize, order, amount, stretch: 1.0 }
    }
}

impl Periodic {
    /// Whether growth comes before this step.
    pub(crate) fn comes(&self, step: usize, events: usize) -> bool {
        let is_time = match self.stretch == 1.0 {
            true => step >= self.start && step.is_multiple_of(self.every),
            false => step as f64 >= self.start as f64 + self.every as f64 * self.intervals(events),
        };
        is_time && events < self.times
    }

    /// The length of so many intervals, where the first one is 1.
    fn intervals(&self, count: usize) -> f64 {
        (self.stretch.powf(count as f64) - 1.0) / (self.stretch - 1.0)
    }

    /// The growth of the event after so many.
    pub(crate) fn planned(&self, events: usize, sites: &[SiteWidth]) -> Vec<Planned> {
        // By events, not by steps: a skipped event passes its turn on.
        let turn = events % sites.len().max(1);
        let grows = |index: usize| self.order == Order::AllAtOnce || index == turn;
        let counts = sites.iter().zip(self.amount.of(sites)).enumerate().filter(|(index, _)| grows(*index));
        counts.filter_map(|(_, (at, count))| Planned::some(&at.site, count)).collect()
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
            Amount::Blocks(0) => {
                bad("blocks", "0".into(), "each growth must add at least one block; use `times = 0` for no growth")
            }
            Amount::Blocks(count) if self.order == Order::RoundRobin => {
                bad("blocks", count.to_string(), "whole blocks grow with all their sites at once, not in turn")
            }
            Amount::Fraction(share) if !(share > 0.0 && share.is_finite()) => bad(
                "fraction",
                share.to_string(),
                "growth adds a share of the seed width; it must be a positive number",
            ),
            Amount::Geometric(share) if !(share > 0.0 && share.is_finite()) => {
                bad("geometric", share.to_string(), "growth adds a share of the width; it must be a positive number")
            }
            _ if !(self.stretch > 0.0 && self.stretch.is_finite()) => bad(
                "stretch",
                self.stretch.to_string(),
                "each interval is so many times as long as the one before; it must be a positive number",
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
        for step in self.start..steps {
            if events >= self.times {
                break;
            }
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
        [("a", 8), ("b", 3)].map(|(site, width)| crate::networks::seed_width(site, width)).to_vec()
    }

    fn periodic(order: Order, amount: Amount) -> Periodic {
        Periodic { start: 20, every: 15, times: 4, order, amount, stretch: 1.0 }
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
    fn geometric_growth_is_of_the_width_at_that_time_and_intervals_can_stretch() {
        let geometric = periodic(Order::AllAtOnce, Amount::Geometric(0.5));
        let widths = geometric.target(&sites(), 1000).unwrap();
        assert_eq!(widths.iter().map(|at| at.width).collect::<Vec<_>>(), [8 + 4 + 6 + 9 + 13, 3 + 1 + 2 + 3 + 4]);
        let stretched = Periodic { stretch: 2.0, ..geometric };
        let steps = events(&stretched).into_iter().map(|(step, _)| step);
        assert_eq!(steps.collect::<Vec<_>>(), [20, 35, 65, 125]);
    }

    #[test]
    fn a_short_run_reaches_only_part_of_the_target() {
        let widths = periodic(Order::AllAtOnce, Amount::Count(1)).target(&sites(), 46).unwrap();
        assert_eq!(widths[0].width, 10);
    }
}
