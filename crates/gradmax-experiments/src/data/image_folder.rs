//! Folders of images in ImageNet's layout: `train/CLASS/*.jpg` and `val/CLASS/*.jpg`, decoded by threads ahead of
//! training.

mod decode;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor, TensorData};
use gradmax::training::{Batch, Examples, Supervised, Target};
use gradmax::{Error, Seed};
use image::ImageFormat;
use rayon::ThreadPool;
use serde::{Deserialize, Serialize};

use self::decode::decode;
use super::images::Size;
use super::scale::Scale;
use super::source::{AnyExamples, Answers, DataSet, DataShape, DataSource, Inputs, SharedExamples};
use crate::failure::{caught, misuse};
use crate::output;
use crate::reading::Reading;

/// A folder with `train/CLASS/*.jpg` and `val/CLASS/*.jpg`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFolder {
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
    /// The names of the classes, as the run found them.
    #[serde(skip)]
    names: Arc<OnceLock<Vec<String>>>,
}

fn default_side() -> usize {
    224
}

const IMAGENET_CLASSES: usize = 1000;
const IMAGENET_TRAINING: usize = 1_281_167;

impl ImageFolder {
    /// The names of the classes: what a run has kept, or those of the class folders.
    fn class_names(&self) -> Result<Vec<String>> {
        if let Some(names) = self.names.get() {
            return Ok(names.clone());
        }
        let names = names(&self.dir.join("train"), true)?;
        Ok(names.iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }
}

impl DataSource for ImageFolder {
    /// What the folder says, or ImageNet's sizes if it is not there yet; see [`assumption`](Self::assumption).
    fn shape(&self) -> Result<DataShape> {
        let counted = || classes(&self.dir).unwrap_or(IMAGENET_CLASSES);
        Ok(DataShape::of_maps([3, self.size, self.size], self.classes.unwrap_or_else(counted)))
    }

    fn examples(&self) -> usize {
        training_images(&self.dir).map_or(IMAGENET_TRAINING, |train| train.count())
    }

    fn load(&self, _seed: Seed, device: &Device) -> Result<DataSet> {
        let both = listings(&self.dir)?;
        left_out(&both).into_iter().for_each(|files| output::say(&format!("warning: {files}")));
        let [train, test] = both;
        if let Some(classes) = self.classes.filter(|classes| *classes != train.classes()) {
            return Err(misuse(format!(
                "`data.classes` is {classes}, but {} has {} class folders; has it changed?",
                self.dir.display(),
                train.classes()
            )));
        }
        let folder =
            |listing| Box::new(FolderExamples::new(listing, self.size, self.skip_damaged, device)) as AnyExamples;
        Ok(DataSet::new(folder(train), folder(test), Supervised::Classification))
    }

    fn check(&self, batch_size: Option<usize>) -> Result<()> {
        if self.size == 0 {
            return Err(misuse("`data.size` is 0; images need at least one pixel"));
        }
        if self.classes == Some(0) {
            return Err(misuse("`data.classes` is 0; leave it out to count the class folders"));
        }
        match batch_size {
            Some(_) => Ok(()),
            None => Err(misuse("folders of images are read in batches; set `training.batch_size`")),
        }
    }

    fn other(&self, dir: &Path, device: &Device) -> Result<AnyExamples> {
        let (listing, train) = (Listing::read(dir)?, training_images(&self.dir)?);
        check_classes(&train, &listing)?;
        Ok(Box::new(FolderExamples::new(listing, self.size, self.skip_damaged, device)))
    }

    fn paths_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        vec![("dir", &mut self.dir)]
    }

    fn answers(&self) -> Result<Answers> {
        self.class_names().map(Answers::Classes)
    }

    fn locate(&mut self) -> Result<()> {
        self.classes = self.classes.or_else(|| classes(&self.dir).ok());
        Ok(())
    }

    /// An image, as evaluation looks at it.
    fn inputs(&self, file: &Path, device: &Device) -> Result<Inputs> {
        image(file, [3, self.size, self.size], device)
    }

    fn input_scales(&self) -> Result<Option<Vec<Scale>>> {
        Ok(Some(vec![Scale { mean: 0.0, deviation: 255.0 }; 3]))
    }

