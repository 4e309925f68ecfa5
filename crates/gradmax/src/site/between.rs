//! What lies between a producer and a consumer, and what becomes of it at zero.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::nn::pool::{AdaptiveAvgPool2d, AvgPool2d, MaxPool2d};
use burn::nn::{BatchNorm, LayerNorm, PaddingConfig2d};
use burn::tensor::module::max_pool2d_with_indices;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};

use crate::modules::{DepthwiseConv2d, Dropout, GroupNorm, Norm};
use crate::site::activation::Activation;
use crate::site::signal::{Signal, map_tensor};

/// Something between a producer and a consumer.
///
/// A new neuron with zero incoming weights is zero everywhere, so only what each of these does near zero matters to
/// growth: its *linearisation* there, which every variant states.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Between {
    /// One of this crate's activations: multiplication by its slope at zero.
    Activation(Activation),
    /// An elementwise function of the user's own: multiplication by its slope at zero.
    Elementwise {
        /// The name to use in messages.
        name: &'static str,
        /// The function, on a flat tensor.
        function: fn(Tensor<1>) -> Tensor<1>,
    },
    /// Batch norm. New neurons get gamma 1, beta 0, running mean 0 and running variance 1. In training mode it
    /// linearises to centring over the batch and division by `sqrt(epsilon)`: gradients are 316 times larger for an
    /// epsilon of 1e-5.
    BatchNorm(BatchNorm),
    /// Group norm, its group size kept: new neurons form new groups, gamma 1 and beta 0. It linearises to centring over
    /// the group and division by `sqrt(epsilon)`; the growth operator takes each neuron as if the others of its group
    /// were silent.
    GroupNorm(GroupNorm),
    /// Layer norm over the neurons. New neurons change its statistics and so the output: a site with it is refused,
    /// unless the change is accepted. The growth operator then passes over it.
    LayerNorm(LayerNorm, OutputChange),
    /// A depthwise convolution of any stride. New neurons get a kernel of 1 at the centre and 0 elsewhere, and bias 0.
    Depthwise(DepthwiseConv2d),
    /// Average pooling, which is linear.
    AvgPool2d(AvgPool2d),
    /// Average pooling to a given size, which is linear.
    AdaptiveAvgPool2d(AdaptiveAvgPool2d),
    /// Max pooling. At a map of zeros all entries of a window are equal, and automatic differentiation passes the
    /// gradient to one of them, the first; it linearises to taking that entry. The gradient of new weights is then
    /// exactly what training will see in its first step; beyond it, where entries differ, the largest one counts, as
    /// max pooling is not linear around zero.
    MaxPool2d(MaxPool2d),
    /// The mean over the positions of maps, which become vectors.
    GlobalAverage,
    /// Maps become vectors, the positions of a channel side by side.
    Flatten,
    /// Dropout. It linearises to its mean, the identity: the gradient of new weights is then what training sees in the
    /// mean, not in its first step.
    Dropout,
    /// From here on, the neurons lie beside others: `before` channels come before them, `after` channels after them.
    /// What follows (norms, depthwise convolutions, the consumer) reads them all together. For concatenations.
    Beside {
        /// Channels before the neurons.
        before: usize,
        /// Channels after them.
        after: usize,
    },
}

/// Whether growth may change the output of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputChange {
    /// It may not: the site is refused.
    Refused,
    /// It may; the receipt states by how much.
    Accepted,
}

/// A function's value and slope at zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AtZero {
    /// `f(0)`.
    pub value: f64,
    /// `f'(0)`, as automatic differentiation gives it.
    pub slope: f64,
}

/// Entries that a layer between gains for each feature of a new neuron.
pub(crate) struct Fresh {
    pub(crate) parameter: ParamId,
    /// The shape of one entry, behind the neurons' axis 0.
    pub(crate) entry_shape: Vec<usize>,
    /// One entry, of a neuron that is new.
    pub(crate) entry: Vec<f32>,
    /// The entries of the existing ones, flat.
    pub(crate) existing: Tensor<1>,
    pub(crate) role: Role,
}

/// What an entry does with what the neuron is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is trained, and multiplies it.
    Factor,
    /// It is trained, and is added to it.
    Summand,
    /// It is a running statistic.
    Statistic,
}

impl Fresh {
    pub(crate) fn is_trained(&self) -> bool {
        self.role != Role::Statistic
    }
}

/// Trained fresh entries of all new neurons, flat, as leaves of automatic differentiation.
pub(crate) type FreshLeaves = BTreeMap<ParamId, Tensor<1>>;

