//! CIFAR-10 and CIFAR-100 in their binary format: the published archive, or the files from it.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::image_set::{ImageFiles, Set};
use super::images::{Images, Size};
use super::source::Half;

/// Channels, height and width of every image.
pub const SIZE: Size = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;

/// CIFAR-10 (Krizhevsky 2009), from its published archive or the files in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cifar10 {}

/// CIFAR-100 (Krizhevsky 2009), from its published archive or the files in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cifar100 {
    /// Which labels are the classes; `fine` if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    labels: Option<Labels>,
}

/// Which labels of CIFAR-100 are the classes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Labels {
    /// The 100 classes.
    #[default]
    Fine,
    /// The 20 superclasses.
    Coarse,
}

impl Set for Cifar10 {
    fn files(&self) -> impl ImageFiles {
        CifarSet::Cifar10
    }
}

impl Set for Cifar100 {
    const OPTIONS: &[&str] = &["labels"];

    fn files(&self) -> impl ImageFiles {
        match self.labels.unwrap_or_default() {
            Labels::Fine => CifarSet::Cifar100,
            Labels::Coarse => CifarSet::Cifar100Coarse,
        }
    }
}

/// A data set in this format.
#[derive(Debug, Clone, Copy, PartialEq)]
enum CifarSet {
    Cifar10,
    /// With its 100 classes.
    Cifar100,
    /// With its 20 superclasses.
    Cifar100Coarse,
}

impl CifarSet {
    fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 | Self::Cifar100Coarse => "cifar100",
        }
    }

    /// The archive's name, its MD5 as its publisher states it, and the folder in it.
    fn archive(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Cifar10 => ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", "cifar-10-batches-bin"),
            Self::Cifar100 | Self::Cifar100Coarse => {
                ("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", "cifar-100-binary")
            }
        }
    }

    fn files(self, half: Half) -> Vec<String> {
        match (self, half) {
            (Self::Cifar10, Half::Train) => (1..=5).map(|batch| format!("data_batch_{batch}.bin")).collect(),
            (Self::Cifar10, Half::Test) => vec!["test_batch.bin".into()],
            (Self::Cifar100 | Self::Cifar100Coarse, Half::Train) => vec!["train.bin".into()],
            (Self::Cifar100 | Self::Cifar100Coarse, Half::Test) => vec!["test.bin".into()],
        }
    }

    /// Label bytes of a record.
    fn labels(self) -> usize {
        match self {
            Self::Cifar10 => 1,
            Self::Cifar100 | Self::Cifar100Coarse => 2,
        }
    }

    /// Which of them is the class: the fine label comes after the coarse one.
    fn label(self) -> usize {
        match self {
            Self::Cifar10 | Self::Cifar100Coarse => 0,
            Self::Cifar100 => 1,
        }
    }

    /// Files of the version for Python, which are not read.
    fn of_python(self) -> [&'static str; 2] {
        match self {
            Self::Cifar10 => ["cifar-10-python.tar.gz", "cifar-10-batches-py"],
            Self::Cifar100 | Self::Cifar100Coarse => ["cifar-100-python.tar.gz", "cifar-100-python"],
        }
    }

    fn how_to_get(self) -> String {
        let (archive, ..) = self.archive();
        format!("download https://www.cs.toronto.edu/~kriz/{archive} into a folder")
    }
}

impl ImageFiles for CifarSet {
    fn size(&self) -> Size {
        SIZE
    }

    fn classes(&self) -> usize {
        match self {
            Self::Cifar10 => 10,
            Self::Cifar100 => 100,
            Self::Cifar100Coarse => 20,
        }
    }

    fn training(&self) -> usize {
        50_000
    }

    fn find(&self, dir: Option<&Path>) -> Result<Option<PathBuf>> {
        Ok(Some(find(*self, dir)?.path().to_path_buf()))
    }

