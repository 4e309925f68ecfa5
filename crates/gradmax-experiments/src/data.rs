//! Data sets by name.

mod cifar;
mod digits;
mod idx;
mod image_folder;
mod images;
mod teacher_student;

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use gradmax::Seed;
use gradmax::networks::MlpConfig;
use gradmax::site::Activation;
use gradmax::training::{Examples, InMemory, Supervised, Target};
use serde::{Deserialize, Serialize};

use self::cifar::CifarSet;
use self::idx::{EmnistSplit, IdxSet};
use self::image_folder::ImageFolder;
use self::images::{Augmentation, ImageExamples, Images, Size};
use crate::failure::misuse;
use crate::network::{NetworkConfig, Shape};
use crate::output;

/// Which data, and how much of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum DataConfig {
    /// Targets from a random two-layer network of sizes `inputs`:`hidden`:`outputs`; a teacher a seed.
    TeacherStudent {
        /// Inputs of teacher and student.
        inputs: usize,
        /// Neurons of the teacher's hidden layer.
        hidden: usize,
        /// Number of outputs.
        outputs: usize,
        /// Training examples.
        #[serde(default = "default_examples")]
        examples: usize,
        /// Test examples.
        #[serde(default = "default_examples")]
        test_examples: usize,
    },
    /// Targets from a random network that reads maps; a teacher a seed.
    ConvTeacherStudent {
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
    },
    /// The UCI optical digits, 8x8, in the binary; the same fifth of them is held out for every seed.
    Digits(ImageSet),
    /// MNIST, from its four files.
    Mnist(ImageSet),
    /// Fashion-MNIST, from its four files.
    FashionMnist(ImageSet),
    /// EMNIST, one of its splits, from its four files.
    Emnist(ImageSet),
    /// CIFAR-10, from its published archive or the files in it.
    Cifar10(ImageSet),
    /// CIFAR-100, from its published archive or the files in it.
    Cifar100(ImageSet),
    /// A folder with `train/CLASS/*.jpg` and `val/CLASS/*.jpg`.
    ImageFolder {
        /// The folder with `train` and `test` (or `valid`) in it.
        dir: PathBuf,
        /// Height and width that images are brought to.
        #[serde(default = "default_side")]
        size: usize,
        /// Number of classes; counted in the folder if it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        classes: Option<usize>,
        /// Whether images that cannot be read are passed over, in place of ending the run.
        #[serde(default)]
        skip_damaged: bool,
    },
}

/// Images that are held in memory: where they are, and how they are looked at.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSet {
    /// The folder to read them from; the usual places are looked in if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Only the first so many training examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<usize>,
    /// The form of other images.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// What is done to training images at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augmentation>,
    /// Which labels of CIFAR-100: `fine`, its 100 classes, or `coarse`, its 20 superclasses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Which split of EMNIST; `balanced` if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<EmnistSplit>,
}

/// Which labels of CIFAR-100 are the classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Labels {
    /// The 100 classes.
    Fine,
    /// The 20 classes of classes.
    Coarse,
}

/// The form of other images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// 3x32x32: grey images in every channel, small ones with zeros around.
    Cifar,
}

fn default_examples() -> usize {
    1000
}

fn default_side() -> usize {
    224
}

/// Examples for the networks of this program, which runs side by side can share.
pub trait SharedExamples: Examples<Input = Tensor<4>, Target = Target> + Send + Sync {
    /// The same examples for one run, without the state of any other.
    fn for_one_run(&self) -> AnyExamples;

