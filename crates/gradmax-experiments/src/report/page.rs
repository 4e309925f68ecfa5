//! The page: what was run, the table, the charts, the receipts.

use std::fmt::Write;

use anyhow::Result;
use gradmax::training::Split;

use super::RecordedRun;
use super::chart::{BarChart, BarSeries, BarShape, Chart};
use super::charts::{CHARTS, Charted, Shown};
use super::comparison::{self, with_error};
use super::groups::Group;
use super::receipts::{receipts, undone};
use super::series::{MethodRuns, by_method};
use super::verdict::verdict;
use crate::config::{Experiment, TrainingConfig};
use crate::folder::RunSummary;
use crate::statistics::Mean;
use crate::table::{grouped, significant};

const STYLE: &str = include_str!("style.css");

/// Whether a browser is to ask for the page again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// It is a file.
    Never,
    /// It is served while runs go on.
    Often,
}

/// Asks for the page again every few seconds, and puts the new one in place of what is shown: what is scrolled to, and
/// what is opened, stays.
const REFRESH: &str = include_str!("refresh.js");

/// The whole report: a part for each experiment.
pub fn html(title: &str, experiments: &[Group], refresh: Refresh) -> Result<String> {
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
    if experiments.is_empty() {
        body += &format!("<h1>{}</h1>\n<p class=\"sub\">No run has started yet.</p>\n", escaped(title));
    }
    Ok(document(title, &body, refresh))
}

fn experiment_part(name: &str, group: &Group) -> Result<String> {
    let methods = by_method(&group.runs);
    let palette = Palette::of(methods.iter().map(|group| group.method.as_str()));
    let body = [
        heading(name, &group.runs, &methods),
        legend(methods.iter().map(|group| group.method.as_str()), &palette),
        under_way(&group.runs),
        results(group, &methods)?,
        charts(
            &Shown { runs: &group.runs, groups: &methods, compare: &group.comparison().unwrap_or_default() },
            &palette,
        )?,
        receipts(&methods),
        undone(&methods),
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
    charts: &[(&'static str, &'static str, Vec<BarSeries>)],
) -> Result<String> {
    let mut methods: Vec<&str> = Vec::new();
    for series in charts.iter().flat_map(|(.., series)| series) {
        if !methods.contains(&series.method.as_str()) {
            methods.push(&series.method);
        }
    }
    let palette = Palette::of(methods.iter().copied().filter(|method| *method != baseline));
    let charted = charts.iter().map(|(title, y_label, series)| Charted {
        title,
        note: "Means over repeats, with 95 % confidence intervals (Student's t) where there are several.".into(),
        chart: Chart::Bars(BarChart {
            x_label: String::new(),
            y_label: y_label.to_string(),
            groups: vec![String::new()],
            series: series.clone(),
            shape: BarShape::Bar,
        }),
    });
    let methods = (methods.iter().copied(), &palette);
    plain_page(title, methods, &format!("<h2>Results</h2>\n{}", table_from_markdown(table)), caption, charted)
}

/// The page of a look at a network: a sentence, a table in Markdown with its caption, and charts with a line for each site
/// (heading, note, chart).
pub fn look_page(
    title: &str,
    sentence: &str,
    table: &str,
    caption: &str,
    charts: Vec<(&'static str, String, Chart)>,
) -> Result<String> {
    let mut names: Vec<String> = Vec::new();
    for name in charts.iter().flat_map(|(.., chart)| chart.labels()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.into());
        }
    }
    let names = names.iter().map(String::as_str);
    let palette = Palette::of(names.clone());
    let charted = charts.into_iter().map(|(title, note, chart)| Charted { title, note, chart });
    let results = format!("<p>{}</p>\n{}", escaped(sentence), table_from_markdown(table));
    plain_page(title, (names, &palette), &results, caption, charted)
}

/// A page with one table and charts, whose lines and bars have these names.
fn plain_page<'m>(
    title: &str,
    (names, palette): (impl Iterator<Item = &'m str>, &Palette),
    results: &str,
    caption: &str,
    charted: impl Iterator<Item = Charted>,
) -> Result<String> {
    let body = format!(
        "<h1>{}</h1>\n{}{results}<p class=\"note\">{}</p>\n<h2>Charts</h2>\n{}",
        escaped(title),
        legend(names, palette),
        escaped(caption),
        figures(charted, palette)?
    );
    Ok(document(title, &body, Refresh::Never))
}

