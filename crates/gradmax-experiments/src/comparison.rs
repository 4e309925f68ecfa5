//! The runs of a comparison: several methods on the same seeds, each with a learning rate of its own if that is tuned, and
//! some of them for as many operations or seconds as the reference takes.

mod tuning;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use gradmax::policies::Budget;
use toml::Value;

pub use self::tuning::Tuning;

use crate::config::{Experiment, Tune};
use crate::crew::{Job, TrainingRun};
use crate::experiment;
use crate::failure::misuse;
use crate::folder::{RunFolder, RunSummary};
use crate::method::{self, Method, Within};
use crate::ranks::Ranks;

/// The method, seed and folder of every run that is reported, method by method.
pub fn comparison_folders(experiment: &Experiment, folder: &Path) -> impl Iterator<Item = (String, u64, RunFolder)> {
    let seeds = experiment.seeds();
    let runs = experiment.compare.methods.iter().flat_map(move |method| seeds.clone().map(move |seed| (method, seed)));
    runs.map(|(method, seed)| (method.clone(), seed, RunFolder::in_comparison(folder, method, seed)))
}

/// The runs of a comparison, in the order in which what they depend on is known.
pub struct Comparison<'a> {
    experiment: &'a Experiment,
    folder: &'a Path,
    /// What progress calls it.
    group: Option<&'a str>,
    ranks: &'a Ranks,
    /// The folders of the runs that were given out.
    given: BTreeSet<PathBuf>,
}

/// Runs that can be done at the same time.
pub struct Stage {
    /// Whether they tune, and are not reported: then one that fails says only that its value is not to be chosen.
    pub tunes: bool,
    /// The runs.
    pub jobs: Vec<Box<dyn Job>>,
}

/// A run of a comparison, before it is known whether it can begin.
struct Planned {
    method: String,
    seed: u64,
    folder: RunFolder,
    /// The value that is tried, in a run that tunes.
    tries: Option<Value>,
}

impl<'a> Comparison<'a> {
    /// All runs, checked before any is started, which these processes do together; `group` is what progress calls the
    /// comparison.
    ///
    /// # Errors
    /// If the configuration does not make sense for one of the methods.
    pub fn new(experiment: &'a Experiment, folder: &'a Path, group: Option<&'a str>, ranks: &'a Ranks) -> Result<Self> {
        for method in &experiment.compare.methods {
            experiment::check(&experiment.of_method(method, &[])?)?;
        }
        let comparison = Self { experiment, folder, group, ranks, given: BTreeSet::new() };
        comparison.check_reference()?;
        Ok(comparison)
    }

    fn check_reference(&self) -> Result<()> {
        let Experiment { compare, methods, .. } = self.experiment;
        let mut limited = compare.methods.iter().filter(|method| Within::of(method, methods).is_some());
        let Some(limited) = limited.next() else {
            return Ok(());
        };
        let reference = &compare.reference;
        let grows = matches!(method::named(reference, methods)?, Method::Grow(_));
        match grows && Within::of(reference, methods).is_none() {
            true => Ok(()),
            false => Err(misuse(format!(
                "`{limited}` takes as much as the reference of the comparison, and that is `{reference}`, which does not grow, or \
                 takes as much as the reference itself; name another in `compare.reference`, or with --set \
                 compare.reference=gradmax"
            ))),
        }
    }

    /// The runs that can be done now and were not given out before: first those that tune, as their references are tuned,
    /// then, seed by seed, those that are reported, as their references end. None if there are no more.
    ///
    /// # Errors
    /// If a folder holds another run, or cannot be read.
    pub fn ready(&mut self) -> Result<Option<Stage>> {
        let mut stage = Stage { tunes: true, jobs: Vec::new() };
        // Known as given out only after this: until then they have not ended.
        let mut given = Vec::new();
        for run in self.planned() {
            let tunes = run.tries.is_some();
            if !tunes && stage.tunes && !stage.jobs.is_empty() {
                break;
            }
            stage.tunes = tunes;
            if !self.given.contains(run.folder.path())
                && let Some(experiment) = self.experiment_of(&run)?
            {
                given.push(run.folder.path().to_path_buf());
                let tuning = run.tries.map(|value| format!("tuning {value}"));
                let group = self.group.map(String::from).into_iter().chain(tuning).collect::<Vec<_>>().join(" ");
                let group = Some(group).filter(|group| !group.is_empty());
                stage.jobs.push(Box::new(TrainingRun::new(group, experiment, run.folder)?.by(self.ranks)));
            }
        }
        self.given.extend(given);
        Ok(Some(stage).filter(|stage| !stage.jobs.is_empty()))
    }

