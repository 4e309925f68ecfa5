//! `gradmax report`: writes a report from runs, finished or not.

use anyhow::Result;

use crate::args::Report;
use gradmax_experiments::failure::misuse;
use gradmax_experiments::output::print_line;
use gradmax_experiments::report;

pub fn report(arguments: Report) -> Result<()> {
    if let Some(missing) = arguments.folders.iter().find(|folder| !folder.is_dir()) {
        return Err(misuse(format!("there is no folder {}", missing.display())));
    }
    let out = arguments.out.unwrap_or_else(|| arguments.folders[0].join("report.html"));
    report::write(&arguments.folders, &out)?;
    print_line(&format!("report: {}", out.display()))
}
