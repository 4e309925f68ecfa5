//! Signals: what flows between layers, whatever its rank.

use burn::tensor::{Device, Int, Tensor};

use crate::site::shown::Shown;

/// Activations of a layer on a batch: examples, neurons, positions.
///
/// Dense activations `[batch, features]`, sequences `[batch, time, features]` and maps `[batch, channels, height,
/// width]` are the same thing to growth. Which axis of a tensor holds the neurons is a property of the layer that
/// computes or reads it, its [`Layout`].
#[derive(Debug, Clone)]
pub struct Signal {
    /// `[examples, neurons, positions]`.
    entries: Tensor<3>,
    /// The axes of positions, such as height and width; none for plain features.
    positions: Vec<usize>,
}

/// The shape of a [`Signal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalShape {
    /// Number of examples.
    pub examples: usize,
    /// Number of neurons.
    pub neurons: usize,
    /// The axes of positions, such as height and width; none for plain features.
    pub positions: Vec<usize>,
}

impl SignalShape {
    /// As axes: examples, neurons, positions.
    pub fn axes(&self) -> Vec<usize> {
        [&[self.examples, self.neurons], self.positions.as_slice()].concat()
    }

    /// Number of entries.
    pub(crate) fn entries(&self) -> usize {
        self.examples * self.neurons * self.positions.iter().product::<usize>()
    }

    /// Zeros of this shape.
    pub fn zeros(&self, device: &Device) -> Signal {
        let positions = self.positions.iter().product();
        Signal {
            entries: Tensor::zeros([self.examples, self.neurons, positions], device),
            positions: self.positions.clone(),
        }
    }
}

/// Which axis of a tensor holds the neurons of the layer that computes or reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The last axis, after any number of axes of positions: `[examples, ..., neurons]`, as at dense layers.
    Last,
    /// The second axis, followed by so many axes of positions: `[examples, neurons, ...]`, as at convolutions.
    Second(usize),
}

impl Layout {
    /// The number of axes of positions, if the layer has a fixed one.
    pub(crate) fn position_axes(self) -> Option<usize> {
        match self {
            Self::Last => None,
            Self::Second(axes) => Some(axes),
        }
    }

    /// What a tensor of this layout shows; none if its rank does not fit, or if it holds indices.
    pub(crate) fn signal(self, shown: &Shown) -> Option<Signal> {
        let (values, shape) = (shown.values()?, shown.shape());
        if shape.len() < 2 {
            return None;
        }
        match self {
            Self::Last => {
                let (examples, neurons) = (shape[0], shape[shape.len() - 1]);
                let positions = shape[1..shape.len() - 1].to_vec();
                let count = positions.iter().product::<usize>();
                Some(Signal::of_rows(values.reshape([examples * count, neurons]), examples, positions))
            }
            Self::Second(axes) if shape.len() == 2 + axes => {
                let positions = shape[2..].to_vec();
                let entries = values.reshape([shape[0], shape[1], positions.iter().product()]);
                Some(Signal { entries, positions })
            }
            Self::Second(_) => None,
        }
    }
}

impl Signal {
    /// Plain features: `[examples, neurons]`.
    pub fn of_features(features: Tensor<2>) -> Self {
        let [examples, neurons] = features.dims();
        Self { entries: features.reshape([examples, neurons, 1]), positions: Vec::new() }
    }

    /// Activations with the neurons on the second axis: `[examples, neurons, ...]`.
    pub fn of_channels<const D: usize>(tensor: Tensor<D>) -> Self {
        let dims = tensor.dims();
        let positions = dims[2..].to_vec();
        let entries = tensor.reshape([dims[0], dims[1], positions.iter().product()]);
        Self { entries, positions }
    }

