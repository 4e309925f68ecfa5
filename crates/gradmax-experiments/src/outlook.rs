//! What growth would do to a run's network now, in words, tables and charts.

use std::path::Path;

use anyhow::Result;
use gradmax::methods::{GradMax, GrowthMethod};
use gradmax::training::{Outlook, SiteOutlook};

use crate::bench;
use crate::config::Experiment;
use crate::device;
use crate::experiment;
use crate::failure::misuse;
use crate::folder::RunFolder;
use crate::method::{self, Method};
use crate::report::{Chart, LineChart, Point, Series};
use crate::table::{grouped, markdown, significant};
use crate::trained;

/// Parts of the growth batch, by which it is told how sure singular values are.
const PARTS: usize = 8;

/// Examples, and sequences of tokens, that are looked at unless it is said otherwise.
const EXAMPLES: usize = 2048;
const SEQUENCES: usize = 128;

/// What growth would do to the network of a run, by its checkpoint: on a growth batch of so many training examples, for so
/// many further units of neurons at each site.
///
/// # Errors
/// If the folder holds no run with a checkpoint, or the configuration says nothing about growth.
pub fn of_run(
    folder: &RunFolder,
    changes: &[String],
    examples: Option<usize>,
    units: usize,
) -> Result<(Experiment, Outlook)> {
    let experiment = folder.read_experiment_with(changes)?;
    let method = match method::named(&experiment.method, &experiment.methods)? {
        Method::Grow(method) => method,
        // What a baseline would have gained by growing.
        _ => Box::new(GradMax::default()) as Box<dyn GrowthMethod>,
    };
    let Some(growth) = experiment::growth_settings(&experiment, Method::Grow(method))? else {
        return Err(misuse("the configuration has no [growth], which says what would grow; add it with --set"));
    };
    let (run, device) = (trained::run_of(folder, &experiment)?, device::named(&experiment.device)?);
    let data = experiment.data.load(experiment.seed, &device)?;
    // Every token of a sequence is one more to learn from.
    let usual = if experiment.data.shape()?.has_tokens { SEQUENCES } else { EXAMPLES };
    let examples = examples.unwrap_or(usual).min(data.train.count());
    if examples < PARTS {
        return Err(misuse(format!(
            "a look needs {PARTS} examples at least, and has {examples}; give it more with --examples"
        )));
    }
    let settings = bench::settings(&experiment, &data);
    let part = examples.div_ceil(PARTS).min(settings.evaluation_batch);
    let settings = gradmax::training::Settings { evaluation_batch: part, ..settings };
    let outlook = bench::trainer(&experiment, &settings, &data).with_growth(growth).outlook(&run, examples, units)?;
    let outlook = outlook.expect("the trainer grows");
    Ok((experiment, outlook))
}

/// What would grow, in a sentence.
pub fn sentence(outlook: &Outlook, policy: &str) -> String {
    let step = grouped(outlook.step as u64);
    let grown = outlook.plan.iter().map(|planned| format!("{} by {}", planned.site, planned.count)).collect::<Vec<_>>();
    match grown.is_empty() {
        true => format!("After step {step} the policy `{policy}` would grow nothing."),
        false => format!("After step {step} the policy `{policy}` would grow {}.", grown.join(", ")),
    }
}

/// What the table's numbers are.
pub const CAPTION: &str = "Singular values of the growth operator: the largest one on the growth batch, with its standard \
                           error over parts of the batch, and what one half of the batch has along the directions of the \
                           other (without what is noise). Gain: by how much the loss falls per unit of the learning rate \
                           with the first step of the next neurons, beyond what the site's own neurons can do, told on \
                           examples that they were not chosen by; that of training as the policy sees it. A policy that \
                           remembers earlier looks of the run, as marginal does, counts on no more of a gain than they agree \
                           on, and can grow less than this look suggests. Costs are those of the next neurons, and of the \
                           whole network, for an example's forward pass.";

