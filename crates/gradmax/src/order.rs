//! The order of examples: every epoch its own permutation, a pure function of the seed and the epoch.

use rand::seq::SliceRandom;

use crate::data::{Batch, Examples};
use crate::seed::Seed;

/// Gives the batch of any step; keeps the permutation of the epoch at hand.
pub(crate) struct Order {
    examples: usize,
    batch_size: Option<usize>,
    seed: Seed,
    epoch: Option<usize>,
    permutation: Vec<usize>,
}

impl Order {
    /// The order of a number of examples; without a batch size, every batch is all of them.
    pub(crate) fn new(examples: usize, batch_size: Option<usize>, seed: Seed) -> Self {
        let batch_size = batch_size.filter(|size| *size < examples);
        Self { examples, batch_size, seed: seed.fold("order"), epoch: None, permutation: Vec::new() }
    }

    /// The batch of a step; the last one of an epoch may be smaller.
    pub(crate) fn batch<I: Clone>(&mut self, examples: &dyn Examples<Input = I>, step: usize) -> Batch<I> {
        let Some(size) = self.batch_size else {
            return examples.all();
        };
        let steps_per_epoch = self.examples.div_ceil(size);
        let epoch = step / steps_per_epoch;
        if self.epoch != Some(epoch) {
            self.permutation = (0..self.examples).collect();
            self.permutation.shuffle(&mut self.seed.at(epoch as u64).rng());
            self.epoch = Some(epoch);
        }
        let from = step % steps_per_epoch * size;
        examples.batch(&self.permutation[from..(from + size).min(self.examples)])
    }

    /// Whether every batch is all examples.
    pub(crate) fn is_whole(&self) -> bool {
        self.batch_size.is_none()
    }

    /// How many epochs a number of steps are.
    pub(crate) fn epochs(&self, steps: usize) -> f64 {
        match self.batch_size {
            None => steps as f64,
            Some(size) => {
                let steps_per_epoch = self.examples.div_ceil(size);
                let within = (steps % steps_per_epoch * size) as f64 / self.examples as f64;
                (steps / steps_per_epoch) as f64 + within
            }
        }
    }
}
