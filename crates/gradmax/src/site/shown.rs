//! Tensors of any rank, as a network shows them to a probe.

use std::fmt;

use burn::tensor::{Device, Gradients, Int, Tensor};

/// A tensor of any rank. Which of its axes are neurons, the layers of the site know that it is shown for.
#[derive(Debug, Clone)]
pub struct Shown {
    entries: Entries,
    shape: Vec<usize>,
}

#[derive(Debug, Clone)]
enum Entries {
    Values(Tensor<1>),
    Indices(Tensor<1, Int>),
}

/// Tensors that a network can show to a probe: of any rank, of floats or of indices.
pub trait Showable: Clone {
    /// The tensor, whatever its rank, without its graph of automatic differentiation.
    fn into_shown(self) -> Shown;
    /// The tensor with a zero added, whose gradient is the gradient there.
    ///
    /// # Panics
    /// If it holds indices, which have no gradient: readers compute values.
    fn tapped(self) -> (Self, Tap);
}

/// A zero that was added to what a reader computes; after the backward pass it gives the gradient there.
pub struct Tap(Box<dyn FnOnce(&mut Gradients) -> Shown>);

impl Tap {
    /// Takes the gradient out of those of the loss; zeros if the loss does not depend on what was tapped.
    pub fn gradient(self, gradients: &mut Gradients) -> Shown {
        (self.0)(gradients)
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tap")
    }
}

impl<const D: usize> Showable for Tensor<D> {
    fn into_shown(self) -> Shown {
        let shape = self.dims().to_vec();
        Shown { entries: Entries::Values(self.inner().reshape([shape.iter().product::<usize>()])), shape }
    }

    fn tapped(self) -> (Self, Tap) {
        let zero = zeros_like(self.clone().inner()).autodiff().require_grad();
        let tap = zero.clone();
        let gradient = move |gradients: &mut Gradients| {
            tap.grad_remove(gradients).unwrap_or_else(|| tap.inner().zeros_like()).into_shown()
        };
        (self + zero, Tap(Box::new(gradient)))
    }
}

impl<const D: usize> Showable for Tensor<D, Int> {
    fn into_shown(self) -> Shown {
        let shape = self.dims().to_vec();
        Shown { entries: Entries::Indices(self.reshape([shape.iter().product::<usize>()])), shape }
    }

    fn tapped(self) -> (Self, Tap) {
        panic!("a reader computes values, and indices were shown")
    }
}

impl Shown {
    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The entries, flat, if they are values.
    pub fn values(&self) -> Option<Tensor<1>> {
        match &self.entries {
            Entries::Values(values) => Some(values.clone()),
            Entries::Indices(_) => None,
        }
    }

    /// The entries, flat, if they are indices.
    pub fn indices(&self) -> Option<Tensor<1, Int>> {
        match &self.entries {
            Entries::Values(_) => None,
            Entries::Indices(indices) => Some(indices.clone()),
        }
    }

    pub(crate) fn has_examples(&self) -> bool {
        self.shape.first().is_some_and(|examples| *examples > 0)
    }

    /// The memory of all entries, as if they lay beside each other.
    pub(crate) fn bytes(&self) -> usize {
        let entry = match &self.entries {
            Entries::Values(values) => values.dtype().size(),
            Entries::Indices(indices) => indices.dtype().size(),
        };
        self.shape.iter().product::<usize>() * entry
    }

    fn map(self, of: impl FnOnce(Tensor<1>) -> Tensor<1>) -> Self {
        let entries = match self.entries {
            Entries::Values(values) => Entries::Values(of(values)),
            indices @ Entries::Indices(_) => indices,
        };
        Self { entries, shape: self.shape }
    }

    /// Values like these.
    ///
    /// # Panics
    /// If these are indices, which have no gradient: consumers compute values.
    fn expect_values(&self) -> Tensor<1> {
        self.values().expect("a consumer computes values")
    }

    pub(crate) fn plus(self, other: Tensor<1>) -> Self {
        self.map(|values| values + other)
    }

    pub(crate) fn scaled(self, factor: f64) -> Self {
        match factor == 1.0 {
            true => self,
            false => self.map(|values| values.mul_scalar(factor)),
        }
    }

    /// The norm of all entries, summed on the device.
    pub(crate) fn norm(&self) -> f64 {
        self.expect_values().square().sum().into_scalar::<f64>().sqrt()
    }

    /// The first example, if there is one, in memory of its own: a part of a tensor keeps the whole one alive.
    pub(crate) fn first_example(&self) -> Self {
        let examples = self.shape[0].min(1);
        let shape = [&[examples], &self.shape[1..]].concat();
        let count = shape.iter().product();
        let entries = match &self.entries {
            Entries::Values(values) => {
                let place = (&values.device(), values.dtype());
                Entries::Values(Tensor::from_data(values.clone().narrow(0, 0, count).into_data(), place))
            }
            Entries::Indices(indices) => {
                let place = (&indices.device(), indices.dtype());
                Entries::Indices(Tensor::from_data(indices.clone().narrow(0, 0, count).into_data(), place))
            }
        };
        Self { entries, shape }
    }

    /// The device.
    pub fn device(&self) -> Device {
        match &self.entries {
            Entries::Values(values) => values.device(),
            Entries::Indices(indices) => indices.device(),
        }
    }
}

/// Zeros of a tensor's shape, float type and device, of which one is stored: to write them all to fresh memory took half
/// as long as the pass itself (WRN-28-1, 128 images).
fn zeros_like<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let shape = tensor.dims();
    if shape.contains(&0) {
        return tensor.zeros_like();
    }
    Tensor::<D>::zeros([1; D], (&tensor.device(), tensor.dtype())).expand(shape)
}