/// A row for each site, the best first, and one for training.
pub fn table(outlook: &Outlook) -> String {
    let header = [
        "site",
        "width",
        "singular value",
        "held out",
        "next neurons",
        "gain",
        "FLOPs",
        "parameters",
        "gain per MFLOP",
        "grows by",
    ];
    let mut sites = outlook.sites.iter().collect::<Vec<_>>();
    sites.sort_by(|a, b| worth(b, 0).total_cmp(&worth(a, 0)));
    let row = |site: &&SiteOutlook| {
        let first = site.spectrum.first();
        let planned = outlook.plan.iter().find(|planned| planned.site == site.site);
        vec![
            site.site.clone(),
            site.width.to_string(),
            first.map_or("-".into(), |first| format!("{} ± {}", significant(first.value), significant(first.error))),
            first.map_or("-".into(), |first| significant(first.held_out)),
            site.unit.to_string(),
            site.gains.first().map_or("-".into(), |gain| significant(*gain)),
            grouped(site.cost.flops),
            grouped(site.cost.parameters),
            significant(1e6 * worth(site, 0)),
            planned.map_or("-".into(), |planned| planned.count.to_string()),
        ]
    };
    let mut rows = sites.iter().map(row).collect::<Vec<_>>();
    if let Some(gain) = outlook.training_gain {
        let dash = || "-".to_string();
        let per_flop = significant(1e6 * gain / outlook.size.flops as f64);
        let (flops, parameters) = (grouped(outlook.size.flops), grouped(outlook.size.parameters));
        rows.push(vec![
            "training".into(),
            dash(),
            dash(),
            dash(),
            dash(),
            significant(gain),
            flops,
            parameters,
            per_flop,
            dash(),
        ]);
    }
    markdown(&header, &rows)
}

/// What the unit with this number gains for an operation.
fn worth(site: &SiteOutlook, unit: usize) -> f64 {
    site.gains.get(unit).map_or(f64::NEG_INFINITY, |gain| gain / site.cost.flops as f64)
}

/// The charts, each with its heading and what to know about it.
pub fn charts(outlook: &Outlook) -> Vec<(&'static str, String, Chart)> {
    let numbered = |values: Vec<Point>, site: &str| Series { methods: vec![site.to_string()], points: values };
    let lines = |of: &dyn Fn(&SiteOutlook) -> Vec<(f64, f64)>| {
        let point = |(index, (y, error)): (usize, (f64, f64))| Point {
            x: (index + 1) as f64,
            y,
            low: y - error,
            high: y + error,
        };
        let line = |site: &SiteOutlook| numbered(of(site).into_iter().enumerate().map(point).collect(), &site.site);
        outlook.sites.iter().map(line).filter(|line| !line.points.is_empty()).collect::<Vec<_>>()
    };
    let chart = |x_label: &str, y_label: &str, series: Vec<Series>| {
        let whole_x = Some((|x| format!("{x:.0}")) as fn(f64) -> String);
        Chart::Lines(LineChart {
            x_label: x_label.into(),
            y_label: y_label.into(),
            series,
            marks: Vec::new(),
            logarithmic: false,
            whole_x,
        })
    };
    let mut gains = lines(&|site| (0..site.gains.len()).map(|unit| (1e6 * worth(site, unit), 0.0)).collect());
    if let Some(gain) = outlook.training_gain {
        let y = 1e6 * gain / outlook.size.flops as f64;
        let last = gains.iter().map(|line| line.points.len()).max().unwrap_or(1) as f64;
        gains.push(numbered([1.0, last].map(|x| Point { x, y, low: y, high: y }).to_vec(), "training"));
    }
    let spectrum = lines(&|site| site.spectrum.iter().map(|value| (value.value, value.error)).collect());
    let held_out = lines(&|site| site.spectrum.iter().map(|value| (value.held_out, 0.0)).collect());
    vec![
        (
            "Gain for cost of further neurons",
            "Neurons pay as long as their line lies above that of training; the best first.".into(),
            chart("next neuron", "gain per MFLOP", gains),
        ),
        (
            "Singular values",
            "On the growth batch; the band is a standard error to each side.".into(),
            chart("number", "singular value", spectrum),
        ),
        (
            "Singular values, held out",
            "What each half of the growth batch has along the directions of the other: near zero, directions are noise."
                .into(),
            chart("number", "singular value", held_out),
        ),
    ]
}

/// The page of an outlook.
///
/// # Errors
/// If a chart cannot be drawn.
pub fn page(outlook: &Outlook, policy: &str, folder: &Path) -> Result<String> {
    let title = format!("What would grow in {}", folder.display());
    crate::report::look_page(
        &title,
        &sentence(outlook, policy).replace('`', ""),
        &table(outlook),
        CAPTION,
        charts(outlook),
    )
}
