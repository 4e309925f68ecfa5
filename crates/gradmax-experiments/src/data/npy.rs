//! Arrays in NumPy's files: inputs, and targets that are classes or values.

mod array;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Result, anyhow, bail};
use burn::tensor::{Device, Tensor, TensorData};
use gradmax::Seed;
use gradmax::training::InMemory;
use serde::{Deserialize, Serialize};

use self::array::Place;
use super::encoded::Encoded;
use super::held_out::{HeldOut, is_test};
use super::images::Size;
use super::scale::{Moments, Scale};
use super::source::{Answers, AnyExamples, DataSet, DataShape, DataSource, Half, Inputs, Quantity, Task};
use crate::failure::misuse;
use crate::reading::Reading;

/// Two arrays with a row for each example: what is read, and what is learned.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Npy {
    /// The inputs: `[examples, features]`, `[examples, height, width]` or `[examples, channels, height, width]`; a
    /// `.npy` file, or `archive.npz:name`.
    inputs: PathBuf,
    /// The targets: `[examples]` for classes, `[examples]` or `[examples, outputs]` for values.
    targets: PathBuf,
    /// The share of examples that is held out for testing, or two arrays of their own.
    #[serde(default = "a_fifth")]
    test: TestArrays,
    /// What is learned; classes if targets are whole numbers, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<Task>,
    /// Whether images have their channels last: `[examples, height, width, channels]`.
    #[serde(default)]
    channels_last: bool,
    /// Whether inputs are standardised, each feature or each channel by itself.
    #[serde(default = "yes")]
    standardise: bool,
    /// The share of training examples that is for validation, from which no statistics are taken.
    #[serde(skip)]
    held_out: f64,
    /// What was found in the arrays, once they have been looked at.
    #[serde(skip)]
    found: Arc<OnceLock<Found>>,
}

/// Where test examples come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum TestArrays {
    Share(f64),
    Arrays { inputs: PathBuf, targets: PathBuf },
}

fn a_fifth() -> TestArrays {
    TestArrays::Share(0.2)
}

fn yes() -> bool {
    true
}

/// What is known of the arrays after a look at them.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Found {
    size: Size,
    /// How each feature or channel is standardised.
    scales: Vec<Scale>,
    learned: Learned,
    /// Examples for training and validation.
    examples: usize,
}

/// What is learned.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Learned {
    /// So many classes.
    Classes(usize),
    /// Values, standardised so.
    Values(Vec<Scale>),
}

/// Classes at most: more are taken for a mistake.
const MOST_CLASSES: usize = 10_000;

impl Learned {
    fn outputs(&self) -> usize {
        match self {
            Self::Classes(classes) => *classes,
            Self::Values(scales) => scales.len(),
        }
    }
}

impl Npy {
    fn half(&self, row: usize) -> Half {
        match self.test {
            TestArrays::Share(share) if is_test(share, row) => Half::Test,
            _ => Half::Train,
        }
    }

    /// Channels, height and width of an example of an array of this shape.
    fn size(&self, shape: &[usize]) -> Result<Size> {
        let size = match (&shape[1..], self.channels_last) {
            ([], false) => [1, 1, 1],
            (&[features], false) => [features, 1, 1],
            (&[height, width], false) => [1, height, width],
            (&[channels, height, width], false) | (&[height, width, channels], true) => [channels, height, width],
            _ => bail!(
                "its shape is {shape:?}; inputs are [examples, features], [examples, height, width] or [examples, channels, \
                 height, width] (or, with `channels_last`, [examples, height, width, channels])"
            ),
        };
        match size.contains(&0) || shape[0] == 0 {
            true => bail!("its shape is {shape:?}; there is nothing in it"),
            false => Ok(size),
        }
    }

