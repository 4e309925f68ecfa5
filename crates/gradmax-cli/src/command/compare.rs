//! `gradmax compare`: methods on the same data and seeds, side by side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, anyhow};

use super::compare_at::At;
use super::{configured, stem};
use crate::args::Compare;
use gradmax_experiments::comparison::{comparison_folders, comparison_runs};
use gradmax_experiments::config::Experiment;
use gradmax_experiments::crew::{self, SharedData};
use gradmax_experiments::experiment;
use gradmax_experiments::failure::{Interrupted, misuse};
use gradmax_experiments::folder::{RunSummary, comparison_file, refuse_run, write_whole};
use gradmax_experiments::interrupt::stop_on_interrupt;
use gradmax_experiments::output::{print_line, say};
use gradmax_experiments::progress::Bars;
use gradmax_experiments::ranks::Ranks;
use gradmax_experiments::report::{self, comparison};

pub fn compare(arguments: Compare, ranks: &Ranks) -> Result<()> {
    let mut experiment = configured(&arguments.configured)?;
    if let Some(methods) = arguments.methods {
        experiment.compare.methods = methods;
    }
    if let Some(seeds) = arguments.seeds {
        experiment.compare.seeds = seeds;
    }
    let experiment = experiment.checked()?;
    if experiment.compare.methods.is_empty() || experiment.compare.seeds == 0 {
        return Err(misuse("there is nothing to compare: name at least one method and one seed"));
    }
    let stem = stem(&arguments.configured.config);
    if let Some(checkpoint) = arguments.at {
        let at = At { checkpoint, repeats: arguments.repeats, out: arguments.out, name: stem };
        return at.compare(&experiment, arguments.configured.quiet);
    }
    let folder = arguments.out.unwrap_or_else(|| PathBuf::from("runs").join(stem));
    run_all(&experiment, &folder, arguments.jobs, arguments.configured.quiet, ranks)
}

/// Whether a folder holds a comparison.
pub fn is_comparison(folder: &Path) -> bool {
    comparison_file(folder).exists()
}

/// Goes on with the comparison in a folder.
pub fn go_on(folder: &Path, jobs: Option<usize>, quiet: bool, ranks: &Ranks) -> Result<()> {
    run_all(&Experiment::read(&comparison_file(folder), &[])?, folder, jobs, quiet, ranks)
}

/// Does all runs that are not done; of several ranks, each takes its share of them.
fn run_all(experiment: &Experiment, folder: &Path, jobs: Option<usize>, quiet: bool, ranks: &Ranks) -> Result<()> {
    let workers = crew::workers(jobs)?;
    refuse_run(folder)?;
    let queue = comparison_runs(experiment, folder, None)?;
    ranks.wait();
    if ranks.is_first() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        write_whole(&comparison_file(folder), experiment.to_toml()?.as_bytes())?;
    }
    ranks.wait();

    for method in &experiment.compare.methods {
        let warning = experiment::never_grows(&Experiment { method: method.clone(), ..experiment.clone() })?;
        if let Some(warning) = warning {
            say(&format!("warning: {warning}"));
            break;
        }
    }
    let stop = stop_on_interrupt()?;
    let data = SharedData::default();
    if !experiment.data.depends_on_seed() {
        // Once, before any run: what is wrong with the data is said once.
        data.of(experiment)?;
    }
    let own = queue.iter().skip(ranks.rank()).step_by(ranks.count()).map(|job| &**job).collect::<Vec<_>>();
    let failures = crew::work(&own, workers, &Bars::new(quiet || !ranks.is_first()), &data, stop);
    ranks.wait();
    if stop.load(Ordering::Relaxed) {
        return Err(Interrupted::in_folder(folder));
    }
    let summaries = comparison_folders(experiment, folder).map(|(_, _, run)| run.read_summary());
    let summaries = summaries.filter_map(Result::transpose).collect::<Result<Vec<_>>>()?;
    let failed = failed(&failures, own.len());
    if !summaries.is_empty() && ranks.is_first() {
        write_results(experiment, folder, &summaries, failed.as_deref())?;
    }
    // A rank that fails ends all: not before the first has written the results.
    ranks.wait();
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(anyhow!("{} of {} runs failed, the first of them {first}", failures.len(), own.len())),
    }
}

/// Which runs failed, and why.
fn failed(failures: &[String], runs: usize) -> Option<String> {
    let count = failures.len();
    (count > 0).then(|| format!("{count} of {runs} runs failed: {}.", failures.join("; ")))
}

fn write_results(experiment: &Experiment, folder: &Path, summaries: &[RunSummary], failed: Option<&str>) -> Result<()> {
    write_whole(&folder.join("summary.csv"), &comparison::csv(summaries)?)?;
    let table = comparison::table(summaries, &experiment.compare, &growth_costs(experiment, folder)?)?;
    let mut text = format!("{}\n\n{}\n", comparison::caption(&experiment.compare, summaries), table);
    failed.into_iter().for_each(|failed| text += &format!("\n{failed}\n"));
    write_whole(&folder.join("summary.md"), text.as_bytes())?;
    let page = folder.join("report.html");
    report::write(&[folder.to_path_buf()], &page)?;
    print_line(&format!("{text}\nreport: {}", page.display()))
}

/// The costs of all growth events of each method, in training steps.
fn growth_costs(experiment: &Experiment, folder: &Path) -> Result<BTreeMap<String, Vec<f64>>> {
    let mut costs = BTreeMap::<_, Vec<_>>::new();
    for (method, _, run) in comparison_folders(experiment, folder) {
        let receipts = run.read_receipts()?;
        costs.entry(method).or_default().extend(receipts.iter().filter_map(|receipt| receipt.timing.growth_in_steps));
    }
    Ok(costs)
}
