//! What a data set is to an experiment: sizes that are known beforehand, and examples once it is read.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use gradmax::Seed;
use gradmax::training::{Examples, InMemory, Split, Supervised, Target};

use super::held_out::{HeldOut, Subset};
use super::images::Size;
use super::scale::Scale;
use crate::failure::misuse;
use crate::reading::Reading;
use serde::{Deserialize, Serialize};

/// A data set with its options, as `[data]` of a configuration names it.
pub trait DataSource: Debug + Send + Sync {
    /// Sizes of an example and of the network's output, known before the data is read.
    ///
    /// # Errors
    /// If the options do not fit together.
    fn shape(&self) -> Result<DataShape>;

    /// Number of training examples, as far as it is known without reading the data.
    fn examples(&self) -> usize;

    /// Reads or makes the data.
    ///
    /// # Errors
    /// If the data is not there, or damaged.
    fn load(&self, seed: Seed, device: &Device) -> Result<DataSet>;

    /// Checks what can be checked without reading the data.
    ///
    /// # Errors
    /// If an option makes no sense, alone or with the batches that are trained on.
    fn check(&self, _batch_size: Option<usize>) -> Result<()> {
        Ok(())
    }

    /// Whether every seed has data of its own.
    fn depends_on_seed(&self) -> bool {
        false
    }

    /// Takes notice that a share of the training examples is held out for validation, so that what is found in the
    /// data is found in the others only.
    fn leave_out(&mut self, _share: f64) {}

    /// Examples of a file or folder that is like that of the test examples.
    ///
    /// # Errors
    /// If there is no such data, or it is damaged.
    fn other(&self, _path: &Path, _device: &Device) -> Result<AnyExamples> {
        Err(misuse("this data set cannot be read from another file or folder; name a share, for example 0.1"))
    }

    /// The folders and files that the options name, with the names of these options.
    fn paths_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        Vec::new()
    }

    /// Writes into the options what depends on the current folder or on data that may be gone later: where the data
    /// was found, how many classes there are.
    ///
    /// # Errors
    /// If the current folder cannot be told.
    fn locate(&mut self) -> Result<()> {
        Ok(())
    }

    /// What is taken for granted about data that is not there, in a sentence.
    fn assumption(&self) -> Option<String> {
        None
    }

    /// What was found in the data and is needed to use a network without it, which its run keeps; none if the options
    /// say all.
    ///
    /// # Errors
    /// If the data cannot be read.
    fn kept(&self) -> Result<Option<serde_json::Value>> {
        Ok(None)
    }

    /// Takes what a run [kept](Self::kept) in place of looking at the data.
    ///
    /// # Errors
    /// If it is not of this kind.
    fn restore(&mut self, _kept: serde_json::Value) -> Result<()> {
        Ok(())
    }

    /// What a network's outputs mean.
    ///
    /// # Errors
    /// If the data is needed to tell, and cannot be read.
    fn answers(&self) -> Result<Answers>;

    /// How what a network reads is standardised: each feature, or each channel of images. None if it is read as it is.
    ///
    /// # Errors
    /// As [`answers`](Self::answers).
    fn input_scales(&self) -> Result<Option<Vec<Scale>>> {
        Ok(None)
    }

    /// What a network reads of a file that is not part of the data.
    ///
    /// # Errors
    /// If the file cannot be read, or does not fit the network.
    fn inputs(&self, _file: &Path, _device: &Device) -> Result<Inputs> {
        Err(misuse("networks on this data read no files"))
    }

    /// Where the data is read from, as `gradmax data path` prints it.
    ///
    /// # Errors
    /// If it is not there.
    fn place(&self) -> Result<String> {
        Err(misuse("this data is made from its options and the seed; there is nothing to look for"))
    }

    /// Reads the data whole and says what is in it, as `gradmax data check` prints it.
    ///
    /// # Errors
    /// If the data is not there, or anything is wrong with it.
    fn describe(&self) -> Result<String> {
        self.place()
    }
}

/// A half of a data set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Half {
    Train,
    Test,
}

/// Numbers that are known before the data is read.
#[derive(Debug, Clone, Copy)]
pub struct DataShape {
    /// Channels, height and width of an example.
    pub input: Size,
    /// Number of outputs.
    pub outputs: usize,
    /// Whether examples are sequences of tokens; their width is then the number of tokens of each.
    pub has_tokens: bool,
}

