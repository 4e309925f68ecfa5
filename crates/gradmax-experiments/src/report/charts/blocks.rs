//! The blocks of transformers that are there, where more come by growth.

use std::collections::BTreeSet;

use super::width::over_steps;
use super::{Charted, Shown};
use crate::report::RecordedRun;
use crate::report::series::{MethodRuns, merged, staircase};

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let is_transformer = |run: &RecordedRun| run.experiment.network.head().is_some();
    let deepens = |run: &RecordedRun| {
        let points = blocks(run);
        points.first().map(|first| first.1) != points.last().map(|last| last.1)
    };
    if !shown.runs.iter().all(is_transformer) || !shown.runs.iter().any(deepens) {
        return None;
    }
    let of_group = |group: &MethodRuns<'_>| staircase(group, blocks, shown.compare.confidence);
    let series = merged(shown.groups.iter().map(of_group).collect());
    let note = shown.stairs(&series);
    Some(Charted { title: "Blocks", note, chart: shown.over_steps("blocks", series, false) })
}

fn blocks(run: &RecordedRun) -> Vec<(f64, f64)> {
    over_steps(run, |widths| {
        let there = widths.iter().filter(|(_, width)| **width > 0).filter_map(|(site, _)| site.split_once('.'));
        there.map(|(block, _)| block).collect::<BTreeSet<_>>().len() as f64
    })
}
