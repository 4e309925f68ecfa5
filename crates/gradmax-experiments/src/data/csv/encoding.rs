//! How the columns of a table become inputs and a target: found in its training rows, and kept with the run.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::super::scale::{Moments, Scale};
use super::super::source::{Answers, Quantity, Task};
use super::rows::{Column, Fields, Rows};
use crate::failure::misuse;

/// The encoding of every column that is looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Encoding {
    inputs: Vec<Input>,
    target: TargetColumn,
}

/// A column that is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Input {
    column: String,
    kind: Kind,
}

/// How a column is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// A number, less the mean of the training rows and divided by their standard deviation. A missing one counts as
    /// the mean; where training rows miss some, a second input is 1 for those.
    Number {
        #[serde(flatten)]
        scale: Scale,
        misses: bool,
    },
    /// An input for each value that training rows have, which is 1 for that value; all are 0 for others. Missing is a
    /// value if training rows miss some.
    Category { values: Vec<String> },
}

/// The column that is learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct TargetColumn {
    column: String,
    kind: TargetKind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TargetKind {
    /// Its values, in order; a class is the index of one.
    Classes(Vec<String>),
    /// A number, standardised as inputs are.
    Number(Scale),
}

/// Where the columns of an encoding lie in a file.
pub struct Places {
    inputs: Vec<usize>,
    target: usize,
}

/// The value that a missing category is called by.
const MISSING: &str = "";
/// Values that a category may have, of a column at most.
const MOST_VALUES: usize = 1000;
/// Different whole numbers up to which a target of numbers is taken for classes.
const FEW: usize = 20;

impl Encoding {
    /// Number of inputs of a row.
    pub fn width(&self) -> usize {
        self.inputs.iter().map(|input| input.kind.width()).sum()
    }

    /// Number of outputs of a network.
    pub fn outputs(&self) -> usize {
        match &self.target.kind {
            TargetKind::Classes(values) => values.len(),
            TargetKind::Number(_) => 1,
        }
    }

    /// What a network's outputs mean.
    pub fn answers(&self) -> Answers {
        match &self.target.kind {
            TargetKind::Classes(values) => Answers::Classes(values.clone()),
            TargetKind::Number(scale) => {
                Answers::Values(vec![Quantity { name: self.target.column.clone(), scale: *scale }])
            }
        }
    }

    /// How each input is standardised; those that stand for a category, or for a missing number, are not.
    pub fn scales(&self) -> Vec<Scale> {
        let of = |input: &Input| match &input.kind {
            Kind::Number { scale, misses } => {
                std::iter::once(*scale).chain(misses.then_some(Scale::NONE)).collect::<Vec<_>>()
            }
            Kind::Category { values } => vec![Scale::NONE; values.len()],
        };
        self.inputs.iter().flat_map(of).collect()
    }

    /// Where its columns lie in a file, which may lack the target if that is not asked for.
    pub fn places(&self, rows: &Rows, with_target: bool) -> Result<Places> {
        let place = |name: &str| rows.place(&Column::Name(name.into()));
        let inputs = self.inputs.iter().map(|input| place(&input.column)).collect::<Result<_>>()?;
        let target = if with_target { place(&self.target.column)? } else { 0 };
        Ok(Places { inputs, target })
    }

    /// Adds the inputs of a row.
    pub fn inputs(&self, fields: Fields<'_>, places: &Places, into: &mut Vec<f32>) -> Result<()> {
        for (input, place) in self.inputs.iter().zip(&places.inputs) {
            let field = fields.get(*place);
            match &input.kind {
                Kind::Number { scale, misses } => {
                    let value = field.map(|field| number(field, fields, &input.column)).transpose()?;
                    into.push(value.map_or(0.0, |value| scale.standardised(value) as f32));
                    into.extend(misses.then(|| f32::from(u8::from(value.is_none()))));
                }
                Kind::Category { values } => {
                    let field = field.unwrap_or(MISSING);
                    into.extend(values.iter().map(|value| f32::from(u8::from(value == field))));
                }
            }
        }
        Ok(())
    }

