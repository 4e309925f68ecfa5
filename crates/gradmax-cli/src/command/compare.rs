//! `gradmax compare`: methods on the same data and seeds, side by side.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow};
use gradmax::flexconv::with_threads;
use indicatif::ProgressBar;

use super::compare_at::At;
use super::{configured, stem, stop_on_interrupt};
use crate::args::Compare;
use crate::config::{CompareConfig, Experiment};
use crate::data::DataSet;
use crate::experiment::{self, Ending};
use crate::failure::{Interrupted, misuse, sentence};
use crate::folder::{RunFolder, RunSummary, comparison_file, write_whole};
use crate::progress::Bars;
use crate::report::{self, comparison};

pub fn compare(arguments: Compare) -> Result<()> {
    let mut experiment = configured(&arguments.configured)?;
    if let Some(methods) = arguments.methods {
        experiment.compare.methods = methods;
    }
    if let Some(seeds) = arguments.seeds {
        experiment.compare.seeds = seeds;
    }
    let experiment = experiment.checked()?;
    if experiment.compare.methods.is_empty() || experiment.compare.seeds == 0 {
        return Err(misuse("there is nothing to compare: name at least one method and one seed"));
    }
    let stem = stem(&arguments.configured.config);
    if let Some(checkpoint) = arguments.at {
        let at = At { checkpoint, repeats: arguments.repeats, out: arguments.out, name: stem };
        return at.compare(&experiment, arguments.configured.quiet);
    }
    let folder = arguments.out.unwrap_or_else(|| PathBuf::from("runs").join(stem));
    run_all(&experiment, &folder, arguments.jobs, arguments.configured.quiet)
}

/// Whether a folder holds a comparison.
pub fn is_comparison(folder: &Path) -> bool {
    comparison_file(folder).exists()
}

/// Goes on with the comparison in a folder.
pub fn go_on(folder: &Path, jobs: Option<usize>, quiet: bool) -> Result<()> {
    run_all(&Experiment::read(&comparison_file(folder), &[])?, folder, jobs, quiet)
}

/// One run of a comparison.
struct Job {
    experiment: Experiment,
    folder: RunFolder,
}

impl Job {
    fn name(&self) -> String {
        format!("{} seed {}", self.experiment.method, self.experiment.seed)
    }
}

fn run_all(experiment: &Experiment, folder: &Path, jobs: Option<usize>, quiet: bool) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = jobs.unwrap_or(cores);
    if workers == 0 {
        return Err(misuse("--jobs 0: at least one run at a time is needed"));
    }
    let queue = queue(experiment, folder)?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    write_whole(&comparison_file(folder), experiment.to_toml()?.as_bytes())?;

    let stop = stop_on_interrupt()?;
    let crew = Crew::new(experiment, quiet, queue.len())?;
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(job) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !crew.run(job, stop) {
                break;
            }
        }
    };
    // Every worker has its share of the cores to itself, so that runs do not wait for each other's operations.
    let workers = workers.min(queue.len());
    let cores_each = (cores / workers.max(1)).max(1);
    std::thread::scope(|scope| {
        (0..workers).for_each(|_| drop(scope.spawn(|| with_threads(cores_each, work))));
    });
    let Finished { mut summaries, failures } = crew.into_finished();
    if stop.load(Ordering::Relaxed) {
        return Err(anyhow::Error::new(Interrupted(folder.display().to_string())));
    }
    let order = |summary: &RunSummary| experiment.compare.methods.iter().position(|name| *name == summary.method);
    summaries.sort_by_key(|summary| (order(summary), summary.seed));
    if !summaries.is_empty() {
        write_results(experiment, folder, &summaries)?;
    }
    match failures.len() {
        0 => Ok(()),
        count => Err(anyhow!("{count} of {} runs failed, the first of them {}", queue.len(), failures[0])),
    }
}

