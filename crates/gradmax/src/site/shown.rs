//! Tensors of any rank, as a network shows them to a probe.

use burn::tensor::{Device, Int, Tensor};

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
    /// The tensor, whatever its rank.
    fn into_shown(self) -> Shown;
    /// The tensor, of its own rank again.
    ///
    /// # Panics
    /// If it is none of this rank: probes return what they were shown.
    fn from_shown(shown: Shown) -> Self;
}

impl<const D: usize> Showable for Tensor<D> {
    fn into_shown(self) -> Shown {
        let shape = self.dims().to_vec();
        Shown { entries: Entries::Values(self.reshape([shape.iter().product::<usize>()])), shape }
    }

    fn from_shown(shown: Shown) -> Self {
        match shown.entries {
            Entries::Values(values) => values.reshape(shape_of::<D>(&shown.shape)),
            Entries::Indices(_) => panic!("indices were shown where values are expected"),
        }
    }
}

impl<const D: usize> Showable for Tensor<D, Int> {
    fn into_shown(self) -> Shown {
        let shape = self.dims().to_vec();
        Shown { entries: Entries::Indices(self.reshape([shape.iter().product::<usize>()])), shape }
    }

    fn from_shown(shown: Shown) -> Self {
        match shown.entries {
            Entries::Indices(indices) => indices.reshape(shape_of::<D>(&shown.shape)),
            Entries::Values(_) => panic!("values were shown where indices are expected"),
        }
    }
}

fn shape_of<const D: usize>(shape: &[usize]) -> [usize; D] {
    shape
        .try_into()
        .unwrap_or_else(|_| panic!("a tensor of shape {shape:?} was shown where one of {D} axes is expected"))
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

    pub(crate) fn inner(self) -> Self {
        self.map(Tensor::inner)
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
    pub(crate) fn expect_values(&self) -> Tensor<1> {
        self.values().expect("a consumer computes values")
    }

    /// Zeros of the same shape, as a leaf of automatic differentiation: one zero that is seen at every place. To write
    /// them all to fresh memory took half as long as the pass itself (WRN-28-1, 128 images).
    pub(crate) fn zero_leaf(&self) -> Tensor<1> {
        zeros_like(self.expect_values().inner()).autodiff().require_grad()
    }

    pub(crate) fn plus(self, other: Tensor<1>) -> Self {
        self.map(|values| values + other)
    }

    /// Values of the same shape.
    pub(crate) fn with_values(&self, values: Tensor<1>) -> Self {
        Self { entries: Entries::Values(values), shape: self.shape.clone() }
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

/// Zeros of a tensor's length, float type and device, of which one is stored.
fn zeros_like(tensor: Tensor<1>) -> Tensor<1> {
    let [length] = tensor.dims();
    if length == 0 {
        return tensor.zeros_like();
    }
    Tensor::<1>::zeros([1], (&tensor.device(), tensor.dtype())).expand([length])
}
