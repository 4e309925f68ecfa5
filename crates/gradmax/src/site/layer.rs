//! A layer that produces or consumes neurons: where its weights lie, and its own arithmetic with other weights.

use burn::module::{Param, ParamId};
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, PaddingConfig2d};
use burn::optim::GradientsParams;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, TensorData};
use flexconv::{conv2d_input_gradient, conv2d_weight_gradient, convolve, linear};

use crate::matrix::{Matrix, entries};
use crate::site::extension::Extension;
use crate::site::signal::Signal;

/// A layer at one end of a site, held by value: its parameter ids say which parameters of the network are meant.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Layer {
    /// A dense layer; a neuron is a unit.
    Dense(Linear),
    /// A two-dimensional convolution of any kernel, stride, padding, dilation and groups; a neuron is a channel.
    Conv2d(Conv2d),
}

impl From<&Linear> for Layer {
    fn from(linear: &Linear) -> Self {
        Self::Dense(linear.clone())
    }
}

impl From<&Conv2d> for Layer {
    fn from(conv: &Conv2d) -> Self {
        Self::Conv2d(conv.clone())
    }
}

impl Layer {
    /// Number of features or channels that the layer reads.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Dense(linear) => linear.weight.lazy_shape()[0],
            Self::Conv2d(conv) => conv.weight.lazy_shape()[1] * conv.groups,
        }
    }

    /// Number of neurons that the layer computes.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Dense(linear) => linear.weight.lazy_shape()[1],
            Self::Conv2d(conv) => conv.weight.lazy_shape()[0],
        }
    }

    /// Number of groups that its inputs and outputs fall into, each read and computed apart from the others.
    pub fn groups(&self) -> usize {
        match self {
            Self::Dense(_) => 1,
            Self::Conv2d(conv) => conv.groups,
        }
    }

    /// Weights between one input and one output.
    fn taps(&self) -> usize {
        match self {
            Self::Dense(_) => 1,
            Self::Conv2d(conv) => conv.kernel_size.iter().product(),
        }
    }

    /// Incoming weights of one neuron of this layer, as a producer, kernel sizes included (bias not counted).
    pub fn fan_in(&self) -> usize {
        self.inputs() / self.groups() * self.taps()
    }

    /// Weights out of one input of this layer, as a consumer, kernel sizes included.
    pub fn fan_out(&self) -> usize {
        self.outputs() / self.groups() * self.taps()
    }

    /// The id of the weight.
    pub fn weight(&self) -> ParamId {
        match self {
            Self::Dense(linear) => linear.weight.id,
            Self::Conv2d(conv) => conv.weight.id,
        }
    }

    /// The id of the bias, if the layer has one.
    pub fn bias(&self) -> Option<ParamId> {
        match self {
            Self::Dense(linear) => linear.bias.as_ref().map(|bias| bias.id),
            Self::Conv2d(conv) => conv.bias.as_ref().map(|bias| bias.id),
        }
    }

    /// Whether a signal has the rank that the layer reads and writes.
    pub(crate) fn fits(&self, signal: &Signal) -> bool {
        matches!((self, signal), (Self::Dense(_), Signal::Vectors(_)) | (Self::Conv2d(_), Signal::Maps(_)))
    }

    /// Incoming weights of the existing neurons, as a producer: `[outputs, fan_in]`.
    pub(crate) fn incoming_weights(&self) -> Tensor<2> {
        let shape = [self.outputs(), self.fan_in()];
        match self {
            Self::Dense(linear) => linear.weight.val().inner().transpose(),
            Self::Conv2d(conv) => conv.weight.val().inner().reshape(shape),
        }
    }

    /// Gradients of the incoming weights, as a producer: `[outputs, fan_in]`; none if the weights are not trained.
    pub(crate) fn incoming_gradients(&self, gradients: &GradientsParams) -> Option<Tensor<2>> {
        let shape = [self.outputs(), self.fan_in()];
        match self {
            Self::Dense(linear) => gradients.get::<2>(linear.weight.id).map(Tensor::transpose),
            Self::Conv2d(conv) => gradients.get::<4>(conv.weight.id).map(|gradient| gradient.reshape(shape)),
        }
    }

    /// The biases of the existing neurons, as a producer: `[outputs]`.
    pub(crate) fn biases(&self) -> Option<Tensor<1>> {
        let bias = match self {
            Self::Dense(linear) => linear.bias.as_ref(),
            Self::Conv2d(conv) => conv.bias.as_ref(),
        };
        bias.map(|bias| bias.val().inner())
    }

    /// Weights out of each input, as a consumer: `[inputs, fan_out]`.
    pub(crate) fn outgoing_weights(&self) -> Tensor<2> {
        match self {
            Self::Dense(linear) => linear.weight.val().inner(),
            Self::Conv2d(conv) => self.by_input(conv, conv.weight.val().inner()),
        }
    }

    /// Gradients of the weights out of each input, as a consumer: `[inputs, fan_out]`; none if the weights are not
    /// trained.
    pub(crate) fn outgoing_gradients(&self, gradients: &GradientsParams) -> Option<Tensor<2>> {
        match self {
            Self::Dense(linear) => gradients.get(linear.weight.id),
            Self::Conv2d(conv) => gradients.get(conv.weight.id).map(|gradient| self.by_input(conv, gradient)),
        }
    }

    /// Entries of a convolution's weight by the input that they belong to.
    fn by_input(&self, conv: &Conv2d, weight: Tensor<4>) -> Tensor<2> {
        let [outputs, inputs, height, width] = weight.dims();
        let grouped = weight.reshape([conv.groups, outputs / conv.groups, inputs, height * width]);
        grouped.permute([0, 2, 1, 3]).reshape([self.inputs(), self.fan_out()])
    }

    /// Extensions that give this producer new neurons before the output `at`: `incoming` `[count, fan_in]` and a bias
    /// each.
    pub(crate) fn extend_as_producer(
        &self,
        at: usize,
        incoming: &Matrix,
        bias: &[f64],
    ) -> (Extension, Option<Extension>) {
        let (parameter, length, count) = (self.weight(), self.outputs(), incoming.nrows());
        let weight = match self {
            Self::Dense(_) => {
                let values = TensorData::new(entries(incoming.transpose()), [incoming.ncols(), count]);
                Extension { parameter, axis: 1, length, at, values, copies: Vec::new() }
            }
            Self::Conv2d(conv) => {
                let [_, inputs, height, width] = conv.weight.dims();
                let values = TensorData::new(entries(incoming.as_ref()), [count, inputs, height, width]);
                Extension { parameter, axis: 0, length, at, values, copies: Vec::new() }
            }
        };
        let bias = self.bias().map(|parameter| Extension {
            parameter,
            axis: 0,
            length,
            at,
            values: TensorData::new(bias.iter().map(|b| *b as f32).collect(), [count]),
            copies: Vec::new(),
        });
        (weight, bias)
    }

    /// The extension that makes this consumer read new neurons before the input `at` of each group.
    ///
    /// `outgoing` has a matrix for each group, `[fan_out * positions, count]`, where `positions` features of a neuron
    /// lie side by side.
    pub(crate) fn extend_as_consumer(&self, at: usize, outgoing: &[&Matrix], positions: usize) -> Extension {
        let parameter = self.weight();
        let count = outgoing[0].ncols();
        match self {
            Self::Dense(linear) => {
                let [length, outputs] = linear.weight.dims();
                let values = TensorData::new(entries(outgoing[0].transpose()), [count * positions, outputs]);
                Extension { parameter, axis: 0, length, at, values, copies: Vec::new() }
            }
            Self::Conv2d(conv) => {
                let [outputs, length, height, width] = conv.weight.dims();
                let taps = height * width;
                let mut values = Vec::with_capacity(outputs * count * taps);
                for output in 0..outputs {
                    let (group, within) = (output * conv.groups / outputs, output % (outputs / conv.groups));
                    for neuron in 0..count {
                        let weight = |tap: usize| outgoing[group][(within * taps + tap, neuron)] as f32;
                        values.extend((0..taps).map(weight));
                    }
                }
                let values = TensorData::new(values, [outputs, count, height, width]);
                Extension { parameter, axis: 1, length, at, values, copies: Vec::new() }
            }
        }
    }

    /// The arithmetic of one group of this producer with other weights: a signal and `[count, fan_in]` to one of width
    /// `count`.
    pub(crate) fn produce(&self, input: Signal, incoming: Tensor<2>) -> Signal {
        match (self, input) {
            (layer, Signal::Vectors(input)) if layer.is_pointwise() => {
                Signal::Vectors(linear(input, incoming.transpose(), None))
            }
            (Self::Conv2d(conv), Signal::Maps(input)) => {
                let [_, inputs, height, width] = conv.weight.dims();
                let weight = incoming.clone().reshape([incoming.dims()[0], inputs, height, width]);
                Signal::Maps(convolve(&with_weight(conv, weight), input))
            }
            (_, input) => wrong_signal(&input),
        }
    }

    /// The arithmetic of one group of this consumer with other weights: a signal of width `count` and
    /// `[fan_out * positions, count]` to the group's outputs.
    pub(crate) fn consume(&self, input: Signal, outgoing: Tensor<2>) -> Signal {
        match (self, input) {
            (Self::Dense(_), Signal::Vectors(input)) => {
                Signal::Vectors(linear(input, dense_weight(outgoing, self.outputs()), None))
            }
            (Self::Conv2d(conv), Signal::Maps(input)) => {
                Signal::Maps(convolve(&with_weight(conv, consumer_weight(conv, outgoing)), input))
            }
            (_, input) => wrong_signal(&input),
        }
    }
}

