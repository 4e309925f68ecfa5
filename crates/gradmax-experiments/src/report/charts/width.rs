//! The neurons at all sites, as they grow.

use std::collections::BTreeMap;

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
    over_steps(run, |widths| widths.values().sum::<usize>() as f64)
}

/// A quantity of the widths of all sites, by their names, over the steps of a run.
pub(super) fn over_steps(run: &RecordedRun, of: impl Fn(&BTreeMap<String, usize>) -> f64) -> Vec<(f64, f64)> {
    let mut changes = Vec::new();
    for receipt in &run.receipts {
        changes.extend(receipt.sites.iter().map(|site| (receipt.step, site.site.clone(), site.added as i64)));
    }
    for undone in &run.undone {
        let sites = undone.shrinkage.sites.iter();
        changes.extend(sites.map(|site| (undone.step, site.site.clone(), site.after as i64 - site.before as i64)));
    }
    // What is taken back at the step of an event goes before it.
    changes.sort_by_key(|(step, _, added)| (*step, *added > 0));
    let last = run.rows.last().map_or(0, |row| row.step);
    let mut widths = starting_widths(run, &changes);
    let mut points = vec![(0.0, of(&widths))];
    for at_step in changes.chunk_by(|a, b| a.0 == b.0) {
        for (_, site, added) in at_step {
            let width = widths.entry(site.clone()).or_default();
            *width = width.saturating_add_signed(*added as isize);
        }
        points.push((at_step[0].0 as f64, of(&widths)));
    }
    points.push((last as f64, of(&widths)));
    points
}

/// The widths of the network that a run starts with: those that it ended with less what has changed, or the
/// configuration's.
fn starting_widths(run: &RecordedRun, changes: &[(usize, String, i64)]) -> BTreeMap<String, usize> {
    let Some(summary) = &run.summary else {
        let sites = experiment::Networks::of(&run.experiment).map(|networks| networks.seed.site_widths());
        return sites.unwrap_or_default().into_iter().map(|at| (at.site, at.width)).collect();
    };
    let ends = summary.widths.iter().filter_map(|(site, width)| Some((site.clone(), width.as_u64()? as usize)));
    let mut widths = ends.collect::<BTreeMap<_, _>>();
    for (_, site, added) in changes {
        let width = widths.entry(site.clone()).or_default();
        *width = width.saturating_add_signed(-*added as isize);
    }
    widths
}