    /// The features of an example in the order channel, row, column.
    fn ordered<'r>(&self, size: Size, row: &'r [f64]) -> impl Iterator<Item = f64> + 'r {
        let [channels, height, width] = size;
        let last = self.channels_last;
        (0..channels * height * width).map(move |at| match last {
            true => row[at % (height * width) * channels + at / (height * width)],
            false => row[at],
        })
    }

    /// What is in the arrays; a pass over them at the first call.
    fn found(&self) -> Result<&Found> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let inputs = Place::of(&self.inputs);
        let shape = inputs.shape()?;
        let size = self.size(&shape).map_err(|error| anyhow!("{}: {error}", self.inputs.display()))?;
        let (mut is_training, mut examples, mut held_out) = (Vec::new(), 0, HeldOut::new(self.held_out));
        for row in 0..shape[0] {
            let stays = self.half(row) == Half::Train;
            is_training.push(stays && !held_out.contains(examples));
            examples += usize::from(stays);
        }
        if !is_training.contains(&true) {
            bail!("{} has no rows for training", self.inputs.display());
        }
        let scales = match self.standardise {
            true => self.scales(&inputs, size, &is_training)?,
            false => vec![Scale::NONE; size[0]],
        };
        let learned = self.learned(&Place::of(&self.targets), &is_training)?;
        Ok(self.found.get_or_init(|| Found { size, scales, learned, examples }))
    }

    /// How each channel is standardised by training examples.
    fn scales(&self, inputs: &Place<'_>, size: Size, is_training: &[bool]) -> Result<Vec<Scale>> {
        let mut moments = vec![Moments::default(); size[0]];
        inputs.each_row(|index, row| {
            if is_training[index] {
                let positions = size[1] * size[2];
                self.ordered(size, row).enumerate().for_each(|(at, value)| moments[at / positions].see(value));
            }
            Ok(())
        })?;
        let too_large = || anyhow!("{}: its numbers are too large to be standardised", self.inputs.display());
        moments.iter().map(|moments| moments.scale().ok_or_else(too_large)).collect()
    }

    /// What there is to be learned of the targets.
    fn learned(&self, targets: &Place<'_>, is_training: &[bool]) -> Result<Learned> {
        let (name, header) = (self.targets.display(), targets.header()?);
        let outputs = header.shape[1..].iter().product::<usize>();
        if header.shape[0] != is_training.len() || header.shape.len() > 2 || outputs == 0 {
            bail!(
                "{name}: its shape is {:?}, and there are {} inputs; targets are [{1}] or [{1}, outputs]",
                header.shape,
                is_training.len()
            );
        }
        let classes = header.is_whole() && outputs == 1;
        let task = self.task.unwrap_or(if classes { Task::Classification } else { Task::Regression });
        let (mut moments, mut largest) = (vec![Moments::default(); outputs], 0.0_f64);
        targets.each_row(|index, row| {
            largest = row.iter().copied().fold(largest, f64::max);
            if task == Task::Classification {
                class(row, index)?;
            }
            if is_training[index] {
                moments.iter_mut().zip(row).for_each(|(moments, value)| moments.see(*value));
            }
            Ok(())
        })?;
        match task {
            Task::Classification if largest == 0.0 => bail!("{name}: all examples are of class 0"),
            Task::Classification => Ok(Learned::Classes(largest as usize + 1)),
            Task::Regression => {
                let too_large = || anyhow!("{name}: its numbers are too large to be standardised");
                let scales = moments.iter().map(|moments| moments.scale().ok_or_else(too_large));
                Ok(Learned::Values(scales.collect::<Result<_>>()?))
            }
        }
    }

    /// Shows the standardised inputs of each row, and says how many there are.
    fn each_input(&self, file: &Path, mut see: impl FnMut(usize, &mut dyn Iterator<Item = f32>)) -> Result<usize> {
        let Found { size, scales, .. } = self.found()?;
        let place = Place::of(file);
        let shape = place.shape()?;
        if !self.size(&shape).is_ok_and(|of_file| of_file == *size) {
            bail!("{}: its shape is {shape:?}, and the network reads examples of {size:?}", file.display());
        }
        let positions = size[1] * size[2];
        place.each_row(|index, row| {
            let values = self.ordered(*size, row).enumerate();
            see(index, &mut values.map(|(at, value)| scales[at / positions].standardised(value) as f32));
            Ok(())
        })?;
        Ok(shape[0])
    }

    /// Training and test examples of two arrays.
    fn rows(&self, [inputs, targets]: [&Path; 2], half: impl Fn(usize) -> Half) -> Result<[Encoded; 2]> {
        let learned = &self.found()?.learned;
        let mut rows = [(); 2].map(|()| Encoded::default());
        let at = |index| usize::from(half(index) == Half::Test);
        let count = self.each_input(inputs, |index, values| rows[at(index)].inputs.extend(values))?;
        let (place, name) = (Place::of(targets), targets.display());
        let shape = place.shape()?;
        if shape[0] != count {
            bail!("{name} has {} rows, and {} has {count}", shape[0], inputs.display());
        }
        place.each_row(|index, row| {
            let of = &mut rows[at(index)].targets;
            match learned {
                Learned::Classes(classes) => {
                    let class = class(row, index)?;
                    if class >= *classes {
                        bail!("row {index}: class {class}, and the network knows classes from 0 to {}", classes - 1);
                    }
                    of.push(class as f32);
                }
                Learned::Values(scales) if row.len() == scales.len() => {
                    of.extend(row.iter().zip(scales).map(|(value, scale)| scale.standardised(*value) as f32));
                }
                Learned::Values(scales) => bail!("a row has {} values, and the network gives {}", row.len(), scales.len()),
            }
            Ok(())
        })?;
        Ok(rows)
    }

    fn in_memory(&self, rows: Encoded, device: &Device) -> Result<InMemory<Reading>> {
        rows.examples(self.found()?.size, &self.answers()?, &self.inputs, device)
    }
}

