//! Signals: what flows between layers, whatever its rank.

use burn::tensor::{Device, Tensor};

/// Activations of a layer, on a batch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Signal {
    /// Of dense layers: `[batch, neurons]`.
    Vectors(Tensor<2>),
    /// Of two-dimensional convolutions: `[batch, channels, height, width]`.
    Maps(Tensor<4>),
}

/// Tensors that layers read and write, which are signals of one rank.
pub trait Activations: Clone {
    /// The tensor as a signal.
    fn into_signal(self) -> Signal;
    /// The tensor in a signal of this rank.
    ///
    /// # Panics
    /// If the signal has another rank.
    fn from_signal(signal: Signal) -> Self;
}

impl Activations for Tensor<2> {
    fn into_signal(self) -> Signal {
        Signal::Vectors(self)
    }

    fn from_signal(signal: Signal) -> Self {
        match signal {
            Signal::Vectors(tensor) => tensor,
            Signal::Maps(tensor) => wrong_rank("vectors", &tensor.dims()),
        }
    }
}

impl Activations for Tensor<4> {
    fn into_signal(self) -> Signal {
        Signal::Maps(self)
    }

    fn from_signal(signal: Signal) -> Self {
        match signal {
            Signal::Maps(tensor) => tensor,
            Signal::Vectors(tensor) => wrong_rank("maps", &tensor.dims()),
        }
    }
}

fn wrong_rank(wanted: &str, shape: &[usize]) -> ! {
    panic!("a signal of {wanted} was expected where one of shape {shape:?} is; probes return what they were shown")
}

/// Runs an expression on the tensor of a signal, whatever its rank.
macro_rules! with_tensor {
    ($signal:expr, $tensor:ident => $result:expr) => {
        match $signal {
            $crate::site::signal::Signal::Vectors($tensor) => $result,
            $crate::site::signal::Signal::Maps($tensor) => $result,
        }
    };
}

/// Maps the tensor of a signal to one of the same rank.
macro_rules! map_tensor {
    ($signal:expr, $tensor:ident => $result:expr) => {
        match $signal {
            $crate::site::signal::Signal::Vectors($tensor) => $crate::site::signal::Signal::Vectors($result),
            $crate::site::signal::Signal::Maps($tensor) => $crate::site::signal::Signal::Maps($result),
        }
    };
}

pub(crate) use map_tensor;

impl Signal {
    /// The shape: batch, neurons, and the positions of maps.
    pub fn shape(&self) -> Vec<usize> {
        with_tensor!(self, tensor => tensor.dims().to_vec())
    }

    /// Number of neurons: features, or channels.
    pub fn width(&self) -> usize {
        self.shape()[1]
    }

    /// The memory of all entries, as if they lay beside each other.
    pub(crate) fn bytes(&self) -> usize {
        self.shape().iter().product::<usize>() * with_tensor!(self, tensor => tensor.dtype().size())
    }

    /// The device.
    pub fn device(&self) -> Device {
        with_tensor!(self, tensor => tensor.device())
    }

    pub(crate) fn inner(self) -> Self {
        map_tensor!(self, tensor => tensor.inner())
    }

    /// Zeros of the same shape, as a leaf of automatic differentiation: one zero that is seen at every place. To write them
    /// all to fresh memory took half as long as the pass itself (WRN-28-1, 128 images).
    pub(crate) fn zero_leaf(&self) -> Self {
        map_tensor!(self.clone(), tensor => zeros_like(tensor.inner()).autodiff().require_grad())
    }

    pub(crate) fn scaled(self, factor: f64) -> Self {
        match factor == 1.0 {
            true => self,
            false => map_tensor!(self, tensor => tensor.mul_scalar(factor)),
        }
    }

    /// The positions of maps as vectors of their own: `[batch * positions, neurons]`.
    pub(crate) fn by_position(self) -> Self {
        match self {
            Self::Vectors(tensor) => Self::Vectors(tensor),
            Self::Maps(tensor) => {
                let [batch, channels, height, width] = tensor.dims();
                Self::Vectors(tensor.permute([0, 2, 3, 1]).reshape([batch * height * width, channels]))
            }
        }
    }

    /// Neurons `start..start + count`.
    pub(crate) fn narrow(self, start: usize, count: usize) -> Self {
        match start == 0 && count == self.width() {
            true => self,
            false => map_tensor!(self, tensor => tensor.narrow(1, start, count)),
        }
    }

    /// The norm of all entries, summed on the device.
    pub(crate) fn norm(&self) -> f64 {
        with_tensor!(self, tensor => tensor.clone().square().sum().into_scalar::<f64>().sqrt())
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Vectors(a), Self::Vectors(b)) => Self::Vectors(a + b),
            (Self::Maps(a), Self::Maps(b)) => Self::Maps(a + b),
            (a, b) => panic!("signals of shapes {:?} and {:?} cannot be added", a.shape(), b.shape()),
        }
    }

    /// The sum of the products of entries.
    pub(crate) fn inner_product(self, other: Self) -> Tensor<1> {
        match (self, other) {
            (Self::Vectors(a), Self::Vectors(b)) => (a * b).sum(),
            (Self::Maps(a), Self::Maps(b)) => (a * b).sum(),
            (a, b) => panic!("signals of shapes {:?} and {:?} have no inner product", a.shape(), b.shape()),
        }
    }

    /// The sum of each neuron's entries: `[neurons]`.
    pub(crate) fn sum_by_neuron(&self) -> Tensor<1> {
        let count = self.width();
        match self.clone() {
            Self::Vectors(tensor) => tensor.sum_dim(0).reshape([count]),
            Self::Maps(tensor) => {
                let [batch, _, height, width] = tensor.dims();
                tensor.reshape([batch, count, height * width]).sum_dim(2).sum_dim(0).reshape([count])
            }
        }
    }

    /// Adds a value to every neuron: `[neurons]`.
    pub(crate) fn plus_bias(self, bias: Tensor<1>) -> Self {
        let [count] = bias.dims();
        match self {
            Self::Vectors(tensor) => Self::Vectors(tensor + bias.reshape([1, count])),
            Self::Maps(tensor) => Self::Maps(tensor + bias.reshape([1, count, 1, 1])),
        }
    }

    /// The maps.
    ///
    /// # Panics
    /// If these are vectors: sites are checked before their layers run.
    pub(crate) fn maps(self) -> Tensor<4> {
        Tensor::<4>::from_signal(self)
    }

    /// The features of all positions side by side: `[batch, neurons * positions]`.
    pub(crate) fn flattened(self) -> Tensor<2> {
        match self {
            Self::Vectors(tensor) => tensor,
            Self::Maps(tensor) => {
                let [batch, channels, height, width] = tensor.dims();
                tensor.reshape([batch, channels * height * width])
            }
        }
    }
}

/// Zeros of a tensor's shape, float type and device, of which one is stored.
fn zeros_like<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let shape = tensor.dims();
    if shape.contains(&0) {
        return tensor.zeros_like();
    }
    let zero = Tensor::<D>::zeros([1; D], (&tensor.device(), tensor.dtype()));
    zero.expand(shape)
}
