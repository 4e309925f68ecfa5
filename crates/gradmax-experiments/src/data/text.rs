//! Text, byte by byte: files of yours, or all files of a folder, for networks that predict what follows.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use burn::tensor::{Device, Int, Tensor, TensorData};
use flate2::read::MultiGzDecoder;
use gradmax::Seed;
use gradmax::training::{InMemory, Supervised, Target};
use serde::{Deserialize, Serialize};

use super::source::{AnyExamples, Answers, DataSet, DataShape, DataSource};
use crate::failure::misuse;
use crate::reading::Reading;
use crate::table::grouped;

/// Text in a file, or in all files of a folder whose names end in certain ways, in the order of their paths; files whose names
/// end in `.gz` besides are unpacked. The text is cut into sequences; of every sequence the network is to foretell each byte
/// from those before.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// A file or a folder.
    path: PathBuf,
    /// What names of a folder's files end in, `.gz` aside.
    #[serde(default = "default_endings")]
    endings: Vec<String>,
    /// Bytes of a sequence.
    #[serde(default = "default_context")]
    context: usize,
    /// The share of the text, at its end, that is held out for testing.
    #[serde(default = "default_test")]
    test: f64,
    /// Bytes that are read at most, from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip)]
    known: Arc<OnceLock<Vec<u8>>>,
}

fn default_endings() -> Vec<String> {
    ["txt", "rst", "md"].map(String::from).to_vec()
}

fn default_context() -> usize {
    128
}

fn default_test() -> f64 {
    0.05
}

/// Different bytes.
const BYTES: usize = 256;

impl Text {
    /// The files, in the order of their paths.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let about = self.path.metadata();
        let about = about.map_err(|error| misuse(format!("`data.path`: cannot read {}: {error}", self.path.display())))?;
        if about.is_file() {
            return Ok(vec![self.path.clone()]);
        }
        let (mut folders, mut files) = (vec![self.path.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            let unreadable = || format!("cannot read the folder {}", folder.display());
            for entry in folder.read_dir().with_context(unreadable)? {
                let path = entry.with_context(unreadable)?.path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if self.takes(&path) => files.push(path),
                    false => {}
                }
            }
        }
        files.sort();
        match files.is_empty() {
            true => Err(misuse(format!(
                "`data.path`: {} has no files whose names end in {}; name others with `data.endings`",
                self.path.display(),
                self.endings.join(", ")
            ))),
            false => Ok(files),
        }
    }

    fn takes(&self, path: &Path) -> bool {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        name.rsplit_once('.').is_some_and(|(_, ending)| self.endings.iter().any(|known| known == ending))
    }

    /// The text, which is read once.
    fn text(&self) -> Result<&[u8]> {
        if self.known.get().is_none() {
            let text = self.read()?;
            let _ = self.known.set(text);
        }
        Ok(self.known.get().expect("the text was read"))
    }

    /// The text, file after file.
    fn read(&self) -> Result<Vec<u8>> {
        let most = self.bytes.unwrap_or(usize::MAX);
        let mut text = Vec::new();
        for path in self.files()? {
            if text.len() >= most {
                break;
            }
            let unreadable = || format!("cannot read {}", path.display());
            let mut bytes = std::fs::read(&path).with_context(unreadable)?;
            if path.extension().is_some_and(|ending| ending == "gz") {
                let mut unpacked = Vec::new();
                MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked).with_context(unreadable)?;
                bytes = unpacked;
            }
            text.extend_from_slice(&bytes);
        }
        text.truncate(most);
        let [train, test] = self.halves(&text).map(|half| self.sequences(half));
        match train > 0 && test > 0 {
            true => Ok(text),
            false => Err(misuse(format!(
                "{} has {} bytes, which leave {train} sequences of {} bytes to train on and {test} to test on; there must \
                 be some of both: `data.context` and `data.test` say how many",
                self.path.display(),
                grouped(text.len() as u64),
                self.context
            ))),
        }
    }

    /// What is trained on, and what is held out.
    fn halves<'t>(&self, text: &'t [u8]) -> [&'t [u8]; 2] {
        let (train, test) = text.split_at(text.len() - (self.test * text.len() as f64).round() as usize);
        [train, test]
    }

    /// Sequences of a text, each with the byte that follows its last.
    fn sequences(&self, text: &[u8]) -> usize {
        text.len().saturating_sub(1) / self.context
    }

    /// Sequences one after another, and what follows each of their bytes.
    fn examples_of(&self, text: &[u8], device: &Device) -> InMemory<Reading> {
        let (count, length) = (self.sequences(text), self.context);
        let from = |first: usize| {
            let tokens = text[first..first + count * length].iter().map(|byte| i32::from(*byte)).collect::<Vec<_>>();
            Tensor::<2, Int>::from_data(TensorData::new(tokens, [count, length]), device)
        };
        InMemory::new(Reading::Tokens(from(0)), Target::Tokens(from(1)))
    }
}