/// The runs of a comparison, seed by seed, each checked before any is started.
fn queue(experiment: &Experiment, folder: &Path) -> Result<Vec<Job>> {
    let mut queue = Vec::new();
    for method in &experiment.compare.methods {
        experiment::check(&Experiment { method: method.clone(), ..experiment.clone() })?;
    }
    for seed in (0..experiment.compare.seeds).map(|offset| experiment.seed + offset) {
        for method in &experiment.compare.methods {
            let compare = CompareConfig::default();
            let methods = experiment.methods.iter().filter(|(name, _)| *name == method);
            let methods = methods.map(|(name, options)| (name.clone(), options.clone())).collect();
            let experiment = Experiment { method: method.clone(), seed, compare, methods, ..experiment.clone() };
            let experiment = experiment.checked()?;
            let folder = RunFolder::in_comparison(folder, method, seed);
            if folder.config().exists() && folder.read_experiment()? != experiment {
                return Err(misuse(format!(
                    "{} holds a run of another configuration; choose another folder with --out, or delete it",
                    folder.path().display()
                )));
            }
            queue.push(Job { experiment, folder });
        }
    }
    Ok(queue)
}

/// What the workers of a comparison share.
struct Crew {
    shared_data: Option<DataSet>,
    bars: Bars,
    overall: ProgressBar,
    finished: Mutex<Finished>,
}

#[derive(Default)]
struct Finished {
    summaries: Vec<RunSummary>,
    failures: Vec<String>,
}

impl Crew {
    fn new(experiment: &Experiment, quiet: bool, runs: usize) -> Result<Self> {
        let shared_data = match experiment.data.depends_on_seed() {
            true => None,
            false => Some(experiment.data.load(experiment.seed, &crate::device::named(&experiment.device)?)?),
        };
        let bars = Bars::new(quiet);
        let overall = bars.runs("all", runs as u64);
        Ok(Self { shared_data, bars, overall, finished: Mutex::default() })
    }

    /// Does one job, unless it is done; false if the worker should stop.
    fn run(&self, job: &Job, stop: &AtomicBool) -> bool {
        let bar = self.bars.run(&job.name());
        let ending = self.finish(job, &bar, stop);
        bar.finish_and_clear();
        let mut finished = self.finished.lock().expect("no worker panics while it holds the list");
        match ending {
            Ok(Ending::Stopped) => return false,
            Ok(Ending::Finished(summary)) => finished.summaries.push(summary),
            Err(error) => finished.failures.push(format!("{}: {}", job.name(), sentence(&error))),
        }
        self.overall.inc(1);
        true
    }

    fn finish(&self, job: &Job, bar: &ProgressBar, stop: &AtomicBool) -> Result<Ending> {
        if let Some(summary) = job.folder.read_summary()? {
            return Ok(Ending::Finished(summary));
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(Ending::Stopped);
        }
        if !job.folder.config().exists() {
            job.folder.create(&job.experiment)?;
        }
        let run = |data: &DataSet| experiment::run(&job.experiment, data, &job.folder, bar.clone(), stop);
        let ending = match &self.shared_data {
            Some(data) => run(data),
            None => {
                run(&job.experiment.data.load(job.experiment.seed, &crate::device::named(&job.experiment.device)?)?)
            }
        }?;
        if let Ending::Finished(_) = ending {
            report::write(&[job.folder.path().to_path_buf()], &job.folder.report())?;
        }
        Ok(ending)
    }

    fn into_finished(self) -> Finished {
        self.overall.finish_and_clear();
        self.finished.into_inner().expect("no worker panics while it holds the list")
    }
}

fn write_results(experiment: &Experiment, folder: &Path, summaries: &[RunSummary]) -> Result<()> {
    write_whole(&folder.join("summary.csv"), &comparison::csv(summaries)?)?;
    let table = comparison::table(summaries, &experiment.compare, folder)?;
    let text = format!("{}\n\n{}\n", comparison::caption(&experiment.compare, summaries), table);
    write_whole(&folder.join("summary.md"), text.as_bytes())?;
    let page = folder.join("report.html");
    report::write(&[folder.to_path_buf()], &page)?;
    println!("{text}\nreport: {}", page.display());
    Ok(())
}
