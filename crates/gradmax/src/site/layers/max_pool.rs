//! Max pooling.
//!
//! At a map of zeros all entries of a window are equal, and automatic differentiation passes the gradient to one of
//! them, the first; it linearises to taking that entry. The gradient of new weights is then exactly what training sees
//! in its first step; beyond it, where entries differ, the largest one counts, as max pooling is not linear around
//! zero.

use burn::nn::PaddingConfig2d;
use burn::nn::pool::MaxPool2d;
use burn::tensor::Tensor;
use burn::tensor::module::max_pool2d_with_indices;
use burn::tensor::ops::MaxPoolOptions;

use crate::site::between::{Between, Gained, Positions, Traits};
use crate::site::signal::Signal;

impl Between for MaxPool2d {
    fn name(&self) -> &str {
        "max pool"
    }

    fn applied(&self, neurons: Signal, _gained: &Gained) -> Signal {
        Signal::of_channels(self.forward(neurons.channels::<4>()))
    }

    fn linearised(&self, neurons: Signal, _slope: f64) -> Signal {
        Signal::of_channels(taken(self, neurons.channels()))
    }

    fn traits(&self) -> Traits {
        Traits { positions: Positions::Axes(2), ..Traits::default() }
    }
}

/// The entries of maps that max pooling takes where all entries are equal.
fn taken(pool: &MaxPool2d, maps: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = maps.dims();
    let padding = [padding_of(pool, 0, height), padding_of(pool, 1, width)];
    let options = MaxPoolOptions::new(pool.kernel_size)
        .with_stride(pool.stride)
        .with_padding_pairs(padding)
        .with_dilation(pool.dilation)
        .with_ceil_mode(pool.ceil_mode);
    // Of zeros, on the device at hand: which of equal entries is taken is its own affair.
    let (pooled, indices) = max_pool2d_with_indices(maps.clone().inner().zeros_like(), options);
    let [_, _, out_height, out_width] = pooled.dims();
    let indices = indices.reshape([batch, channels, out_height * out_width]);
    let taken = maps.reshape([batch, channels, height * width]).gather(2, indices);
    taken.reshape([batch, channels, out_height, out_width])
}

/// Entries that a pool puts before and after an axis of the given length.
fn padding_of(pool: &MaxPool2d, axis: usize, length: usize) -> (usize, usize) {
    match pool.padding {
        PaddingConfig2d::Valid => (0, 0),
        PaddingConfig2d::Explicit(top, left, bottom, right) => [(top, bottom), (left, right)][axis],
        PaddingConfig2d::Same => {
            let (kernel, stride) = (pool.kernel_size[axis], pool.stride[axis]);
            let total = ((length.div_ceil(stride) - 1) * stride + kernel).saturating_sub(length);
            (total / 2, total - total / 2)
        }
    }
}
