//! Batch norm. New neurons get gamma 1, beta 0, running mean 0 and running variance 1.
//!
//! In training mode it linearises to centring over the batch and division by `sqrt(epsilon)`: gradients are 316 times
//! larger for an epsilon of 1e-5.

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::BatchNorm;
use burn::tensor::Tensor;

use crate::modules::Norm;
use crate::modules::norm::{across, centred, normalized};
use crate::site::between::{Between, BetweenLayer, Gain, Gained, Role, Traits, gain_of};
use crate::site::signal::Signal;

impl From<&Norm> for BetweenLayer {
    fn from(norm: &Norm) -> Self {
        match norm {
            Norm::Batch(norm) => norm.into(),
            Norm::Group(norm) => norm.into(),
        }
    }
}

impl Between for BatchNorm {
    fn name(&self) -> &str {
        "batch norm"
    }

    fn applied(&self, neurons: Signal, gained: &Gained) -> Signal {
        let (gamma, beta) = (gained.of(self.gamma.id), gained.of(self.beta.id));
        match self.training.is_enabled() {
            true => neurons.map(|entries| normalized(entries, [gamma, beta], self.epsilon, false).output),
            false => neurons.scaled(frozen(self)).times_each(gamma).plus_each(beta),
        }
    }

    fn linearised(&self, neurons: Signal, _slope: f64) -> Signal {
        if !self.training.is_enabled() {
            return neurons.scaled(frozen(self));
        }
        // Near zero the variance is of the second order, so that epsilon alone is what a neuron is divided by.
        let centred = match across() {
            Some(across) => neurons.map(|entries| centred(entries, &across)),
            None => {
                let over_examples = neurons.entries().mean_dim(0);
                let mean = neurons.mean_over_positions(over_examples);
                neurons.map(|entries| entries - mean)
            }
        };
        centred.scaled(gain_of(self.epsilon))
    }

    fn gains(&self) -> Vec<Gain> {
        vec![
            Gain::scalar(&self.gamma, 1.0, Role::Factor),
            Gain::scalar(&self.beta, 0.0, Role::Summand),
            statistic(&self.running_mean, 0.0),
            statistic(&self.running_var, 1.0),
        ]
    }

    fn traits(&self) -> Traits {
        let features = Some(self.gamma.lazy_shape()[0]);
        Traits { features, norm_gain: Some(gain_of(self.epsilon)), ..Traits::default() }
    }
}

/// What it multiplies new neurons by where it is frozen: running statistics of mean 0 and variance 1.
fn frozen(norm: &BatchNorm) -> f64 {
    (1.0 + norm.epsilon).sqrt().recip()
}

/// The entries of a running statistic, whose id Burn shows to visitors only.
fn statistic<M: Module>(state: &M, value: f32) -> Gain {
    #[derive(Default)]
    struct Found(Option<Gain>, f32);
    impl ModuleVisitor for Found {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let existing = param.val();
            // Running statistics are never tracked, but lie on the device of the network, with or without automatic
            // differentiation.
            let existing = if existing.is_autodiff() { existing.inner() } else { existing };
            let length = existing.dims().iter().product::<usize>();
            let existing = existing.reshape([length]);
            let entry = vec![self.1];
            self.0 =
                Some(Gain { parameter: param.id, entry_shape: Vec::new(), entry, existing, role: Role::Statistic });
        }
    }
    let mut found = Found(None, value);
    state.visit(&mut found);
    found.0.expect("a running statistic is one tensor")
}
