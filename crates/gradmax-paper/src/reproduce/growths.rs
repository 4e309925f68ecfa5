//! The networks of one run, grown at several of its steps with each method: gradient norms right after, and losses from
//! there on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use gradmax::training::Trainer;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use super::kept;
use super::study::Study;
use gradmax_experiments::bench::{Bench, settings, train_to};
use gradmax_experiments::config::Experiment;
use gradmax_experiments::crew::{Done, Job, SharedData};
use gradmax_experiments::experiment;
use gradmax_experiments::method;

/// The line of the network that goes on without growing.
pub const NOT_GROWN: &str = "not grown";

/// Growths at steps of a run.
pub struct Growths {
    /// The run that leads to these steps, in one study: its method grows the network, or not.
    pub study: Study,
    /// The steps at which its network is grown.
    pub at: Vec<usize>,
    pub methods: Vec<GrownBy>,
    /// Whether training also goes on without growth.
    pub ungrown: bool,
    /// Further steps after a growth at which the loss is measured.
    pub marks: Vec<usize>,
}

/// A method, and how often it grows each network.
#[derive(Clone)]
pub struct GrownBy {
    pub method: &'static str,
    /// Draws, of which the first is trained on.
    pub repeats: u64,
    /// Whether to train on after growth.
    pub train: bool,
}

/// One growth, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grown {
    /// The step at which it happened, and its number.
    pub step: usize,
    pub growth: usize,
    pub method: String,
    pub repeat: u64,
    /// The norm of the new weights' gradients; none without growth.
    pub gradient_norm: Option<f64>,
    /// The loss before.
    pub loss: f64,
    /// The loss after further steps, at the marks.
    pub after: Vec<Option<f64>>,
}

/// The growths of one seed, to be measured.
struct Measurement {
    name: String,
    file: PathBuf,
    asked: String,
    experiment: Experiment,
    at: Vec<usize>,
    methods: Vec<GrownBy>,
    ungrown: bool,
    marks: Vec<usize>,
    work: u64,
}

impl Growths {
    fn file(&self, seed: u64) -> PathBuf {
        self.study.folder().join(format!("growths-seed{seed}.json"))
    }

    /// What is to be measured, a job a seed.
    pub fn jobs(&self) -> Result<Vec<Box<dyn Job>>> {
        let longest = self.marks.last().copied().unwrap_or(0);
        let steps = self.at.iter().max().copied().unwrap_or(0) + longest + 1;
        let trained = self.methods.iter().filter(|method| method.train).count() + usize::from(self.ungrown);
        let job = |seed: u64| {
            let mut experiment = self.study.experiment.clone();
            experiment.seed = seed;
            experiment.method = experiment.compare.methods[0].clone();
            (experiment.training.steps, experiment.training.epochs) = (Some(steps), None);
            for grown in &self.methods {
                // With all its options, as a run of it would have them.
                if let Some(options) = method::full_options(grown.method, &experiment.methods)? {
                    experiment.methods.insert(grown.method.into(), options);
                }
            }
            let experiment = experiment.checked()?;
            let a_step = experiment::training_flops(&experiment)? / steps as u64;
            let methods = self.methods.iter().map(|grown| (grown.method, grown.repeats, grown.train));
            let asked = (experiment.to_toml()?, &self.at, methods.collect::<Vec<_>>(), self.ungrown, &self.marks);
            let asked = serde_json::to_string(&asked)?;
            Ok(Box::new(Measurement {
                name: format!("{} growths, seed {seed}", self.study.name),
                file: self.file(seed),
                asked,
                at: self.at.clone(),
                methods: self.methods.clone(),
                ungrown: self.ungrown,
                marks: self.marks.clone(),
                work: a_step * (steps + trained * longest * self.at.len()) as u64,
                experiment,
            }) as Box<dyn Job>)
        };
        self.study.seeds().map(job).collect()
    }

    /// Every seed that is done, and its growths.
    pub fn grown(&self) -> Result<Vec<(u64, Vec<Grown>)>> {
        let done = self.study.seeds().filter(|seed| self.file(*seed).exists());
        done.map(|seed| Ok((seed, kept::read(&self.file(seed))?))).collect()
    }
}

impl Job for Measurement {
    fn name(&self) -> String {
        self.name.clone()
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
        let mut run = experiment::beginning(experiment)?;
        bar.set_length(self.at.len() as u64 * self.methods.len() as u64);
        let mut all = Vec::new();
        for (growth, step) in self.at.iter().enumerate() {
            let mut trainer = Trainer::new(settings.clone(), experiment::task(experiment, &data), &*data.train);
            if let Some(policy) =
                experiment::growth_settings(experiment, method::named(&experiment.method, &experiment.methods)?)?
            {
                trainer = trainer.with_growth(policy);
            }
            run = train_to(trainer, run, *step)?;
            let bench = Bench::new(experiment, &data, run)?;
            if self.ungrown {
                let after = bench.after(bench.start(), &self.marks)?.losses;
                let (loss, method) = (bench.look.loss(), NOT_GROWN.to_string());
                all.push(Grown { step: *step, growth, method, repeat: 0, gradient_norm: None, loss, after });
            }
            for grown in &self.methods {
                for repeat in 0..grown.repeats {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(Done::Stopped);
                    }
                    let (run, receipt) = bench.grow(grown.method, repeat, 1, None)?;
                    let after = match grown.train && repeat == 0 {
                        true => bench.after(run, &self.marks)?.losses,
                        false => Vec::new(),
                    };
                    all.push(Grown {
                        step: *step,
                        growth,
                        method: grown.method.into(),
                        repeat,
                        gradient_norm: receipt.gradient_norm(),
                        loss: receipt.loss_before,
                        after,
                    });
                }
                bar.inc(1);
            }
            run = bench.start();
        }
        kept::write(&self.file, &self.asked, all)?;
        Ok(Done::Finished)
    }
}
