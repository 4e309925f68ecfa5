//! Loss and score of a network over many examples.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::site::growable::Growable;
use crate::sums::{Alone, Sums};
use crate::training::data::{Batch, Examples};
use crate::training::task::{Tally, Task};

/// Mean loss, and score where the task has one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f64,
    /// Share of correct answers.
    pub score: Option<f64>,
}

/// Mean loss and score of a network over examples, without gradients, `part` of them at a time. Examples that a set
/// passes over because they cannot be read do not count.
///
/// # Errors
/// [`Error::Examples`], if examples cannot be read, or there are none.
pub fn evaluate<N: Growable, T: Task<Output = N::Output>>(
    network: &N,
    task: &T,
    examples: &dyn Examples<Input = N::Input, Target = T::Target>,
    part: usize,
) -> Result<Evaluation, Error> {
    let indices = (0..examples.count()).collect::<Vec<_>>();
    evaluate_some(network, task, examples, (&indices, part), &Alone)
}

/// As [`evaluate`], over the examples with these indices, by several machines, each on a part of them.
pub(crate) fn evaluate_some<N: Growable, T: Task<Output = N::Output>>(
    network: &N,
    task: &T,
    examples: &dyn Examples<Input = N::Input, Target = T::Target>,
    (indices, part): (&[usize], usize),
    sums: &dyn Sums,
) -> Result<Evaluation, Error> {
    let network = network.valid();
    let mut tally = Tally::default();
    each_batch(examples, sums.own(indices), part, |batch| {
        if task.examples(&batch.target) > 0 {
            tally = tally + task.tally(&network.forward(batch.input), &batch.target);
        }
    })?;
    Evaluation::of(tally.over_all(sums)).ok_or_else(|| Error::Examples("there are no examples to evaluate on".into()))
}

/// Shows these examples in their order, `part` of them at a time. Examples that a set passes over are not in a batch,
/// which may have none.
///
/// # Errors
/// [`Error::Examples`], if examples cannot be read.
pub fn each_batch<I: Clone, G: Clone>(
    examples: &dyn Examples<Input = I, Target = G>,
    indices: &[usize],
    part: usize,
    mut see: impl FnMut(Batch<I, G>),
) -> Result<(), Error> {
    let mut parts = indices.chunks(part.max(1)).peekable();
    while let Some(part) = parts.next() {
        examples.announce(part, None);
        // One part ahead: images are decoded while the network computes.
        parts.peek().into_iter().for_each(|next| examples.announce(next, None));
        see(examples.batch(part)?);
    }
    Ok(())
}

impl Evaluation {
    /// The means of sums; none if there was nothing to sum.
    pub fn of(tally: Tally) -> Option<Self> {
        let units = tally.units as f64;
        (tally.units > 0)
            .then(|| Self { loss: tally.loss / units, score: tally.correct.map(|correct| correct / units) })
    }
}
