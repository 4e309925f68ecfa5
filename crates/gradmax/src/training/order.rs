//! The order of examples: every epoch its own permutation, a pure function of the seed and the epoch.

use rand::seq::SliceRandom;

use crate::error::Error;
use crate::seed::Seed;
use crate::sums::{SharedSums, Slice, alone};
use crate::training::data::{Batch, Examples};

/// Gives the batch of any step; keeps the permutations of the epochs at hand.
pub(crate) struct Order {
    examples: usize,
    /// Examples of a batch, at most all of them.
    size: usize,
    seed: Seed,
    /// The last two epochs that were asked for.
    permutations: Vec<(usize, Vec<usize>)>,
    /// Each machine takes a part of every batch.
    sums: SharedSums,
    /// Parts in which a batch is read.
    parts: usize,
}

/// This machine's examples of a part of a batch.
#[derive(Clone)]
pub(crate) struct Taken<I, T> {
    pub(crate) batch: Batch<I, T>,
    /// How many examples of the part are before them.
    pub(crate) first: usize,
    /// Whether they count: machines without examples of their own take the same passes as the others.
    pub(crate) counts: bool,
}

/// Batches that are announced ahead of the step at hand.
const AHEAD: usize = 2;

impl Order {
    /// The order of a number of examples; without a batch size, every batch is all of them, in order.
    pub(crate) fn new(examples: usize, batch_size: Option<usize>, seed: Seed) -> Self {
        let size = batch_size.unwrap_or(examples).min(examples).max(1);
        Self { examples, size, seed, permutations: Vec::new(), sums: alone(), parts: 1 }
    }

    /// The same order, of whose batches each machine takes a part.
    pub(crate) fn shared(self, sums: &SharedSums) -> Self {
        Self { sums: sums.clone(), ..self }
    }

    /// The same order, whose batches come in so many parts.
    pub(crate) fn in_parts(self, parts: usize) -> Self {
        Self { parts, ..self }
    }

    /// The batch of a step, in its parts, and a word to the examples about those of the next steps; the last one of an
    /// epoch may be smaller.
    pub(crate) fn batch<I: Clone, T: Clone>(
        &mut self,
        examples: &dyn Examples<Input = I, Target = T>,
        step: usize,
        steps: usize,
    ) -> Result<Vec<Taken<I, T>>, Error> {
        self.batch_in(1, examples, step, steps)
    }

    /// As [`batch`](Self::batch), with so many parts for each.
    pub(crate) fn batch_in<I: Clone, T: Clone>(
        &mut self,
        pieces: usize,
        examples: &dyn Examples<Input = I, Target = T>,
        step: usize,
        steps: usize,
    ) -> Result<Vec<Taken<I, T>>, Error> {
        for upcoming in step..(step + 1 + AHEAD).min(steps) {
            let seed = Some(self.augmentation(upcoming));
            let parts = if upcoming == step { pieces * self.parts } else { self.parts };
            self.parts(upcoming, parts).for_each(|part| examples.announce(part.indices, seed));
        }
        let seed = self.augmentation(step);
        let taken = |Slice { first, indices, counts }| {
            examples.augmented(indices, seed).map(|batch| Taken { batch, first, counts })
        };
        self.parts(step, pieces * self.parts).map(taken).collect()
    }

