//! Depthwise convolution: every channel with a kernel of its own.

use burn::module::{Module, Param};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Slice, Tensor, TensorData};
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
        let [batch, channels, height, width] = maps.dims();
        let reached = [(0, height), (1, width)].map(|(axis, length)| self.reached(axis, length));
        // A slice costs next to nothing, where a convolution by ones and zeros costs as much as any other.
        if let [Some(rows), Some(columns)] = reached {
            return match self.keeps_all_positions() {
                true => maps,
                false => maps.slice([Slice::from(0..batch), Slice::from(0..channels), rows, columns]),
            };
        }
        let [height, width] = self.kernel_size();
        let kernel = TensorData::new(self.identity_kernel(), [1, 1, height, width]);
        let weight = Tensor::<4>::from_data(kernel, &maps.device().inner()).repeat_dim(0, channels);
        self.convolve(maps, weight, None)
    }

    /// Whether identity kernels change nothing: odd ones, stride 1 and as much padding as keeps the size.
    pub(crate) fn keeps_all_positions(&self) -> bool {
        let [height, width] = self.kernel_size();
        [height, width].into_iter().enumerate().all(|(axis, length)| {
            let reach = self.dilation[axis] * (length - 1);
            length % 2 == 1 && self.stride[axis] == 1 && 2 * self.padding[axis] == reach
        })
    }

    /// The positions along an axis that an identity kernel's centre reaches; none if it reaches into the padding.
    fn reached(&self, axis: usize, length: usize) -> Option<Slice> {
        let (kernel, stride, padding) = (self.kernel_size()[axis], self.stride[axis], self.padding[axis]);
        let first = (self.dilation[axis] * ((kernel - 1) / 2)).checked_sub(padding)?;
        let reach = self.dilation[axis] * (kernel - 1) + 1;
        let last = first + (length + 2 * padding - reach) / stride * stride;
        Some(Slice::new(first as isize, Some(last as isize + 1), stride as isize))
    }
}
