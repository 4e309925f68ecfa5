//! Dense layers; a neuron is a feature, of every position.

use burn::module::{Param, ParamId};
use burn::nn::Linear;
use burn::tensor::{Tensor, TensorData};
use flexconv::linear;

use crate::matrix::{Matrix, entries};
use crate::site::extension::Extension;
use crate::site::layer::{Consumer, EntriesOf, Layer, Producer};
use crate::site::signal::{Input, Signal, SignalShape};

impl Layer for Linear {
    fn inputs(&self) -> usize {
        self.weight.lazy_shape()[0]
    }

    fn outputs(&self) -> usize {
        self.weight.lazy_shape()[1]
    }

    fn weight(&self) -> ParamId {
        self.weight.id
    }

    fn bias(&self) -> Option<&Param<Tensor<1>>> {
        self.bias.as_ref()
    }

    fn is_pointwise(&self) -> bool {
        true
    }
}

impl Producer for Linear {
    fn fan_in(&self) -> usize {
        self.inputs()
    }

    fn incoming(&self, entries: EntriesOf<'_>) -> Option<Tensor<2>> {
        entries.get(&self.weight).map(Tensor::transpose)
    }

    fn extend_outputs(&self, at: usize, incoming: &Matrix) -> Extension {
        new_columns(self.weight.id, self.outputs(), at, incoming)
    }

    fn produce(&self, input: &Input, incoming: Tensor<2>) -> Signal {
        rowwise(input.signal(), |rows| linear(rows, incoming.transpose(), None))
    }

    fn incoming_gradient(&self, input: &Input, at_neurons: Signal) -> Tensor<2> {
        linear(at_neurons.rows().transpose(), input.signal().clone().rows(), None)
    }
}

impl Consumer for Linear {
    fn fan_out(&self) -> usize {
        self.outputs()
    }

    fn outgoing(&self, entries: EntriesOf<'_>) -> Option<Tensor<2>> {
        entries.get(&self.weight)
    }

    fn extend_inputs(&self, at: usize, outgoing: &[&Matrix], features: usize) -> Extension {
        let [length, outputs] = self.weight.dims();
        let values = TensorData::new(entries(outgoing[0].transpose()), [outgoing[0].ncols() * features, outputs]);
        Extension { parameter: self.weight.id, axis: 0, length, at, values, copies: Vec::new() }
    }

    fn consume(&self, read: Signal, outgoing: Tensor<2>) -> Signal {
        rowwise(&read, |rows| linear(rows, weight_of(outgoing, self.outputs()), None))
    }

    fn read_gradient(&self, _read: &SignalShape, outgoing: Tensor<2>, delta: Signal) -> Signal {
        rowwise(&delta, |rows| linear(rows, weight_of(outgoing, self.outputs()).transpose(), None))
    }

    fn outgoing_gradient(&self, read: Signal, count: usize, delta: Signal) -> Tensor<2> {
        outgoing_gradient(read.rows(), count, delta.rows())
    }
}

/// The extension of a weight `[inputs, outputs]` by incoming weights `[count, inputs]`, before the output `at`.
pub(super) fn new_columns(parameter: ParamId, outputs: usize, at: usize, incoming: &Matrix) -> Extension {
    let values = TensorData::new(entries(incoming.transpose()), [incoming.ncols(), incoming.nrows()]);
    Extension { parameter, axis: 1, length: outputs, at, values, copies: Vec::new() }
}

/// Applies an operation to a row for each position.
pub(super) fn rowwise(signal: &Signal, of: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Signal {
    Signal::of_rows(of(signal.clone().rows()), signal.examples(), signal.positions().to_vec())
}

/// Outgoing weights of neurons, `[fan_out * features, count]`, as the weight of a dense layer that reads them.
pub(super) fn weight_of(outgoing: Tensor<2>, outputs: usize) -> Tensor<2> {
    let [fan, count] = outgoing.dims();
    outgoing.transpose().reshape([count * fan / outputs, outputs])
}

/// The gradient of outgoing weights from rows of features and of deltas.
pub(super) fn outgoing_gradient(read: Tensor<2>, count: usize, delta: Tensor<2>) -> Tensor<2> {
    let ([_, features], [_, outputs]) = (read.dims(), delta.dims());
    linear(read.transpose(), delta, None).reshape([count, features / count * outputs]).transpose()
}
