//! Jobs done side by side: each worker has its share of the cores to itself, so that jobs do not wait for each other's
//! operations.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use flexconv::with_threads;
use indicatif::ProgressBar;

use crate::config::Experiment;
use crate::data::DataSet;
use crate::device;
use crate::experiment::{self, Ending};
use crate::failure::{caught, misuse, sentence};
use crate::folder::RunFolder;
use crate::progress::{Bars, RunBar};
use crate::ranks::Ranks;
use crate::report;

/// Something to do once: what is done already returns at once.
pub trait Job: Sync {
    /// What progress and failures call it.
    fn name(&self) -> String;

    /// Whether it is done.
    fn is_done(&self) -> bool;

    /// How much there is to do, in a unit that jobs share.
    fn work(&self) -> u64;

    /// Does it, or goes on with it, to its end or until stopped.
    fn run(&self, data: &SharedData, bar: ProgressBar, stop: &AtomicBool) -> Result<Done>;

    /// Keeps why it failed, where it keeps what it makes.
    fn failed(&self, _reason: &str) {}
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It came to its end.
    Finished,
    /// It was stopped, after a checkpoint.
    Stopped,
}

/// Data sets that jobs share.
#[derive(Default)]
pub struct SharedData(Mutex<HashMap<String, DataSet>>);

impl SharedData {
    /// The data of an experiment, for one run: read once where all seeds share it, but with nothing in it that runs
    /// would take from each other.
    pub fn of(&self, experiment: &Experiment) -> Result<DataSet> {
        let load = || experiment.data.load(experiment.seed, &device::named(&experiment.device)?);
        if experiment.data.depends_on_seed() {
            return load();
        }
        let key = format!("{} {}", experiment.device, toml::to_string(&experiment.data)?);
        // Held while it is read: others that want it would only read it again.
        // A worker that panicked while it read data has put none here.
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = sets.get(&key) {
            return Ok(set.for_one_run());
        }
        let set = load()?;
        sets.insert(key, set.for_one_run());
        Ok(set)
    }
}

/// The number of workers for `--jobs`, checked: one for each core if nothing is asked for.
pub fn workers(asked: Option<usize>) -> Result<usize> {
    match asked {
        Some(0) => Err(misuse("--jobs 0: at least one run at a time is needed")),
        Some(jobs) => Ok(jobs),
        None => Ok(cores()),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Does all jobs in order, `workers` at a time, until stopped; returns a sentence for each job that failed.
pub fn work(jobs: &[&dyn Job], workers: usize, bars: &Bars, data: &SharedData, stop: &AtomicBool) -> Vec<String> {
    let (done, ahead): (Vec<_>, Vec<_>) = jobs.iter().partition(|job| job.is_done());
    let of = |jobs: &[&&dyn Job]| jobs.iter().map(|job| job.work()).sum::<u64>();
    let overall = bars.all(of(&done) + of(&ahead), of(&done));
    let ended = AtomicUsize::new(0);
    let count = |more: usize| {
        let ended = ended.fetch_add(more, Ordering::Relaxed) + more;
        overall.set_message(format!("{ended}/{} runs", jobs.len()));
    };
    count(done.len());
    let failures = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(job) = ahead.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let done = match job.is_done() {
                // By another program, in the meantime.
                true => Ok(Done::Finished),
                false => {
                    let bar = bars.run(&job.name());
                    let done = caught(|| job.run(data, bar.clone(), stop));
                    bar.finish_and_clear();
                    done
                }
            };
            match done {
                Ok(Done::Finished) => {}
                Ok(Done::Stopped) => break,
                Err(error) => {
                    let reason = sentence(&error);
                    job.failed(&reason);
                    let failure = format!("{}: {reason}", job.name());
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                }
            }
            overall.inc(job.work());
            count(1);
        }
    };
    let workers = workers.min(ahead.len());
    let cores_each = (cores() / workers.max(1)).max(1);
    std::thread::scope(|scope| {
        (0..workers).for_each(|_| drop(scope.spawn(|| with_threads(cores_each, work))));
    });
    overall.finish_and_clear();
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// One training run in a folder of its own.
pub struct TrainingRun {
    /// What progress calls the comparison that it belongs to, if there are several.
    group: Option<String>,
    experiment: Experiment,
    folder: RunFolder,
    work: u64,
    /// The processes that do it together.
    ranks: Ranks,
}

impl TrainingRun {
    /// The run, if the folder is free for it or holds it already.
    pub fn new(group: Option<String>, experiment: Experiment, folder: RunFolder) -> Result<Self> {
        if folder.config().exists() && folder.read_experiment()? != experiment {
            return Err(misuse(format!(
                "{} holds a run of another configuration; choose another folder with --out, or delete it",
                folder.path().display()
            )));
        }
        let work = experiment::training_flops(&experiment)?;
        Ok(Self { group, experiment, folder, work, ranks: Ranks::alone() })
    }

    /// The same run, done together with other processes.
    #[must_use]
    pub fn by(self, ranks: &Ranks) -> Self {
        Self { ranks: ranks.clone(), ..self }
    }
}

impl Job for TrainingRun {
    fn name(&self) -> String {
        let name = format!("{} seed {}", self.experiment.method, self.experiment.seed);
        self.group.as_ref().map_or(name.clone(), |group| format!("{group} {name}"))
    }

    fn is_done(&self) -> bool {
        self.folder.is_finished()
    }

    fn work(&self) -> u64 {
        self.work
    }

    fn run(&self, data: &SharedData, bar: ProgressBar, stop: &AtomicBool) -> Result<Done> {
        if self.ranks.is_first() {
            if !self.folder.config().exists() {
                self.folder.create(&self.experiment)?;
            }
            self.folder.forget_failure();
        }
        self.ranks.wait();
        let data = data.of(&self.experiment)?;
        match experiment::run(&self.experiment, &data, &self.folder, RunBar::one_of_many(bar), stop, &self.ranks)? {
            Ending::Stopped => Ok(Done::Stopped),
            Ending::Finished(_) if !self.ranks.is_first() => Ok(Done::Finished),
            Ending::Finished(_) => {
                report::write(&[self.folder.path().to_path_buf()], &self.folder.report())?;
                Ok(Done::Finished)
            }
        }
    }

    fn failed(&self, reason: &str) {
        self.folder.keep_failure(reason);
    }
}
