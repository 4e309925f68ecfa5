//! Average pooling, which is linear.

use burn::nn::pool::{AdaptiveAvgPool2d, AvgPool2d};
use burn::tensor::Tensor;

use crate::site::between::{Between, Gained, Positions, Traits, between_by_value};
use crate::site::signal::Signal;

const NAME: &str = "average pool";

fn of_maps() -> Traits {
    Traits { positions: Positions::Axes(2), ..Traits::default() }
}

impl Between for AvgPool2d {
    fn name(&self) -> &str {
        NAME
    }

    fn applied(&self, neurons: Signal, _gained: &Gained) -> Signal {
        Signal::of_channels(self.forward(neurons.channels::<4>()))
    }

    fn traits(&self) -> Traits {
        of_maps()
    }
}

impl Between for AdaptiveAvgPool2d {
    fn name(&self) -> &str {
        NAME
    }

    fn applied(&self, neurons: Signal, _gained: &Gained) -> Signal {
        Signal::of_channels(self.forward(neurons.channels::<4>()))
    }

    fn traits(&self) -> Traits {
        of_maps()
    }
}

/// The mean over all positions, such as [`global_average`] takes of maps.
#[derive(Debug, Clone, Copy)]
pub struct GlobalAverage;

between_by_value!(GlobalAverage);

impl Between for GlobalAverage {
    fn name(&self) -> &str {
        "global average"
    }

    fn applied(&self, neurons: Signal, _gained: &Gained) -> Signal {
        // Axis by axis from the last, as `global_average` does.
        let axes = neurons.positions().to_vec();
        let [examples, width, mut left] = neurons.entries().dims();
        let mut entries = neurons.entries();
        for length in axes.into_iter().rev() {
            left /= length;
            entries = entries.reshape([examples, width * left, length]).mean_dim(2).reshape([examples, width, left]);
        }
        Signal::of_features(entries.reshape([examples, width]))
    }

    fn traits(&self) -> Traits {
        Traits { positions: Positions::Averaged, ..Traits::default() }
    }
}

/// The mean over the positions of maps: `[batch, channels, height, width]` to `[batch, channels]`.
pub fn global_average(maps: Tensor<4>) -> Tensor<2> {
    let [batch, channels, _, _] = maps.dims();
    maps.mean_dim(3).mean_dim(2).reshape([batch, channels])
}
