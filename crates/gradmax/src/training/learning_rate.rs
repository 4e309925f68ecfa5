//! Learning rates: pure functions of the step.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The learning rate of every step of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningRate {
    /// The rate that the others are shares of.
    pub base: f64,
    /// Steps in which it rises linearly: `base / warm_up` in the first one, `base` in the last one. A decay along a
    /// cosine or a line begins after them; shares of the run at which the rate falls by steps are shares of the whole
    /// run.
    pub warm_up: usize,
    /// How it falls.
    pub decay: Decay,
}

/// How a learning rate falls over a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Not at all.
    #[default]
    Constant,
    /// Along half a cosine, to 0 at the end of the run (Loshchilov and Hutter 2017, without restarts).
    Cosine,
    /// Linearly, to 0 at the end of the run.
    Linear,
    /// Linearly, to 0 at the end, over the last share of the run only: warm-up, stable, decay (Hu et al. 2024).
    Wsd {
        /// The share.
        last: f64,
    },
    /// By a factor at some shares of the run.
    Step {
        /// The shares, between 0 and 1.
        at: Vec<f64>,
        /// The factor.
        factor: f64,
    },
}

impl From<f64> for LearningRate {
    fn from(base: f64) -> Self {
        Self { base, warm_up: 0, decay: Decay::Constant }
    }
}

impl LearningRate {
    /// The rate of gradient step `step` of a run of `steps`, counted from 0.
    pub fn at(&self, step: usize, steps: usize) -> f64 {
        let share = |of: usize| of as f64 / steps.max(1) as f64;
        self.at_share(step, share(step), share(self.warm_up))
    }

    /// The rate of gradient step `step`, counted from 0, of a run of which these shares were done before the step, and
    /// when the warm-up ended.
    pub fn at_share(&self, step: usize, done: f64, warmed: f64) -> f64 {
        let warmth = match step < self.warm_up {
            // From the first step on above 0, which would be a step for nothing.
            true => (step + 1) as f64 / self.warm_up as f64,
            false => 1.0,
        };
        let since_warm_up = match step >= self.warm_up && warmed < 1.0 {
            true => ((done - warmed) / (1.0 - warmed)).clamp(0.0, 1.0),
            false => 0.0,
        };
        let decay = match &self.decay {
            Decay::Constant => 1.0,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * since_warm_up).cos()),
            Decay::Linear => 1.0 - since_warm_up,
            Decay::Wsd { last } => ((1.0 - done) / last).clamp(0.0, 1.0),
            Decay::Step { at, factor } => {
                // Shares of the whole run, warm-up included, as the paper's schedules are stated.
                let passed = at.iter().filter(|at| done >= **at).count();
                factor.powi(passed as i32)
            }
        };
        self.base * decay * warmth
    }

    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// [`Error::BadOption`].
    pub fn check(&self) -> Result<(), Error> {
        let bad = |option, value: f64, remedy| Err(Error::BadOption { option, value: value.to_string(), remedy });
        if !(self.base > 0.0 && self.base.is_finite()) {
            return bad("learning_rate", self.base, "it must be a positive number");
        }
        let (at, factor) = match &self.decay {
            Decay::Step { at, factor } => (at, factor),
            Decay::Wsd { last } if !(*last > 0.0 && *last <= 1.0) => {
                return bad("last", *last, "it is the share of the run over which the rate falls: above 0, at most 1");
            }
            _ => return Ok(()),
        };
        if !(*factor > 0.0 && factor.is_finite()) {
            return bad("factor", *factor, "a learning rate falls by a positive factor, for example 0.1");
        }
        match at.iter().find(|share| !(0.0..=1.0).contains(*share)) {
            Some(share) => bad("at", *share, "name shares of the run, between 0 and 1"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(warm_up: usize, decay: Decay) -> Vec<f64> {
        let rate = LearningRate { base: 0.1, warm_up, decay };
        [0, 1, 2, 5, 9].map(|step| rate.at(step, 10)).to_vec()
    }

    fn close(a: &[f64], b: &[f64]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12)
    }

    #[test]
    fn rates_fall_as_their_schedule_says() {
        assert_eq!(rates(0, Decay::Constant), [0.1; 5]);
        assert!(close(&rates(0, Decay::Linear), &[0.1, 0.09, 0.08, 0.05, 0.01]));
        // 0.05 (1 + cos(pi t / 10)).
        assert!(close(&rates(0, Decay::Cosine)[2..], &[0.090450849718747, 0.05, 0.002447174185242]));
        let step = Decay::Step { at: vec![0.2, 0.5], factor: 0.1 };
        assert!(close(&rates(0, step), &[0.1, 0.1, 0.01, 0.001, 0.001]));
    }

    #[test]
    fn a_stable_rate_falls_over_the_last_share_only() {
        let rate = LearningRate { base: 0.1, warm_up: 2, decay: Decay::Wsd { last: 0.2 } };
        let rates = [0, 1, 2, 50, 80, 90, 99].map(|step| rate.at(step, 100));
        assert!(close(&rates, &[0.05, 0.1, 0.1, 0.1, 0.1, 0.05, 0.005]), "{rates:?}");
        assert!(LearningRate { decay: Decay::Wsd { last: 0.0 }, ..rate }.check().is_err());
    }

    #[test]
    fn warm_up_rises_to_the_base_rate_and_decay_begins_after_it() {
        assert!(close(&rates(4, Decay::Constant), &[0.025, 0.05, 0.075, 0.1, 0.1]));
        let all = |decay: Decay| {
            let rate = LearningRate { base: 0.1, warm_up: 4, decay };
            (0..10).map(|step| rate.at(step, 10)).collect::<Vec<_>>()
        };
        let shares = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0].map(|step: f64| step / 6.0);
        let rising = [0.025, 0.05, 0.075, 0.1];
        let linear = shares.map(|share| 0.1 * (1.0 - share));
        let cosine = shares.map(|share| 0.05 * (1.0 + (std::f64::consts::PI * share).cos()));
        assert!(close(&all(Decay::Linear), &[rising.as_slice(), &linear].concat()));
        assert!(close(&all(Decay::Cosine), &[rising.as_slice(), &cosine].concat()));
        // By steps, at shares of the whole run.
        let step = all(Decay::Step { at: vec![0.5], factor: 0.1 });
        assert!(close(&step, &[0.025, 0.05, 0.075, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01]));
    }
}