    fn kept(&self) -> Result<Option<serde_json::Value>> {
        Ok(Some(serde_json::to_value(self.class_names()?)?))
    }

    fn restore(&mut self, kept: serde_json::Value) -> Result<()> {
        self.names = Arc::new(OnceLock::from(serde_json::from_value::<Vec<String>>(kept)?));
        Ok(())
    }

    fn assumption(&self) -> Option<String> {
        (self.classes.is_none() && classes(&self.dir).is_err()).then(|| {
            format!(
                "{} has no folder `train`, so that the numbers are for {IMAGENET_CLASSES} classes, as ImageNet has them",
                self.dir.display()
            )
        })
    }

    fn place(&self) -> Result<String> {
        Ok(self.dir.display().to_string())
    }

    fn describe(&self) -> Result<String> {
        describe(&self.dir)
    }
}

/// The files of one half of a folder, with their classes.
#[derive(Debug)]
struct Listing {
    root: PathBuf,
    classes: Vec<OsString>,
    /// Class and file name of each image.
    files: Vec<(u32, Box<OsStr>)>,
    /// Files that are no images, or of a format that is not read.
    left_out: Vec<PathBuf>,
}

impl Listing {
    /// Lists `folder/CLASS/*`, classes and files in the order of their names.
    fn read(root: &Path) -> Result<Self> {
        let classes = names(root, true)?;
        if classes.is_empty() {
            bail!("{} has no class folders; images belong into {}/CLASS/", root.display(), root.display());
        }
        let (mut files, mut left_out) = (Vec::new(), Vec::new());
        for (index, class) in classes.iter().enumerate() {
            let before = files.len();
            let folder = root.join(class);
            for name in names(&folder, false)? {
                match is_image(&name) {
                    true => files.push((index as u32, name.into_boxed_os_str())),
                    false => left_out.push(folder.join(name)),
                }
            }
            if files.len() == before {
                bail!(
                    "the class folder {} holds no images of a format that is read ({}); remove it, or put images into it",
                    folder.display(),
                    formats()
                );
            }
        }
        Ok(Self { root: root.to_path_buf(), classes, files, left_out })
    }

    fn count(&self) -> usize {
        self.files.len()
    }

    /// Number of classes.
    fn classes(&self) -> usize {
        self.classes.len()
    }

    fn path(&self, index: usize) -> PathBuf {
        let (class, name) = &self.files[index];
        self.root.join(&self.classes[*class as usize]).join(&**name)
    }
}

/// Which files are not read, in a sentence; none if all are.
fn left_out(listings: &[Listing]) -> Option<String> {
    let all = listings.iter().flat_map(|listing| &listing.left_out).collect::<Vec<_>>();
    let named = all.iter().take(NAMED).map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let more = if all.len() > NAMED { format!(" and {} more", all.len() - NAMED) } else { String::new() };
    let count = if all.len() == 1 { "1 file is".into() } else { format!("{} files are", all.len()) };
    (!all.is_empty())
        .then(|| format!("{count} not of a format that is read ({}), and left out: {named}{more}", formats()))
}

/// Files that are named at most, of those that are left out.
const NAMED: usize = 10;

/// Whether a file name ends like those of a format that the image library was built to read.
fn is_image(name: &OsStr) -> bool {
    let format = Path::new(name).extension().and_then(ImageFormat::from_extension);
    format.is_some_and(|format| format.reading_enabled())
}

/// The endings of formats that are read.
fn formats() -> String {
    let read = ImageFormat::all().filter(ImageFormat::reading_enabled);
    read.filter_map(|format| format.extensions_str().first().copied()).collect::<Vec<_>>().join(", ")
}

