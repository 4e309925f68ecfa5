//! Folders of images in ImageNet's layout: `train/CLASS/*.jpg` and `val/CLASS/*.jpg`, decoded by threads ahead of
//! training.

mod decode;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor, TensorData};
use gradmax::{Batch, Examples, Seed, Target};
use rayon::ThreadPool;

use self::decode::decode;

/// The files of one half of a folder, with their classes.
#[derive(Debug)]
pub struct Listing {
    root: PathBuf,
    classes: Vec<String>,
    /// Class and file name of each image.
    files: Vec<(u32, Box<str>)>,
}

const ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "JPEG"];

impl Listing {
    /// Lists `folder/CLASS/*`, classes and files in the order of their names.
    pub fn read(root: &Path) -> Result<Self> {
        let classes = names(root, true)?;
        if classes.is_empty() {
            bail!("{} has no class folders; images belong into {}/CLASS/", root.display(), root.display());
        }
        let mut files = Vec::new();
        for (index, class) in classes.iter().enumerate() {
            let before = files.len();
            let of_class = names(&root.join(class), false)?.into_iter().filter(|name| is_image(name));
            files.extend(of_class.map(|name| (index as u32, name.into_boxed_str())));
            if files.len() == before {
                bail!(
                    "the class folder {} holds no JPEG or PNG images; remove it, or put images into it",
                    root.join(class).display()
                );
            }
        }
        Ok(Self { root: root.to_path_buf(), classes, files })
    }

    pub fn count(&self) -> usize {
        self.files.len()
    }

    fn path(&self, index: usize) -> PathBuf {
        let (class, name) = &self.files[index];
        self.root.join(&self.classes[*class as usize]).join(&**name)
    }
}