    /// The target of a row: a class's index, or a standardised number.
    pub fn target(&self, fields: Fields<'_>, places: &Places) -> Result<f32> {
        let column = &self.target.column;
        let field = known_target(fields, places.target, column)?;
        match &self.target.kind {
            TargetKind::Number(scale) => Ok(scale.standardised(number(field, fields, column)?) as f32),
            TargetKind::Classes(values) => match values.iter().position(|value| value == field) {
                Some(class) => Ok(class as f32),
                None => Err(at(fields, column, format!("no training row has the class `{field}`"))),
            },
        }
    }

    /// What is read and learned, in a sentence.
    pub fn describe(&self) -> String {
        let categories = self.inputs.iter().filter(|input| matches!(input.kind, Kind::Category { .. })).count();
        let learned = match &self.target.kind {
            TargetKind::Classes(values) => format!("{} classes of `{}`", values.len(), self.target.column),
            TargetKind::Number(_) => format!("the number `{}`", self.target.column),
        };
        format!(
            "{} columns of numbers and {categories} of categories make {} inputs, from which {learned} are learned",
            self.inputs.len() - categories,
            self.width()
        )
    }
}

impl Kind {
    fn width(&self) -> usize {
        match self {
            Self::Number { misses, .. } => 1 + usize::from(*misses),
            Self::Category { values } => values.len(),
        }
    }
}

/// A field that must be a number.
fn number(field: &str, fields: Fields<'_>, column: &str) -> Result<f64> {
    match field.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(at(fields, column, format!("`{field}` is not a finite number"))),
        Err(_) => Err(at(fields, column, format!("`{field}` is not a number, and the column's others are"))),
    }
}

fn known_target<'f>(fields: Fields<'f>, place: usize, column: &str) -> Result<&'f str> {
    let missing = || at(fields, column, "the value to be learned is missing; remove the row, or fill it in");
    fields.get(place).ok_or_else(missing)
}

/// An error at a place of a file.
fn at(fields: Fields<'_>, column: &str, reason: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{}, line {}, column `{column}`: {reason}", fields.path.display(), fields.line)
}

/// What is seen of a table in a pass over it.
pub struct Scan {
    file: String,
    columns: Vec<Seen>,
    target: usize,
}

/// What is seen of a column.
struct Seen {
    name: String,
    ignored: bool,
    is_category: bool,
    /// Fields of all rows that are numbers, and that are none.
    numbers: usize,
    others: usize,
    /// The line and the text of the first that is none.
    other: Option<(u64, String)>,
    /// Whether all numbers are whole.
    whole: bool,
    /// Of the numbers of training rows.
    moments: Moments,
    /// Of training rows: whether fields are missing, and the values; none if there are too many.
    misses: bool,
    values: Option<BTreeMap<String, usize>>,
}

impl Scan {
    pub fn new(rows: &Rows, target: Option<&Column>, [ignore, categories]: [&[Column]; 2]) -> Result<Self> {
        let target = match target {
            Some(target) => rows.place(target)?,
            None => rows.names.len() - 1,
        };
        let places = |columns: &[Column]| columns.iter().map(|column| rows.place(column)).collect::<Result<Vec<_>>>();
        let (ignored, categories) = (places(ignore)?, places(categories)?);
        if ignored.contains(&target) {
            return Err(misuse(format!("`data.ignore` has the column `{}`, which is to be learned", rows.names[target])));
        }
        let seen = |(place, name): (usize, &String)| Seen {
            name: name.clone(),
            ignored: ignored.contains(&place),
            is_category: categories.contains(&place),
            numbers: 0,
            others: 0,
            other: None,
            whole: true,
            moments: Moments::default(),
            misses: false,
            values: Some(BTreeMap::new()),
        };
        let columns = rows.names.iter().enumerate().map(seen).collect();
        Ok(Self { file: rows.file(), columns, target })
    }

    /// Sees a row.
    pub fn see(&mut self, fields: Fields<'_>, is_training: bool) -> Result<()> {
        known_target(fields, self.target, &self.columns[self.target].name)?;
        for (place, column) in self.columns.iter_mut().enumerate().filter(|(_, column)| !column.ignored) {
            column.see(fields.get(place), fields.line, is_training);
        }
        Ok(())
    }

