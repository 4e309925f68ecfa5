//! Group norm whose group size is kept when channels are added (Wu and He 2018).

use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// Normalises groups of channels of each example to mean 0 and variance 1, then scales and shifts each channel.
///
/// The number of channels is that of gamma; new channels form new groups.
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// A factor for each channel.
    pub gamma: Param<Tensor<1>>,
    /// A summand for each channel.
    pub beta: Param<Tensor<1>>,
    /// Channels in a group.
    pub group_size: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

impl GroupNorm {
    /// Applies the norm to `[batch, channels, ...]`.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.normalise(input, self.gamma.val(), self.beta.val())
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.gamma.lazy_shape()[0]
    }

    /// The norm with other factors and summands, for as many channels.
    pub(crate) fn normalise<const D: usize>(&self, input: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>) -> Tensor<D> {
        let dims = input.dims();
        let (batch, channels) = (dims[0], dims[1]);
        let groups = channels / self.group_size;
        let grouped = input.reshape([batch, groups, dims[1..].iter().product::<usize>() / groups]);
        // In two passes: the mean of squares less the squared mean would lose the digits of inputs far from zero.
        let centred = grouped.clone() - grouped.mean_dim(2);
        let deviation = centred.clone().square().mean_dim(2).add_scalar(self.epsilon).sqrt();
        let mut each_channel = [1; D];
        each_channel[1] = channels;
        (centred / deviation).reshape(dims) * gamma.reshape(each_channel) + beta.reshape(each_channel)
    }
}
