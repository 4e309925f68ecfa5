//! Data sets in MNIST's IDX format, plain or gzip: four files in a folder.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::bufread::GzDecoder;
use serde::{Deserialize, Serialize};

use super::image_set::{ImageFiles, Set};
use super::images::{Images, Size};
use super::source::Half;

/// Channels, height and width of an image.
const SIZE: Size = [1, 28, 28];
const SIDE: usize = 28;
const PIXELS: usize = SIDE * SIDE;

/// MNIST (LeCun et al. 1998), from its four files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mnist {}

/// Fashion-MNIST (Xiao et al. 2017), from its four files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FashionMnist {}

/// EMNIST (Cohen et al. 2017), one of its splits, from its four files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Emnist {
    /// Which split; `balanced` if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    split: Option<EmnistSplit>,
}

impl Set for Mnist {
    fn files(&self) -> impl ImageFiles {
        IdxSet::Mnist
    }
}

impl Set for FashionMnist {
    fn files(&self) -> impl ImageFiles {
        IdxSet::FashionMnist
    }
}

impl Set for Emnist {
    const OPTIONS: &[&str] = &["split"];

    fn files(&self) -> impl ImageFiles {
        IdxSet::Emnist(self.split.unwrap_or_default())
    }
}

/// A data set in this format.
#[derive(Debug, Clone, Copy, PartialEq)]
enum IdxSet {
    Mnist,
    FashionMnist,
    Emnist(EmnistSplit),
}

/// A split of EMNIST.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmnistSplit {
    /// Digits and letters, those of one form merged, as many images of each.
    #[default]
    Balanced,
    /// Digits, capitals and small letters.
    #[serde(alias = "byclass")]
    ByClass,
    /// Digits and letters, those of one form merged.
    #[serde(alias = "bymerge")]
    ByMerge,
    Digits,
    /// Letters, capitals and small ones together.
    Letters,
    Mnist,
}

impl EmnistSplit {
    /// Name in file names, classes, training images.
    fn about(self) -> (&'static str, usize, usize) {
        match self {
            Self::Balanced => ("balanced", 47, 112_800),
            Self::ByClass => ("byclass", 62, 697_932),
            Self::ByMerge => ("bymerge", 47, 697_932),
            Self::Digits => ("digits", 10, 240_000),
            Self::Letters => ("letters", 26, 124_800),
            Self::Mnist => ("mnist", 10, 60_000),
        }
    }
}

impl IdxSet {
    fn name(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion_mnist",
            Self::Emnist(_) => "emnist",
        }
    }

    /// The label of the first class.
    fn first_label(self) -> u8 {
        u8::from(self == Self::Emnist(EmnistSplit::Letters))
    }

    /// The beginning of the names of files.
    fn stem(self, half: Half) -> String {
        match (self, half) {
            (Self::Mnist | Self::FashionMnist, Half::Train) => "train".into(),
            (Self::Mnist | Self::FashionMnist, Half::Test) => "t10k".into(),
            (Self::Emnist(split), Half::Train) => format!("emnist-{}-train", split.about().0),
            (Self::Emnist(split), Half::Test) => format!("emnist-{}-test", split.about().0),
        }
    }

    /// Folders to look in when the user names none.
    fn usual_folders(self) -> Vec<PathBuf> {
        let local = Path::new("data").join(self.name());
        match self {
            Self::Mnist => vec![local, "/usr/share/datasets/mnist".into()],
            Self::FashionMnist => vec![local, "/usr/share/datasets/fashion-mnist".into()],
            Self::Emnist(_) => vec![local],
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
            Self::Emnist(_) => {
                "download gzip.zip from nist.gov/itl/products-and-services/emnist-dataset and unpack the files of the split"
            }
        }
    }
}

impl ImageFiles for IdxSet {
    fn size(&self) -> Size {
        SIZE
    }

