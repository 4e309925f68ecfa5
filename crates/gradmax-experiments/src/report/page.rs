//! The page: what was run, the table, the charts, the receipts.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::Result;
use gradmax::event::Receipt;
use gradmax::networks::Architecture;
use gradmax::training::Split;

use super::RecordedRun;
use super::chart::{Bar, BarChart, BarSeries, BarShape, Chart, bars_svg, svg};
use super::comparison::{self, with_error};
use super::groups::Group;
use super::receipts::receipts;
use super::series::{MethodRuns, Series, averaged, by_method, difference, merged, staircase};
use crate::config::{CompareConfig, Experiment};
use crate::experiment;
use crate::folder::RunSummary;
use crate::statistics::{Mean, median};
use crate::table::grouped;

const STYLE: &str = include_str!("style.css");

/// The whole report: a part for each experiment.
pub fn html(title: &str, experiments: &[Group]) -> Result<String> {
    let several = experiments.len() > 1;
    let mut body = String::new();
    if several {
        let entry = |(index, group): (usize, &Group)| {
            format!("<li><a href=\"#experiment{index}\">{}</a></li>", escaped(&group.name))
        };
        let list = experiments.iter().enumerate().map(entry).collect::<String>();
        body += &format!(
            "<h1>{}</h1>\n<p class=\"sub\">{} experiments; runs are compared within each of them only.</p>\n<ul>{list}</ul>\n",
            escaped(title),
            experiments.len()
        );
    }
    for (index, group) in experiments.iter().enumerate() {
        let name = if several { &group.name } else { title };
        body += &format!("<section id=\"experiment{index}\">\n{}</section>\n", experiment_part(name, group)?);
    }
    Ok(document(title, &body))
}

fn experiment_part(name: &str, group: &Group) -> Result<String> {
    let methods = by_method(&group.runs);
    let palette = Palette::of(methods.iter().map(|group| group.method.as_str()));
    let body = [
        heading(name, &group.runs, &methods),
        legend(methods.iter().map(|group| group.method.as_str()), &palette),
        results(group, &methods)?,
        charts(&group.runs, &methods, &group.comparison().unwrap_or_default(), &palette)?,
        receipts(&methods),
        configuration(group.experiment())?,
    ];
    Ok(body.concat())
}

/// The page of growths at one checkpoint: a table in Markdown, and a bar for each method and the baseline in every
/// chart (title, y axis, bars).
pub fn growth_page(
    title: &str,
    baseline: &str,
    caption: &str,
    table: &str,
    charts: &[(&'static str, &str, Vec<BarSeries>)],
) -> Result<String> {
    let mut methods: Vec<&str> = Vec::new();
    for series in charts.iter().flat_map(|(.., series)| series) {
        if !methods.contains(&series.method.as_str()) {
            methods.push(&series.method);
        }
    }
    let palette = Palette::of(methods.iter().copied().filter(|method| *method != baseline));
    let mut drawn = Vec::new();
    for (title, y_label, series) in charts.iter().filter(|(.., series)| !series.is_empty()) {
        let chart = BarChart { x_label: "", y_label, groups: &[String::new()], series, shape: BarShape::Bar };
        let note = "Means over repeats, with 95 % confidence intervals (Student's t) where there are several.".into();
        drawn.push(Figure { title, note, svg: bars_svg(&chart, |method| palette.color_of(method))? });
    }
    let body = format!(
        "<h1>{}</h1>\n{}<h2>Results</h2>\n{}<p class=\"note\">{}</p>\n<h2>Charts</h2>\n{}",
        escaped(title),
        legend(methods.iter().copied(), &palette),
        table_from_markdown(table),
        escaped(caption),
        figures(&drawn)
    );
    Ok(document(title, &body))
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title} - gradmax</title><style>{STYLE}</style></head>\n<body><main>\n{body}</main></body></html>\n",
        title = escaped(title)
    )
}

fn heading(title: &str, runs: &[RecordedRun], groups: &[MethodRuns<'_>]) -> String {
    let finished = runs.iter().filter(|run| run.summary.is_some()).count();
    let seeds = groups.iter().map(|group| group.runs.len()).max().unwrap_or(0);
    let state = match finished == runs.len() {
        true => "all finished".to_string(),
        false => format!("{finished} finished so far"),
    };
    let counted = |count: usize, noun: &str| if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") };
    let what = [counted(groups.len(), "method"), counted(seeds, "seed"), counted(runs.len(), "run")].join(", ");
    format!("<h1>{}</h1>\n<p class=\"sub\">{what}; {state}.</p>\n", escaped(title))
}

/// The colours of a page's methods.
struct Palette(Vec<String>);

/// Methods that grow have so many colours, after those of the two baselines.
const COLORS: usize = 20;

impl Palette {
    fn of<'m>(methods: impl Iterator<Item = &'m str>) -> Self {
        Self(methods.filter(|method| crate::method::rank(method) > 1).map(String::from).collect())
    }

    /// The style sheet's name of a method's colour.
    fn color_of(&self, method: &str) -> String {
        match self.0.iter().position(|known| known == method) {
            Some(index) => format!("series{}", 2 + index % COLORS),
            None => format!("series{}", crate::method::rank(method).min(1)),
        }
    }
}

