//! Depthwise convolution: every channel with a kernel of its own.

use burn::module::{Module, Param};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, TensorData};
use flexconv::{Joined, conv2d};

/// A two-dimensional depthwise convolution. Its number of channels is that of its weight.
#[derive(Module, Debug)]
pub struct DepthwiseConv2d {
    /// A kernel for each channel: `[channels, 1, height, width]`.
    pub weight: Param<Tensor<4>>,
    /// A value for each channel.
    pub bias: Option<Param<Tensor<1>>>,
    /// Stride along height and width.
    pub stride: [usize; 2],
    /// Zeros around the maps: above and below, left and right.
    pub padding: [usize; 2],
    /// Dilation along height and width.
    pub dilation: [usize; 2],
}

impl DepthwiseConv2d {
    /// Applies the convolution: `[batch, channels, height, width]` to maps of as many channels.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.convolve(input, self.weight.val(), self.bias.as_ref().map(|bias| bias.val()))
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.weight.lazy_shape()[0]
    }

    /// Height and width of the kernels.
    pub fn kernel_size(&self) -> [usize; 2] {
        let [_, _, height, width] = self.weight.dims();
        [height, width]
    }

    /// The same geometry with other weights.
    pub(crate) fn convolve(&self, input: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>) -> Tensor<4> {
        let channels = weight.dims()[0];
        let options = ConvOptions::new(self.stride, self.padding, self.dilation, channels);
        conv2d(input, weight, bias, options, Joined::default())
    }

    /// A kernel of 1 at the centre and 0 elsewhere, flat.
    pub(crate) fn identity_kernel(&self) -> Vec<f32> {
        let [height, width] = self.kernel_size();
        let mut kernel = vec![0.0; height * width];
        kernel[(height - 1) / 2 * width + (width - 1) / 2] = 1.0;
        kernel
    }

    /// What identity kernels do with maps: they keep the positions that the stride reaches.
    pub(crate) fn identity(&self, maps: Tensor<4>) -> Tensor<4> {
        let [height, width] = self.kernel_size();
        let channels = maps.dims()[1];
        let kernel = TensorData::new(self.identity_kernel(), [1, 1, height, width]);
        let weight = Tensor::<4>::from_data(kernel, &maps.device().inner()).repeat_dim(0, channels);
        self.convolve(maps, weight, None)
    }
}
