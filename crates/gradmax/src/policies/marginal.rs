//! Growth where a further neuron gains more for what it costs than training has gained lately for what it costs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::plan::Planned;
use crate::policies::look::{Cost, PolicyLook};
use crate::policies::periodic::{Amount, Periodic};
use crate::policies::policy::{Observed, Policy, PolicyState};
use crate::site::width::SiteWidth;

/// Grows the best neurons of all sites as long as each gains more for its cost than training does without it.
///
/// At a look, a further neuron's gain is what the loss falls by with its first step, per unit of the learning rate, beyond
/// what the neurons that are there can do ([`PolicyLook::gains`]). Of single looks it is uncertain: what counts is what it
/// gains at this look, or what it gained at the looks so far on average less the standard error of that, whichever is
/// less. Training's gain is what the training loss has fallen by lately, per unit of the learning rate: a line through the
/// mean losses between looks, of which older ones count less.
/// (The squared norm of the gradient would be the same for a small learning rate; for the rates in use most of it is
/// oscillation, from which the loss does not fall.) Both are for the cost: what a neuron adds to the network's, and the
/// network's own.
///
/// So it decides when, where, how many, and when to stop; right after growth the loss falls faster, which makes it wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Marginal {
    /// The first step at which it may look.
    pub start: usize,
    /// Steps between two looks.
    pub every: usize,
    /// Number of events at most.
    pub times: usize,
    /// The share of the schedule's highest learning rate below which nothing grows: weights that come while the rate goes
    /// to 0 cost as much as others, and learn little.
    pub least_rate: f64,
    /// The most that a site grows by at a look.
    pub amount: Amount,
    /// How many times more than training a neuron has to gain for its cost.
    pub tau: f64,
    /// What a mean loss, and what was seen at a look, count for at the next one, if they count for 1 now.
    pub memory: f64,
    /// What cost is.
    pub cost: Currency,
}

/// What neurons cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Currency {
    /// Floating-point operations.
    #[default]
    Flops,
    /// Trainable parameters.
    Parameters,
}

impl Currency {
    fn of(self, cost: Cost) -> f64 {
        match self {
            Self::Flops => cost.flops as f64,
            Self::Parameters => cost.parameters as f64,
        }
    }
}

impl Default for Marginal {
    /// A look every fiftieth step until the learning rate has fallen by half, at which a site grows by a quarter at most.
    fn default() -> Self {
        let (Periodic { start, times, .. }, amount) = (Periodic::default(), Amount::Geometric(0.25));
        Self { start, every: 50, times, least_rate: 0.5, amount, tau: 1.0, memory: 0.7, cost: Currency::default() }
    }
}

impl Marginal {
    /// When it looks, and the most that can come of it.
    fn pace(&self) -> Periodic {
        let Self { start, every, times, amount, .. } = *self;
        Periodic { start, every, times, amount, ..Periodic::default() }
    }

    /// What is remembered, with the loss of the last stretch of steps; none without steps since the last look.
    fn memory(&self, observed: &Observed<'_>, state: &PolicyState) -> Option<Memory> {
        let loss = observed.stretch.mean_loss()?;
        let Memory { fit, evidence } = state.read().unwrap_or_default();
        Some(Memory { fit: fit.with(loss, observed.stretch.rates, self.memory), evidence })
    }

    /// What a neuron has to gain for its cost, times the network's cost; none as long as nothing is to grow.
    fn gain_of_training(&self, fit: &Fit) -> Option<f64> {
        let fall = fit.fall()?;
        // A loss that rises says that training is not stable: more neurons are no remedy. Where it stands still, what
        // noise hides is what training may gain.
        (fall.slope >= -fall.error).then(|| self.tau * fall.slope.max(fall.error))
    }
}

/// What is remembered from look to look.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Memory {
    fit: Fit,
    /// By the site's name.
    evidence: BTreeMap<String, Evidence>,
}

