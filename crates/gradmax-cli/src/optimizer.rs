//! The optimizers that configurations can name.

use anyhow::Result;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdaGradConfig, AdamConfig, AdamWConfig, LionConfig, ModuleOptimizer, RmsPropConfig, SgdConfig};
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
        #[serde(default)]
        weight_decay: f32,
    },
    Adam {
        learning_rate: f64,
        #[serde(default)]
        weight_decay: f32,
    },
    #[serde(rename = "adamw")]
    AdamW {
        learning_rate: f64,
        #[serde(default = "default_decoupled_decay")]
        weight_decay: f32,
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

fn default_decoupled_decay() -> f32 {
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

    pub fn init(&self) -> ModuleOptimizer {
        let decay = |penalty: f32| (penalty > 0.0).then_some(WeightDecayConfig { penalty });
        match self {
            Self::Sgd { momentum, nesterov, weight_decay, .. } => {
                // Burn's default dampening of 0.1 is not the momentum of the paper, nor of other frameworks.
                let momentum = (*momentum > 0.0).then_some(MomentumConfig {
                    momentum: *momentum,
                    dampening: 0.0,
                    nesterov: *nesterov,
                });
                SgdConfig::new().with_momentum(momentum).with_weight_decay(decay(*weight_decay)).init()
            }
            Self::Adam { weight_decay, .. } => AdamConfig::new().with_weight_decay(decay(*weight_decay)).init(),
            Self::AdamW { weight_decay, .. } => AdamWConfig::new().with_weight_decay(*weight_decay).init(),
            Self::RmsProp { .. } => RmsPropConfig::new().init(),
            Self::AdaGrad { .. } => AdaGradConfig::new().init(),
            Self::Lion { .. } => LionConfig::new().init(),
        }
    }
}
