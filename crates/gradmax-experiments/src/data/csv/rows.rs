//! The rows of a CSV file, one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use csv::{ByteRecord, ReaderBuilder, StringRecord};
use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use crate::failure::misuse;

/// A column, as a configuration names it: by its name, or by its number from 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    Number(usize),
    Name(String),
}

/// An open file of rows.
pub struct Rows {
    path: PathBuf,
    /// A name for each column: the file's, or `column 1`, `column 2`, ...
    pub names: Vec<String>,
    /// The first row, if it has no names.
    first: Option<StringRecord>,
    reader: csv::Reader<Box<dyn Read>>,
}

/// The fields of a row, with its place for messages.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    pub path: &'a Path,
    pub line: u64,
    record: &'a StringRecord,
}

impl<'a> Fields<'a> {
    /// The field of a column, without the spaces around it; none if it is missing.
    pub fn get(&self, column: usize) -> Option<&'a str> {
        const MISSING: [&str; 9] = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?"];
        self.record.get(column).map(str::trim).filter(|field| !MISSING.contains(field))
    }
}

impl Rows {
    /// Opens a file. If it is not said whether the first row has names, it has if none of its fields is a number.
    pub fn open(path: &Path, separator: Option<char>, header: Option<bool>) -> Result<Self> {
        let cannot = || format!("cannot read the table {}", path.display());
        let mut file = BufReader::new(File::open(path).with_context(cannot)?);
        let is_gzip = file.fill_buf().with_context(cannot)?.starts_with(&[0x1f, 0x8b]);
        let bytes: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut bytes = BufReader::new(bytes);
        let separator = match separator {
            Some(separator) => separator as u8,
            // What is wrong with the bytes is told where they are read.
            None => bytes.fill_buf().map_or(b',', separator_of),
        };
        let mut reader = of_fields(separator).from_reader(Box::new(bytes) as Box<dyn Read>);
        let mut first = StringRecord::new();
        if !reader.read_record(&mut first).map_err(|error| wrong(path, error))? {
            bail!("{} is empty", path.display());
        }
        let is_number = |field: &str| field.trim().parse::<f64>().is_ok();
        let has_names = header.unwrap_or_else(|| !first.iter().any(is_number));
        let names: Vec<String> = match has_names {
            true => first.iter().map(|name| name.trim().trim_start_matches('\u{feff}').to_string()).collect(),
            false => (1..=first.len()).map(|number| format!("column {number}")).collect(),
        };
        if let Some((_, twice)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            bail!("{}: two columns are called `{twice}`; give each a name of its own", path.display());
        }
        Ok(Self { path: path.to_path_buf(), names, first: (!has_names).then_some(first), reader })
    }

    /// The file's name, for messages.
    pub fn file(&self) -> String {
        self.path.display().to_string()
    }

    /// The number from 0 of a column.
    pub fn place(&self, column: &Column) -> Result<usize> {
        let found = match column {
            Column::Number(number) => number.checked_sub(1).filter(|place| *place < self.names.len()),
            Column::Name(name) => self.names.iter().position(|known| known == name),
        };
        found.ok_or_else(|| {
            let called = match column {
                Column::Number(number) => number.to_string(),
                Column::Name(name) => format!("`{name}`"),
            };
            let known = self.names.join("`, `");
            misuse(format!("{} has no column {called}; its columns are `{known}`", self.path.display()))
        })
    }

    /// Sees every row, with its number from 0.
    pub fn each(mut self, mut see: impl FnMut(usize, Fields<'_>) -> Result<()>) -> Result<()> {
        let mut row = 0;
        let mut record = match self.first.take() {
            Some(first) => {
                see(row, Fields { path: &self.path, line: 1, record: &first })?;
                row += 1;
                first
            }
            None => StringRecord::new(),
        };
        while self.reader.read_record(&mut record).map_err(|error| wrong(&self.path, error))? {
            let line = record.position().map_or(0, csv::Position::line);
            see(row, Fields { path: &self.path, line, record: &record })?;
            row += 1;
        }
        Ok(())
    }
}

fn of_fields(separator: u8) -> ReaderBuilder {
    let mut builder = ReaderBuilder::new();
    builder.has_headers(false).delimiter(separator);
    builder
}

/// What separates the fields of the first row of these bytes: a comma, unless there is none.
fn separator_of(start: &[u8]) -> u8 {
    let fields = |separator: &u8| {
        let mut row = ByteRecord::new();
        of_fields(*separator).from_reader(start).read_byte_record(&mut row).map_or(0, |_| row.len())
    };
    let others = [b';', b'\t', b'|'].into_iter().filter(|separator| fields(separator) > 1);
    others.max_by_key(fields).filter(|_| fields(&b',') < 2).unwrap_or(b',')
}

/// What is wrong with the form of a file, and where.
fn wrong(path: &Path, error: csv::Error) -> anyhow::Error {
    let line = error.position().map_or(String::new(), |position| format!(", line {}", position.line()));
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("it has {len} fields where the rows before have {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8 text; save it as UTF-8".into(),
        csv::ErrorKind::Io(error) => format!("cannot be read, it is damaged or cut short: {error}"),
        _ => error.to_string(),
    };
    anyhow::anyhow!("{}{line}: {reason}", path.display())
}
