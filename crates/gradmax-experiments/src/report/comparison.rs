//! The table of a comparison: means, standard errors, and paired differences to a reference method.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::config::CompareConfig;
use crate::folder::RunSummary;
use crate::statistics::{Mean, median, paired_difference};
use crate::table::{decimals_of, grouped, markdown, significant};

/// What is compared: of text the test loss in bits, else the test score in points where there is one, else the training loss.
pub(super) struct Measure {
    pub name: &'static str,
    /// What differences of it are told in.
    pub unit: &'static str,
    pub of: fn(&RunSummary) -> f64,
    /// Whether it is a score, of which more is better.
    pub is_score: bool,
}

/// Whether every run has a test score.
fn scored(summaries: &[RunSummary]) -> bool {
    summaries.iter().all(|summary| summary.final_test_score.is_some())
}

/// Whether every run is on text.
pub(super) fn on_text(summaries: &[RunSummary]) -> bool {
    summaries.iter().all(|summary| summary.bits_per_byte().is_some())
}

pub(super) fn measure(summaries: &[RunSummary]) -> Measure {
    if on_text(summaries) {
        return Measure {
            name: "test loss in bits a byte",
            unit: "bits a byte",
            of: |summary| summary.bits_per_byte().expect("every run is on text"),
            is_score: false,
        };
    }
    match scored(summaries) {
        true => Measure {
            name: "test score in %",
            unit: "points of test score",
            of: |summary| 100.0 * summary.final_test_score.expect("every run has a score"),
            is_score: true,
        },
        false => Measure {
            name: "final training loss",
            unit: "training loss",
            of: |summary| summary.final_train_loss,
            is_score: false,
        },
    }
}

/// What the table shows, in a sentence or two.
pub fn caption(compare: &CompareConfig, summaries: &[RunSummary]) -> String {
    format!(
        "Mean ± standard error over seeds. The last column is the paired difference of the {} to `{}`, seed by seed, with its \
         {} % confidence interval (Student's t).",
        measure(summaries).name,
        compare.reference,
        compare.confidence * 100.0
    )
}

/// The table of all methods, as Markdown; `costs` are those of each method's growth events, in training steps.
pub fn table(summaries: &[RunSummary], compare: &CompareConfig, costs: &BTreeMap<String, Vec<f64>>) -> Result<String> {
    let difference = format!("difference to {}", compare.reference);
    let mut header = vec!["method", "n", "training loss", "test loss"];
    header.extend(on_text(summaries).then_some("bits a byte"));
    header.extend(scored(summaries).then_some("test score, %"));
    header.extend(["parameters", "training FLOPs", "seconds", "growth, steps", &difference]);
    let rows = compare.methods.iter().filter_map(|method| {
        let runs = summaries.iter().filter(|summary| summary.method == *method).collect::<Vec<_>>();
        let cost = costs.get(method).and_then(|costs| median(costs));
        (!runs.is_empty()).then(|| row(&runs, summaries, compare, cost))
    });
    Ok(markdown(&header, &rows.collect::<Vec<_>>()))
}

fn row(runs: &[&RunSummary], all: &[RunSummary], compare: &CompareConfig, cost: Option<f64>) -> Vec<String> {
    let mean = |of: &dyn Fn(&RunSummary) -> Option<f64>| {
        let values = runs.iter().filter_map(|run| of(run)).collect::<Vec<_>>();
        Mean::of(&values).map_or("-".into(), |mean| with_error(&mean))
    };
    let method = &runs[0].method;
    let mut row = vec![method.clone(), runs.len().to_string()];
    row.push(mean(&|run| Some(run.final_train_loss)));
    row.push(mean(&|run| run.final_test_loss));
    if on_text(all) {
        row.push(mean(&RunSummary::bits_per_byte));
    }
    if scored(all) {
        row.push(mean(&|run| run.final_test_score.map(|score| 100.0 * score)));
    }
    let parameters = runs.iter().map(|run| run.parameters as f64).sum::<f64>() / runs.len() as f64;
    row.push(grouped(parameters.round() as u64));
    row.push(significant(runs.iter().map(|run| run.train_flops as f64).sum::<f64>() / runs.len() as f64));
    let seconds = runs.iter().map(|run| run.seconds).sum::<f64>() / runs.len() as f64;
    row.push(if seconds < 10.0 { format!("{seconds:.2}") } else { format!("{seconds:.0}") });
    row.push(cost.map_or("-".into(), |steps| format!("{steps:.2}")));
    row.push(if *method == compare.reference { "-".into() } else { difference(runs, all, compare) });
    row
}

/// Mean and standard error, with two digits of the error.
pub fn with_error(mean: &Mean) -> String {
    match mean.standard_error {
        // Errors that are rounding say nothing.
        Some(error) if error > 1e-5 * mean.mean.abs() => {
            let decimals = decimals_of(error);
            format!("{:.decimals$} ± {error:.decimals$}", mean.mean)
        }
        _ => significant(mean.mean),
    }
}

fn difference(runs: &[&RunSummary], all: &[RunSummary], compare: &CompareConfig) -> String {
    let measure = measure(all);
    let reference = |seed: u64| all.iter().find(|run| run.method == compare.reference && run.seed == seed);
    let pairs = runs.iter().filter_map(|run| Some(((measure.of)(run), (measure.of)(reference(run.seed)?))));
    let Some(mean) = paired_difference(&pairs.collect::<Vec<_>>()) else {
        return "-".into();
    };
    interval(&mean, compare.confidence)
}

/// A mean difference with its confidence interval.
pub(super) fn interval(mean: &Mean, confidence: f64) -> String {
    match mean.half_width(confidence) {
        Some(half) if half > 0.0 => {
            let decimals = decimals_of(half);
            let (low, high) = (mean.mean - half, mean.mean + half);
            format!("{:+.decimals$} [{low:+.decimals$}, {high:+.decimals$}]", mean.mean)
        }
        _ => format!("{:+.4}", mean.mean),
    }
}

/// A row a run.
pub fn csv(summaries: &[RunSummary]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "method",
        "seed",
        "steps",
        "kept_step",
        "final_train_loss",
        "final_validation_loss",
        "final_validation_score",
        "final_test_loss",
        "final_test_score",
        "parameters",
        "widths",
        "train_flops",
        "seconds",
        "step_seconds_median",
        "growth_seconds",
    ])?;
    let optional = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for run in summaries {
        let widths = run.widths.iter().map(|(site, width)| format!("{site}={width}")).collect::<Vec<_>>().join(" ");
        writer.write_record([
            run.method.clone(),
            run.seed.to_string(),
            run.steps.to_string(),
            run.kept_step.to_string(),
            run.final_train_loss.to_string(),
            optional(run.final_validation_loss),
            optional(run.final_validation_score),
            optional(run.final_test_loss),
            optional(run.final_test_score),
            run.parameters.to_string(),
            widths,
            run.train_flops.to_string(),
            run.seconds.to_string(),
            run.step_seconds_median.to_string(),
            run.growth_seconds.to_string(),
        ])?;
    }
    Ok(writer.into_inner()?)
}
