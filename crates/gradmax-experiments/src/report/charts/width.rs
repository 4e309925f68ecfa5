//! The neurons at all sites, as they grow.

use gradmax::networks::Architecture;

use super::{Charted, Shown};
use crate::experiment;
use crate::report::RecordedRun;
use crate::report::series::{MethodRuns, merged, staircase};

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let of_group = |group: &MethodRuns<'_>| staircase(group, widths, shown.compare.confidence);
    let series = merged(shown.groups.iter().map(of_group).collect());
    let note = shown.stairs(&series);
    Some(Charted { title: "Width", note, chart: shown.over_steps("neurons at all sites", series, false) })
}

/// Neurons at all sites over the steps of a run.
fn widths(run: &RecordedRun) -> Vec<(f64, f64)> {
    let grown = run.receipts.iter().map(|receipt| {
        let added = receipt.sites.iter().map(|site| site.added).sum::<usize>();
        (receipt.step, added as i64)
    });
    let undone = run.undone.iter().map(|undone| (undone.step, -(undone.shrinkage.removed() as i64)));
    let mut changes = grown.chain(undone).collect::<Vec<_>>();
    // What is taken back at the step of an event goes before it.
    changes.sort_by_key(|(step, added)| (*step, *added > 0));
    let last = run.rows.last().map_or(0, |row| row.step);
    let mut width = starting_width(run);
    let mut points = vec![(0.0, width as f64)];
    for (step, added) in changes {
        width = width.saturating_add_signed(added as isize);
        points.push((step as f64, width as f64));
    }
    points.push((last as f64, width as f64));
    points
}

/// Neurons at all sites of the network that a run starts with.
fn starting_width(run: &RecordedRun) -> usize {
    let added = run.receipts.iter().flat_map(|receipt| &receipt.sites).map(|site| site.added).sum::<usize>();
    let finished =
        run.summary.as_ref().map(|summary| summary.widths.values().filter_map(|width| width.as_u64()).sum::<u64>());
    let seed = || {
        experiment::Networks::of(&run.experiment)
            .map(|networks| networks.seed.site_widths().iter().map(|site| site.width).sum::<usize>())
    };
    match finished {
        Some(finished) => (finished as usize + run.undone.iter().map(|undone| undone.shrinkage.removed()).sum::<usize>()).saturating_sub(added),
        None => seed().unwrap_or(0),
    }
}