    /// This machine's slices of the parts of a step's examples, which are as large as each other but for one.
    fn parts(&mut self, step: usize, parts: usize) -> impl Iterator<Item = Slice<'_>> {
        let sums = self.sums.clone();
        let indices = self.indices(step);
        (0..parts)
            .map(move |part| &indices[part * indices.len() / parts..(part + 1) * indices.len() / parts])
            .filter(|part| !part.is_empty())
            .map(move |part| sums.slice(part))
    }

    /// Examples of the smallest part of a step.
    pub(crate) fn smallest_part(&self) -> usize {
        let last = self.examples - (self.steps_per_epoch() - 1) * self.size;
        (last / self.parts).max(1)
    }

    /// The indices of a step's examples.
    fn indices(&mut self, step: usize) -> &[usize] {
        let from = step % self.steps_per_epoch() * self.size;
        let to = (from + self.size).min(self.examples);
        // All examples at once have no order to draw; keeping theirs, they need not be copied.
        let epoch = if self.is_whole() { 0 } else { step / self.steps_per_epoch() };
        &self.permutation(epoch)[from..to]
    }

    fn steps_per_epoch(&self) -> usize {
        self.examples.div_ceil(self.size).max(1)
    }

    fn permutation(&mut self, epoch: usize) -> &[usize] {
        let known = self.permutations.iter().position(|(of, _)| *of == epoch);
        let at = known.unwrap_or_else(|| {
            let mut permutation = (0..self.examples).collect::<Vec<_>>();
            if !self.is_whole() {
                // From the epoch's number alone: a resumed run needs no generator's state.
                permutation.shuffle(&mut self.seed.fold("order").at(epoch as u64).rng());
            }
            if self.permutations.len() > 1 {
                self.permutations.remove(0);
            }
            self.permutations.push((epoch, permutation));
            self.permutations.len() - 1
        });
        &self.permutations[at].1
    }

    /// The seed of the changes that a step's epoch makes to examples.
    fn augmentation(&self, step: usize) -> Seed {
        self.seed.fold("augment").at((step / self.steps_per_epoch()) as u64)
    }

    /// Whether every batch is all examples.
    pub(crate) fn is_whole(&self) -> bool {
        self.size >= self.examples
    }

    /// How many epochs a number of steps are.
    pub(crate) fn epochs(&self, steps: usize) -> f64 {
        let within = (steps % self.steps_per_epoch() * self.size) as f64 / self.examples as f64;
        (steps / self.steps_per_epoch()) as f64 + within
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::training::task::supervised::Target;

    /// Keeps what is asked for.
    struct Asked {
        count: usize,
        batches: RefCell<Vec<(Vec<usize>, Option<Seed>)>>,
        announced: RefCell<Vec<(Vec<usize>, Option<Seed>)>>,
    }

    impl Asked {
        fn of(count: usize) -> Self {
            Self { count, batches: RefCell::default(), announced: RefCell::default() }
        }

        fn keep(&self, indices: &[usize], seed: Option<Seed>) -> Batch<()> {
            self.batches.borrow_mut().push((indices.to_vec(), seed));
            Batch { input: (), target: Target::Values(Tensor::zeros([indices.len(), 1], &Device::flex())) }
        }
    }

    impl Examples for Asked {
        type Input = ();
        type Target = Target;

        fn count(&self) -> usize {
            self.count
        }

        fn batch(&self, indices: &[usize]) -> Result<Batch<()>, Error> {
            Ok(self.keep(indices, None))
        }

        fn augmented(&self, indices: &[usize], seed: Seed) -> Result<Batch<()>, Error> {
            Ok(self.keep(indices, Some(seed)))
        }

        fn announce(&self, indices: &[usize], seed: Option<Seed>) {
            self.announced.borrow_mut().push((indices.to_vec(), seed));
        }
    }

    fn asked(count: usize, size: Option<usize>, steps: usize) -> Vec<(Vec<usize>, Option<Seed>)> {
        let (examples, mut order) = (Asked::of(count), Order::new(count, size, Seed::new(1)));
        (0..steps).for_each(|step| drop(order.batch(&examples, step, steps).unwrap()));
        examples.batches.into_inner()
    }

    #[test]
    fn every_epoch_has_an_order_and_augmentations_of_its_own() {
        let batches = asked(20, Some(8), 9);
        let epoch = |which: usize| batches[3 * which..3 * which + 3].iter().flat_map(|(indices, _)| indices.clone());
        let orders = [0, 1, 2].map(|which| epoch(which).collect::<Vec<_>>());
        for order in &orders {
            assert_eq!(order.iter().copied().collect::<BTreeSet<_>>().len(), 20);
        }
        assert!(orders[0] != orders[1] && orders[1] != orders[2] && orders[0] != orders[2]);
        let seeds = batches.iter().map(|(_, seed)| seed.expect("training examples are augmented")).collect::<Vec<_>>();
        assert!(seeds.chunks(3).all(|of_epoch| of_epoch.iter().all(|seed| *seed == of_epoch[0])));
        assert!(seeds[0] != seeds[3] && seeds[3] != seeds[6]);
    }

    #[test]
    fn batches_of_all_examples_are_augmented_and_announced_too() {
        for size in [None, Some(6), Some(7)] {
            let batches = asked(6, size, 3);
            let seeds = batches.iter().map(|(_, seed)| seed.expect("they are augmented")).collect::<Vec<_>>();
            assert!(batches.iter().all(|(indices, _)| *indices == [0, 1, 2, 3, 4, 5]));
            assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2]);
            let (examples, mut order) = (Asked::of(6), Order::new(6, size, Seed::new(1)));
            order.batch(&examples, 0, 3).unwrap();
            assert_eq!(*examples.announced.borrow(), batches);
        }
    }
}