/// Names of folders, or else of files, in a folder.
fn names(folder: &Path, folders: bool) -> Result<Vec<OsString>> {
    let cannot = || format!("cannot read the folder {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        // Links count as what they lead to.
        let is_folder = entry.path().is_dir();
        let name = entry.file_name();
        if is_folder == folders && !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Training and test images of a folder, with the same classes.
fn listings(dir: &Path) -> Result<[Listing; 2]> {
    let (train, test) = (training_images(dir)?, half(dir, &["val", "valid", "validation", "test"])?);
    check_classes(&train, &test)?;
    Ok([train, test])
}

/// Checks that two listings have the same classes.
fn check_classes(train: &Listing, test: &Listing) -> Result<()> {
    if train.classes == test.classes {
        return Ok(());
    }
    let lacks = |a: &Listing, b: &Listing| a.classes.iter().find(|class| !b.classes.contains(class)).cloned();
    let (class, other) = match lacks(train, test) {
        Some(class) => (class, test),
        None => (lacks(test, train).unwrap_or_default(), train),
    };
    bail!(
        "{} has no class folder `{}`; both halves need the same classes",
        other.root.display(),
        class.to_string_lossy()
    );
}

/// Training images of a folder.
fn training_images(dir: &Path) -> Result<Listing> {
    half(dir, &["train"])
}

/// The images of the first of these folders that is there.
fn half(dir: &Path, known: &[&str]) -> Result<Listing> {
    match known.iter().map(|name| dir.join(name)).find(|path| path.is_dir()) {
        Some(path) => Listing::read(&path),
        None => {
            let known = known.join("`, `");
            bail!("{} has no folder `{known}`; images belong into {0}/train/CLASS/ and {0}/val/CLASS/", dir.display())
        }
    }
}

/// Number of classes of a folder.
fn classes(dir: &Path) -> Result<usize> {
    Ok(names(&dir.join("train"), true)?.len())
}

/// Reads every image as training does, and says how many there are; or which of them cannot be read, all of them.
fn describe(dir: &Path) -> Result<String> {
    let both = listings(dir)?;
    let (left_out, classes) = (left_out(&both), both[0].classes());
    let counts = both.each_ref().map(Listing::count);
    let (started, mut damaged) = (Instant::now(), Vec::new());
    let threads = threads();
    for listing in both {
        let listing = Arc::new(listing);
        let indices = (0..listing.count()).collect::<Vec<_>>();
        for part in indices.chunks(CHECKED_TOGETHER) {
            let decoded = start(&threads, &listing, part, CHECKED_SIZE, Some(Seed::new(0)));
            let mut failed = decoded.into_iter().filter_map(|(place, decoded)| Some((place, decoded.err()?)));
            let mut of_part = failed.by_ref().collect::<Vec<_>>();
            of_part.sort_by_key(|(place, _)| *place);
            damaged.extend(of_part.into_iter().map(|(_, unreadable)| unreadable));
        }
    }
    let left_out = left_out.map_or(String::new(), |left_out| format!("; {left_out}"));
    if !damaged.is_empty() {
        let listed = damaged.iter().map(|image| format!("\n{}: {}", image.path.display(), image.reason));
        bail!(
            "{} of {} images cannot be read; remove or replace them, or pass over them with `data.skip_damaged = true`{left_out}:{}",
            damaged.len(),
            counts[0] + counts[1],
            listed.collect::<String>()
        );
    }
    let rate = (counts[0] + counts[1]) as f64 / started.elapsed().as_secs_f64();
    Ok(format!(
        "image folder: {} training and {} test images of {classes} classes in {}; all of them can be decoded ({rate:.0} a second, to {CHECKED_SIZE}x{CHECKED_SIZE}){left_out}",
        counts[0],
        counts[1],
        dir.display()
    ))
}

const CHECKED_SIZE: usize = 224;
const CHECKED_TOGETHER: usize = 1024;

/// Images that are read when they are needed; only those of a few batches are in memory.
struct FolderExamples {
    listing: Arc<Listing>,
    size: usize,
    skip_damaged: bool,
    device: Device,
    threads: Arc<ThreadPool>,
    /// Batches that were announced and not yet asked for.
    upcoming: Mutex<VecDeque<Upcoming>>,
    /// Images that were passed over, with the reason.
    passed_over: Arc<Mutex<BTreeMap<PathBuf, String>>>,
}

/// An image that cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "cannot read the image {path}: {reason}; remove it or replace it, or pass over such images with `data.skip_damaged = true`"
)]
pub struct Unreadable {
    path: PathBuf,
    reason: String,
}

struct Upcoming {
    indices: Vec<usize>,
    seed: Option<Seed>,
    images: Receiver<Decoded>,
}

/// One image of a batch: its place, and its pixels as bytes, row by row with the channels of a pixel together.
type Decoded = (usize, std::result::Result<Vec<u8>, Unreadable>);

/// Announced batches that are kept at most.
const UPCOMING: usize = 4;

