//! Examples that are held out of training for validation.

use std::path::PathBuf;

use gradmax::training::{Batch, Examples, Target};
use gradmax::{Error, Seed};
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::source::{AnyExamples, SharedExamples};
use crate::reading::Reading;

/// Where validation examples come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Validation {
    /// A share of the training examples.
    Share(f64),
    /// A file or folder like that of the test examples.
    Path(PathBuf),
}

/// Examples that are drawn together; the share is the same in each block.
const BLOCK: usize = 1000;

/// Says which training examples are held out: a share of every block, drawn, whatever examples follow.
pub struct HeldOut {
    of_block: usize,
    /// The block at hand, and whether each of its examples is held out.
    block: Option<(usize, Vec<bool>)>,
}

impl HeldOut {
    pub fn new(share: f64) -> Self {
        Self { of_block: (share * BLOCK as f64).round() as usize, block: None }
    }

    /// Whether the example with this index is held out.
    pub fn contains(&mut self, index: usize) -> bool {
        let (block, of_block) = (index / BLOCK, self.of_block);
        if self.block.as_ref().is_none_or(|(known, _)| *known != block) {
            let mut held = (0..BLOCK).map(|place| place < of_block).collect::<Vec<_>>();
            held.shuffle(&mut Seed::new(0).fold("validation split").at(block as u64).rng());
            self.block = Some((block, held));
        }
        self.block.as_ref().is_some_and(|(_, held)| held[index % BLOCK])
    }

    /// Of so many examples, the indices of those that stay and of those that are held out.
    pub fn split(mut self, count: usize) -> [Vec<usize>; 2] {
        let (held, kept) = (0..count).partition(|index| self.contains(*index));
        [kept, held]
    }
}

/// Whether an example is held out for testing, of a set that is read from one file: drawn, whatever examples there are
/// beside it.
pub fn is_test(share: f64, index: usize) -> bool {
    Seed::new(0).fold("csv split").at(index as u64).rng().random::<f64>() < share
}

/// Some of the examples of a set.
pub struct Subset {
    pub examples: AnyExamples,
    pub indices: Vec<usize>,
}

impl Subset {
    fn all(&self, indices: &[usize]) -> Vec<usize> {
        indices.iter().map(|index| self.indices[*index]).collect()
    }
}

impl Examples for Subset {
    type Input = Reading;
    type Target = Target;

    fn count(&self) -> usize {
        self.indices.len()
    }

    fn batch(&self, indices: &[usize]) -> Result<Batch<Reading>, Error> {
        self.examples.batch(&self.all(indices))
    }

    fn augmented(&self, indices: &[usize], seed: Seed) -> Result<Batch<Reading>, Error> {
        self.examples.augmented(&self.all(indices), seed)
    }

    fn augments(&self) -> bool {
        self.examples.augments()
    }

    fn announce(&self, indices: &[usize], seed: Option<Seed>) {
        self.examples.announce(&self.all(indices), seed);
    }

    fn largest_class(&self) -> Option<usize> {
        self.examples.largest_class()
    }
}

impl SharedExamples for Subset {
    fn for_one_run(&self) -> AnyExamples {
        Box::new(Self { examples: self.examples.for_one_run(), indices: self.indices.clone() })
    }

    fn passed_over(&self) -> Vec<String> {
        self.examples.passed_over()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_held_out_evenly_and_what_follows_changes_nothing() {
        let [kept, held] = HeldOut::new(0.1).split(5000);
        assert_eq!((kept.len(), held.len()), (4500, 500));
        for block in held.chunks(100) {
            assert!(block.iter().all(|index| index / BLOCK == block[0] / BLOCK));
        }
        let [_, fewer] = HeldOut::new(0.1).split(150);
        assert_eq!(fewer, held.iter().copied().take_while(|index| *index < 150).collect::<Vec<_>>());
        assert!((5..30).contains(&fewer.len()), "{fewer:?}");
        // Not every tenth one, which sets with a period would have of one class.
        assert!(fewer.windows(2).any(|pair| pair[1] - pair[0] != 10));
    }
}
