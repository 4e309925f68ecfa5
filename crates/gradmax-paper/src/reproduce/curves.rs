//! Figures of training curves.

use anyhow::{Context, Result};
use gradmax::training::{Row, Split};

use super::figure::{Content, Figure, Panel};
use super::study::Study;
use super::verdict::{Check, Relation};
use super::{Finding, Reproduction};
use gradmax_experiments::report::{
    Chart, LineChart, MethodRuns, RecordedRun, Series, averaged, comparison, with_error,
};
use gradmax_experiments::statistics::Mean;
use gradmax_experiments::table::markdown;

/// A figure of training curves.
pub struct Curves {
    pub studies: Vec<Study>,
    pub panels: Vec<CurvePanel>,
    pub claims: Vec<Claim>,
    /// Confidence of the bands.
    pub confidence: f64,
    /// Whether lines are coloured as steps of one quantity.
    pub graded: bool,
    pub setting: String,
}

/// A panel of curves.
pub struct CurvePanel {
    pub title: String,
    pub quantity: Quantity,
    pub lines: Vec<Line>,
}

/// The runs behind a line: those of a method in a study.
#[derive(Clone)]
pub struct Line {
    pub label: String,
    pub study: usize,
    pub method: &'static str,
}

impl Line {
    pub fn new(label: impl Into<String>, study: usize, method: &'static str) -> Self {
        Self { label: label.into(), study, method }
    }

    /// Lines of a study's methods under their own names.
    pub fn of(study: usize, methods: &[&'static str]) -> Vec<Self> {
        methods.iter().map(|method| Self::new(*method, study, method)).collect()
    }
}

/// What is drawn against the steps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// The loss on the training data, with that of all of them at the end.
    Loss,
    /// The losses of the batches that are trained on, without that of all data at the end, which batch norm computes
    /// otherwise.
    StepLoss,
    /// The norm of all parameters' gradients over the loss.
    AdjustedGradientNorm,
    Parameters,
}

impl Quantity {
    fn label(self) -> &'static str {
        match self {
            Self::Loss | Self::StepLoss => "training loss",
            Self::AdjustedGradientNorm => "gradient norm / loss",
            Self::Parameters => "parameters",
        }
    }

    fn of(self, row: &Row) -> Option<f64> {
        match self {
            Self::Loss => Some(row.loss),
            Self::StepLoss => row.gradient_norm.map(|_| row.loss),
            Self::AdjustedGradientNorm => Some(row.gradient_norm? / row.loss),
            Self::Parameters => Some(row.parameters as f64),
        }
    }
}