    /// Examples that were passed over because they cannot be read, each with the reason.
    fn passed_over(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Examples of any kind.
pub type AnyExamples = Box<dyn SharedExamples>;

impl SharedExamples for InMemory<Tensor<4>> {
    fn for_one_run(&self) -> AnyExamples {
        Box::new(self.clone())
    }
}

/// Training and test examples on a device.
pub struct DataSet {
    /// Training examples.
    pub train: AnyExamples,
    /// Test examples.
    pub test: AnyExamples,
    /// What is to be learned.
    pub task: Supervised,
}

impl DataSet {
    /// The same examples for another run, side by side with this one: with nothing that the two would take from each
    /// other.
    pub fn for_one_run(&self) -> Self {
        Self { train: self.train.for_one_run(), test: self.test.for_one_run(), task: self.task }
    }

    /// Images that were passed over so far, each with the reason.
    pub fn passed_over(&self) -> Vec<String> {
        [self.train.passed_over(), self.test.passed_over()].concat()
    }
}

/// Numbers that are known before the data is read.
pub struct DataShape {
    /// Channels, height and width of an example.
    pub input: Size,
    /// Number of outputs.
    pub outputs: usize,
}

impl DataConfig {
    /// Whether every seed has data of its own.
    pub fn depends_on_seed(&self) -> bool {
        matches!(self, Self::TeacherStudent { .. } | Self::ConvTeacherStudent { .. })
    }

    /// Reads or makes the data.
    pub fn load(&self, seed: u64, device: &Device) -> Result<DataSet> {
        let device = &device.clone().inner();
        let seed = Seed::new(seed);
        match self {
            Self::TeacherStudent { inputs, hidden, outputs, examples, test_examples } => {
                let teacher =
                    MlpConfig { bias: false, ..MlpConfig::new(*inputs, &[*hidden], *outputs, Activation::Relu) };
                let counts = [*examples, *test_examples];
                teacher_student::load(&Shape::Mlp(teacher), [*inputs, 1, 1], counts, seed, device)
            }
            Self::ConvTeacherStudent { input, outputs, teacher, examples, test_examples } => {
                let teacher = teacher.shape(*input, *outputs)?;
                teacher_student::load(&teacher, *input, [*examples, *test_examples], seed, device)
            }
            Self::Digits(set) => set.examples_of(digits::read(), digits::WHITE, device),
            Self::Mnist(set) | Self::FashionMnist(set) | Self::Emnist(set) => {
                let kind = self.idx_set().expect("these are in MNIST's format");
                set.examples_of(idx_images(kind, set.dir.as_deref())?, 255, device)
            }
            Self::Cifar10(set) | Self::Cifar100(set) => {
                let kind = self.cifar_set().expect("these are in CIFAR's format");
                set.examples_of(cifar_images(kind, set.dir.as_deref())?, 255, device)
            }
            Self::ImageFolder { dir, size, skip_damaged, classes } => {
                let both = image_folder::listings(dir)?;
                image_folder::left_out(&both).into_iter().for_each(|files| output::say(&format!("warning: {files}")));
                let [train, test] = both;
                if let Some(classes) = classes.filter(|classes| *classes != train.classes()) {
                    return Err(misuse(format!(
                        "`data.classes` is {classes}, but {} has {} class folders; has it changed?",
                        dir.display(),
                        train.classes()
                    )));
                }
                let folder = |listing| Box::new(ImageFolder::new(listing, *size, *skip_damaged, device)) as AnyExamples;
                Ok(DataSet { train: folder(train), test: folder(test), task: Supervised::Classification })
            }
        }
    }

    /// The set in MNIST's format that this is.
    fn idx_set(&self) -> Option<IdxSet> {
        match self {
            Self::Mnist(_) => Some(IdxSet::Mnist),
            Self::FashionMnist(_) => Some(IdxSet::FashionMnist),
            Self::Emnist(set) => Some(IdxSet::Emnist(set.split.unwrap_or_default())),
            _ => None,
        }
    }

    /// The set in CIFAR's format that this is.
    fn cifar_set(&self) -> Option<CifarSet> {
        match self {
            Self::Cifar10(_) => Some(CifarSet::Cifar10),
            Self::Cifar100(ImageSet { labels: Some(Labels::Coarse), .. }) => Some(CifarSet::Cifar100Coarse),
            Self::Cifar100(_) => Some(CifarSet::Cifar100),
            _ => None,
        }
    }

    fn dir_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::ImageFolder { dir, .. } => Some(dir),
            Self::Digits(set)
            | Self::Mnist(set)
            | Self::FashionMnist(set)
            | Self::Emnist(set)
            | Self::Cifar10(set)
            | Self::Cifar100(set) => set.dir.as_mut(),
            Self::TeacherStudent { .. } | Self::ConvTeacherStudent { .. } => None,
        }
    }

    /// Makes the folder of the data independent of the current one: it is meant relative to `base`.
    pub fn resolve(&mut self, base: &Path) -> Result<()> {
        if let Some(dir) = self.dir_mut() {
            *dir = absolute(&base.join(&*dir))?;
        }
        Ok(())
    }

