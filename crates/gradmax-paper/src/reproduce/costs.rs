//! What a growth event takes, beside a training step (figure 3c).

use anyhow::Result;
use gradmax::event::Timing;
use serde::Serialize;

use super::figure::{Content, Figure, Panel};
use super::study::Study;
use super::verdict::{CONFIDENCE, Check, Relation};
use super::{Finding, Reproduction};
use gradmax_experiments::report::{Bar, BarChart, BarSeries, BarShape, Chart, RecordedRun};
use gradmax_experiments::statistics::{Mean, median};
use gradmax_experiments::table::{csv, significant};

/// A part of the cost, in milliseconds.
type Part = fn(&Cost) -> f64;

/// The bar of the training step.
const STEP: &str = "training step";

/// Costs of growth events, from the receipts of training runs.
pub struct Costs {
    pub studies: Vec<Study>,
    /// What each study is called.
    pub names: Vec<&'static str>,
    pub methods: Vec<&'static str>,
    pub setting: String,
}

/// What a run measured.
#[derive(Serialize)]
struct Cost {
    study: String,
    method: String,
    seed: u64,
    /// Medians over the run: all of an event but verification, its choice of weights, and the training step before it.
    event_milliseconds: f64,
    choice_milliseconds: f64,
    step_milliseconds: f64,
}

impl Costs {
    fn costs(&self, study: &Study, method: &str) -> Result<Vec<Cost>> {
        let cost = |run: &RecordedRun| {
            let of = |part: fn(&Timing) -> Option<f64>| {
                median(&run.receipts.iter().filter_map(|receipt| part(&receipt.timing)).collect::<Vec<_>>())
            };
            Some(Cost {
                study: study.name.clone(),
                method: method.into(),
                seed: run.experiment.seed,
                event_milliseconds: of(|timing| Some(timing.growth))?,
                choice_milliseconds: of(|timing| Some(timing.initialize))?,
                step_milliseconds: of(|timing| timing.training_step)?,
            })
        };
        Ok(study.runs(method)?.iter().filter_map(cost).collect())
    }
}

impl Costs {
    /// Bars of a part of the cost, beside the training step's.
    fn panel(&self, title: &str, by_study: &[&[Vec<Cost>]], of: Part) -> Panel {
        let bar = |values: Vec<f64>| Some(Bar::of(&Mean::of(&values)?, CONFIDENCE));
        let steps =
            by_study.iter().map(|costs| bar(costs.iter().flatten().map(|cost| cost.step_milliseconds).collect()));
        let mut series = vec![BarSeries { method: STEP.into(), bars: steps.collect() }];
        for (index, method) in self.methods.iter().enumerate() {
            let bars = by_study.iter().map(|costs| bar(costs[index].iter().map(of).collect())).collect();
            series.push(BarSeries { method: method.to_string(), bars });
        }
        let content = Content::Chart(Chart::Bars(BarChart {
            x_label: String::new(),
            y_label: "milliseconds".into(),
            groups: self.names.iter().map(ToString::to_string).collect(),
            series,
            shape: BarShape::Bar,
        }));
        Panel { title: title.into(), content }
    }
}

impl Reproduction for Costs {
    fn studies(&self) -> &[Study] {
        &self.studies
    }

    fn finding(&self) -> Result<Finding> {
        let mut costs = Vec::new();
        for study in &self.studies {
            for method in &self.methods {
                costs.push(self.costs(study, method)?);
            }
        }
        let by_study = costs.chunks(self.methods.len()).collect::<Vec<_>>();
        let parts: [(&str, Part); 2] = [
            ("Choosing the weights", |cost| cost.choice_milliseconds),
            ("The whole growth event", |cost| cost.event_milliseconds),
        ];
        let mut checks = Vec::new();
        for (part, of) in parts {
            for (name, costs) in self.names.iter().zip(&by_study) {
                let gradmax = costs.iter().flat_map(|costs| costs.iter()).filter(|cost| cost.method == "gradmax");
                let pairs = gradmax.map(|cost| (of(cost), cost.step_milliseconds)).collect::<Vec<_>>();
                let says =
                    format!("{part} with `gradmax` takes less time than a training step, in milliseconds ({name})");
                let check = Check::paired(says, Relation::Less, &pairs);
                let ratio = median(&pairs.iter().map(|(growth, step)| growth / step).collect::<Vec<_>>());
                let ratio = ratio.map_or("-".into(), significant);
                checks.push(Check { measured: format!("{}; median ratio {ratio}", check.measured), ..check });
            }
        }
        let setting = format!(
            "Medians of each run, verification not counted, and the median training step before growth; means over runs, with {} % \
             confidence intervals (Student's t). {}",
            100.0 * CONFIDENCE,
            self.setting
        );
        Ok(Finding {
            figure: Figure {
                panels: parts.map(|(title, of)| self.panel(title, &by_study, of)).into(),
                note: setting.clone(),
                graded: false,
                size: Figure::PANEL,
            },
            numbers: vec![("costs.csv".into(), csv(&costs.iter().flatten().collect::<Vec<_>>())?)],
            checks,
            details: String::new(),
            setting,
        })
    }
}
