//! Training: step, maybe grow, evaluate. Everything else happens in observers.

mod check;
mod evaluate;
mod growth;
mod outlook;
mod passes;
mod shrink;
mod undo;

pub use self::outlook::{Outlook, SiteOutlook};
pub use self::shrink::Shrink;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::optim::GradientsParams;

use crate::across::with_statistics;
use crate::draws::with_draws;
use crate::error::Error;
use crate::event::gradients::gradient_norm;
use crate::policies::policy::Observed;
use crate::site::growable::{Growable, training_flops};
use crate::sums::{SharedSums, Sums, alone};
use crate::training::average::averaged;
use crate::training::cohorts::CohortSteps;
use crate::training::data::Examples;
use crate::training::observer::Observer;
use crate::training::ongoing::Ongoing;
use crate::training::order::{Order, Taken};
use crate::training::run::{Outcome, Progress, Run};
use crate::training::settings::{BatchStatistics, GrowthSettings, Keep, Settings};
use crate::training::task::Task;

/// Trains a network, growing it when its policy says so.
///
/// A run is a pure function of its settings, data and seed: stopped anywhere and resumed from its last checkpoint, it
/// ends in the same weights, bit for bit, on a device that computes deterministically.
///
/// # Example
/// ```
/// use burn::optim::SgdConfig;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use gradmax::Error;
/// use gradmax::networks::MlpConfig;
/// use gradmax::policies::{Amount, Order, Periodic};
/// use gradmax::prelude::*;
/// use gradmax::training::{GrowthBatch, GrowthSettings, InMemory, OnFailure, Regression};
///
/// let device = Device::flex();
/// let inputs = Tensor::<2>::random([200, 4], Distribution::Default, &device);
/// let data = InMemory::new(inputs.clone(), inputs.powi_scalar(2));
/// let config = MlpConfig::new(4, &[2], 4, Activation::Tanh);
/// let network = config.init(Seed::new(0), &device.autodiff())?;
///
/// let policy = Periodic { start: 50, every: 50, times: 3, order: Order::AllAtOnce, amount: Amount::Count(2), stretch: 1.0 };
/// let growth = GrowthSettings {
///     policy: Box::new(policy),
///     grower: Grower::new(GradMax::default()),
///     batch: GrowthBatch::Training,
///     on_failure: OnFailure::Stop,
/// };
/// let settings = Settings { batch_size: Some(50), ..Settings::new(300, 0.1) };
/// let trainer = Trainer::new(settings, Regression, &data).with_growth(growth);
/// let outcome = trainer.train(Run::new(network, SgdConfig::new().init()))?;
/// assert_eq!(outcome.run.progress.sites[0].width, 2 + 3 * 2);
/// # Ok::<(), Error>(())
/// ```
pub struct Trainer<'a, N: Growable, T: Task<Output = N::Output>> {
    settings: Settings,
    task: T,
    train: &'a dyn Examples<Input = N::Input, Target = T::Target>,
    validation: Option<&'a dyn Examples<Input = N::Input, Target = T::Target>>,
    test: Option<&'a dyn Examples<Input = N::Input, Target = T::Target>>,
    growth: Option<GrowthSettings>,
    observers: Vec<Box<dyn Observer<N> + 'a>>,
    stop: Option<&'a AtomicBool>,
    /// Whether classes have to be looked at batch by batch.
    checks_classes: bool,
    sums: SharedSums,
}

impl<'a, N: Growable, T: Task<Output = N::Output>> Trainer<'a, N, T> {
    /// A trainer without growth, validation or test examples, or observers.
    pub fn new(settings: Settings, task: T, train: &'a dyn Examples<Input = N::Input, Target = T::Target>) -> Self {
        let (validation, test, growth, observers, stop) = (None, None, None, Vec::new(), None);
        let (checks_classes, sums) = (false, alone());
        Self { settings, task, train, validation, test, growth, observers, stop, checks_classes, sums }
    }

