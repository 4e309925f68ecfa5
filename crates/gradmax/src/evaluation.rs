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

/// Examples that are looked at together where there are many: a bound on memory.
pub(crate) const PART: usize = 1000;

/// Mean loss and score of a network over examples, without gradients.
pub fn evaluate<N: Growable>(network: &N, task: Task, examples: &dyn Examples<Input = N::Input>) -> Evaluation {
    let network = network.valid();
    let indices = (0..examples.count()).collect::<Vec<_>>();
    let (mut loss, mut correct) = (0.0, None::<f64>);
    for part in indices.chunks(PART) {
        let batch = if part.len() == indices.len() { examples.all() } else { examples.batch(part) };
        let output: Tensor<2> = network.forward(batch.input);
        loss += task.loss(output.clone(), &batch.target).into_scalar::<f64>() * part.len() as f64;
        correct = task.correct(output, &batch.target).map(|more| correct.unwrap_or(0.0) + more);
    }
    let count = indices.len() as f64;
    Evaluation { loss: loss / count, score: correct.map(|correct| correct / count) }
}
