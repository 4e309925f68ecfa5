//! Reports: one self-contained HTML page with charts, from finished or running runs.

mod chart;
mod charts;
pub mod comparison;
mod groups;
mod page;
mod receipts;
mod series;
mod verdict;

pub use self::chart::{Area, Bar, BarChart, BarSeries, BarShape, Chart, Drawn, LineChart, Theme, text};
pub use self::comparison::with_error;
pub use self::page::{growth_page, look_page};
pub use self::series::{MethodRuns, Point, Series, averaged};
pub use self::verdict::verdict;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gradmax::event::{Receipt, SiteReceipt};
use gradmax::training::{Row, SiteShrinkage, Undone};

use crate::config::Experiment;
use crate::failure::misuse;
use crate::folder::{RunFolder, RunSummary, comparison_file, tuning_folder, write_whole};
use crate::table::{grouped, significant};

/// What a run folder holds.
pub struct RecordedRun {
    /// The folder.
    pub folder: PathBuf,
    /// Its configuration.
    pub experiment: Experiment,
    /// What was measured.
    pub rows: Vec<Row>,
    /// Its growth events.
    pub receipts: Vec<Receipt>,
    /// What was taken back of them.
    pub undone: Vec<Undone>,
    /// How it ended, if it has.
    pub summary: Option<RunSummary>,
    /// Why it failed when it was last tried.
    pub failure: Option<String>,
    /// Whether a program is at work on it.
    pub running: bool,
}

impl RecordedRun {
    /// Reads a run from its folder.
    pub fn read(folder: &RunFolder) -> Result<Self> {
        Ok(Self {
            folder: folder.path().to_path_buf(),
            experiment: folder.read_experiment()?,
            rows: folder.read_rows()?,
            receipts: folder.read_receipts()?,
            undone: folder.read_undone()?,
            summary: folder.read_summary()?,
            failure: folder.read_failure(),
            running: folder.is_running(),
        })
    }
}

/// Writes a report of all runs in the folders, each folder once, however it is reached.
pub fn write(folders: &[PathBuf], out: &Path) -> Result<()> {
    let (title, runs) = read(folders)?;
    if runs.is_empty() {
        let looked = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(misuse(format!("there are no runs in {looked}")));
    }
    write_whole(out, page::html(&title, &groups::by_experiment(runs), page::Refresh::Never)?.as_bytes())
}

/// The same page for a browser that shows it while runs go on, and asks for it again and again.
///
/// # Errors
/// If a run cannot be read.
pub fn live(folders: &[PathBuf]) -> Result<String> {
    let (title, runs) = read(folders)?;
    page::html(&title, &groups::by_experiment(runs), page::Refresh::Often)
}

/// All runs in the folders, and a title for them.
fn read(folders: &[PathBuf]) -> Result<(String, Vec<RecordedRun>)> {
    let (mut runs, mut seen) = (Vec::new(), BTreeSet::new());
    for folder in folders {
        let mut found = run_folders(folder);
        found.sort();
        for folder in found {
            let real = std::fs::canonicalize(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
            if seen.insert(real) {
                runs.push(RecordedRun::read(&RunFolder::at(folder))?);
            }
        }
    }
    let name = std::fs::canonicalize(&folders[0])?.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok((name.unwrap_or_else(|| "gradmax".into()), runs))
}

/// A growth event in one sentence.
pub fn growth_sentence(receipt: &Receipt) -> String {
    let step = grouped(receipt.step as u64);
    if let Some(reason) = &receipt.refused {
        return format!("step {step}: growth refused: {reason}");
    }
    let site = |site: &SiteReceipt| format!("{} {} -> {}", site.site, site.width - site.added, site.width);
    let sites = match receipt.sites.len() {
        0..=4 => receipt.sites.iter().map(site).collect::<Vec<_>>().join(", "),
        count => format!("{} neurons at {count} sites", receipt.sites.iter().map(|site| site.added).sum::<usize>()),
    };
    let [_, parameters] = receipt.parameters;
    let change = match receipt.output_change {
        None => String::new(),
        Some(0.0) => ", output unchanged".into(),
        Some(change) => format!(", output changed by {change:.0e}"),
    };
    format!("step {step}: grown: {sites}; {} parameters{change}", grouped(parameters as u64))
}

/// What was taken back of a growth event, in one sentence.
pub fn undone_sentence(undone: &Undone) -> String {
    let [step, grown] = [undone.step, undone.grown].map(|step| grouped(step as u64));
    let sites = &undone.shrinkage.sites;
    let site = |site: &SiteShrinkage| format!("{} {} -> {}", site.site, site.before, site.after);
    let what = match sites.len() {
        0 => return format!("step {step}: the neurons that came at step {grown} are all needed"),
        1..=4 => sites.iter().map(site).collect::<Vec<_>>().join(", "),
        count => format!("{} neurons at {count} sites", undone.shrinkage.removed()),
    };
    let [_, parameters] = undone.shrinkage.parameters;
    format!("step {step}: taken back of what came at step {grown}: {what}; {} parameters", grouped(parameters as u64))
}

/// A run in one sentence.
pub fn sentence(summary: &RunSummary) -> String {
    let widths = summary.widths.iter().map(|(site, width)| format!("{site} {width}")).collect::<Vec<_>>().join(", ");
    let test = match (summary.final_test_score, summary.final_test_loss) {
        _ if summary.of_text => {
            summary.bits_per_byte().map_or_else(String::new, |bits| format!(", {bits:.3} bits a test byte"))
        }
        (Some(score), _) => format!(", test score {:.2} %", 100.0 * score),
        (None, Some(loss)) => format!(", test loss {}", significant(loss)),
        (None, None) => String::new(),
    };
    let kept = match summary.kept_step {
        step if step == summary.steps || summary.final_validation_loss.is_none() => String::new(),
        step => format!(" (the network of step {} is kept)", grouped(step as u64)),
    };
    let together = match summary.ranks {
        0 | 1 => String::new(),
        ranks => {
            let share = 100.0 * summary.sums_seconds / summary.seconds.max(f64::MIN_POSITIVE);
            format!(" on {ranks} ranks, {share:.0} % of it for what goes between them")
        }
    };
    format!(
        "{} seed {}: training loss {}{test} after {} steps{kept} in {:.1} s{together}; {} parameters ({widths})",
        summary.method,
        summary.seed,
        significant(summary.final_train_loss),
        grouped(summary.steps as u64),
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
    // Runs that tune a comparison are no part of what it says.
    let tunes = |path: &Path| comparison_file(folder).exists() && path == tuning_folder(folder);
    let below = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir() && !tunes(path));
    below.flat_map(|path| run_folders(&path)).collect()
}
