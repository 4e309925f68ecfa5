//! The order of examples: every epoch its own permutation, a pure function of the seed and the epoch.

use rand::seq::SliceRandom;

use crate::data::{Batch, Examples};
use crate::seed::Seed;

/// Gives the batch of any step; keeps the permutations of the epochs at hand.
pub(crate) struct Order {
    examples: usize,
    batch_size: Option<usize>,
    seed: Seed,
    /// The last two epochs that were asked for.
    permutations: Vec<(usize, Vec<usize>)>,
}

/// Batches that are announced ahead of the step at hand.
const AHEAD: usize = 2;

impl Order {
    /// The order of a number of examples; without a batch size, every batch is all of them.
    pub(crate) fn new(examples: usize, batch_size: Option<usize>, seed: Seed) -> Self {
        let batch_size = batch_size.filter(|size| *size < examples);
        Self { examples, batch_size, seed, permutations: Vec::new() }
    }

    /// The batch of a step, and a word to the examples about those of the next steps; the last one of an epoch may be
    /// smaller.
    pub(crate) fn batch<I: Clone>(
        &mut self,
        examples: &dyn Examples<Input = I>,
        step: usize,
        steps: usize,
    ) -> Batch<I> {
        let Some(size) = self.batch_size else {
            return examples.all();
        };
        for upcoming in step..(step + 1 + AHEAD).min(steps) {
            let seed = Some(self.augmentation(upcoming, size));
            examples.announce(self.indices(upcoming, size), seed);
        }
        let seed = self.augmentation(step, size);
        examples.augmented(self.indices(step, size), seed)
    }

    /// The indices of a step's examples.
    fn indices(&mut self, step: usize, size: usize) -> &[usize] {
        let steps_per_epoch = self.examples.div_ceil(size);
        let from = step % steps_per_epoch * size;
        let to = (from + size).min(self.examples);
        &self.permutation(step / steps_per_epoch)[from..to]
    }

    fn permutation(&mut self, epoch: usize) -> &[usize] {
        let known = self.permutations.iter().position(|(of, _)| *of == epoch);
        let at = known.unwrap_or_else(|| {
            let mut permutation = (0..self.examples).collect::<Vec<_>>();
            permutation.shuffle(&mut self.seed.fold("order").at(epoch as u64).rng());
            if self.permutations.len() > 1 {
                self.permutations.remove(0);
            }
            self.permutations.push((epoch, permutation));
            self.permutations.len() - 1
        });
        &self.permutations[at].1
    }

    /// The seed of the changes that a step's epoch makes to examples.
    fn augmentation(&self, step: usize, size: usize) -> Seed {
        self.seed.fold("augment").at((step / self.examples.div_ceil(size)) as u64)
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
