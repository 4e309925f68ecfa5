//! `gradmax shrink`: a run's network without the neurons that it can do without.

use std::path::{Path, PathBuf};

use anyhow::Result;
use gradmax::training::Shrink as HowMuch;

use super::train;
use crate::args::Shrink;
use gradmax_experiments::failure::{misuse, quoted};
use gradmax_experiments::folder::{RunFolder, write_whole};
use gradmax_experiments::output::print_line;
use gradmax_experiments::ranks::Ranks;
use gradmax_experiments::shrunk;

pub fn shrink(arguments: &Shrink, ranks: &Ranks) -> Result<()> {
    if ranks.count() > 1 {
        return Err(misuse("`shrink` is done by one process; start it without MPI"));
    }
    let from = RunFolder::at(&arguments.folder);
    let experiment = from.read_experiment()?;
    let to = RunFolder::at(arguments.out.clone().unwrap_or_else(|| beside(&arguments.folder)));
    let how = arguments.share.map_or(HowMuch::LossRise(arguments.rise), HowMuch::Share);
    let receipt = shrunk::write(&from, (&experiment, how, arguments.examples), &to)?;
    let page = to.path().join("shrink.html");
    write_whole(&page, shrunk::page(&receipt, to.path())?.as_bytes())?;
    print_line(&format!("{}\n\n{}\n\npage: {}", shrunk::sentence(&receipt), shrunk::table(&receipt), page.display()))?;
    match from.is_finished() {
        // The same examples say what the smaller network does.
        true => train::go(&experiment, &to, true, ranks),
        false => print_line(&format!("to go on: gradmax resume {}", quoted(to.path()))),
    }
}

/// The default folder: beside that of the run.
fn beside(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push("-shrunk");
    folder.with_file_name(name)
}