    /// Activations from a row for each position of each example, `[examples * positions, neurons]`.
    pub fn of_rows(rows: Tensor<2>, examples: usize, positions: Vec<usize>) -> Self {
        let (count, [_, neurons]) = (positions.iter().product::<usize>(), rows.dims());
        let entries = match count {
            1 => rows.reshape([examples, neurons, 1]),
            _ => rows.reshape([examples, count, neurons]).swap_dims(1, 2),
        };
        Self { entries, positions }
    }

    /// With the neurons on the second axis: `[examples, neurons, ...]`.
    ///
    /// # Panics
    /// If there are not `D - 2` axes of positions: sites are checked before their layers run.
    pub fn channels<const D: usize>(self) -> Tensor<D> {
        let axes = self.shape().axes();
        let shape: [usize; D] =
            axes.try_into().unwrap_or_else(|axes| panic!("a signal of shape {axes:?} is none of {D} axes"));
        self.entries.reshape(shape)
    }

    /// A row for each position of each example: `[examples * positions, neurons]`.
    pub fn rows(self) -> Tensor<2> {
        let [examples, neurons, positions] = self.entries.dims();
        match positions {
            1 => self.entries.reshape([examples, neurons]),
            _ => self.entries.swap_dims(1, 2).reshape([examples * positions, neurons]),
        }
    }

    /// The features of all positions side by side, each neuron's after another: `[examples, neurons * positions]`.
    pub fn flattened(self) -> Tensor<2> {
        let [examples, neurons, positions] = self.entries.dims();
        self.entries.reshape([examples, neurons * positions])
    }

    /// The shape.
    pub fn shape(&self) -> SignalShape {
        let [examples, neurons, _] = self.entries.dims();
        SignalShape { examples, neurons, positions: self.positions.clone() }
    }

    /// Number of examples.
    pub fn examples(&self) -> usize {
        self.entries.dims()[0]
    }

    /// Number of neurons: features, or channels.
    pub fn width(&self) -> usize {
        self.entries.dims()[1]
    }

    /// The axes of positions.
    pub fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// The device.
    pub fn device(&self) -> Device {
        self.entries.device()
    }

    /// The entries `[examples, neurons, positions]`, mapped to others of this shape.
    #[must_use]
    pub fn map(self, of: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Self {
        Self { entries: of(self.entries), positions: self.positions }
    }

    /// The entries, `[examples, neurons, positions]`.
    pub fn entries(&self) -> Tensor<3> {
        self.entries.clone()
    }

    pub(crate) fn inner(self) -> Self {
        self.map(Tensor::inner)
    }

    /// As part of a graph of automatic differentiation that has no gradient for it.
    pub(crate) fn untracked(self) -> Self {
        self.map(Tensor::autodiff)
    }

    /// As a leaf of automatic differentiation.
    pub(crate) fn leaf(self) -> Self {
        self.map(|entries| entries.autodiff().require_grad())
    }

    /// The gradient of a [leaf](Self::leaf).
    ///
    /// # Panics
    /// If what was differentiated does not depend on it.
    pub(crate) fn gradient(&self, gradients: &burn::tensor::Gradients) -> Self {
        self.clone().map(|leaf| leaf.grad(gradients).expect("the form depends on the signal"))
    }

    pub(crate) fn scaled(self, factor: f64) -> Self {
        match factor == 1.0 {
            true => self,
            false => self.map(|entries| entries.mul_scalar(factor)),
        }
    }

    /// The positions as examples of their own, without positions.
    pub(crate) fn by_position(self) -> Self {
        match self.positions.is_empty() {
            true => self,
            false => Self::of_features(self.rows()),
        }
    }

    /// Neurons `start..start + count`.
    pub(crate) fn narrow(self, start: usize, count: usize) -> Self {
        match start == 0 && count == self.width() {
            true => self,
            false => self.map(|entries| entries.narrow(1, start, count)),
        }
    }

    /// The neurons of several signals of the same examples and positions, one signal's after another's.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn side_by_side(mut signals: Vec<Self>) -> Self {
        match signals.len() {
            1 => signals.remove(0),
            _ => {
                let positions = signals[0].positions.clone();
                let entries = signals.into_iter().map(|signal| signal.entries).collect();
                Self { entries: Tensor::cat(entries, 1), positions }
            }
        }
    }

