//! Sets of images that are held in memory: their common options, and what each set says of itself.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use gradmax::Seed;
use gradmax::training::Supervised;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use toml::Table;

use super::images::{Augmentation, ImageExamples, Images, Size};
use super::scale::Scale;
use super::source::{Answers, AnyExamples, DataSet, DataShape, DataSource, Inputs};
use super::{absolute, cifar, image_folder};
use crate::config::section;
use crate::failure::misuse;

/// A set of images that is held in memory: which one it is, and how it is looked at.
#[derive(Debug, Clone, Serialize)]
pub struct ImageSet<S> {
    /// The set, with the options that no other set has.
    #[serde(flatten)]
    set: S,
    /// The options of every set.
    #[serde(flatten)]
    options: ImageOptions,
}

/// Where images are, how many of them are used, and how they are looked at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ImageOptions {
    /// The folder to read them from; the usual places are looked in if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dir: Option<PathBuf>,
    /// Only the first so many training examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    examples: Option<usize>,
    /// The form of other images.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    form: Option<Form>,
    /// How many times smaller images are made, by means of so many times so many pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reduce: Option<usize>,
    /// What is done to training images at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    augment: Option<Augmentation>,
}

impl ImageOptions {
    const NAMES: [&str; 5] = ["dir", "examples", "as", "reduce", "augment"];

    fn reduce(&self) -> usize {
        self.reduce.unwrap_or(1)
    }
}

/// By hand, since a struct of two flattened ones does not tell which options it has.
impl<'de, S: Set + DeserializeOwned> Deserialize<'de> for ImageSet<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let options = Table::deserialize(deserializer)?;
        let known = [S::OPTIONS, &ImageOptions::NAMES].concat();
        if let Some(unknown) = options.keys().find(|key| !known.contains(&key.as_str())) {
            let known = known.join("`, `");
            return Err(D::Error::custom(format!("unknown field `{unknown}`, expected one of `{known}`")));
        }
        let set = section::<S>(&options).map_err(D::Error::custom)?;
        let options = section(&options).map_err(D::Error::custom)?;
        Ok(Self { set, options })
    }
}

/// The form of other images.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// 3x32x32: grey images in every channel, small ones with zeros around.
    Cifar,
}

/// The options that only one set has; they say which files it is.
pub trait Set: Debug + Send + Sync {
    /// The names of these options.
    const OPTIONS: &[&str] = &[];

    /// Its files.
    fn files(&self) -> impl ImageFiles;
}

/// Images that can be read whole: their sizes, and where they are.
pub trait ImageFiles {
    /// Channels, height and width of an image.
    fn size(&self) -> Size;

    /// Number of classes.
    fn classes(&self) -> usize;

    /// Training images of the full set.
    fn training(&self) -> usize;

    /// The brightest value of a pixel.
    fn white(&self) -> u8 {
        u8::MAX
    }

    /// Checks that the set can be in the folder that is named for it.
    fn check(&self, _dir: Option<&Path>) -> Result<()> {
        Ok(())
    }

    /// The folder that holds the set, or the archive: in `dir`, or else in the usual places; none if the set is part
    /// of the program.
    fn find(&self, dir: Option<&Path>) -> Result<Option<PathBuf>>;

    /// Training and test images.
    fn read(&self, dir: Option<&Path>) -> Result<[Images; 2]>;

    /// Reads everything, and says what is there.
    fn describe(&self, dir: Option<&Path>) -> Result<String>;
}

impl<S: Set> ImageSet<S> {
    fn dir(&self) -> Option<&Path> {
        self.options.dir.as_deref()
    }

    /// The size that networks read.
    fn size(&self) -> Size {
        let [channels, height, width] = match self.options.form {
            Some(Form::Cifar) => cifar::SIZE,
            None => self.set.files().size(),
        };
        let reduce = self.options.reduce();
        [channels, height / reduce, width / reduce]
    }

    /// Training and test images, in the size in which they are looked at.
    fn read(&self, dir: Option<&Path>) -> Result<[Images; 2]> {
        let images = self.set.files().read(dir)?;
        Ok(images.map(|images| images.reduced(self.options.reduce())))
    }
}

impl<S: Set> DataSource for ImageSet<S> {
    fn shape(&self) -> Result<DataShape> {
        Ok(DataShape::of_maps(self.size(), self.set.files().classes()))
    }

    fn examples(&self) -> usize {
        self.options.examples.unwrap_or_else(|| self.set.files().training())
    }

    fn load(&self, _seed: Seed, device: &Device) -> Result<DataSet> {
        let files = self.set.files();
        let [mut train, test] = self.read(self.dir())?;
        if let Some(examples) = self.options.examples {
            if examples == 0 || examples > train.classes.len() {
                return Err(misuse(format!(
                    "`data.examples` is {examples}; there are 1 to {} to use",
                    train.classes.len()
                )));
            }
            train.truncate(examples);
        }
        let augmentation = self.options.augment.unwrap_or_default();
        let examples = |images| {
            Box::new(ImageExamples::new(images, files.white(), self.size(), augmentation, device)) as AnyExamples
        };
        Ok(DataSet::new(examples(train), examples(test), Supervised::Classification))
    }

    fn check(&self, _batch_size: Option<usize>) -> Result<()> {
        let ([_, height, width], reduce) = (self.set.files().size(), self.options.reduce());
        if reduce == 0 || height % reduce > 0 || width % reduce > 0 {
            return Err(misuse(format!(
                "`data.reduce` is {reduce}; it must be a number that divides the images' height and width, {height} and {width}"
            )));
        }
        self.set.files().check(self.dir())
    }

    fn paths_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        self.options.dir.as_mut().map(|dir| ("dir", dir)).into_iter().collect()
    }

    fn answers(&self) -> Result<Answers> {
        Ok(Answers::Classes((0..self.set.files().classes()).map(|class| class.to_string()).collect()))
    }

    fn input_scales(&self) -> Result<Option<Vec<Scale>>> {
        let scale = Scale { mean: 0.0, deviation: f64::from(self.set.files().white()) };
        Ok(Some(vec![scale; self.size()[0]]))
    }

    fn inputs(&self, file: &Path, device: &Device) -> Result<Inputs> {
        image_folder::image(file, self.size(), device)
    }

    fn other(&self, dir: &Path, device: &Device) -> Result<AnyExamples> {
        let files = self.set.files();
        let [_, test] = self.read(Some(dir))?;
        Ok(Box::new(ImageExamples::new(test, files.white(), self.size(), Augmentation::default(), device)))
    }

    fn locate(&mut self) -> Result<()> {
        if self.options.dir.is_some() {
            return Ok(());
        }
        let found = self.set.files().find(None).ok().flatten().filter(|found| found.is_relative());
        // An archive is found again in its folder.
        let folder = found.as_deref().map(|found| if found.is_file() { parent(found) } else { found });
        self.options.dir = folder.map(absolute).transpose()?;
        Ok(())
    }

    fn place(&self) -> Result<String> {
        let found = self.set.files().find(self.dir())?;
        Ok(found.map_or_else(|| "embedded in this binary".into(), |found| found.display().to_string()))
    }

    fn describe(&self) -> Result<String> {
        self.set.files().describe(self.dir())
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
