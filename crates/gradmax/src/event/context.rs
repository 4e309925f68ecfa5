//! Which event it is, and what is known when it begins.

/// Which event this is.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventContext {
    /// Gradient steps taken so far.
    pub step: usize,
    /// Growth events so far.
    pub event: usize,
    /// Whether the growth batch is the batch of the training step that follows.
    pub batch_is_training_step: bool,
    /// Median milliseconds of a training step, if known.
    pub training_step: Option<f64>,
    /// Median milliseconds of a training step's forward and backward pass, if known.
    pub training_pass: Option<f64>,
}
