//! The optimizers that configurations can name.

use anyhow::Result;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdaGradConfig, AdamConfig, LionConfig, ModuleOptimizer, RmsPropConfig, SgdConfig};
use gradmax::{Decayed, WeightDecay};
use serde::{Deserialize, Serialize};

use crate::failure::misuse;

/// An optimizer and its learning rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd {
        learning_rate: f64,
        #[serde(default)]
        momentum: f64,
        #[serde(default)]
        nesterov: bool,
        /// Added to the gradient, times the weight.
        #[serde(default)]
        weight_decay: f64,
        /// Which parameters decay.
        #[serde(default)]
        decay_on: Decayed,
    },
    Adam {
        learning_rate: f64,
        #[serde(default)]
        weight_decay: f64,
        #[serde(default)]
        decay_on: Decayed,
    },
    /// Adam with decoupled weight decay.
    #[serde(rename = "adamw")]
    AdamW {
        learning_rate: f64,
        #[serde(default = "default_decoupled_decay")]
        weight_decay: f64,
        #[serde(default)]
        decay_on: Decayed,
    },
    #[serde(rename = "rmsprop")]
    RmsProp {
        learning_rate: f64,
    },
    #[serde(rename = "adagrad")]
    AdaGrad {
        learning_rate: f64,
    },
    Lion {
        learning_rate: f64,
    },
}

fn default_decoupled_decay() -> f64 {
    1e-4
}

impl OptimizerConfig {
    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::Sgd { learning_rate, .. }
            | Self::Adam { learning_rate, .. }
            | Self::AdamW { learning_rate, .. }
            | Self::RmsProp { learning_rate }
            | Self::AdaGrad { learning_rate }
            | Self::Lion { learning_rate } => *learning_rate,
        }
    }

    pub fn check(&self) -> Result<()> {
        let rate = self.learning_rate();
        if !(rate > 0.0 && rate.is_finite()) {
            return Err(misuse(format!("`optimizer.learning_rate` is {rate}; it must be a positive number")));
        }
        if let Self::Sgd { momentum, nesterov, .. } = self {
            if !(0.0..1.0).contains(momentum) {
                return Err(misuse(format!("`optimizer.momentum` is {momentum}; it must be at least 0 and below 1")));
            }
            if *nesterov && *momentum == 0.0 {
                return Err(misuse("`optimizer.nesterov` needs a momentum; set `optimizer.momentum`"));
            }
        }
        if let Self::Sgd { weight_decay, .. } | Self::Adam { weight_decay, .. } | Self::AdamW { weight_decay, .. } =
            self
            && (weight_decay.is_nan() || *weight_decay < 0.0)
        {
            return Err(misuse(format!("`optimizer.weight_decay` is {weight_decay}; it must not be negative")));
        }
        Ok(())
    }

    /// How weights are drawn to zero, which the trainer does for every optimizer.
    pub fn weight_decay(&self) -> Option<WeightDecay> {
        match self {
            Self::Sgd { weight_decay, decay_on, .. }
            | Self::Adam { weight_decay, decay_on, .. }
            | Self::AdamW { weight_decay, decay_on, .. } => {
                Some(WeightDecay { rate: *weight_decay, on: *decay_on, decoupled: matches!(self, Self::AdamW { .. }) })
            }
            Self::RmsProp { .. } | Self::AdaGrad { .. } | Self::Lion { .. } => None,
        }
        .filter(|decay| decay.rate > 0.0)
    }

    pub fn init(&self) -> ModuleOptimizer {
        match self {
            Self::Sgd { momentum, nesterov, .. } => {
                // Burn's default dampening of 0.1 is not the momentum of the paper, nor of other frameworks.
                let momentum = (*momentum > 0.0).then_some(MomentumConfig {
                    momentum: *momentum,
                    dampening: 0.0,
                    nesterov: *nesterov,
                });
                SgdConfig::new().with_momentum(momentum).init()
            }
            Self::Adam { .. } | Self::AdamW { .. } => AdamConfig::new().init(),
            Self::RmsProp { .. } => RmsPropConfig::new().init(),
            Self::AdaGrad { .. } => AdaGradConfig::new().init(),
            Self::Lion { .. } => LionConfig::new().init(),
        }
    }
}
