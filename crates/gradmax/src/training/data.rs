//! Where examples come from.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::error::Error;
use crate::seed::Seed;
use crate::training::task::Target;

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
    ///
    /// # Errors
    /// [`Error::Examples`], if one cannot be read.
    fn batch(&self, indices: &[usize]) -> Result<Batch<Self::Input>, Error>;

    /// The examples with these indices for training: changed at random (cropped, flipped, ...), as the seed says and
    /// nothing else.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    fn augmented(&self, indices: &[usize], _seed: Seed) -> Result<Batch<Self::Input>, Error> {
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

/// Examples that lie on the device, with inputs of `D` axes, the first being the examples'.
#[derive(Debug, Clone)]
pub struct InMemory<const D: usize = 2> {
    inputs: Tensor<D>,
    targets: Target,
    largest_class: Option<usize>,
}

impl<const D: usize> InMemory<D> {
    /// Examples from inputs `[examples, ...]` and their targets.
    ///
    /// # Panics
    /// If there are not as many targets as inputs, or a class index is negative.
    pub fn new(inputs: Tensor<D>, targets: Target) -> Self {
        let (count, largest_class) = match &targets {
            Target::Values(values) => (values.dims()[0], None),
            Target::Classes(classes) => {
                let range = class_range(classes);
                assert!(range.is_none_or(|[least, _]| least >= 0), "class indices are not negative: {range:?}");
                (classes.dims()[0], range.map(|[_, largest]| largest as usize))
            }
        };
        assert_eq!(inputs.dims()[0], count, "every input needs a target");
        Self { inputs, targets, largest_class }
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

    fn batch(&self, indices: &[usize]) -> Result<Batch<Tensor<D>>, Error> {
        let all = indices.len() == self.count() && indices.iter().enumerate().all(|(at, index)| at == *index);
        if all {
            return Ok(Batch { input: self.inputs.clone(), target: self.targets.clone() });
        }
        let rows = indices.iter().map(|index| *index as i32).collect::<Vec<_>>();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [indices.len()]), &self.inputs.device());
        let target = match &self.targets {
            Target::Values(values) => Target::Values(values.clone().select(0, rows.clone())),
            Target::Classes(classes) => Target::Classes(classes.clone().select(0, rows.clone())),
        };
        Ok(Batch { input: self.inputs.clone().select(0, rows), target })
    }

    fn largest_class(&self) -> Option<usize> {
        self.largest_class
    }
}

/// The least and the largest of class indices; none if there are none.
pub(crate) fn class_range(classes: &Tensor<1, Int>) -> Option<[i64; 2]> {
    let data = classes.clone().into_data();
    let (least, largest) = (data.iter::<i64>().min()?, data.iter::<i64>().max()?);
    Some([least, largest])
}