/// What further units of a site gained at the looks so far, of which older ones count less.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Evidence {
    /// The sums of the looks' weights, and of their squares.
    weights: f64,
    squared_weights: f64,
    /// For every unit that was asked about at the last look, the best first, the weighted sums of gains, and of their squares.
    units: Vec<[f64; 2]>,
    /// How many of them were wanted.
    wanted: usize,
}

impl Evidence {
    /// How many units to ask about at a look, of so many that can come: all, unless none was wanted at the last look. A look
    /// costs as much as they do.
    fn asks(&self, most: usize) -> usize {
        match self.units.len() {
            asked if asked > 0 && self.wanted == 0 => (asked / 2).clamp(1, most.max(1)),
            _ => most,
        }
    }

    /// Adds what a look says, and returns what can be counted on of it.
    fn sure(&mut self, gains: &[f64], memory: f64) -> Vec<f64> {
        self.weights = memory * self.weights + 1.0;
        self.squared_weights = memory * memory * self.squared_weights + 1.0;
        // For more units than were asked about at the last look, the last one of these speaks.
        let last = self.units.last().copied().unwrap_or_default();
        self.units.resize(gains.len(), last);
        // So many looks of equal weight would be as sure.
        let looks = self.weights * self.weights / self.squared_weights;
        let sure = |(unit, gain): (&mut [f64; 2], &f64)| {
            let [sum, squares] = unit.map(|sum| memory * sum);
            *unit = [sum + gain, squares + gain * gain];
            let [mean, square] = unit.map(|sum| sum / self.weights);
            // What rounding leaves of the difference can be below 0. A single look says nothing of how sure it is.
            let error = ((square - mean * mean).max(0.0) / (looks - 1.0)).sqrt();
            if looks > 1.0 { gain.min(mean - error) } else { f64::NEG_INFINITY }
        };
        self.units.iter_mut().zip(gains).map(sure).collect()
    }
}

/// A line through mean losses against the sum of learning rates, by least squares in which older ones count less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Fit {
    /// Half the learning rates of the last stretch.
    half: f64,
    /// Sums of weights, and of weighted products of the two: 1, x, y, x x, x y, y y. The middle of the last stretch is `x =
    /// 0`, so that a long run costs no digits.
    sums: [f64; 6],
    /// The sum of squared weights.
    squares: f64,
}

/// By how much the loss falls per unit of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Fall {
    slope: f64,
    /// The slope's standard error, by how far the losses are from the line.
    error: f64,
}

impl Fit {
    /// With the mean loss of another stretch of steps, which stands for its middle, and the sum of their learning rates.
    fn with(self, loss: f64, rates: f64, memory: f64) -> Self {
        let half = rates / 2.0;
        let back = self.half + half;
        let [weight, x, y, xx, xy, yy] = self.sums.map(|sum| memory * sum);
        let moved = [weight, x - back * weight, y, xx - 2.0 * back * x + back * back * weight, xy - back * y, yy];
        let more = [1.0, 0.0, loss, 0.0, 0.0, loss * loss];
        let sums = std::array::from_fn(|i| moved[i] + more[i]);
        Self { half, sums, squares: memory * memory * self.squares + 1.0 }
    }

    /// The line's slope; none of fewer than three stretches, which say nothing of how sure it is.
    fn fall(&self) -> Option<Fall> {
        let [weight, x, y, xx, xy, yy] = self.sums;
        let [x, y, xx, xy, yy] = [x, y, xx, xy, yy].map(|sum| sum / weight);
        // As many losses of equal weight would be as sure.
        let losses = weight * weight / self.squares;
        let spread = xx - x * x;
        if losses <= 2.0 || spread <= 0.0 {
            return None;
        }
        let slope = (x * y - xy) / spread;
        // What rounding leaves of the differences can be below 0.
        let off = (yy - y * y - slope * slope * spread).max(0.0);
        Some(Fall { slope, error: (off / spread / (losses - 2.0)).sqrt() })
    }
}

/// What further neurons at a site would gain, and how many of them are wanted so far.
struct Candidates {
    site: String,
    /// Neurons that come together.
    unit: usize,
    /// What each unit gains for its cost.
    worth: Vec<f64>,
    wanted: usize,
}