impl FolderExamples {
    /// Square images of this size from the listed files.
    pub fn new(listing: Listing, size: usize, skip_damaged: bool, device: &Device) -> Self {
        Self {
            listing: Arc::new(listing),
            size,
            skip_damaged,
            device: device.clone(),
            threads: Arc::new(threads()),
            upcoming: Mutex::default(),
            passed_over: Arc::default(),
        }
    }

    fn loaded(&self, indices: &[usize], seed: Option<Seed>) -> Result<Batch<Reading>, Error> {
        let announced = {
            let mut upcoming = self.upcoming.lock().unwrap_or_else(PoisonError::into_inner);
            let at = upcoming.iter().position(|batch| batch.indices == indices && batch.seed == seed);
            at.and_then(|at| upcoming.remove(at)).map(|batch| batch.images)
        };
        let start = || start(&self.threads, &self.listing, indices, self.size, seed);
        let mut images = announced.unwrap_or_else(start).into_iter().collect::<Vec<_>>();
        images.sort_by_key(|(place, _)| *place);
        let pixels = self.size * self.size;
        let (mut values, mut classes) = (Vec::with_capacity(images.len() * 3 * pixels), Vec::new());
        for (place, decoded) in images {
            match decoded {
                Ok(bytes) => {
                    values.extend(by_channel(&bytes));
                    classes.push(self.listing.files[indices[place]].0);
                }
                Err(unreadable) if self.skip_damaged => {
                    let mut passed_over = self.passed_over.lock().unwrap_or_else(PoisonError::into_inner);
                    passed_over.insert(unreadable.path, unreadable.reason);
                }
                Err(unreadable) => return Err(Error::Examples(Box::new(unreadable))),
            }
        }
        let data = TensorData::new(values, [classes.len(), 3, self.size, self.size]);
        let target = Target::classes(classes.into_iter(), &self.device);
        Ok(Batch { input: Reading::Maps(Tensor::from_data(data, &self.device)), target })
    }
}

/// The values of an image, channel by channel, from its pixels.
fn by_channel(pixels: &[u8]) -> impl Iterator<Item = f32> {
    let channel = |channel: usize| pixels[channel..].iter().step_by(3);
    (0..3).flat_map(channel).map(|byte| f32::from(*byte) / 255.0)
}

/// An image as evaluation looks at it: its middle, brought to this size; in grey if there is one channel.
pub fn image(file: &Path, [channels, height, width]: Size, device: &Device) -> Result<Inputs> {
    let cannot = || format!("cannot read the image {}", file.display());
    if height != width {
        bail!("networks for images that are not square read no others");
    }
    let pixels = decode(file, height, None).with_context(cannot)?;
    let values = match channels {
        // Luma (ITU-R BT.601).
        1 => pixels.chunks(3).map(|rgb| (0.299 * f32::from(rgb[0]) + 0.587 * f32::from(rgb[1]) + 0.114 * f32::from(rgb[2])) / 255.0).collect(),
        _ => by_channel(&pixels).collect::<Vec<_>>(),
    };
    let data = TensorData::new(values, [1, channels, height, width]);
    Ok(Inputs { names: vec!["1".into()], tensor: Tensor::from_data(data, device) })
}

fn threads() -> ThreadPool {
    let threads = rayon::ThreadPoolBuilder::new().thread_name(|_| "images".into()).build();
    threads.expect("the system gives threads")
}

/// Lets threads decode a batch.
fn start(
    threads: &ThreadPool,
    listing: &Arc<Listing>,
    indices: &[usize],
    size: usize,
    seed: Option<Seed>,
) -> Receiver<Decoded> {
    let (sender, images) = channel();
    for (place, index) in indices.iter().enumerate() {
        let (listing, sender, index) = (listing.clone(), sender.clone(), *index);
        threads.spawn_fifo(move || {
            send(&sender, place, listing.path(index), size, seed.map(|seed| seed.at(index as u64)));
        });
    }
    images
}

impl Examples for FolderExamples {
    type Input = Reading;
    type Target = Target;

    fn count(&self) -> usize {
        self.listing.count()
    }

    fn batch(&self, indices: &[usize]) -> Result<Batch<Reading>, Error> {
        self.loaded(indices, None)
    }