impl DataSource for Npy {
    fn shape(&self) -> Result<DataShape> {
        let found = self.found()?;
        Ok(DataShape::of_maps(found.size, found.learned.outputs()))
    }

    /// None if the arrays cannot be read: what is asked for next says why.
    fn examples(&self) -> usize {
        self.found().map_or(0, |found| found.examples)
    }

    fn load(&self, _seed: Seed, device: &Device) -> Result<DataSet> {
        let [train, mut test] = self.rows([&self.inputs, &self.targets], |row| self.half(row))?;
        if let TestArrays::Arrays { inputs, targets } = &self.test {
            [_, test] = self.rows([inputs, targets], |_| Half::Test)?;
        }
        let (train, test) = (self.in_memory(train, device)?, self.in_memory(test, device)?);
        Ok(DataSet::new(Box::new(train), Box::new(test), self.answers()?.task()))
    }

    fn check(&self, _batch_size: Option<usize>) -> Result<()> {
        match self.test {
            TestArrays::Share(share) if !(share > 0.0 && share < 1.0) => {
                Err(misuse(format!("`data.test` is {share}; it must be a share between 0 and 1, or two arrays")))
            }
            _ => Ok(()),
        }
    }

    fn paths_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let mut paths = vec![("inputs", &mut self.inputs), ("targets", &mut self.targets)];
        if let TestArrays::Arrays { inputs, targets } = &mut self.test {
            paths.extend([("test.inputs", inputs), ("test.targets", targets)]);
        }
        paths
    }

    fn leave_out(&mut self, share: f64) {
        self.held_out = share;
    }

    /// Of an archive, whose arrays are called as the configuration's are, or `inputs` and `targets`.
    fn other(&self, file: &Path, device: &Device) -> Result<AnyExamples> {
        let member = |own: &Path, name: &str| {
            let name = Place::of(own).member().map_or(name.to_string(), String::from);
            PathBuf::from(format!("{}:{name}", file.display()))
        };
        let (inputs, targets) = (member(&self.inputs, "inputs"), member(&self.targets, "targets"));
        if file.extension().is_none_or(|ending| ending != "npz") {
            return Err(misuse(format!("{}: name an .npz archive with inputs and targets", file.display())));
        }
        let [_, rows] = self.rows([&inputs, &targets], |_| Half::Test)?;
        Ok(Box::new(self.in_memory(rows, device)?))
    }

    fn kept(&self) -> Result<Option<serde_json::Value>> {
        Ok(Some(serde_json::to_value(self.found()?)?))
    }

    fn restore(&mut self, kept: serde_json::Value) -> Result<()> {
        self.found = Arc::new(OnceLock::from(serde_json::from_value::<Found>(kept)?));
        Ok(())
    }

    fn answers(&self) -> Result<Answers> {
        Ok(match &self.found()?.learned {
            Learned::Classes(classes) => Answers::Classes((0..*classes).map(|class| class.to_string()).collect()),
            Learned::Values(scales) => {
                let quantity = |(at, scale): (usize, &Scale)| Quantity { name: format!("output {}", at + 1), scale: *scale };
                Answers::Values(scales.iter().enumerate().map(quantity).collect())
            }
        })
    }

    fn input_scales(&self) -> Result<Option<Vec<Scale>>> {
        Ok(Some(self.found()?.scales.clone()))
    }

    fn inputs(&self, file: &Path, device: &Device) -> Result<Inputs> {
        let mut inputs = Vec::new();
        let count = self.each_input(file, |_, values| inputs.extend(values))?;
        let [channels, height, width] = self.found()?.size;
        let data = TensorData::new(inputs, [count, channels, height, width]);
        Ok(Inputs { names: (0..count).map(|row| row.to_string()).collect(), tensor: Tensor::from_data(data, device) })
    }

    fn place(&self) -> Result<String> {
        Ok(self.inputs.display().to_string())
    }

    fn describe(&self) -> Result<String> {
        let data = self.load(Seed::new(0), &Device::default())?;
        let Found { size, learned, .. } = self.found()?;
        let learned = match learned {
            Learned::Classes(classes) => format!("{classes} classes"),
            Learned::Values(scales) => format!("{} values", scales.len()),
        };
        Ok(format!(
            "{}: {} training and {} test examples of {size:?}, from which {learned} are learned",
            self.inputs.display(),
            data.train.count(),
            data.test.count()
        ))
    }
}