/// Derivatives of what [`Layer::produce`] and [`Layer::consume`] compute, which are linear in signals and in weights. A
/// pointwise convolution can take the positions of its maps as vectors of their own.
impl Layer {
    /// Whether it treats every position by itself, and all of them alike: dense layers, and convolutions with a kernel
    /// of 1x1.
    pub(crate) fn is_pointwise(&self) -> bool {
        match self {
            Self::Dense(_) => true,
            Self::Conv2d(conv) => {
                let no_padding = matches!(conv.padding, PaddingConfig2d::Valid | PaddingConfig2d::Explicit(0, 0, 0, 0));
                (conv.kernel_size, conv.stride, conv.groups) == ([1, 1], [1, 1], 1) && no_padding
            }
        }
    }

    /// The shape of what `produce` gives for `count` neurons.
    pub(crate) fn produced_shape(&self, input: &Signal, count: usize) -> Vec<usize> {
        match (self, input) {
            (layer, Signal::Vectors(input)) if layer.is_pointwise() => vec![input.dims()[0], count],
            (Self::Conv2d(conv), Signal::Maps(input)) => {
                let [batch, _, height, width] = input.dims();
                let options = options(conv, input);
                let [rows, columns] = [(0, height), (1, width)].map(|(axis, length)| {
                    let (before, after) = options.padding[axis];
                    let reach = options.dilation[axis] * (conv.kernel_size[axis] - 1) + 1;
                    (length + before + after - reach) / options.stride[axis] + 1
                });
                vec![batch, count, rows, columns]
            }
            (_, input) => wrong_signal(input),
        }
    }

