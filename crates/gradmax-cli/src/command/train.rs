//! `gradmax train`: one run.

use std::path::PathBuf;

use anyhow::Result;

use super::{configured, stem};
use crate::args::Train;
use gradmax_experiments::config::Experiment;
use gradmax_experiments::experiment::{self, Ending};
use gradmax_experiments::failure::{Interrupted, misuse};
use gradmax_experiments::folder::RunFolder;
use gradmax_experiments::interrupt::stop_on_interrupt;
use gradmax_experiments::method::Baseline;
use gradmax_experiments::output::{print_line, say};
use gradmax_experiments::progress::Bars;
use gradmax_experiments::ranks::Ranks;
use gradmax_experiments::report;

pub fn train(arguments: Train, ranks: &Ranks) -> Result<()> {
    let mut experiment = configured(&arguments.configured)?;
    if let Some(seed) = arguments.seed {
        experiment.seed = seed;
    }
    let experiment = alone(&experiment)?;
    experiment::check(&experiment)?;
    let folder = arguments.out.unwrap_or_else(|| {
        let run = format!("{}-seed{}", experiment.method, experiment.seed);
        PathBuf::from("runs").join(stem(&arguments.configured.config)).join(run)
    });
    let folder = RunFolder::at(folder);
    if ranks.is_first() {
        folder.create(&experiment)?;
        experiment::never_grows(&experiment)?.into_iter().for_each(|warning| say(&format!("warning: {warning}")));
    }
    // The others look into the folder once it is there.
    ranks.wait();
    go(&experiment, &folder, arguments.configured.quiet, ranks)
}

/// What a run of its own is, of the configuration's method.
fn alone(experiment: &Experiment) -> Result<Experiment> {
    let method = &experiment.method;
    match Baseline::of(method, &experiment.methods) {
        // The configuration of a comparison's run says how much it took.
        Some(Baseline::BigShort | Baseline::BigSeconds) if !experiment.training.budget.ends_runs() => {
            Err(misuse(format!(
                "the baseline `{method}` takes as much as another run, in a comparison; use `gradmax compare`, or `big` with a \
             `training.budget`"
            )))
        }
        _ => experiment.of_method(method, &[]),
    }
}

/// Runs to the end, from wherever the folder's run is; says how it ended, and writes its report.
pub fn go(experiment: &Experiment, folder: &RunFolder, quiet: bool, ranks: &Ranks) -> Result<()> {
    let stop = stop_on_interrupt()?;
    let device = gradmax_experiments::device::named(&experiment.device)?;
    let data = experiment.data.load(experiment.seed, &device)?;
    let bars = Bars::new(quiet || !ranks.is_first());
    let run_bar = bars.only_run(&experiment.method);
    let bar = run_bar.bar().clone();
    match experiment::run(experiment, &data, folder, run_bar, stop, ranks)? {
        Ending::Stopped => Err(Interrupted::in_folder(folder.path())),
        Ending::Finished(_) if !ranks.is_first() => Ok(()),
        Ending::Finished(summary) => {
            bar.finish_and_clear();
            report::write(&[folder.path().to_path_buf()], &folder.report())?;
            print_line(&format!("{}\nreport: {}", report::sentence(&summary), folder.report().display()))
        }
    }
}
