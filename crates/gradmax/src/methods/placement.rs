//! Which side of a new neuron is zero, and how large the other one is.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::site::declaration::Site;
use crate::site::side::Side;

/// Zero side, scale and epsilon: what all growth methods have in common.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// The side whose weights are zero, so that the output does not change.
    pub zero_side: SidePolicy,
    /// What the other side's norm refers to.
    pub scale: Scale,
    /// Multiplies that norm.
    pub factor: f64,
    /// Norm of small random weights on the zero side; 0 for none.
    pub epsilon: f64,
}

impl Default for Placement {
    /// The authors' settings for image networks: half the mean norm of the existing neurons; zero incoming weights, or
    /// zero outgoing ones where a norm follows the producer.
    fn default() -> Self {
        Self { zero_side: SidePolicy::Automatic, scale: Scale::Mean, factor: 0.5, epsilon: 0.0 }
    }
}

impl Placement {
    /// Checks that factor and epsilon make sense.
    ///
    /// # Errors
    /// [`Error::BadOption`].
    pub fn check(&self) -> Result<(), Error> {
        if !(self.factor > 0.0 && self.factor.is_finite()) {
            return Err(Error::BadOption {
                option: "factor",
                value: self.factor.to_string(),
                remedy: "the scale of new neurons must be a positive number",
            });
        }
        if !(self.epsilon >= 0.0 && self.epsilon.is_finite()) {
            return Err(Error::BadOption {
                option: "epsilon",
                value: self.epsilon.to_string(),
                remedy: "the norm of the weights on the zero side must be 0 or a positive number",
            });
        }
        Ok(())
    }
}

/// Which side of new neurons is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SidePolicy {
    /// Outgoing where a norm follows the producer, incoming elsewhere. A norm divides a neuron by its spread: with zero
    /// incoming weights it multiplies the first gradient by `1/sqrt(epsilon)`, and after the first step blows the
    /// neuron up to unit variance, while its outgoing weights are not trained yet (Evci et al. 2022, appendix C).
    Automatic,
    /// Incoming weights are zero; the paper's default. Needs `f(0) = 0`.
    Incoming,
    /// Outgoing weights are zero ("inverse"); works under any activation.
    Outgoing,
}

impl SidePolicy {
    /// The side that is zero at a site.
    pub fn at(self, site: &Site) -> Side {
        match self {
            Self::Automatic if site.has_norm() => Side::Outgoing,
            Self::Automatic | Self::Incoming => Side::Incoming,
            Self::Outgoing => Side::Outgoing,
        }
    }
}

/// What the norm of new weights refers to. A neuron's norm is L2 over all axes but the neurons' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Each new neuron gets the factor times the mean norm of the existing neurons on that side (the authors' code).
    Mean,
    /// Each new neuron gets the factor times the norm that it would have in a freshly initialised layer of the new width
    /// (He et al. 2015): that of trained weights may have grown, or been shrunk by weight decay.
    Fresh,
    /// Each new neuron gets the factor itself (the authors' code for VGG).
    Fixed,
    /// All directions are multiplied by `c / ||(s_1, ..., s_k)||`, with `c` the factor times the mean norm of the
    /// existing neurons and `s` the singular values (the paper's text, below eq. 11): the new weights' gradient then
    /// has norm `c`. For other methods, the norm of the gradient of the unscaled directions takes the place of `||s||`.
    Joint,
}
