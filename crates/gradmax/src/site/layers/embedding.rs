//! Embeddings, which compute neurons from indices: an incoming weight of a neuron belongs to an index.

use burn::module::{Param, ParamId};
use burn::nn::Embedding;
use burn::tensor::{IndexingUpdateOp, Tensor};

use super::linear::new_columns;
use crate::matrix::Matrix;
use crate::site::extension::Extension;
use crate::site::layer::{EntriesOf, Layer, Producer};
use crate::site::signal::{Indices, Input, Signal};

impl Layer for Embedding {
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
        None
    }
}

impl Producer for Embedding {
    fn fan_in(&self) -> usize {
        self.inputs()
    }

    fn reads_indices(&self) -> bool {
        true
    }

    fn incoming(&self, entries: EntriesOf<'_>) -> Option<Tensor<2>> {
        entries.get(&self.weight).map(Tensor::transpose)
    }

    fn extend_outputs(&self, at: usize, incoming: &Matrix) -> Extension {
        new_columns(self.weight.id, self.outputs(), at, incoming)
    }

    fn produce(&self, input: &Input, incoming: Tensor<2>) -> Signal {
        let Indices { entries, examples, positions } = indices(input);
        Signal::of_rows(incoming.transpose().select(0, entries.clone()), *examples, positions.clone())
    }

    fn incoming_gradient(&self, input: &Input, at_neurons: Signal) -> Tensor<2> {
        let rows = at_neurons.rows();
        let ([_, count], device) = (rows.dims(), rows.device());
        let zeros = Tensor::<2>::zeros([self.inputs(), count], &device);
        zeros.select_assign(0, indices(input).entries.clone(), rows, IndexingUpdateOp::Add).transpose()
    }
}

/// The indices of the input.
///
/// # Panics
/// If these are activations: sites are checked before their layers run.
fn indices(input: &Input) -> &Indices {
    match input {
        Input::Indices(indices) => indices,
        Input::Signal(_) => panic!("an embedding reads indices, and was given activations"),
    }
}
