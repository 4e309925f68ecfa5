//! `gradmax resume`: goes on where a run or a comparison was stopped.

use anyhow::Result;

use super::compare::How;
use super::{compare, train};
use crate::args::Resume;
use gradmax_experiments::failure::misuse;
use gradmax_experiments::folder::RunFolder;
use gradmax_experiments::output::print_line;
use gradmax_experiments::ranks::Ranks;
use gradmax_experiments::report;

pub fn resume(arguments: Resume, ranks: &Ranks) -> Result<()> {
    let folder = &arguments.folder;
    if !folder.is_dir() {
        return Err(misuse(format!("there is no folder {}", folder.display())));
    }
    if compare::is_comparison(folder) {
        if !arguments.set.is_empty() {
            return Err(misuse("--set changes one run; name the folder of a run, or compare anew"));
        }
        let how = How { jobs: arguments.jobs, split: arguments.split, quiet: arguments.quiet };
        return compare::go_on(folder, &how, ranks);
    }
    let folder = RunFolder::at(folder);
    let experiment = folder.read_experiment_with(&arguments.set)?;
    if let Some(summary) = folder.read_summary()?.filter(|_| arguments.set.is_empty()) {
        let how = "to go on, raise its length with --set training.epochs=N, or training.steps";
        return match ranks.is_first() {
            true => print_line(&format!("already finished: {}\n{how}", report::sentence(&summary))),
            false => Ok(()),
        };
    }
    // Before the first changes anything in it.
    ranks.wait();
    match (ranks.is_first(), arguments.set.is_empty()) {
        (false, _) => {}
        (true, true) => folder.admit(&experiment)?,
        (true, false) => folder.reopen(&experiment)?,
    }
    train::go(&experiment, &folder, arguments.quiet, ranks)
}
