//! The runs of a comparison: several methods on the same seeds.

use std::path::Path;

use anyhow::Result;

use crate::config::{CompareConfig, Experiment};
use crate::crew::{Job, TrainingRun};
use crate::experiment;
use crate::folder::RunFolder;
use crate::ranks::Ranks;

/// The method, seed and folder of every run, method by method.
pub fn comparison_folders(experiment: &Experiment, folder: &Path) -> impl Iterator<Item = (String, u64, RunFolder)> {
    let seeds = experiment.seeds();
    let runs = experiment.compare.methods.iter().flat_map(move |method| seeds.clone().map(move |seed| (method, seed)));
    runs.map(|(method, seed)| (method.clone(), seed, RunFolder::in_comparison(folder, method, seed)))
}

/// The runs, seed by seed, each checked before any is started and done by these processes together; `group` is what
/// progress calls the comparison.
pub fn comparison_runs(
    experiment: &Experiment,
    folder: &Path,
    group: Option<&str>,
    ranks: &Ranks,
) -> Result<Vec<Box<dyn Job>>> {
    for method in &experiment.compare.methods {
        experiment::check(&Experiment { method: method.clone(), ..experiment.clone() })?;
    }
    let mut runs = comparison_folders(experiment, folder).collect::<Vec<_>>();
    runs.sort_by_key(|(_, seed, _)| *seed);
    let run = |(method, seed, folder): (String, u64, RunFolder)| {
        let methods = experiment.methods.iter().filter(|(name, _)| **name == method);
        let methods = methods.map(|(name, options)| (name.clone(), options.clone())).collect();
        let compare = CompareConfig::default();
        let experiment = Experiment { method, seed, compare, methods, ..experiment.clone() }.checked()?;
        Ok(Box::new(TrainingRun::new(group.map(String::from), experiment, folder)?.by(ranks)) as Box<dyn Job>)
    };
    runs.into_iter().map(run).collect()
}