    fn augmented(&self, indices: &[usize], seed: Seed) -> Result<Batch<Reading>, Error> {
        self.loaded(indices, Some(seed))
    }

    fn augments(&self) -> bool {
        true
    }

    fn announce(&self, indices: &[usize], seed: Option<Seed>) {
        let mut upcoming = self.upcoming.lock().unwrap_or_else(PoisonError::into_inner);
        if upcoming.iter().any(|batch| batch.indices == indices && batch.seed == seed) {
            return;
        }
        while upcoming.len() >= UPCOMING {
            upcoming.pop_front();
        }
        let images = start(&self.threads, &self.listing, indices, self.size, seed);
        upcoming.push_back(Upcoming { indices: indices.to_vec(), seed, images });
    }

    fn largest_class(&self) -> Option<usize> {
        self.listing.classes().checked_sub(1)
    }
}

impl SharedExamples for FolderExamples {
    fn for_one_run(&self) -> AnyExamples {
        Box::new(Self {
            listing: self.listing.clone(),
            size: self.size,
            skip_damaged: self.skip_damaged,
            device: self.device.clone(),
            threads: self.threads.clone(),
            // What one run has announced is not there for another to take.
            upcoming: Mutex::default(),
            passed_over: self.passed_over.clone(),
        })
    }

    fn passed_over(&self) -> Vec<String> {
        let passed_over = self.passed_over.lock().unwrap_or_else(PoisonError::into_inner);
        passed_over.iter().map(|(path, reason)| format!("{}: {reason}", path.display())).collect()
    }
}

fn send(sender: &Sender<Decoded>, place: usize, path: PathBuf, size: usize, seed: Option<Seed>) {
    // A panic of a decoder would end the whole program here.
    let decoded = caught(|| decode(&path, size, seed));
    let decoded = decoded.map_err(|reason| Unreadable { path, reason: format!("{reason:#}") });
    // Nobody waits any more for a batch that was given up.
    let _ = sender.send((place, decoded));
}

#[cfg(test)]
pub use self::decode::fuzzed;

