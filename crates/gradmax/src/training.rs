//! A training run: steps, growth, evaluation, observers and checkpoints.

pub(crate) mod average;
pub mod checkpoint;
pub(crate) mod cohorts;
pub(crate) mod data;
pub(crate) mod evaluation;
pub(crate) mod gradients;
pub(crate) mod learning_rate;
pub(crate) mod observer;
pub(crate) mod ongoing;
pub(crate) mod order;
pub(crate) mod run;
pub(crate) mod settings;
pub(crate) mod shrinkage;
pub(crate) mod task;
pub(crate) mod trainer;

pub use self::cohorts::{CohortRates, Cohorts, NewWeights};
pub use self::data::{Batch, Examples, InMemory, Rows};
pub use self::evaluation::{Evaluation, each_batch, evaluate};
pub use self::gradients::{Decayed, WeightDecay};
pub use self::learning_rate::{Decay, LearningRate};
pub use self::observer::{Observer, ObserverError, Row, Split};
pub use self::run::{Outcome, Progress, Run, Summary, Validated};
pub use self::settings::{BatchStatistics, GrowthBatch, GrowthSettings, Keep, OnFailure, Settings, Undo};
pub use self::shrinkage::{ShrinkReceipt, SiteShrinkage, Undone};
pub use self::task::*;
pub use self::trainer::{Outlook, Shrink, SiteOutlook, Trainer};
pub use crate::draws::with_draws;