    /// Zeros in place of what `produce` gives for `count` neurons.
    pub(crate) fn produced_zeros(&self, input: &Signal, count: usize) -> Signal {
        let (shape, device) = (self.produced_shape(input, count), input.device());
        match input {
            Signal::Vectors(_) => Signal::Vectors(Tensor::zeros(shape, &device)),
            Signal::Maps(_) => Signal::Maps(Tensor::zeros(shape, &device)),
        }
    }

    /// The gradient of the weights of `produce`, from that of what it computed: `[count, fan_in]`.
    pub(crate) fn producer_gradient(&self, input: Signal, gradient: Signal) -> Tensor<2> {
        match (self, input, gradient) {
            (layer, Signal::Vectors(input), Signal::Vectors(gradient)) if layer.is_pointwise() => {
                linear(gradient.transpose(), input, None)
            }
            (Self::Conv2d(conv), Signal::Maps(input), Signal::Maps(gradient)) => {
                let [_, inputs, height, width] = conv.weight.dims();
                let [_, count, _, _] = gradient.dims();
                let options = options(conv, &input);
                let weight = conv2d_weight_gradient(gradient, input, [count, inputs, height, width], options);
                weight.reshape([count, inputs * height * width])
            }
            (_, input, _) => wrong_signal(&input),
        }
    }