#[cfg(test)]
mod tests {
    use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("gradmax-images-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    /// Two classes of three JPEGs of 40x30 each, in both halves.
    fn filled(name: &str) -> PathBuf {
        let folder = folder(name);
        for half in ["train", "val"] {
            for (class, red) in [("ants", 200), ("bees", 20)] {
                let class = folder.join(half).join(class);
                fs::create_dir_all(&class).unwrap();
                for index in 0..3_u8 {
                    let pixel = |x: u32, y: u32| Rgb([red, (5 * x) as u8, (6 * y) as u8 + index]);
                    RgbImage::from_fn(40, 30, pixel).save(class.join(format!("{index}.jpg"))).unwrap();
                }
            }
        }
        folder
    }

    fn images(folder: &Path, size: usize) -> FolderExamples {
        let [train, _] = listings(folder).unwrap();
        FolderExamples::new(train, size, false, &Device::flex())
    }

    fn pixels(batch: Result<Batch<Reading>, Error>) -> Vec<f32> {
        batch.unwrap().input.maps().into_data().try_into_vec_as::<f32>().unwrap()
    }

    fn why(result: Result<[Listing; 2]>) -> String {
        format!("{:#}", result.expect_err("the folder is wrong"))
    }

    #[test]
    fn classes_are_folders_in_the_order_of_their_names() {
        let images = images(&filled("classes"), 16);
        assert_eq!(images.count(), 6);
        let batch = images.batch(&[5, 0, 3]);
        let Target::Classes(classes) = images.batch(&[5, 0, 3]).unwrap().target else {
            unreachable!("folders are classes")
        };
        assert_eq!(classes.into_data().try_into_vec_as::<i64>().unwrap(), [1, 0, 1]);
        let reds = pixels(batch).chunks_exact(3 * 256).map(|image| image[128] > 0.5).collect::<Vec<_>>();
        assert_eq!(reds, [false, true, false]);
    }

    #[test]
    fn what_is_drawn_depends_on_the_seed_alone() {
        let folder = filled("seeds");
        let (announced, alone) = (images(&folder, 24), images(&folder, 24));
        let (seed, other) = (Seed::new(1), Seed::new(2));
        announced.announce(&[0, 4, 2], Some(seed));
        announced.announce(&[1, 3], Some(other));
        let drawn = pixels(announced.augmented(&[0, 4, 2], seed));
        assert_eq!(drawn, pixels(alone.augmented(&[0, 4, 2], seed)));
        assert_eq!(pixels(announced.augmented(&[1, 3], other)), pixels(alone.augmented(&[1, 3], other)));
        assert_ne!(drawn, pixels(alone.augmented(&[0, 4, 2], other)));
        assert!(drawn.iter().all(|pixel| (0.0..=1.0).contains(pixel)));
    }

    #[test]
    fn few_batches_are_kept_however_many_are_announced() {
        let images = images(&filled("bounded"), 8);
        for seed in 0..50 {
            images.announce(&[0, 1, 2, 3, 4, 5], Some(Seed::new(seed)));
        }
        assert_eq!(images.upcoming.lock().unwrap().len(), UPCOMING);
        // One that was given up is decoded again.
        assert_eq!(pixels(images.augmented(&[0], Seed::new(3))).len(), 3 * 64);
    }

    #[test]
    fn the_centre_of_an_image_is_what_evaluation_sees() {
        let folder = folder("centre");
        for half in ["train", "val"] {
            let class = folder.join(half).join("only");
            fs::create_dir_all(&class).unwrap();
            // White inside the middle square of 28 of 32 rows and columns, black around.
            let pixel = |x: u32, y: u32| Rgb([if (2..30).contains(&x) && (2..30).contains(&y) { 255 } else { 0 }; 3]);
            RgbImage::from_fn(32, 32, pixel).save(class.join("square.png")).unwrap();
        }
        let seen = pixels(images(&folder, 14).batch(&[0]));
        for (at, pixel) in seen.iter().enumerate() {
            // At the very edge, bicubic interpolation reaches beyond the crop.
            let edge = [at % 14, at / 14 % 14].iter().any(|place| [0, 13].contains(place));
            assert!(*pixel == 1.0 || (edge && *pixel > 0.8), "{at} {pixel}");
        }
    }

    #[test]
    fn grey_images_transparent_ones_and_small_ones_are_read() {
        let folder = filled("kinds");
        let class = folder.join("train").join("ants");
        GrayImage::from_pixel(50, 50, Luma([102])).save(class.join("grey.png")).unwrap();
        GrayImage::from_pixel(50, 50, Luma([102])).save(class.join("grey.jpeg")).unwrap();
        RgbaImage::from_pixel(50, 50, Rgba([102, 102, 102, 7])).save(class.join("alpha.png")).unwrap();
        RgbImage::from_pixel(3, 2, Rgb([102; 3])).save(class.join("tiny.PNG")).unwrap();
        // The ending is not what tells the format.
        RgbImage::from_pixel(50, 50, Rgb([102; 3]))
            .save_with_format(class.join("named.jpg"), ImageFormat::Png)
            .unwrap();
        let images = images(&folder, 20);
        assert_eq!(images.count(), 11);
        for index in 3..8 {
            for batch in [images.batch(&[index]), images.augmented(&[index], Seed::new(5))] {
                assert!(
                    pixels(batch).iter().all(|pixel| (pixel - 0.4).abs() < 0.01),
                    "{}",
                    images.listing.path(index).display()
                );
            }
        }
    }

    #[test]
    fn images_that_cannot_be_read_are_named() {
        let folder = filled("corrupt");
        let path = folder.join("train").join("bees").join("1.jpg");
        let bytes = fs::read(&path).unwrap();
        let png = folder.join("whole.png");
        RgbImage::from_fn(40, 30, |x, y| Rgb([(7 * x) as u8, (x * y) as u8, (9 * y) as u8])).save(&png).unwrap();
        let png = fs::read(png).unwrap();
        // Cut in the header and in the scan; and other things.
        let cuts = [bytes.len() / 3, bytes.len() * 9 / 10, bytes.len() - 12].map(|length| &bytes[..length]);
        for damaged in cuts.into_iter().chain([&png[..png.len() / 2], b"no image at all", b""]) {
            fs::write(&path, damaged).unwrap();
            let images = images(&folder, 16);
            let failure = images.batch(&[0, 4]).map(|_| ()).unwrap_err().to_string();
            assert!(failure.contains("1.jpg") && failure.contains("remove it or replace it"), "{failure}");
            assert!(images.batch(&[0, 1]).is_ok(), "others can be read");
            assert!(format!("{:#}", describe(&folder).unwrap_err()).contains("1.jpg"));
        }
        fs::write(&path, &bytes).unwrap();
        assert!(describe(&folder).unwrap().contains("6 training and 6 test images of 2 classes"));
    }

    #[test]
    fn a_whole_jpeg_is_read_whatever_is_behind_it_and_with_its_end_marker_missing() {
        let folder = filled("ends");
        let path = folder.join("train").join("bees").join("1.jpg");
        let bytes = fs::read(&path).unwrap();
        let whole = pixels(images(&folder, 16).batch(&[4]));
        // The film of a motion photo has bytes that look like the beginning of a scan.
        let film = [bytes.as_slice(), b"\0\0\0\x1cftypmp42", &[0xff, 0xda, 0x12], &[0x41; 500]].concat();
        let trailing_zeros = [bytes.as_slice(), &[0; 64]].concat();
        let no_end = bytes[..bytes.len() - 2].to_vec();
        for contents in [film, trailing_zeros, no_end] {
            fs::write(&path, contents).unwrap();
            assert_eq!(pixels(images(&folder, 16).batch(&[4])), whole);
        }
        // Every cut inside of the scan is noticed.
        let scan = bytes.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap() + 14;
        for length in (scan..bytes.len() - 12).step_by(5) {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(images(&folder, 16).batch(&[4]).is_err(), "cut at {length} of {}", bytes.len());
        }
    }

    #[test]
    fn cameras_that_were_held_sideways_are_turned_upright() {
        let folder = filled("exif");
        let path = folder.join("train").join("bees").join("1.jpg");
        let bytes = fs::read(&path).unwrap();
        let as_it_is = pixels(images(&folder, 16).batch(&[4]));
        // An APP1 segment with one entry: orientation (0x0112) 3, turned by 180 degrees.
        let entry = [0x12, 0x01, 3, 0, 1, 0, 0, 0, 3, 0, 0, 0];
        let tiff = [b"II*\0\x08\0\0\0\x01\0".as_slice(), &entry, &[0; 4]].concat();
        let exif = [b"Exif\0\0".as_slice(), &tiff].concat();
        let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
        fs::write(&path, [&bytes[..2], &[0xff, 0xe1], &length, &exif, &bytes[2..]].concat()).unwrap();
        let turned = pixels(images(&folder, 16).batch(&[4]));
        let expected = as_it_is.chunks_exact(256).flat_map(|channel| channel.iter().rev().copied());
        // The crop of an odd number of pixels lies half a pixel aside when it is turned.
        let far = turned.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 0.02, "{far}");
        assert!(turned != as_it_is);
    }