impl DataShape {
    /// Of features or images.
    pub fn of_maps(input: Size, outputs: usize) -> Self {
        Self { input, outputs, has_tokens: false }
    }
}

/// What is learned of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Which of its values it is.
    Classification,
    /// Its value.
    Regression,
}

/// What the outputs of a network mean.
#[derive(Debug, Clone, PartialEq)]
pub enum Answers {
    /// The names of the classes, whose probabilities are the softmax of the outputs.
    Classes(Vec<String>),
    /// Values, each a standardised output.
    Values(Vec<Quantity>),
    /// For each byte of a text, the one that follows, whose probabilities are the softmax of the outputs.
    Bytes,
}

impl Answers {
    /// What a network with such answers is trained to do.
    pub fn task(&self) -> Supervised {
        match self {
            Self::Classes(_) => Supervised::Classification,
            Self::Values(_) => Supervised::Regression,
            Self::Bytes => Supervised::NextToken,
        }
    }
}

/// A value that a network answers with.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    /// What it is called.
    pub name: String,
    /// How it is standardised.
    pub scale: Scale,
}

/// What a network reads, and what each example is called.
pub struct Inputs {
    /// A name for each example: a row's number, or a file.
    pub names: Vec<String>,
    /// The examples.
    pub tensor: Tensor<4>,
}

/// Training, validation and test examples on a device.
pub struct DataSet {
    /// Training examples.
    pub train: AnyExamples,
    /// Validation examples, if some are held out.
    pub validation: Option<AnyExamples>,
    /// Test examples.
    pub test: AnyExamples,
    /// What is to be learned.
    pub task: Supervised,
}

impl DataSet {
    /// Training and test examples.
    pub fn new(train: AnyExamples, test: AnyExamples, task: Supervised) -> Self {
        Self { train, validation: None, test, task }
    }

    /// The same set, of whose training examples a share is held out for validation.
    pub(super) fn holding_out(self, share: f64) -> Result<Self> {
        let [kept, held] = HeldOut::new(share).split(self.train.count());
        if kept.is_empty() || held.is_empty() {
            return Err(misuse(format!(
                "`data.validation` is {share}, which leaves {} of {} training examples and holds out {}; there must be \
                 some of both",
                kept.len(),
                self.train.count(),
                held.len()
            )));
        }
        let validation = Subset { examples: self.train.for_one_run(), indices: held };
        let train = Subset { examples: self.train, indices: kept };
        Ok(Self { train: Box::new(train), validation: Some(Box::new(validation)), ..self })
    }

    /// The examples of a split.
    ///
    /// # Errors
    /// If there are no validation examples.
    pub fn split(&self, split: Split) -> Result<&AnyExamples> {
        match split {
            Split::Train => Ok(&self.train),
            Split::Validation => self.validation.as_ref().ok_or_else(|| {
                misuse("there are no validation examples; hold some out with `data.validation`, for example 0.1")
            }),
            Split::Test => Ok(&self.test),
        }
    }

    /// The same examples for another run, side by side with this one: with nothing that the two would take from each
    /// other.
    pub fn for_one_run(&self) -> Self {
        let validation = self.validation.as_ref().map(|validation| validation.for_one_run());
        Self { train: self.train.for_one_run(), validation, test: self.test.for_one_run(), task: self.task }
    }

    /// Images that were passed over so far, each with the reason.
    pub fn passed_over(&self) -> Vec<String> {
        let sets = [Some(&self.train), self.validation.as_ref(), Some(&self.test)];
        sets.into_iter().flatten().flat_map(|examples| examples.passed_over()).collect()
    }
}

/// Examples for the networks of this program, which runs side by side can share.
pub trait SharedExamples: Examples<Input = Reading, Target = Target> + Send + Sync {
    /// The same examples for one run, without the state of any other.
    fn for_one_run(&self) -> AnyExamples;

    /// Examples that were passed over because they cannot be read, each with the reason.
    fn passed_over(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Examples of any kind.
pub type AnyExamples = Box<dyn SharedExamples>;

impl SharedExamples for InMemory<Reading> {
    fn for_one_run(&self) -> AnyExamples {
        Box::new(self.clone())
    }
}