    /// The encoding of what was seen.
    pub fn encoding(self, task: Option<Task>) -> Result<Encoding> {
        let Self { file, columns, target: place } = self;
        let mut inputs = Vec::new();
        let mut target = None;
        for (at, column) in columns.into_iter().enumerate().filter(|(_, column)| !column.ignored) {
            match at == place {
                true => target = Some(column.target(&file, task)?),
                false => inputs.extend(column.input(&file)?),
            }
        }
        match target {
            Some(target) if !inputs.is_empty() => Ok(Encoding { inputs, target }),
            _ => bail!("{file} has no column to learn from beside the one to be learned"),
        }
    }
}

impl Seen {
    fn see(&mut self, field: Option<&str>, line: u64, is_training: bool) {
        let value = field.and_then(|field| field.parse::<f64>().ok()).filter(|value| value.is_finite());
        match (field, value) {
            (Some(_), Some(value)) => {
                self.numbers += 1;
                self.whole &= value.fract() == 0.0;
            }
            (Some(field), None) => {
                self.others += 1;
                self.other.get_or_insert_with(|| (line, field.into()));
            }
            (None, _) => {}
        }
        if !is_training {
            return;
        }
        self.misses |= field.is_none();
        if let Some(value) = value {
            self.moments.see(value);
        }
        if let Some(values) = &mut self.values {
            *values.entry(field.unwrap_or(MISSING).into()).or_default() += 1;
            if values.len() > MOST_VALUES {
                self.values = None;
            }
        }
    }

    /// By mean and standard deviation.
    fn scale(&self, file: &str) -> Result<Scale> {
        let name = &self.name;
        let too_large =
            || anyhow!("{file}: numbers of the column `{name}` are too large to be standardised; mend them, or ignore it");
        self.moments.scale().ok_or_else(too_large)
    }

    /// Checks that a column is of numbers or of text: a stray word among numbers is a mistake, not a category.
    fn check_pure(&self, file: &str) -> Result<()> {
        match &self.other {
            Some((line, text)) if self.numbers >= 9 * self.others => Err(anyhow!(
                "{file}, line {line}, column `{}`: `{text}` is not a number, and nearly all others are; mend it, leave \
                 the field empty, or name the column in `data.categories`",
                self.name
            )),
            _ => Ok(()),
        }
    }

    /// How the column is read; none if it has no values at all.
    fn input(self, file: &str) -> Result<Option<Input>> {
        if self.numbers + self.others == 0 {
            return Ok(None);
        }
        if !self.is_category {
            self.check_pure(file)?;
        }
        let kind = match self.others > 0 || self.is_category {
            false => Kind::Number { scale: self.scale(file)?, misses: self.misses },
            true => Kind::Category { values: self.categories(file)? },
        };
        Ok(Some(Input { column: self.name, kind }))
    }

    /// The values of a category, in order.
    fn categories(&self, file: &str) -> Result<Vec<String>> {
        let rows = self.numbers + self.others;
        match &self.values {
            Some(values) if values.len() < 50 || 2 * values.len() < rows => Ok(values.keys().cloned().collect()),
            _ => Err(misuse(format!(
                "the column `{}` of {file} has a value of its own in most rows, so that nothing can be learned from it; \
                 name it in `data.ignore`",
                self.name
            ))),
        }
    }

    fn target(self, file: &str, task: Option<Task>) -> Result<TargetColumn> {
        let few = self.values.as_ref().is_some_and(|values| values.len() <= FEW);
        let task = task.unwrap_or(match self.others > 0 || (self.whole && few) {
            true => Task::Classification,
            false => Task::Regression,
        });
        let kind = match task {
            Task::Regression => {
                if let Some((line, text)) = &self.other {
                    bail!("{file}, line {line}, column `{}`: `{text}` is not a number", self.name);
                }
                TargetKind::Number(self.scale(file)?)
            }
            Task::Classification => {
                self.check_pure(file)?;
                let mut classes = self.categories(file)?;
                // Numbers in their own order, not in that of their digits.
                let value = |class: &String| class.parse::<f64>().unwrap_or(f64::INFINITY);
                classes.sort_by(|a, b| value(a).total_cmp(&value(b)));
                if classes.len() < 2 {
                    bail!("{file}: the column `{}` is the same in all rows; there is nothing to be learned", self.name);
                }
                TargetKind::Classes(classes)
            }
        };
        Ok(TargetColumn { column: self.name, kind })
    }
}