macro_rules! between_from {
    ($($module:ident),*) => {$(
        impl From<&$module> for Between {
            fn from(module: &$module) -> Self {
                Self::$module(module.clone())
            }
        }
    )*};
}

between_from!(BatchNorm, GroupNorm, AvgPool2d, AdaptiveAvgPool2d, MaxPool2d);

impl From<&Dropout> for Between {
    fn from(_: &Dropout) -> Self {
        Self::Dropout
    }
}

impl From<&burn::nn::Dropout> for Between {
    fn from(_: &burn::nn::Dropout) -> Self {
        Self::Dropout
    }
}

impl From<&DepthwiseConv2d> for Between {
    fn from(module: &DepthwiseConv2d) -> Self {
        Self::Depthwise(module.clone())
    }
}

impl From<&Norm> for Between {
    fn from(norm: &Norm) -> Self {
        match norm {
            Norm::Batch(norm) => norm.into(),
            Norm::Group(norm) => norm.into(),
        }
    }
}

impl From<Activation> for Between {
    fn from(activation: Activation) -> Self {
        Self::Activation(activation)
    }
}

/// What lies between a producer and a consumer, in order: a tuple of up to six layers and activations, an array of one
/// kind, or a vector.
///
/// `(&norm, Activation::Relu)`, `[Activation::Relu]` and `vec![Between::Flatten]` are such.
pub trait IntoBetween {
    /// The layers in order.
    fn into_between(self) -> Vec<Between>;
}

impl<B: Into<Between>, const N: usize> IntoBetween for [B; N] {
    fn into_between(self) -> Vec<Between> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<B: Into<Between>> IntoBetween for Vec<B> {
    fn into_between(self) -> Vec<Between> {
        self.into_iter().map(Into::into).collect()
    }
}

macro_rules! tuple_into_between {
    ($($layer:ident),+) => {
        impl<$($layer: Into<Between>),+> IntoBetween for ($($layer,)+) {
            fn into_between(self) -> Vec<Between> {
                #[allow(non_snake_case)]
                let ($($layer,)+) = self;
                vec![$($layer.into()),+]
            }
        }
    };
}

tuple_into_between!(A);
tuple_into_between!(A, B);
tuple_into_between!(A, B, C);
tuple_into_between!(A, B, C, D);
tuple_into_between!(A, B, C, D, E);
tuple_into_between!(A, B, C, D, E, F);

impl Between {
    /// The name to use in messages.
    pub fn name(&self) -> &str {
        match self {
            Self::Activation(activation) => activation.name(),
            Self::Elementwise { name, .. } => name,
            Self::BatchNorm(_) => "batch norm",
            Self::GroupNorm(_) => "group norm",
            Self::LayerNorm(..) => "layer norm",
            Self::Depthwise(_) => "depthwise",
            Self::AvgPool2d(_) | Self::AdaptiveAvgPool2d(_) => "average pool",
            Self::MaxPool2d(_) => "max pool",
            Self::GlobalAverage => "global average",
            Self::Flatten => "flatten",
            Self::Dropout => "dropout",
            Self::Beside { .. } => "concatenation",
        }
    }

    /// Whether it divides neurons by their own spread, which is 0 for neurons with zero incoming weights.
    pub fn is_norm(&self) -> bool {
        matches!(self, Self::BatchNorm(_) | Self::GroupNorm(_) | Self::LayerNorm(..))
    }

    /// Whether it linearises to one factor for all entries.
    pub(crate) fn is_factor(&self) -> bool {
        match self {
            Self::Activation(_) | Self::Elementwise { .. } => true,
            Self::LayerNorm(..) | Self::Dropout | Self::Beside { .. } => true,
            Self::Depthwise(conv) => conv.keeps_all_positions(),
            _ => false,
        }
    }

    /// What a norm multiplies gradients of silent neurons by.
    pub(crate) fn norm_gain(&self) -> Option<f64> {
        match self {
            Self::BatchNorm(norm) => Some(gain_of(norm.epsilon)),
            Self::GroupNorm(norm) => Some(gain_of(norm.epsilon)),
            _ => None,
        }
    }

    /// Number of features that it is made for, if it has parameters.
    pub(crate) fn features(&self) -> Option<usize> {
        match self {
            Self::BatchNorm(norm) => Some(norm.gamma.lazy_shape()[0]),
            Self::GroupNorm(norm) => Some(norm.channels()),
            Self::LayerNorm(norm, _) => Some(norm.gamma.lazy_shape()[0]),
            Self::Depthwise(conv) => Some(conv.channels()),
            _ => None,
        }
    }