fn legend<'m>(methods: impl Iterator<Item = &'m str>, palette: &Palette) -> String {
    let entry = |method: &str| {
        format!("<li><i style=\"background:var(--{})\"></i>{}</li>", palette.color_of(method), escaped(method))
    };
    format!("<ul class=\"legend\">{}</ul>\n", methods.map(entry).collect::<String>())
}

fn results(experiment: &Group, groups: &[MethodRuns<'_>]) -> Result<String> {
    let note = |note: String| format!("<p class=\"note\">{}</p>\n", escaped(&note));
    let notes = experiment.notes().into_iter().map(note).collect::<String>();
    let summaries = experiment.summaries();
    if summaries.is_empty() {
        return Ok(format!("<p>No run is finished yet.</p>\n{notes}"));
    }
    if let Some(compare) = experiment.comparison().filter(|_| groups.len() > 1) {
        let caption = comparison::caption(&compare, &summaries).replace('`', "");
        let table = comparison::table(&summaries, &compare, &experiment.growth_costs())?;
        return Ok(format!(
            "<h2>Results</h2>\n{}<p class=\"note\">{}</p>\n{notes}",
            table_from_markdown(&table),
            escaped(&caption)
        ));
    }
    let mut rows = String::new();
    for group in groups {
        let of = |value: &dyn Fn(&RunSummary) -> Option<f64>| {
            let values = group.runs.iter().filter_map(|run| value(run.summary.as_ref()?)).collect::<Vec<_>>();
            Mean::of(&values).map_or("-".into(), |mean| with_error(&mean))
        };
        let parameters = group.runs.iter().find_map(|run| run.summary.as_ref()).map_or(0, |summary| summary.parameters);
        write!(
            rows,
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&group.method),
            of(&|summary| Some(summary.final_train_loss)),
            of(&|summary| summary.final_test_loss),
            of(&|summary| summary.final_test_score.map(|score| 100.0 * score)),
            grouped(parameters as u64)
        )?;
    }
    Ok(format!(
        "<h2>Results</h2>\n<div class=\"scroll\"><table><thead><tr><th>method</th><th>training loss</th><th>test loss</th>\
         <th>test score, %</th><th>parameters</th></tr></thead><tbody>{rows}</tbody></table></div>\n{notes}"
    ))
}

/// A chart with its heading and what to know about it.
struct Figure {
    title: &'static str,
    note: String,
    svg: String,
}