    #[test]
    fn every_format_of_the_image_library_is_read_and_other_files_are_named() {
        let folder = filled("formats");
        let class = folder.join("train").join("ants");
        let grey = RgbImage::from_pixel(40, 40, Rgb([102; 3]));
        for name in ["a.bmp", "b.gif", "c.tiff", "d.webp", "e.TIF", "f.ppm", "g.qoi", "h.tga"] {
            grey.save(class.join(name)).unwrap();
        }
        let plain = images(&folder, 12);
        assert_eq!(plain.count(), 6 + 8);
        for index in 3..11 {
            let far = pixels(plain.batch(&[index])).iter().map(|pixel| (pixel - 0.4).abs()).fold(0.0, f32::max);
            assert!(far < 0.01, "{}: {far}", plain.listing.path(index).display());
        }
        assert_eq!(left_out(&listings(&folder).unwrap()), None);
        assert!(!describe(&folder).unwrap().contains("left out"));

        for name in ["notes.txt", "raw.nef", "photo.heic"] {
            fs::write(class.join(name), "something").unwrap();
        }
        let said = left_out(&listings(&folder).unwrap()).unwrap();
        assert!(said.starts_with("3 files are not of a format that is read (") && said.contains("webp"), "{said}");
        assert!(["notes.txt", "raw.nef", "photo.heic"].iter().all(|name| said.contains(name)), "{said}");
        assert!(describe(&folder).unwrap().contains(&said));
    }

