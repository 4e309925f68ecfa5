//! The teacher-student task with vectors: a teacher with hidden layers.

use anyhow::Result;
use burn::tensor::Device;
use gradmax::Seed;
use gradmax::networks::MlpConfig;
use gradmax::site::Activation;
use serde::{Deserialize, Serialize};

use super::source::{Answers, DataSet, DataShape, DataSource};
use super::teacher::{self, default_examples, examples_of};
use crate::network::Shape;

/// Targets from a random dense network of sizes `inputs`:`hidden`:`outputs`; a teacher a seed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherStudent {
    /// Inputs of teacher and student.
    inputs: usize,
    /// Neurons of the teacher's hidden layer, or of each of its hidden layers.
    hidden: Hidden,
    /// Number of outputs.
    outputs: usize,
    /// Training examples.
    #[serde(default = "default_examples")]
    examples: usize,
    /// Test examples.
    #[serde(default = "default_examples")]
    test_examples: usize,
}

/// Widths of hidden layers, or of the only one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of neurons, or a list with one for each hidden layer")]
enum Hidden {
    One(usize),
    Each(Vec<usize>),
}

impl Hidden {
    fn widths(&self) -> &[usize] {
        match self {
            Self::One(width) => std::slice::from_ref(width),
            Self::Each(widths) => widths,
        }
    }
}

impl DataSource for TeacherStudent {
    fn shape(&self) -> Result<DataShape> {
        Ok(DataShape::of_maps([self.inputs, 1, 1], self.outputs))
    }

    fn examples(&self) -> usize {
        self.examples
    }

    fn load(&self, seed: Seed, device: &Device) -> Result<DataSet> {
        let teacher = MlpConfig::new(self.inputs, self.hidden.widths(), self.outputs, Activation::Relu);
        let teacher = Shape::Mlp(MlpConfig { bias: false, ..teacher });
        examples_of(&teacher, [self.inputs, 1, 1], [self.examples, self.test_examples], seed, device)
    }

    fn depends_on_seed(&self) -> bool {
        true
    }

    fn answers(&self) -> Result<Answers> {
        Ok(teacher::answers(self.outputs))
    }
}
