//! Sites: the places of a network where neurons can be added.

use burn::tensor::{Device, Tensor};

use crate::activation::Activation;
use crate::error::Error;
use crate::layer::Layer;

/// A place where neurons live: the layer that computes them, what lies between, and the layer that reads them.
///
/// To add a neuron is to add *incoming* weights (and a bias) to the producer, an entry to each layer between,
/// and *outgoing* weights to the consumer.
#[derive(Debug, Clone)]
pub struct Site {
    /// The name by which plans, schedules, receipts and the probe know the site; unique in a network.
    pub name: String,
    /// The layer whose outputs are the neurons.
    pub producer: Layer,
    /// What is applied to the neurons before they are read, in order.
    pub between: Vec<Between>,
    /// The layer that reads the neurons.
    pub consumer: Layer,
}

impl Site {
    /// A site from its layers.
    ///
    /// # Example
    /// ```
    /// # use burn::{nn::LinearConfig, tensor::Device};
    /// use gradmax::{Activation, Site};
    /// # let device = Device::default();
    /// # let (hidden, output) = (LinearConfig::new(4, 3).init(&device), LinearConfig::new(3, 2).init(&device));
    /// let site = Site::new("hidden", &hidden, [Activation::Relu], &output);
    /// assert_eq!((site.fan_in(), site.width(), site.fan_out()), (4, 3, 2));
    /// ```
    pub fn new(
        name: impl Into<String>,
        producer: impl Into<Layer>,
        between: impl IntoIterator<Item = impl Into<Between>>,
        consumer: impl Into<Layer>,
    ) -> Self {
        Self {
            name: name.into(),
            producer: producer.into(),
            between: between.into_iter().map(Into::into).collect(),
            consumer: consumer.into(),
        }
    }

    /// Number of neurons at the site.
    pub fn width(&self) -> usize {
        self.producer.outputs()
    }

    /// Incoming weights of one neuron.
    pub fn fan_in(&self) -> usize {
        self.producer.fan_in()
    }

    /// Outgoing weights of one neuron.
    pub fn fan_out(&self) -> usize {
        self.consumer.fan_out()
    }

    /// Checks that the producer's outputs are the consumer's inputs.
    ///
    /// # Errors
    /// [`Error::SiteMismatch`].
    pub fn check_widths(&self) -> Result<(), Error> {
        let (produced, consumed) = (self.producer.outputs(), self.consumer.inputs());
        if produced == consumed {
            return Ok(());
        }
        Err(Error::SiteMismatch { site: self.name.clone(), produced, consumed })
    }

    /// The slope at zero of everything between producer and consumer, measured on the given device.
    ///
    /// # Errors
    /// [`Error::ActivationNotZeroAtZero`] and [`Error::ActivationFlatAtZero`], for activations under which a neuron with
    /// zero incoming weights would change the output or receive no gradient.
    pub fn slope_at_zero(&self, device: &Device) -> Result<f64, Error> {
        self.between.iter().try_fold(1.0, |slope, between| {
            let at_zero = between.at_zero(device);
            let (site, activation) = (self.name.clone(), between.name().to_string());
            if at_zero.value != 0.0 {
                return Err(Error::ActivationNotZeroAtZero { site, activation, value: at_zero.value });
            }
            if at_zero.slope == 0.0 {
                return Err(Error::ActivationFlatAtZero { site, activation });
            }
            Ok(slope * at_zero.slope)
        })
    }

    /// Applies everything between producer and consumer.
    pub(crate) fn apply_between(&self, neurons: Tensor<2>) -> Tensor<2> {
        self.between.iter().fold(neurons, |neurons, between| between.apply(neurons))
    }
}

/// Something between a producer and a consumer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Between {
    /// One of this crate's activations.
    Activation(Activation),
    /// An elementwise function of the user's own.
    Elementwise {
        /// The name to use in messages.
        name: &'static str,
        /// The function, on a flat tensor.
        function: fn(Tensor<1>) -> Tensor<1>,
    },
}

impl From<Activation> for Between {
    fn from(activation: Activation) -> Self {
        Self::Activation(activation)
    }
}

/// A function's value and slope at zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AtZero {
    /// `f(0)`.
    pub value: f64,
    /// `f'(0)`, as automatic differentiation gives it.
    pub slope: f64,
}

impl Between {
    /// The name to use in messages.
    pub fn name(&self) -> &str {
        match self {
            Self::Activation(activation) => activation.name(),
            Self::Elementwise { name, .. } => name,
        }
    }

    /// Applies it to neurons of any rank.
    pub fn apply<const D: usize>(&self, neurons: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Activation(activation) => activation.apply(neurons),
            Self::Elementwise { function, .. } => {
                let dims = neurons.dims();
                function(neurons.reshape([dims.iter().product::<usize>()])).reshape(dims)
            }
        }
    }

    /// Value and slope at zero, measured by running the function: nothing about it is taken on trust.
    pub fn at_zero(&self, device: &Device) -> AtZero {
        let zero = Tensor::<1>::zeros([1], &device.clone().inner()).autodiff().require_grad();
        let value = self.apply(zero.clone());
        let slope = match value.is_tracked() {
            true => zero.grad(&value.clone().sum().backward()).map_or(0.0, |slope| slope.into_scalar::<f64>()),
            false => 0.0,
        };
        AtZero { value: value.inner().into_scalar::<f64>(), slope }
    }
}