    fn read(&self, dir: Option<&Path>) -> Result<[Images; 2]> {
        read(*self, &find(*self, dir)?)
    }

    fn describe(&self, dir: Option<&Path>) -> Result<String> {
        let source = find(*self, dir)?;
        let [train, test] = read(*self, &source)?;
        let right = match source {
            Source::Archive(_) => "the checksum, record sizes and labels are right",
            Source::Files(_) => "record sizes and labels are right (the archive with its checksum is not there)",
        };
        Ok(format!(
            "{}: {} training and {} test images of 3x32x32 in {}; {right}",
            self.name(),
            train.classes.len(),
            test.classes.len(),
            source.path().display()
        ))
    }
}

/// Where a set is read from.
#[derive(Debug, PartialEq)]
enum Source {
    /// The folder with the files.
    Files(PathBuf),
    /// The archive.
    Archive(PathBuf),
}

impl Source {
    fn path(&self) -> &Path {
        match self {
            Self::Files(path) | Self::Archive(path) => path,
        }
    }
}

/// Finds the set in a folder (or `data/NAME`): its files, there or in the archive's folder, or the archive.
fn find(set: CifarSet, dir: Option<&Path>) -> Result<Source> {
    let dir = dir.map_or_else(|| Path::new("data").join(set.name()), Path::to_path_buf);
    let (archive, _, inside) = set.archive();
    let first = &set.files(Half::Train)[0];
    for folder in [dir.clone(), dir.join(inside)] {
        if folder.join(first).is_file() {
            return Ok(Source::Files(folder));
        }
    }
    if dir.join(archive).is_file() {
        return Ok(Source::Archive(dir.join(archive)));
    }
    let python = set.of_python().into_iter().find(|name| dir.join(name).exists());
    let python = python.map_or(String::new(), |name| format!(" ({name} is the version for Python, which is not read)"));
    bail!(
        "{} was not found in {}{python}: {}, and name the folder with `data.dir` or --dir",
        set.name(),
        dir.display(),
        set.how_to_get()
    )
}

/// Reads training and test images; an archive's checksum is verified first.
fn read(set: CifarSet, source: &Source) -> Result<[Images; 2]> {
    match source {
        Source::Files(folder) => {
            let half = |half| {
                let contents = |name: &String| {
                    let path = folder.join(name);
                    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                    Ok((path.display().to_string(), bytes))
                };
                parse(set, set.files(half).iter().map(contents).collect::<Result<Vec<_>>>()?)
            };
            Ok([half(Half::Train)?, half(Half::Test)?])
        }
        Source::Archive(path) => {
            let (_, checksum, _) = set.archive();
            verify(set, path, checksum)?;
            read_archive(set, path)
        }
    }
}

/// Compares a file's MD5 with the published one.
fn verify(set: CifarSet, path: &Path, published: &str) -> Result<()> {
    let in_file = || format!("cannot read {}", path.display());
    let mut reader = BufReader::new(File::open(path).with_context(in_file)?);
    let mut digest = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer).with_context(in_file)? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    let found = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match found == published {
        true => Ok(()),
        false => bail!(
            "{} has the MD5 {found}, not the published {published}: it is cut short or another file; {} again",
            path.display(),
            set.how_to_get()
        ),
    }
}

fn read_archive(set: CifarSet, path: &Path) -> Result<[Images; 2]> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    archive_of(set, path, BufReader::new(file))
}

fn archive_of(set: CifarSet, path: &Path, reader: impl Read) -> Result<[Images; 2]> {
    let damaged = || format!("{} is damaged or cut short; {} again", path.display(), set.how_to_get());
    let mut archive = tar::Archive::new(GzDecoder::new(reader));
    let mut found = std::collections::BTreeMap::new();
    for entry in archive.entries().with_context(damaged)? {
        let mut entry = entry.with_context(damaged)?;
        let name = entry.path().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        if let Some(name) = name.filter(|name| name.ends_with(".bin")) {
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).with_context(damaged)?;
            found.insert(name, contents);
        }
    }
    let mut half = |half| {
        let contents = set.files(half).into_iter().map(|name| {
            let bytes = found.remove(&name).with_context(|| format!("{} holds no {name}", path.display()))?;
            Ok((format!("{name} in {}", path.display()), bytes))
        });
        parse(set, contents.collect::<Result<Vec<_>>>()?)
    };
    Ok([half(Half::Train)?, half(Half::Test)?])
}

