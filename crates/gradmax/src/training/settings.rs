//! What a run is told: how long, on what batches, and when it grows.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::grower::Grower;
use crate::policies::budget::Budget;
use crate::policies::policy::Policy;
use crate::seed::Seed;
use crate::training::cohorts::NewWeights;
use crate::training::gradients::WeightDecay;
use crate::training::learning_rate::LearningRate;

/// How long, on what batches, and what to log.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Gradient steps in all; fewer if the budget is spent before.
    pub steps: usize,
    /// What the run may spend, and how large its network may become. The learning rate follows what is used up the most,
    /// steps or budget.
    pub budget: Budget,
    /// Examples a step; none for all of them, in order.
    pub batch_size: Option<usize>,
    /// Learning rate of every step.
    pub learning_rate: LearningRate,
    /// How the weights that growth adds train, beside the others.
    pub new_weights: NewWeights,
    /// Steps after a growth event in which the learning rate rises again from 0 to what it would be; 0 for none.
    pub rewarm: usize,
    /// Which growth is taken back; none for none.
    pub undo: Option<Undo>,
    /// How weights are drawn to zero.
    pub weight_decay: Option<WeightDecay>,
    /// The largest norm of all gradients together; larger ones are scaled down to it.
    pub clip_gradients: Option<f64>,
    /// Steps between two logged training losses.
    pub log_every: usize,
    /// Over what batch norm takes its statistics where several machines train.
    pub batch_norm: BatchStatistics,
    /// Whether gradients travel between machines while the backward pass goes on, which changes no result: faster on slow
    /// networks, or with a core to spare for it; slower where all cores compute and messages are fast.
    pub overlap: bool,
    /// Parts in which a step's examples are passed through the network, one after another, whose gradients add up: a
    /// bound on memory. But for batch norm, which sees each part by itself, it changes results by rounding only.
    pub accumulate: usize,
    /// The decay of an exponential moving average of the weights, which is then evaluated and kept in their place.
    pub average: Option<f64>,
    /// Steps between two evaluations on the validation examples, or on the test examples if there are none; none for
    /// only one at the end.
    pub evaluate_every: Option<usize>,
    /// Training examples, at equal distances, that the network is evaluated on at the end; none for all.
    pub evaluate_train: Option<usize>,
    /// Evaluations on the validation examples without a lower loss after which the run ends.
    pub patience: Option<usize>,
    /// Which network the run keeps.
    pub keep: Keep,
    /// Steps between two checkpoints; none for only one at the end.
    pub checkpoint_every: Option<usize>,
    /// Examples that are evaluated together, and the most that a growth batch passes at once: a bound on memory.
    pub evaluation_batch: usize,
    /// The seed of the order of examples.
    pub seed: Seed,
}

impl Settings {
    /// So many steps at a learning rate, on all examples at once, logging every tenth and evaluating at the end.
    pub fn new(steps: usize, learning_rate: impl Into<LearningRate>) -> Self {
        Self {
            steps,
            budget: Budget::default(),
            batch_size: None,
            learning_rate: learning_rate.into(),
            new_weights: NewWeights::default(),
            rewarm: 0,
            undo: None,
            weight_decay: None,
            clip_gradients: None,
            log_every: 10,
            batch_norm: BatchStatistics::Local,
            overlap: false,
            accumulate: 1,
            average: None,
            evaluate_every: None,
            evaluate_train: None,
            patience: None,
            keep: Keep::Last,
            checkpoint_every: None,
            evaluation_batch: 1000,
            seed: Seed::new(0),
        }
    }
}

/// Taking growth back that did not pay: once the neurons of a growth event have been trained for a while, those are
/// removed that the network can do without, the least important first (as [`Trainer::shrunk`](crate::training::Trainer::shrunk)
/// does with the neurons of a whole network). Neurons that a layer of width 0 got first are never removed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Undo {
    /// Gradient steps between an event and its judgement.
    pub after: usize,
    /// The share by which the loss may rise, on training examples and in evaluation mode.
    pub rise: f64,
    /// The number of those examples, drawn anew each time; all, if there are not as many.
    pub examples: usize,
}

impl Undo {
    /// After so many steps, as long as the loss on 2048 examples rises by 1 % at most.
    pub fn new(after: usize) -> Self {
        Self { after, rise: 0.01, examples: 2048 }
    }

    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// [`Error::BadOption`].
    pub fn check(self) -> Result<(), Error> {
        let bad = |option, value: String, remedy| Err(Error::BadOption { option, value, remedy });
        match self {
            Self { after: 0, .. } => {
                bad("undo_after", "0".into(), "new neurons have to be trained before they are judged")
            }
            Self { rise, .. } if !(rise >= 0.0 && rise.is_finite()) => bad(
                "undo_rise",
                rise.to_string(),
                "it is the share by which the loss may rise: 0 or more, for example 0.01",
            ),
            Self { examples: 0, .. } => bad("undo_examples", "0".into(), "the loss needs examples to be measured on"),
            _ => Ok(()),
        }
    }
}

/// Over what the batch norm of [`Norm`](crate::modules::Norm) takes its statistics in training, where several machines
/// have a part of every batch each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchStatistics {
    /// Over each machine's part, as other frameworks do: results then depend on the number of machines. What the norm
    /// keeps for evaluation is the mean of all.
    #[default]
    Local,
    /// Over the parts of all machines, as one machine does; on the `flex` device only. Two short messages a norm.
    Synchronised,
}

/// The network that a run keeps: the one that is evaluated at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// That of the last step.
    #[default]
    Last,
    /// The one with the least loss on the validation examples.
    Best,
}

/// When and how a run grows.
pub struct GrowthSettings {
    /// When, where and how much.
    pub policy: Box<dyn Policy>,
    /// How.
    pub grower: Grower,
    /// On what.
    pub batch: GrowthBatch,
    /// What to do when an event fails.
    pub on_failure: OnFailure,
}

/// What a run does when a growth event fails: a site that cannot grow, weights that are refused, a verification that
/// finds something wrong. The network is then as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It is saved, and ends with the event's error.
    #[default]
    Stop,
    /// It goes on without the event, which counts as one; the receipt says why it was refused.
    Skip,
}

/// The examples that a growth event looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrowthBatch {
    /// The batch of the training step at hand: growth then costs no pass of its own.
    Training,
    /// This many examples, drawn anew for each event.
    Examples(usize),
    /// All training examples ("full gradient estimation").
    All,
}
