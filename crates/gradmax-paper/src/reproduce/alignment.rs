//! How far the growth directions of a minibatch agree with those of all data (figure 6).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use gradmax::event::Look;
use gradmax::operator::{Directions, alignment};
use gradmax::training::{GrowthBatch, Supervised, Trainer};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use super::figure::{Content, Figure, Panel};
use super::kept;
use super::study::Study;
use super::verdict::{CONFIDENCE, Check, Relation};
use super::{Finding, Reproduction};
use gradmax_experiments::bench::{settings, train_to};
use gradmax_experiments::config::Experiment;
use gradmax_experiments::crew::{Done, Job, SharedData};
use gradmax_experiments::experiment;
use gradmax_experiments::network::Network;
use gradmax_experiments::report::{Chart, LineChart, Point, Series};
use gradmax_experiments::statistics::Mean;
use gradmax_experiments::table::csv;

/// Alignments along a training run.
pub struct AlignmentFigure {
    /// The run, without growth.
    pub study: Study,
    /// Steps at which it is looked at, and what each is called.
    pub phases: Vec<(usize, &'static str)>,
    pub batches: Vec<usize>,
    /// Directions of a site that are compared.
    pub count: usize,
    /// Minibatches of each size.
    pub draws: usize,
    pub setting: String,
}

/// One comparison.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Alignment {
    seed: u64,
    step: usize,
    site: String,
    batch: usize,
    draw: usize,
    /// The paper's measure: |tr(U'V)| / k.
    alignment: f64,
    /// How much of the one span lies in the other, whatever the order and signs: ||U'V||^2 / k.
    overlap: f64,
}

/// All comparisons of one run.
struct Measurement {
    experiment: Experiment,
    file: PathBuf,
    asked: String,
    phases: Vec<usize>,
    batches: Vec<usize>,
    count: usize,
    draws: usize,
    work: u64,
}

impl AlignmentFigure {
    fn file(&self, seed: u64) -> PathBuf {
        self.study.folder().join(format!("alignment-seed{seed}.json"))
    }

    fn alignments(&self) -> Result<Vec<Alignment>> {
        let files = self.study.seeds().map(|seed| self.file(seed)).filter(|file| file.exists());
        Ok(files.map(|file| kept::read::<Vec<Alignment>>(&file)).collect::<Result<Vec<_>>>()?.concat())
    }

    /// The mean over sites and draws of each seed, at a phase and a batch size.
    fn by_seed(&self, all: &[Alignment], step: usize, batch: usize, of: fn(&Alignment) -> f64) -> Vec<f64> {
        let mut seeds: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for one in all.iter().filter(|one| one.step == step && one.batch == batch) {
            seeds.entry(one.seed).or_default().push(of(one));
        }
        seeds.into_values().filter_map(|values| Some(Mean::of(&values)?.mean)).collect()
    }

    fn panel(&self, all: &[Alignment], title: &str, y_label: &str, of: fn(&Alignment) -> f64) -> Panel {
        let series = self.phases.iter().map(|(step, name)| {
            let point = |batch: &usize| {
                let mean = Mean::of(&self.by_seed(all, *step, *batch, of))?;
                Some(Point::of((*batch as f64).log2(), &mean, CONFIDENCE))
            };
            Series { methods: vec![name.to_string()], points: self.batches.iter().filter_map(point).collect() }
        });
        let content = Content::Chart(Chart::Lines(LineChart {
            x_label: "examples in the minibatch".into(),
            y_label: y_label.into(),
            series: series.collect(),
            marks: Vec::new(),
            logarithmic: false,
            whole_x: Some(|x| format!("{}", 2f64.powf(x))),
        }));
        Panel { title: title.into(), content }
    }
}

impl Measurement {
    /// The leading directions of every site on a growth batch.
    fn directions(
        &self,
        trainer: &Trainer<'_, Network, Supervised>,
        network: &Network,
        sites: &[String],
        batch: (GrowthBatch, usize),
    ) -> Result<Vec<Directions>> {
        let look = Look::of(network, trainer.growth_parts(batch.0, batch.1)?)?;
        let operators = look.operators(sites)?;
        operators.iter().map(|operator| Ok(operator.directions(self.count)?)).collect()
    }
}

impl Job for Measurement {
    fn name(&self) -> String {
        format!("alignment seed {}", self.experiment.seed)
    }

    fn is_done(&self) -> bool {
        kept::answers(&self.file, &self.asked)
    }

