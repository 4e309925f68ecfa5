//! The charts of a report, a file each.

use std::collections::BTreeSet;

use gradmax::event::Receipt;
use gradmax::training::{Row, Split};

use super::RecordedRun;
use super::chart::{Chart, LineChart};
use super::series::{MethodRuns, Series, averaged};
use crate::config::CompareConfig;

/// A line a chart: its file, in the order of the page.
macro_rules! charts {
    ($($file:ident;)+) => {
        $(mod $file;)+

        /// Every chart, in the order of the page.
        pub const CHARTS: &[fn(&Shown<'_>) -> Option<Charted>] = &[$($file::chart),+];
    };
}

charts! {
    training_loss;
    cost;
    time;
    test;
    bits;
    difference;
    gradient;
    width;
    heads;
    blocks;
    parameters;
    event_gradient;
    event_cost;
}

/// A chart with its heading and what to know about it.
pub struct Charted {
    /// The heading.
    pub title: &'static str,
    /// What to know about it.
    pub note: String,
    /// The chart; empty if there is nothing to show.
    pub chart: Chart,
}

/// The runs of an experiment, as charts show them.
pub struct Shown<'a> {
    /// All runs.
    pub runs: &'a [RecordedRun],
    /// The same by method.
    pub groups: &'a [MethodRuns<'a>],
    /// What the comparison is about.
    pub compare: &'a CompareConfig,
}

impl Shown<'_> {
    /// The mean of a quantity over each method's runs, at every row of a split.
    fn lines(&self, split: Split, x: fn(&Row) -> f64, y: fn(&Row) -> Option<f64>) -> Vec<Series> {
        let series = self.groups.iter().map(|group| averaged(group, split, x, y, self.compare.confidence));
        series.filter(|series| !series.points.is_empty()).collect()
    }

    fn has_several_seeds(&self) -> bool {
        self.groups.iter().any(|group| group.runs.len() > 1)
    }

    /// What bands around lines are.
    fn band(&self) -> String {
        match self.has_several_seeds() {
            true => format!(
                "Mean over seeds; the band is the {} % confidence interval of the mean (Student's t).",
                self.compare.confidence * 100.0
            ),
            false => "One run a method.".into(),
        }
    }

    /// What the ends of bars are.
    fn intervals(&self) -> String {
        match self.has_several_seeds() {
            true => format!(
                "Means over seeds, with {} % confidence intervals (Student's t).",
                self.compare.confidence * 100.0
            ),
            false => "One run a method.".into(),
        }
    }

    /// A note, and what the vertical lines are if there are any.
    fn marked(&self, note: &str) -> String {
        match self.marks().is_empty() {
            true => note.to_string(),
            false => format!("{note} Vertical lines: growth events."),
        }
    }

    /// The steps of growth events, where every growing run has the same.
    fn marks(&self) -> Vec<f64> {
        let of = |receipts: &[Receipt]| receipts.iter().map(|receipt| receipt.step as f64).collect::<Vec<_>>();
        let runs = self.groups.iter().flat_map(|group| &group.runs);
        let mut all = runs.map(|run| of(&run.receipts)).filter(|steps| !steps.is_empty());
        let first = all.next().unwrap_or_default();
        match all.all(|steps| steps == first) && first.len() <= 40 {
            true => first,
            false => Vec::new(),
        }
    }

    /// The steps of all growth events.
    fn event_steps(&self) -> Vec<usize> {
        let receipts = self.groups.iter().flat_map(|group| &group.runs).flat_map(|run| &run.receipts);
        receipts.map(|receipt| receipt.step).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Which methods share a line of what changes at growth events, and what bands are where seeds grow differently.
    fn stairs(&self, series: &[Series]) -> String {
        let shared = series.iter().filter(|line| line.methods.len() > 1).map(|line| line.methods.join(", "));
        let shared = shared.collect::<Vec<_>>();
        let mut note = match shared.is_empty() {
            true => String::new(),
            false => format!("One line for {}. ", shared.join("; and for ")),
        };
        if series.iter().flat_map(|line| &line.points).any(|point| point.low < point.high) {
            note += &self.band();
        }
        self.marked(note.trim_end()).trim_start().to_string()
    }

    /// Lines over steps, with marks at growth events.
    fn over_steps(&self, y_label: &str, series: Vec<Series>, logarithmic: bool) -> Chart {
        let (x_label, y_label) = ("step".into(), y_label.into());
        Chart::Lines(LineChart { x_label, y_label, series, marks: self.marks(), logarithmic, whole_x: None })
    }
}

/// The step of a row.
fn step(row: &Row) -> f64 {
    row.step as f64
}
