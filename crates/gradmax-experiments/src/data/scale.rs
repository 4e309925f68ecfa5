//! How numbers are standardised, and what that is found from.

use serde::{Deserialize, Serialize};

/// How a number is standardised: less a mean, and divided by a deviation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// What is taken off.
    pub mean: f64,
    /// What is divided by; not 0.
    pub deviation: f64,
}

impl Scale {
    /// Of numbers that stay as they are.
    pub const NONE: Self = Self { mean: 0.0, deviation: 1.0 };

    /// The number in units of the deviation.
    pub fn standardised(self, value: f64) -> f64 {
        (value - self.mean) / self.deviation
    }

    /// The number in its own units.
    pub fn restored(self, standardised: f64) -> f64 {
        standardised * self.deviation + self.mean
    }
}

/// Count, mean and sum of squared distances from it (Welford 1962), so that numbers far from zero keep their digits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Counts a number.
    pub fn see(&mut self, value: f64) {
        self.count += 1.0;
        let distance = value - self.mean;
        self.mean += distance / self.count;
        self.squares += distance * (value - self.mean);
    }

    /// The scale by mean and standard deviation; none if the numbers are too large for that. Numbers that are all the
    /// same tell nothing, and become 0.
    pub fn scale(&self) -> Option<Scale> {
        let deviation = (self.squares / self.count.max(1.0)).sqrt();
        let deviation = if deviation == 0.0 { 1.0 } else { deviation };
        (self.mean.is_finite() && deviation.is_finite()).then_some(Scale { mean: self.mean, deviation })
    }
}
