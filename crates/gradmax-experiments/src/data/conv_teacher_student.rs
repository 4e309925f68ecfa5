//! The teacher-student task with maps: any network of this program can be the teacher.

use anyhow::Result;
use burn::tensor::Device;
use gradmax::Seed;
use serde::{Deserialize, Serialize};

use super::images::Size;
use super::source::{Answers, DataSet, DataShape, DataSource};
use super::teacher::{self, default_examples, examples_of};
use crate::network::NetworkConfig;

/// Targets from a random network that reads maps; a teacher a seed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvTeacherStudent {
    /// Channels, height and width of the inputs.
    input: Size,
    /// Number of outputs.
    outputs: usize,
    /// The network that answers.
    teacher: NetworkConfig,
    /// Training examples.
    #[serde(default = "default_examples")]
    examples: usize,
    /// Test examples.
    #[serde(default = "default_examples")]
    test_examples: usize,
}

impl DataSource for ConvTeacherStudent {
    fn shape(&self) -> Result<DataShape> {
        Ok(DataShape::of_maps(self.input, self.outputs))
    }

    fn examples(&self) -> usize {
        self.examples
    }

    fn load(&self, seed: Seed, device: &Device) -> Result<DataSet> {
        let teacher = self.teacher.shape(DataShape::of_maps(self.input, self.outputs))?;
        examples_of(&teacher, self.input, [self.examples, self.test_examples], seed, device)
    }

    fn depends_on_seed(&self) -> bool {
        true
    }

    fn answers(&self) -> Result<Answers> {
        Ok(teacher::answers(self.outputs))
    }
}
