//! Tables in CSV files: a column to be learned from the others.

mod encoding;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Result, bail};
use burn::tensor::{Device, Tensor, TensorData};
use gradmax::Seed;
use gradmax::training::InMemory;
use serde::{Deserialize, Serialize};

use self::encoding::{Encoding, Scan};
use self::rows::{Column, Rows};
use super::encoded::Encoded;
use super::held_out::{HeldOut, is_test};
use super::scale::Scale;
use super::source::{Answers, AnyExamples, DataSet, DataShape, DataSource, Half, Inputs, Task};
use crate::failure::misuse;
use crate::reading::Reading;

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
    /// What stands between two fields; a comma if it is left out, or where the first row has none, what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    separator: Option<char>,
    /// The share of training rows that is for validation, from which no statistics are taken.
    #[serde(skip)]
    held_out: f64,
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
    /// Rows for training and validation.
    examples: usize,
}

fn a_fifth() -> TestRows {
    TestRows::Share(0.2)
}

impl CsvTable {
    fn rows(&self, file: &Path) -> Result<Rows> {
        Rows::open(file, self.separator, self.header)
    }

    /// The half of the main file that a row belongs to, whatever rows there are beside it.
    fn half(&self, row: usize) -> Half {
        match self.test {
            TestRows::Share(share) if is_test(share, row) => Half::Test,
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
        let (mut examples, mut held_out) = (0, HeldOut::new(self.held_out));
        rows.each(|row, fields| {
            let is_test = self.half(row) == Half::Test;
            let is_training = !is_test && !held_out.contains(examples);
            examples += usize::from(!is_test);
            scan.see(fields, is_training)
        })?;
        if examples == 0 {
            bail!("{} has no rows for training", self.file.display());
        }
        let encoding = scan.encoding(self.task)?;
        Ok(self.found.get_or_init(|| Found { encoding, examples }))
    }

    /// The training and the test rows of a file.
    fn encoded(&self, file: &Path, half: impl Fn(usize) -> Half) -> Result<[Encoded; 2]> {
        let encoding = &self.found()?.encoding;
        let rows = self.rows(file)?;
        let places = encoding.places(&rows, true)?;
        let [mut train, mut test] = [(); 2].map(|()| Encoded::default());
        rows.each(|row, fields| {
            let encoded = match half(row) {
                Half::Train => &mut train,
                Half::Test => &mut test,
            };
            encoding.inputs(fields, &places, &mut encoded.inputs)?;
            encoded.targets.push(encoding.target(fields, &places)?);
            Ok(())
        })?;
        Ok([train, test])
    }

    fn in_memory(&self, rows: Encoded, file: &Path, device: &Device) -> Result<InMemory<Reading>> {
        let encoding = &self.found()?.encoding;
        rows.examples([encoding.width(), 1, 1], &encoding.answers(), file, device)
    }
}

impl DataSource for CsvTable {
    fn shape(&self) -> Result<DataShape> {
        let encoding = &self.found()?.encoding;
        Ok(DataShape::of_maps([encoding.width(), 1, 1], encoding.outputs()))
    }

    /// None if the file cannot be read: what is asked for next says why.
    fn examples(&self) -> usize {
        self.found().map_or(0, |found| found.examples)
    }

    fn load(&self, _seed: Seed, device: &Device) -> Result<DataSet> {
        let [train, test] = self.encoded(&self.file, |row| self.half(row))?;
        let train = self.in_memory(train, &self.file, device)?;
        let test = match &self.test {
            TestRows::File(file) => self.other(file, device)?,
            TestRows::Share(_) => Box::new(self.in_memory(test, &self.file, device)?),
        };
        Ok(DataSet::new(Box::new(train), test, self.answers()?.task()))
    }

    fn check(&self, _batch_size: Option<usize>) -> Result<()> {
        if let TestRows::Share(share) = self.test
            && !(share > 0.0 && share < 1.0)
        {
            return Err(misuse(format!("`data.test` is {share}; it must be a share between 0 and 1, or a file")));
        }
        match self.separator.filter(|separator| !separator.is_ascii()) {
            None => Ok(()),
            Some(other) => Err(misuse(format!("`data.separator` is `{other}`; it must be an ASCII character"))),
        }
    }

    fn paths_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let mut paths = vec![("file", &mut self.file)];
        if let TestRows::File(file) = &mut self.test {
            paths.push(("test", file));
        }
        paths
    }

    fn leave_out(&mut self, share: f64) {
        self.held_out = share;
    }

