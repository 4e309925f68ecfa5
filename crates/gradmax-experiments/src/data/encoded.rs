//! Examples as a network reads them, while they are read from a file.

use std::path::Path;

use anyhow::{Result, bail};
use burn::tensor::{Device, Tensor, TensorData};
use gradmax::training::{InMemory, Target};

use super::images::Size;
use super::source::Answers;
use crate::reading::Reading;

/// Inputs and targets, example by example.
#[derive(Default)]
pub struct Encoded {
    pub inputs: Vec<f32>,
    /// A class, or the values of all outputs.
    pub targets: Vec<f32>,
}

impl Encoded {
    /// Examples of this size for a network with such answers; there must be some in the file.
    pub fn examples(
        self,
        [channels, height, width]: Size,
        answers: &Answers,
        file: &Path,
        device: &Device,
    ) -> Result<InMemory<Reading>> {
        let Self { inputs, targets } = self;
        if targets.is_empty() {
            bail!("{} has no rows to score; raise the share, or name another file", file.display());
        }
        let count = inputs.len() / (channels * height * width);
        let inputs = TensorData::new(inputs, [count, channels, height, width]);
        let target = match answers {
            Answers::Classes(_) => Target::classes(targets.into_iter().map(|class| class as u32), device),
            Answers::Bytes => bail!("{} is a table, and the network reads text", file.display()),
            Answers::Values(quantities) => {
                Target::Values(Tensor::from_data(TensorData::new(targets, [count, quantities.len()]), device))
            }
        };
        Ok(InMemory::new(Reading::Maps(Tensor::from_data(inputs, device)), target))
    }
}
