//! Figures of growths at the steps of one run.

use anyhow::Result;
use serde::Serialize;

use super::curves::Curves;
use super::figure::{Content, Figure, Panel};
use super::growths::{Grown, Growths, NOT_GROWN};
use super::study::Study;
use super::verdict::{Check, Relation};
use super::{Finding, Reproduction};
use gradmax_experiments::crew::Job;
use gradmax_experiments::report::{Bar, BarChart, BarSeries, BarShape, Chart, LineChart, Point, Series, with_error};
use gradmax_experiments::statistics::{Mean, correlation};
use gradmax_experiments::table::{csv, markdown};

/// The norm of the new weights' gradients, right after growing one network with each method (figure 2a and its kin),
/// and what becomes of the difference in loss (2c), as far as there are.
pub struct GrowthFigure {
    pub growths: Growths,
    /// Which parts to show.
    pub parts: Vec<GrowthPart>,
    /// A panel of curves, shown after the first part.
    pub curves: Option<Curves>,
    pub confidence: f64,
    pub setting: String,
}

/// A part of a figure on growths.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum GrowthPart {
    /// Gradient norms by growth and method.
    Norms,
    /// The loss after growing with the first method less that with the second, growth by growth.
    Differences(&'static str, &'static str),
    /// Losses after growing with each method, a panel a growth.
    Losses,
    /// The correlation of gradient norms and losses over the methods.
    Correlations,
}

/// A network grown with a method, in the CSV.
#[derive(Serialize)]
struct GrowthRow<'a> {
    seed: u64,
    step: usize,
    method: &'a str,
    draws: usize,
    /// Mean over the draws.
    gradient_norm: Option<f64>,
    loss_before: f64,
    /// After the last mark's number of steps.
    steps_after: usize,
    loss_after: Option<f64>,
}

impl GrowthFigure {
    fn numbers(&self, seeds: &[u64], all: &[Vec<Grown>]) -> Result<Vec<u8>> {
        let mut rows = Vec::new();
        for (seed, grown) in seeds.iter().zip(all) {
            // The first draw, which was trained on, and the norms of all.
            for first in grown.iter().filter(|one| one.repeat == 0) {
                let draws = grown.iter().filter(|one| one.method == first.method && one.growth == first.growth);
                let norms = draws.clone().filter_map(|one| one.gradient_norm).collect::<Vec<_>>();
                rows.push(GrowthRow {
                    seed: *seed,
                    step: first.step,
                    method: &first.method,
                    draws: draws.count(),
                    gradient_norm: Mean::of(&norms).map(|mean| mean.mean),
                    loss_before: first.loss,
                    steps_after: self.growths.marks.last().copied().unwrap_or(0),
                    loss_after: first.after.last().copied().flatten(),
                });
            }
        }
        csv(&rows)
    }

    fn norms(&self, all: &[Vec<Grown>]) -> (Panel, Vec<Check>) {
        let series = self.growths.methods.iter().map(|grown| {
            let bar = |growth: usize| Some(Bar::of(&mean_norm(all, grown.method, growth)?, self.confidence));
            BarSeries { method: grown.method.into(), bars: (0..self.growths.at.len()).map(bar).collect() }
        });
        let content = Content::Chart(Chart::Bars(BarChart {
            x_label: "growth".into(),
            y_label: "gradient norm of new weights".into(),
            groups: (1..=self.growths.at.len()).map(|growth| growth.to_string()).collect(),
            series: series.collect(),
            shape: BarShape::Bar,
        }));
        let against = self.growths.methods.iter().map(|grown| grown.method).filter(|method| *method != "gradmax");
        let checks = against.map(|method| {
            // By a margin: with enough networks, differences are told apart that do not matter.
            let pair = |seed: &Vec<Grown>| Some((norm(seed, method, None)?, 0.99 * norm(seed, "gradmax", None)?));
            let pairs = all.iter().filter_map(pair).collect::<Vec<_>>();
            Check::paired(
                format!("Gradients after growing with `{method}` are smaller than 99 % of those with `gradmax`"),
                Relation::Less,
                &pairs,
            )
        });
        (Panel { title: "Gradient norm after growing one neuron".into(), content }, checks.collect())
    }