impl Candidates {
    /// At every site, of what neurons gain and how sure that is.
    fn of_all(
        policy: &Marginal,
        sites: &[SiteWidth],
        look: &dyn PolicyLook,
        evidence: &mut BTreeMap<String, Evidence>,
    ) -> Result<Vec<Self>, Error> {
        let mut asked = |(at, most): (&SiteWidth, usize)| {
            let (site, unit) = (at.site.clone(), look.growth_unit(&at.site)?);
            let units = evidence.entry(site.clone()).or_default().asks(most.div_ceil(unit));
            Ok(Planned { site, count: units * unit })
        };
        let asked = sites.iter().zip(policy.amount.of(sites)).map(&mut asked).collect::<Result<Vec<_>, Error>>()?;
        let gains = look.gains(&asked)?;
        let candidates = asked.into_iter().zip(gains).map(|(Planned { site, .. }, gains)| {
            let unit = look.growth_unit(&site)?;
            let a_unit = policy.cost.of(look.cost(&site, unit)?);
            let sure = evidence.entry(site.clone()).or_default().sure(&gains, policy.memory);
            Ok(Self { site, unit, worth: sure.into_iter().map(|gain| gain / a_unit).collect(), wanted: 0 })
        });
        candidates.collect()
    }

    /// What the next unit gains for its cost.
    fn next(&self) -> f64 {
        self.worth.get(self.wanted).copied().unwrap_or(f64::NEG_INFINITY)
    }
}

impl Policy for Marginal {
    fn name(&self) -> &str {
        "marginal"
    }

    fn check(&self) -> Result<(), Error> {
        self.pace().check()?;
        self.amount.check_by_site()?;
        let bad = |option, value: f64, remedy| Err(Error::BadOption { option, value: value.to_string(), remedy });
        match *self {
            Self { tau, .. } if !(tau >= 0.0 && tau.is_finite()) => {
                bad("tau", tau, "it compares gains: 1 to grow where a neuron gains more than training, more to grow less")
            }
            Self { least_rate, .. } if !(0.0..=1.0).contains(&least_rate) => bad(
                "least_rate",
                least_rate,
                "it is the share of the highest learning rate below which nothing grows: from 0, for always, to 1",
            ),
            Self { memory, .. } if !(0.4..1.0).contains(&memory) => {
                bad("memory", memory, "it is what a loss counts for at the next look: at least 0.4, and below 1")
            }
            _ => Ok(()),
        }
    }

    fn due(&self, observed: &Observed<'_>, state: &PolicyState) -> bool {
        observed.rate >= self.least_rate && self.pace().due(observed, state)
    }

    fn looks_in_halves(&self) -> bool {
        true
    }

    fn follows_loss(&self) -> bool {
        true
    }

    fn training_gain(&self, observed: &Observed<'_>, state: &PolicyState) -> Option<f64> {
        // Without steps since the last look, what was known then is known still.
        let memory = self.memory(observed, state).or_else(|| state.read())?;
        self.gain_of_training(&memory.fit)
    }