/// Something that the curves should show: a value of the first's runs against the second's.
pub struct Claim {
    pub says: String,
    pub relation: Relation,
    pub measure: Measure,
    pub lines: [(usize, &'static str); 2],
}

/// The value of a run that a claim is about.
#[derive(Clone, Copy)]
pub enum Measure {
    /// The training loss at the end.
    FinalLoss,
    /// The gradient norm over the loss, averaged over the steps after the first growth.
    AdjustedGradientNorm,
    /// The mean of the steps' losses.
    MeanLoss,
}

impl Measure {
    fn of(self, run: &RecordedRun) -> Option<f64> {
        let average = |from: usize, of: fn(&Row) -> Option<f64>| {
            let rows = run.rows.iter().filter(|row| row.split == Split::Train && row.step >= from);
            Some(Mean::of(&rows.filter_map(of).collect::<Vec<_>>())?.mean)
        };
        match self {
            Self::FinalLoss => Some(run.summary.as_ref()?.final_train_loss),
            Self::MeanLoss => average(0, |row| Quantity::StepLoss.of(row)),
            Self::AdjustedGradientNorm => {
                let first = run.experiment.growth.as_ref()?.start?;
                average(first, |row| Quantity::AdjustedGradientNorm.of(row))
            }
        }
    }
}

impl Claim {
    /// That the first ends at a lower training loss than the second.
    pub fn lower_loss(says: impl Into<String>, first: (usize, &'static str), second: (usize, &'static str)) -> Self {
        Self { says: says.into(), relation: Relation::Less, measure: Measure::FinalLoss, lines: [first, second] }
    }

    fn check(&self, studies: &[Study]) -> Result<Check> {
        let [(study, method), (other, other_method)] = self.lines;
        let pairs = studies[study].pairs(method, (&studies[other], other_method), |run| self.measure.of(run))?;
        Ok(Check::paired(self.says.clone(), self.relation, &pairs))
    }
}

impl Curves {
    fn series(&self, panel: &CurvePanel) -> Result<Vec<Series>> {
        let mut all = Vec::new();
        for line in &panel.lines {
            let runs = self.studies[line.study].runs(line.method)?;
            let group = MethodRuns { method: line.label.clone(), runs: runs.iter().collect() };
            let quantity = panel.quantity;
            let series = averaged(&group, Split::Train, |row| row.step as f64, |row| quantity.of(row), self.confidence);
            if !series.points.is_empty() {
                all.push(series);
            }
        }
        Ok(all)
    }

    /// The steps of growth events, if all of a panel's runs have the same.
    fn marks(&self, panel: &CurvePanel) -> Vec<f64> {
        let schedules = panel.lines.iter().map(|line| &self.studies[line.study].experiment.growth);
        let mut steps = schedules.flatten().filter_map(|growth| Some((growth.start?, growth.every?, growth.times?)));
        let Some((start, every, times)) = steps.next().filter(|first| steps.all(|other| other == *first)) else {
            return Vec::new();
        };
        (0..times).map(|event| (start.next_multiple_of(every) + event * every) as f64).collect()
    }

    /// Where every line ended, as a table.
    fn ends(&self) -> Result<String> {
        let mut rows = Vec::new();
        for panel in self.panels.iter().filter(|panel| panel.quantity == Quantity::Loss) {
            for line in &panel.lines {
                let runs = self.studies[line.study].runs(line.method)?;
                let of = |value: fn(&RecordedRun) -> Option<f64>| {
                    let values = runs.iter().filter_map(value).collect::<Vec<_>>();
                    Mean::of(&values).map_or("-".into(), |mean| with_error(&mean))
                };
                rows.push(vec![
                    format!("{}, {}", panel.title, line.label),
                    runs.len().to_string(),
                    of(|run| Some(run.summary.as_ref()?.final_train_loss)),
                    of(|run| run.summary.as_ref()?.final_test_loss),
                ]);
            }
        }
        let header = ["runs", "n", "final training loss", "final test loss"];
        Ok(if rows.is_empty() { String::new() } else { markdown(&header, &rows) + "\n\nMeans ± standard errors.\n" })
    }
}

impl Reproduction for Curves {
    fn studies(&self) -> &[Study] {
        &self.studies
    }

    fn finding(&self) -> Result<Finding> {
        let mut panels = Vec::new();
        for panel in &self.panels {
            panels.push(Panel {
                title: panel.title.clone(),
                content: Content::Chart(Chart::Lines(LineChart {
                    x_label: "step".into(),
                    y_label: panel.quantity.label().into(),
                    series: self.series(panel)?,
                    marks: self.marks(panel),
                    logarithmic: panel.quantity != Quantity::Parameters,
                    whole_x: None,
                })),
            });
        }
        let mut numbers = Vec::new();
        for study in &self.studies {
            numbers.push((format!("runs-{}.csv", study.name), comparison::csv(&study.summaries()?)?));
        }
        let checks = self.claims.iter().map(|claim| claim.check(&self.studies).with_context(|| claim.says.clone()));
        let bands = format!(
            "Mean lines; bands are {} % confidence intervals of the mean (Student's t). {}",
            100.0 * self.confidence,
            self.setting
        );
        Ok(Finding {
            checks: checks.collect::<Result<_>>()?,
            details: self.ends()?,
            figure: Figure { panels, note: bands.clone(), graded: self.graded, size: Figure::PANEL },
            numbers,
            setting: bands,
        })
    }
}
