//! The parameters, as they grow.

use super::{Charted, Shown, same_line};
use crate::report::series::{MethodRuns, merged, staircase};

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let series = merged(shown.groups.iter().map(|group| staircase(group, changes(group))).collect());
    let note = same_line(&series);
    Some(Charted { title: "Parameters", note, chart: shown.over_steps("parameters", series, false) })
}

/// Parameters at every change over the steps of a method's first run.
fn changes(group: &MethodRuns<'_>) -> Vec<(f64, f64)> {
    let run = group.runs[0];
    let first = run.rows.first().map(|row| (0.0, row.parameters as f64));
    let grown = run.receipts.iter().map(|receipt| (receipt.step as f64, receipt.parameters[1] as f64));
    let last = run.rows.last().map(|row| (row.step as f64, row.parameters as f64));
    first.into_iter().chain(grown).chain(last).collect()
}
