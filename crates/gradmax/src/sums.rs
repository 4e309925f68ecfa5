//! Sums over examples, wherever the examples lie: the one place that knows whether there are several machines.

use std::fmt::Debug;
use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
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
        let (shape, place) = (tensor.dims(), (&tensor.device(), tensor.dtype()));
        let mut entries = values(&tensor.clone().into_data());
        self.sum(&mut entries);
        let entries = entries.into_iter().map(|entry| entry as f32).collect::<Vec<_>>();
        Tensor::from_data(TensorData::new(entries, shape), place)
    }

    /// The sums of all gradients of a module, of which this machine's count with a weight: its share of the examples.
    pub(crate) fn gradients<M: Module>(&self, module: &M, gradients: GradientsParams, weight: f64) -> GradientsParams {
        if self.is_alone() {
            return gradients;
        }
        let mut summing = Summing { sums: self, gradients, weight };
        module.visit(&mut summing);
        summing.gradients
    }

    /// The part of so many things that is this machine's.
    pub(crate) fn own<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        let at = |rank: usize| rank * all.len() / self.size();
        &all[at(self.rank())..at(self.rank() + 1)]
    }
}

struct Summing<'a> {
    sums: &'a dyn Sums,
    gradients: GradientsParams,
    weight: f64,
}

impl ModuleVisitor for Summing<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, self.sums.tensor(gradient.mul_scalar(self.weight)));
        }
    }
}
