//! Which value of what is tuned each method of a comparison does best with, on validation examples.

use std::path::Path;

use anyhow::Result;
use toml::Value;

use crate::config::{Experiment, TUNING_SEEDS, Tune};
use crate::folder::{RunFolder, RunSummary, tuning_folder};
use crate::report::with_error;
use crate::statistics::Mean;
use crate::table::markdown;

/// The runs by which one method is tuned.
pub struct Tuning<'a> {
    /// The method.
    pub method: &'a str,
    tune: &'a Tune,
    folder: &'a Path,
    first_seed: u64,
}

/// How well a method does with a value.
struct Tried<'a> {
    value: &'a Value,
    /// The share of correct answers on validation examples, or, without scores and on text, their loss; of the runs that came to
    /// their end.
    validation: Option<Mean>,
    has_score: bool,
    failed: u64,
}

impl Tried<'_> {
    /// Better is larger. None if one of its runs failed, or came to no number: methods are not tuned to what may fail.
    fn merit(&self) -> Option<f64> {
        let mean = self.validation.filter(|mean| self.failed == 0 && mean.mean.is_finite())?.mean;
        Some(if self.has_score { mean } else { -mean })
    }
}

impl<'a> Tuning<'a> {
    /// The tuning of every method of a comparison; none if nothing is tuned.
    pub fn all(experiment: &'a Experiment, folder: &'a Path) -> Vec<Self> {
        let first_seed = experiment.seed + TUNING_SEEDS;
        let of = |tune: &'a Tune| {
            let methods = experiment.compare.methods.iter();
            methods.map(move |method| Self { method, tune, folder, first_seed })
        };
        experiment.compare.tune.iter().flat_map(of).collect()
    }

    /// The folder of a run.
    pub fn folder(comparison: &Path, method: &str, value: &Value, seed: u64) -> RunFolder {
        RunFolder::in_comparison(&tuning_folder(comparison).join(plain(value)), method, seed)
    }

    /// Every run: the value that is tried, the seed, and the folder.
    pub fn runs(&self) -> impl Iterator<Item = (&'a Value, u64, RunFolder)> {
        let Self { method, tune, folder, first_seed } = *self;
        let seeds = first_seed..first_seed + tune.seeds;
        tune.values.iter().flat_map(move |value| {
            seeds.clone().map(move |seed| (value, seed, Self::folder(folder, method, value, seed)))
        })
    }

    /// The value that does best, the first of several alike; none if every value has failed.
    ///
    /// # Errors
    /// If a summary is damaged.
    pub fn chosen(&self) -> Result<Option<&'a Value>> {
        let mut best: Option<(f64, &Value)> = None;
        for tried in self.tried()? {
            if let Some(merit) = tried.merit()
                && best.is_none_or(|(least, _)| merit > least)
            {
                best = Some((merit, tried.value));
            }
        }
        Ok(best.map(|(_, value)| value))
    }

    fn tried(&self) -> Result<Vec<Tried<'a>>> {
        let of_value = |value| {
            let runs = self.runs().filter(|(other, ..)| *other == value);
            let ended = runs.map(|(.., folder)| folder.read_summary()).filter_map(Result::transpose);
            let ended = ended.collect::<Result<Vec<RunSummary>>>()?;
            let has_score = ended.iter().all(|run| run.final_validation_score.is_some() && !run.of_text);
            let number =
                |run: &RunSummary| if has_score { run.final_validation_score } else { run.final_validation_loss };
            let validation = Mean::of(&ended.iter().filter_map(number).collect::<Vec<_>>());
            Ok(Tried { value, validation, has_score, failed: self.tune.seeds - ended.len() as u64 })
        };
        self.tune.values.iter().map(of_value).collect()
    }

    /// What was tried and chosen for all methods of a comparison, as a caption and a table in Markdown; none if nothing is
    /// tuned.
    ///
    /// # Errors
    /// If a summary is damaged.
    pub fn table(experiment: &'a Experiment, folder: &'a Path) -> Result<Option<(String, String)>> {
        let Some(tune) = &experiment.compare.tune else {
            return Ok(None);
        };
        let mut header = vec!["method".to_string()];
        header.extend(tune.values.iter().map(plain));
        header.push("chosen".into());
        let mut has_score = true;
        let mut rows = Vec::new();
        for tuning in Self::all(experiment, folder) {
            let mut row = vec![tuning.method.to_string()];
            for tried in tuning.tried()? {
                has_score &= tried.has_score;
                let factor = if tried.has_score { 100.0 } else { 1.0 };
                row.push(match (tried.validation, tried.failed) {
                    (Some(mean), 0) => with_error(&mean.times(factor)),
                    (_, failed) => format!("{failed} failed"),
                });
            }
            row.push(tuning.chosen()?.map_or("-".into(), |value| tuning.with_remark(value)));
            rows.push(row);
        }
        let header = header.iter().map(String::as_str).collect::<Vec<_>>();
        let what = if has_score { "score in %" } else { "loss" };
        let caption = format!(
            "{} of each method, chosen by the mean {what} on validation examples over {} seeds that are not reported.",
            tune.key, tune.seeds
        );
        Ok(Some((caption, markdown(&header, &rows))))
    }

    /// The value, and whether others beyond those that were tried might be better.
    fn with_remark(&self, value: &Value) -> String {
        let numbers = self.tune.values.iter().filter_map(number).collect::<Vec<_>>();
        let is_end = |value| numbers.iter().all(|other| *other <= value) || numbers.iter().all(|other| *other >= value);
        match number(value).is_some_and(|value| numbers.len() > 1 && is_end(value)) {
            true => format!("{}, the end of the list", plain(value)),
            false => plain(value),
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|value| value as f64))
}

/// A value as folders and tables show it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