    /// The gradient of what `consume` reads, a signal of this shape, from that of what it computed.
    pub(crate) fn consumer_input_gradient(&self, shape: &[usize], outgoing: Tensor<2>, delta: Signal) -> Signal {
        match (self, delta) {
            (layer, Signal::Vectors(delta)) if layer.is_pointwise() => {
                Signal::Vectors(linear(delta, dense_weight(outgoing, self.outputs()).transpose(), None))
            }
            (Self::Conv2d(conv), Signal::Maps(delta)) => {
                let shape: [usize; 4] = shape.try_into().expect("convolutions read maps");
                let options = options_for(conv, [shape[2], shape[3]]);
                Signal::Maps(conv2d_input_gradient(delta, consumer_weight(conv, outgoing), shape, options))
            }
            (_, delta) => wrong_signal(&delta),
        }
    }

    /// The gradient of the weights of `consume` for `count` neurons, from that of what it computed: `[fan_out *
    /// positions, count]`.
    pub(crate) fn consumer_gradient(&self, input: Signal, count: usize, delta: Signal) -> Tensor<2> {
        match (self, input, delta) {
            (layer, Signal::Vectors(input), Signal::Vectors(delta)) if layer.is_pointwise() => {
                let ([_, features], [_, outputs]) = (input.dims(), delta.dims());
                let weight = linear(input.transpose(), delta, None);
                weight.reshape([count, features / count * outputs]).transpose()
            }
            (Self::Conv2d(conv), Signal::Maps(input), Signal::Maps(delta)) => {
                let [_, _, height, width] = conv.weight.dims();
                let [_, outputs, _, _] = delta.dims();
                let options = options(conv, &input);
                let weight = conv2d_weight_gradient(delta, input, [outputs, count, height, width], options);
                weight.permute([0, 2, 3, 1]).reshape([outputs * height * width, count])
            }
            (_, input, _) => wrong_signal(&input),
        }
    }
}

/// Outgoing weights of neurons, `[fan_out * positions, count]`, as the weight of a dense layer that reads them.
fn dense_weight(outgoing: Tensor<2>, outputs: usize) -> Tensor<2> {
    let [fan, count] = outgoing.dims();
    outgoing.transpose().reshape([count * fan / outputs, outputs])
}

/// Outgoing weights of neurons, `[fan_out, count]`, as the weight of a convolution that reads them.
fn consumer_weight(conv: &Conv2d, outgoing: Tensor<2>) -> Tensor<4> {
    let [_, count] = outgoing.dims();
    let [outputs, _, height, width] = conv.weight.dims();
    outgoing.reshape([outputs / conv.groups, height, width, count]).permute([0, 3, 1, 2])
}

/// The geometry of one group of a convolution.
fn options(conv: &Conv2d, input: &Tensor<4>) -> ConvOptions<2> {
    let [_, _, height, width] = input.dims();
    options_for(conv, [height, width])
}

fn options_for(conv: &Conv2d, input: [usize; 2]) -> ConvOptions<2> {
    ConvOptions { groups: 1, ..flexconv::options(conv, input) }
}

/// The convolution's geometry with another weight, without groups and bias.
fn with_weight(conv: &Conv2d, weight: Tensor<4>) -> Conv2d {
    Conv2d { weight: Param::initialized(ParamId::new(), weight), bias: None, groups: 1, ..conv.clone() }
}

fn wrong_signal(signal: &Signal) -> ! {
    panic!(
        "the layer does not read signals of shape {:?}; sites and evidence are checked before they are used",
        signal.shape()
    )
}
