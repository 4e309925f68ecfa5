//! What a layer has to tell so that it can compute or read the neurons of a site.

use std::fmt::Debug;

use burn::module::{Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

use crate::matrix::Matrix;
use crate::site::extension::Extension;
use crate::site::signal::{Input, Layout, Signal, SignalShape};

/// A layer with a weight, and a bias perhaps, at one end of a site or at both.
///
/// A site holds its layers by value: the ids of their parameters say which parameters of the network are meant.
pub trait Layer: Debug + Send + Sync {
    /// Number of features or channels that the layer reads; for an embedding, the indices that it knows.
    fn inputs(&self) -> usize;

    /// Number of neurons that the layer computes.
    fn outputs(&self) -> usize;

    /// Number of groups that inputs and outputs fall into, each read and computed apart from the others.
    fn groups(&self) -> usize {
        1
    }

    /// The id of the weight.
    fn weight(&self) -> ParamId;

    /// The bias, `[outputs]`, if the layer has one.
    fn bias(&self) -> Option<&Param<Tensor<1>>>;

    /// Where the neurons lie in what the layer reads and computes.
    fn layout(&self) -> Layout {
        Layout::Last
    }

    /// Whether the layer treats every position by itself, and all of them alike, so that positions may be given to it
    /// as examples of their own.
    fn is_pointwise(&self) -> bool {
        false
    }
}

/// A layer that computes neurons: a site's writer.
///
/// Its arithmetic is linear in the incoming weights of its neurons. Only [`produce`](Self::produce) has to be written;
/// the derivative comes from automatic differentiation unless a faster one is given.
pub trait Producer: Layer {
    /// Incoming weights of one neuron, the bias not counted.
    fn fan_in(&self) -> usize;

    /// Whether the layer reads indices, as an embedding does, and not activations.
    fn reads_indices(&self) -> bool {
        false
    }

    /// Entries of the weight by the neuron that they lead into, `[outputs, fan_in]`; none if there are none of this
    /// kind.
    fn incoming(&self, entries: EntriesOf<'_>) -> Option<Tensor<2>>;

    /// The extension of the weight that gives the layer new neurons before the output `at`, with incoming weights
    /// `[count, fan_in]`.
    fn extend_outputs(&self, at: usize, incoming: &Matrix) -> Extension;

    /// What one group of the layer computes with other incoming weights, `[count, fan_in]`, and no bias: a signal of
    /// `count` neurons.
    fn produce(&self, input: &Input, incoming: Tensor<2>) -> Signal;

    /// The positions of what the layer computes, of an input with these.
    fn produced_positions(&self, positions: &[usize]) -> Vec<usize> {
        positions.to_vec()
    }

    /// The gradient of the incoming weights of [`produce`](Self::produce), `[count, fan_in]`, from that of the neurons.
    fn incoming_gradient(&self, input: &Input, at_neurons: Signal) -> Tensor<2> {
        let shape = [at_neurons.width(), self.fan_in()];
        // The layer is linear in its weights, so the derivative is the same at any of them; zeros are at hand.
        let weights = Tensor::zeros(shape, &at_neurons.device()).autodiff().require_grad();
        let input = match input {
            Input::Signal(signal) => Input::Signal(signal.clone().untracked()),
            Input::Indices(indices) => Input::Indices(indices.clone()),
        };
        let form = self.produce(&input, weights.clone()).inner_product(at_neurons.untracked());
        weights.grad(&form.backward()).expect("neurons depend on their incoming weights")
    }
}

/// A layer that reads neurons.
///
/// Its arithmetic is linear in the neurons and in their outgoing weights. Only [`consume`](Self::consume) has to be
/// written; the derivatives come from automatic differentiation unless faster ones are given.
pub trait Consumer: Layer {
    /// Weights out of one input.
    fn fan_out(&self) -> usize;

    /// Entries of the weight by the input that they lead out of, `[inputs, fan_out]`; none if there are none of this
    /// kind.
    fn outgoing(&self, entries: EntriesOf<'_>) -> Option<Tensor<2>>;

    /// The extension of the weight that makes the layer read new neurons before the input `at` of each group.
    ///
    /// `outgoing` has a matrix for each group, `[fan_out * features, count]`: a neuron has several features where its
    /// positions were flattened, which lie side by side.
    fn extend_inputs(&self, at: usize, outgoing: &[&Matrix], features: usize) -> Extension;

    /// What one group of the layer computes of `count` neurons with other outgoing weights, `[fan_out * features,
    /// count]`, and no bias.
    fn consume(&self, read: Signal, outgoing: Tensor<2>) -> Signal;

    /// The gradient of what [`consume`](Self::consume) reads, from that of what it computes.
    fn read_gradient(&self, read: &SignalShape, outgoing: Tensor<2>, delta: Signal) -> Signal {
        // Linear in what it reads, too.
        let neurons = read.zeros(&delta.device()).leaf();
        let form = self.consume(neurons.clone(), outgoing.autodiff()).inner_product(delta.untracked());
        neurons.gradient(&form.backward())
    }

    /// The gradient of the outgoing weights of [`consume`](Self::consume) for `count` neurons, `[fan_out * features,
    /// count]`, from that of what it computes.
    fn outgoing_gradient(&self, read: Signal, count: usize, delta: Signal) -> Tensor<2> {
        let shape = [self.fan_out() * (read.width() / count), count];
        let weights = Tensor::zeros(shape, &delta.device()).autodiff().require_grad();
        let form = self.consume(read.untracked(), weights.clone()).inner_product(delta.untracked());
        weights.grad(&form.backward()).expect("outputs depend on the outgoing weights")
    }
}

/// Which entries of a parameter are meant.
#[derive(Clone, Copy)]
pub enum EntriesOf<'a> {
    /// Its values.
    Values,
    /// The gradients of its values.
    Gradients(&'a GradientsParams),
}

impl EntriesOf<'_> {
    /// The entries of a parameter, in its shape; none for gradients of one that is not trained.
    pub fn get<const D: usize>(&self, parameter: &Param<Tensor<D>>) -> Option<Tensor<D>> {
        match self {
            Self::Values => Some(parameter.val().inner()),
            Self::Gradients(gradients) => gradients.get(parameter.id),
        }
    }
}

impl dyn Producer + '_ {
    /// As [`extend_outputs`](Producer::extend_outputs), with the extension of the bias if there is one.
    pub(crate) fn extended(&self, at: usize, incoming: &Matrix, bias: &[f64]) -> (Extension, Option<Extension>) {
        let of_bias = self.bias().map(|parameter| Extension {
            parameter: parameter.id,
            axis: 0,
            length: self.outputs(),
            at,
            values: TensorData::new(bias.iter().map(|b| *b as f32).collect(), [bias.len()]),
            copies: Vec::new(),
        });
        (self.extend_outputs(at, incoming), of_bias)
    }

    /// The shape of what `produce` gives for `count` neurons.
    pub(crate) fn produced_shape(&self, input: &Input, count: usize) -> SignalShape {
        let positions = self.produced_positions(input.positions());
        SignalShape { examples: input.examples(), neurons: count, positions }
    }
}
