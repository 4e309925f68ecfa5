//! `gradmax watch`: the report of runs that go on, in a browser.

use anyhow::Result;

use crate::args::Watch;
use gradmax_experiments::failure::misuse;
use gradmax_experiments::output::print_line;
use gradmax_experiments::watch;

pub fn watch(arguments: Watch) -> Result<()> {
    if let Some(missing) = arguments.folders.iter().find(|folder| !folder.is_dir()) {
        return Err(misuse(format!("there is no folder {}", missing.display())));
    }
    let watch = watch::Watch::new(arguments.folders, arguments.port)?;
    print_line(&format!("watching: open {} in a browser on this machine; Ctrl-C ends it", watch.address()?))?;
    watch.serve()
}