    fn plan(
        &self,
        observed: &Observed<'_>,
        look: &dyn PolicyLook,
        state: &mut PolicyState,
    ) -> Result<Vec<Planned>, Error> {
        let Some(Memory { fit, mut evidence }) = self.memory(observed, state) else {
            return Ok(Vec::new());
        };
        // Also where nothing is to grow now: what is seen counts at the next look.
        let mut candidates = Candidates::of_all(self, observed.sites, look, &mut evidence)?;
        if let Some(gain) = self.gain_of_training(&fit) {
            let bar = gain / self.cost.of(look.size());
            while let Some(best) =
                candidates.iter_mut().max_by(|a, b| a.next().total_cmp(&b.next())).filter(|best| best.next() > bar)
            {
                best.wanted += 1;
            }
        }
        for site in &candidates {
            evidence.entry(site.site.clone()).or_default().wanted = site.wanted;
        }
        state.write(&Memory { fit, evidence });
        Ok(candidates.iter().filter_map(|site| Planned::some(&site.site, site.wanted * site.unit)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_gains_what_the_loss_falls_by_per_unit_of_the_learning_rate() {
        let one = Fit::default().with(5.0, 1.0, 0.7);
        // From 5 to 4 between the middles of two stretches, of lengths 1 and 2: two points are always on a line.
        let two = one.with(4.0, 2.0, 0.7);
        assert_eq!([one.fall(), two.fall()], [None, None]);
        let three = two.with(3.0, 1.0, 0.7).fall().unwrap();
        assert!((three.slope - 1.0 / 1.5).abs() < 1e-12 && three.error < 1e-6, "{three:?}");
        // A loss that falls evenly falls as much wherever it is measured.
        let line = (0..20).fold(Fit::default(), |fit, at| fit.with(3.0 - 0.25 * at as f64, 0.5, 0.5));
        assert!((line.fall().unwrap().slope - 0.5).abs() < 1e-9);
        // Of a loss that stands still after it has fallen, the fall is soon forgotten.
        let still = (0..10).fold(line, |fit, _| fit.with(-2.0, 0.5, 0.5));
        assert!(still.fall().unwrap().slope < 0.05);
    }

    #[test]
    fn gains_that_come_and_go_do_not_count() {
        let mut evidence = Evidence::default();
        assert_eq!(evidence.sure(&[3.0], 0.7), [f64::NEG_INFINITY], "one look says nothing of how sure it is");
        // What is the same at every look is sure.
        assert_eq!(evidence.sure(&[3.0], 0.7), [3.0]);
        // A lower gain counts at once; a higher one when it has been seen for long enough.
        assert_eq!(evidence.sure(&[1.0], 0.7), [1.0]);
        assert!(evidence.sure(&[3.0], 0.7)[0] < 3.0);
        // Signs that take turns are noise, however large.
        let mut noise = Evidence::default();
        let last = (0..20).map(|look| noise.sure(&[if look % 2 == 0 { -100.0 } else { 100.0 }], 0.7)).last().unwrap();
        assert!(last[0] < 0.0, "{last:?}");
        // By hand, of gains 2 and 4, which count for .5 and 1: mean 10/3, variance 8/9, as sure as 1.8 looks.
        let mut two = Evidence::default();
        two.sure(&[2.0], 0.5);
        let [sure] = two.sure(&[4.0], 0.5)[..] else { panic!("one unit was asked about") };
        assert!((sure - (10.0 / 3.0 - (8.0_f64 / 9.0 / 0.8).sqrt())).abs() < 1e-12, "{sure}");
        // A further unit starts with what is known of the last one, also where it had been asked about before.
        let mut again = Evidence::default();
        assert_eq!([&[2.0, 1.0][..], &[2.0], &[2.0, 2.0]].map(|gains| again.sure(gains, 0.7)).last().unwrap(), &[2.0, 2.0]);
        // All are asked about, unless none was wanted.
        let asks = |asked, wanted| Evidence { units: vec![[0.0; 2]; asked], wanted, ..Evidence::default() }.asks(10);
        assert_eq!([asks(0, 0), asks(10, 0), asks(1, 0), asks(5, 1)], [10, 5, 1, 10]);
    }

    #[test]
    fn a_slope_is_as_sure_as_losses_are_near_the_line() {
        // Equal weights, nearly: x = 0, 1, ..., 9, and y = -x / 2 with 1 added and taken off in turn.
        let memory = 1.0 - 1e-9;
        let noisy = (0..10).fold(Fit::default(), |fit, at| {
            let loss = -0.5 * at as f64 + if at % 2 == 0 { 1.0 } else { -1.0 };
            fit.with(loss, 1.0, memory)
        });
        // numpy.polyfit(range(10), y, 1, cov=True): slope -0.5606, standard error 0.12121.
        let fall = noisy.fall().unwrap();
        assert!((fall.slope - 0.560_606).abs() < 1e-5 && (fall.error - 0.121_21).abs() < 1e-4, "{fall:?}");
    }
}