/// Images from the contents of files of records: label bytes, then pixels channel by channel.
fn parse(set: CifarSet, files: Vec<(String, Vec<u8>)>) -> Result<Images> {
    let record = set.labels() + PIXELS;
    let mut images = Images { pixels: Vec::new(), classes: Vec::new(), size: SIZE };
    for (name, contents) in files {
        if contents.is_empty() || contents.len() % record != 0 {
            bail!(
                "{name} has {} bytes, which is not a number of records of {record} bytes: it is cut short, or not of {}; {} again",
                contents.len(),
                set.name(),
                set.how_to_get()
            );
        }
        for (index, record) in contents.chunks_exact(record).enumerate() {
            let (labels, pixels) = record.split_at(set.labels());
            let class = labels[set.label()];
            if usize::from(class) >= set.classes() {
                bail!(
                    "{name}: label {class} of image {index} is out of range; labels of {} are 0 to {}",
                    set.name(),
                    set.classes() - 1
                );
            }
            images.classes.push(class);
            images.pixels.extend_from_slice(pixels);
        }
    }
    Ok(images)
}

#[cfg(test)]
pub mod fuzzed {
    use super::*;

    pub(crate) fn cifar_files() -> Vec<Vec<u8>> {
        let record = [vec![3], vec![9; PIXELS]].concat();
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for name in [CifarSet::Cifar10.files(Half::Train), CifarSet::Cifar10.files(Half::Test)].concat() {
            let mut header = tar::Header::new_gnu();
            header.set_size(record.len() as u64);
            archive.append_data(&mut header, Path::new("cifar-10-batches-bin").join(name), record.as_slice()).unwrap();
        }
        vec![archive.into_inner().unwrap().finish().unwrap(), record.repeat(2), [vec![1], record].concat()]
    }

