//! The sides of a neuron: the weights into it, and those out of it.

use serde::{Deserialize, Serialize};

/// The side of new neurons that is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ZeroSide {
    /// Outgoing where a norm follows the producer, incoming elsewhere. A norm divides a neuron by its spread: with zero
    /// incoming weights it multiplies the first gradient by `1/sqrt(epsilon)`, and after the first step blows the
    /// neuron up to unit variance, while its outgoing weights are not trained yet (Evci et al. 2022, appendix C).
    Automatic,
    /// Incoming weights are zero; the paper's default. Needs `f(0) = 0`.
    Incoming,
    /// Outgoing weights are zero ("inverse"); works under any activation.
    Outgoing,
}
