//! The optimizers that configurations can name.

use anyhow::Result;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdaGradConfig, AdamConfig, LionConfig, ModuleOptimizer, RmsPropConfig, SgdConfig};
use burn::tensor::Device;
use gradmax::{Decayed, WeightDecay, optimizer_on};
use serde::{Deserialize, Serialize};

use crate::failure::misuse;

/// An optimizer, its learning rate and its constants, whose defaults are PyTorch's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd {
        learning_rate: f64,
        #[serde(default)]
        momentum: f64,
        /// The part of a gradient that does not enter the momentum.
        #[serde(default)]
        dampening: f64,
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
        #[serde(default = "adam_beta_1")]
        beta_1: f32,
        #[serde(default = "adam_beta_2")]
        beta_2: f32,
        #[serde(default = "epsilon")]
        epsilon: f32,
        #[serde(default)]
        amsgrad: bool,
        #[serde(default)]
        weight_decay: f64,
        #[serde(default)]
        decay_on: Decayed,
    },
    /// Adam with decoupled weight decay.
    #[serde(rename = "adamw")]
    AdamW {
        learning_rate: f64,
        #[serde(default = "adam_beta_1")]
        beta_1: f32,
        #[serde(default = "adam_beta_2")]
        beta_2: f32,
        #[serde(default = "epsilon")]
        epsilon: f32,
        #[serde(default)]
        amsgrad: bool,
        /// The weight is reduced by this times the learning rate times itself.
        #[serde(default = "decoupled_decay")]
        weight_decay: f64,
        #[serde(default)]
        decay_on: Decayed,
    },
    #[serde(rename = "rmsprop")]
    RmsProp {
        learning_rate: f64,
        /// The weight of the old mean square.
        #[serde(default = "rmsprop_alpha")]
        alpha: f32,
        #[serde(default)]
        momentum: f32,
        #[serde(default = "epsilon")]
        epsilon: f32,
        /// Whether gradients are divided by their standard deviation, in place of the root of their mean square.
        #[serde(default)]
        centered: bool,
        #[serde(default)]
        weight_decay: f64,
        #[serde(default)]
        decay_on: Decayed,
    },
    #[serde(rename = "adagrad")]
    AdaGrad {
        learning_rate: f64,
        /// The rate of step t is divided by 1 + (t - 1) times this.
        #[serde(default)]
        rate_decay: f64,
        #[serde(default = "adagrad_epsilon")]
        epsilon: f32,
        #[serde(default)]
        weight_decay: f64,
        #[serde(default)]
        decay_on: Decayed,
    },
    /// PyTorch has none; the defaults are those of Chen et al. 2023. Its weight decay is decoupled.
    Lion {
        learning_rate: f64,
        #[serde(default = "adam_beta_1")]
        beta_1: f32,
        #[serde(default = "lion_beta_2")]
        beta_2: f32,
        #[serde(default)]
        weight_decay: f64,
        #[serde(default)]
        decay_on: Decayed,
    },
}

fn adam_beta_1() -> f32 {
    0.9
}

fn adam_beta_2() -> f32 {
    0.999
}

fn lion_beta_2() -> f32 {
    0.99
}

fn rmsprop_alpha() -> f32 {
    0.99
}

fn epsilon() -> f32 {
    1e-8
}

fn adagrad_epsilon() -> f32 {
    1e-10
}

fn decoupled_decay() -> f64 {
    1e-2
}

/// Runs an expression on fields that every optimizer has.
macro_rules! of_any {
    ($config:expr, $($field:ident),+ => $result:expr) => {
        match $config {
            OptimizerConfig::Sgd { $($field,)+ .. }
            | OptimizerConfig::Adam { $($field,)+ .. }
            | OptimizerConfig::AdamW { $($field,)+ .. }
            | OptimizerConfig::RmsProp { $($field,)+ .. }
            | OptimizerConfig::AdaGrad { $($field,)+ .. }
            | OptimizerConfig::Lion { $($field,)+ .. } => $result,
        }
    };
}

impl OptimizerConfig {
    pub fn learning_rate(&self) -> f64 {
        of_any!(self, learning_rate => *learning_rate)
    }

