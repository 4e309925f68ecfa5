//! Loss and score of a network over many examples.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::Examples;
use crate::growable::Growable;
use crate::task::Task;

/// Mean loss, and score where the task has one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f64,
    /// Share of correct answers.
    pub score: Option<f64>,
}

/// Mean loss and score of a network over examples, without gradients, `part` of them at a time.
pub fn evaluate<N: Growable>(
    network: &N,
    task: Task,
    examples: &dyn Examples<Input = N::Input>,
    part: usize,
) -> Evaluation {
    let network = network.valid();
    let indices = (0..examples.count()).collect::<Vec<_>>();
    let (mut loss, mut correct) = (0.0, None::<f64>);
    let mut parts = indices.chunks(part.max(1)).peekable();
    while let Some(part) = parts.next() {
        examples.announce(part, None);
        parts.peek().into_iter().for_each(|next| examples.announce(next, None));
        let batch = if part.len() == indices.len() { examples.all() } else { examples.batch(part) };
        let output: Tensor<2> = network.forward(batch.input);
        loss += task.loss(output.clone(), &batch.target).into_scalar::<f64>() * part.len() as f64;
        correct = task.correct(output, &batch.target).map(|more| correct.unwrap_or(0.0) + more);
    }
    let count = indices.len() as f64;
    Evaluation { loss: loss / count, score: correct.map(|correct| correct / count) }
}
