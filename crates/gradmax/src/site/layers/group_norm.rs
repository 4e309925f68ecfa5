//! Group norm, its group size kept: new neurons form new groups, gamma 1 and beta 0.
//!
//! It linearises to centring over the group and division by `sqrt(epsilon)`; the growth operator takes each neuron as
//! if the others of its group were silent.

use crate::modules::GroupNorm;
use crate::site::between::{Between, Gain, Gained, Role, Traits, gain_of};
use crate::site::signal::Signal;

impl Between for GroupNorm {
    fn name(&self) -> &str {
        "group norm"
    }

    fn applied(&self, neurons: Signal, gained: &Gained) -> Signal {
        let (gamma, beta) = (gained.of(self.gamma.id), gained.of(self.beta.id));
        neurons.map(|entries| self.normalise(entries, gamma, beta))
    }

    fn linearised(&self, neurons: Signal, _slope: f64) -> Signal {
        // The others of the group count as zeros in the mean.
        let share = (self.group_size as f64).recip();
        let mean = neurons.mean_over_positions(neurons.entries()).mul_scalar(share);
        neurons.map(|entries| entries - mean).scaled(gain_of(self.epsilon))
    }

    fn gains(&self) -> Vec<Gain> {
        vec![Gain::scalar(&self.gamma, 1.0, Role::Factor), Gain::scalar(&self.beta, 0.0, Role::Summand)]
    }

    fn traits(&self) -> Traits {
        Traits {
            features: Some(self.channels()),
            norm_gain: Some(gain_of(self.epsilon)),
            group_size: self.group_size,
            ..Traits::default()
        }
    }
}