    fn other(&self, file: &Path, device: &Device) -> Result<AnyExamples> {
        let [_, rows] = self.encoded(file, |_| Half::Test)?;
        Ok(Box::new(self.in_memory(rows, file, device)?))
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

    fn input_scales(&self) -> Result<Option<Vec<Scale>>> {
        Ok(Some(self.found()?.encoding.scales()))
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

/// Good tables, and what reads them, for fuzzing.
#[cfg(test)]
pub mod fuzzed {
    use super::*;

    pub(crate) fn tables() -> Vec<Vec<u8>> {
        let rows = |rows: &str| rows.repeat(8).into_bytes();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, b"x,y\n1,2\n3,4\n5,7.5\n").unwrap();
        vec![
            [b"size,colour,kind\n".to_vec(), rows("1.5,red,a\n2,,b\n-3e2,\"blue, dark\",a\n")].concat(),
            rows("1,2,0.5\n4,NA,1.25\n7,8,-9\n"),
            packed.finish().unwrap(),
        ]
    }

    /// Reads bytes as a table, by way of a file: found, loaded and asked about again.
    pub(crate) fn read_table(file: &Path, input: &[u8]) {
        std::fs::write(file, input).unwrap();
        let options = toml::Table::from_iter([("file".to_string(), toml::Value::try_from(file).unwrap())]);
        let table = options.try_into::<CsvTable>().unwrap();
        if table.load(Seed::new(0), &Device::flex()).is_ok() {
            table.inputs(file, &Device::flex()).unwrap();
            table.clone().restore(table.kept().unwrap().unwrap()).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use gradmax::training::{Examples, Target};

    use super::super::source::Quantity;

    use super::*;

    fn table(name: &str, contents: &str, options: &str) -> CsvTable {
        let file = std::env::temp_dir().join(format!("gradmax-csv-{name}-{}.csv", std::process::id()));
        std::fs::write(&file, contents).unwrap();
        let mut options = options.parse::<toml::Table>().unwrap();
        options.insert("file".into(), toml::Value::try_from(file).unwrap());
        options.try_into().unwrap()
    }

    /// All rows of a table, each with its inputs and its target.
    fn rows(table: &CsvTable) -> Vec<(Vec<f32>, f32)> {
        let [all, _] = table.encoded(&table.file, |_| Half::Train).unwrap();
        let data = table.in_memory(all, &table.file, &Device::flex()).unwrap();
        let all = (0..data.count()).collect::<Vec<_>>();
        let batch = data.batch(&all).unwrap();
        let width = table.shape().unwrap().input[0];
        let inputs = batch.input.maps().into_data().try_to_vec::<f32>().unwrap();
        let targets = match batch.target {
            Target::Values(values) => values.into_data().iter::<f32>().collect::<Vec<_>>(),
            Target::Classes(classes) => classes.into_data().iter::<f32>().collect(),
            _ => unreachable!("tables have no other targets"),
        };
        inputs.chunks(width).map(<[f32]>::to_vec).zip(targets).collect()
    }

    /// Every row is a training row: test rows come from another file.
    const ALL: &str = "test = \"unused.csv\"\n";

    fn error(table: &CsvTable) -> String {
        format!("{:#}", table.load(Seed::new(0), &Device::flex()).err().unwrap())
    }

    #[test]
    fn numbers_are_standardised_and_categories_have_an_input_each() {
        // Mean 3 and standard deviation 2 of 1, 5; classes in the order of their names.
        let table = table("kinds", "x,colour,kind\n1,red,b\n5,blue,a\n1,red,b\n5,blue,a\n", ALL);
        assert_eq!(rows(&table)[..2], [(vec![-1.0, 0.0, 1.0], 1.0), (vec![1.0, 1.0, 0.0], 0.0)]);
        assert_eq!(table.answers().unwrap(), Answers::Classes(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn a_target_of_many_numbers_is_a_value_in_its_own_units() {
        let contents = (0..40).map(|i| format!("{i},{}\n", 2.5 * f64::from(i))).collect::<String>();
        let table = table("values", &contents, ALL);
        let Answers::Values(quantities) = table.answers().unwrap() else { panic!("it is a number") };
        let Quantity { name, scale } = &quantities[0];
        assert_eq!((name.as_str(), scale.mean), ("column 2", 2.5 * 19.5));
        let (inputs, target) = rows(&table)[7].clone();
        assert!((scale.restored(f64::from(target)) - 17.5).abs() < 1e-4 && (inputs[0] - target).abs() < 1e-6);
    }

    #[test]
    fn missing_numbers_count_as_the_mean_and_are_told() {
        let table = table("missing", "x,y\n1,a\n,b\n5,a\nNA,b\n", ALL);
        let expected = [(vec![-1.0, 0.0], 0.0), (vec![0.0, 1.0], 1.0), (vec![1.0, 0.0], 0.0), (vec![0.0, 1.0], 1.0)];
        assert_eq!(rows(&table), expected);
    }

    #[test]
    fn whole_numbers_are_classes_in_their_own_order_where_they_are_few() {
        let contents = [10, 2, 10, 2, 1].map(|class| format!("{class}.5,{class}\n")).concat();
        let classes = |options: &str| table("few", &contents, &format!("{ALL}{options}")).answers().unwrap();
        assert_eq!(classes(""), Answers::Classes(vec!["1".into(), "2".into(), "10".into()]));
        assert!(matches!(classes("task = \"regression\""), Answers::Values(_)));
    }

    #[test]
    fn columns_are_named_or_numbered_ignored_or_made_categories() {
        let contents = "id,zip,x,y\n" .to_string() + &"7,100,1,a\n8,200,2,b\n".repeat(3);
        let options = format!("{ALL}target = 4\nignore = [\"id\"]\ncategories = [2]");
        let table = table("columns", &contents, &options);
        assert_eq!(table.shape().unwrap().input, [3, 1, 1]);
        assert_eq!(rows(&table)[0].0, [1.0, 0.0, -1.0]);
    }

    #[test]
    fn fields_are_separated_by_what_the_first_row_has_unless_that_is_a_comma() {
        for (name, separator) in [("semicolon", ";"), ("tab", "\t"), ("bar", "|")] {
            let contents = "x,y,kind\n1,2,a\n3,5,b\n".replace(',', separator);
            assert_eq!(table(name, &contents, ALL).shape().unwrap().input, [2, 1, 1], "{name}");
        }
        let quoted = table("quoted", "\"x;y;z\",kind\n1,a\n3,b\n", ALL);
        assert_eq!(quoted.shape().unwrap().input, [1, 1, 1]);
        let named = table("named", "x;y,kind\n1;a\n3;b\n", &format!("{ALL}separator = \";\""));
        assert_eq!(named.shape().unwrap().input, [1, 1, 1]);
    }

    #[test]
    fn about_a_fifth_of_the_rows_is_held_out_and_always_the_same() {
        let contents = "x,y\n".to_string() + &(0..500).map(|i| format!("{i},{}\n", i % 2)).collect::<String>();
        let counts = || {
            let data = table("split", &contents, "").load(Seed::new(7), &Device::flex()).unwrap();
            [data.train.count(), data.test.count()]
        };
        let [train, test] = counts();
        assert_eq!((train + test, counts()), (500, [train, test]));
        assert!((70..130).contains(&test), "{test}");
    }

    #[test]
    fn what_a_run_keeps_reads_rows_without_the_table() {
        let mut read = table("kept", "x,colour,kind\n1,red,b\n5,blue,a\n", ALL);
        let kept = read.kept().unwrap().unwrap();
        let other = table("other", "colour,x\ngreen,9\n", ALL);
        read.file = "gone.csv".into();
        read.restore(kept).unwrap();
        let inputs = read.inputs(&other.file, &Device::flex()).unwrap();
        // A colour that no training row has is none of the known ones.
        assert_eq!(inputs.tensor.into_data().try_to_vec::<f32>().unwrap(), [3.0, 0.0, 0.0]);
    }

    #[test]
    fn a_wrong_row_is_named_by_file_line_and_column() {
        let many = "1,a\n2,b\n".repeat(8);
        for (name, contents, says) in [
            ("stray", format!("x,y\n{many}three,a\n"), vec!["stray", "line 18", "column `x`", "`three`", "categories"]),
            ("target", format!("x,y\n{many}3,\n"), vec!["target", "line 18", "column `y`", "missing"]),
            ("ragged", format!("x,y\n{many}3\n"), vec!["ragged", "line 18", "1 fields", "have 2"]),
            ("empty", String::new(), vec!["empty", "is empty"]),
            ("names", "x,x\n1,2\n".into(), vec!["names", "called `x`"]),
            ("single", "y\na\nb\n".into(), vec!["single", "no column to learn from"]),
            ("same", "x,y\n1,a\n2,a\n".into(), vec!["same", "`y`", "same in all rows"]),
            ("rows", "x,y\n".into(), vec!["rows", "no rows"]),
        ] {
            let said = error(&table(name, &contents, ALL));
            assert!(says.iter().all(|part| said.contains(part)), "{name}: {said}");
        }
        let bytes = std::env::temp_dir().join(format!("gradmax-csv-latin-bytes-{}.csv", std::process::id()));
        std::fs::write(&bytes, b"x,y\n1,a\n2,caf\xe9\n").unwrap();
        let said = error(&CsvTable { file: bytes, ..table("latin", "", ALL) });
        assert!(said.contains("line 3") && said.contains("UTF-8"), "{said}");
    }

    #[test]
    fn identifiers_are_no_categories() {
        let contents = "name,y\n".to_string() + &(0..80).map(|i| format!("n{i},{}\n", i % 2)).collect::<String>();
        assert!(error(&table("names", &contents, ALL)).contains("data.ignore"));
    }
}
