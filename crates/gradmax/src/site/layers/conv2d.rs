//! Two-dimensional convolutions of any kernel, stride, padding, dilation and groups; a neuron is a channel.

use burn::module::{Param, ParamId};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, TensorData};
use flexconv::{conv2d_input_gradient, conv2d_weight_gradient, convolve, linear};

use super::linear::{outgoing_gradient, rowwise, weight_of};
use crate::matrix::{Matrix, entries};
use crate::site::extension::Extension;
use crate::site::layer::{Consumer, EntriesOf, Layer, Producer};
use crate::site::signal::{Input, Layout, Signal, SignalShape};

impl Layer for Conv2d {
    fn inputs(&self) -> usize {
        self.weight.lazy_shape()[1] * self.groups
    }

    fn outputs(&self) -> usize {
        self.weight.lazy_shape()[0]
    }

    fn groups(&self) -> usize {
        self.groups
    }

    fn weight(&self) -> ParamId {
        self.weight.id
    }

    fn bias(&self) -> Option<&Param<Tensor<1>>> {
        self.bias.as_ref()
    }

    fn layout(&self) -> Layout {
        Layout::Second(2)
    }

    fn is_pointwise(&self) -> bool {
        let no_padding = matches!(self.padding, PaddingConfig2d::Valid | PaddingConfig2d::Explicit(0, 0, 0, 0));
        (self.kernel_size, self.stride, self.groups) == ([1, 1], [1, 1], 1) && no_padding
    }
}

/// A pointwise convolution can be given its positions as examples of their own, and then is a dense layer.
impl Producer for Conv2d {
    fn fan_in(&self) -> usize {
        self.inputs() / self.groups * taps(self)
    }

    fn incoming(&self, entries: EntriesOf<'_>) -> Option<Tensor<2>> {
        entries.get(&self.weight).map(|weight| weight.reshape([self.outputs(), self.fan_in()]))
    }

    fn extend_outputs(&self, at: usize, incoming: &Matrix) -> Extension {
        let [length, inputs, height, width] = self.weight.dims();
        let values = TensorData::new(entries(incoming.as_ref()), [incoming.nrows(), inputs, height, width]);
        Extension { parameter: self.weight.id, axis: 0, length, at, values, copies: Vec::new() }
    }

    fn produce(&self, input: &Input, incoming: Tensor<2>) -> Signal {
        let signal = input.signal();
        if signal.positions().is_empty() {
            return rowwise(signal, |rows| linear(rows, incoming.transpose(), None));
        }
        let [_, inputs, height, width] = self.weight.dims();
        let weight = incoming.clone().reshape([incoming.dims()[0], inputs, height, width]);
        Signal::of_channels(convolve(&with_weight(self, weight), signal.clone().channels::<4>()))
    }

    fn produced_positions(&self, positions: &[usize]) -> Vec<usize> {
        let Ok([height, width]) = <[usize; 2]>::try_from(positions) else {
            return positions.to_vec();
        };
        let options = options(self, [height, width]);
        let along = |(axis, length): (usize, usize)| {
            let (before, after) = options.padding[axis];
            let reach = options.dilation[axis] * (self.kernel_size[axis] - 1) + 1;
            (length + before + after - reach) / options.stride[axis] + 1
        };
        [(0, height), (1, width)].map(along).to_vec()
    }

    fn incoming_gradient(&self, input: &Input, at_neurons: Signal) -> Tensor<2> {
        let signal = input.signal().clone();
        if signal.positions().is_empty() {
            return linear(at_neurons.rows().transpose(), signal.rows(), None);
        }
        let [_, inputs, height, width] = self.weight.dims();
        let (input, gradient) = (signal.channels::<4>(), at_neurons.channels::<4>());
        let ([_, count, _, _], options) = (gradient.dims(), options_for(self, &input));
        let weight = conv2d_weight_gradient(gradient, input, [count, inputs, height, width], options);
        weight.reshape([count, inputs * height * width])
    }
}

impl Consumer for Conv2d {
    fn fan_out(&self) -> usize {
        self.outputs() / self.groups * taps(self)
    }