fn charts(
    runs: &[RecordedRun],
    groups: &[MethodRuns<'_>],
    compare: &CompareConfig,
    palette: &Palette,
) -> Result<String> {
    let confidence = compare.confidence;
    let color_of = |method: &str| palette.color_of(method);
    let band = match groups.iter().any(|group| group.runs.len() > 1) {
        true => format!(
            "Mean over seeds; the band is the {} % confidence interval of the mean (Student's t).",
            confidence * 100.0
        ),
        false => "One run a method.".into(),
    };
    let band = band.as_str();
    let marks = growth_steps(groups);
    let lines = |split, x: fn(&gradmax::training::Row) -> f64, y: fn(&gradmax::training::Row) -> Option<f64>| {
        let series = groups.iter().map(|group| averaged(group, split, x, y, confidence));
        series.filter(|series| !series.points.is_empty()).collect::<Vec<_>>()
    };
    let mut drawn = Vec::new();
    let mut add = |title, note: String, chart: Chart<'_>| -> Result<()> {
        if !chart.series.is_empty() {
            drawn.push(Figure { title, note, svg: svg(&chart, color_of)? });
        }
        Ok(())
    };
    let step = |row: &gradmax::training::Row| row.step as f64;
    let flops = |row: &gradmax::training::Row| row.flops as f64;

    let loss = lines(Split::Train, step, |row| Some(row.loss));
    let marked =
        |text: &str| if marks.is_empty() { text.to_string() } else { format!("{text} Vertical lines: growth events.") };
    let chart = Chart {
        x_label: "step",
        y_label: "training loss",
        series: &loss,
        marks: &marks,
        logarithmic: true,
        whole_x: None,
    };
    add("Training loss", marked(band), chart)?;

    let cost = lines(Split::Train, flops, |row| Some(row.loss));
    let chart = Chart {
        x_label: "training FLOPs",
        y_label: "training loss",
        series: &cost,
        marks: &[],
        logarithmic: true,
        whole_x: None,
    };
    add(
        "Training loss against what it cost",
        format!("{band} A training step counts as three forward passes."),
        chart,
    )?;

    let scored = runs.iter().flat_map(|run| &run.rows).any(|row| row.split == Split::Test && row.score.is_some());
    match scored {
        true => {
            let test = lines(Split::Test, step, |row| row.score.map(|score| 100.0 * score));
            let chart = Chart {
                x_label: "step",
                y_label: "test score, %",
                series: &test,
                marks: &marks,
                logarithmic: false,
                whole_x: None,
            };
            add("Test score", marked(band), chart)?;
        }
        false => {
            let test = lines(Split::Test, step, |row| Some(row.loss));
            let chart = Chart {
                x_label: "step",
                y_label: "test loss",
                series: &test,
                marks: &marks,
                logarithmic: true,
                whole_x: None,
            };
            add("Test loss", marked(band), chart)?;
        }
    }

    let differences = groups.iter().filter(|group| group.method != compare.reference);
    let differences = differences.filter_map(|group| {
        let reference = groups.iter().find(|group| group.method == compare.reference)?;
        Some(difference(group, reference, confidence))
    });
    let differences = differences.filter(|series| !series.points.is_empty()).collect::<Vec<_>>();
    let chart = Chart {
        x_label: "step",
        y_label: "difference in training loss",
        series: &differences,
        marks: &marks,
        logarithmic: false,
        whole_x: None,
    };
    let note = format!(
        "Training loss less that of {}, seed by seed. {}",
        compare.reference,
        marked(&band.replace("Mean over seeds", "Mean of these differences"))
    );
    add("Loss difference to a reference", note, chart)?;

    let ratio = lines(Split::Train, step, |row| Some(row.gradient_norm? / row.loss));
    let chart = Chart {
        x_label: "step",
        y_label: "gradient norm / loss",
        series: &ratio,
        marks: &marks,
        logarithmic: true,
        whole_x: None,
    };
    add("Gradient norm over loss", marked(band), chart)?;

    let width = merged(groups.iter().map(widths).collect());
    let chart = Chart {
        x_label: "step",
        y_label: "neurons at all sites",
        series: &width,
        marks: &marks,
        logarithmic: false,
        whole_x: None,
    };
    add("Width", same_line(&width), chart)?;

    let size = merged(groups.iter().map(|group| staircase(group, parameters(group))).collect());
    let chart = Chart {
        x_label: "step",
        y_label: "parameters",
        series: &size,
        marks: &marks,
        logarithmic: false,
        whole_x: None,
    };
    add("Parameters", same_line(&size), chart)?;

    let band = match groups.iter().any(|group| group.runs.len() > 1) {
        true => format!("Means over seeds, with {} % confidence intervals (Student's t).", confidence * 100.0),
        false => "One run a method.".into(),
    };
    let steps = event_steps(groups);
    let names = steps.iter().map(usize::to_string).collect::<Vec<_>>();
    let norms = by_event(groups, &steps, confidence, Receipt::gradient_norm);
    if !norms.is_empty() {
        let chart = BarChart {
            x_label: "growth step",
            y_label: "gradient norm of new weights",
            groups: &names,
            series: &norms,
            shape: BarShape::Bar,
        };
        let note = format!("The norm of the gradients of all new weights, right after growing. {band}");
        drawn.push(Figure { title: "Gradient norm by growth step", note, svg: bars_svg(&chart, color_of)? });
    }
    let costs = groups.iter().filter_map(|group| {
        let receipts = group.runs.iter().flat_map(|run| &run.receipts);
        let costs = receipts.filter_map(|receipt| receipt.timing.growth_in_steps).collect::<Vec<_>>();
        Some(BarSeries { method: group.method.clone(), bars: vec![Some(Bar::exact(median(&costs)?))] })
    });
    let costs = costs.collect::<Vec<_>>();
    if !costs.is_empty() {
        let chart = BarChart {
            x_label: "",
            y_label: "training steps",
            groups: &[String::new()],
            series: &costs,
            shape: BarShape::Bar,
        };
        let note =
            "The median growth event, in training steps of the network before it; verification not counted.".into();
        drawn.push(Figure { title: "Cost of a growth event", note, svg: bars_svg(&chart, color_of)? });
    }
    Ok(format!("<h2>Charts</h2>\n{}", figures(&drawn)))
}

