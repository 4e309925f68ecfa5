//! `gradmax compare`: methods on the same data and seeds, side by side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow};

use super::compare_at::At;
use super::{configured, stem};
use crate::args::{Compare, Split};
use gradmax_experiments::comparison::{Comparison, Stage, Tuning, comparison_folders};
use gradmax_experiments::config::{Experiment, Tune};
use gradmax_experiments::crew::{self, Done, Job, SharedData};
use gradmax_experiments::edits::value_of;
use gradmax_experiments::experiment;
use gradmax_experiments::failure::{Interrupted, misuse, sentence};
use gradmax_experiments::folder::{RunSummary, comparison_file, refuse_run, write_whole};
use gradmax_experiments::interrupt::stop_on_interrupt;
use gradmax_experiments::method;
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
    let widths = arguments.widths.iter().flatten().map(|widths| method::of_widths(widths));
    experiment.compare.methods.extend(widths);
    if let Some(text) = &arguments.tune {
        experiment.compare.tune = Some(tune(text, arguments.tune_seeds)?);
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
    let how = How { jobs: arguments.jobs, split: arguments.split, quiet: arguments.configured.quiet };
    run_all(&experiment, &folder, &how, ranks)
}

/// `KEY=VALUE,VALUE`; a key without a section is one of `[optimizer]`.
fn tune(text: &str, seeds: u64) -> Result<Tune> {
    let example = "write it as KEY=VALUES, for example --tune learning_rate=0.02,0.05,0.1";
    let (key, values) = text.split_once('=').ok_or_else(|| misuse(format!("--tune {text}: {example}")))?;
    let key = if key.contains('.') { key.to_string() } else { format!("optimizer.{key}") };
    let values = values.split(',').map(|value| value_of(value.trim())).collect();
    Ok(Tune { key, values, seeds })
}

/// How the runs of a comparison are done.
pub struct How {
    /// Runs at a time.
    pub jobs: Option<usize>,
    /// What several processes share.
    pub split: Split,
    /// Whether no progress is shown.
    pub quiet: bool,
}

/// Whether a folder holds a comparison.
pub fn is_comparison(folder: &Path) -> bool {
    comparison_file(folder).exists()
}

/// Goes on with the comparison in a folder.
pub fn go_on(folder: &Path, how: &How, ranks: &Ranks) -> Result<()> {
    run_all(&Experiment::read(&comparison_file(folder), &[])?, folder, how, ranks)
}

/// Does all runs that are not done.
fn run_all(experiment: &Experiment, folder: &Path, how: &How, ranks: &Ranks) -> Result<()> {
    let workers = crew::workers(how.jobs)?;
    refuse_run(folder)?;
    let together = match how.split {
        Split::Runs => &Ranks::alone(),
        Split::Batch => ranks,
    };
    let mut comparison = Comparison::new(experiment, folder, None, together)?;
    let mut stage = comparison.ready()?;
    ranks.wait();
    if ranks.is_first() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        write_whole(&comparison_file(folder), experiment.to_toml()?.as_bytes())?;
    }
    ranks.wait();

    for method in &experiment.compare.methods {
        let warning = experiment::never_grows(&experiment.of_method(method, &[])?)?;
        if let Some(warning) = warning.filter(|_| ranks.is_first()) {
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
    let bars = Bars::new(how.quiet || !ranks.is_first());
    let (mut failures, mut count) = (Vec::new(), 0);
    while let Some(Stage { tunes, jobs }) = stage {
        let own = match how.split {
            Split::Runs => {
                let own = jobs.iter().skip(ranks.rank()).step_by(ranks.count()).map(|job| &**job).collect::<Vec<_>>();
                crew::work(&own, workers, &bars, &data, stop)
            }
            Split::Batch => {
                if all_together(&jobs, &bars, &data, stop)? == Done::Stopped {
                    return Err(Interrupted::in_folder(folder));
                }
                Vec::new()
            }
        };
        ranks.wait();
        if stop.load(Ordering::Relaxed) {
            return Err(Interrupted::in_folder(folder));
        }
        // A sentence may have several lines.
        let all = ranks.all_say(&own.join("\0")).join("\0");
        if !tunes {
            count += jobs.len();
            failures.extend(all.split('\0').filter(|failure| !failure.is_empty()).map(String::from));
        }
        stage = comparison.ready()?;
        // All see the same runs before any of the next begins.
        ranks.wait();
    }
    let left_out = comparison.left_out()?;
    count += left_out.len();
    failures.extend(left_out);
    let summaries = comparison_folders(experiment, folder).map(|(_, _, run)| run.read_summary());
    let summaries = summaries.filter_map(Result::transpose).collect::<Result<Vec<_>>>()?;
    let failed = failed(&failures, count);
    if !summaries.is_empty() && ranks.is_first() {
        write_results(experiment, folder, &summaries, failed.as_deref())?;
    }
    // A rank that fails ends all: not before the first has written the results.
    ranks.wait();
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(anyhow!("{} of {count} runs failed, the first of them {first}", failures.len())),
    }
}

/// Does one run after another, each by all ranks. An error ends all of them: ranks that do not have it would wait.
fn all_together(queue: &[Box<dyn Job>], bars: &Bars, data: &SharedData, stop: &AtomicBool) -> Result<Done> {
    for job in queue.iter().filter(|job| !job.is_done()) {
        let bar = bars.run(&job.name());
        let done = job.run(data, bar.clone(), stop).inspect_err(|error| job.failed(&sentence(error)));
        bar.finish_and_clear();
        if done.with_context(|| job.name())? == Done::Stopped {
            return Ok(Done::Stopped);
        }
    }
    Ok(Done::Finished)
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
    let verdict = report::verdict(summaries, &experiment.compare, &experiment.methods);
    verdict.into_iter().for_each(|verdict| text += &format!("\n{verdict}\n"));
    if let Some((caption, table)) = Tuning::table(experiment, folder)? {
        text += &format!("\n{caption}\n\n{table}\n");
    }
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
