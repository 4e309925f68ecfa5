//! Data sets in MNIST's IDX format, plain or gzip: four files in a folder.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;

use super::images::{Images, Size};

/// Channels, height and width of an image.
pub const SIZE: Size = [1, 28, 28];
const PIXELS: usize = 28 * 28;
/// Training images of a full set.
pub const TRAINING: usize = 60_000;
const CLASSES: u8 = 10;

/// A data set in this format.
#[derive(Debug, Clone, Copy)]
pub enum IdxSet {
    Mnist,
    FashionMnist,
}

impl IdxSet {
    fn name(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion_mnist",
        }
    }

    /// Folders to look in when the user names none.
    fn usual_folders(self) -> Vec<PathBuf> {
        let local = Path::new("data").join(self.name());
        match self {
            Self::Mnist => vec![local, "/usr/share/datasets/mnist".into()],
            Self::FashionMnist => vec![local, "/usr/share/datasets/fashion-mnist".into()],
        }
    }

    fn how_to_get(self) -> &'static str {
        match self {
            Self::Mnist => {
                "download its four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz"
            }
            Self::FashionMnist => {
                "`apt-get install dataset-fashion-mnist` on Debian, or download its four files from github.com/zalandoresearch/fashion-mnist"
            }
        }
    }
}

/// The folder that holds the set.
pub fn folder(set: IdxSet, dir: Option<&Path>) -> Result<PathBuf> {
    let candidates = match dir {
        Some(dir) => vec![dir.to_path_buf()],
        None => set.usual_folders(),
    };
    let holds = |folder: &PathBuf| file(folder, "train-images-idx3-ubyte").is_some();
    match candidates.iter().find(|folder| holds(folder)) {
        Some(folder) => Ok(folder.clone()),
        None => {
            let looked = candidates.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(" and ");
            bail!(
                "{} was not found in {looked}: {}, and name the folder with `data.dir` or --dir",
                set.name(),
                set.how_to_get()
            )
        }
    }
}

pub fn describe(set: IdxSet, dir: Option<&Path>) -> Result<String> {
    let folder = folder(set, dir)?;
    let (train, test) = (read(&folder, "train")?, read(&folder, "t10k")?);
    Ok(format!(
        "{}: {} training and {} test images of 28x28 in {}; sizes, magic numbers and labels are right",
        set.name(),
        train.classes.len(),
        test.classes.len(),
        folder.display()
    ))
}

/// Reads images and labels of one half of a set, and checks that they belong together.
pub fn read(folder: &Path, half: &str) -> Result<Images> {
    let (images_path, images) = contents(folder, &format!("{half}-images-idx3-ubyte"))?;
    let (labels_path, labels) = contents(folder, &format!("{half}-labels-idx1-ubyte"))?;
    let (sizes, pixels) = parse::<3>(&images).with_context(|| images_path.display().to_string())?;
    let ([count], classes) = parse::<1>(&labels).with_context(|| labels_path.display().to_string())?;
    if sizes[1] * sizes[2] != PIXELS {
        bail!("{}: images are {}x{}, not 28x28", images_path.display(), sizes[1], sizes[2]);
    }
    if sizes[0] != count {
        bail!(
            "{} holds {} images, but {} holds {count} labels",
            images_path.display(),
            sizes[0],
            labels_path.display()
        );
    }
    if count == 0 {
        bail!("{} holds no images", images_path.display());
    }
    if let Some((index, label)) = classes.iter().enumerate().find(|(_, label)| **label >= CLASSES) {
        bail!(
            "{}: label {label} of image {index} is out of range; labels are 0 to {}",
            labels_path.display(),
            CLASSES - 1
        );
    }
    Ok(Images { pixels: pixels.to_vec(), classes: classes.to_vec(), size: SIZE })
}

/// The file of that name, plain or gzip.
fn file(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join(format!("{name}.gz"))].into_iter().find(|path| path.is_file())
}

