//! Loss and score of a network over many examples.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::site::growable::Growable;
use crate::training::data::Examples;
use crate::training::task::Task;

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
pub fn evaluate<N: Growable>(
    network: &N,
    task: Task,
    examples: &dyn Examples<Input = N::Input>,
    part: usize,
) -> Result<Evaluation, Error> {
    let network = network.valid();
    let indices = (0..examples.count()).collect::<Vec<_>>();
    let (mut loss, mut correct, mut seen) = (0.0, None::<f64>, 0);
    let mut parts = indices.chunks(part.max(1)).peekable();
    while let Some(part) = parts.next() {
        examples.announce(part, None);
        parts.peek().into_iter().for_each(|next| examples.announce(next, None));
        let batch = examples.batch(part)?;
        let count = batch.target.count();
        if count == 0 {
            continue;
        }
        let output: Tensor<2> = network.forward(batch.input);
        loss += task.loss(output.clone(), &batch.target).into_scalar::<f64>() * count as f64;
        correct = task.correct(output, &batch.target).map(|more| correct.unwrap_or(0.0) + more);
        seen += count;
    }
    if seen == 0 {
        return Err(Error::Examples("there are no examples to evaluate on".into()));
    }
    let count = seen as f64;
    Ok(Evaluation { loss: loss / count, score: correct.map(|correct| correct / count) })
}
