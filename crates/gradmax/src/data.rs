//! Where examples come from.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::seed::Seed;
use crate::task::Target;

/// Examples and their targets, as a network reads them.
#[derive(Debug, Clone)]
pub struct Batch<I> {
    /// The network's input.
    pub input: I,
    /// What the output should be.
    pub target: Target,
}

/// A set of examples.
pub trait Examples {
    /// What the network reads.
    type Input: Clone;

    /// Number of examples.
    fn count(&self) -> usize;

    /// The examples with these indices, in this order, as they are.
    fn batch(&self, indices: &[usize]) -> Batch<Self::Input>;

    /// The examples with these indices for training: changed at random (cropped, flipped, ...), as the seed says and
    /// nothing else.
    fn augmented(&self, indices: &[usize], _seed: Seed) -> Batch<Self::Input> {
        self.batch(indices)
    }

    /// Says that this batch will be asked for soon, augmented with the seed if there is one: a set that reads from disk
    /// can start now.
    fn announce(&self, _indices: &[usize], _seed: Option<Seed>) {}

    /// Why examples could not be read, if that has happened since the last call.
    ///
    /// Batches hold zeros in place of such examples, so that a reader in the background needs no way to stop a training
    /// step; whoever trains or evaluates asks after each batch.
    fn failure(&self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        None
    }

    /// All examples, in order, as they are.
    fn all(&self) -> Batch<Self::Input> {
        self.batch(&(0..self.count()).collect::<Vec<_>>())
    }
}

/// Examples that lie on the device, with inputs of `D` axes, the first being the examples'.
#[derive(Debug, Clone)]
pub struct InMemory<const D: usize = 2> {
    inputs: Tensor<D>,
    targets: Target,
}

impl<const D: usize> InMemory<D> {
    /// Examples from inputs `[examples, ...]` and their targets.
    ///
    /// # Panics
    /// If there are not as many targets as inputs.
    pub fn new(inputs: Tensor<D>, targets: Target) -> Self {
        let count = match &targets {
            Target::Values(values) => values.dims()[0],
            Target::Classes(classes) => classes.dims()[0],
        };
        assert_eq!(inputs.dims()[0], count, "every input needs a target");
        Self { inputs, targets }
    }
}

impl InMemory<2> {
    /// Examples for classification, from rows of equal length and class indices.
    pub fn classes(inputs: Vec<f32>, classes: &[u8], device: &Device) -> Self {
        let count = classes.len();
        let width = inputs.len() / count.max(1);
        let classes = Target::classes(classes.iter().map(|class| u32::from(*class)), device);
        Self::new(Tensor::from_data(TensorData::new(inputs, [count, width]), device), classes)
    }
}

impl<const D: usize> Examples for InMemory<D> {
    type Input = Tensor<D>;

    fn count(&self) -> usize {
        self.inputs.dims()[0]
    }

    fn batch(&self, indices: &[usize]) -> Batch<Tensor<D>> {
        let rows = indices.iter().map(|index| *index as i32).collect::<Vec<_>>();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [indices.len()]), &self.inputs.device());
        let target = match &self.targets {
            Target::Values(values) => Target::Values(values.clone().select(0, rows.clone())),
            Target::Classes(classes) => Target::Classes(classes.clone().select(0, rows.clone())),
        };
        Batch { input: self.inputs.clone().select(0, rows), target }
    }

    fn all(&self) -> Batch<Tensor<D>> {
        Batch { input: self.inputs.clone(), target: self.targets.clone() }
    }
}
