//! Where examples come from.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::error::Error;
use crate::seed::Seed;
use crate::training::task::classification::class_range;
use crate::training::task::supervised::Target;

/// Examples and their targets, as a network reads them.
#[derive(Debug, Clone)]
pub struct Batch<I, T = Target> {
    /// The network's input.
    pub input: I,
    /// What the output should be.
    pub target: T,
}

/// A set of examples.
pub trait Examples {
    /// What the network reads.
    type Input: Clone;
    /// What the network's outputs should be, as the task understands it.
    type Target: Clone;

    /// Number of examples.
    fn count(&self) -> usize;

    /// The examples with these indices, in this order, as they are.
    ///
    /// # Errors
    /// [`Error::Examples`], if one cannot be read.
    fn batch(&self, indices: &[usize]) -> Result<Batch<Self::Input, Self::Target>, Error>;

    /// The examples with these indices for training: changed at random (cropped, flipped, ...), as the seed says and
    /// nothing else.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    fn augmented(&self, indices: &[usize], _seed: Seed) -> Result<Batch<Self::Input, Self::Target>, Error> {
        self.batch(indices)
    }

    /// Whether [`augmented`](Self::augmented) gives anything else than [`batch`](Self::batch).
    fn augments(&self) -> bool {
        false
    }

    /// Says that this batch will be asked for soon, augmented with the seed if there is one: a set that reads from disk
    /// can start now.
    fn announce(&self, _indices: &[usize], _seed: Option<Seed>) {}

    /// The largest class index among the targets, if that is known beforehand; else every batch is looked at.
    fn largest_class(&self) -> Option<usize> {
        None
    }
}

/// Something with a row for each example, on a device.
pub trait Rows: Clone {
    /// Number of examples.
    fn count(&self) -> usize;

    /// The rows with these indices.
    #[must_use]
    fn rows(&self, indices: Tensor<1, Int>) -> Self;

    /// The device.
    fn device(&self) -> Device;

    /// The least and the largest class, if these are classes.
    fn class_range(&self) -> Option<[i64; 2]> {
        None
    }
}

impl<const D: usize> Rows for Tensor<D> {
    fn count(&self) -> usize {
        self.dims()[0]
    }

    fn rows(&self, indices: Tensor<1, Int>) -> Self {
        self.clone().select(0, indices)
    }

    fn device(&self) -> Device {
        Tensor::device(self)
    }
}

impl<const D: usize> Rows for Tensor<D, Int> {
    fn count(&self) -> usize {
        self.dims()[0]
    }

    fn rows(&self, indices: Tensor<1, Int>) -> Self {
        self.clone().select(0, indices)
    }

    fn device(&self) -> Device {
        Tensor::device(self)
    }

    fn class_range(&self) -> Option<[i64; 2]> {
        class_range(self)
    }
}

impl Rows for Target {
    fn count(&self) -> usize {
        self.count()
    }

    fn rows(&self, indices: Tensor<1, Int>) -> Self {
        match self {
            Self::Values(values) => Self::Values(values.rows(indices)),
            Self::Classes(classes) => Self::Classes(classes.rows(indices)),
            Self::Tokens(tokens) => Self::Tokens(tokens.rows(indices)),
        }
    }

    fn device(&self) -> Device {
        match self {
            Self::Values(values) => Tensor::device(values),
            Self::Classes(classes) => Tensor::device(classes),
            Self::Tokens(tokens) => Tensor::device(tokens),
        }
    }

    fn class_range(&self) -> Option<[i64; 2]> {
        match self {
            Self::Values(_) => None,
            Self::Classes(classes) => class_range(classes),
            Self::Tokens(tokens) => class_range(tokens),
        }
    }
}

/// Examples that lie on the device: inputs and targets of whatever rank, the first axis being the examples'.
#[derive(Debug, Clone)]
pub struct InMemory<I = Tensor<2>, T = Target> {
    inputs: I,
    targets: T,
    largest_class: Option<usize>,
}

impl<I: Rows, T: Rows> InMemory<I, T> {
    /// Examples from inputs `[examples, ...]` and their targets.
    ///
    /// # Panics
    /// If there are not as many targets as inputs, or a class index is negative.
    pub fn new(inputs: I, targets: T) -> Self {
        let range = targets.class_range();
        assert!(range.is_none_or(|[least, _]| least >= 0), "class indices are not negative: {range:?}");
        assert_eq!(inputs.count(), targets.count(), "every input needs a target");
        Self { inputs, targets, largest_class: range.map(|[_, largest]| largest as usize) }
    }
}

impl InMemory {
    /// Examples for classification, from rows of equal length and class indices.
    pub fn classes(inputs: Vec<f32>, classes: &[u8], device: &Device) -> Self {
        let count = classes.len();
        let width = inputs.len() / count.max(1);
        let classes = Target::classes(classes.iter().map(|class| u32::from(*class)), device);
        Self::new(Tensor::from_data(TensorData::new(inputs, [count, width]), device), classes)
    }
}

impl<I: Rows, T: Rows> Examples for InMemory<I, T> {
    type Input = I;
    type Target = T;

    fn count(&self) -> usize {
        self.inputs.count()
    }

    fn batch(&self, indices: &[usize]) -> Result<Batch<I, T>, Error> {
        let all = indices.len() == self.count() && indices.iter().enumerate().all(|(at, index)| at == *index);
        if all {
            return Ok(Batch { input: self.inputs.clone(), target: self.targets.clone() });
        }
        let rows = indices.iter().map(|index| *index as i32).collect::<Vec<_>>();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [indices.len()]), &self.inputs.device());
        Ok(Batch { input: self.inputs.rows(rows.clone()), target: self.targets.rows(rows) })
    }

    fn largest_class(&self) -> Option<usize> {
        self.largest_class
    }
}
