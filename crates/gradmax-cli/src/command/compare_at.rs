//! `gradmax compare --at`: one checkpoint, grown with each method.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gradmax::training::checkpoint;
use serde::Serialize;

use gradmax_experiments::bench::{After, Bench};
use gradmax_experiments::config::Experiment;
use gradmax_experiments::device;
use gradmax_experiments::failure::misuse;
use gradmax_experiments::folder::{RunFolder, refuse_comparison, refuse_run, write_whole};
use gradmax_experiments::method::{self, Method};
use gradmax_experiments::output::print_line;
use gradmax_experiments::progress::Bars;
use gradmax_experiments::report::{Bar, BarSeries, growth_page, with_error};
use gradmax_experiments::statistics::{Mean, median};
use gradmax_experiments::table::{csv, markdown, significant};
use gradmax_experiments::trained::loaded;

/// Steps after growth at which the loss is looked at.
const AFTER: [usize; 4] = [1, 10, 100, 500];
/// The row of the network that goes on without growing.
const NOT_GROWN: &str = "not grown";

/// What to compare growths at.
pub struct At {
    /// The folder of a run, or its checkpoint.
    pub checkpoint: PathBuf,
    /// Growths of a method that draws at random.
    pub repeats: u64,
    pub out: Option<PathBuf>,
    /// The configuration's name.
    pub name: String,
}

/// What one growth gave; a row of the CSV.
#[derive(Debug, Clone, Serialize)]
struct Measured {
    method: String,
    repeat: u64,
    /// The norm of all new weights' gradients, on the growth batch right after growing.
    gradient_norm: Option<f64>,
    output_change: Option<f64>,
    /// The loss on the growth batch right before and after growing, and after further training steps.
    loss_before: f64,
    loss_after: f64,
    loss_after_1: Option<f64>,
    loss_after_10: Option<f64>,
    loss_after_100: Option<f64>,
    loss_after_500: Option<f64>,
    growth_milliseconds: f64,
    growth_in_steps: f64,
}

impl At {
    pub fn compare(self, experiment: &Experiment, quiet: bool) -> Result<()> {
        if self.repeats == 0 {
            return Err(misuse("--repeats 0: each method is to grow at least once"));
        }
        self.out.as_deref().map_or(Ok(()), refuse_other_folders)?;
        let experiment = self.of_the_run(experiment)?;
        let methods = growing(&experiment)?;
        let device = device::named(&experiment.device)?;
        let data = experiment.data.load(experiment.seed, &device)?;
        let checkpoint = self.checkpoint_folder()?;
        let bench = Bench::new(&experiment, &data, loaded(&checkpoint, &experiment)?)?;

        let events = methods.iter().map(|(_, draws)| if *draws { self.repeats } else { 1 }).sum::<u64>();
        let bar = Bars::new(quiet).counted("growths", events + 1);
        let (row, milliseconds_of_step) = ungrown(&bench)?;
        let mut rows = vec![row];
        bar.inc(1);
        for (method, draws) in &methods {
            for repeat in 0..if *draws { self.repeats } else { 1 } {
                // Where repeats give the same neurons, they still tell what these cost.
                let timed = if *draws { 1 } else { self.repeats };
                rows.push(grown(&bench, method, repeat, timed, milliseconds_of_step)?);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        let folder =
            self.out.unwrap_or_else(|| PathBuf::from("runs").join(format!("{}-at-{}", self.name, bench.step())));
        refuse_other_folders(&folder)?;
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        write_whole(&folder.join("growth.csv"), &csv(&rows)?)?;
        let (caption, table) = (caption(&bench, &checkpoint), table(&rows));
        write_whole(&folder.join("summary.md"), format!("{caption}\n\n{table}\n").as_bytes())?;
        write_whole(&folder.join("report.html"), page(&self.name, &caption, &table, &rows)?.as_bytes())?;
        print_line(&format!("{table}\n{caption}\nreport: {}", folder.join("report.html").display()))
    }

    fn checkpoint_folder(&self) -> Result<PathBuf> {
        let inside = RunFolder::at(&self.checkpoint).checkpoint();
        match [&inside, &self.checkpoint]
            .into_iter()
            .find(|folder| checkpoint::exists(folder) && folder.join("progress.json").exists())
        {
            Some(folder) => Ok(folder.clone()),
            None => Err(misuse(format!(
                "{} is no checkpoint, and no folder of a run that has one; name such a folder with --at",
                self.checkpoint.display()
            ))),
        }
    }

    /// The experiment with the seed of the checkpoint's run, if that is known: so the data is the run's.
    fn of_the_run(&self, experiment: &Experiment) -> Result<Experiment> {
        let folders = [Some(self.checkpoint.as_path()), self.checkpoint.parent()];
        let run = folders.into_iter().flatten().map(RunFolder::at).find(|folder| folder.config().exists());
        match run {
            Some(folder) => Ok(Experiment { seed: folder.read_experiment()?.seed, ..experiment.clone() }),
            None => Ok(experiment.clone()),
        }
    }
}

/// Checks that a folder holds neither a run nor a comparison, whose report would be overwritten.
fn refuse_other_folders(folder: &Path) -> Result<()> {
    refuse_run(folder)?;
    refuse_comparison(folder)
}

/// The compared methods that grow, each with whether it draws at random.
fn growing(experiment: &Experiment) -> Result<Vec<(String, bool)>> {
    let mut methods = Vec::new();
    for name in &experiment.compare.methods {
        if method::with(name, &experiment.methods).is_some() {
            return Err(misuse(format!(
                "`{name}` changes more of the configuration than how neurons are chosen, and all growths at a checkpoint share \
                 the rest; leave it out"
            )));
        }
        if let Method::Grow(method) = method::named(name, &experiment.methods)? {
            methods.push((name.clone(), method.draws()));
        }
    }
    match methods.is_empty() {
        true => Err(misuse("none of the methods grows the network; name some with --methods")),
        false => Ok(methods),
    }
}

/// The row of the run that goes on without growing, and the milliseconds of one of its training steps.
fn ungrown(bench: &Bench<'_>) -> Result<(Measured, f64)> {
    let loss = bench.look.loss();
    let After { losses, steps, seconds } = bench.after(bench.start(), &AFTER)?;
    if steps == 0 {
        return Err(misuse(format!(
            "the checkpoint is at step {} of {}, so there is nothing to train on after growth; raise training.steps with --set",
            bench.step(),
            bench.last_step()
        )));
    }
    let measured = Measured {
        method: NOT_GROWN.into(),
        repeat: 0,
        gradient_norm: None,
        output_change: None,
        loss_before: loss,
        loss_after: loss,
        loss_after_1: losses[0],
        loss_after_10: losses[1],
        loss_after_100: losses[2],
        loss_after_500: losses[3],
        growth_milliseconds: 0.0,
        growth_in_steps: 0.0,
    };
    Ok((measured, 1e3 * seconds / steps as f64))
}

/// The row of one growth, done so many times over to see what it costs, and of how training goes on after it.
fn grown(bench: &Bench<'_>, method: &str, repeat: u64, timed: u64, milliseconds_of_step: f64) -> Result<Measured> {
    let (run, receipt) = bench.grow(method, repeat, timed, Some(milliseconds_of_step))?;
    let loss_after = bench.loss(&run.network)?;
    let losses = bench.after(run, &AFTER)?.losses;
    Ok(Measured {
        method: method.to_string(),
        repeat,
        gradient_norm: receipt.gradient_norm(),
        output_change: receipt.output_change,
        loss_before: receipt.loss_before,
        loss_after,
        loss_after_1: losses[0],
        loss_after_10: losses[1],
        loss_after_100: losses[2],
        loss_after_500: losses[3],
        growth_milliseconds: receipt.timing.growth,
        growth_in_steps: receipt.timing.growth / milliseconds_of_step,
    })
}

fn caption(bench: &Bench<'_>, folder: &Path) -> String {
    let grows = bench.plan.iter().map(|planned| format!("{} by {}", planned.site, planned.count)).collect::<Vec<_>>();
    format!(
        "Growth of {} at {}, on one growth batch of loss {}, after one look of {:.1} ms that all methods share. Losses are of that batch, \
         right after growing and after further training steps; the mean ± standard error where a method was repeated with other \
         seeds. Cost: the median growth event, without the look and without verification, in training steps.",
        grows.join(", "),
        folder.display(),
        significant(bench.look.loss()),
        bench.look.milliseconds(),
    )
}

/// The rows of each method, in order.
fn by_method(rows: &[Measured]) -> Vec<(&str, Vec<&Measured>)> {
    let mut groups: Vec<(&str, Vec<&Measured>)> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|(method, _)| *method == row.method) {
            Some((_, group)) => group.push(row),
            None => groups.push((&row.method, vec![row])),
        }
    }
    groups
}