    /// A sentence for each run that could not begin, since those that it depends on have failed.
    ///
    /// # Errors
    /// If a summary is damaged.
    pub fn left_out(&self) -> Result<Vec<String>> {
        let mut sentences = Vec::new();
        for run in self.planned().into_iter().filter(|run| run.tries.is_none()) {
            if self.given.contains(run.folder.path()) {
                continue;
            }
            let tuning = self.tunings().into_iter().find(|tuning| tuning.method == run.method);
            let untuned = match &tuning {
                Some(tuning) if tuning.chosen()?.is_none() => {
                    tuning.runs().find_map(|(.., folder)| folder.read_failure())
                }
                _ => None,
            };
            let reason = match untuned {
                Some(reason) => format!("every value that was tried has failed, the first with: {reason}"),
                None => "there is no run of the reference on this seed to take as much as".into(),
            };
            sentences.push(format!("{} seed {}: {reason}", run.method, run.seed));
        }
        Ok(sentences)
    }

    /// All runs, those that tune before the others.
    fn planned(&self) -> Vec<Planned> {
        let mut runs = Vec::new();
        for tuning in self.tunings() {
            for (value, seed, folder) in tuning.runs() {
                let method = tuning.method.to_string();
                runs.push(Planned { method, seed, folder, tries: Some(value.clone()) });
            }
        }
        let tuned = runs.len();
        let reported = comparison_folders(self.experiment, self.folder);
        runs.extend(reported.map(|(method, seed, folder)| Planned { method, seed, folder, tries: None }));
        runs[tuned..].sort_by_key(|run| run.seed);
        runs
    }

    fn tunings(&self) -> Vec<Tuning<'a>> {
        Tuning::all(self.experiment, self.folder)
    }

    /// The configuration of a run, if what it depends on is known.
    fn experiment_of(&self, run: &Planned) -> Result<Option<Experiment>> {
        let value = match (&self.experiment.compare.tune, &run.tries) {
            (None, _) => None,
            (Some(tune), Some(value)) => Some((tune, value.clone())),
            (Some(tune), None) => match self.chosen(&run.method)? {
                Some(value) => Some((tune, value)),
                None => return Ok(None),
            },
        };
        let further = value.iter().map(|(Tune { key, .. }, value)| (key.as_str(), value.clone())).collect::<Vec<_>>();
        let experiment = Experiment { seed: run.seed, ..self.experiment.of_method(&run.method, &further)? };
        let Some(within) = Within::of(&run.method, &self.experiment.methods) else {
            return experiment.checked().map(Some);
        };
        match self.reference(run)? {
            None => Ok(None),
            Some(reference) => experiment.within(budget(within, &reference)).checked().map(Some),
        }
    }

    /// The value of what is tuned that a method is to have, once all its runs that tune have ended.
    fn chosen(&self, method: &str) -> Result<Option<Value>> {
        let Some(tuning) = self.tunings().into_iter().find(|tuning| tuning.method == method) else {
            return Ok(None);
        };
        // What was given out and is not finished has failed.
        let is_open = |folder: &RunFolder| !folder.is_finished() && !self.given.contains(folder.path());
        if tuning.runs().any(|(.., folder)| is_open(&folder)) {
            return Ok(None);
        }
        Ok(tuning.chosen()?.cloned())
    }

    /// How the reference's run of the same seed ended that a run takes its budget from: for one that tunes, the one with
    /// the value that was chosen for the reference.
    fn reference(&self, run: &Planned) -> Result<Option<RunSummary>> {
        let reference = &self.experiment.compare.reference;
        let folder = match run.tries {
            None => RunFolder::in_comparison(self.folder, reference, run.seed),
            Some(_) => match self.chosen(reference)? {
                None => return Ok(None),
                Some(value) => Tuning::folder(self.folder, reference, &value, run.seed),
            },
        };
        folder.read_summary()
    }
}

fn budget(within: Within, reference: &RunSummary) -> Budget {
    match within {
        Within::Flops => Budget { flops: Some(reference.train_flops), ..Budget::default() },
        Within::Seconds => Budget { seconds: Some(reference.seconds), ..Budget::default() },
    }
}
