//! The optimizers that configurations can name.

use anyhow::Result;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    AdaGradConfig, AdamConfig, AdjustLrFn, LionConfig, ModuleOptimizer, MuonConfig, RmsPropConfig, SgdConfig,
};
use burn::tensor::Device;
use gradmax::event::FirstStep;
use gradmax::surgery::{matrix_optimizer_on, optimizer_on};
use gradmax::training::{Decayed, WeightDecay};
use serde::{Deserialize, Serialize};

use crate::failure::misuse;

/// An optimizer, its learning rate and its constants, whose defaults are PyTorch's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd {
        /// The learning rate.
        learning_rate: f64,
        /// The share of the last step that is taken again.
        #[serde(default)]
        momentum: f64,
        /// The part of a gradient that does not enter the momentum.
        #[serde(default)]
        dampening: f64,
        /// Whether the gradient counts as if that share had been taken already.
        #[serde(default)]
        nesterov: bool,
        /// Added to the gradient, times the weight.
        #[serde(default)]
        weight_decay: f64,
        /// Which parameters decay.
        #[serde(default)]
        decay_on: Decayed,
    },
    /// Adam (Kingma and Ba 2015).
    Adam {
        /// The learning rate.
        learning_rate: f64,
        /// The share of the gradient's mean that is kept.
        #[serde(default = "adam_beta_1")]
        beta_1: f32,
        /// The share of its square's mean that is kept.
        #[serde(default = "adam_beta_2")]
        beta_2: f32,
        /// Added to what is divided by.
        #[serde(default = "epsilon")]
        epsilon: f32,
        /// Whether the largest mean square counts (Reddi et al. 2018).
        #[serde(default)]
        amsgrad: bool,
        /// The rate at which weights are drawn to zero.
        #[serde(default)]
        weight_decay: f64,
        /// Which weights are.
        #[serde(default)]
        decay_on: Decayed,
    },
    /// Adam with decoupled weight decay.
    #[serde(rename = "adamw")]
    AdamW {
        /// The learning rate.
        learning_rate: f64,
        /// The share of the gradient's mean that is kept.
        #[serde(default = "adam_beta_1")]
        beta_1: f32,
        /// The share of its square's mean that is kept.
        #[serde(default = "adam_beta_2")]
        beta_2: f32,
        /// Added to what is divided by.
        #[serde(default = "epsilon")]
        epsilon: f32,
        /// Whether the largest mean square counts (Reddi et al. 2018).
        #[serde(default)]
        amsgrad: bool,
        /// The weight is reduced by this times the learning rate times itself.
        #[serde(default = "decoupled_decay")]
        weight_decay: f64,
        /// Which weights are.
        #[serde(default)]
        decay_on: Decayed,
    },
    /// RMSprop.
    #[serde(rename = "rmsprop")]
    RmsProp {
        /// The learning rate.
        learning_rate: f64,
        /// The weight of the old mean square.
        #[serde(default = "rmsprop_alpha")]
        alpha: f32,
        /// The share of the last step that is taken again.
        #[serde(default)]
        momentum: f32,
        /// Added to what is divided by.
        #[serde(default = "epsilon")]
        epsilon: f32,
        /// Whether gradients are divided by their standard deviation, in place of the root of their mean square.
        #[serde(default)]
        centered: bool,
        /// The rate at which weights are drawn to zero.
        #[serde(default)]
        weight_decay: f64,
        /// Which weights are.
        #[serde(default)]
        decay_on: Decayed,
    },
    /// AdaGrad (Duchi et al. 2011).
    #[serde(rename = "adagrad")]
    AdaGrad {
        /// The learning rate.
        learning_rate: f64,
        /// The rate of step t is divided by 1 + (t - 1) times this.
        #[serde(default)]
        rate_decay: f64,
        /// Added to what is divided by.
        #[serde(default = "adagrad_epsilon")]
        epsilon: f32,
        /// The rate at which weights are drawn to zero.
        #[serde(default)]
        weight_decay: f64,
        /// Which weights are.
        #[serde(default)]
        decay_on: Decayed,
    },
    /// Matrices take steps whose singular values are alike (Jordan et al. 2024), as long as Adam's usually are (Liu et al.
    /// 2025); all else is trained by Adam, embeddings too. Its weight decay is decoupled.
    Muon {
        /// The learning rate.
        learning_rate: f64,
        /// The share of the last gradient that is kept, of matrices.
        #[serde(default = "muon_momentum")]
        momentum: f64,
        /// Whether the gradient counts as if that share had been taken already.
        #[serde(default = "yes")]
        nesterov: bool,
        /// The share of the gradient's mean that is kept, of all else.
        #[serde(default = "adam_beta_1")]
        beta_1: f32,
        /// The share of its square's mean that is kept, of all else.
        #[serde(default = "adam_beta_2")]
        beta_2: f32,
        /// Added to what is divided by, of all else.
        #[serde(default = "epsilon")]
        epsilon: f32,
        /// The rate at which weights are drawn to zero.
        #[serde(default = "muon_decay")]
        weight_decay: f64,
        /// Which weights are.
        #[serde(default)]
        decay_on: Decayed,
    },
    /// PyTorch has none; the defaults are those of Chen et al. 2023. Its weight decay is decoupled.
    Lion {
        /// The learning rate.
        learning_rate: f64,
        /// The share of the gradient's mean that is kept.
        #[serde(default = "adam_beta_1")]
        beta_1: f32,
        /// The share of its square's mean that is kept.
        #[serde(default = "lion_beta_2")]
        beta_2: f32,
        /// The rate at which weights are drawn to zero.
        #[serde(default)]
        weight_decay: f64,
        /// Which weights are.
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

fn muon_momentum() -> f64 {
    0.95
}

fn muon_decay() -> f64 {
    0.1
}

fn yes() -> bool {
    true
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

/// What networks call their embeddings.
const EMBEDDINGS: [&str; 2] = ["tokens", "positions"];

/// Runs an expression on fields that every optimizer has.
macro_rules! of_any {
    ($config:expr, $($field:ident),+ => $result:expr) => {
        match $config {
            OptimizerConfig::Sgd { $($field,)+ .. }
            | OptimizerConfig::Adam { $($field,)+ .. }
            | OptimizerConfig::AdamW { $($field,)+ .. }
            | OptimizerConfig::RmsProp { $($field,)+ .. }
            | OptimizerConfig::AdaGrad { $($field,)+ .. }
            | OptimizerConfig::Muon { $($field,)+ .. }
            | OptimizerConfig::Lion { $($field,)+ .. } => $result,
        }
    };
}

impl OptimizerConfig {
    /// The learning rate.
    pub fn learning_rate(&self) -> f64 {
        of_any!(self, learning_rate => *learning_rate)
    }

    /// Checks that the options make sense.
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
            Self::Muon { momentum, beta_1, beta_2, epsilon, .. } => {
                share("momentum", *momentum as f32)?;
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

    /// The betas of moments that are corrected by the number of steps, as Adam's are.
    pub fn betas(&self) -> Option<[f64; 2]> {
        match self {
            Self::Adam { beta_1, beta_2, .. } | Self::AdamW { beta_1, beta_2, .. } => {
                Some([f64::from(*beta_1), f64::from(*beta_2)])
            }
            _ => None,
        }
    }

    /// How its first step with new weights follows from their gradient.
    pub fn first_step(&self) -> FirstStep {
        match self {
            Self::Sgd { .. } => FirstStep::Gradient,
            // Its steps are as long in the mean square.
            Self::Muon { .. }
            | Self::Adam { .. }
            | Self::AdamW { .. }
            | Self::RmsProp { .. }
            | Self::AdaGrad { .. }
            | Self::Lion { .. } => FirstStep::Sign,
        }
    }

    /// How weights are drawn to zero, which the trainer does for every optimizer.
    pub fn weight_decay(&self) -> Option<WeightDecay> {
        let decoupled = matches!(self, Self::AdamW { .. } | Self::Muon { .. } | Self::Lion { .. });
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
            Self::Muon { momentum, nesterov, beta_1, beta_2, epsilon, .. } => {
                let momentum = MomentumConfig { momentum, dampening: 0.0, nesterov };
                let muon = MuonConfig::new().with_momentum(momentum).with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW);
                let adam = AdamConfig::new().with_beta_1(beta_1).with_beta_2(beta_2).with_epsilon(epsilon);
                matrix_optimizer_on(muon.build(), adam.build(), &EMBEDDINGS, device)
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

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::{Tensor, TensorData};

    use super::*;

    /// A weight after some steps with these gradients, by an optimizer of a configuration.
    fn stepped(config: &str, gradients: &[f64]) -> f64 {
        let config: OptimizerConfig = toml::from_str(&format!("learning_rate = 0.1\n{config}")).unwrap();
        config.check().unwrap();
        let device = Device::flex().autodiff();
        let mut linear: Linear = LinearConfig::new(1, 1).with_bias(false).init(&device);
        linear.weight = Param::from_tensor(Tensor::from_data(TensorData::new(vec![0.5_f32], [1, 1]), &device));
        let mut optimizer = config.init(&device);
        for gradient in gradients {
            let loss = linear.weight.val().mul_scalar(*gradient).sum();
            let gradients = GradientsParams::from_grads(loss.backward(), &linear);
            linear = optimizer.step(0.1, linear, gradients);
        }
        linear.weight.val().into_scalar::<f64>()
    }

    /// Every optimizer as PyTorch's documentation states it, at large gradients and at ones as small as its epsilon.
    #[test]
    fn defaults_are_those_of_pytorch() {
        for gradients in [[0.3, -0.2, 0.5, 0.1], [2e-8, 1e-8, -3e-8, 1e-8], [1e-5, 2e-5, 1e-5, -1e-5]] {
            let mut expected = [0.5_f64; 5];
            let (mut m, mut v, mut square, mut sum, mut velocity) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for (step, g) in gradients.iter().enumerate() {
                let t = step as i32 + 1;
                (m, v) = (0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g);
                let (m_hat, v_hat) = (m / (1.0 - 0.9_f64.powi(t)), v / (1.0 - 0.999_f64.powi(t)));
                expected[0] -= 0.1 * m_hat / (v_hat.sqrt() + 1e-8);
                square = 0.99 * square + 0.01 * g * g;
                expected[1] -= 0.1 * g / (square.sqrt() + 1e-8);
                sum += g * g;
                expected[2] -= 0.1 * g / (sum.sqrt() + 1e-10);
                velocity = if step == 0 { *g } else { 0.9 * velocity + g };
                expected[3] -= 0.1 * velocity;
                expected[4] -= 0.1 * g;
            }
            let configs = [
                "name = \"adam\"",
                "name = \"rmsprop\"",
                "name = \"adagrad\"",
                "name = \"sgd\"\nmomentum = 0.9",
                "name = \"sgd\"",
            ];
            for (config, expected) in configs.iter().zip(expected) {
                let found = stepped(config, &gradients);
                assert!(
                    (found - expected).abs() < 1e-4 * (expected - 0.5).abs() + 1e-7,
                    "{config} {gradients:?}: {found} {expected}"
                );
            }
        }
        let decay = |config: &str| {
            toml::from_str::<OptimizerConfig>(&format!("learning_rate = 0.1\n{config}")).unwrap().weight_decay()
        };
        assert_eq!(decay("name = \"adamw\"").map(|decay| (decay.rate, decay.decoupled)), Some((0.01, true)));
        assert!(
            ["adam", "sgd", "rmsprop", "adagrad", "lion"]
                .iter()
                .all(|name| decay(&format!("name = {name:?}")).is_none())
        );
    }

    #[test]
    fn every_constant_is_an_option_that_counts() {
        let gradients = [0.3, -0.2, 0.5];
        for (name, options) in [
            ("adam", ["beta_1 = 0.5", "beta_2 = 0.5", "epsilon = 0.1", "amsgrad = true"].as_slice()),
            ("adamw", &["beta_1 = 0.5", "beta_2 = 0.5", "epsilon = 0.1"]),
            ("rmsprop", &["alpha = 0.5", "momentum = 0.5", "epsilon = 0.1", "centered = true"]),
            ("adagrad", &["rate_decay = 0.5", "epsilon = 0.1"]),
            ("lion", &["beta_1 = 0.1", "beta_2 = 0.1"]),
            ("muon", &["momentum = 0.1", "nesterov = false"]),
        ] {
            // Lion takes signs only.
            let gradients = match name {
                "lion" => [1.0, -0.05, -0.2],
                // Of a single entry, Muon takes the sign too.
                "muon" => [1.0, -0.5, -0.2],
                _ => gradients,
            };
            let plain = stepped(&format!("name = {name:?}"), &gradients);
            for option in options {
                let gradients = if *option == "amsgrad = true" { [0.5, 1e-3, 1e-3] } else { gradients };
                let reference = if *option == "amsgrad = true" {
                    stepped("name = \"adam\"\nbeta_2 = 0.1", &gradients)
                } else {
                    plain
                };
                let extra = if *option == "amsgrad = true" { "\nbeta_2 = 0.1" } else { "" };
                assert_ne!(
                    stepped(&format!("name = {name:?}\n{option}{extra}"), &gradients),
                    reference,
                    "{name} {option}"
                );
            }
        }
        for wrong in [
            "name = \"adam\"\nbeta_1 = 1.0",
            "name = \"adam\"\nepsilon = 0.0",
            "name = \"sgd\"\nmomentum = 0.9\nnesterov = true\ndampening = 0.5",
            "name = \"lion\"\nweight_decay = -1.0",
        ] {
            let config: OptimizerConfig = toml::from_str(&format!("learning_rate = 0.1\n{wrong}")).unwrap();
            assert!(config.check().is_err(), "{wrong}");
        }
    }
}
