//! The sides of a neuron.

/// The weights into a neuron, or those out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The weights into it, which its producer has.
    Incoming,
    /// The weights out of it, which its consumers have.
    Outgoing,
}