fn is_image(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// Names of folders, or else of files, in a folder.
fn names(folder: &Path, folders: bool) -> Result<Vec<String>> {
    let cannot = || format!("cannot read the folder {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        // Links count as what they lead to.
        let is_folder = entry.path().is_dir();
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_folder == folders && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Training and test images of a folder, with the same classes.
pub fn listings(dir: &Path) -> Result<[Listing; 2]> {
    let (train, test) = (training_images(dir)?, half(dir, &["val", "test"])?);
    if train.classes != test.classes {
        let lacks = |a: &Listing, b: &Listing| a.classes.iter().find(|class| !b.classes.contains(class)).cloned();
        let (class, other) = match lacks(&train, &test) {
            Some(class) => (class, &test),
            None => (lacks(&test, &train).unwrap_or_default(), &train),
        };
        bail!("{} has no class folder `{class}`; both halves need the same classes", other.root.display());
    }
    Ok([train, test])
}

/// Training images of a folder.
pub fn training_images(dir: &Path) -> Result<Listing> {
    half(dir, &["train"])
}

/// The images of the first of these folders that is there.
fn half(dir: &Path, known: &[&str]) -> Result<Listing> {
    match known.iter().map(|name| dir.join(name)).find(|path| path.is_dir()) {
        Some(path) => Listing::read(&path),
        None => bail!("{} has no folder `{}`; images belong into {0}/{1}/CLASS/", dir.display(), known[0]),
    }
}

/// Number of classes of a folder.
pub fn classes(dir: &Path) -> Result<usize> {
    Ok(names(&dir.join("train"), true)?.len())
}

/// Reads every image as training does, and says how many there are, or which cannot be read.
pub fn describe(dir: &Path) -> Result<String> {
    let [train, test] = listings(dir)?;
    let (counts, classes) = ([train.count(), test.count()], train.classes.len());
    let started = Instant::now();
    for listing in [train, test] {
        let folder = ImageFolder::new(listing, CHECKED_SIZE, &Device::default());
        let indices = (0..folder.count()).collect::<Vec<_>>();
        let mut batches = indices.chunks(CHECKED_TOGETHER).peekable();
        while let Some(batch) = batches.next() {
            batches.peek().into_iter().for_each(|next| folder.announce(next, Some(Seed::new(0))));
            folder.augmented(batch, Seed::new(0));
            if let Some(error) = folder.failure() {
                bail!("{error}");
            }
        }
    }
    let rate = (counts[0] + counts[1]) as f64 / started.elapsed().as_secs_f64();
    Ok(format!(
        "image folder: {} training and {} test images of {classes} classes in {}; all can be decoded ({rate:.0} a second, to {CHECKED_SIZE}x{CHECKED_SIZE})",
        counts[0],
        counts[1],
        dir.display()
    ))
}

const CHECKED_SIZE: usize = 224;
const CHECKED_TOGETHER: usize = 128;

/// Images that are read when they are needed; only those of a few batches are in memory.
pub struct ImageFolder {
    listing: Arc<Listing>,
    size: usize,
    device: Device,
    threads: ThreadPool,
    /// Batches that were announced and not yet asked for.
    upcoming: Mutex<VecDeque<Upcoming>>,
    failure: Mutex<Option<Unreadable>>,
}

/// An image that cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot read the image {path}: {reason}; remove it or replace it")]
pub struct Unreadable {
    path: String,
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

impl ImageFolder {
    /// Square images of this size from the listed files.
    pub fn new(listing: Listing, size: usize, device: &Device) -> Self {
        let threads = rayon::ThreadPoolBuilder::new().thread_name(|_| "images".into()).build();
        Self {
            listing: Arc::new(listing),
            size,
            device: device.clone(),
            threads: threads.expect("the system gives threads"),
            upcoming: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// Lets threads decode a batch.
    fn start(&self, indices: &[usize], seed: Option<Seed>) -> Receiver<Decoded> {
        let (sender, images) = channel();
        for (place, index) in indices.iter().enumerate() {
            let (listing, sender, index, size) = (self.listing.clone(), sender.clone(), *index, self.size);
            self.threads.spawn_fifo(move || {
                send(&sender, place, &listing.path(index), size, seed.map(|seed| seed.at(index as u64)))
            });
        }
        images
    }

    fn loaded(&self, indices: &[usize], seed: Option<Seed>) -> Batch<Tensor<4>> {
        let announced = {
            let mut upcoming = self.upcoming.lock().expect("no thread panics while it holds the lock");
            let at = upcoming.iter().position(|batch| batch.indices == indices && batch.seed == seed);
            at.and_then(|at| upcoming.remove(at)).map(|batch| batch.images)
        };
        let images = announced.unwrap_or_else(|| self.start(indices, seed));
        let pixels = self.size * self.size;
        let mut values = vec![0.0; indices.len() * 3 * pixels];
        for (place, decoded) in images {
            match decoded {
                Ok(bytes) => {
                    let target = &mut values[place * 3 * pixels..][..3 * pixels];
                    for (channel, target) in target.chunks_exact_mut(pixels).enumerate() {
                        let source = bytes[channel..].iter().step_by(3);
                        target.iter_mut().zip(source).for_each(|(to, from)| *to = f32::from(*from) / 255.0);
                    }
                }
                Err(error) => {
                    self.failure.lock().expect("no thread panics while it holds the lock").get_or_insert(error);
                }
            }
        }
        let data = TensorData::new(values, [indices.len(), 3, self.size, self.size]);
        let classes = indices.iter().map(|index| self.listing.files[*index].0);
        Batch { input: Tensor::from_data(data, &self.device), target: Target::classes(classes, &self.device) }
    }
}

impl Examples for ImageFolder {
    type Input = Tensor<4>;

    fn count(&self) -> usize {
        self.listing.count()
    }

    fn batch(&self, indices: &[usize]) -> Batch<Tensor<4>> {
        self.loaded(indices, None)
    }

    fn augmented(&self, indices: &[usize], seed: Seed) -> Batch<Tensor<4>> {
        self.loaded(indices, Some(seed))
    }

    fn announce(&self, indices: &[usize], seed: Option<Seed>) {
        let mut upcoming = self.upcoming.lock().expect("no thread panics while it holds the lock");
        if upcoming.iter().any(|batch| batch.indices == indices && batch.seed == seed) {
            return;
        }
        while upcoming.len() >= UPCOMING {
            upcoming.pop_front();
        }
        let images = self.start(indices, seed);
        upcoming.push_back(Upcoming { indices: indices.to_vec(), seed, images });
    }

    fn failure(&self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        let failure = self.failure.lock().expect("no thread panics while it holds the lock").take();
        failure.map(|failure| Box::new(failure) as _)
    }
}

fn send(sender: &Sender<Decoded>, place: usize, path: &Path, size: usize, seed: Option<Seed>) {
    let decoded = decode(path, size, seed);
    let decoded =
        decoded.map_err(|reason| Unreadable { path: path.display().to_string(), reason: format!("{reason:#}") });
    // Nobody waits any more for a batch that was given up.
    let _ = sender.send((place, decoded));
}

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

    fn images(folder: &Path, size: usize) -> ImageFolder {
        let [train, _] = listings(folder).unwrap();
        ImageFolder::new(train, size, &Device::flex())
    }

    fn pixels(batch: Batch<Tensor<4>>) -> Vec<f32> {
        batch.input.into_data().try_into_vec_as::<f32>().unwrap()
    }

    fn why(result: Result<[Listing; 2]>) -> String {
        format!("{:#}", result.expect_err("the folder is wrong"))
    }

    #[test]
    fn classes_are_folders_in_the_order_of_their_names() {
        let images = images(&filled("classes"), 16);
        assert_eq!(images.count(), 6);
        let batch = images.batch(&[5, 0, 3]);
        let Target::Classes(classes) = batch.target.clone() else { unreachable!("folders are classes") };
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
        assert!(announced.failure().is_none() && drawn.iter().all(|pixel| (0.0..=1.0).contains(pixel)));
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
        assert!(images.failure().is_none());
    }

    #[test]
    fn images_that_cannot_be_read_are_named() {
        let folder = filled("corrupt");
        let path = folder.join("train").join("bees").join("1.jpg");
        let bytes = fs::read(&path).unwrap();
        let png = folder.join("whole.png");
        RgbImage::from_fn(40, 30, |x, y| Rgb([(7 * x) as u8, (x * y) as u8, (9 * y) as u8])).save(&png).unwrap();
        let png = fs::read(png).unwrap();
        // Cut in the header, in the scan, just before its end; and other things.
        let cuts = [bytes.len() / 3, bytes.len() * 9 / 10, bytes.len() - 2].map(|length| &bytes[..length]);
        for damaged in cuts.into_iter().chain([&png[..png.len() / 2], b"no image at all", b""]) {
            fs::write(&path, damaged).unwrap();
            let images = images(&folder, 16);
            images.batch(&[0, 4]);
            let failure = images.failure().expect("an image is damaged").to_string();
            assert!(failure.contains("1.jpg") && failure.contains("remove it or replace it"), "{failure}");
            assert!(images.failure().is_none(), "it is said once");
            assert!(format!("{:#}", describe(&folder).unwrap_err()).contains("1.jpg"));
        }
        fs::write(&path, &bytes).unwrap();
        assert!(describe(&folder).unwrap().contains("6 training and 6 test images of 2 classes"));
    }

    #[test]
    fn folders_of_another_layout_are_refused_with_what_is_missing() {
        assert!(why(listings(&folder("absent"))).contains("no folder `train`"));
        let folder = filled("layout");
        fs::create_dir_all(folder.join("train").join("cats")).unwrap();
        assert!(why(listings(&folder)).contains("cats holds no JPEG or PNG images"));
        fs::write(folder.join("train").join("cats").join("notes.txt"), "no image").unwrap();
        assert!(why(listings(&folder)).contains("cats holds no JPEG or PNG images"));
        fs::copy(folder.join("val").join("ants").join("0.jpg"), folder.join("train").join("cats").join("0.jpg"))
            .unwrap();
        assert!(why(listings(&folder)).contains("val has no class folder `cats`"));
        fs::remove_dir_all(folder.join("val")).unwrap();
        assert!(why(listings(&folder)).contains("no folder `val`"));
    }
}
