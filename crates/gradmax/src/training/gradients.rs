//! Weight decay and clipping: what happens between a backward pass and the optimizer.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::event::gradients::gradient_norm;
use crate::modules::revalued;

/// How strongly weights are drawn to zero, and which.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightDecay {
    /// The rate: `rate` times a weight is added to its gradient. (A penalty of `c ||w||^2` is a rate of `2 c`.)
    pub rate: f64,
    /// Which parameters.
    #[serde(default)]
    pub on: Decayed,
    /// Whether it is decoupled from the optimizer (Loshchilov and Hutter 2019): the weight is reduced by `learning rate
    /// * rate` times itself instead.
    #[serde(default)]
    pub decoupled: bool,
}

/// Which parameters decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decayed {
    /// All.
    #[default]
    All,
    /// Weights of layers, and the parameters of norms; no biases.
    WeightsAndNorms,
    /// Weights of layers only.
    Weights,
}

impl Decayed {
    fn contains(self, rank: usize, in_norm: bool) -> bool {
        match self {
            Self::All => true,
            Self::WeightsAndNorms => rank > 1 || in_norm,
            Self::Weights => rank > 1,
        }
    }
}

impl WeightDecay {
    /// Adds the decay to gradients, if it is coupled.
    pub(crate) fn added<M: Module>(self, module: &M, gradients: GradientsParams) -> GradientsParams {
        if self.decoupled || self.rate == 0.0 {
            return gradients;
        }
        let mut adding = Adding { decay: self, gradients, containers: Vec::new() };
        module.visit(&mut adding);
        adding.gradients
    }

    /// Reduces the weights themselves, if it is decoupled.
    pub(crate) fn applied<M: Module>(self, module: M, learning_rate: f64) -> M {
        match self.decoupled && self.rate != 0.0 {
            true => module.map(&mut Reducing { decay: self, learning_rate, containers: Vec::new() }),
            false => module,
        }
    }
}

/// Whether one of the modules around is a norm.
fn in_norm(containers: &[String]) -> bool {
    // By the type's name, so that norms of users' own are found too.
    containers.iter().any(|container| container.contains("Norm"))
}

struct Adding {
    decay: WeightDecay,
    gradients: GradientsParams,
    containers: Vec<String>,
}

impl ModuleVisitor for Adding {
    fn enter_module(&mut self, _name: &str, container_type: &str) {
        self.containers.push(container_type.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.decay.on.contains(D, in_norm(&self.containers))
            && let Some(gradient) = self.gradients.remove::<D>(param.id)
        {
            let decay = param.val().inner().mul_scalar(self.decay.rate);
            self.gradients.register(param.id, gradient + decay);
        }
    }
}

struct Reducing {
    decay: WeightDecay,
    learning_rate: f64,
    containers: Vec<String>,
}

impl ModuleMapper for Reducing {
    fn enter_module(&mut self, _name: &str, container_type: &str) {
        self.containers.push(container_type.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.containers.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // Frozen parameters and running statistics are not trained.
        if !param.val().is_require_grad() || !self.decay.on.contains(D, in_norm(&self.containers)) {
            return param;
        }
        let kept = 1.0 - self.learning_rate * self.decay.rate;
        revalued(param, |weight| weight.mul_scalar(kept))
    }
}

/// Scales all gradients together, so that their norm is at most `largest`.
pub(crate) fn clipped<M: Module>(module: &M, gradients: GradientsParams, largest: f64) -> GradientsParams {
    let norm = gradient_norm(module, &gradients);
    // Where the norm is not a number, all gradients become so here, and the next loss tells.
    if norm <= largest {
        return gradients;
    }
    let mut scaling = Scaling { gradients, factor: largest / norm };
    module.visit(&mut scaling);
    scaling.gradients
}

struct Scaling {
    gradients: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scaling {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient.mul_scalar(self.factor));
        }
    }
}
