//! Which runs belong together: those of one experiment, which differ in method, seed and device only.

use std::collections::BTreeMap;
use std::path::Path;

use super::RecordedRun;
use anyhow::Result;
use toml::Table;

use crate::comparison::Tuning;
use crate::config::{CompareConfig, Experiment};
use crate::edits::keys;
use crate::folder::{RunSummary, comparison_file};
use crate::method::MethodOptions;

/// The runs of one experiment.
pub struct Group {
    /// What the experiment is called: the name of its folder.
    pub name: String,
    /// In order of appearance, each method and seed once.
    pub runs: Vec<RecordedRun>,
    /// Runs of a method and a seed that were there already, in other folders.
    pub repeats: usize,
}

impl Group {
    /// The experiment's configuration, of the first run.
    pub fn experiment(&self) -> &Experiment {
        &self.runs[0].experiment
    }

    /// How its comparison was set up, if it is one: with all methods that there are.
    pub fn comparison(&self) -> Option<CompareConfig> {
        let folder = self.comparison_folder()?;
        let mut compare = Experiment::read(&comparison_file(folder), &[]).ok()?.compare;
        for run in &self.runs {
            if !compare.methods.contains(&run.experiment.method) {
                compare.methods.push(run.experiment.method.clone());
            }
        }
        Some(compare)
    }

    /// The finished runs' last words.
    pub fn summaries(&self) -> Vec<RunSummary> {
        self.runs.iter().filter_map(|run| run.summary.clone()).collect()
    }

    /// The costs of all growth events of each method, in training steps.
    pub fn growth_costs(&self) -> BTreeMap<String, Vec<f64>> {
        let mut costs = BTreeMap::<_, Vec<_>>::new();
        for run in &self.runs {
            let of_run = run.receipts.iter().filter_map(|receipt| receipt.timing.growth_in_steps);
            costs.entry(run.experiment.method.clone()).or_default().extend(of_run);
        }
        costs
    }

    /// What has to be known about runs that are not in the table.
    pub fn notes(&self) -> Vec<String> {
        let failed = self.runs.iter().filter(|run| run.summary.is_none());
        let failed = failed.filter_map(|run| {
            let reason = run.failure.as_ref()?;
            Some(format!("{} seed {}: {reason}", run.experiment.method, run.experiment.seed))
        });
        let failed = failed.collect::<Vec<_>>();
        let mut notes = Vec::new();
        if !failed.is_empty() {
            notes.push(format!("{} of {} runs failed: {}.", failed.len(), self.runs.len(), failed.join("; ")));
        }
        if self.repeats > 0 {
            let runs = if self.repeats == 1 { "1 run repeats".into() } else { format!("{} runs repeat", self.repeats) };
            notes.push(format!("{runs} a method and seed of another folder, and do not count."));
        }
        notes
    }

    /// The folder of its comparison, if it is one.
    pub fn comparison_folder(&self) -> Option<&Path> {
        self.runs.iter().find_map(|run| comparison_of(&run.folder))
    }

    /// What the comparison's methods were tuned to, as a caption and a table in Markdown.
    ///
    /// # Errors
    /// If the comparison cannot be read.
    pub fn tuning(&self) -> Result<Option<(String, String)>> {
        match self.comparison_folder() {
            None => Ok(None),
            Some(folder) => Tuning::table(&Experiment::read(&comparison_file(folder), &[])?, folder),
        }
    }

    /// The options of all methods.
    pub fn method_options(&self) -> MethodOptions {
        self.runs.iter().flat_map(|run| run.experiment.methods.clone()).collect()
    }

    fn takes(&self, run: &RecordedRun) -> bool {
        let same_options = |other: &RecordedRun| {
            let method = &run.experiment.method;
            other.experiment.method != *method
                || other.experiment.methods.get(method) == run.experiment.methods.get(method)
        };
        self.runs.iter().all(same_options) && self.runs.iter().any(|known| is_same(&known.experiment, &run.experiment))
    }

    fn add(&mut self, run: RecordedRun) {
        let of = |run: &RecordedRun| (run.experiment.method.clone(), run.experiment.seed);
        match self.runs.iter_mut().find(|known| of(known) == of(&run)) {
            None => self.runs.push(run),
            Some(known) => {
                self.repeats += 1;
                // The one that says more stays.
                if known.summary.is_none() && run.summary.is_some() {
                    *known = run;
                }
            }
        }
    }
}

/// The runs by experiment, in order of appearance, under names of their own.
pub fn by_experiment(runs: Vec<RecordedRun>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|group| group.takes(&run)) {
            Some(group) => group.add(run),
            None => groups.push(Group { name: name_of(&run.folder), runs: vec![run], repeats: 0 }),
        }
    }
    for index in 0..groups.len() {
        let same = groups[..index].iter().filter(|group| group.name == groups[index].name).count();
        if same > 0 {
            groups[index].name = groups[index].runs[0].folder.display().to_string();
        }
    }
    groups
}

/// Whether two runs are of one experiment: their configurations are the same but for method, seed and device, and for what
/// their methods change.
fn is_same(a: &Experiment, b: &Experiment) -> bool {
    let own = [a.keys_of_method(), b.keys_of_method()].concat();
    let is_own = |key: &str| {
        let is_in =
            |own: &String| key.strip_prefix(own.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        own.iter().any(is_in)
    };
    let shared = |experiment: &Experiment| {
        let shared = Experiment {
            method: String::new(),
            seed: 0,
            device: String::new(),
            compare: CompareConfig::default(),
            methods: BTreeMap::new(),
            ..experiment.clone()
        };
        let keys = keys(&Table::try_from(&shared).ok()?);
        Some(keys.into_iter().filter(|(key, _)| !is_own(key)).collect::<Table>())
    };
    shared(a) == shared(b)
}

/// The comparison that a run's folder is in.
fn comparison_of(run: &Path) -> Option<&Path> {
    run.parent()?.parent().filter(|folder| comparison_file(folder).exists())
}

/// The comparison's name, or that of the folder that the run's is in.
fn name_of(run: &Path) -> String {
    let folder = comparison_of(run).or_else(|| run.parent()).unwrap_or(run);
    folder.file_name().unwrap_or(run.as_os_str()).to_string_lossy().into_owned()
}
