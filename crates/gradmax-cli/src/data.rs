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
use gradmax::{Activation, Examples, MlpConfig, Seed, Task};
use serde::{Deserialize, Serialize};

use self::cifar::CifarSet;
use self::idx::IdxSet;
use self::image_folder::ImageFolder;
use self::images::{Augmentation, ImageExamples, Images, Size};
use crate::failure::misuse;
use crate::network::{NetworkConfig, Shape};

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
    /// Targets from a random network that reads maps; a teacher a seed.
    ConvTeacherStudent {
        /// Channels, height and width of the inputs.
        input: Size,
        outputs: usize,
        teacher: NetworkConfig,
        #[serde(default = "default_examples")]
        examples: usize,
        #[serde(default = "default_examples")]
        test_examples: usize,
    },
    /// The UCI optical digits, 8x8, in the binary; the same fifth of them is held out for every seed.
    Digits(ImageSet),
    /// MNIST, from its four files.
    Mnist(ImageSet),
    /// Fashion-MNIST, from its four files.
    FashionMnist(ImageSet),
    /// CIFAR-10, from its published archive or the files in it.
    Cifar10(ImageSet),
    /// CIFAR-100, from its published archive or the files in it.
    Cifar100(ImageSet),
    /// A folder with `train/CLASS/*.jpg` and `val/CLASS/*.jpg`.
    ImageFolder {
        dir: PathBuf,
        /// Height and width that images are brought to.
        #[serde(default = "default_side")]
        size: usize,
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

/// Examples for the networks of this program.
pub type AnyExamples = Box<dyn Examples<Input = Tensor<4>> + Send + Sync>;

/// Training and test examples on a device.
pub struct DataSet {
    pub train: AnyExamples,
    pub test: AnyExamples,
    pub task: Task,
}

/// Numbers that are known before the data is read.
pub struct DataShape {
    pub input: Size,
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
            Self::Mnist(set) => set.examples_of(idx_images(IdxSet::Mnist, set.dir.as_deref())?, 255, device),
            Self::FashionMnist(set) => {
                set.examples_of(idx_images(IdxSet::FashionMnist, set.dir.as_deref())?, 255, device)
            }
            Self::Cifar10(set) => set.examples_of(cifar_images(CifarSet::Cifar10, set.dir.as_deref())?, 255, device),
            Self::Cifar100(set) => set.examples_of(cifar_images(CifarSet::Cifar100, set.dir.as_deref())?, 255, device),
            Self::ImageFolder { dir, size } => {
                let [train, test] =
                    image_folder::listings(dir)?.map(|listing| ImageFolder::new(listing, *size, device));
                Ok(DataSet { train: Box::new(train), test: Box::new(test), task: Task::Classification })
            }
        }
    }

    /// Sizes of the network's ends.
    pub fn shape(&self) -> Result<DataShape> {
        let (input, outputs) = match self {
            Self::TeacherStudent { inputs, outputs, .. } => ([*inputs, 1, 1], *outputs),
            Self::ConvTeacherStudent { input, outputs, .. } => (*input, *outputs),
            Self::Digits(set) => (set.size(digits::SIZE), 10),
            Self::Mnist(set) | Self::FashionMnist(set) => (set.size(idx::SIZE), 10),
            Self::Cifar10(_) => (cifar::SIZE, CifarSet::Cifar10.classes()),
            Self::Cifar100(_) => (cifar::SIZE, CifarSet::Cifar100.classes()),
            // What the folder says, or ImageNet's if it is not there yet.
            Self::ImageFolder { dir, size } => {
                ([3, *size, *size], image_folder::classes(dir).unwrap_or(IMAGENET_CLASSES))
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
            Self::Mnist(set) | Self::FashionMnist(set) => of(set, idx::TRAINING),
            Self::Cifar10(set) | Self::Cifar100(set) => of(set, CIFAR_TRAINING),
            Self::ImageFolder { dir, .. } => {
                image_folder::training_images(dir).map_or(IMAGENET_TRAINING, |train| train.count())
            }
        }
    }

    /// Checks what can be checked without reading the data.
    pub fn check(&self, batch_size: Option<usize>) -> Result<()> {
        let augments = match self {
            Self::Digits(ImageSet { dir: Some(dir), .. }) => {
                return Err(misuse(format!("digits are in this program; leave out `data.dir` ({})", dir.display())));
            }
            Self::Digits(set)
            | Self::Mnist(set)
            | Self::FashionMnist(set)
            | Self::Cifar10(set)
            | Self::Cifar100(set) => set.augment.is_some(),
            Self::ImageFolder { size, .. } => {
                if *size == 0 {
                    return Err(misuse("`data.size` is 0; images need at least one pixel"));
                }
                true
            }
            Self::TeacherStudent { .. } | Self::ConvTeacherStudent { .. } => false,
        };
        match augments && batch_size.is_none() {
            true => Err(misuse("random crops need batches; set `training.batch_size`")),
            false => Ok(()),
        }
    }
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
        Ok(DataSet { train: examples(train), test: examples(test), task: Task::Classification })
    }
}

fn idx_images(set: IdxSet, dir: Option<&Path>) -> Result<[Images; 2]> {
    let folder = idx::folder(set, dir)?;
    Ok([idx::read(&folder, "train")?, idx::read(&folder, "t10k")?])
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
        "cifar10" => Known::Cifar(CifarSet::Cifar10),
        "cifar100" => Known::Cifar(CifarSet::Cifar100),
        "image_folder" => Known::ImageFolder,
        _ => {
            let known = "digits, mnist, fashion_mnist, cifar10, cifar100, image_folder";
            return Err(misuse(format!("there is no data set `{name}`; the data sets are: {known}")));
        }
    })
}
