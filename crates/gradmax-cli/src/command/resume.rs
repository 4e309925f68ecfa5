//! `gradmax resume`: goes on where a run or a comparison was stopped.

use anyhow::Result;

use super::{compare, train};
use crate::args::Resume;
use gradmax_experiments::failure::misuse;
use gradmax_experiments::folder::RunFolder;
use gradmax_experiments::output::print_line;
use gradmax_experiments::report;

pub fn resume(arguments: Resume) -> Result<()> {
    let folder = &arguments.folder;
    if !folder.is_dir() {
        return Err(misuse(format!("there is no folder {}", folder.display())));
    }
    if compare::is_comparison(folder) {
        return compare::go_on(folder, arguments.jobs, arguments.quiet);
    }
    let folder = RunFolder::at(folder);
    let experiment = folder.read_experiment()?;
    if let Some(summary) = folder.read_summary()? {
        return print_line(&format!("already finished: {}", report::sentence(&summary)));
    }
    folder.admit(&experiment)?;
    train::go(&experiment, &folder, arguments.quiet)
}