    /// What it gains for each feature of a new neuron.
    pub(crate) fn fresh(&self) -> Vec<Fresh> {
        let scalar = |(parameter, existing): (ParamId, Tensor<1>), value, role| Fresh {
            parameter,
            entry_shape: Vec::new(),
            entry: vec![value],
            existing,
            role,
        };
        let of = |param: &Param<Tensor<1>>| (param.id, param.val().inner());
        match self {
            Self::BatchNorm(norm) => vec![
                scalar(of(&norm.gamma), 1.0, Role::Factor),
                scalar(of(&norm.beta), 0.0, Role::Summand),
                scalar(statistic(&norm.running_mean), 0.0, Role::Statistic),
                scalar(statistic(&norm.running_var), 1.0, Role::Statistic),
            ],
            Self::GroupNorm(norm) => {
                vec![scalar(of(&norm.gamma), 1.0, Role::Factor), scalar(of(&norm.beta), 0.0, Role::Summand)]
            }
            Self::LayerNorm(norm, _) => {
                let beta = norm.beta.as_ref().map(|beta| scalar(of(beta), 0.0, Role::Summand));
                std::iter::once(scalar(of(&norm.gamma), 1.0, Role::Factor)).chain(beta).collect()
            }
            Self::Depthwise(conv) => {
                let [height, width] = conv.kernel_size();
                let (entry_shape, entry) = (vec![1, height, width], conv.identity_kernel());
                let existing = conv.weight.val().inner().reshape([conv.channels() * height * width]);
                let kernel = Fresh { parameter: conv.weight.id, entry_shape, entry, existing, role: Role::Factor };
                let bias = conv.bias.as_ref().map(|bias| scalar(of(bias), 0.0, Role::Summand));
                std::iter::once(kernel).chain(bias).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Value and slope at zero of an activation or elementwise function, measured by running it: nothing about it is
    /// taken on trust. None for everything else.
    pub fn at_zero(&self, device: &Device) -> Option<AtZero> {
        let function = |zero: Tensor<1>| match self {
            Self::Activation(activation) => Some(activation.apply(zero)),
            Self::Elementwise { function, .. } => Some(function(zero)),
            _ => None,
        };
        let zero = Tensor::<1>::zeros([1], &device.clone().inner()).autodiff().require_grad();
        let value = function(zero.clone())?;
        let slope = match value.is_tracked() {
            true => zero.grad(&value.clone().sum().backward()).map_or(0.0, |slope| slope.into_scalar::<f64>()),
            false => 0.0,
        };
        Some(AtZero { value: value.inner().into_scalar::<f64>(), slope })
    }

    /// Its linearisation at zero, for new neurons; `slope` is that of [`at_zero`](Self::at_zero).
    pub(crate) fn linearised(&self, neurons: Signal, slope: f64) -> Signal {
        match self {
            Self::Activation(_) | Self::Elementwise { .. } => neurons.scaled(slope),
            Self::BatchNorm(norm) if norm.training.is_enabled() => {
                let centred = map_tensor!(neurons, tensor => {
                    let mean = mean_over(tensor.clone(), |axis| axis != 1);
                    tensor - mean
                });
                centred.scaled(gain_of(norm.epsilon))
            }
            // Frozen: running statistics of mean 0 and variance 1.
            Self::BatchNorm(norm) => neurons.scaled((1.0 + norm.epsilon).sqrt().recip()),
            Self::GroupNorm(norm) => {
                let share = (norm.group_size as f64).recip();
                let centred = map_tensor!(neurons, tensor => {
                    let mean = mean_over(tensor.clone(), |axis| axis > 1);
                    tensor - mean.mul_scalar(share)
                });
                centred.scaled(gain_of(norm.epsilon))
            }
            Self::LayerNorm(..) | Self::Dropout => neurons,
            Self::Depthwise(conv) => Signal::Maps(conv.identity(neurons.maps())),
            Self::MaxPool2d(pool) => Signal::Maps(taken_by_max_pool(pool, neurons.maps())),
            _ => self.applied(neurons, &FreshLeaves::new()),
        }
    }

    /// What it does with new neurons, in training mode, given the entries it has for them.
    pub(crate) fn applied(&self, neurons: Signal, fresh: &FreshLeaves) -> Signal {
        let count = neurons.width();
        let of = |id: ParamId| fresh[&id].clone();
        match self {
            Self::Activation(activation) => map_tensor!(neurons, tensor => activation.apply(tensor)),
            Self::Elementwise { function, .. } => map_tensor!(neurons, tensor => {
                let dims = tensor.dims();
                function(tensor.reshape([dims.iter().product::<usize>()])).reshape(dims)
            }),
            Self::BatchNorm(norm) if norm.training.is_enabled() => map_tensor!(neurons, tensor => {
                flexconv::batch_norm_train(tensor, of(norm.gamma.id), of(norm.beta.id), norm.epsilon, false).output
            }),
            Self::BatchNorm(norm) => {
                let scale = (1.0 + norm.epsilon).sqrt().recip();
                times(neurons.scaled(scale), of(norm.gamma.id)).plus_bias(of(norm.beta.id))
            }
            Self::GroupNorm(norm) => map_tensor!(neurons, tensor => {
                norm.normalise(tensor, of(norm.gamma.id), of(norm.beta.id))
            }),
            Self::LayerNorm(norm, _) => {
                let scaled = times(neurons, of(norm.gamma.id));
                match &norm.beta {
                    Some(beta) => scaled.plus_bias(of(beta.id)),
                    None => scaled,
                }
            }
            Self::Depthwise(conv) => {
                let [height, width] = conv.kernel_size();
                let weight = of(conv.weight.id).reshape([count, 1, height, width]);
                let bias = conv.bias.as_ref().map(|bias| of(bias.id));
                Signal::Maps(conv.convolve(neurons.maps(), weight, bias))
            }
            Self::AvgPool2d(pool) => Signal::Maps(pool.forward(neurons.maps())),
            Self::AdaptiveAvgPool2d(pool) => Signal::Maps(pool.forward(neurons.maps())),
            Self::MaxPool2d(pool) => Signal::Maps(pool.forward(neurons.maps())),
            Self::GlobalAverage => Signal::Vectors(global_average(neurons.maps())),
            Self::Flatten => Signal::Vectors(neurons.flattened()),
            Self::Dropout | Self::Beside { .. } => neurons,
        }
    }
}

/// The mean over the positions of maps: `[batch, channels, height, width]` to `[batch, channels]`.
pub fn global_average(maps: Tensor<4>) -> Tensor<2> {
    let [batch, channels, _, _] = maps.dims();
    maps.mean_dim(3).mean_dim(2).reshape([batch, channels])
}

/// What a norm with this epsilon multiplies by where the variance is 0.
fn gain_of(epsilon: f64) -> f64 {
    epsilon.sqrt().recip()
}

/// Multiplies each neuron by its own factor: `[neurons]`.
fn times(neurons: Signal, factors: Tensor<1>) -> Signal {
    let [count] = factors.dims();
    match neurons {
        Signal::Vectors(tensor) => Signal::Vectors(tensor * factors.reshape([1, count])),
        Signal::Maps(tensor) => Signal::Maps(tensor * factors.reshape([1, count, 1, 1])),
    }
}

/// Means over some axes, which keep length 1.
fn mean_over<const D: usize>(tensor: Tensor<D>, over: impl Fn(usize) -> bool) -> Tensor<D> {
    (0..D).filter(|axis| over(*axis)).fold(tensor, |tensor, axis| tensor.mean_dim(axis))
}

/// The entries of maps that max pooling takes where all entries are equal.
fn taken_by_max_pool(pool: &MaxPool2d, maps: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = maps.dims();
    let padding = [padding_of(pool, 0, height), padding_of(pool, 1, width)];
    let options = MaxPoolOptions::new(pool.kernel_size)
        .with_stride(pool.stride)
        .with_padding_pairs(padding)
        .with_dilation(pool.dilation)
        .with_ceil_mode(pool.ceil_mode);
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

/// A running statistic and its id, which Burn shows to visitors only.
fn statistic<M: Module>(state: &M) -> (ParamId, Tensor<1>) {
    #[derive(Default)]
    struct Found(Option<(ParamId, Tensor<1>)>);
    impl ModuleVisitor for Found {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            let value = if value.is_autodiff() { value.inner() } else { value };
            let length = value.dims().iter().product::<usize>();
            self.0 = Some((param.id, value.reshape([length])));
        }
    }
    let mut found = Found::default();
    state.visit(&mut found);
    found.0.expect("a running statistic is one tensor")
}
