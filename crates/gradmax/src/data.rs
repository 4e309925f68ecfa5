//! Where examples come from.

use burn::tensor::{Device, Int, Tensor, TensorData};

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

    /// The examples with these indices, in this order.
    fn batch(&self, indices: &[usize]) -> Batch<Self::Input>;

    /// All examples, in order.
    fn all(&self) -> Batch<Self::Input> {
        self.batch(&(0..self.count()).collect::<Vec<_>>())
    }
}

/// Examples with vector inputs that lie on the device.
#[derive(Debug, Clone)]
pub struct InMemory {
    inputs: Tensor<2>,
    targets: Target,
}

impl InMemory {
    /// Examples from inputs `[examples, inputs]` and their targets.
    ///
    /// # Panics
    /// If there are not as many targets as inputs.
    pub fn new(inputs: Tensor<2>, targets: Target) -> Self {
        let count = match &targets {
            Target::Values(values) => values.dims()[0],
            Target::Classes(classes) => classes.dims()[0],
        };
        assert_eq!(inputs.dims()[0], count, "every input needs a target");
        Self { inputs, targets }
    }

    /// Examples for classification, from rows of equal length and class indices.
    pub fn classes(inputs: Vec<f32>, classes: &[u8], device: &Device) -> Self {
        let count = classes.len();
        let width = inputs.len() / count.max(1);
        let classes = classes.iter().map(|class| i32::from(*class)).collect::<Vec<_>>();
        Self::new(
            Tensor::from_data(TensorData::new(inputs, [count, width]), device),
            Target::Classes(Tensor::from_data(TensorData::new(classes, [count]), device)),
        )
    }
}

impl Examples for InMemory {
    type Input = Tensor<2>;

    fn count(&self) -> usize {
        self.inputs.dims()[0]
    }

    fn batch(&self, indices: &[usize]) -> Batch<Tensor<2>> {
        let rows = indices.iter().map(|index| *index as i32).collect::<Vec<_>>();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [indices.len()]), &self.inputs.device());
        let target = match &self.targets {
            Target::Values(values) => Target::Values(values.clone().select(0, rows.clone())),
            Target::Classes(classes) => Target::Classes(classes.clone().select(0, rows.clone())),
        };
        Batch { input: self.inputs.clone().select(0, rows), target }
    }

    fn all(&self) -> Batch<Tensor<2>> {
        Batch { input: self.inputs.clone(), target: self.targets.clone() }
    }
}
