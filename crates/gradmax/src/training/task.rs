//! What a network is trained to do: the loss, the score, and what they are counted over.

use std::ops::Add;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::site::output::Output;
use crate::sums::Sums;

/// A line a task: its file, and what that gives.
macro_rules! tasks {
    ($($file:ident { $($item:ident),+ })+) => {
        $(
            pub(crate) mod $file;
            pub use self::$file::{$($item),+};
        )+
    };
}

tasks! {
    regression { Regression }
    classification { Classification }
    next_token { NextToken }
    supervised { Supervised, Target }
}

/// A kind of learning: what a network's outputs should be, and how far they are from that.
pub trait Task: Clone {
    /// What the network computes.
    type Output: Output;
    /// What the outputs of a batch should be.
    type Target: Clone;

    /// Number of examples.
    fn examples(&self, target: &Self::Target) -> usize;

    /// Number of scored units, over which loss and score are means: examples, or the tokens of all sequences.
    fn units(&self, target: &Self::Target) -> usize {
        self.examples(target)
    }

    /// The mean loss over scored units.
    fn loss(&self, output: &Self::Output, target: &Self::Target) -> Tensor<1>;

    /// What training descends, where that is another loss than the one that is reported: label smoothing.
    fn training_loss(&self, output: &Self::Output, target: &Self::Target) -> Tensor<1> {
        self.loss(output, target)
    }

    /// Number of units that are answered correctly, for tasks that have a score.
    fn correct(&self, _output: &Self::Output, _target: &Self::Target) -> Option<f64> {
        None
    }

    /// Checks, by an output, that every class of a target has one; `largest` is the largest class if that is known.
    ///
    /// # Errors
    /// [`Error::LabelOutOfRange`].
    fn check(
        &self,
        _set: &'static str,
        _output: &Self::Output,
        _target: &Self::Target,
        _largest: Option<usize>,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// Whether [`check`](Self::check) has anything to check.
    fn has_classes(&self) -> bool {
        false
    }

    /// Sums over a batch.
    fn tally(&self, output: &Self::Output, target: &Self::Target) -> Tally {
        let (examples, units) = (self.examples(target) as u64, self.units(target) as u64);
        let loss = self.loss(output, target).into_scalar::<f64>() * units as f64;
        Tally { examples, units, loss, correct: self.correct(output, target) }
    }
}

/// Sums over examples, which add up over the parts of a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Number of examples.
    pub examples: u64,
    /// Number of scored units.
    pub units: u64,
    /// Sum of their losses.
    pub loss: f64,
    /// Number of units that are answered correctly, for tasks that have a score.
    pub correct: Option<f64>,
}

impl Tally {
    /// The sums of all machines.
    pub(crate) fn over_all(self, sums: &dyn Sums) -> Self {
        let has_score = f64::from(u8::from(self.correct.is_some()));
        let mut all = [self.examples as f64, self.units as f64, self.loss, self.correct.unwrap_or(0.0), has_score];
        sums.sum(&mut all);
        let [examples, units, loss, correct, has_score] = all;
        let correct = (has_score > 0.0).then_some(correct);
        Self { examples: examples as u64, units: units as u64, loss, correct }
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let correct = match (self.correct, other.correct) {
            (None, None) => None,
            (mine, others) => Some(mine.unwrap_or(0.0) + others.unwrap_or(0.0)),
        };
        Self {
            examples: self.examples + other.examples,
            units: self.units + other.units,
            loss: self.loss + other.loss,
            correct,
        }
    }
}
