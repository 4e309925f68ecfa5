//! The heads of transformers, of all blocks together, as they grow.

use super::width::over_steps;
use super::{Charted, Shown};
use crate::report::RecordedRun;
use crate::report::series::{MethodRuns, merged, staircase};

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    if shown.runs.iter().any(|run| run.experiment.network.head().is_none()) {
        return None;
    }
    let of_group = |group: &MethodRuns<'_>| staircase(group, heads, shown.compare.confidence);
    let series = merged(shown.groups.iter().map(of_group).collect());
    let note = shown.stairs(&series);
    Some(Charted { title: "Heads", note, chart: shown.over_steps("heads of all blocks", series, false) })
}

fn heads(run: &RecordedRun) -> Vec<(f64, f64)> {
    let head = run.experiment.network.head().unwrap_or(1);
    over_steps(run, |widths| {
        let heads = widths.iter().filter(|(site, _)| site.ends_with(".heads"));
        heads.map(|(_, width)| width / head).sum::<usize>() as f64
    })
}
