//! Data sets by name.

mod digits;
mod idx;
mod teacher_student;

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use gradmax::{InMemory, Seed, Task};
use serde::{Deserialize, Serialize};

use self::idx::IdxSet;
use crate::failure::misuse;

/// Which data, and how much of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum DataConfig {
    /// Targets from a random two-layer network of sizes `inputs`:`hidden`:`outputs`; a teacher a seed.
    TeacherStudent {
        inputs: usize,
        hidden: usize,
        outputs: usize,
        #[serde(default = "default_examples")]
        examples: usize,
        #[serde(default = "default_examples")]
        test_examples: usize,
    },
    /// The UCI optical digits, 8x8, in the binary; the same fifth of them is held out for every seed.
    Digits {},
    /// MNIST, from its four files.
    Mnist {
        #[serde(skip_serializing_if = "Option::is_none")]
        dir: Option<PathBuf>,
        /// Only the first so many training examples.
        #[serde(skip_serializing_if = "Option::is_none")]
        examples: Option<usize>,
    },
    /// Fashion-MNIST, from its four files.
    FashionMnist {
        #[serde(skip_serializing_if = "Option::is_none")]
        dir: Option<PathBuf>,
        /// Only the first so many training examples.
        #[serde(skip_serializing_if = "Option::is_none")]
        examples: Option<usize>,
    },
}

fn default_examples() -> usize {
    1000
}

/// Training and test examples on a device.
pub struct DataSet {
    pub train: InMemory,
    pub test: InMemory,
    pub task: Task,
}

/// Numbers that are known before the data is read.
pub struct DataShape {
    pub inputs: usize,
    pub outputs: usize,
}

impl DataConfig {
    /// Whether every seed has data of its own.
    pub fn depends_on_seed(&self) -> bool {
        matches!(self, Self::TeacherStudent { .. })
    }

    /// Reads or makes the data.
    pub fn load(&self, seed: u64, device: &Device) -> Result<DataSet> {
        let device = &device.clone().inner();
        match self {
            Self::TeacherStudent { inputs, hidden, outputs, examples, test_examples } => {
                let sizes = [*inputs, *hidden, *outputs];
                teacher_student::load(sizes, [*examples, *test_examples], Seed::new(seed), device)
            }
            Self::Digits {} => Ok(digits::load(device)),
            Self::Mnist { dir, examples } => idx::load(IdxSet::Mnist, dir.as_deref(), *examples, device),
            Self::FashionMnist { dir, examples } => idx::load(IdxSet::FashionMnist, dir.as_deref(), *examples, device),
        }
    }

    /// Sizes of the network's ends.
    pub fn shape(&self) -> DataShape {
        match self {
            Self::TeacherStudent { inputs, outputs, .. } => DataShape { inputs: *inputs, outputs: *outputs },
            Self::Digits {} => DataShape { inputs: digits::PIXELS, outputs: 10 },
            Self::Mnist { .. } | Self::FashionMnist { .. } => DataShape { inputs: idx::PIXELS, outputs: 10 },
        }
    }

    /// Number of training examples, as far as it is known without reading the data.
    pub fn examples(&self) -> usize {
        match self {
            Self::TeacherStudent { examples, .. } => *examples,
            Self::Digits {} => digits::TRAINING,
            Self::Mnist { examples, .. } | Self::FashionMnist { examples, .. } => examples.unwrap_or(idx::TRAINING),
        }
    }
}

/// What `gradmax data check` says of a data set.
pub fn check(name: &str, dir: Option<&Path>) -> Result<String> {
    match set_named(name)? {
        None => Ok(digits::describe()),
        Some(set) => idx::describe(set, dir),
    }
}

/// Where a data set is read from.
pub fn path(name: &str, dir: Option<&Path>) -> Result<String> {
    match set_named(name)? {
        None => Ok("digits are embedded in this binary".into()),
        Some(set) => Ok(idx::folder(set, dir)?.display().to_string()),
    }
}

fn set_named(name: &str) -> Result<Option<IdxSet>> {
    match name {
        "digits" => Ok(None),
        "mnist" => Ok(Some(IdxSet::Mnist)),
        "fashion_mnist" => Ok(Some(IdxSet::FashionMnist)),
        _ => Err(misuse(format!("there is no data set `{name}`; the data sets are: digits, mnist, fashion_mnist"))),
    }
}