    fn work(&self) -> u64 {
        self.work
    }

    fn run(&self, data: &SharedData, bar: ProgressBar, stop: &AtomicBool) -> Result<Done> {
        let experiment = &self.experiment;
        let data = data.of(experiment)?;
        let settings = settings(experiment, &data);
        let trainer =
            || Trainer::<Network, _>::new(settings.clone(), experiment::task(experiment, &data), &*data.train);
        let mut run = experiment::beginning(experiment)?;
        let sites = run.progress.sites.iter().map(|site| site.site.clone()).collect::<Vec<_>>();
        bar.set_length(self.phases.len() as u64);
        let mut all = Vec::new();
        for step in &self.phases {
            run = train_to(trainer(), run, *step)?;
            let on_all = self.directions(&trainer(), &run.network, &sites, (GrowthBatch::All, 0))?;
            for batch in &self.batches {
                for draw in 0..self.draws {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(Done::Stopped);
                    }
                    let drawn = (GrowthBatch::Examples(*batch), draw);
                    let found = self.directions(&trainer(), &run.network, &sites, drawn)?;
                    for ((site, full), found) in sites.iter().zip(&on_all).zip(found) {
                        let products = found.vectors.transpose() * &full.vectors;
                        all.push(Alignment {
                            seed: experiment.seed,
                            step: *step,
                            site: site.clone(),
                            batch: *batch,
                            draw,
                            alignment: alignment(&found.vectors, &full.vectors),
                            overlap: products.squared_norm_l2() / self.count as f64,
                        });
                    }
                }
            }
            bar.inc(1);
        }
        kept::write(&self.file, &self.asked, all)?;
        Ok(Done::Finished)
    }
}

impl Reproduction for AlignmentFigure {
    fn studies(&self) -> &[Study] {
        &[]
    }

    fn configurations(&self) -> Vec<&Study> {
        vec![&self.study]
    }

    fn measurements(&self) -> Result<Vec<Box<dyn Job>>> {
        let job = |seed: u64| {
            let mut experiment = self.study.experiment.clone();
            experiment.seed = seed;
            experiment.method = "small".into();
            let experiment = experiment.checked()?;
            let asked = (experiment.to_toml()?, &self.phases, &self.batches, self.count, self.draws);
            let asked = serde_json::to_string(&asked)?;
            Ok(Box::new(Measurement {
                file: self.file(seed),
                asked,
                phases: self.phases.iter().map(|(step, _)| *step).collect(),
                batches: self.batches.clone(),
                count: self.count,
                draws: self.draws,
                // Directions on all data cost about as much as four epochs.
                work: 3 * experiment::training_flops(&experiment)?,
                experiment,
            }) as Box<dyn Job>)
        };
        self.study.seeds().map(job).collect()
    }

    fn finding(&self) -> Result<Finding> {
        let all = self.alignments()?;
        let panels = vec![
            self.panel(&all, "Alignment, as the paper measures it", "|tr(U'V)| / k", |one| one.alignment),
            self.panel(&all, "Overlap of the spans", "||U'V||² / k", |one| one.overlap),
        ];
        let at = |step: usize, batch: usize| self.by_seed(&all, step, batch, |one| one.alignment);
        let ((first, _), (last, _)) = (self.phases[0], self.phases[self.phases.len() - 1]);
        let (smallest, largest) = (self.batches[0], self.batches[self.batches.len() - 1]);
        let paired = |a: Vec<f64>, b: Vec<f64>| a.into_iter().zip(b).collect::<Vec<_>>();
        let checks = vec![
            Check::paired(
                format!("Alignment with {smallest} examples is lower than with {largest}, at the beginning"),
                Relation::Less,
                &paired(at(first, smallest), at(first, largest)),
            ),
            Check::paired(
                format!("Alignment with {largest} examples is lower at the end of training than at its beginning"),
                Relation::Less,
                &paired(at(last, largest), at(first, largest)),
            ),
        ];
        let setting = format!(
            "Top {} directions, means over all sites; {} runs of {} minibatches a size, {} % confidence intervals (Student's t). {}",
            self.count,
            self.study.experiment.compare.seeds,
            self.draws,
            100.0 * CONFIDENCE,
            self.setting
        );
        Ok(Finding {
            figure: Figure { panels, note: setting.clone(), graded: true, size: Figure::PANEL },
            numbers: vec![("alignment.csv".into(), csv(&all)?)],
            checks,
            details: String::new(),
            setting,
        })
    }
}