    /// Says where the data is, if it is found below the current folder, and how many classes there are, if a folder
    /// says so: another folder may be the current one when a run is resumed, and the data gone when it is looked at.
    pub fn locate(&mut self) -> Result<()> {
        let here = |found: Result<PathBuf>| found.ok().filter(|found| found.is_relative());
        let found = match self {
            Self::Mnist(ImageSet { dir: None, .. })
            | Self::FashionMnist(ImageSet { dir: None, .. })
            | Self::Emnist(ImageSet { dir: None, .. }) => self.idx_set().and_then(|set| here(idx::folder(set, None))),
            Self::Cifar10(ImageSet { dir: None, .. }) | Self::Cifar100(ImageSet { dir: None, .. }) => {
                let source = self.cifar_set().map(|set| cifar::find(set, None));
                let folder = |source: cifar::Source| match source {
                    cifar::Source::Archive(archive) => archive.parent().map(Path::to_path_buf).unwrap_or_default(),
                    cifar::Source::Files(folder) => folder,
                };
                source.and_then(|source| here(source.map(folder)))
            }
            Self::ImageFolder { dir, classes, .. } => {
                *classes = classes.or_else(|| image_folder::classes(dir).ok());
                None
            }
            _ => None,
        };
        if let (Some(found), Some(set)) = (found, self.image_set_mut()) {
            set.dir = Some(absolute(&found)?);
        }
        Ok(())
    }

    fn image_set_mut(&mut self) -> Option<&mut ImageSet> {
        match self {
            Self::Digits(set)
            | Self::Mnist(set)
            | Self::FashionMnist(set)
            | Self::Emnist(set)
            | Self::Cifar10(set)
            | Self::Cifar100(set) => Some(set),
            _ => None,
        }
    }

    /// What is taken for granted about data that is not there.
    pub fn assumption(&self) -> Option<String> {
        match self {
            Self::ImageFolder { dir, classes: None, .. } if image_folder::classes(dir).is_err() => Some(format!(
                "{} has no folder `train`, so that the numbers are for {IMAGENET_CLASSES} classes, as ImageNet has them",
                dir.display()
            )),
            _ => None,
        }
    }

    /// Sizes of the network's ends.
    pub fn shape(&self) -> Result<DataShape> {
        let (input, outputs) = match self {
            Self::TeacherStudent { inputs, outputs, .. } => ([*inputs, 1, 1], *outputs),
            Self::ConvTeacherStudent { input, outputs, .. } => (*input, *outputs),
            Self::Digits(set) => (set.size(digits::SIZE), 10),
            Self::Mnist(set) | Self::FashionMnist(set) | Self::Emnist(set) => {
                (set.size(idx::SIZE), self.idx_set().map_or(0, IdxSet::classes))
            }
            Self::Cifar10(_) | Self::Cifar100(_) => (cifar::SIZE, self.cifar_set().map_or(0, CifarSet::classes)),
            // What the folder says, or ImageNet's if it is not there yet; see `assumption`.
            Self::ImageFolder { dir, size, classes, .. } => {
                let counted = || image_folder::classes(dir).unwrap_or(IMAGENET_CLASSES);
                ([3, *size, *size], classes.unwrap_or_else(counted))
            }
        };
        Ok(DataShape { input, outputs })
    }

    /// Number of training examples, as far as it is known without reading the data.
    pub fn examples(&self) -> usize {
        let of = |set: &ImageSet, all: usize| set.examples.unwrap_or(all);
        match self {
            Self::TeacherStudent { examples, .. } | Self::ConvTeacherStudent { examples, .. } => *examples,
            Self::Digits(set) => of(set, digits::TRAINING),
            Self::Mnist(set) | Self::FashionMnist(set) | Self::Emnist(set) => {
                of(set, self.idx_set().map_or(0, IdxSet::training))
            }
            Self::Cifar10(set) | Self::Cifar100(set) => of(set, CIFAR_TRAINING),
            Self::ImageFolder { dir, .. } => {
                image_folder::training_images(dir).map_or(IMAGENET_TRAINING, |train| train.count())
            }
        }
    }

    /// Checks what can be checked without reading the data.
    pub fn check(&self, batch_size: Option<usize>) -> Result<()> {
        let set = self.clone().image_set_mut().map(|set| set.clone()).unwrap_or_default();
        if set.labels.is_some() && !matches!(self, Self::Cifar100(_)) {
            return Err(misuse("`data.labels` chooses between labels of cifar100; leave it out for other data"));
        }
        if set.split.is_some() && !matches!(self, Self::Emnist(_)) {
            return Err(misuse("`data.split` chooses between splits of emnist; leave it out for other data"));
        }
        match self {
            Self::Digits(ImageSet { dir: Some(dir), .. }) => {
                Err(misuse(format!("digits are in this program; leave out `data.dir` ({})", dir.display())))
            }
            Self::ImageFolder { size: 0, .. } => Err(misuse("`data.size` is 0; images need at least one pixel")),
            Self::ImageFolder { classes: Some(0), .. } => {
                Err(misuse("`data.classes` is 0; leave it out to count the class folders"))
            }
            Self::ImageFolder { .. } if batch_size.is_none() => {
                Err(misuse("folders of images are read in batches; set `training.batch_size`"))
            }
            _ => Ok(()),
        }
    }
}