fn figures(drawn: &[Figure]) -> String {
    let figure = |figure: &Figure| {
        format!(
            "<figure><h3>{}</h3>{}<figcaption>{}</figcaption></figure>\n",
            figure.title,
            figure.svg,
            escaped(&figure.note)
        )
    };
    format!("<div class=\"figures\">{}</div>\n", drawn.iter().map(figure).collect::<String>())
}

/// The steps of all growth events.
fn event_steps(groups: &[MethodRuns<'_>]) -> Vec<usize> {
    let receipts = groups.iter().flat_map(|group| &group.runs).flat_map(|run| &run.receipts);
    receipts.map(|receipt| receipt.step).collect::<BTreeSet<_>>().into_iter().collect()
}

/// A value of the receipts, averaged over the seeds of each method, event by event; methods without such values are
/// left out.
fn by_event(
    groups: &[MethodRuns<'_>],
    steps: &[usize],
    confidence: f64,
    of: impl Fn(&Receipt) -> Option<f64>,
) -> Vec<BarSeries> {
    let series = groups.iter().map(|group| {
        let bar = |step: &usize| {
            let receipts = group.runs.iter().flat_map(|run| &run.receipts).filter(|receipt| receipt.step == *step);
            Some(Bar::of(&Mean::of(&receipts.filter_map(&of).collect::<Vec<_>>())?, confidence))
        };
        BarSeries { method: group.method.clone(), bars: steps.iter().map(bar).collect() }
    });
    series.filter(|series| series.bars.iter().any(Option::is_some)).collect()
}

/// Which methods share a line.
fn same_line(series: &[Series]) -> String {
    let shared = series.iter().filter(|line| line.methods.len() > 1).map(|line| line.methods.join(", "));
    let shared = shared.collect::<Vec<_>>();
    match shared.is_empty() {
        true => "Vertical lines: growth events.".into(),
        false => format!("One line for {}. Vertical lines: growth events.", shared.join("; and for ")),
    }
}

/// The steps of growth events, where every growing run has the same.
fn growth_steps(groups: &[MethodRuns<'_>]) -> Vec<f64> {
    let of = |receipts: &[Receipt]| receipts.iter().map(|receipt| receipt.step as f64).collect::<Vec<_>>();
    let mut all =
        groups.iter().flat_map(|group| &group.runs).map(|run| of(&run.receipts)).filter(|steps| !steps.is_empty());
    let first = all.next().unwrap_or_default();
    match all.all(|steps| steps == first) && first.len() <= 40 {
        true => first,
        false => Vec::new(),
    }
}

/// Neurons at all sites over the steps of a method's first run.
fn widths(group: &MethodRuns<'_>) -> Series {
    let run = group.runs[0];
    let grown = run.receipts.iter().map(|receipt| {
        let added = receipt.sites.iter().map(|site| site.added).sum::<usize>();
        (receipt.step, added)
    });
    let last = run.rows.last().map_or(0, |row| row.step);
    let mut width = starting_width(run);
    let mut points = vec![(0.0, width as f64)];
    for (step, added) in grown {
        width += added;
        points.push((step as f64, width as f64));
    }
    points.push((last as f64, width as f64));
    staircase(group, points)
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
        Some(finished) => finished as usize - added,
        None => seed().unwrap_or(0),
    }
}

/// Parameters at every change over the steps of a method's first run.
fn parameters(group: &MethodRuns<'_>) -> Vec<(f64, f64)> {
    let run = group.runs[0];
    let first = run.rows.first().map(|row| (0.0, row.parameters as f64));
    let grown = run.receipts.iter().map(|receipt| (receipt.step as f64, receipt.parameters[1] as f64));
    let last = run.rows.last().map(|row| (row.step as f64, row.parameters as f64));
    first.into_iter().chain(grown).chain(last).collect()
}

fn configuration(experiment: &Experiment) -> Result<String> {
    let toml = escaped(&experiment.to_toml()?);
    Ok(format!(
        "<h2>Configuration</h2>\n<details><summary>of the experiment's first run, in full</summary><pre>{toml}</pre></details>\n"
    ))
}

/// The table of a comparison, which is written as Markdown once.
fn table_from_markdown(markdown: &str) -> String {
    let cells = |line: &str, tag: &str| {
        let inner = line.trim().trim_matches('|').split('|').enumerate().map(|(index, cell)| {
            let tag = if index == 0 { "th" } else { tag };
            format!("<{tag}>{}</{tag}>", escaped(cell.trim()))
        });
        format!("<tr>{}</tr>", inner.collect::<String>())
    };
    let mut lines = markdown.lines();
    let header = lines.next().map(|line| cells(line, "th")).unwrap_or_default();
    let body = lines.skip(1).map(|line| cells(line, "td")).collect::<String>();
    format!("<div class=\"scroll\"><table><thead>{header}</thead><tbody>{body}</tbody></table></div>\n")
}

/// Text as HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
