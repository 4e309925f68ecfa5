//! The parameters, as they grow.

use super::{Charted, Shown};
use crate::report::RecordedRun;
use crate::report::series::{MethodRuns, merged, staircase};

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let of_group = |group: &MethodRuns<'_>| staircase(group, changes, shown.compare.confidence);
    let series = merged(shown.groups.iter().map(of_group).collect());
    let note = shown.stairs(&series);
    Some(Charted { title: "Parameters", note, chart: shown.over_steps("parameters", series, false) })
}

/// Parameters at every change over the steps of a run.
fn changes(run: &RecordedRun) -> Vec<(f64, f64)> {
    let first = run.rows.first().map(|row| (0.0, row.parameters as f64));
    let grown = run.receipts.iter().map(|receipt| (receipt.step as f64, receipt.parameters[1] as f64));
    let undone = run.undone.iter().map(|undone| (undone.step as f64, undone.shrinkage.parameters[1] as f64));
    let mut changed = grown.chain(undone).collect::<Vec<_>>();
    changed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let last = run.rows.last().map(|row| (row.step as f64, row.parameters as f64));
    first.into_iter().chain(changed).chain(last).collect()
}
