//! Layer norm over the neurons. New neurons change its statistics and so the output: a site with it is refused, unless
//! the change is accepted.

use burn::nn::LayerNorm;

use crate::site::between::{Between, Gain, Gained, OutputChange, Role, Traits, between_by_value};
use crate::site::signal::Signal;

/// A layer norm whose change of the output is accepted: the receipt states it. The growth operator passes over the
/// norm.
#[derive(Debug, Clone)]
pub struct ChangingLayerNorm(pub LayerNorm);

between_by_value!(ChangingLayerNorm);

impl Between for LayerNorm {
    fn name(&self) -> &str {
        "layer norm"
    }

    fn applied(&self, neurons: Signal, gained: &Gained) -> Signal {
        let scaled = neurons.times_each(gained.of(self.gamma.id));
        match &self.beta {
            Some(beta) => scaled.plus_each(gained.of(beta.id)),
            None => scaled,
        }
    }

    fn linearised(&self, neurons: Signal, _slope: f64) -> Signal {
        neurons
    }

    fn gains(&self) -> Vec<Gain> {
        let beta = self.beta.as_ref().map(|beta| Gain::scalar(beta, 0.0, Role::Summand));
        std::iter::once(Gain::scalar(&self.gamma, 1.0, Role::Factor)).chain(beta).collect()
    }

    fn traits(&self) -> Traits {
        let features = Some(self.gamma.lazy_shape()[0]);
        Traits { features, is_factor: true, output_change: Some(OutputChange::Refused), ..Traits::default() }
    }
}

impl Between for ChangingLayerNorm {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn applied(&self, neurons: Signal, gained: &Gained) -> Signal {
        self.0.applied(neurons, gained)
    }

    fn linearised(&self, neurons: Signal, slope: f64) -> Signal {
        self.0.linearised(neurons, slope)
    }

    fn gains(&self) -> Vec<Gain> {
        self.0.gains()
    }

    fn traits(&self) -> Traits {
        Traits { output_change: Some(OutputChange::Accepted), ..self.0.traits() }
    }
}