fn document(title: &str, body: &str, refresh: Refresh) -> String {
    let script = match refresh {
        Refresh::Never => String::new(),
        Refresh::Often => format!("<script>\n{REFRESH}</script>\n"),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title} - gradmax</title><style>{STYLE}</style></head>\n<body><main>\n{body}</main>\n{script}</body></html>\n",
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

/// Runs at most that are listed as not finished.
const LISTED: usize = 50;

/// Which runs are not finished, and how far they are.
fn under_way(runs: &[RecordedRun]) -> String {
    let open = runs.iter().filter(|run| run.summary.is_none()).collect::<Vec<_>>();
    if open.is_empty() {
        return String::new();
    }
    let row = |run: &&RecordedRun| {
        let state = match (&run.failure, run.running) {
            (_, true) => "running".to_string(),
            (Some(reason), false) => format!("failed: {reason}"),
            (None, false) => "stopped".into(),
        };
        let last = run.rows.iter().rev().find(|row| row.split == Split::Train);
        let (step, epoch) = last.map_or((0, 0.0), |row| (row.step, row.epoch));
        let TrainingConfig { steps, epochs, .. } = run.experiment.training;
        // Without a look at the data, which can take long.
        let far = match (steps, epochs) {
            (Some(steps), _) => format!("step {} of {}", grouped(step as u64), grouped(steps as u64)),
            (None, Some(epochs)) => format!("epoch {epoch:.1} of {epochs}"),
            (None, None) => format!("step {}, until its budget is spent", grouped(step as u64)),
        };
        format!(
            "<tr><th>{} seed {}</th><td>{}</td><td>{far}</td><td>{}</td></tr>",
            escaped(&run.experiment.method),
            run.experiment.seed,
            escaped(&state),
            last.map_or("-".into(), |row| significant(row.loss))
        )
    };
    let rows = open.iter().take(LISTED).map(row).collect::<String>();
    let more = open.len().saturating_sub(LISTED);
    let more = if more > 0 { format!("<p class=\"note\">And {more} more.</p>\n") } else { String::new() };
    format!(
        "<h2>Not finished</h2>\n<div class=\"scroll\"><table><thead><tr><th>run</th><th>state</th><th>so far</th>\
         <th>training loss</th></tr></thead><tbody>{rows}</tbody></table></div>\n{more}"
    )
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
        let verdict = verdict(&summaries, &compare, &experiment.method_options());
        let verdict =
            verdict.map_or(String::new(), |verdict| format!("<p>{}</p>\n", escaped(&verdict.replace('`', ""))));
        let tuned = experiment.tuning()?.map_or(String::new(), |(caption, table)| {
            format!("<h2>Tuning</h2>\n{}<p class=\"note\">{}</p>\n", table_from_markdown(&table), escaped(&caption))
        });
        return Ok(format!(
            "<h2>Results</h2>\n{verdict}{}<p class=\"note\">{}</p>\n{notes}{tuned}",
            table_from_markdown(&table),
            escaped(&caption)
        ));
    }
    let mut rows = String::new();
    // Where a network is on text, its loss has another unit too.
    let finished = groups.iter().flat_map(|group| &group.runs).filter_map(|run| run.summary.as_ref());
    let on_text = finished.clone().count() > 0 && finished.clone().all(|summary| summary.of_text);
    let unit = if on_text { "<th>bits a byte</th>" } else { "" };
    for group in groups {
        let of = |value: &dyn Fn(&RunSummary) -> Option<f64>| {
            let values = group.runs.iter().filter_map(|run| value(run.summary.as_ref()?)).collect::<Vec<_>>();
            Mean::of(&values).map_or("-".into(), |mean| with_error(&mean))
        };
        let parameters = group.runs.iter().find_map(|run| run.summary.as_ref()).map_or(0, |summary| summary.parameters);
        write!(
            rows,
            "<tr><th>{}</th><td>{}</td><td>{}</td>{}<td>{}</td><td>{}</td></tr>",
            escaped(&group.method),
            of(&|summary| Some(summary.final_train_loss)),
            of(&|summary| summary.final_test_loss),
            if on_text { format!("<td>{}</td>", of(&RunSummary::bits_per_byte)) } else { String::new() },
            of(&|summary| summary.final_test_score.map(|score| 100.0 * score)),
            grouped(parameters as u64)
        )?;
    }
    Ok(format!(
        "<h2>Results</h2>\n<div class=\"scroll\"><table><thead><tr><th>method</th><th>training loss</th><th>test loss</th>\
         {unit}<th>test score, %</th><th>parameters</th></tr></thead><tbody>{rows}</tbody></table></div>\n{notes}"
    ))
}

fn charts(experiment: &Shown<'_>, palette: &Palette) -> Result<String> {
    let charted = CHARTS.iter().filter_map(|chart| chart(experiment));
    Ok(format!("<h2>Charts</h2>\n{}", figures(charted, palette)?))
}

/// Charts that show something, with their headings and notes.
fn figures(charted: impl Iterator<Item = Charted>, palette: &Palette) -> Result<String> {
    let figure = |Charted { title, note, chart }: Charted| {
        let svg = chart.svg(|method| palette.color_of(method))?;
        Ok(format!("<figure><h3>{title}</h3>{svg}<figcaption>{}</figcaption></figure>\n", escaped(&note)))
    };
    let figures = charted.filter(|charted| !charted.chart.is_empty()).map(figure).collect::<Result<String>>()?;
    Ok(format!("<div class=\"figures\">{figures}</div>\n"))
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
