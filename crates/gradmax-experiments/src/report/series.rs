//! From recorded runs to lines with bands: one line a method, averaged over seeds.

use std::collections::BTreeMap;

use gradmax::training::{Row, Split};

use super::RecordedRun;
use crate::statistics::Mean;

/// A line, with a band around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The methods that it stands for.
    pub methods: Vec<String>,
    /// Its points, from left to right.
    pub points: Vec<Point>,
}

/// A point of a line, and the band there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Where it lies along the horizontal axis.
    pub x: f64,
    /// The mean.
    pub y: f64,
    /// The lower end of its interval.
    pub low: f64,
    /// The upper end of its interval.
    pub high: f64,
}

impl Point {
    /// The mean, with its confidence interval as the band.
    pub fn of(x: f64, mean: &Mean, confidence: f64) -> Self {
        let half = mean.half_width(confidence).unwrap_or(0.0);
        Self { x, y: mean.mean, low: mean.mean - half, high: mean.mean + half }
    }
}

/// The runs of one method.
pub struct MethodRuns<'a> {
    /// The method.
    pub method: String,
    /// Its runs, by seed.
    pub runs: Vec<&'a RecordedRun>,
}

/// Points of a line at most; more rows than that are averaged in bins. Fewer where every row is of another batch, and
/// noisy.
const POINTS: usize = 160;
const POINTS_OF_BATCHES: usize = 50;

/// The runs by method, baselines first, then in order of appearance.
pub fn by_method(runs: &[RecordedRun]) -> Vec<MethodRuns<'_>> {
    let mut groups: Vec<MethodRuns<'_>> = Vec::new();
    for run in runs {
        let method = &run.experiment.method;
        match groups.iter_mut().find(|group| group.method == *method) {
            Some(group) => group.runs.push(run),
            None => groups.push(MethodRuns { method: method.clone(), runs: vec![run] }),
        }
    }
    groups.sort_by_key(|group| crate::method::rank(&group.method));
    groups
}

/// A quantity of the rows of one split against `x`, averaged over seeds with confidence bands.
pub fn averaged(
    group: &MethodRuns<'_>,
    split: Split,
    x: impl Fn(&Row) -> f64,
    y: impl Fn(&Row) -> Option<f64>,
    confidence: f64,
) -> Series {
    let bin = bin_of(group);
    // By bin: for each run that has rows there, the means of x and y.
    let mut bins: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
    let mut ended = 0;
    for run in &group.runs {
        ended += usize::from(run.summary.is_some() && run.rows.iter().any(|row| row.split == split));
        let mut of_run: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
        for row in run.rows.iter().filter(|row| row.split == split) {
            if let Some(y) = y(row).filter(|y| y.is_finite()) {
                of_run.entry(row.step / bin).or_default().push((x(row), y));
            }
        }
        for (index, values) in of_run {
            let count = values.len() as f64;
            let mean = |of: fn(&(f64, f64)) -> f64| values.iter().map(of).sum::<f64>() / count;
            bins.entry(index).or_default().push((mean(|v| v.0), mean(|v| v.1)));
        }
    }
    // Runs that spend a budget end at steps of their own. A line goes as far as all that have ended: the mean of those that
    // are left would jump each time that one ends.
    bins.retain(|_, values| values.len() >= ended);
    let point = |values: Vec<(f64, f64)>| {
        let ys = values.iter().map(|(_, y)| *y).collect::<Vec<_>>();
        let x = values.iter().map(|(x, _)| x).sum::<f64>() / values.len() as f64;
        Some(Point::of(x, &Mean::of(&ys)?, confidence))
    };
    Series { methods: vec![group.method.clone()], points: bins.into_values().filter_map(point).collect() }
}

/// A method's training loss less that of another on the same seeds, averaged over seeds with confidence bands.
pub fn difference(group: &MethodRuns<'_>, reference: &MethodRuns<'_>, confidence: f64) -> Series {
    let bin = bin_of(group);
    // By bin: for each seed that both methods have there, the difference of their mean losses.
    let mut differences: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for run in &group.runs {
        let Some(other) = reference.runs.iter().find(|other| other.experiment.seed == run.experiment.seed) else {
            continue;
        };
        let others = losses(other, bin);
        for (index, loss) in losses(run, bin) {
            if let Some(other) = others.get(&index) {
                differences.entry(index).or_default().push(loss - other);
            }
        }
    }
    let point = |(index, values): (usize, Vec<f64>)| {
        Some(Point::of((index as f64 + 0.5) * bin as f64, &Mean::of(&values)?, confidence))
    };
    Series { methods: vec![group.method.clone()], points: differences.into_iter().filter_map(point).collect() }
}

/// Mean training losses of a run, by bins of steps.
fn losses(run: &RecordedRun, bin: usize) -> BTreeMap<usize, f64> {
    let mut by_bin: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for row in run.rows.iter().filter(|row| row.split == Split::Train && row.loss.is_finite()) {
        by_bin.entry(row.step / bin).or_default().push(row.loss);
    }
    by_bin.into_iter().map(|(index, losses)| (index, losses.iter().sum::<f64>() / losses.len() as f64)).collect()
}

/// The steps that become one point of a line.
fn bin_of(group: &MethodRuns<'_>) -> usize {
    let last = group.runs.iter().flat_map(|run| run.rows.iter().map(|row| row.step)).max().unwrap_or(0);
    let noisy = group.runs.iter().any(|run| run.experiment.training.batch_size.is_some());
    (last / if noisy { POINTS_OF_BATCHES } else { POINTS }).max(1)
}

/// A staircase over steps of what changes only at growth events: `changes` are the steps of a run at which it does, and the
/// values from there on, from its beginning to its end. Averaged over seeds, if these do not all grow alike.
pub fn staircase(group: &MethodRuns<'_>, changes: impl Fn(&RecordedRun) -> Vec<(f64, f64)>, confidence: f64) -> Series {
    let runs = group.runs.iter().map(|run| changes(run)).filter(|points| !points.is_empty()).collect::<Vec<_>>();
    let end = runs.iter().filter_map(|points| Some(points.last()?.0)).fold(f64::INFINITY, f64::min);
    let mut steps = runs.iter().flatten().map(|(step, _)| *step).filter(|step| *step <= end).collect::<Vec<_>>();
    steps.sort_by(f64::total_cmp);
    steps.dedup();
    let mut stairs: Vec<Point> = Vec::new();
    for x in steps {
        let at = |points: &Vec<(f64, f64)>| points.iter().rev().find(|(step, _)| *step <= x).map(|(_, value)| *value);
        let Some(mean) = Mean::of(&runs.iter().filter_map(at).collect::<Vec<_>>()) else {
            continue;
        };
        let point = Point::of(x, &mean, confidence);
        if let Some(last) = stairs.last().copied().filter(|last| last.y != point.y) {
            stairs.push(Point { x, ..last });
        }
        stairs.push(point);
    }
    Series { methods: vec![group.method.clone()], points: stairs }
}

/// Lines that lie exactly on each other become one line with several names.
pub fn merged(series: Vec<Series>) -> Vec<Series> {
    let mut lines: Vec<Series> = Vec::new();
    for one in series {
        match lines.iter_mut().find(|line| line.points == one.points) {
            Some(line) => line.methods.extend(one.methods),
            None => lines.push(one),
        }
    }
    lines
}