    fn differences(&self, all: &[Vec<Grown>], first: &str, second: &str) -> (Panel, Vec<Check>) {
        let curve = |seed: &[Grown], method: &str, growth: usize, mark: usize| {
            seed.iter().find(|one| one.method == method && one.growth == growth && one.repeat == 0)?.after[mark]
        };
        let difference = |seed: &[Grown], growth: usize, mark: usize| {
            Some(curve(seed, first, growth, mark)? - curve(seed, second, growth, mark)?)
        };
        let series = (0..self.growths.at.len()).map(|growth| Series {
            methods: vec![format!("growth {}", growth + 1)],
            points: self.after_growing(all, 0, |seed, mark| difference(seed, growth, mark)),
        });
        let content = since_growing(format!("loss, {first} - {second}"), series.collect());
        let last = self.growths.marks.len() - 1;
        let checks = [self.growths.marks.len() / 10, last].map(|mark| {
            let pair = |seed: &Vec<Grown>| {
                let of = |method: &str| {
                    let ends = (0..self.growths.at.len()).filter_map(|growth| curve(seed, method, growth, mark));
                    mean(ends)
                };
                Some((of(second)?, of(first)?))
            };
            Check::paired(
                format!(
                    "{} steps after growing, the loss is lower with `{second}` than with `{first}` (mean of all growths)",
                    self.growths.marks[mark]
                ),
                Relation::Less,
                &all.iter().filter_map(pair).collect::<Vec<_>>(),
            )
        });
        (Panel { title: format!("{second} against {first}"), content }, checks.into())
    }

    /// The points of a line: the mean over seeds of something at each mark, that many steps after `start`.
    fn after_growing(
        &self,
        all: &[Vec<Grown>],
        start: usize,
        of: impl Fn(&[Grown], usize) -> Option<f64>,
    ) -> Vec<Point> {
        let point = |(mark, x): (usize, &usize)| {
            let seeds = all.iter().filter_map(|seed| of(seed, mark)).collect::<Vec<_>>();
            Some(Point::of((start + x) as f64, &Mean::of(&seeds)?, self.confidence))
        };
        self.growths.marks.iter().enumerate().filter_map(point).collect()
    }

    /// The losses of one growth's methods.
    fn losses(&self, all: &[Vec<Grown>], growth: usize) -> Panel {
        let step = self.growths.at[growth];
        let methods = self.methods();
        let series = methods.iter().map(|method| {
            let loss = |seed: &[Grown], mark: usize| {
                let found = seed.iter().find(|one| one.method == *method && one.growth == growth)?;
                *found.after.get(mark)?
            };
            let before = all.iter().filter_map(|seed| seed.iter().find(|one| one.growth == growth)).map(|one| one.loss);
            let before =
                Mean::of(&before.collect::<Vec<_>>()).map(|mean| Point::of(step as f64, &mean, self.confidence));
            let after = self.after_growing(all, step, loss);
            Series { methods: vec![method.to_string()], points: before.into_iter().chain(after).collect() }
        });
        Panel {
            title: format!("Grown at step {step}"),
            content: Content::Chart(Chart::Lines(LineChart {
                x_label: "step".into(),
                y_label: "training loss".into(),
                series: series.collect(),
                marks: vec![step as f64],
                logarithmic: true,
                whole_x: None,
            })),
        }
    }

    fn methods(&self) -> Vec<&'static str> {
        let ungrown = self.growths.ungrown.then_some(NOT_GROWN);
        ungrown.into_iter().chain(self.growths.methods.iter().map(|grown| grown.method)).collect()
    }

    /// That the first method's network learns better than the last's, over all growths; and better than none's.
    fn loss_checks(&self, all: &[Vec<Grown>]) -> Vec<Check> {
        let end = |seed: &[Grown], method: &str| {
            let ends = seed.iter().filter(|one| one.method == method).filter_map(|one| *one.after.last()?);
            mean(ends)
        };
        let methods = &self.growths.methods;
        let (first, last) = (methods[0].method, methods[methods.len() - 1].method);
        [last, NOT_GROWN]
            .map(|other| {
                let pair = |seed: &Vec<Grown>| Some((end(seed, first)?, end(seed, other)?));
                Check::paired(
                    format!(
                        "{} steps after growing, the loss with `{first}` is lower than with `{other}` (mean of all growths)",
                        self.growths.marks.last().copied().unwrap_or(0)
                    ),
                    Relation::Less,
                    &all.iter().filter_map(pair).collect::<Vec<_>>(),
                )
            })
            .into()
    }

    fn correlations(&self, all: &[Vec<Grown>]) -> (Panel, Vec<Check>) {
        let of = |seed: &[Grown], growth: usize, mark: usize| {
            let grown = seed.iter().filter(|one| one.growth == growth && one.repeat == 0);
            let pairs = grown.filter_map(|one| Some((one.gradient_norm?, (*one.after.get(mark)?)?)));
            correlation(&pairs.collect::<Vec<_>>())
        };
        let series = (0..self.growths.at.len()).map(|growth| Series {
            methods: vec![format!("grown at {}", self.growths.at[growth])],
            points: self.after_growing(all, 0, |seed, mark| of(seed, growth, mark)),
        });
        let content = since_growing("correlation with the loss".into(), series.collect());
        let last = self.growths.marks.len() - 1;
        let checks = [self.growths.marks.len() / 10, last].map(|mark| {
            let pair = |seed: &Vec<Grown>| {
                let growths = (0..self.growths.at.len()).filter_map(|growth| of(seed, growth, mark));
                Some((mean(growths)?, 0.0))
            };
            Check::paired(
                format!(
                    "{} steps after growing, larger singular values go with lower losses: their correlation is negative",
                    self.growths.marks[mark]
                ),
                Relation::Less,
                &all.iter().filter_map(pair).collect::<Vec<_>>(),
            )
        });
        let late = self.growths.at.len() - 1;
        let pairs = all.iter().filter_map(|seed| Some((of(seed, late, last)?, of(seed, 0, last)?)));
        let lasts = Check::paired(
            format!(
                "{} steps after growing, it is more negative if the network grew at step {} than at step {}",
                self.growths.marks[last], self.growths.at[late], self.growths.at[0]
            ),
            Relation::Less,
            &pairs.collect::<Vec<_>>(),
        );
        let checks = checks.into_iter().chain([lasts]).collect();
        (Panel { title: "Singular values and losses".into(), content }, checks)
    }

    /// Mean gradient norms as a table.
    fn table(&self, all: &[Vec<Grown>]) -> String {
        let row = |method: &&str| {
            let of = |growth: usize| mean_norm(all, method, growth).map_or("-".into(), |mean| with_error(&mean));
            [vec![method.to_string()], (0..self.growths.at.len()).map(of).collect()].concat()
        };
        let steps = self.growths.at.iter().map(|step| format!("at step {step}")).collect::<Vec<_>>();
        let header = ["gradient norm"].into_iter().chain(steps.iter().map(String::as_str)).collect::<Vec<_>>();
        let grown = self.growths.methods.iter().map(|grown| grown.method).collect::<Vec<_>>();
        markdown(&header, &grown.iter().map(row).collect::<Vec<_>>()) + "\n\nMeans ± standard errors.\n"
    }
}

