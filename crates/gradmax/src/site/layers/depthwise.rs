//! A depthwise convolution of any stride. New neurons get a kernel of 1 at the centre and 0 elsewhere, and bias 0.

use crate::modules::DepthwiseConv2d;
use crate::site::between::{Between, Gain, Gained, Positions, Role, Traits};
use crate::site::signal::Signal;

impl Between for DepthwiseConv2d {
    fn name(&self) -> &str {
        "depthwise"
    }

    fn applied(&self, neurons: Signal, gained: &Gained) -> Signal {
        let ([height, width], count) = (self.kernel_size(), neurons.width());
        let weight = gained.of(self.weight.id).reshape([count, 1, height, width]);
        let bias = self.bias.as_ref().map(|bias| gained.of(bias.id));
        Signal::of_channels(self.convolve(neurons.channels(), weight, bias))
    }

    fn linearised(&self, neurons: Signal, _slope: f64) -> Signal {
        Signal::of_channels(self.identity(neurons.channels()))
    }

    fn gains(&self) -> Vec<Gain> {
        let [height, width] = self.kernel_size();
        let kernel = Gain {
            parameter: self.weight.id,
            entry_shape: vec![1, height, width],
            entry: self.identity_kernel(),
            existing: self.weight.val().inner().reshape([self.channels() * height * width]),
            role: Role::Factor,
        };
        let bias = self.bias.as_ref().map(|bias| Gain::scalar(bias, 0.0, Role::Summand));
        std::iter::once(kernel).chain(bias).collect()
    }

    fn traits(&self) -> Traits {
        Traits {
            features: Some(self.channels()),
            is_factor: self.keeps_all_positions(),
            positions: Positions::Axes(2),
            ..Traits::default()
        }
    }
}