/// The path from the root on, without `..` where that can be told.
fn absolute(path: &Path) -> Result<PathBuf> {
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

const CIFAR_TRAINING: usize = 50_000;
const IMAGENET_CLASSES: usize = 1000;
const IMAGENET_TRAINING: usize = 1_281_167;

impl ImageSet {
    /// The size that networks read.
    fn size(&self, own: Size) -> Size {
        match self.form {
            Some(Form::Cifar) => cifar::SIZE,
            None => own,
        }
    }

    fn examples_of(&self, [mut train, test]: [Images; 2], white: u8, device: &Device) -> Result<DataSet> {
        if let Some(examples) = self.examples {
            if examples == 0 || examples > train.classes.len() {
                return Err(misuse(format!(
                    "`data.examples` is {examples}; there are 1 to {} to use",
                    train.classes.len()
                )));
            }
            train.truncate(examples);
        }
        let augmentation = self.augment.unwrap_or_default();
        let size = self.size(train.size);
        let examples = |images| Box::new(ImageExamples::new(images, white, size, augmentation, device)) as AnyExamples;
        Ok(DataSet { train: examples(train), test: examples(test), task: Supervised::Classification })
    }
}

fn idx_images(set: IdxSet, dir: Option<&Path>) -> Result<[Images; 2]> {
    let folder = idx::folder(set, dir)?;
    Ok([idx::read(set, &folder, idx::Half::Train)?, idx::read(set, &folder, idx::Half::Test)?])
}

fn cifar_images(set: CifarSet, dir: Option<&Path>) -> Result<[Images; 2]> {
    cifar::read(set, &cifar::find(set, dir)?)
}

/// A data set that the command `data` knows.
enum Known {
    Digits,
    Idx(IdxSet),
    Cifar(CifarSet),
    ImageFolder,
}

/// What `gradmax data check` says of a data set.
pub fn check(name: &str, dir: Option<&Path>) -> Result<String> {
    match known(name)? {
        Known::Digits => Ok(digits::describe()),
        Known::Idx(set) => idx::describe(set, dir),
        Known::Cifar(set) => {
            let source = cifar::find(set, dir)?;
            let [train, test] = cifar::read(set, &source)?;
            Ok(format!(
                "{name}: {} training and {} test images of 3x32x32 in {}; {}",
                train.classes.len(),
                test.classes.len(),
                source.path().display(),
                match source {
                    cifar::Source::Archive(_) => "the checksum, record sizes and labels are right",
                    cifar::Source::Files(_) =>
                        "record sizes and labels are right (the archive with its checksum is not there)",
                }
            ))
        }
        Known::ImageFolder => image_folder::describe(named_folder(dir)?),
    }
}

/// Where a data set is read from.
pub fn path(name: &str, dir: Option<&Path>) -> Result<String> {
    match known(name)? {
        Known::Digits => Ok("digits are embedded in this binary".into()),
        Known::Idx(set) => Ok(idx::folder(set, dir)?.display().to_string()),
        Known::Cifar(set) => Ok(cifar::find(set, dir)?.path().display().to_string()),
        Known::ImageFolder => Ok(named_folder(dir)?.display().to_string()),
    }
}

fn named_folder(dir: Option<&Path>) -> Result<&Path> {
    dir.ok_or_else(|| misuse("name the folder of images with --dir"))
}

fn known(name: &str) -> Result<Known> {
    Ok(match name {
        "digits" => Known::Digits,
        "mnist" => Known::Idx(IdxSet::Mnist),
        "fashion_mnist" => Known::Idx(IdxSet::FashionMnist),
        "emnist" => Known::Idx(IdxSet::Emnist(EmnistSplit::default())),
        "cifar10" => Known::Cifar(CifarSet::Cifar10),
        "cifar100" => Known::Cifar(CifarSet::Cifar100),
        "image_folder" => Known::ImageFolder,
        _ => {
            let split = name.strip_prefix("emnist_").and_then(EmnistSplit::named);
            let Some(split) = split else {
                let known = "digits, mnist, fashion_mnist, emnist, cifar10, cifar100, image_folder";
                return Err(misuse(format!("there is no data set `{name}`; the data sets are: {known}")));
            };
            Known::Idx(IdxSet::Emnist(split))
        }
    })
}

/// Good inputs of the readers of data, and the readers, for fuzzing.
#[cfg(test)]
pub mod fuzzed {
    pub(crate) use super::cifar::fuzzed::{cifar_files, read_cifar};
    pub(crate) use super::idx::fuzzed::{idx_files, read_idx};
    pub(crate) use super::image_folder::fuzzed::{images, read_image};
}
