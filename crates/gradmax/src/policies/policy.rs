//! What a policy has to tell: when a network grows, where, and by how many neurons.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::plan::Planned;
use crate::policies::look::PolicyLook;
use crate::site::width::SiteWidth;

/// Decides when, where and by how many neurons a network grows.
///
/// A policy is a function of what it observes, of what it sees when it looks, and of a state that checkpoints keep; it
/// has no other memory, so that a run can be resumed and repeated.
pub trait Policy: Send + Sync {
    /// The name that configurations know it by.
    fn name(&self) -> &str;

    /// Checks that its options make sense.
    ///
    /// # Errors
    /// [`Error::BadOption`].
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Whether growth may come before the gradient step `observed.step`. Asked at each step, so it is cheap.
    fn due(&self, observed: &Observed<'_>, state: &PolicyState) -> bool;

    /// Whether its looks compare two halves of the growth batch. Such a batch is then seen in two parts at least, also
    /// where it is the training step's.
    fn looks_in_halves(&self) -> bool {
        false
    }

    /// Whether it follows the training loss step by step: [`Observed::stretch`].
    fn follows_loss(&self) -> bool {
        false
    }

    /// The growth before this step; empty if there is to be none. Asked where it is [due](Self::due), and may look,
    /// which costs a pass over the growth batch unless the network grows after it.
    ///
    /// The state is kept if the event succeeds or is skipped; an event that fails is planned anew when the run is
    /// resumed.
    ///
    /// # Errors
    /// Those of looking.
    fn plan(
        &self,
        observed: &Observed<'_>,
        look: &dyn PolicyLook,
        state: &mut PolicyState,
    ) -> Result<Vec<Planned>, Error>;

    /// What training gains without growth, as the policy sees it: by how much the loss falls per unit of the learning
    /// rate, times what a neuron has to gain more for its cost. None if the policy does not compare the two, or knows of
    /// no gain yet, or the loss rises; then nothing grows.
    fn training_gain(&self, _observed: &Observed<'_>, _state: &PolicyState) -> Option<f64> {
        None
    }

    /// The sites' widths after a run of so many steps, if the policy knows them beforehand.
    fn target(&self, _seed: &[SiteWidth], _steps: usize) -> Option<Vec<SiteWidth>> {
        None
    }
}

/// What a policy may depend on without looking.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Observed<'a> {
    /// Gradient steps taken so far.
    pub step: usize,
    /// Gradient steps of the whole run.
    pub steps: usize,
    /// Growth events so far.
    pub events: usize,
    /// Every site of the network, in order.
    pub sites: &'a [SiteWidth],
    /// The last training loss that was logged, if there was one.
    pub loss: Option<f64>,
    /// The last loss on the validation examples, if there are any.
    pub validation_loss: Option<f64>,
    /// Floating-point operations spent on training and growth.
    pub flops: u64,
    /// The share of the run that is done: of its steps, or of its [budget](crate::policies::Budget) if that is used up
    /// more.
    pub done: f64,
    /// The learning rate of the next step, as a share of the schedule's highest.
    pub rate: f64,
    /// The steps since the last time that growth was due, if the policy [follows the loss](Policy::follows_loss).
    pub stretch: Stretch,
}

/// A stretch of training steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// Steps.
    pub steps: usize,
    /// The sum of their training losses, each before its step.
    pub losses: f64,
    /// The sum of their learning rates.
    pub rates: f64,
}

impl Stretch {
    /// The mean training loss; none of no steps.
    pub fn mean_loss(&self) -> Option<f64> {
        (self.steps > 0).then(|| self.losses / self.steps as f64)
    }
}

impl<'a> Observed<'a> {
    /// What is known before gradient step `step` of `steps`, after `events` growth events.
    pub fn new(step: usize, steps: usize, events: usize, sites: &'a [SiteWidth]) -> Self {
        let done = step as f64 / steps.max(1) as f64;
        Self {
            step,
            steps,
            events,
            sites,
            loss: None,
            validation_loss: None,
            flops: 0,
            done,
            rate: 1.0,
            stretch: Stretch::default(),
        }
    }
}

/// What a policy remembers from one call to the next; a checkpoint keeps it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyState(serde_json::Value);

impl PolicyState {
    /// What was remembered; none at the start of a run, or if it was something else.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_value(self.0.clone()).ok()
    }

    /// Remembers a value in place of what was remembered.
    ///
    /// # Panics
    /// If it cannot be written as JSON: a map whose keys are no strings.
    pub fn write<T: Serialize>(&mut self, value: &T) {
        self.0 = serde_json::to_value(value).expect("what a policy remembers can be written as JSON");
    }
}