    /// Adds examples to look at during training: policies see the loss on them, and it says which network is kept and
    /// when to stop early. Test examples are then evaluated on at the end only.
    #[must_use]
    pub fn with_validation(mut self, validation: &'a dyn Examples<Input = N::Input, Target = T::Target>) -> Self {
        self.validation = Some(validation);
        self
    }

    /// Adds examples to evaluate on.
    #[must_use]
    pub fn with_test(mut self, test: &'a dyn Examples<Input = N::Input, Target = T::Target>) -> Self {
        self.test = Some(test);
        self
    }

    /// Makes the network grow.
    #[must_use]
    pub fn with_growth(mut self, growth: GrowthSettings) -> Self {
        self.growth = Some(growth);
        self
    }

    /// Adds an observer.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer<N> + 'a) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Trains and grows on several machines, each of which takes its part of every batch; all sums go through this.
    #[must_use]
    pub fn with_sums(mut self, sums: Arc<dyn Sums>) -> Self {
        self.sums = sums;
        self
    }

    /// Stops after the current step, with a checkpoint, once the flag is set; of several machines, on one of them.
    #[must_use]
    pub fn with_stop(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Trains to the last step, or until stopped.
    ///
    /// # Errors
    /// [`Error::LossNotFinite`], [`Error::WeightsNotFinite`], [`Error::LabelOutOfRange`], any error of a growth event,
    /// [`Error::Examples`], [`Error::Observer`].
    pub fn train(mut self, run: Run<N>) -> Result<Outcome<N>, Error> {
        self.check(&run)?;
        let share =
            |growth: GrowthSettings| GrowthSettings { grower: growth.grower.with_sums(self.sums.clone()), ..growth };
        self.growth = self.growth.take().map(share);
        self.checks_classes = self.check_classes(&run.network)?;
        let mut ongoing = Ongoing::new(self.prepared(run));
        ongoing.run.progress.ranks = self.sums.size();
        let mut order = self.order();
        while self.is_ahead(&mut ongoing) {
            if self.is_stopped() {
                self.checkpoint(&mut ongoing)?;
                return Ok(Outcome { run: ongoing.run, finished: None });
            }
            self.evaluate_if_due(&mut ongoing, &order)?;
            if self.is_out_of_patience(&ongoing.run.progress) {
                break;
            }
            // From the step's number alone, so that a resumed run drops the same neurons.
            let draws = self.settings.seed.fold("draws").at(ongoing.run.progress.step as u64);
            let statistics = (self.synchronises()).then(|| self.sums.clone());
            ongoing = with_statistics(statistics, || with_draws(draws, || self.step(ongoing, &mut order)))?;
        }
        self.validate(&mut ongoing, &order)?;
        // Before the last rows: a run that is killed while it evaluates writes them anew when it is resumed.
        self.checkpoint(&mut ongoing)?;
        let summary = self.finish(&mut ongoing, &order)?;
        ongoing.count_seconds();
        Ok(Outcome { run: ongoing.run, finished: Some(summary) })
    }

    /// Whether there are steps to take.
    fn is_ahead(&self, ongoing: &mut Ongoing<N>) -> bool {
        if self.settings.budget.seconds.is_some() {
            ongoing.count_seconds();
            // The slowest machine's, so that all end at the same step.
            let mut seconds = [ongoing.run.progress.seconds];
            self.sums.largest(&mut seconds);
            ongoing.run.progress.seconds = seconds[0];
        }
        self.done(&ongoing.run.progress) < 1.0
    }

    /// The share of the run that is done: of its steps, or of its budget if more of that is spent.
    fn done(&self, progress: &Progress) -> f64 {
        let of_steps = match progress.step < self.settings.steps {
            true => progress.step as f64 / self.settings.steps as f64,
            false => 1.0,
        };
        of_steps.max(self.settings.budget.spent(progress.flops(), progress.seconds))
    }

    /// The learning rate of the next step.
    fn learning_rate(&self, progress: &Progress) -> f64 {
        let (rate, step) = (&self.settings.learning_rate, progress.step);
        let rate = match self.settings.budget.ends_runs() {
            true => rate.at_share(step, self.done(progress), progress.warmed),
            false => rate.at(step, self.settings.steps),
        };
        match progress.cohorts.last_came().map(|came| step - came + 1) {
            Some(since) if since < self.settings.rewarm => rate * since as f64 / self.settings.rewarm as f64,
            _ => rate,
        }
    }

    /// What a policy can observe of a run.
    fn observed<'p>(&self, progress: &'p Progress) -> Observed<'p> {
        let &Progress { step, events, loss, .. } = progress;
        let validation_loss = progress.validated.as_ref().map(|validated| validated.evaluation.loss);
        let (flops, done) = (progress.flops(), self.done(progress));
        let rate = self.learning_rate(progress) / self.settings.learning_rate.base;
        Observed {
            loss,
            validation_loss,
            flops,
            done,
            rate,
            stretch: progress.stretch,
            ..Observed::new(step, self.settings.steps, events, &progress.sites)
        }
    }

    /// Whether the run is to stop here: all machines do if one was asked to.
    fn is_stopped(&self) -> bool {
        let asked = self.stop.map(|stop| f64::from(u8::from(stop.load(Ordering::Relaxed))));
        asked.is_some_and(|asked| self.sums.number(asked) > 0.0)
    }

    /// The run with what the settings ask it to keep, and nothing else.
    fn prepared(&self, run: Run<N>) -> Run<N> {
        let Run { network, average, best, optimizer, mut progress } = run;
        let average = self.settings.average.map(|_| average.unwrap_or_else(|| network.valid()));
        let best = best.filter(|_| self.settings.keep == Keep::Best);
        if self.settings.keep == Keep::Best && best.is_none() {
            // The best network so far was not kept: the best from here on is.
            (progress.best, progress.waited) = (None, 0);
        }
        Run { network, average, best, optimizer, progress }
    }

    /// Whether batch norm's statistics are taken over several machines.
    fn synchronises(&self) -> bool {
        self.settings.batch_norm == BatchStatistics::Synchronised && !self.sums.is_alone()
    }

    fn order(&self) -> Order {
        let order = Order::new(self.train.count(), self.settings.batch_size, self.settings.seed);
        order.shared(&self.sums).in_parts(self.settings.accumulate)
    }

    fn step(&mut self, mut ongoing: Ongoing<N>, order: &mut Order) -> Result<Ongoing<N>, Error> {
        let step = ongoing.run.progress.step;
        if step > 0 && step == self.settings.learning_rate.warm_up {
            ongoing.run.progress.warmed = self.done(&ongoing.run.progress);
        }
        while let Some(cohort) = self.judged_next(&ongoing.run.progress) {
            match self.undo(&mut ongoing, cohort) {
                Err(error @ Error::Observer(_)) => return Err(error),
                Err(error) => return self.saved(ongoing, error),
                Ok(()) => {}
            }
        }
        let due = self.is_growth_due(&ongoing.run.progress);
        let mut batch = match self.batch(step, order, due) {
            Ok(batch) => batch,
            Err(unreadable) => return self.saved(ongoing, unreadable),
        };
        batch.retain(|part| self.task.examples(&part.batch.target) > 0);
        if batch.is_empty() {
            return self.saved(ongoing, Error::Examples("a batch has no examples that can be read".into()));
        }
        let logs = step.is_multiple_of(self.settings.log_every);
        let grown = if due { self.grow(&mut ongoing, order, &batch, logs) } else { Ok(None) };
        let grown = match grown {
            Ok(grown) => grown,
            // Such a loss comes from weights that are not worth saving.
            Err(error @ (Error::LossNotFinite { .. } | Error::Observer(_))) => return Err(error),
            Err(error) => return self.saved(ongoing, error),
        };

        let (started, whole) = (Instant::now(), grown.is_none());
        let (measured, gradients) = match grown {
            Some(pass) => pass,
            None => self.training_passes(&ongoing.run.network, &batch, logs)?,
        };
        let pass_seconds = started.elapsed().as_secs_f64();
        if self.growth.as_ref().is_some_and(|growth| growth.policy.follows_loss()) {
            self.follow(&mut ongoing.run.progress, self.units(&batch), &measured);
        }
        if logs {
            let norm = gradient_norm(&ongoing.run.network, &gradients);
            self.log_training(&mut ongoing, order, self.units(&batch), measured, norm)?;
        }
        let counting = batch.iter().filter(|part| part.counts);
        let examples = counting.map(|part| self.task.examples(&part.batch.target)).sum::<usize>();
        ongoing.run = self.descended(ongoing.run, gradients, examples, &mut ongoing.cohort_steps);
        if whole {
            ongoing.took(started, pass_seconds);
        }
        self.after_step(ongoing)
    }

    /// Scored units of this machine's part of a batch.
    fn units(&self, batch: &[Taken<N::Input, T::Target>]) -> usize {
        batch.iter().map(|part| self.units_of(part)).sum()
    }

    fn units_of(&self, part: &Taken<N::Input, T::Target>) -> usize {
        if part.counts { self.task.units(&part.batch.target) } else { 0 }
    }

    /// The run after a step down these gradients, those of so many examples on this machine.
    fn descended(
        &self,
        run: Run<N>,
        gradients: GradientsParams,
        examples: usize,
        cohort_steps: &mut CohortSteps,
    ) -> Run<N> {
        let Run { network, average, best, mut optimizer, mut progress } = run;
        let rate = self.learning_rate(&progress);
        progress.training_flops += training_flops(&network) * self.sums.number(examples as f64) as u64;
        let gradients = self.regularised(&network, gradients);
        let network = match self.settings.weight_decay {
            Some(decay) => decay.applied(network, rate),
            None => network,
        };
        let rated = (&progress.cohorts, &self.settings.new_weights);
        let network =
            cohort_steps.step(rated, progress.step, network, |network| optimizer.step(rate, network, gradients));
        let network = match self.synchronises() {
            // Then all machines have the same.
            true => network,
            false => self.sums.statistics(network),
        };
        let average = match (average, self.settings.average) {
            (Some(average), Some(decay)) => Some(averaged(average, &network, decay, progress.step)),
            (average, _) => average,
        };
        progress.step += 1;
        Run { network, average, best, optimizer, progress }
    }

    /// Saves the run as it is, so that it goes on from here once what went wrong is mended, and returns the error.
    fn saved(&mut self, mut ongoing: Ongoing<N>, error: Error) -> Result<Ongoing<N>, Error> {
        // Examples that one machine cannot read are no news to the others, and a checkpoint is written by all together.
        if self.sums.is_alone() || !matches!(error, Error::Examples(_)) {
            self.checkpoint(&mut ongoing)?;
        }
        Err(error)
    }

    /// Tells the observers, and lets them save the run where a checkpoint is due.
    fn after_step(&mut self, mut ongoing: Ongoing<N>) -> Result<Ongoing<N>, Error> {
        let step = ongoing.run.progress.step;
        self.observers.iter_mut().try_for_each(|observer| observer.stepped(step).map_err(Error::Observer))?;
        let due = self.settings.checkpoint_every.is_some_and(|every| step.is_multiple_of(every));
        if due && self.done(&ongoing.run.progress) < 1.0 {
            self.checkpoint(&mut ongoing)?;
        }
        Ok(ongoing)
    }

    /// This machine's share of so many units.
    fn share(&self, units: usize) -> f64 {
        match self.sums.is_alone() {
            true => 1.0,
            false => units as f64 / self.sums.number(units as f64),
        }
    }

    fn checkpoint(&mut self, ongoing: &mut Ongoing<N>) -> Result<(), Error> {
        ongoing.count_seconds();
        let run = &ongoing.run;
        self.observers.iter_mut().try_for_each(|observer| observer.checkpoint(run).map_err(Error::Observer))
    }
}