/// A panel of lines over the steps since growth.
fn since_growing(y_label: String, series: Vec<Series>) -> Content {
    Content::Chart(Chart::Lines(LineChart {
        x_label: "steps after growing".into(),
        y_label,
        series,
        marks: Vec::new(),
        logarithmic: false,
        whole_x: None,
    }))
}

/// The mean of a seed's gradient norms after growing with a method, at one growth or all.
fn norm(seed: &[Grown], method: &str, growth: Option<usize>) -> Option<f64> {
    let grown = seed.iter().filter(|one| one.method == method && growth.is_none_or(|at| one.growth == at));
    mean(grown.filter_map(|one| one.gradient_norm))
}

/// The mean over seeds of [`norm`] at one growth.
fn mean_norm(all: &[Vec<Grown>], method: &str, growth: usize) -> Option<Mean> {
    Mean::of(&all.iter().filter_map(|seed| norm(seed, method, Some(growth))).collect::<Vec<_>>())
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    Some(Mean::of(&values.collect::<Vec<_>>())?.mean)
}

impl Reproduction for GrowthFigure {
    fn studies(&self) -> &[Study] {
        self.curves.as_ref().map_or(&[], |curves| curves.studies())
    }

    fn configurations(&self) -> Vec<&Study> {
        self.studies().iter().chain([&self.growths.study]).collect()
    }

    fn measurements(&self) -> Result<Vec<Box<dyn Job>>> {
        self.growths.jobs()
    }

    fn finding(&self) -> Result<Finding> {
        let (seeds, all): (Vec<_>, Vec<_>) = self.growths.grown()?.into_iter().unzip();
        let (mut panels, mut checks) = (Vec::new(), Vec::new());
        let mut numbers = vec![("growths.csv".to_string(), self.numbers(&seeds, &all)?)];
        let mut details = if self.parts.contains(&GrowthPart::Norms) { self.table(&all) } else { String::new() };
        for (index, part) in self.parts.iter().enumerate() {
            let (panel, checked) = match part {
                GrowthPart::Norms => self.norms(&all),
                GrowthPart::Differences(first, second) => self.differences(&all, first, second),
                GrowthPart::Correlations => self.correlations(&all),
                GrowthPart::Losses => {
                    panels.extend((0..self.growths.at.len()).map(|growth| self.losses(&all, growth)));
                    checks.extend(self.loss_checks(&all));
                    continue;
                }
            };
            panels.push(panel);
            checks.extend(checked);
            if index == 0
                && let Some(curves) = &self.curves
            {
                let finding = curves.finding()?;
                panels.extend(finding.figure.panels);
                checks.extend(finding.checks);
                numbers.extend(finding.numbers);
                details = format!("{details}\n{}", finding.details);
            }
        }
        let setting =
            format!("Means, with {} % confidence intervals (Student's t). {}", 100.0 * self.confidence, self.setting);
        Ok(Finding {
            figure: Figure { panels, note: setting.clone(), graded: true, size: Figure::PANEL },
            numbers,
            checks,
            details,
            setting,
        })
    }
}
