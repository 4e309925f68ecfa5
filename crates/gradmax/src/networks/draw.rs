//! Layers with weights drawn on the host.

use burn::module::Param;
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, PaddingConfig2d};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::modules::{DepthwiseConv2d, parameter};
use crate::seed::Seed;

/// A dense layer with Glorot-uniform weights (Glorot and Bengio 2010) and zero biases.
pub(super) fn glorot_dense([inputs, outputs]: [usize; 2], bias: bool, seed: Seed, device: &Device) -> Linear {
    let limit = (6.0 / (inputs + outputs) as f32).sqrt();
    let mut rng = seed.rng();
    let weights = (0..inputs * outputs).map(|_| rng.random_range(-limit..limit)).collect::<Vec<_>>();
    dense(weights, [inputs, outputs], bias, device)
}

/// A dense layer with normal weights of variance `2 / inputs` (He et al. 2015) and zero biases.
pub(super) fn he_dense([inputs, outputs]: [usize; 2], bias: bool, seed: Seed, device: &Device) -> Linear {
    dense(he_normal(inputs * outputs, inputs, seed), [inputs, outputs], bias, device)
}

fn dense(weights: Vec<f32>, shape: [usize; 2], bias: bool, device: &Device) -> Linear {
    let weight = Tensor::from_data(TensorData::new(weights, shape), device);
    Linear { weight: parameter(weight), bias: bias.then(|| zeros(shape[1], device)) }
}

/// The geometry of a convolution, the same along height and width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) dilation: usize,
    pub(super) groups: usize,
}

impl Geometry {
    /// A kernel of odd size that keeps the size of maps at stride 1.
    pub(super) fn same(kernel: usize, stride: usize) -> Self {
        Self { kernel, stride, padding: kernel / 2, dilation: 1, groups: 1 }
    }
}

/// A convolution with normal weights of variance `2 / fan_in` (He et al. 2015) and zero biases.
pub(super) fn he_conv(
    [inputs, outputs]: [usize; 2],
    geometry: Geometry,
    bias: bool,
    seed: Seed,
    device: &Device,
) -> Conv2d {
    let Geometry { kernel, stride, padding, dilation, groups } = geometry;
    let shape = [outputs, inputs / groups, kernel, kernel];
    let weights = he_normal(shape.iter().product(), shape[1..].iter().product(), seed);
    Conv2d {
        weight: parameter(Tensor::from_data(TensorData::new(weights, shape), device)),
        bias: bias.then(|| zeros(outputs, device)),
        stride: [stride; 2],
        kernel_size: [kernel; 2],
        dilation: [dilation; 2],
        groups,
        padding: PaddingConfig2d::Explicit(padding, padding, padding, padding),
    }
}

/// A depthwise convolution with normal weights of variance `2 / kernel^2`, without biases.
pub(super) fn he_depthwise(channels: usize, geometry: Geometry, seed: Seed, device: &Device) -> DepthwiseConv2d {
    let Geometry { kernel, stride, padding, dilation, .. } = geometry;
    let weights = he_normal(channels * kernel * kernel, kernel * kernel, seed);
    DepthwiseConv2d {
        weight: parameter(Tensor::from_data(TensorData::new(weights, [channels, 1, kernel, kernel]), device)),
        bias: None,
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [dilation; 2],
    }
}

fn he_normal(count: usize, fan_in: usize, seed: Seed) -> Vec<f32> {
    // A rectifier lets half of the variance through, which the factor of 2 makes up for.
    let deviation = (2.0 / fan_in.max(1) as f32).sqrt();
    let mut rng = seed.rng();
    (0..count).map(|_| -> f32 { StandardNormal.sample(&mut rng) }).map(|drawn| drawn * deviation).collect()
}

fn zeros(count: usize, device: &Device) -> Param<Tensor<1>> {
    parameter(Tensor::zeros([count], device))
}
