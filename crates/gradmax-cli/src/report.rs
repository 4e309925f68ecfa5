//! Reports: one self-contained HTML page with charts, from finished or running runs.

mod chart;
pub mod comparison;
mod page;
mod receipts;
mod series;

pub use self::chart::{Area, Bar, BarChart, BarSeries, BarShape, Chart, Drawn, Theme, draw, draw_bars, text};
pub use self::comparison::with_error;
pub use self::page::growth_page;
pub use self::series::{MethodRuns, Point, Series, averaged};

use std::path::{Path, PathBuf};

use anyhow::Result;
use gradmax::{Receipt, Row};

use crate::config::Experiment;
use crate::failure::misuse;
use crate::folder::{RunFolder, RunSummary, write_whole};
use crate::table::{grouped, significant};

/// What a run folder holds.
pub struct RecordedRun {
    pub experiment: Experiment,
    pub rows: Vec<Row>,
    pub receipts: Vec<Receipt>,
    pub summary: Option<RunSummary>,
}

impl RecordedRun {
    pub fn read(folder: &RunFolder) -> Result<Self> {
        Ok(Self {
            experiment: folder.read_experiment()?,
            rows: folder.read_rows()?,
            receipts: folder.read_receipts()?,
            summary: folder.read_summary()?,
        })
    }
}

/// Writes a report of all runs in the folders.
pub fn write(folders: &[PathBuf], out: &Path) -> Result<()> {
    let mut runs = Vec::new();
    for folder in folders {
        let mut found = run_folders(folder);
        found.sort();
        for folder in found.into_iter().map(RunFolder::at) {
            runs.push(RecordedRun::read(&folder)?);
        }
    }
    if runs.is_empty() {
        let looked = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(misuse(format!("there are no runs in {looked}")));
    }
    write_whole(out, page::html(&runs, folders)?.as_bytes())
}

/// A run in one sentence.
pub fn sentence(summary: &RunSummary) -> String {
    let widths = summary.widths.iter().map(|(site, width)| format!("{site} {width}")).collect::<Vec<_>>().join(", ");
    let test = match (summary.final_test_score, summary.final_test_loss) {
        (Some(score), _) => format!(", test score {:.2} %", 100.0 * score),
        (None, Some(loss)) => format!(", test loss {}", significant(loss)),
        (None, None) => String::new(),
    };
    format!(
        "{} seed {}: training loss {}{test} after {} steps in {:.1} s; {} parameters ({widths})",
        summary.method,
        summary.seed,
        significant(summary.final_train_loss),
        summary.steps,
        summary.seconds,
        grouped(summary.parameters as u64)
    )
}

/// The run folders in a folder: itself, or those below it.
fn run_folders(folder: &Path) -> Vec<PathBuf> {
    if folder.join("config.toml").exists() {
        return vec![folder.to_path_buf()];
    }
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let below = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir());
    below.flat_map(|path| run_folders(&path)).collect()
}
