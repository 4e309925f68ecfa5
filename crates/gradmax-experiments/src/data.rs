//! Data sets by name, a file each; a configuration, and `gradmax data`, find them in one list.

mod encoded;
mod held_out;
mod image_set;
mod images;
mod scale;
mod source;
mod teacher;

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use gradmax::Seed;
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use self::held_out::{HeldOut, Validation};
use self::image_set::ImageSet;
pub use self::scale::Scale;
pub use self::source::{Answers, AnyExamples, DataSet, DataShape, DataSource, Inputs, Quantity, SharedExamples};
use crate::config::section;
use crate::failure::misuse;

/// Files of data sets, and the sets in each, with the names that configurations know them by and a line of help: a line
/// a file.
macro_rules! data_sets {
    ($($file:ident: $($name:literal is $kind:ty => $about:literal),+;)+) => {
        $(mod $file;)+

        /// Every data set.
        const DATA_SETS: &[Known] =
            &[$($(Known { name: $name, about: $about, read: read_options::<$kind> }),+),+];
    };
}

data_sets! {
    csv: "csv" is csv::CsvTable => "a table in a file of yours: numbers and categories, for classes or values";
    npy: "npy" is npy::Npy => "arrays of yours in NumPy's .npy and .npz files";
    image_folder: "image_folder" is image_folder::ImageFolder => "a folder of yours with train/CLASS/*.jpg and test/CLASS/*.jpg";
    digits: "digits" is ImageSet<digits::Digits> => "1 797 handwritten digits of 8x8, in the program";
    idx: "mnist" is ImageSet<idx::Mnist> => "70 000 handwritten digits of 28x28",
        "fashion_mnist" is ImageSet<idx::FashionMnist> => "70 000 pictures of clothes of 28x28",
        "emnist" is ImageSet<idx::Emnist> => "handwritten letters and digits of 28x28";
    cifar: "cifar10" is ImageSet<cifar::Cifar10> => "60 000 photographs of 32x32, of 10 classes",
        "cifar100" is ImageSet<cifar::Cifar100> => "60 000 photographs of 32x32, of 100 classes";
    text: "text" is text::Text => "text in files of yours, byte by byte";
    two_spirals: "two_spirals" is two_spirals::TwoSpirals => "which of two interlocked spirals a point lies on";
    teacher_student: "teacher_student" is teacher_student::TeacherStudent => "the outputs of a random dense network";
    conv_teacher_student: "conv_teacher_student" is conv_teacher_student::ConvTeacherStudent =>
        "the outputs of a random convolutional network";
}

/// Every data set with what it is.
pub fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    DATA_SETS.iter().map(|known| (known.name, known.about))
}

/// A data set that configurations can name, and what reads its options.
struct Known {
    name: &'static str,
    about: &'static str,
    read: fn(Table) -> Result<Box<dyn Stored>, String>,
}

fn read_options<T: DataSource + Clone + Serialize + DeserializeOwned + 'static>(
    options: Table,
) -> Result<Box<dyn Stored>, String> {
    Ok(Box::new(section::<T>(&options)?))
}

/// The option of every set that says where validation examples come from.
const VALIDATION: &str = "validation";

/// A data source of any kind, which can be copied and written out.
trait Stored: DataSource {
    fn copied(&self) -> Box<dyn Stored>;
    fn options(&self) -> Result<Table, toml::ser::Error>;
}

impl<T: DataSource + Clone + Serialize + 'static> Stored for T {
    fn copied(&self) -> Box<dyn Stored> {
        Box::new(self.clone())
    }

    fn options(&self) -> Result<Table, toml::ser::Error> {
        Table::try_from(self)
    }
}

/// Which data, and how much of it: the name of a data set, and its options.
#[derive(Debug)]
pub struct DataConfig {
    name: &'static str,
    /// Where validation examples come from, of any set.
    validation: Option<Validation>,
    source: Box<dyn Stored>,
}

impl DataConfig {
    /// The data set of that name, with options.
    fn new(name: &str, mut options: Table) -> Result<Self, String> {
        let known = DATA_SETS.iter().find(|known| known.name == name);
        let known = known.ok_or_else(|| format!("there is no data set `{name}`; the data sets are: {}", names()))?;
        let validation = options.remove(VALIDATION).map(Value::try_into::<Validation>).transpose();
        let validation = validation.map_err(|_| "`validation` must be a share, or a file or folder".to_string())?;
        let mut source = (known.read)(options).map_err(|error| match error.as_str() {
            unknown if unknown.starts_with("unknown field") => format!("{unknown}, or `{VALIDATION}`"),
            other => other.to_string(),
        })?;
        if let Some(Validation::Share(share)) = validation {
            source.leave_out(share);
        }
        Ok(Self { name: known.name, validation, source })
    }