    pub(crate) fn read_cifar(input: &[u8]) {
        for set in [CifarSet::Cifar10, CifarSet::Cifar100, CifarSet::Cifar100Coarse] {
            let _ = parse(set, vec![("fuzz".into(), input.to_vec())]);
            let _ = archive_of(set, Path::new("fuzz"), input);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("gradmax-cifar-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Two records of true size with the given classes.
    fn records(set: CifarSet, classes: [u8; 2]) -> Vec<u8> {
        let record = |class: u8| [vec![1; set.labels() - 1], vec![class], vec![class; PIXELS]].concat();
        classes.map(record).concat()
    }

    fn write_files(set: CifarSet, folder: &Path) {
        for name in [set.files(Half::Train), set.files(Half::Test)].concat() {
            std::fs::write(folder.join(name), records(set, [3, 9])).unwrap();
        }
    }

    fn write_archive(set: CifarSet, path: &Path) -> String {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for name in [set.files(Half::Train), set.files(Half::Test)].concat() {
            let contents = records(set, [2, 7]);
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.len() as u64);
            header.set_mode(0o644);
            let inside = Path::new(set.archive().2).join(name);
            archive.append_data(&mut header, inside, contents.as_slice()).unwrap();
        }
        let bytes = archive.into_inner().unwrap().finish().unwrap();
        File::create(path).unwrap().write_all(&bytes).unwrap();
        Md5::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn files_and_archives_of_the_true_format_are_read() {
        for set in [CifarSet::Cifar10, CifarSet::Cifar100] {
            let folder = folder(&format!("read-{}", set.name()));
            let files = set.files(Half::Train).len();
            let archive = folder.join(set.archive().0);
            let checksum = write_archive(set, &archive);
            assert_eq!(find(set, Some(&folder)).unwrap(), Source::Archive(archive.clone()));
            verify(set, &archive, &checksum).unwrap();
            let [train, test] = read_archive(set, &archive).unwrap();
            assert_eq!((train.classes, test.classes), ([2, 7].repeat(files), vec![2, 7]));
            assert_eq!(train.pixels.len(), 2 * files * PIXELS);
            assert_eq!(test.pixels[PIXELS..], vec![7; PIXELS]);

            write_files(set, &folder);
            let [train, _] = read(set, &find(set, Some(&folder)).unwrap()).unwrap();
            assert_eq!(train.classes[..2], [3, 9]);
        }
    }

    #[test]
    fn damaged_sets_are_refused_with_a_reason() {
        let set = CifarSet::Cifar10;
        let folder = folder("damaged");
        let why = |folder: &Path| match find(set, Some(folder)).and_then(|source| read(set, &source)) {
            Err(error) => format!("{error:#}"),
            Ok(_) => panic!("a damaged set was read"),
        };
        assert!(why(&folder).contains("was not found"));

        let archive = folder.join(set.archive().0);
        let checksum = write_archive(set, &archive);
        assert!(why(&folder).contains("not the published c32a1d4ab5d03f1284b67883e8d87530"));
        let bytes = std::fs::read(&archive).unwrap();
        std::fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
        assert!(verify(set, &archive, &checksum).is_err());
        assert!(format!("{:#}", read_archive(set, &archive).err().unwrap()).contains("cut short"));

        write_files(set, &folder);
        std::fs::write(folder.join("data_batch_2.bin"), vec![0; 3000]).unwrap();
        assert!(why(&folder).contains("data_batch_2.bin has 3000 bytes"));
        std::fs::write(folder.join("data_batch_2.bin"), records(set, [3, 10])).unwrap();
        assert!(why(&folder).contains("label 10 of image 1 is out of range"));
        std::fs::remove_file(folder.join("test_batch.bin")).unwrap();
        write_files(set, &folder);
        std::fs::remove_file(folder.join("data_batch_4.bin")).unwrap();
        assert!(why(&folder).contains("data_batch_4.bin"));
    }

    #[test]
    fn coarse_labels_of_cifar_100_are_its_twenty_superclasses() {
        let folder = folder("coarse");
        // Records of a coarse and a fine label.
        let record = |coarse: u8, fine: u8| [vec![coarse, fine], vec![0; PIXELS]].concat();
        for name in ["train.bin", "test.bin"] {
            std::fs::write(folder.join(name), [record(19, 99), record(0, 20)].concat()).unwrap();
        }
        let classes = |set: CifarSet| read(set, &find(set, Some(&folder)).unwrap()).map(|[train, _]| train.classes);
        assert_eq!(classes(CifarSet::Cifar100).unwrap(), [99, 20]);
        assert_eq!(classes(CifarSet::Cifar100Coarse).unwrap(), [19, 0]);
        assert_eq!((CifarSet::Cifar100.classes(), CifarSet::Cifar100Coarse.classes()), (100, 20));
        std::fs::write(folder.join("train.bin"), record(20, 5)).unwrap();
        assert!(classes(CifarSet::Cifar100Coarse).is_err() && classes(CifarSet::Cifar100).is_ok());
    }

    #[test]
    fn the_version_for_python_is_named_where_the_binary_one_is_missing() {
        for (set, name) in [(CifarSet::Cifar10, "cifar-10-python.tar.gz"), (CifarSet::Cifar100, "cifar-100-python")] {
            let folder = folder("python");
            std::fs::write(folder.join(name), "pickles").unwrap();
            let said = format!("{:#}", find(set, Some(&folder)).unwrap_err());
            assert!(said.contains(name) && said.contains("is the version for Python, which is not read"), "{said}");
        }
    }
}
