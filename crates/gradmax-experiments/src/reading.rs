//! What the networks of this program read.

use burn::tensor::{Device, Int, Tensor};
use gradmax::training::Rows;

/// What a network reads: a batch of examples.
#[derive(Debug, Clone)]
pub enum Reading {
    /// Features or images, `[batch, channels, height, width]`.
    Maps(Tensor<4>),
    /// Sequences of token indices, `[batch, time]`.
    Tokens(Tensor<2, Int>),
}

impl Reading {
    /// The maps.
    ///
    /// # Panics
    /// If these are tokens: a configuration whose network does not read what its data has is refused.
    pub fn maps(self) -> Tensor<4> {
        match self {
            Self::Maps(maps) => maps,
            Self::Tokens(_) => panic!("the network reads features or images, and was given tokens"),
        }
    }

    /// The tokens.
    ///
    /// # Panics
    /// As [`maps`](Self::maps).
    pub fn tokens(self) -> Tensor<2, Int> {
        match self {
            Self::Tokens(tokens) => tokens,
            Self::Maps(_) => panic!("the network reads tokens, and was given features or images"),
        }
    }
}

impl Rows for Reading {
    fn count(&self) -> usize {
        match self {
            Self::Maps(maps) => maps.dims()[0],
            Self::Tokens(tokens) => tokens.dims()[0],
        }
    }

    fn rows(&self, indices: Tensor<1, Int>) -> Self {
        match self {
            Self::Maps(maps) => Self::Maps(maps.rows(indices)),
            Self::Tokens(tokens) => Self::Tokens(tokens.rows(indices)),
        }
    }

    fn device(&self) -> Device {
        match self {
            Self::Maps(maps) => maps.device(),
            Self::Tokens(tokens) => tokens.device(),
        }
    }
}