/// The class that a row of targets names.
fn class(row: &[f64], index: usize) -> Result<usize> {
    match row {
        [class] if class.fract() == 0.0 && (0.0..MOST_CLASSES as f64).contains(class) => Ok(*class as usize),
        [other] => bail!("row {index}: {other} is no class; classes are whole numbers from 0 to below {MOST_CLASSES}"),
        _ => bail!("row {index} has {} numbers; classes have one", row.len()),
    }
}

/// Good arrays, and what reads them, for fuzzing.
#[cfg(test)]
pub mod fuzzed {
    use super::*;

    /// An array as NumPy writes it.
    pub(crate) fn npy(description: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let text = format!("{{'descr': '{description}', 'fortran_order': False, 'shape': ({shape}), }}");
        let padded = format!("{text:<117}\n");
        [b"\x93NUMPY\x01\x00", &(padded.len() as u16).to_le_bytes()[..], padded.as_bytes(), data].concat()
    }

    fn zipped(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in arrays {
            writer.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut writer, bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    pub(crate) fn archives() -> Vec<Vec<u8>> {
        let floats = |count: u8| (0..count).flat_map(|value| f32::from(value).to_le_bytes()).collect::<Vec<_>>();
        let classes = (0..30).map(|row| row % 3).collect::<Vec<u8>>();
        vec![
            zipped(&[("x", npy("<f4", "30, 2", &floats(60))), ("y", npy("|u1", "30,", &classes))]),
            zipped(&[("x", npy("|u1", "30, 2, 2", &[7; 120])), ("y", npy("<f4", "30, 2", &floats(60)))]),
        ]
    }

    /// Reads bytes as an archive, by way of a file: found, loaded and asked about again.
    pub(crate) fn read_archive(file: &Path, input: &[u8]) {
        std::fs::write(file, input).unwrap();
        let member = |name: &str| toml::Value::String(format!("{}:{name}", file.display()));
        let options = [("inputs".to_string(), member("x")), ("targets".to_string(), member("y"))];
        let arrays = toml::Table::from_iter(options).try_into::<Npy>().unwrap();
        if arrays.load(Seed::new(0), &Device::flex()).is_ok() {
            arrays.inputs(&arrays.inputs.clone(), &Device::flex()).unwrap();
            arrays.clone().restore(arrays.kept().unwrap().unwrap()).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use gradmax::training::{Examples, Target};

    use super::fuzzed::{archives, npy};
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("gradmax-npy-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A data set of two arrays that are written first.
    fn arrays(name: &str, inputs: Vec<u8>, targets: Vec<u8>, options: &str) -> Npy {
        let folder = folder(name);
        let mut options = options.parse::<toml::Table>().unwrap();
        for (name, bytes) in [("inputs", inputs), ("targets", targets)] {
            let file = folder.join(format!("{name}.npy"));
            std::fs::write(&file, bytes).unwrap();
            options.insert(name.into(), toml::Value::try_from(file).unwrap());
        }
        options.try_into().unwrap()
    }

    fn floats(values: &[f64]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// All rows as training examples.
    fn all(npy: &Npy) -> (Vec<f32>, Target) {
        let [rows, _] = npy.rows([&npy.inputs, &npy.targets], |_| Half::Train).unwrap();
        let examples = npy.in_memory(rows, &Device::flex()).unwrap();
        let batch = examples.batch(&(0..examples.count()).collect::<Vec<_>>()).unwrap();
        (batch.input.maps().into_data().try_to_vec::<f32>().unwrap(), batch.target)
    }

    #[test]
    fn features_are_standardised_and_whole_targets_are_classes() {
        let rows = [1.0, 10.0, 5.0, 10.0, 1.0, 10.0, 5.0, 10.0];
        let none = "test = { inputs = \"no\", targets = \"no\" }\n";
        let set = arrays("classes", npy("<f8", "4, 2", &floats(&rows)), npy("<i8", "4,", &[0, 0, 0, 0, 0, 0, 0, 0].repeat(4).iter().enumerate().map(|(at, zero)| if at % 8 == 0 { (at / 8 % 3) as u8 } else { *zero }).collect::<Vec<_>>()), none);
        let (inputs, target) = all(&set);
        assert_eq!(inputs, [-1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 1.0, 0.0]);
        let Target::Classes(classes) = target else { panic!("whole numbers are classes") };
        assert_eq!(classes.into_data().iter::<i64>().collect::<Vec<_>>(), [0, 1, 2, 0]);
        assert_eq!(set.shape().unwrap().outputs, 3);
        let plain = Npy { standardise: false, found: Arc::default(), ..set };
        assert_eq!(all(&plain).0, rows.map(|value| value as f32));
    }

    #[test]
    fn channels_may_come_last_and_each_has_a_scale_of_its_own() {
        // Two images of 1x2 pixels with two channels: the first channel is 0 1 2 3, the second 10 10 10 10.
        let pixels = [0_u8, 10, 1, 10, 2, 10, 3, 10];
        let options = "channels_last = true\nstandardise = false\ntest = { inputs = \"no\", targets = \"no\" }";
        let set = arrays("last", npy("|u1", "2, 1, 2, 2", &pixels), npy("|b1", "2,", &[0, 1]), options);
        assert_eq!(set.shape().unwrap().input, [2, 1, 2]);
        assert_eq!(all(&set).0, [0.0, 1.0, 10.0, 10.0, 2.0, 3.0, 10.0, 10.0]);
        let scaled = Npy { standardise: true, found: Arc::default(), ..set };
        let scales = scaled.input_scales().unwrap().unwrap();
        assert_eq!((scales[0].mean, scales[1]), (1.5, Scale { mean: 10.0, deviation: 1.0 }));
    }

    #[test]
    fn several_values_have_units_of_their_own() {
        let targets = [0.0, 100.0, 2.0, 300.0];
        let none = "test = { inputs = \"no\", targets = \"no\" }";
        let set = arrays("values", npy("<f8", "2,", &floats(&[1.0, 2.0])), npy("<f8", "2, 2", &floats(&targets)), none);
        let Answers::Values(quantities) = set.answers().unwrap() else { panic!("they are values") };
        assert_eq!(quantities[1].scale, Scale { mean: 200.0, deviation: 100.0 });
        let Target::Values(values) = all(&set).1 else { panic!("they are values") };
        assert_eq!(values.into_data().try_to_vec::<f32>().unwrap(), [-1.0, -1.0, 1.0, 1.0]);
    }

    #[test]
    fn archives_are_read_and_what_a_run_keeps_reads_other_files() {
        let file = folder("archive").join("data.npz");
        std::fs::write(&file, &archives()[0]).unwrap();
        let member = |name: &str| PathBuf::from(format!("{}:{name}", file.display()));
        let options = format!("inputs = {:?}\ntargets = {:?}", member("x"), member("y"));
        let mut set = options.parse::<toml::Table>().unwrap().try_into::<Npy>().unwrap();
        let data = set.load(Seed::new(0), &Device::flex()).unwrap();
        assert_eq!(data.train.count() + data.test.count(), 30);
        let kept = set.kept().unwrap().unwrap();
        (set.inputs, set.targets) = ("gone.npz:x".into(), "gone.npz:y".into());
        set.restore(kept).unwrap();
        assert_eq!(set.inputs(&member("x"), &Device::flex()).unwrap().names.len(), 30);
        assert_eq!(set.other(&file, &Device::flex()).unwrap().count(), 30);
        assert!(set.other(&file.with_extension("npy"), &Device::flex()).is_err());
    }

    #[test]
    fn what_is_wrong_with_an_array_is_said_with_its_file() {
        let good = || npy("<f8", "2, 2", &floats(&[1.0, 2.0, 3.0, 4.0]));
        let classes = || npy("|u1", "2,", &[0, 1]);
        let changed = |from: &str, to: &str| {
            let text = good().iter().map(|byte| char::from(*byte)).collect::<String>().replace(from, to);
            text.chars().map(|char| char as u8).collect::<Vec<_>>()
        };
        for (name, inputs, targets, says) in [
            ("none", b"x,y\n1,2\n".to_vec(), classes(), "no array of NumPy's"),
            ("empty", Vec::new(), classes(), "no array of NumPy's"),
            ("short", good()[..140].to_vec(), classes(), "cut short"),
            ("long", [good(), vec![0]].concat(), classes(), "goes on behind"),
            ("huge", npy("<f8", "99999999999, 99999999999", &[0; 8]), classes(), "cut short"),
            ("fortran", changed("False", "True "), classes(), "ascontiguousarray"),
            ("text", changed("<f8", "<U2"), classes(), "`<U2`"),
            ("deep", npy("|u1", "1, 1, 1, 1, 1", &[0]), classes(), "[1, 1, 1, 1, 1]"),
            ("nan", npy("<f8", "2, 1", &floats(&[1.0, f64::NAN])), classes(), "row 1, entry 0"),
            ("rows", good(), npy("|u1", "3,", &[0, 1, 2]), "there are 2 inputs"),
            ("negative", good(), npy("|i1", "2,", &[0, 0xff]), "-1 is no class"),
            ("same", good(), npy("|i1", "2,", &[0, 0]), "all examples are of class 0"),
        ] {
            let set = arrays(name, inputs, targets, "test = { inputs = \"no\", targets = \"no\" }");
            let said = format!("{:#}", set.load(Seed::new(0), &Device::flex()).err().unwrap());
            assert!(said.contains(says) && said.contains("puts.npy") || said.contains("targets.npy"), "{name}: {said}");
        }
        let set = arrays("gone", good(), classes(), "");
        let gone = Npy { inputs: "nowhere.npz:x".into(), ..set };
        assert!(format!("{:#}", gone.shape().err().unwrap()).contains("nowhere.npz:x"));
    }
}