    /// Checks what can be checked without reading the data.
    ///
    /// # Errors
    /// If an option makes no sense, alone or with the batches that are trained on.
    pub fn check(&self, batch_size: Option<usize>) -> Result<()> {
        match self.validation {
            Some(Validation::Share(share)) if !(0.001..1.0).contains(&share) => Err(misuse(format!(
                "`data.validation` is {share}; it must be a share from 0.001 to below 1, or a file or folder"
            ))),
            _ => self.source.check(batch_size),
        }
    }

    /// Whether there are validation examples.
    pub fn has_validation(&self) -> bool {
        self.validation.is_some()
    }

    /// Number of training examples, as far as it is known without reading the data.
    pub fn examples(&self) -> usize {
        let examples = self.source.examples();
        match self.validation {
            Some(Validation::Share(share)) => HeldOut::new(share).split(examples)[0].len(),
            _ => examples,
        }
    }

    /// Reads or makes the data, for a run of this seed.
    ///
    /// # Errors
    /// If the data is not there, or damaged.
    pub fn load(&self, seed: u64, device: &Device) -> Result<DataSet> {
        let device = device.clone().inner();
        let set = self.source.load(Seed::new(seed), &device)?;
        match &self.validation {
            None => Ok(set),
            Some(Validation::Share(share)) => set.holding_out(*share),
            Some(Validation::Path(path)) => Ok(DataSet { validation: Some(self.source.other(path, &device)?), ..set }),
        }
    }

    /// Makes the folders and files of the data independent of the current folder: they are meant relative to `base`, but
    /// for those of options that were typed.
    ///
    /// # Errors
    /// If the current folder cannot be told.
    pub fn resolve(&mut self, base: &Path, typed: impl Fn(&str) -> bool) -> Result<()> {
        for (option, path) in self.all_paths() {
            let base = if typed(option) { Path::new("") } else { base };
            *path = absolute(&base.join(&*path))?;
        }
        Ok(())
    }

    /// The same data wherever it lies, which may differ from machine to machine.
    pub fn forget_paths(&mut self) {
        self.all_paths().into_iter().for_each(|(_, path)| path.clear());
    }

    /// The folders and files that the options name, with the names of these options.
    fn all_paths(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let own = match &mut self.validation {
            Some(Validation::Path(path)) => Some((VALIDATION, path)),
            _ => None,
        };
        self.source.paths_mut().into_iter().chain(own).collect()
    }

    /// The name and all options.
    fn table(&self) -> Result<Table, toml::ser::Error> {
        let mut table = Table::from_iter([("name".to_string(), Value::String(self.name.into()))]);
        table.extend(self.source.options()?);
        if let Some(validation) = &self.validation {
            table.insert(VALIDATION.into(), Value::try_from(validation)?);
        }
        Ok(table)
    }
}

impl Deref for DataConfig {
    type Target = dyn DataSource;

    fn deref(&self) -> &Self::Target {
        &*self.source
    }
}

impl DerefMut for DataConfig {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.source
    }
}

impl Clone for DataConfig {
    fn clone(&self) -> Self {
        Self { name: self.name, validation: self.validation.clone(), source: self.source.copied() }
    }
}

impl PartialEq for DataConfig {
    fn eq(&self, other: &Self) -> bool {
        self.table().ok() == other.table().ok()
    }
}

impl Serialize for DataConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.table().map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DataConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut options = Table::deserialize(deserializer)?;
        match options.remove("name") {
            Some(Value::String(name)) => Self::new(&name, options).map_err(D::Error::custom),
            Some(other) => Err(D::Error::custom(format!("`name` is {other}; it must be the name of a data set"))),
            None => Err(D::Error::missing_field("name")),
        }
    }
}

/// The names of all data sets, in one line.
pub fn names() -> String {
    DATA_SETS.iter().map(|known| known.name).collect::<Vec<_>>().join(", ")
}

/// What `gradmax data check` says of a data set.
///
/// # Errors
/// If there is no such set, it is not there, or anything is wrong with it.
pub fn check(name: &str, dir: Option<&Path>) -> Result<String> {
    named(name, dir)?.describe()
}

/// Where a data set is read from.
///
/// # Errors
/// If there is no such set, or it is not there.
pub fn path(name: &str, dir: Option<&Path>) -> Result<String> {
    named(name, dir)?.place()
}

/// The data set of that name in a folder, or the table in a file, with every other option as it is by default. A split
/// of EMNIST can be named with it: `emnist_letters`.
fn named(name: &str, dir: Option<&Path>) -> Result<DataConfig> {
    let text = |text: &str| Value::String(text.into());
    let mut options = Table::new();
    if let Some(dir) = dir {
        options.insert("dir".into(), Value::try_from(dir)?);
    }
    let set = match name.strip_prefix("emnist_") {
        Some(split) => {
            options.insert("split".into(), text(split));
            "emnist"
        }
        None if Path::new(name).is_file() => {
            options.insert("file".into(), text(name));
            "csv"
        }
        None => name,
    };
    DataConfig::new(set, options).map_err(|error| match error.as_str() {
        error if error.contains("missing field `dir`") => {
            misuse(format!("`{name}`: name the folder of images with --dir"))
        }
        error if error.contains("missing field `file`") => {
            misuse(format!("`{name}`: name the file itself, as in `gradmax data check table.csv`"))
        }
        error => misuse(format!("`{name}`: {error}")),
    })
}

