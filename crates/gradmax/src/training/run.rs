//! A run: its state between two steps, and how it ends.

use burn::optim::ModuleOptimizer;
use serde::{Deserialize, Serialize};

use crate::policies::policy::{PolicyState, Stretch};
use crate::site::growable::Growable;
use crate::site::width::SiteWidth;
use crate::training::cohorts::Cohorts;
use crate::training::evaluation::Evaluation;

/// A run between two steps: all that a checkpoint holds.
#[derive(Clone)]
pub struct Run<N> {
    /// The network.
    pub network: N,
    /// The average of its weights over the steps so far, if one is taken.
    pub average: Option<N>,
    /// The network that did best on the validation examples, if that is to be kept.
    pub best: Option<N>,
    /// The optimizer, with its state.
    pub optimizer: ModuleOptimizer,
    /// How far the run is.
    pub progress: Progress,
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Gradient steps taken.
    pub step: usize,
    /// Growth events done.
    pub events: usize,
    /// Rows given to observers.
    pub rows: usize,
    /// Every site with its width in the seed network and now.
    pub sites: Vec<SiteWidth>,
    /// Floating-point operations spent on training steps.
    pub training_flops: u64,
    /// Floating-point operations spent on looks and growth events: passes over the growth batch that are not a training
    /// step's, and all products that choosing neurons takes; no decompositions of small matrices, and no verification.
    #[serde(default)]
    pub growth_flops: u64,
    /// The share of the run that was done when the learning rate's warm-up ended.
    #[serde(default)]
    pub warmed: f64,
    /// Seconds spent.
    pub seconds: f64,
    /// Of these, seconds spent on growth, verification included.
    pub growth_seconds: f64,
    /// The last training loss that was logged.
    #[serde(default)]
    pub loss: Option<f64>,
    /// The last evaluation on the validation examples.
    #[serde(default)]
    pub validated: Option<Validated>,
    /// The one with the least loss.
    #[serde(default)]
    pub best: Option<Validated>,
    /// Evaluations on the validation examples since then.
    #[serde(default)]
    pub waited: usize,
    /// What the policy remembers.
    #[serde(default)]
    pub policy: PolicyState,
    /// The steps since growth was due for the last time, if the policy follows the loss.
    #[serde(default)]
    pub stretch: Stretch,
    /// Which weights came at which growth event.
    #[serde(default)]
    pub cohorts: Cohorts,
    /// Growth events whose neurons were judged by whether the network can do without them, from the first on.
    #[serde(default)]
    pub judged: usize,
    /// Machines that took the last step together; 0 before the first.
    #[serde(default)]
    pub ranks: usize,
}

/// An evaluation on the validation examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validated {
    /// Gradient steps taken before.
    pub step: usize,
    /// Loss and score.
    pub evaluation: Evaluation,
    /// Every site as it was.
    pub sites: Vec<SiteWidth>,
    /// Trainable parameters of the network.
    pub parameters: usize,
}

impl Progress {
    /// Floating-point operations spent on training and growth.
    pub fn flops(&self) -> u64 {
        self.training_flops + self.growth_flops
    }
}

impl<N: Growable> Run<N> {
    /// The start of a run with a seed network.
    pub fn new(network: N, optimizer: ModuleOptimizer) -> Self {
        let sites = network.sites().into_iter().map(|site| {
            let width = site.width();
            SiteWidth { unit: site.unit(), site: site.name, seed: width, width, series: site.series }
        });
        let progress = Progress { sites: sites.collect(), ..Progress::default() };
        Self { network, average: None, best: None, optimizer, progress }
    }

    /// The network as it is evaluated: the average if one is taken.
    pub fn averaged(&self) -> &N {
        self.average.as_ref().unwrap_or(&self.network)
    }

    /// The network that is kept, with the widths of its sites: the best one if that is to be kept, else the last.
    pub fn kept(&self) -> (&N, &[SiteWidth]) {
        match (&self.best, &self.progress.best) {
            (Some(network), Some(validated)) => (network, &validated.sites),
            _ => (self.averaged(), &self.progress.sites),
        }
    }
}

/// How a run ended.
pub struct Outcome<N> {
    /// The run as it is now.
    pub run: Run<N>,
    /// The final evaluation; none if the run was interrupted before its last step.
    pub finished: Option<Summary>,
}

/// The final evaluation of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Loss over all training examples, of the network that is kept.
    pub train: Evaluation,
    /// Loss and score over all validation examples, if there are any.
    pub validation: Option<Evaluation>,
    /// Loss and score over all test examples, if there are any.
    pub test: Option<Evaluation>,
    /// The step that the network is of.
    pub kept_step: usize,
    /// Its trainable parameters.
    pub parameters: usize,
    /// Median seconds of a training step; of those since the last resume.
    pub step_seconds_median: f64,
}
