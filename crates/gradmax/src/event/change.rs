//! How much outputs and losses changed.

use crate::matrix::values;
use crate::site::output::Output;
use crate::sums::SharedSums;

/// How far the loss may be from what it was, relative to its size, where no output changed by more than its tolerance.
const LOSS_TOLERANCE: f64 = 1e-5;

/// Whether a change is a number, and at most so large.
pub(super) fn is_within(change: f64, tolerance: f64) -> bool {
    // So written, since a comparison with NaN is false.
    change <= tolerance
}

/// The largest change of an output, and the largest output.
#[derive(Clone, Copy, Default)]
pub(super) struct Change {
    pub(super) largest: f64,
    largest_output: f64,
}

impl Change {
    pub(super) fn count(&mut self, before: &impl Output, after: &impl Output) {
        for (before, after) in before.entries().iter().zip(after.entries()) {
            for (before, after) in values(before).into_iter().zip(values(&after)) {
                self.largest_output = self.largest_output.max(before.abs());
                let change = (after - before).abs();
                // A maximum would pass over NaN.
                let is_nan = change.is_nan() || self.largest.is_nan();
                self.largest = if is_nan { f64::NAN } else { self.largest.max(change) };
            }
        }
    }

    /// The largest of all machines.
    pub(super) fn share(&mut self, sums: &SharedSums) {
        let mut both = [self.largest, self.largest_output];
        sums.largest(&mut both);
        [self.largest, self.largest_output] = both;
    }

    pub(super) fn relative(&self) -> f64 {
        self.largest / self.largest_output.max(f64::MIN_POSITIVE)
    }
}

/// The loss on the growth batch before and after growth.
#[derive(Clone, Copy)]
pub(super) struct Losses {
    pub(super) before: f64,
    pub(super) after: f64,
}

impl Losses {
    pub(super) fn change(&self) -> f64 {
        (self.after - self.before).abs()
    }

    /// Whether they differ by more than sums of another length do.
    pub(super) fn are_apart(&self) -> bool {
        !is_within(self.change(), LOSS_TOLERANCE * self.before.abs().max(self.after.abs()))
    }
}
