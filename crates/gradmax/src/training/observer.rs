//! Observers: the only side effects of training.

use serde::{Deserialize, Serialize};

use crate::event::receipt::Receipt;
use crate::training::run::Run;
use crate::training::shrinkage::Undone;

/// What an observer may fail with.
pub type ObserverError = Box<dyn std::error::Error + Send + Sync>;

/// Sees a run as it goes on: a progress bar, a metrics file, checkpoints.
///
/// # Errors
/// Any error ends the run with [`Error::Observer`](crate::Error::Observer).
pub trait Observer<N> {
    /// A gradient step was taken; `step` is how many there have been.
    fn stepped(&mut self, _step: usize) -> Result<(), ObserverError> {
        Ok(())
    }

    /// Something was measured.
    fn logged(&mut self, _row: &Row) -> Result<(), ObserverError> {
        Ok(())
    }

    /// The network grew, or an event was refused and passed over.
    fn grown(&mut self, _receipt: &Receipt) -> Result<(), ObserverError> {
        Ok(())
    }

    /// The neurons of a growth event were judged by whether the network can do without them.
    fn undone(&mut self, _undone: &Undone) -> Result<(), ObserverError> {
        Ok(())
    }

    /// The run can be saved here, and resumed from here.
    fn checkpoint(&mut self, _run: &Run<N>) -> Result<(), ObserverError> {
        Ok(())
    }
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Gradient steps taken before.
    pub step: usize,
    /// Passes over the training examples.
    pub epoch: f64,
    /// What was measured on.
    pub split: Split,
    /// Mean loss.
    pub loss: f64,
    /// Share of correct answers, where the task has a score.
    pub score: Option<f64>,
    /// Learning rate.
    pub learning_rate: f64,
    /// Trainable parameters of the network.
    pub parameters: usize,
    /// Floating-point operations spent on training so far.
    pub flops: u64,
    /// Norm of the loss's gradient over all parameters, on training rows.
    pub gradient_norm: Option<f64>,
    /// Seconds spent so far.
    pub seconds: f64,
}

/// What a measurement was made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The step's batch; in the row after the last step, all training examples.
    Train,
    /// All validation examples.
    Validation,
    /// All test examples.
    Test,
}
