//! The activations that networks of this crate use, with the slope at zero that growth relies on.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// An elementwise nonlinearity.
///
/// Growth with zero incoming weights needs `f(0) = 0` and a slope at 0 that is not zero
/// (Evci et al. 2022, section 3). Both are measured on the function itself when a network grows:
/// see [`Between::at_zero`](crate::site::Between::at_zero).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// The identity, for linear networks.
    Identity,
    /// `max(x, 0)` with slope 1 at 0, as the paper uses it. Burn's own `relu` has slope 0 there,
    /// and a new neuron would never receive a gradient.
    Relu,
    /// `x` where it is positive, `0.01 x` elsewhere.
    LeakyRelu,
    /// The hyperbolic tangent.
    Tanh,
    /// The Gaussian error linear unit; slope 1/2 at 0.
    Gelu,
    /// `x * sigmoid(x)`, also known as swish; slope 1/2 at 0.
    Silu,
    /// `x` where it is positive, `exp(x) - 1` elsewhere.
    Elu,
    /// The logistic function. `f(0) = 1/2`: trains, but cannot grow with zero incoming weights.
    Sigmoid,
    /// `ln(1 + exp(x))`. `f(0) = ln 2`: trains, but cannot grow with zero incoming weights.
    Softplus,
}

impl Activation {
    /// Applies the function to every entry.
    pub fn apply<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Identity => input,
            Self::Relu => flexconv::relu(input),
            Self::LeakyRelu => activation::leaky_relu(input, 0.01),
            Self::Tanh => activation::tanh(input),
            Self::Gelu => flexconv::gelu(input),
            Self::Silu => flexconv::silu(input),
            Self::Elu => activation::elu(input, 1.0),
            Self::Sigmoid => activation::sigmoid(input),
            Self::Softplus => activation::softplus(input, 1.0),
        }
    }

    /// The name used in configurations.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Relu => "relu",
            Self::LeakyRelu => "leaky_relu",
            Self::Tanh => "tanh",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::Elu => "elu",
            Self::Sigmoid => "sigmoid",
            Self::Softplus => "softplus",
        }
    }
}