fn contents(folder: &Path, name: &str) -> Result<(PathBuf, Vec<u8>)> {
    let path = file(folder, name).with_context(|| format!("{} has neither {name} nor {name}.gz", folder.display()))?;
    let in_file = || path.display().to_string();
    let mut reader = BufReader::new(File::open(&path).with_context(in_file)?);
    let mut contents = Vec::new();
    let read = match path.extension().is_some_and(|extension| extension == "gz") {
        true => MultiGzDecoder::new(reader).read_to_end(&mut contents),
        false => reader.read_to_end(&mut contents),
    };
    read.with_context(|| format!("{} is damaged or cut short; get it again", path.display()))?;
    Ok((path, contents))
}

/// The sizes and the bytes of an IDX file of unsigned bytes with `D` dimensions.
fn parse<const D: usize>(contents: &[u8]) -> Result<([usize; D], &[u8])> {
    let word =
        |index: usize| contents.get(4 * index..4 * index + 4).map(|bytes| [bytes[0], bytes[1], bytes[2], bytes[3]]);
    let magic = u32::from_be_bytes(word(0).context("the file is too short for its header")?);
    let expected = 0x0800 + D as u32;
    if magic != expected {
        bail!(
            "wrong magic number {magic:#010x}, expected {expected:#010x}: this is not an IDX file of bytes in {D} dimensions"
        );
    }
    let mut sizes = [0; D];
    for (index, size) in sizes.iter_mut().enumerate() {
        *size = u32::from_be_bytes(word(index + 1).context("the file is too short for its header")?) as usize;
    }
    let (body, expected) = (&contents[4 * (D + 1)..], sizes.iter().product::<usize>());
    if body.len() != expected {
        bail!(
            "the header promises {expected} bytes ({sizes:?}), but {} follow; the file is cut short or not whole",
            body.len()
        );
    }
    Ok((sizes, body))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use gradmax::{
        Activation, Architecture, Examples, Growable, GrowthOperator, InMemory, LinearOperator, MlpConfig, Recorder,
        Seed, Solver, Task, leading_directions_by,
    };

    use super::*;

    #[test]
    fn block_krylov_captures_the_gradient_of_a_fashion_mnist_site() {
        let Ok(folder) = folder(IdxSet::FashionMnist, None) else {
            assert!(std::env::var_os("GRADMAX_REQUIRE_DATA").is_none(), "Fashion-MNIST is not installed");
            eprintln!("passed over: Fashion-MNIST is not installed");
            return;
        };
        let images = read(&folder, "train").unwrap();
        let pixels = images.pixels.iter().map(|pixel| f32::from(*pixel) / 255.0).collect();
        let data = InMemory::classes(pixels, &images.classes, &Device::flex());
        let config = MlpConfig::new(PIXELS, &[128, 128], 10, Activation::Relu);
        let network = config.init(Seed::new(0), &Device::flex().autodiff()).unwrap();
        for examples in [128, 2000] {
            let batch = data.batch(&(0..examples).collect::<Vec<_>>());
            let mut recorder = Recorder::new();
            let output = network.forward_probed(batch.input, &mut recorder);
            let evidence = recorder.into_evidence(&mut Task::Classification.loss(output, &batch.target).backward());
            for (site, counts) in network.sites().iter().zip([[1, 4, 16], [1, 4, 9]]) {
                let operator = GrowthOperator::new(site, &evidence).unwrap();
                for count in counts {
                    let norm = |solver| {
                        let found = leading_directions_by(solver, &operator, count).unwrap();
                        operator.apply(found.vectors.as_ref()).norm_l2()
                    };
                    let captured = norm(Solver::BlockKrylov) / norm(Solver::Explicit);
                    println!("{examples} examples, {}, {count} neurons: captured {captured}", site.name);
                    assert!(captured >= 0.999);
                }
            }
        }
    }
}
