//! What a growth event takes, beside a training step (figure 3c).

use anyhow::Result;
use serde::Serialize;

use super::figure::{Content, Figure, Panel};
use super::study::Study;
use super::verdict::{CONFIDENCE, Check, Relation};
use super::{Finding, Reproduction, csv};
use crate::report::{Bar, BarSeries, BarShape, RecordedRun};
use crate::statistics::{Mean, median};
use crate::table::significant;

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
    /// Medians over the run.
    growth_milliseconds: f64,
    step_milliseconds: f64,
}

impl Costs {
    fn costs(&self, study: &Study, method: &str) -> Result<Vec<Cost>> {
        let cost = |run: &RecordedRun| {
            let growths = run.receipts.iter().map(|receipt| receipt.timing.growth).collect::<Vec<_>>();
            let steps = run.receipts.iter().filter_map(|receipt| receipt.timing.training_step).collect::<Vec<_>>();
            Some(Cost {
                study: study.name.clone(),
                method: method.into(),
                seed: run.experiment.seed,
                growth_milliseconds: median(&growths)?,
                step_milliseconds: median(&steps)?,
            })
        };
        Ok(study.runs(method)?.iter().filter_map(cost).collect())
    }
}

impl Reproduction for Costs {
    fn studies(&self) -> &[Study] {
        &self.studies
    }

    fn finding(&self) -> Result<Finding> {
        let (mut all, mut checks) = (Vec::new(), Vec::new());
        let mut steps = BarSeries { method: STEP.into(), bars: Vec::new() };
        let mut growths = self.methods.iter().map(|method| BarSeries { method: method.to_string(), bars: Vec::new() });
        let mut growths = growths.by_ref().collect::<Vec<_>>();
        for (study, name) in self.studies.iter().zip(&self.names) {
            let mut of_steps = Vec::new();
            for (series, method) in growths.iter_mut().zip(&self.methods) {
                let costs = self.costs(study, method)?;
                let values = costs.iter().map(|cost| cost.growth_milliseconds).collect::<Vec<_>>();
                series.bars.push(Mean::of(&values).map(|mean| Bar::of(&mean, CONFIDENCE)));
                of_steps.extend(costs.iter().map(|cost| cost.step_milliseconds));
                if *method == "gradmax" {
                    let pairs = costs.iter().map(|cost| (cost.growth_milliseconds, cost.step_milliseconds));
                    let pairs = pairs.collect::<Vec<_>>();
                    let shares = pairs.iter().map(|(growth, step)| growth / step).collect::<Vec<_>>();
                    let check = Check::paired(
                        format!("{name}: growing with `gradmax` takes less time than a training step, in milliseconds"),
                        Relation::Less,
                        &pairs,
                    );
                    let share = median(&shares).map_or("-".into(), significant);
                    checks.push(Check { measured: format!("{}; median ratio {share}", check.measured), ..check });
                }
                all.extend(costs);
            }
            steps.bars.push(Mean::of(&of_steps).map(|mean| Bar::of(&mean, CONFIDENCE)));
        }
        let content = Content::Bars {
            x_label: String::new(),
            y_label: "milliseconds".into(),
            groups: self.names.iter().map(ToString::to_string).collect(),
            series: [vec![steps], growths].concat(),
            shape: BarShape::Bar,
        };
        let setting = format!(
            "Median growth event of each run, verification not counted, and median training step before it; means over runs, with \
             {} % confidence intervals (Student's t). {}",
            100.0 * CONFIDENCE,
            self.setting
        );
        Ok(Finding {
            figure: Figure {
                panels: vec![Panel { title: "Time of a growth event".into(), content }],
                note: setting.clone(),
                graded: false,
                size: (620, 360),
            },
            numbers: vec![("costs.csv".into(), csv(&all)?)],
            checks,
            details: String::new(),
            setting,
        })
    }
}
