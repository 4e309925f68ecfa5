//! `gradmax compare --at`: one checkpoint, grown with each method.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::module::Module;
use gradmax::{
    Architecture, EventContext, Growable, Growth, Look, Observer, ObserverError, Part, Planned, Run, Seed, Settings,
    Trainer, checkpoint,
};
use serde::Serialize;

use crate::config::{Experiment, GrowthConfig};
use crate::data::DataSet;
use crate::device;
use crate::experiment::{self, Networks};
use crate::failure::misuse;
use crate::folder::{RunFolder, write_whole};
use crate::method::{self, Method};
use crate::network::Network;
use crate::progress::Bars;
use crate::report::{Bar, BarSeries, growth_page, with_error};
use crate::statistics::{Mean, median};
use crate::table::{markdown, significant};

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
        let Some(growth) = &experiment.growth else {
            return Err(misuse("the configuration has no [growth]; add it, so that it is known how much is to grow"));
        };
        let experiment = self.of_the_run(experiment)?;
        let methods = growing(&experiment)?;
        let device = device::named(&experiment.device)?;
        let data = experiment.data.load(experiment.seed, &device)?;
        let bench = Bench::new(&experiment, growth, &data, self.checkpoint_folder()?)?;

        let events = methods.iter().map(|(_, draws)| if *draws { self.repeats } else { 1 }).sum::<u64>();
        let bar = Bars::new(quiet).runs("growths", events + 1);
        let (ungrown, milliseconds_of_step) = bench.ungrown()?;
        let mut rows = vec![ungrown];
        bar.inc(1);
        for (method, draws) in &methods {
            for repeat in 0..if *draws { self.repeats } else { 1 } {
                // Where repeats give the same neurons, they still tell what these cost.
                let timed = if *draws { 1 } else { self.repeats };
                rows.push(bench.grown(method, repeat, timed, milliseconds_of_step)?);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        let folder = self.out.unwrap_or_else(|| PathBuf::from("runs").join(format!("{}-at-{}", self.name, bench.step)));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        write_whole(&folder.join("growth.csv"), &csv(&rows)?)?;
        let (caption, table) = (bench.caption(), table(&rows));
        write_whole(&folder.join("summary.md"), format!("{caption}\n\n{table}\n").as_bytes())?;
        write_whole(&folder.join("report.html"), page(&self.name, &caption, &table, &rows)?.as_bytes())?;
        println!("{table}\n{caption}\nreport: {}", folder.join("report.html").display());
        Ok(())
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

/// The compared methods that grow, each with whether it draws at random.
fn growing(experiment: &Experiment) -> Result<Vec<(String, bool)>> {
    let mut methods = Vec::new();
    for name in &experiment.compare.methods {
        if let Method::Grow(initializer) = method::named(name, &experiment.methods)? {
            methods.push((name.clone(), initializer.draws()));
        }
    }
    match methods.is_empty() {
        true => Err(misuse("none of the methods grows the network; name some with --methods")),
        false => Ok(methods),
    }
}

/// A checkpoint, and what is done with it.
struct Bench<'a> {
    experiment: &'a Experiment,
    growth: &'a GrowthConfig,
    data: &'a DataSet,
    folder: PathBuf,
    /// The checkpoint's step.
    step: usize,
    settings: Settings,
    parts: Vec<Part<'a, Network>>,
    look: Look<Network>,
    plan: Vec<Planned>,
}

impl<'a> Bench<'a> {
    fn new(experiment: &'a Experiment, growth: &'a GrowthConfig, data: &'a DataSet, folder: PathBuf) -> Result<Self> {
        let settings = Settings {
            log_every: usize::MAX,
            evaluate_every: None,
            checkpoint_every: None,
            ..experiment::settings(experiment, data.train.count())
        };
        let run = load(experiment, &folder)?;
        let amount = growth.schedule()?.amount;
        let planned =
            run.progress.sites.iter().map(|site| Planned { site: site.site.clone(), count: amount.of(site.seed) });
        let plan = planned.collect();
        let parts = trainer(&settings, data).growth_parts(growth.batch, run.progress.step)?;
        let look = Look::of(&run.network, &parts);
        Ok(Self { experiment, growth, data, folder, step: run.progress.step, settings, parts, look, plan })
    }

    /// The run at the checkpoint. Read anew each time: clones of a network share running statistics.
    fn start(&self) -> Result<Run<Network>> {
        load(self.experiment, &self.folder)
    }

    /// The run that goes on without growing, and the milliseconds of one of its training steps.
    fn ungrown(&self) -> Result<(Measured, f64)> {
        let loss = self.look.loss();
        let (losses, taken, seconds) = self.after(self.start()?)?;
        if taken == 0 {
            return Err(misuse(format!(
                "the checkpoint is at step {} of {}, so there is nothing to train on after growth; raise training.steps with --set",
                self.step, self.settings.steps
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
        Ok((measured, 1e3 * seconds / taken as f64))
    }

    /// One growth, done so many times over to see what it costs, and how training goes on after it.
    fn grown(&self, name: &str, repeat: u64, timed: u64, milliseconds_of_step: f64) -> Result<Measured> {
        let Method::Grow(initializer) = method::named(name, &self.experiment.methods)? else {
            bail!("the method `{name}` does not grow");
        };
        let seed = Seed::new(self.experiment.seed).fold("growth").fold("repeat").at(repeat);
        let grower = experiment::grower(name, self.growth, initializer, seed);
        let run = self.start()?;
        let context = EventContext {
            step: run.progress.step,
            event: run.progress.events,
            batch_is_training_step: false,
            training_step: Some(milliseconds_of_step),
        };
        let grow = || grower.grow_looked(&run.network, &run.optimizer, &self.plan, &self.parts, context, &self.look);
        let again = (1..timed).map(|_| Ok(grow()?.receipt.timing.growth)).collect::<Result<Vec<_>>>()?;
        let Growth { network, optimizer, receipt, .. } = grow()?;
        let costs = again.into_iter().chain([receipt.timing.growth]).collect::<Vec<_>>();
        let growth_milliseconds = median(&costs).expect("there is one growth at least");
        let loss_after = self.loss(&network);
        let (losses, ..) = self.after(Run { network, optimizer, progress: run.progress })?;
        Ok(Measured {
            method: name.to_string(),
            repeat,
            gradient_norm: receipt.gradient_norm(),
            output_change: receipt.output_change,
            loss_before: receipt.loss_before,
            loss_after,
            loss_after_1: losses[0],
            loss_after_10: losses[1],
            loss_after_100: losses[2],
            loss_after_500: losses[3],
            growth_milliseconds,
            growth_in_steps: growth_milliseconds / milliseconds_of_step,
        })
    }

    /// The losses after further training steps without growth, as far as the run goes; steps taken, and the seconds
    /// they took.
    fn after(&self, mut run: Run<Network>) -> Result<([Option<f64>; AFTER.len()], usize, f64)> {
        let (first, mut seconds) = (run.progress.step, 0.0);
        let mut losses = [None; AFTER.len()];
        for (loss, after) in losses.iter_mut().zip(AFTER) {
            // The last step of all would bring the evaluation of a whole run with it.
            if first + after >= self.settings.steps {
                break;
            }
            let stop = AtomicBool::new(false);
            let trainer = trainer(&self.settings, self.data).with_stop(&stop);
            let started = Instant::now();
            run = trainer.with_observer(StopAt { step: first + after, stop: &stop }).train(run)?.run;
            seconds += started.elapsed().as_secs_f64();
            *loss = Some(self.loss(&run.network));
        }
        Ok((losses, run.progress.step - first, seconds))
    }

    /// The loss on the growth batch, in training mode.
    fn loss(&self, network: &Network) -> f64 {
        let network = network.valid().train();
        let loss = |part: &Part<'_, Network>| part.weight * (part.pass)(&network, &mut ()).loss.into_scalar::<f64>();
        self.parts.iter().map(loss).sum()
    }

    fn caption(&self) -> String {
        let grows =
            self.plan.iter().map(|planned| format!("{} by {}", planned.site, planned.count)).collect::<Vec<_>>();
        format!(
            "Growth of {} at {}, on one growth batch of loss {}, after one look of {:.1} ms that all methods share. Losses are of that batch, \
             right after growing and after further training steps; the mean ± standard error where a method was repeated with other \
             seeds. Cost: the median growth event, without the look and without verification, in training steps.",
            grows.join(", "),
            self.folder.display(),
            significant(self.look.loss()),
            self.look.milliseconds(),
        )
    }
}

fn load(experiment: &Experiment, folder: &std::path::Path) -> Result<Run<Network>> {
    let device = device::named(&experiment.device)?;
    let progress = checkpoint::load_progress(folder)?;
    let widths = progress.sites.iter().map(|site| site.width).collect::<Vec<_>>();
    let seed = Networks::of(experiment)?.seed;
    if seed.site_widths().len() != widths.len() {
        return Err(misuse(format!(
            "the checkpoint in {} is of a network with {} sites, and the configuration's has {}",
            folder.display(),
            widths.len(),
            seed.site_widths().len()
        )));
    }
    let network = seed.with_site_widths(&widths).init(Seed::new(experiment.seed).fold("init"), &device)?;
    Ok(checkpoint::load(folder, network, experiment.optimizer.init())?)
}

fn trainer<'a>(settings: &Settings, data: &'a DataSet) -> Trainer<'a, Network> {
    Trainer::new(settings.clone(), data.task, &*data.train)
}

/// Stops a run at a step.
struct StopAt<'a> {
    step: usize,
    stop: &'a AtomicBool,
}

impl<N: Growable> Observer<N> for StopAt<'_> {
    fn stepped(&mut self, step: usize) -> Result<(), ObserverError> {
        if step >= self.step {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn csv(rows: &[Measured]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    Ok(writer.into_inner()?)
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