fn mean_of(rows: &[&Measured], of: impl Fn(&Measured) -> Option<f64>) -> Option<Mean> {
    Mean::of(&rows.iter().filter_map(|row| of(row)).collect::<Vec<_>>())
}

fn table(rows: &[Measured]) -> String {
    let header =
        ["method", "n", "gradient norm", "loss", "after 1", "after 10", "after 100", "after 500", "cost, steps"];
    let row = |(method, rows): (&str, Vec<&Measured>)| {
        let mean = |of: fn(&Measured) -> Option<f64>| mean_of(&rows, of).map_or("-".into(), |mean| with_error(&mean));
        let cost = median(&rows.iter().map(|row| row.growth_in_steps).collect::<Vec<_>>());
        vec![
            method.to_string(),
            rows.len().to_string(),
            mean(|row| row.gradient_norm),
            mean(|row| Some(row.loss_after)),
            mean(|row| row.loss_after_1),
            mean(|row| row.loss_after_10),
            mean(|row| row.loss_after_100),
            mean(|row| row.loss_after_500),
            cost.filter(|_| method != NOT_GROWN).map_or("-".into(), |cost| format!("{cost:.2}")),
        ]
    };
    markdown(&header, &by_method(rows).into_iter().map(row).collect::<Vec<_>>())
}

/// The page with bars of gradient norm, loss and cost.
fn page(name: &str, caption: &str, table: &str, rows: &[Measured]) -> Result<String> {
    let groups = by_method(rows);
    let series = |of: fn(&Measured) -> Option<f64>| {
        let bar = |(method, rows): &(&str, Vec<&Measured>)| {
            let mean = mean_of(rows, of)?;
            Some(BarSeries { method: method.to_string(), bars: vec![Some(Bar::of(&mean, 0.95))] })
        };
        groups.iter().filter_map(bar).collect::<Vec<_>>()
    };
    let grown = |series: Vec<BarSeries>| series.into_iter().filter(|one| one.method != NOT_GROWN).collect::<Vec<_>>();
    let charts = [
        ("Gradient norm of new weights", "gradient norm", series(|row| row.gradient_norm)),
        ("Loss after 10 training steps", "loss", series(|row| row.loss_after_10)),
        ("Loss after 100 training steps", "loss", series(|row| row.loss_after_100)),
        ("Loss after 500 training steps", "loss", series(|row| row.loss_after_500)),
        ("Cost of the growth event", "training steps", grown(series(|row| Some(row.growth_in_steps)))),
    ];
    growth_page(&format!("{name}: one checkpoint, grown by each method"), NOT_GROWN, caption, table, &charts)
}