    fn classes(&self) -> usize {
        match self {
            Self::Mnist | Self::FashionMnist => 10,
            Self::Emnist(split) => split.about().1,
        }
    }

    fn training(&self) -> usize {
        match self {
            Self::Mnist | Self::FashionMnist => 60_000,
            Self::Emnist(split) => split.about().2,
        }
    }

    fn find(&self, dir: Option<&Path>) -> Result<Option<PathBuf>> {
        folder(*self, dir).map(Some)
    }

    fn read(&self, dir: Option<&Path>) -> Result<[Images; 2]> {
        let folder = folder(*self, dir)?;
        Ok([read(*self, &folder, Half::Train)?, read(*self, &folder, Half::Test)?])
    }

    fn describe(&self, dir: Option<&Path>) -> Result<String> {
        let [train, test] = ImageFiles::read(self, dir)?;
        Ok(format!(
            "{}: {} training and {} test images of 28x28 in {}; sizes, magic numbers and labels are right",
            self.name(),
            train.classes.len(),
            test.classes.len(),
            folder(*self, dir)?.display()
        ))
    }
}

/// The folder that holds the set.
fn folder(set: IdxSet, dir: Option<&Path>) -> Result<PathBuf> {
    let candidates = match dir {
        Some(dir) => vec![dir.to_path_buf()],
        None => set.usual_folders(),
    };
    let images = format!("{}-images", set.stem(Half::Train));
    match candidates.iter().find(|folder| file(folder, &images, IMAGES).is_some()) {
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

/// Reads images and labels of one half of a set, and checks that they belong together.
fn read(set: IdxSet, folder: &Path, half: Half) -> Result<Images> {
    let stem = set.stem(half);
    let (images_path, images) = contents(folder, &format!("{stem}-images"), IMAGES)?;
    let (labels_path, labels) = contents(folder, &format!("{stem}-labels"), LABELS)?;
    let (sizes, pixels) = parse::<3>(&images).with_context(|| images_path.display().to_string())?;
    let ([count], labels) = parse::<1>(&labels).with_context(|| labels_path.display().to_string())?;
    if [sizes[1], sizes[2]] != [SIDE; 2] {
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
    let first = set.first_label();
    let known = usize::from(first)..usize::from(first) + set.classes();
    if let Some((index, label)) = labels.iter().enumerate().find(|(_, label)| !known.contains(&usize::from(**label))) {
        bail!(
            "{}: label {label} of image {index} is out of range; labels are {first} to {}",
            labels_path.display(),
            known.end - 1
        );
    }
    let classes = labels.iter().map(|label| label - first).collect();
    let pixels = match set {
        // Rows and columns are exchanged in EMNIST's files.
        IdxSet::Emnist(_) => pixels.chunks_exact(PIXELS).flat_map(transposed).collect(),
        IdxSet::Mnist | IdxSet::FashionMnist => pixels.to_vec(),
    };
    Ok(Images { pixels, classes, size: SIZE })
}

fn transposed(image: &[u8]) -> impl Iterator<Item = u8> {
    (0..PIXELS).map(move |at| image[at % SIDE * SIDE + at / SIDE])
}

/// The ends of file names, by what is in the files; some archives write a dot in place of the first dash.
const IMAGES: &str = "idx3-ubyte";
const LABELS: &str = "idx1-ubyte";

/// The file of that name, under one of the names that are in use.
fn file(folder: &Path, stem: &str, end: &str) -> Option<PathBuf> {
    let names = ["-", "."].into_iter().flat_map(|dash| ["", ".gz"].map(|gz| format!("{stem}{dash}{end}{gz}")));
    names.map(|name| folder.join(name)).find(|path| path.is_file())
}

fn contents(folder: &Path, stem: &str, end: &str) -> Result<(PathBuf, Vec<u8>)> {
    let path = file(folder, stem, end)
        .with_context(|| format!("{} has neither {stem}-{end} nor {stem}-{end}.gz", folder.display()))?;
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let contents =
        unpacked(bytes).with_context(|| format!("{} is damaged or cut short; get it again", path.display()))?;
    Ok((path, contents))
}

/// What gzip data holds, zeros behind it aside; other data as it is. Names of files do not tell.
fn unpacked(bytes: Vec<u8>) -> Result<Vec<u8>> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    if !bytes.starts_with(&GZIP) {
        return Ok(bytes);
    }
    let (mut left, mut contents) = (bytes.as_slice(), Vec::new());
    while left.starts_with(&GZIP) {
        let mut decoder = GzDecoder::new(left);
        decoder.read_to_end(&mut contents)?;
        left = decoder.into_inner();
    }
    match left.iter().all(|byte| *byte == 0) {
        true => Ok(contents),
        false => bail!("there is something else behind its end"),
    }
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
    let body = &contents[4 * (D + 1)..];
    let expected = sizes.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
    let expected = expected.with_context(|| format!("the header promises more than there can be ({sizes:?})"))?;
    if body.len() != expected {
        bail!(
            "the header promises {expected} bytes ({sizes:?}), but {} follow; the file is cut short or not whole",
            body.len()
        );
    }
    Ok((sizes, body))
}

#[cfg(test)]
pub mod fuzzed {
    use super::*;

    pub(crate) fn idx_files() -> Vec<Vec<u8>> {
        let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28], [7; 2 * PIXELS].as_slice()].concat();
        let labels = vec![0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7];
        let packed = [&images, &labels].map(|bytes| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, bytes).unwrap();
            encoder.finish().unwrap()
        });
        [vec![images, labels], packed.to_vec()].concat()
    }

    pub(crate) fn read_idx(input: &[u8]) {
        if let Ok(contents) = unpacked(input.to_vec()) {
            let _ = parse::<1>(&contents);
            let _ = parse::<3>(&contents);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use gradmax::Seed;
    use gradmax::networks::{Architecture, MlpConfig};
    use gradmax::operator::{GrowthOperator, LinearOperator, Solver, leading_directions_by};
    use gradmax::site::{Activation, Growable, Recorder};
    use gradmax::training::{Examples, InMemory, Supervised, Task};

    use super::*;

    fn idx(dimensions: u8, sizes: &[u32], body: &[u8]) -> Vec<u8> {
        let sizes = sizes.iter().flat_map(|size| size.to_be_bytes()).collect::<Vec<_>>();
        [&[0, 0, 8, dimensions], sizes.as_slice(), body].concat()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Two images a half, under names that end in some way, with contents that are wrapped in some way.
    fn filled(
        name: &str,
        set: IdxSet,
        [images_end, labels_end]: [&str; 2],
        labels: [u8; 2],
        wrap: fn(Vec<u8>) -> Vec<u8>,
    ) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("gradmax-idx-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let pixels = (0..2 * PIXELS).map(|at| (at % 251) as u8).collect::<Vec<_>>();
        for half in [Half::Train, Half::Test] {
            let write = |what: &str, end: &str, contents| {
                std::fs::write(folder.join(format!("{}-{what}{end}", set.stem(half))), wrap(contents)).unwrap();
            };
            write("images", images_end, idx(3, &[2, 28, 28], &pixels));
            write("labels", labels_end, idx(1, &[2], &labels));
        }
        folder
    }

    #[test]
    fn files_are_read_under_their_customary_names_and_by_content() {
        let plain = |bytes: Vec<u8>| bytes;
        let padded = |bytes: Vec<u8>| [gzip(&bytes), vec![0; 512]].concat();
        let in_two = |bytes: Vec<u8>| [gzip(&bytes[..9]), gzip(&bytes[9..])].concat();
        type Packed = fn(Vec<u8>) -> Vec<u8>;
        let cases: [(&str, [&str; 2], Packed); 6] = [
            ("dash", ["-idx3-ubyte", "-idx1-ubyte"], plain),
            ("dot", [".idx3-ubyte", ".idx1-ubyte"], plain),
            ("gzip", ["-idx3-ubyte.gz", ".idx1-ubyte.gz"], |bytes| gzip(&bytes)),
            ("plain-gz", ["-idx3-ubyte.gz", "-idx1-ubyte.gz"], plain),
            ("padded", ["-idx3-ubyte.gz", "-idx1-ubyte.gz"], padded),
            ("members", ["-idx3-ubyte", "-idx1-ubyte.gz"], in_two),
        ];
        for (name, ends, wrap) in cases {
            let dir = filled(name, IdxSet::Mnist, ends, [3, 9], wrap);
            assert_eq!(folder(IdxSet::Mnist, Some(&dir)).unwrap(), dir, "{name}");
            let images = read(IdxSet::Mnist, &dir, Half::Train).unwrap();
            assert_eq!((images.classes, images.pixels[30]), (vec![3, 9], 30), "{name}");
            assert!(IdxSet::Mnist.describe(Some(&dir)).is_ok(), "{name}");
        }
        let trailing = |bytes: Vec<u8>| [gzip(&bytes), b"something".to_vec()].concat();
        let dir = filled("trailing", IdxSet::Mnist, ["-idx3-ubyte.gz", "-idx1-ubyte.gz"], [3, 9], trailing);
        let said = format!("{:#}", read(IdxSet::Mnist, &dir, Half::Train).err().unwrap());
        assert!(said.contains("something else behind its end"), "{said}");
    }

    #[test]
    fn emnist_has_its_own_labels_and_is_turned_upright() {
        let ends = ["-idx3-ubyte", "-idx1-ubyte"];
        for (split, good, bad, classes) in [
            (EmnistSplit::Letters, [1, 26], [0, 26], 26),
            (EmnistSplit::Balanced, [0, 46], [0, 47], 47),
            (EmnistSplit::ByClass, [10, 61], [62, 0], 62),
            (EmnistSplit::Digits, [0, 9], [0, 10], 10),
        ] {
            let set = IdxSet::Emnist(split);
            let dir = filled("emnist", set, ends, good, |bytes| bytes);
            let images = read(set, &dir, Half::Train).unwrap();
            let first = u8::from(split == EmnistSplit::Letters);
            assert_eq!((images.classes, set.classes()), (good.map(|label| label - first).to_vec(), classes));
            // Row 1, column 0 of the upright image is entry 1 of the file.
            assert_eq!((images.pixels[SIDE], images.pixels[1]), (1, SIDE as u8));
            let dir = filled("emnist", set, ends, bad, |bytes| bytes);
            assert!(format!("{:#}", read(set, &dir, Half::Train).err().unwrap()).contains("out of range"));
        }
    }

    #[test]
    fn block_krylov_captures_the_gradient_of_a_fashion_mnist_site() {
        let Ok(folder) = folder(IdxSet::FashionMnist, None) else {
            assert!(std::env::var_os("GRADMAX_REQUIRE_DATA").is_none(), "Fashion-MNIST is not installed");
            eprintln!("passed over: Fashion-MNIST is not installed");
            return;
        };
        let images = read(IdxSet::FashionMnist, &folder, Half::Train).unwrap();
        let pixels = images.pixels.iter().map(|pixel| f32::from(*pixel) / 255.0).collect();
        let data = InMemory::classes(pixels, &images.classes, &Device::flex());
        let config = MlpConfig::new(PIXELS, &[128, 128], 10, Activation::Relu);
        let network = config.init(Seed::new(0), &Device::flex().autodiff()).unwrap();
        for examples in [128, 2000] {
            let batch = data.batch(&(0..examples).collect::<Vec<_>>()).unwrap();
            let mut recorder = Recorder::new();
            let output = network.forward_probed(batch.input, &mut recorder);
            let evidence =
                recorder.into_evidence(&mut Supervised::Classification.loss(&output, &batch.target).backward());
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