impl DataSource for Text {
    fn shape(&self) -> Result<DataShape> {
        Ok(DataShape { input: [1, 1, self.context], outputs: BYTES, has_tokens: true })
    }

    fn examples(&self) -> usize {
        // Not known before the text is read, which takes a moment.
        self.text().map_or(0, |text| self.sequences(self.halves(text)[0]))
    }

    fn load(&self, _seed: Seed, device: &Device) -> Result<DataSet> {
        let device = device.clone().inner();
        let [train, test] = self.halves(self.text()?).map(|half| self.examples_of(half, &device));
        Ok(DataSet::new(Box::new(train), Box::new(test), Supervised::NextToken))
    }

    fn check(&self, _batch_size: Option<usize>) -> Result<()> {
        if self.context == 0 {
            return Err(misuse("`data.context` is 0; sequences have at least one byte"));
        }
        match self.test > 0.0 && self.test < 1.0 {
            true => Ok(()),
            false => Err(misuse(format!("`data.test` is {}; it is a share above 0 and below 1", self.test))),
        }
    }

    fn other(&self, path: &Path, device: &Device) -> Result<AnyExamples> {
        let other = Self { path: path.to_path_buf(), bytes: None, known: Arc::default(), ..self.clone() };
        Ok(Box::new(other.examples_of(&other.read()?, &device.clone().inner())))
    }

    fn paths_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        vec![("path", &mut self.path)]
    }

    fn answers(&self) -> Result<Answers> {
        Ok(Answers::Bytes)
    }

    fn place(&self) -> Result<String> {
        self.files().map(|_| self.path.display().to_string())
    }

    fn describe(&self) -> Result<String> {
        let (files, text) = (self.files()?.len(), self.text()?);
        let [train, test] = self.halves(text).map(|half| grouped(self.sequences(half) as u64));
        Ok(format!(
            "{}: {} bytes of {} files; {train} sequences of {} bytes to train on, {test} to test on",
            self.path.display(),
            grouped(text.len() as u64),
            grouped(files as u64),
            self.context
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("gradmax-text-{}-{name}", std::process::id()));
        std::fs::create_dir_all(folder.join("inside")).unwrap();
        folder
    }

    fn text(path: &Path) -> Text {
        let known = Arc::default();
        Text { path: path.to_path_buf(), endings: default_endings(), context: 4, test: 0.5, bytes: None, known }
    }

    fn values(reading: Reading) -> Vec<i64> {
        reading.tokens().into_data().iter::<i64>().collect()
    }

    #[test]
    fn every_byte_is_foretold_from_those_before() {
        let folder = folder("plain");
        std::fs::write(folder.join("a.txt"), b"abcdefghi").unwrap();
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(b"jklmnopqr").unwrap();
        std::fs::write(folder.join("inside/b.rst.gz"), packed.finish().unwrap()).unwrap();
        std::fs::write(folder.join("c.png"), b"no text").unwrap();
        let data = text(&folder).load(Seed::new(0), &Device::flex()).unwrap();
        assert_eq!((data.train.count(), data.test.count(), text(&folder).examples()), (2, 2, 2));
        let batch = data.train.batch(&[1, 0]).unwrap();
        assert_eq!(values(batch.input), b"efghabcd".map(i64::from));
        let Target::Tokens(next) = batch.target else { panic!("what follows are tokens") };
        assert_eq!(values(Reading::Tokens(next)), b"fghibcde".map(i64::from));
        assert_eq!(values(data.test.batch(&[0]).unwrap().input), b"jklm".map(i64::from));
        let short = Text { bytes: Some(10), ..text(&folder) };
        assert_eq!(short.load(Seed::new(0), &Device::flex()).unwrap().train.count(), 1);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let folder = folder("refused");
        let said = |text: &Text| text.load(Seed::new(0), &Device::flex()).map(|_| ()).unwrap_err().to_string();
        assert!(said(&text(&folder)).contains("has no files whose names end in txt, rst, md"));
        assert!(said(&text(&folder.join("missing"))).contains("cannot read"));
        std::fs::write(folder.join("a.txt"), b"abcd").unwrap();
        assert!(said(&text(&folder)).contains("has 4 bytes, which leave 0 sequences of 4 bytes"));
        std::fs::write(folder.join("b.txt.gz"), b"not packed").unwrap();
        assert!(said(&text(&folder)).contains("b.txt.gz"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