/// The path from the root on, without `..` where that can be told.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    if let Ok(real) = std::fs::canonicalize(path) {
        return Ok(real);
    }
    let mut plain = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        match part {
            std::path::Component::ParentDir => _ = plain.pop(),
            part => plain.push(part),
        }
    }
    Ok(plain)
}

/// Good inputs of the readers of data, and the readers, for fuzzing.
#[cfg(test)]
pub mod fuzzed {
    pub(crate) use super::cifar::fuzzed::{cifar_files, read_cifar};
    pub(crate) use super::csv::fuzzed::{read_table, tables};
    pub(crate) use super::idx::fuzzed::{idx_files, read_idx};
    pub(crate) use super::image_folder::fuzzed::{images, read_image};
    pub(crate) use super::npy::fuzzed::{archives, read_archive};
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    /// Options that sets cannot do without.
    fn needed(set: &str) -> Table {
        static TABLE: OnceLock<PathBuf> = OnceLock::new();
        let table = TABLE.get_or_init(|| {
            let table = std::env::temp_dir().join(format!("gradmax-table-{}.csv", std::process::id()));
            std::fs::write(&table, "size,colour\n1,red\n2,blue\n3,red\n4,blue\n").unwrap();
            table
        });
        let mut needed = "inputs = 3\nhidden = 2\noutputs = 2\ninput = [1, 4, 4]\ndir = \"nowhere\"\n\
                          [teacher]\nname = \"mlp\"\nhidden = [2]"
            .parse::<Table>()
            .unwrap();
        needed.insert("file".into(), Value::try_from(table).unwrap());
        if set == "text" {
            let text = std::env::temp_dir().join(format!("gradmax-text-{}.txt", std::process::id()));
            std::fs::write(&text, "to be or not to be ".repeat(300)).unwrap();
            needed.insert("path".into(), Value::String(text.display().to_string()));
        }
        if set == "npy" {
            let archive = std::env::temp_dir().join(format!("gradmax-arrays-{}.npz", std::process::id()));
            std::fs::write(&archive, &fuzzed::archives()[0]).unwrap();
            for (option, array) in [("inputs", "x"), ("targets", "y")] {
                needed.insert(option.into(), Value::String(format!("{}:{array}", archive.display())));
            }
        }
        needed
    }

    /// A configuration of every data set.
    fn of_every_set() -> Vec<DataConfig> {
        let with = |known: &Known, options: Table| DataConfig::new(known.name, options);
        let of = |known: &Known| {
            let (mut options, needed) = (Table::new(), needed(known.name));
            loop {
                match with(known, options.clone()) {
                    Ok(config) => return config,
                    Err(error) => {
                        let missing = error.split('`').nth(1).unwrap_or_else(|| panic!("{}: {error}", known.name));
                        assert!(error.starts_with("missing field"), "{}: {error}", known.name);
                        options.insert(missing.into(), needed[missing].clone());
                    }
                }
            }
        };
        DATA_SETS.iter().map(of).collect()
    }

    #[test]
    fn every_set_is_read_from_what_it_writes() {
        for config in of_every_set() {
            let text = toml::to_string(&config).unwrap();
            assert!(text.starts_with(&format!("name = \"{}\"\n", config.name)), "{text}");
            assert_eq!(toml::from_str::<DataConfig>(&text).unwrap(), config);
            assert_eq!(config.clone(), config);
        }
    }

    #[test]
    fn every_set_refuses_an_option_that_it_does_not_have() {
        for config in of_every_set() {
            let mut options = config.source.options().unwrap();
            options.insert("colour".into(), Value::Boolean(true));
            let error = DataConfig::new(config.name, options).unwrap_err();
            assert!(error.contains("unknown field `colour`, expected"), "{}: {error}", config.name);
        }
    }

    #[test]
    fn every_set_states_its_sizes_without_being_read() {
        for config in of_every_set() {
            let shape = config.shape().unwrap();
            assert!(shape.outputs > 1 && config.examples() > 0, "{}", config.name);
            assert!(shape.input.iter().product::<usize>() > 0, "{}", config.name);
        }
    }

    #[test]
    fn splits_of_emnist_are_named_with_it() {
        for (name, classes) in [("emnist", 47), ("emnist_letters", 26), ("emnist_byclass", 62), ("emnist_by_class", 62)]
        {
            assert_eq!(named(name, None).unwrap().shape().unwrap().outputs, classes, "{name}");
        }
        assert!(named("emnist_runes", None).unwrap_err().to_string().contains("letters"));
    }

    #[test]
    fn a_set_that_is_made_from_the_seed_says_so() {
        for config in of_every_set().into_iter().filter(|config| config.depends_on_seed()) {
            assert!(config.describe().unwrap_err().to_string().contains("nothing to look for"), "{}", config.name);
        }
    }
}