    #[cfg(unix)]
    #[test]
    fn file_names_need_not_be_text() {
        use std::os::unix::ffi::OsStrExt;
        let folder = filled("names");
        let class = folder.join("train").join("bees");
        fs::rename(class.join("1.jpg"), class.join(OsStr::from_bytes(b"caf\xe9.jpg"))).unwrap();
        let [train, _] = listings(&folder).unwrap();
        let images = FolderExamples::new(train, 16, false, &Device::flex());
        let all = (0..images.count()).collect::<Vec<_>>();
        assert_eq!(pixels(images.batch(&all)).len(), 6 * 3 * 256);
    }

    #[test]
    fn damaged_images_are_all_listed_and_can_be_passed_over() {
        let folder = filled("skip");
        let bees = folder.join("train").join("bees");
        for name in ["0.jpg", "2.jpg"] {
            fs::write(bees.join(name), "torn").unwrap();
        }
        let said = format!("{:#}", describe(&folder).unwrap_err());
        assert!(said.contains("2 of 12 images cannot be read") && said.contains("skip_damaged = true"), "{said}");
        assert!(said.contains("bees/0.jpg: ") && said.contains("bees/2.jpg: "), "{said}");

        let [train, _] = listings(&folder).unwrap();
        let images = FolderExamples::new(train, 16, true, &Device::flex());
        let batch = images.batch(&[3, 1, 5, 4]).unwrap();
        assert_eq!((batch.input.maps().dims(), batch.target.count()), ([2, 3, 16, 16], 2));
        let Target::Classes(classes) = batch.target else { unreachable!("folders are classes") };
        assert_eq!(classes.into_data().try_into_vec_as::<i64>().unwrap(), [0, 1]);
        let passed_over = images.passed_over();
        assert_eq!(passed_over.len(), 2);
        assert!(passed_over[0].contains("0.jpg") && passed_over[1].contains("2.jpg"));
        // A run beside this one knows of them too, and has a queue of its own.
        images.announce(&[0, 1], None);
        let other = images.for_one_run();
        assert_eq!(other.passed_over().len(), 2);
        assert_eq!(images.upcoming.lock().unwrap().len(), 1);
    }

    #[test]
    fn runs_side_by_side_do_not_take_each_other_s_errors_or_images() {
        let folder = filled("shared");
        fs::write(folder.join("train").join("ants").join("0.jpg"), "torn").unwrap();
        let first = images(&folder, 16);
        let second = first.for_one_run();
        for round in 0..20 {
            let seed = Seed::new(round);
            first.announce(&[1, 2], Some(seed));
            second.announce(&[1, 2], Some(seed));
            let (torn, good) = std::thread::scope(|scope| {
                let torn = scope.spawn(|| first.augmented(&[0, 1], seed).map(|_| ()));
                (torn.join().unwrap(), second.augmented(&[1, 2], seed))
            });
            assert!(matches!(torn, Err(Error::Examples(_))));
            assert!(good.is_ok());
            assert!(first.augmented(&[1, 2], seed).is_ok());
        }
    }

    #[test]
    fn validation_folders_have_several_customary_names() {
        for name in ["valid", "validation", "test"] {
            let folder = filled(&format!("half-{name}"));
            fs::rename(folder.join("val"), folder.join(name)).unwrap();
            assert_eq!(listings(&folder).unwrap().map(|half| half.count()), [6, 6]);
        }
    }

    #[test]
    fn folders_of_another_layout_are_refused_with_what_is_missing() {
        assert!(why(listings(&folder("absent"))).contains("no folder `train`"));
        let folder = filled("layout");
        fs::create_dir_all(folder.join("train").join("cats")).unwrap();
        assert!(why(listings(&folder)).contains("cats holds no images of a format that is read"));
        fs::write(folder.join("train").join("cats").join("notes.txt"), "no image").unwrap();
        assert!(why(listings(&folder)).contains("cats holds no images of a format that is read"));
        fs::copy(folder.join("val").join("ants").join("0.jpg"), folder.join("train").join("cats").join("0.jpg"))
            .unwrap();
        assert!(why(listings(&folder)).contains("val has no class folder `cats`"));
        fs::remove_dir_all(folder.join("val")).unwrap();
        assert!(why(listings(&folder)).contains("no folder `val`, `valid`, `validation`, `test`"));
    }
}