    fn outgoing(&self, entries: EntriesOf<'_>) -> Option<Tensor<2>> {
        let [outputs, inputs, height, width] = self.weight.dims();
        let weight = entries.get(&self.weight)?.reshape([outputs, inputs, height * width]);
        Some(by_input(weight, self.groups))
    }

    fn extend_inputs(&self, at: usize, outgoing: &[&Matrix], _features: usize) -> Extension {
        let [outputs, length, height, width] = self.weight.dims();
        let (taps, count) = (height * width, outgoing[0].ncols());
        let mut values = Vec::with_capacity(outputs * count * taps);
        for output in 0..outputs {
            // The weight has the inputs of one group only, so each group's outputs have weights of their own neurons.
            let (group, within) = (output * self.groups / outputs, output % (outputs / self.groups));
            for neuron in 0..count {
                let weight = |tap: usize| outgoing[group][(within * taps + tap, neuron)] as f32;
                values.extend((0..taps).map(weight));
            }
        }
        let values = TensorData::new(values, [outputs, count, height, width]);
        Extension { parameter: self.weight.id, axis: 1, length, at, values, copies: Vec::new() }
    }

    fn consume(&self, read: Signal, outgoing: Tensor<2>) -> Signal {
        let weight = consumer_weight(self, outgoing);
        Signal::of_channels(convolve(&with_weight(self, weight), read.channels::<4>()))
    }

    fn read_gradient(&self, read: &SignalShape, outgoing: Tensor<2>, delta: Signal) -> Signal {
        if delta.positions().is_empty() {
            return rowwise(&delta, |rows| linear(rows, weight_of(outgoing, self.outputs()).transpose(), None));
        }
        let shape: [usize; 4] = read.axes().try_into().expect("convolutions read maps");
        let (weight, options) = (consumer_weight(self, outgoing), options(self, [shape[2], shape[3]]));
        Signal::of_channels(conv2d_input_gradient(delta.channels::<4>(), weight, shape, options))
    }

    fn outgoing_gradient(&self, read: Signal, count: usize, delta: Signal) -> Tensor<2> {
        if delta.positions().is_empty() {
            return outgoing_gradient(read.rows(), count, delta.rows());
        }
        let [_, _, height, width] = self.weight.dims();
        let (read, delta) = (read.channels::<4>(), delta.channels::<4>());
        let ([_, outputs, _, _], options) = (delta.dims(), options_for(self, &read));
        let weight = conv2d_weight_gradient(delta, read, [outputs, count, height, width], options);
        weight.permute([0, 2, 3, 1]).reshape([outputs * height * width, count])
    }
}

/// The weight of a convolution, `[outputs, inputs of a group, taps]`, by the input that its entries lead out of:
/// `[inputs, outputs of a group * taps]`.
pub(super) fn by_input(weight: Tensor<3>, groups: usize) -> Tensor<2> {
    let [outputs, inputs, taps] = weight.dims();
    let grouped = weight.reshape([groups, outputs / groups, inputs, taps]);
    grouped.permute([0, 2, 1, 3]).reshape([inputs * groups, outputs / groups * taps])
}

/// Weights between one input and one output.
fn taps(conv: &Conv2d) -> usize {
    conv.kernel_size.iter().product()
}

/// Outgoing weights of neurons, `[fan_out, count]`, as the weight of a convolution that reads them.
fn consumer_weight(conv: &Conv2d, outgoing: Tensor<2>) -> Tensor<4> {
    let [_, count] = outgoing.dims();
    let [outputs, _, height, width] = conv.weight.dims();
    outgoing.reshape([outputs / conv.groups, height, width, count]).permute([0, 3, 1, 2])
}

/// The geometry of one group of a convolution.
fn options(conv: &Conv2d, input: [usize; 2]) -> ConvOptions<2> {
    ConvOptions { groups: 1, ..flexconv::options(conv, input) }
}

fn options_for(conv: &Conv2d, input: &Tensor<4>) -> ConvOptions<2> {
    let [_, _, height, width] = input.dims();
    options(conv, [height, width])
}

/// The convolution's geometry with another weight, without groups and bias.
fn with_weight(conv: &Conv2d, weight: Tensor<4>) -> Conv2d {
    Conv2d { weight: Param::initialized(ParamId::new(), weight), bias: None, groups: 1, ..conv.clone() }
}
