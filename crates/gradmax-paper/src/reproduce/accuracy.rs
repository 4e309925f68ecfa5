//! Tables and figures of test accuracies.

use anyhow::Result;
use serde::Serialize;

use super::figure::{Content, Figure, Panel};
use super::study::Study;
use super::verdict::{CONFIDENCE, Check, Relation};
use super::{Finding, Reproduction};
use gradmax_experiments::report::{Bar, BarChart, BarSeries, BarShape, Chart, RecordedRun, comparison, with_error};
use gradmax_experiments::statistics::Mean;
use gradmax_experiments::table::{csv, markdown};

/// Test accuracies by setting and method.
pub struct Accuracies {
    pub studies: Vec<Study>,
    pub title: String,
    pub rows: Vec<AccuracyRow>,
    pub claims: Vec<AccuracyClaim>,
    pub setting: String,
}

/// A setting.
pub struct AccuracyRow {
    pub label: String,
    pub cells: Vec<Cell>,
}

/// A setting's column: which runs it shows, and what the paper has there.
pub struct Cell {
    pub column: &'static str,
    pub study: usize,
    pub method: &'static str,
    /// Mean and deviation as the paper prints them.
    pub paper: Option<(f64, f64)>,
}

/// That in these rows one column's accuracy exceeds another's.
pub struct AccuracyClaim {
    pub says: String,
    /// Rows and columns of what should be higher and what lower.
    pub higher: (usize, &'static str),
    pub lower: (usize, &'static str),
    pub relation: Relation,
}

/// A run's accuracy, in the CSV.
#[derive(Serialize)]
struct Accuracy<'a> {
    row: &'a str,
    column: &'a str,
    seed: u64,
    test_accuracy: f64,
    final_train_loss: f64,
    parameters: usize,
}

impl Accuracies {
    fn runs(&self, cell: &Cell) -> Result<Vec<RecordedRun>> {
        self.studies[cell.study].runs(cell.method)
    }

    fn mean(&self, cell: &Cell) -> Result<Option<Mean>> {
        Ok(Mean::of(&self.runs(cell)?.iter().filter_map(percent).collect::<Vec<_>>()))
    }

    fn cell(&self, (row, column): (usize, &str)) -> &Cell {
        let found = self.rows[row].cells.iter().find(|cell| cell.column == column);
        found.expect("claims are about columns that their row has")
    }

    /// All columns, in order of appearance.
    fn columns(&self) -> Vec<&'static str> {
        let mut columns = Vec::new();
        for cell in self.rows.iter().flat_map(|row| &row.cells) {
            if !columns.contains(&cell.column) {
                columns.push(cell.column);
            }
        }
        columns
    }

    fn check(&self, claim: &AccuracyClaim) -> Result<Check> {
        let (higher, lower) = (self.cell(claim.higher), self.cell(claim.lower));
        let pairs =
            self.studies[higher.study].pairs(higher.method, (&self.studies[lower.study], lower.method), percent)?;
        let check = Check::paired(claim.says.clone(), claim.relation, &pairs);
        Ok(Check { measured: format!("In points: {}", check.measured), ..check })
    }

    /// Rows of measured accuracies, each with the paper's below it where there are any.
    fn table(&self) -> Result<String> {
        let columns = self.columns();
        let mut lines = Vec::new();
        for row in &self.rows {
            let of = |column: &str| row.cells.iter().find(|cell| cell.column == column);
            let mut measured = vec![row.label.clone()];
            for column in &columns {
                let mean = of(column).map(|cell| self.mean(cell)).transpose()?.flatten();
                measured.push(mean.map_or(String::new(), |mean| with_error(&mean)));
            }
            lines.push(measured);
            let paper = columns.iter().map(|column| of(column).and_then(|cell| cell.paper));
            let paper = paper.map(|value| value.map_or(String::new(), |(mean, dev)| format!("{mean:.1} ± {dev:.1}")));
            let paper = paper.collect::<Vec<_>>();
            if paper.iter().any(|cell| !cell.is_empty()) {
                lines.push([vec!["(the paper)".into()], paper].concat());
            }
        }
        Ok(markdown(&[vec!["test accuracy, %"], columns].concat(), &lines))
    }
}

fn percent(run: &RecordedRun) -> Option<f64> {
    Some(100.0 * run.summary.as_ref()?.final_test_score?)
}

impl Reproduction for Accuracies {
    fn studies(&self) -> &[Study] {
        &self.studies
    }

    fn finding(&self) -> Result<Finding> {
        let mut series = Vec::new();
        for column in self.columns() {
            let bar = |row: &AccuracyRow| {
                let cell = row.cells.iter().find(|cell| cell.column == column);
                let mean = cell.map(|cell| self.mean(cell)).transpose()?.flatten();
                Ok(mean.map(|mean| Bar::of(&mean, CONFIDENCE)))
            };
            series.push(BarSeries { method: column.into(), bars: self.rows.iter().map(bar).collect::<Result<_>>()? });
        }
        let content = Content::Chart(Chart::Bars(BarChart {
            x_label: String::new(),
            y_label: "test accuracy, %".into(),
            groups: self.rows.iter().map(|row| row.label.clone()).collect(),
            series,
            shape: BarShape::Dot { least: 0.0, most: 100.0 },
        }));
        let mut accuracies = Vec::new();
        for row in &self.rows {
            for cell in &row.cells {
                for run in self.runs(cell)? {
                    let (Some(test_accuracy), Some(summary)) = (percent(&run), &run.summary) else { continue };
                    accuracies.push(Accuracy {
                        row: &row.label,
                        column: cell.column,
                        seed: summary.seed,
                        test_accuracy,
                        final_train_loss: summary.final_train_loss,
                        parameters: summary.parameters,
                    });
                }
            }
        }
        let mut numbers = vec![("accuracy.csv".to_string(), csv(&accuracies)?)];
        for study in &self.studies {
            numbers.push((format!("runs-{}.csv", study.name), comparison::csv(&study.summaries()?)?));
        }
        let checks = self.claims.iter().map(|claim| self.check(claim)).collect::<Result<_>>()?;
        let setting = format!(
            "Dots are means, whiskers their {} % confidence intervals (Student's t). {}",
            100.0 * CONFIDENCE,
            self.setting
        );
        Ok(Finding {
            figure: Figure {
                panels: vec![Panel { title: self.title.clone(), content }],
                note: setting.clone(),
                graded: false,
                size: (860, 400),
            },
            numbers,
            checks,
            details: format!("{}\n\nMeasured: means ± standard errors.\n", self.table()?),
            setting,
        })
    }
}
