//! One network, grown by each method, to compare the growths.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, bail};
use burn::module::Module;
use gradmax::Seed;
use gradmax::event::{EventContext, Growth, Look, Part, Planned, Receipt};
use gradmax::site::Growable;
use gradmax::training::{Keep, Observer, ObserverError, Run, Settings, Supervised, Trainer};

use crate::config::{Experiment, GrowthConfig};
use crate::data::DataSet;
use crate::experiment;
use crate::failure::misuse;
use crate::method::{self, Method};
use crate::network::Network;
use crate::statistics::median;

/// A run at some step, looked at once on a growth batch, from where growth and further training start.
pub struct Bench<'a> {
    experiment: &'a Experiment,
    growth: &'a GrowthConfig,
    data: &'a DataSet,
    settings: Settings,
    /// The look at the checkpoint that all growths share.
    pub look: Look<'a, Network>,
    /// What is to grow.
    pub plan: Vec<Planned>,
    run: Run<Network>,
}

/// Losses on the growth batch after further training, and what that took.
pub struct After {
    /// At each step that was asked for; none beyond the run's last.
    pub losses: Vec<Option<f64>>,
    /// Steps that were taken.
    pub steps: usize,
    /// Seconds that they took.
    pub seconds: f64,
}

impl<'a> Bench<'a> {
    /// A bench for the network of a run, on the experiment's growth batch.
    ///
    /// # Errors
    /// If the configuration has no growth, or examples cannot be read.
    pub fn new(experiment: &'a Experiment, data: &'a DataSet, run: Run<Network>) -> Result<Self> {
        let Some(growth) = &experiment.growth else {
            return Err(misuse("the configuration has no [growth]; add it, so that it is known how much is to grow"));
        };
        let settings = settings(experiment, data);
        let amount = growth.amount()?;
        let sites = &run.progress.sites;
        let planned = sites.iter().zip(amount.of(sites)).filter(|(_, count)| *count > 0);
        let plan = planned.map(|(site, count)| Planned { site: site.site.clone(), count }).collect();
        let parts = trainer(experiment, &settings, data).growth_parts(growth.batch, run.progress.step)?;
        let look = Look::of(&run.network, parts)?;
        Ok(Self { experiment, growth, data, settings, look, plan, run })
    }

    /// The run as it is. Clones of a network share running statistics, so this one is a copy that does not.
    pub fn start(&self) -> Run<Network> {
        let Run { network, optimizer, progress, .. } = &self.run;
        Run { progress: progress.clone(), ..Run::new(network.valid().train(), optimizer.clone()) }
    }

    /// One growth by a method, `repeat` telling its draws apart; the grown run, and the receipt. Repeated so many times
    /// over, to see what it costs: the receipt's cost is the median.
    pub fn grow(
        &self,
        name: &str,
        repeat: u64,
        timed: u64,
        training_step: Option<f64>,
    ) -> Result<(Run<Network>, Receipt)> {
        let Method::Grow(method) = method::named(name, &self.experiment.methods)? else {
            bail!("the method `{name}` does not grow");
        };
        let seed = Seed::new(self.experiment.seed).fold("growth").fold("repeat").at(repeat);
        let grower = experiment::grower(name, self.growth, method, seed);
        let Run { network, optimizer, mut progress, .. } = self.start();
        let (step, event) = (progress.step, progress.events);
        let context = EventContext { step, event, training_step, ..EventContext::default() };
        let grow = || grower.grow_looked(&network, &optimizer, &self.plan, context, &self.look);
        let again = (1..timed).map(|_| Ok(grow()?.receipt.timing.growth)).collect::<Result<Vec<_>>>()?;
        let Growth { network: grown, optimizer, mut receipt, widening, .. } = grow()?;
        progress.cohorts.grow(&network, &widening, step);
        let costs = again.into_iter().chain([receipt.timing.growth]).collect::<Vec<_>>();
        receipt.timing.growth = median(&costs).expect("there is one growth at least");
        receipt.timing.growth_in_steps = training_step.map(|step| receipt.timing.growth / step);
        Ok((Run { progress, ..Run::new(grown, optimizer) }, receipt))
    }

    /// Trains on without growth, and measures the loss after each of these numbers of steps, in increasing order, as
    /// far as the run goes.
    pub fn after(&self, mut run: Run<Network>, marks: &[usize]) -> Result<After> {
        let first = run.progress.step;
        let mut after = After { losses: vec![None; marks.len()], steps: 0, seconds: 0.0 };
        for (loss, mark) in after.losses.iter_mut().zip(marks) {
            // The last step of all would bring the evaluation of a whole run with it.
            if first + mark >= self.settings.steps {
                break;
            }
            let started = Instant::now();
            run = train_to(trainer(self.experiment, &self.settings, self.data), run, first + mark)?;
            after.seconds += started.elapsed().as_secs_f64();
            *loss = Some(self.loss(&run.network)?);
        }
        after.steps = run.progress.step - first;
        Ok(after)
    }

    /// The loss on the growth batch, in training mode.
    pub fn loss(&self, network: &Network) -> Result<f64> {
        let network = network.valid().train();
        let loss = |part: &Part<'_, Network>| Ok(part.weight * part.run(&network, &mut ())?.loss.into_scalar::<f64>());
        self.look.parts().iter().map(loss).sum()
    }

    /// The step of the run.
    pub fn step(&self) -> usize {
        self.run.progress.step
    }

    /// The last step of the run, were it to go on.
    pub fn last_step(&self) -> usize {
        self.settings.steps
    }
}

/// The settings of an experiment's training, without rows, evaluations and checkpoints on the way.
pub fn settings(experiment: &Experiment, data: &DataSet) -> Settings {
    Settings {
        log_every: usize::MAX,
        average: None,
        patience: None,
        keep: Keep::Last,
        evaluate_every: None,
        checkpoint_every: None,
        ..experiment::settings(experiment, data.train.count())
    }
}

/// A trainer on an experiment's task and training examples.
pub fn trainer<'a>(
    experiment: &Experiment,
    settings: &Settings,
    data: &'a DataSet,
) -> Trainer<'a, Network, Supervised> {
    Trainer::new(settings.clone(), experiment::task(experiment, data), &*data.train)
}

/// Goes on with a run until it has taken so many steps, fewer than the trainer's last.
pub fn train_to(trainer: Trainer<'_, Network, Supervised>, run: Run<Network>, step: usize) -> Result<Run<Network>> {
    let stop = AtomicBool::new(run.progress.step >= step);
    Ok(trainer.with_stop(&stop).with_observer(StopAt { step, stop: &stop }).train(run)?.run)
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