    /// The norm of all entries, summed on the device.
    pub(crate) fn norm(&self) -> f64 {
        self.entries().square().sum().into_scalar::<f64>().sqrt()
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        let Self { entries, positions } = other;
        assert_eq!(self.positions, positions, "signals that are added have the same positions");
        self.map(|mine| mine + entries)
    }

    /// The sum of the products of entries.
    pub(crate) fn inner_product(self, other: Self) -> Tensor<1> {
        (self.entries * other.entries).sum()
    }

    /// The sum of each neuron's entries: `[neurons]`.
    pub(crate) fn sum_by_neuron(&self) -> Tensor<1> {
        let count = self.width();
        match self.positions.is_empty() {
            true => self.entries().sum_dim(0).reshape([count]),
            false => self.entries().sum_dim(2).sum_dim(0).reshape([count]),
        }
    }

    /// Adds a value to every neuron: `[neurons]`.
    #[must_use]
    pub fn plus_each(self, values: Tensor<1>) -> Self {
        let [count] = values.dims();
        self.map(|entries| entries + values.reshape([1, count, 1]))
    }

    /// Multiplies every neuron by a value: `[neurons]`.
    #[must_use]
    pub fn times_each(self, values: Tensor<1>) -> Self {
        let [count] = values.dims();
        self.map(|entries| entries * values.reshape([1, count, 1]))
    }

    /// The mean over positions of each neuron of each example, `[examples, neurons, 1]`, axis by axis.
    pub(crate) fn mean_over_positions(&self, mut entries: Tensor<3>) -> Tensor<3> {
        let [examples, neurons, _] = entries.dims();
        let mut left = self.positions.iter().product::<usize>();
        for length in &self.positions {
            left /= length;
            entries =
                entries.reshape([examples, neurons, *length, left]).mean_dim(2).reshape([examples, neurons, left]);
        }
        entries
    }
}

/// What a producer reads.
#[derive(Debug, Clone)]
pub enum Input {
    /// Activations, or features of the examples.
    Signal(Signal),
    /// Indices, as an embedding reads them.
    Indices(Indices),
}

/// Indices of examples and positions, as an embedding reads them.
#[derive(Debug, Clone)]
pub struct Indices {
    /// One for each example and position: `[examples * positions]`.
    pub entries: Tensor<1, Int>,
    /// Number of examples.
    pub examples: usize,
    /// The axes of positions, such as time.
    pub positions: Vec<usize>,
}

impl Input {
    /// The activations.
    ///
    /// # Panics
    /// If these are indices: sites are checked before their layers run.
    pub fn signal(&self) -> &Signal {
        match self {
            Self::Signal(signal) => signal,
            Self::Indices(_) => panic!("the layer reads activations, and was given indices"),
        }
    }

    /// Number of examples.
    pub fn examples(&self) -> usize {
        match self {
            Self::Signal(signal) => signal.examples(),
            Self::Indices(indices) => indices.examples,
        }
    }

    /// The axes of positions.
    pub fn positions(&self) -> &[usize] {
        match self {
            Self::Signal(signal) => signal.positions(),
            Self::Indices(indices) => &indices.positions,
        }
    }

    /// The device.
    pub fn device(&self) -> Device {
        match self {
            Self::Signal(signal) => signal.device(),
            Self::Indices(indices) => indices.entries.device(),
        }
    }

    /// The norm of all entries; of indices, that of the one-hot vectors that they stand for.
    pub(crate) fn norm(&self) -> f64 {
        match self {
            Self::Signal(signal) => signal.norm(),
            Self::Indices(indices) => (indices.entries.dims()[0] as f64).sqrt(),
        }
    }
}
