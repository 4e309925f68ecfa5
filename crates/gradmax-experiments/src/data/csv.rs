//! Tables in CSV files: a column to be learned from the others.

mod encoding;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Result, bail};
use burn::tensor::{Device, Tensor, TensorData};
use gradmax::Seed;
use gradmax::training::{InMemory, Supervised, Target};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use self::encoding::{Encoding, Scan, Task};
use self::rows::{Column, Rows};
use super::source::{Answers, DataSet, DataShape, DataSource, Inputs};
use crate::failure::misuse;

/// A table: which column is learned, and how the others are read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsvTable {
    /// The file, plain or gzip.
    file: PathBuf,
    /// The column to be learned, by name or by number from 1; the last one if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<Column>,
    /// What is learned; by the target if it is left out: classes if that is text or few whole numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<Task>,
    /// The share of rows that is held out for testing, or another file with the same columns.
    #[serde(default = "a_fifth")]
    test: TestRows,
    /// Columns that are not looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ignore: Vec<Column>,
    /// Columns of numbers that stand for categories, as postal codes do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    categories: Vec<Column>,
    /// Whether the first row has names; it is looked at if this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<bool>,
    /// What stands between two fields.
    #[serde(default = "comma")]
    separator: char,
    /// What was found in the file, once it has been looked at.
    #[serde(skip)]
    found: Arc<OnceLock<Found>>,
}

/// Where test rows come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum TestRows {
    Share(f64),
    File(PathBuf),
}

/// What is known of a table after a look at it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Found {
    encoding: Encoding,
    /// Rows for training.
    examples: usize,
}

fn a_fifth() -> TestRows {
    TestRows::Share(0.2)
}

fn comma() -> char {
    ','
}

/// Which part of a table a row belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Half {
    Train,
    Test,
}

impl CsvTable {
    fn rows(&self, file: &Path) -> Result<Rows> {
        Rows::open(file, self.separator, self.header)
    }

    /// The half of the main file that a row belongs to, whatever rows there are beside it.
    fn half(&self, row: usize) -> Half {
        let drawn = || Seed::new(0).fold("csv split").at(row as u64).rng().random::<f64>();
        match self.test {
            TestRows::Share(share) if drawn() < share => Half::Test,
            _ => Half::Train,
        }
    }

    /// What is in the file; a pass over it at the first call.
    fn found(&self) -> Result<&Found> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let rows = self.rows(&self.file)?;
        let mut scan = Scan::new(&rows, self.target.as_ref(), [&self.ignore, &self.categories])?;
        let mut examples = 0;
        rows.each(|row, fields| {
            let is_training = self.half(row) == Half::Train;
            examples += usize::from(is_training);
            scan.see(fields, is_training)
        })?;
        if examples == 0 {
            bail!("{} has no rows for training", self.file.display());
        }
        let encoding = scan.encoding(self.task)?;
        Ok(self.found.get_or_init(|| Found { encoding, examples }))
    }

    /// Encodes the rows of a half, or of a whole file.
    fn encoded(&self, file: &Path, half: Option<Half>, device: &Device) -> Result<InMemory<Tensor<4>>> {
        let encoding = &self.found()?.encoding;
        let rows = self.rows(file)?;
        let places = encoding.places(&rows, true)?;
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        rows.each(|row, fields| {
            if half.is_none_or(|half| half == self.half(row)) {
                encoding.inputs(fields, &places, &mut inputs)?;
                targets.push(encoding.target(fields, &places)?);
            }
            Ok(())
        })?;
        if targets.is_empty() {
            bail!("{} has no rows for testing; raise `data.test`, or name a file there", file.display());
        }
        let count = targets.len();
        let inputs = TensorData::new(inputs, [count, encoding.width(), 1, 1]);
        let target = match encoding.task() {
            Task::Classification => Target::classes(targets.into_iter().map(|class| class as u32), device),
            Task::Regression => {
                Target::Values(Tensor::from_data(TensorData::new(targets, [count, 1]), device))
            }
        };
        Ok(InMemory::new(Tensor::from_data(inputs, device), target))
    }
}

impl DataSource for CsvTable {
    fn shape(&self) -> Result<DataShape> {
        let encoding = &self.found()?.encoding;
        Ok(DataShape { input: [encoding.width(), 1, 1], outputs: encoding.outputs() })
    }

    /// None if the file cannot be read: what is asked for next says why.
    fn examples(&self) -> usize {
        self.found().map_or(0, |found| found.examples)
    }

    fn load(&self, _seed: Seed, device: &Device) -> Result<DataSet> {
        let train = self.encoded(&self.file, Some(Half::Train), device)?;
        let test = match &self.test {
            TestRows::Share(_) => self.encoded(&self.file, Some(Half::Test), device)?,
            TestRows::File(file) => self.encoded(file, None, device)?,
        };
        let task = match self.found()?.encoding.task() {
            Task::Classification => Supervised::Classification,
            Task::Regression => Supervised::Regression,
        };
        Ok(DataSet { train: Box::new(train), test: Box::new(test), task })
    }

    fn check(&self, _batch_size: Option<usize>) -> Result<()> {
        if let TestRows::Share(share) = self.test
            && !(share > 0.0 && share < 1.0)
        {
            return Err(misuse(format!("`data.test` is {share}; it must be a share between 0 and 1, or a file")));
        }
        match self.separator.is_ascii() {
            true => Ok(()),
            false => Err(misuse(format!("`data.separator` is `{}`; it must be an ASCII character", self.separator))),
        }
    }

    fn paths_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let mut paths = vec![("file", &mut self.file)];
        if let TestRows::File(file) = &mut self.test {
            paths.push(("test", file));
        }
        paths
    }

    fn place(&self) -> Result<String> {
        Ok(self.file.display().to_string())
    }

    fn describe(&self) -> Result<String> {
        let data = self.load(Seed::new(0), &Device::default())?;
        let Found { encoding, .. } = self.found()?;
        Ok(format!(
            "{}: {} training and {} test rows; {}",
            self.file.display(),
            data.train.count(),
            data.test.count(),
            encoding.describe()
        ))
    }

    fn kept(&self) -> Result<Option<serde_json::Value>> {
        Ok(Some(serde_json::to_value(self.found()?)?))
    }

    fn restore(&mut self, kept: serde_json::Value) -> Result<()> {
        self.found = Arc::new(OnceLock::from(serde_json::from_value::<Found>(kept)?));
        Ok(())
    }

    fn answers(&self) -> Result<Answers> {
        Ok(self.found()?.encoding.answers())
    }

    fn inputs(&self, file: &Path, device: &Device) -> Result<Inputs> {
        let encoding = &self.found()?.encoding;
        let rows = self.rows(file)?;
        let places = encoding.places(&rows, false)?;
        let (mut inputs, mut names) = (Vec::new(), Vec::new());
        rows.each(|row, fields| {
            names.push((row + 1).to_string());
            encoding.inputs(fields, &places, &mut inputs)
        })?;
        let shape = [names.len(), encoding.width(), 1, 1];
        Ok(Inputs { names, tensor: Tensor::from_data(TensorData::new(inputs, shape), device) })
    }
}
