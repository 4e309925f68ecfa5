//! One-dimensional convolutions of any kernel, stride, padding, dilation and groups; a neuron is a channel. They are
//! two-dimensional ones of maps of height 1.

use burn::module::{Param, ParamId};
use burn::nn::conv::{Conv1d, Conv2d};
use burn::nn::{PaddingConfig1d, PaddingConfig2d};
use burn::tensor::{Tensor, TensorData};

use super::conv2d::by_input;
use crate::matrix::Matrix;
use crate::site::extension::Extension;
use crate::site::layer::{Consumer, EntriesOf, Layer, Producer};
use crate::site::signal::{Input, Layout, Signal, SignalShape};

impl Layer for Conv1d {
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
        Layout::Second(1)
    }
}

impl Producer for Conv1d {
    fn fan_in(&self) -> usize {
        self.inputs() / self.groups * self.kernel_size
    }

    fn incoming(&self, entries: EntriesOf<'_>) -> Option<Tensor<2>> {
        entries.get(&self.weight).map(|weight| weight.reshape([self.outputs(), self.fan_in()]))
    }

    fn extend_outputs(&self, at: usize, incoming: &Matrix) -> Extension {
        flat(as_maps(self).extend_outputs(at, incoming))
    }

    fn produce(&self, input: &Input, incoming: Tensor<2>) -> Signal {
        sequence(as_maps(self).produce(&Input::Signal(map(input.signal().clone())), incoming))
    }

    fn produced_positions(&self, positions: &[usize]) -> Vec<usize> {
        as_maps(self).produced_positions(&[&[1], positions].concat())[1..].to_vec()
    }

    fn incoming_gradient(&self, input: &Input, at_neurons: Signal) -> Tensor<2> {
        as_maps(self).incoming_gradient(&Input::Signal(map(input.signal().clone())), map(at_neurons))
    }
}

impl Consumer for Conv1d {
    fn fan_out(&self) -> usize {
        self.outputs() / self.groups * self.kernel_size
    }

    fn outgoing(&self, entries: EntriesOf<'_>) -> Option<Tensor<2>> {
        entries.get(&self.weight).map(|weight| by_input(weight, self.groups))
    }

    fn extend_inputs(&self, at: usize, outgoing: &[&Matrix], features: usize) -> Extension {
        flat(as_maps(self).extend_inputs(at, outgoing, features))
    }

    fn consume(&self, read: Signal, outgoing: Tensor<2>) -> Signal {
        sequence(as_maps(self).consume(map(read), outgoing))
    }

    fn read_gradient(&self, read: &SignalShape, outgoing: Tensor<2>, delta: Signal) -> Signal {
        let read = SignalShape { positions: [&[1], read.positions.as_slice()].concat(), ..read.clone() };
        sequence(as_maps(self).read_gradient(&read, outgoing, map(delta)))
    }

    fn outgoing_gradient(&self, read: Signal, count: usize, delta: Signal) -> Tensor<2> {
        as_maps(self).outgoing_gradient(map(read), count, map(delta))
    }
}

/// The convolution as one of maps of height 1.
fn as_maps(conv: &Conv1d) -> Conv2d {
    let weight = conv.weight.val();
    let [outputs, inputs, taps] = weight.dims();
    let padding = match conv.padding {
        PaddingConfig1d::Same => PaddingConfig2d::Same,
        PaddingConfig1d::Valid => PaddingConfig2d::Valid,
        PaddingConfig1d::Explicit(before, after) => PaddingConfig2d::Explicit(0, before, 0, after),
    };
    Conv2d {
        // With the same id, since extensions name the parameter by it.
        weight: Param::initialized(conv.weight.id, weight.reshape([outputs, inputs, 1, taps])),
        bias: None,
        stride: [1, conv.stride],
        kernel_size: [1, conv.kernel_size],
        dilation: [1, conv.dilation],
        groups: conv.groups,
        padding,
    }
}

/// Sequences as maps of height 1.
fn map(sequence: Signal) -> Signal {
    let [examples, channels, length] = sequence.entries().dims();
    Signal::of_channels(sequence.entries().reshape([examples, channels, 1, length]))
}

/// Maps of height 1 as sequences.
fn sequence(map: Signal) -> Signal {
    Signal::of_channels(map.entries())
}

/// An extension of the map's weight, of the sequence's.
fn flat(extension: Extension) -> Extension {
    let (bytes, shape, float) = extension.values.into_parts();
    let [outputs, inputs, _, taps] = shape.dims();
    Extension { values: TensorData::from_bytes(bytes, [outputs, inputs, taps], float), ..extension }
}
