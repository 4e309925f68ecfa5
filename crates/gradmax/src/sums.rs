//! Sums over examples, wherever the examples lie: the one place that knows whether there are several machines.

pub(crate) mod gradients;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use crate::matrix::{Matrix, values};

/// Adds up over all machines that look at a part of the examples each.
///
/// Every sum over examples that growth or training makes goes through it: gradients, products with growth operators,
/// moments, losses, tallies, the norms of the verification. All ranks call it in the same order, and all get the same
/// bits: sums are taken in the order of ranks.
pub trait Sums: Debug + Send + Sync {
    /// This machine's number, from 0.
    fn rank(&self) -> usize;

    /// Number of machines.
    fn size(&self) -> usize;

    /// Replaces each value by the sum of all ranks' values.
    fn sum(&self, values: &mut [f64]);

    /// Replaces each value by the sum of all ranks' values, taken in double precision and rounded to single: what
    /// [`sum`](Self::sum) gives, which may take half the bytes.
    fn sum_f32(&self, values: &mut [f32]) {
        let mut exact = values.iter().copied().map(f64::from).collect::<Vec<_>>();
        self.sum(&mut exact);
        values.iter_mut().zip(exact).for_each(|(value, sum)| *value = sum as f32);
    }

    /// Replaces each value by the largest of all ranks' values; NaN if one is.
    fn largest(&self, values: &mut [f64]);

    /// Returns once all ranks have called it.
    fn barrier(&self);
}

/// One machine, which sees all examples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alone;

impl Sums for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, _values: &mut [f64]) {}

    fn largest(&self, _values: &mut [f64]) {}

    fn barrier(&self) {}
}

/// Sums that several parts of a run share.
pub(crate) type SharedSums = Arc<dyn Sums>;

/// One machine.
pub(crate) fn alone() -> SharedSums {
    Arc::new(Alone)
}

impl dyn Sums + '_ {
    /// Whether there is one machine only.
    pub(crate) fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// The sum of a number.
    pub(crate) fn number(&self, value: f64) -> f64 {
        let mut values = [value];
        self.sum(&mut values);
        values[0]
    }

    /// Replaces a matrix by the sum.
    pub(crate) fn matrix(&self, matrix: &mut Matrix) {
        if self.is_alone() {
            return;
        }
        let (rows, columns) = matrix.shape();
        let mut entries =
            (0..columns).flat_map(|j| (0..rows).map(move |i| (i, j))).map(|at| matrix[at]).collect::<Vec<_>>();
        self.sum(&mut entries);
        *matrix = Matrix::from_fn(rows, columns, |i, j| entries[j * rows + i]);
    }

    /// The sum of a tensor.
    pub(crate) fn tensor<const D: usize>(&self, tensor: Tensor<D>) -> Tensor<D> {
        if self.is_alone() {
            return tensor;
        }
        let mut entries = Vec::new();
        append(&mut entries, tensor.clone());
        self.sum_f32(&mut entries);
        like(&tensor, &entries)
    }

    /// The module with its running statistics as the mean over all machines.
    pub(crate) fn statistics<M: Module>(&self, module: M) -> M {
        if self.is_alone() {
            return module;
        }
        // Burn keeps what the last pass made of them aside until then.
        let module = module.valid().train();
        let mut entries = Vec::new();
        module.visit(&mut Statistics(&mut entries));
        if entries.is_empty() {
            return module;
        }
        self.sum(&mut entries);
        let means = entries.into_iter().map(|sum| (sum / self.size() as f64) as f32).collect::<Vec<_>>();
        module.map(&mut Replacing(&means))
    }

    /// The part of so many things that is this machine's.
    pub(crate) fn own<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        &all[self.range(all.len())]
    }

    /// The part of these examples that is this machine's.
    pub(crate) fn slice<'a>(&self, examples: &'a [usize]) -> Slice<'a> {
        let range = self.range(examples.len());
        match range.is_empty() {
            false => Slice { first: range.start, indices: &examples[range], counts: true },
            true => Slice { first: 0, indices: &examples[..1.min(examples.len())], counts: false },
        }
    }

    fn range(&self, length: usize) -> Range<usize> {
        let at = |rank: usize| rank * length / self.size();
        at(self.rank())..at(self.rank() + 1)
    }
}

/// A machine's part of some examples.
pub(crate) struct Slice<'a> {
    /// How many of all are before it.
    pub(crate) first: usize,
    pub(crate) indices: &'a [usize],
    /// Whether it counts: of fewer examples than machines, some get one all the same, so that all take the same passes.
    pub(crate) counts: bool,
}

/// What is not trained and has one axis: running statistics, and small parameters that are frozen, which are the same
/// everywhere and stay.
fn is_statistic<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    D == 1 && !param.is_require_grad()
}

/// Copies running statistics into one row.
struct Statistics<'a>(&'a mut Vec<f64>);

impl ModuleVisitor for Statistics<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if is_statistic(param) {
            self.0.extend(values(&param.val().into_data()));
        }
    }
}

/// Copies them back.
struct Replacing<'a>(&'a [f32]);

impl ModuleMapper for Replacing<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !is_statistic(&param) {
            return param;
        }
        param.map(|value| {
            let (own, rest) = self.0.split_at(value.shape().num_elements());
            self.0 = rest;
            like(&value, own)
        })
    }
}

fn append<const D: usize>(entries: &mut Vec<f32>, tensor: Tensor<D>) {
    let data = tensor.into_data();
    match data.as_slice::<f32>() {
        Ok(values) => entries.extend_from_slice(values),
        Err(_) => entries.extend(values(&data).into_iter().map(|entry| entry as f32)),
    }
}

/// A tensor of the same shape, place and type.
fn like<const D: usize>(tensor: &Tensor<D>, entries: &[f32]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(entries.to_vec(), tensor.dims()), (&tensor.device(), tensor.dtype()))
}