    pub fn check(&self) -> Result<()> {
        let wrong = |option: &str, value: f64, remedy: &str| {
            Err(misuse(format!("`optimizer.{option}` is {value}; it must {remedy}")))
        };
        let share = |option: &str, value: f32| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => wrong(option, value.into(), "be at least 0 and below 1"),
        };
        let not_negative = |option: &str, value: f64| match value >= 0.0 && value.is_finite() {
            true => Ok(()),
            false => wrong(option, value, "not be negative"),
        };
        let positive = |option: &str, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => wrong(option, value, "be a positive number"),
        };
        positive("learning_rate", self.learning_rate())?;
        not_negative("weight_decay", of_any!(self, weight_decay => *weight_decay))?;
        match self {
            Self::Sgd { momentum, dampening, nesterov, .. } => {
                share("momentum", *momentum as f32)?;
                if !(0.0..=1.0).contains(dampening) {
                    return wrong("dampening", *dampening, "lie between 0 and 1");
                }
                if *nesterov && *momentum == 0.0 {
                    return Err(misuse("`optimizer.nesterov` needs a momentum; set `optimizer.momentum`"));
                }
                match *nesterov && *dampening != 0.0 {
                    true => wrong("dampening", *dampening, "be 0 with `optimizer.nesterov`"),
                    false => Ok(()),
                }
            }
            Self::Adam { beta_1, beta_2, epsilon, .. } | Self::AdamW { beta_1, beta_2, epsilon, .. } => {
                share("beta_1", *beta_1)?;
                share("beta_2", *beta_2)?;
                positive("epsilon", (*epsilon).into())
            }
            Self::RmsProp { alpha, momentum, epsilon, .. } => {
                share("alpha", *alpha)?;
                share("momentum", *momentum)?;
                positive("epsilon", (*epsilon).into())
            }
            Self::AdaGrad { rate_decay, epsilon, .. } => {
                not_negative("rate_decay", *rate_decay)?;
                positive("epsilon", (*epsilon).into())
            }
            Self::Lion { beta_1, beta_2, .. } => {
                share("beta_1", *beta_1)?;
                share("beta_2", *beta_2)
            }
        }
    }

    /// How weights are drawn to zero, which the trainer does for every optimizer.
    pub fn weight_decay(&self) -> Option<WeightDecay> {
        let decoupled = matches!(self, Self::AdamW { .. } | Self::Lion { .. });
        let decay =
            of_any!(self, weight_decay, decay_on => WeightDecay { rate: *weight_decay, on: *decay_on, decoupled });
        Some(decay).filter(|decay| decay.rate > 0.0)
    }

    /// The optimizer, whose state is kept on the device.
    pub fn init(&self, device: &Device) -> ModuleOptimizer {
        match *self {
            Self::Sgd { momentum, dampening, nesterov, .. } => {
                let momentum = (momentum > 0.0).then_some(MomentumConfig { momentum, dampening, nesterov });
                optimizer_on(SgdConfig::new().with_momentum(momentum).build(), device)
            }
            Self::Adam { beta_1, beta_2, epsilon, amsgrad, .. }
            | Self::AdamW { beta_1, beta_2, epsilon, amsgrad, .. } => {
                let config = AdamConfig::new().with_beta_1(beta_1).with_beta_2(beta_2);
                optimizer_on(config.with_epsilon(epsilon).with_amsgrad(amsgrad).build(), device)
            }
            Self::RmsProp { alpha, momentum, epsilon, centered, .. } => {
                let config = RmsPropConfig::new().with_alpha(alpha).with_momentum(momentum);
                optimizer_on(config.with_epsilon(epsilon).with_centered(centered).build(), device)
            }
            Self::AdaGrad { rate_decay, epsilon, .. } => {
                optimizer_on(AdaGradConfig::new().with_lr_decay(rate_decay).with_epsilon(epsilon).build(), device)
            }
            Self::Lion { beta_1, beta_2, .. } => {
                optimizer_on(LionConfig::new().with_beta_1(beta_1).with_beta_2(beta_2).build(), device)
            }
        }
    }
}
