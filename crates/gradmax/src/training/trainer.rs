//! Training: step, maybe grow, evaluate. Everything else happens in observers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::draws::with_draws;
use crate::error::Error;
use crate::event::gradient_norm::gradient_norm;
use crate::event::pass::{Part, Pass, TrainingPass};
use crate::policies::look::LazyLook;
use crate::seed::Seed;
use crate::site::growable::{Growable, trainable_parameters, training_flops};
use crate::site::output::Output;
use crate::site::probe::Probe;
use crate::sums::{SharedSums, Sums, alone};
use crate::training::average::averaged;
use crate::training::data::{Batch, Examples};
use crate::training::evaluation::{Evaluation, evaluate_on};
use crate::training::gradients::{added, clipped};
use crate::training::observer::{Observer, Row, Split};
use crate::training::ongoing::Ongoing;
use crate::training::order::Order;
use crate::training::run::{Outcome, Progress, Run, Summary, Validated};
use crate::training::settings::{GrowthBatch, GrowthSettings, Keep, OnFailure, Settings};
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
/// let policy = Periodic { start: 50, every: 50, times: 3, order: Order::AllAtOnce, amount: Amount::Count(2) };
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

    /// Stops after the current step, with a checkpoint, once the flag is set.
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
        let mut order = self.order();
        while ongoing.run.progress.step < self.settings.steps {
            if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                self.checkpoint(&mut ongoing)?;
                return Ok(Outcome { run: ongoing.run, finished: None });
            }
            self.evaluate_if_due(&mut ongoing, &order)?;
            if self.is_out_of_patience(&ongoing.run.progress) {
                break;
            }
            // From the step's number alone, so that a resumed run drops the same neurons.
            let draws = self.settings.seed.fold("draws").at(ongoing.run.progress.step as u64);
            ongoing = with_draws(draws, || self.step(ongoing, &mut order))?;
        }
        self.validate(&mut ongoing, &order)?;
        // Before the last rows: a run that is killed while it evaluates writes them anew when it is resumed.
        self.checkpoint(&mut ongoing)?;
        let summary = self.finish(&mut ongoing, &order)?;
        ongoing.count_seconds();
        Ok(Outcome { run: ongoing.run, finished: Some(summary) })
    }

    /// The run with what the settings ask it to keep, and nothing else.
    fn prepared(&self, run: Run<N>) -> Run<N> {
        let average = self.settings.average.map(|_| run.average.unwrap_or_else(|| run.network.valid()));
        Run { average, best: run.best.filter(|_| self.settings.keep == Keep::Best), ..run }
    }

    fn order(&self) -> Order {
        let order = Order::new(self.train.count(), self.settings.batch_size, self.settings.seed);
        order.shared(&self.sums).in_parts(self.settings.accumulate)
    }

    fn check(&self, run: &Run<N>) -> Result<(), Error> {
        let bad = |option, remedy| Err(Error::BadOption { option, value: "0".into(), remedy });
        let without_validation = |option, value| {
            Err(Error::BadOption { option, value, remedy: "there are no validation examples to go by" })
        };
        self.settings.learning_rate.check()?;
        match self.settings {
            _ if self.train.count() == 0 => bad("examples", "there is nothing to train on"),
            _ if self.test.is_some_and(|test| test.count() == 0) => {
                bad("test examples", "there is nothing to evaluate on; leave the test set out")
            }
            _ if self.validation.is_some_and(|validation| validation.count() == 0) => {
                bad("validation examples", "there is nothing to evaluate on; leave the validation set out")
            }
            Settings { keep: Keep::Best, .. } if self.validation.is_none() => without_validation("keep", "best".into()),
            Settings { patience: Some(patience), .. } if self.validation.is_none() => {
                without_validation("patience", patience.to_string())
            }
            Settings { patience: Some(0), .. } => bad("patience", "leave it out to train to the last step"),
            Settings { accumulate: 0, .. } => bad("accumulate", "a batch has at least one part"),
            Settings { average: Some(decay), .. } if !(0.0..1.0).contains(&decay) => Err(Error::BadOption {
                option: "average",
                value: decay.to_string(),
                remedy: "the decay is at least 0 and below 1, usually 0.99 to 0.9999",
            }),
            Settings { batch_size: Some(0), .. } => bad("batch_size", "a batch needs at least one example"),
            Settings { evaluation_batch: 0, .. } => {
                bad("evaluation_batch", "evaluation looks at one example at least at a time")
            }
            Settings { log_every: 0, .. } => bad("log_every", "log at least every so many steps"),
            Settings { evaluate_every: Some(0), .. } => {
                bad("evaluate_every", "leave it out to evaluate at the end only")
            }
            Settings { checkpoint_every: Some(0), .. } => {
                bad("checkpoint_every", "leave it out for one at the end only")
            }
            _ if self.growth.as_ref().is_some_and(|growth| growth.batch == GrowthBatch::Examples(0)) => {
                bad("growth batch", "growth needs at least one example to look at")
            }
            _ => self.growth.as_ref().map_or(Ok(()), |growth| {
                growth.policy.check()?;
                growth.grower.check(&run.network)
            }),
        }
    }

    /// Checks that there is an output for every class, by a pass over one example; says whether classes have to be
    /// looked at batch by batch.
    fn check_classes(&self, network: &N) -> Result<bool, Error> {
        if !self.task.has_classes() {
            return Ok(false);
        }
        let batch = self.train.batch(&[0])?;
        if self.task.examples(&batch.target) == 0 {
            return Ok(false);
        }
        let output = network.valid().forward(batch.input);
        let sets = [("training", Some(self.train)), ("validation", self.validation), ("test", self.test)];
        for (set, examples) in sets {
            if let Some(largest) = examples.and_then(Examples::largest_class) {
                self.task.check(set, &output, &batch.target, Some(largest))?;
            }
        }
        Ok(self.train.largest_class().is_none())
    }

    fn step(&mut self, mut ongoing: Ongoing<N>, order: &mut Order) -> Result<Ongoing<N>, Error> {
        let step = ongoing.run.progress.step;
        let mut batch = match order.batch(self.train, step, self.settings.steps) {
            Ok(batch) => batch,
            Err(unreadable) => return self.saved(ongoing, unreadable),
        };
        batch.retain(|part| self.task.examples(&part.target) > 0);
        if batch.is_empty() {
            return self.saved(ongoing, Error::Examples("a batch has no examples that can be read".into()));
        }
        let logs = step.is_multiple_of(self.settings.log_every);
        let grown = match self.grow_if_due(&mut ongoing, order, &batch) {
            Ok(grown) => grown,
            // Such a loss comes from weights that are not worth saving.
            Err(error @ (Error::LossNotFinite { .. } | Error::Observer(_))) => return Err(error),
            Err(error) => return self.saved(ongoing, error),
        };

        let (started, whole) = (Instant::now(), grown.is_none());
        let (measured, gradients) = match grown {
            Some(pass) => (self.measured(&pass, &batch[0].target, logs), pass.gradients),
            None => self.training_passes(&ongoing.run.network, &batch, logs)?,
        };
        let pass_seconds = started.elapsed().as_secs_f64();
        if logs {
            let norm = gradient_norm(&ongoing.run.network, &gradients);
            self.log_training(&mut ongoing, order, self.units(&batch), measured, norm)?;
        }
        let examples = batch.iter().map(|part| self.task.examples(&part.target)).sum::<usize>();
        let examples = self.sums.number(examples as f64) as u64;
        let Run { network, average, best, mut optimizer, mut progress } = ongoing.run;
        progress.training_flops += training_flops(&network) * examples;
        let rate = self.settings.learning_rate.at(step, self.settings.steps);
        let gradients = self.regularised(&network, gradients);
        let network = match self.settings.weight_decay {
            Some(decay) => decay.applied(network, rate),
            None => network,
        };
        let network = optimizer.step(rate, network, gradients);
        let average = match (average, self.settings.average) {
            (Some(average), Some(decay)) => Some(averaged(average, &network, decay, step)),
            (average, _) => average,
        };
        progress.step += 1;
        ongoing.run = Run { network, average, best, optimizer, progress };
        if whole {
            ongoing.took(started, pass_seconds);
        }
        self.after_step(ongoing)
    }

    /// Logs the training loss of a batch, with its score and the norm of its gradients.
    fn log_training(
        &mut self,
        ongoing: &mut Ongoing<N>,
        order: &Order,
        units: usize,
        Measured { loss, correct }: Measured,
        gradient_norm: f64,
    ) -> Result<(), Error> {
        let loss = self.sums.number(loss.into_scalar::<f64>() * self.share(units));
        check_finite(loss, ongoing.run.progress.step)?;
        let score = correct.map(|correct| self.sums.number(correct) / self.sums.number(units as f64));
        ongoing.run.progress.loss = Some(loss);
        let parameters = trainable_parameters(&ongoing.run.network);
        self.row(ongoing, order, (Split::Train, parameters), Evaluation { loss, score }, Some(gradient_norm))
    }

    /// Scored units of this machine's part of a batch.
    fn units(&self, batch: &[Batch<N::Input, T::Target>]) -> usize {
        batch.iter().map(|part| self.task.units(&part.target)).sum()
    }

    /// Saves the run as it is, so that it goes on from here once what went wrong is mended, and returns the error.
    fn saved(&mut self, mut ongoing: Ongoing<N>, error: Error) -> Result<Ongoing<N>, Error> {
        self.checkpoint(&mut ongoing)?;
        Err(error)
    }

    /// Passes over all parts of a batch: the mean loss, and its gradients.
    fn training_passes(
        &self,
        network: &N,
        batch: &[Batch<N::Input, T::Target>],
        logs: bool,
    ) -> Result<(Measured, GradientsParams), Error> {
        let units = self.units(batch);
        let mut sum: Option<(Measured, GradientsParams)> = None;
        for part in batch {
            let pass = self.training_pass(network, part)?;
            let measured = self.measured(&pass, &part.target, logs);
            let share = self.task.units(&part.target) as f64 / units as f64;
            sum = Some(match sum {
                None if batch.len() == 1 => (measured, pass.gradients),
                None => (measured.weighted(share), added(network, GradientsParams::new(), pass.gradients, share)),
                Some((so_far, gradients)) => {
                    (so_far.plus(measured.weighted(share)), added(network, gradients, pass.gradients, share))
                }
            });
        }
        let (measured, gradients) = sum.expect("a batch has examples");
        Ok((measured, self.sums.gradients(network, gradients, self.share(units))))
    }

    /// The loss of a pass over these targets, and if it is to be logged the number of right answers.
    fn measured(&self, pass: &TrainingPass<N::Output>, target: &T::Target, logs: bool) -> Measured {
        let correct = if logs { self.task.correct(&pass.output, target) } else { None };
        Measured { loss: pass.loss.clone(), correct }
    }

    fn training_pass(&self, network: &N, batch: &Batch<N::Input, T::Target>) -> Result<TrainingPass<N::Output>, Error> {
        let output = network.forward(batch.input.clone());
        // Before the loss, which would look for outputs that are not there.
        if self.checks_classes {
            self.task.check("training", &output, &batch.target, None)?;
        }
        let loss = self.task.training_loss(&output, &batch.target);
        let gradients = GradientsParams::from_grads(loss.backward(), network);
        Ok(TrainingPass { output: output.inner(), loss: loss.inner(), gradients })
    }

    /// Gradients as the optimizer sees them.
    fn regularised(&self, network: &N, gradients: GradientsParams) -> GradientsParams {
        let gradients = match self.settings.clip_gradients {
            Some(largest) => clipped(network, gradients, largest),
            None => gradients,
        };
        match self.settings.weight_decay {
            Some(decay) => decay.added(network, gradients),
            None => gradients,
        }
    }

    /// Tells the observers, and lets them save the run where a checkpoint is due.
    fn after_step(&mut self, mut ongoing: Ongoing<N>) -> Result<Ongoing<N>, Error> {
        let step = ongoing.run.progress.step;
        self.observers.iter_mut().try_for_each(|observer| observer.stepped(step).map_err(Error::Observer))?;
        let due = self.settings.checkpoint_every.is_some_and(|every| step.is_multiple_of(every));
        if due && step < self.settings.steps {
            self.checkpoint(&mut ongoing)?;
        }
        Ok(ongoing)
    }

    /// Grows the network if the policy says so; returns the pass over the batch, if growth took it on the training
    /// step's behalf.
    fn grow_if_due(
        &mut self,
        ongoing: &mut Ongoing<N>,
        order: &Order,
        batch: &[Batch<N::Input, T::Target>],
    ) -> Result<Option<TrainingPass<N::Output>>, Error> {
        let Some(growth) = &self.growth else {
            return Ok(None);
        };
        let progress = &ongoing.run.progress;
        let observed = progress.observed(self.settings.steps);
        if !growth.policy.due(&observed, &progress.policy) {
            return Ok(None);
        }
        let started = Instant::now();
        let which = match growth.batch {
            GrowthBatch::All if order.is_whole() && !self.train.augments() => GrowthBatch::Training,
            other => other,
        };
        let context = ongoing.event_context(which == GrowthBatch::Training && batch.len() == 1);
        let parts = self.growth_batch(which, batch, context.step)?;
        let network = &ongoing.run.network;
        let look = LazyLook::new(network, &parts, growth.grower.evidence_memory(), &self.sums);
        let mut state = progress.policy.clone();
        let plan = growth.policy.plan(&observed, &look, &mut state)?;
        let taken = look.into_taken();
        if plan.is_empty() {
            ongoing.run.progress.policy = state;
            return Ok(taken.filter(|_| context.batch_is_training_step).and_then(|taken| ongoing.looked(taken)));
        }
        let grown = growth.grower.grow_from(network, &ongoing.run.optimizer, &plan, &parts, context, taken);
        // The parts borrow the batch's tensors, which can be as large as the network's activations.
        drop(parts);
        let (receipt, training_pass) = match grown {
            Ok(grown) => ongoing.grew(grown, started)?,
            Err(error) if growth.on_failure == OnFailure::Skip && is_of_growth(&error) => {
                (ongoing.passed_over_growth(context, growth.grower.method(), &error), None)
            }
            Err(error) => return Err(error),
        };
        ongoing.run.progress.policy = state;
        self.observers.iter_mut().try_for_each(|observer| observer.grown(&receipt).map_err(Error::Observer))?;
        Ok(training_pass)
    }

    /// The growth batch of a growth event at this step, as the trainer would look at it: for growing by hand.
    ///
    /// # Errors
    /// [`Error::Examples`], if an example cannot be read.
    pub fn growth_parts(&self, which: GrowthBatch, step: usize) -> Result<Vec<Part<'a, N>>, Error>
    where
        N: 'a,
        T: 'a,
    {
        let batch = self.order().batch(self.train, step, self.settings.steps)?;
        self.growth_batch(which, &batch, step)
    }

    /// The examples that a growth event looks at, in parts with their shares.
    fn growth_batch<'p>(
        &self,
        which: GrowthBatch,
        batch: &[Batch<N::Input, T::Target>],
        step: usize,
    ) -> Result<Vec<Part<'p, N>>, Error>
    where
        'a: 'p,
        N: 'p,
        T: 'p,
    {
        let task = self.task.clone();
        match which {
            GrowthBatch::Training => {
                let units = self.units(batch);
                let share = self.share(units);
                let part = |part: &Batch<N::Input, T::Target>| {
                    let weight = share * (task.units(&part.target) as f64 / units as f64);
                    let (part, task) = (part.clone(), task.clone());
                    let whole =
                        Part::whole(move |network: &N, probe: &mut dyn Probe| pass(&task, network, &part, probe));
                    Part { weight, ..whole }
                };
                Ok(batch.iter().map(part).collect())
            }
            GrowthBatch::Examples(count) => {
                let seed = self.settings.seed.fold("growth batch").at(step as u64);
                Ok(self.parts(self.drawn(count, seed), Some(seed.fold("augment")), step))
            }
            GrowthBatch::All => Ok(self.parts((0..self.train.count()).collect(), None, step)),
        }
    }

    /// The examples with these indices, in parts of the evaluation's size, with their shares; each part is read when
    /// its pass is taken, so that only one is in memory.
    fn parts<'p>(&self, indices: Vec<usize>, augmentation: Option<Seed>, step: usize) -> Vec<Part<'p, N>>
    where
        'a: 'p,
        N: 'p,
        T: 'p,
    {
        let train = self.train;
        let draws = self.settings.seed.fold("draws of growth").at(step as u64);
        let (all, indices) = (indices.len() as f64, self.sums.own(&indices).to_vec());
        let part = |(number, indices): (usize, &[usize])| {
            let (indices, task) = (indices.to_vec(), self.task.clone());
            let (weight, draws) = (indices.len() as f64 / all, draws.at(number as u64));
            let taken = move |network: &N, probe: &mut dyn Probe| {
                let batch = match augmentation {
                    Some(seed) => train.augmented(&indices, seed),
                    None => train.batch(&indices),
                }?;
                Ok(with_draws(draws, || pass(&task, network, &batch, probe)))
            };
            Part { weight, pass: Box::new(taken) }
        };
        indices.chunks(self.settings.evaluation_batch).enumerate().map(part).collect()
    }

    /// Examples for one growth event, without repetition.
    fn drawn(&self, count: usize, seed: Seed) -> Vec<usize> {
        let mut rng = seed.rng();
        let available = self.train.count();
        rand::seq::index::sample(&mut rng, available, count.min(available)).into_vec()
    }

    /// This machine's share of so many units.
    fn share(&self, units: usize) -> f64 {
        match self.sums.is_alone() {
            true => 1.0,
            false => units as f64 / self.sums.number(units as f64),
        }
    }

    fn evaluated(
        &self,
        network: &N,
        examples: &dyn Examples<Input = N::Input, Target = T::Target>,
    ) -> Result<Evaluation, Error> {
        evaluate_on(network, &self.task, examples, self.settings.evaluation_batch, &*self.sums)
    }

    /// Evaluates on the validation examples, or on the test examples if there are none, where that is due.
    fn evaluate_if_due(&mut self, ongoing: &mut Ongoing<N>, order: &Order) -> Result<(), Error> {
        let step = ongoing.run.progress.step;
        if !self.settings.evaluate_every.is_some_and(|every| step.is_multiple_of(every)) {
            return Ok(());
        }
        match (self.validation, self.test) {
            (Some(_), _) => self.validate(ongoing, order),
            (None, Some(test)) => {
                let (network, parameters) =
                    (ongoing.run.averaged().clone(), trainable_parameters(&ongoing.run.network));
                self.evaluate_as((Split::Test, parameters), (&network, test), ongoing, order).map(|_| ())
            }
            (None, None) => Ok(()),
        }
    }

    /// Evaluates on the validation examples, if that was not done since the last step, and keeps the network if it is
    /// the best so far.
    fn validate(&mut self, ongoing: &mut Ongoing<N>, order: &Order) -> Result<(), Error> {
        let progress = &ongoing.run.progress;
        let (step, sites) = (progress.step, progress.sites.clone());
        let Some(validation) = self.validation else {
            return Ok(());
        };
        if progress.validated.as_ref().is_some_and(|validated| validated.step == step) {
            return Ok(());
        }
        // A clone would share running statistics, which go on.
        let network = ongoing.run.averaged().valid();
        // In evaluation mode nothing counts as trainable.
        let parameters = trainable_parameters(&ongoing.run.network);
        let evaluation = self.evaluate_as((Split::Validation, parameters), (&network, validation), ongoing, order)?;
        let validated = Validated { step, evaluation, sites, parameters };
        let run = &mut ongoing.run;
        let is_best = run.progress.best.as_ref().is_none_or(|best| evaluation.loss < best.evaluation.loss);
        match is_best {
            true => {
                (run.progress.best, run.progress.waited) = (Some(validated.clone()), 0);
                run.best = (self.settings.keep == Keep::Best).then_some(network);
            }
            false => run.progress.waited += 1,
        }
        run.progress.validated = Some(validated);
        Ok(())
    }

    fn is_out_of_patience(&self, progress: &Progress) -> bool {
        self.settings.patience.is_some_and(|patience| progress.waited >= patience)
    }

    /// Evaluates a network of so many parameters on examples, and logs the result.
    fn evaluate_as(
        &mut self,
        what: (Split, usize),
        (network, examples): (&N, &dyn Examples<Input = N::Input, Target = T::Target>),
        ongoing: &mut Ongoing<N>,
        order: &Order,
    ) -> Result<Evaluation, Error> {
        let evaluation = self.evaluated(network, examples)?;
        check_finite(evaluation.loss, ongoing.run.progress.step)?;
        self.row(ongoing, order, what, evaluation, None)?;
        Ok(evaluation)
    }

    /// Evaluates the network that is kept.
    fn finish(&mut self, ongoing: &mut Ongoing<N>, order: &Order) -> Result<Summary, Error> {
        let kept = ongoing.run.kept().0.clone();
        let Run { best, progress, network, .. } = &ongoing.run;
        let validated = if best.is_some() { &progress.best } else { &progress.validated }.clone();
        let kept_step = validated.as_ref().map_or(progress.step, |validated| validated.step);
        let parameters =
            validated.as_ref().map_or_else(|| trainable_parameters(network), |validated| validated.parameters);
        let validation = validated.map(|validated| validated.evaluation);
        let train = self.evaluate_as((Split::Train, parameters), (&kept, self.train), ongoing, order)?;
        let test = match self.test {
            Some(test) => Some(self.evaluate_as((Split::Test, parameters), (&kept, test), ongoing, order)?),
            None => None,
        };
        let step_seconds_median = ongoing.step_seconds_median();
        Ok(Summary { train, validation, test, kept_step, parameters, step_seconds_median })
    }

    fn row(
        &mut self,
        ongoing: &mut Ongoing<N>,
        order: &Order,
        (split, parameters): (Split, usize),
        evaluation: Evaluation,
        gradient_norm: Option<f64>,
    ) -> Result<(), Error> {
        let progress = &mut ongoing.run.progress;
        progress.rows += 1;
        let row = Row {
            step: progress.step,
            epoch: order.epochs(progress.step),
            split,
            loss: evaluation.loss,
            score: evaluation.score,
            learning_rate: self.settings.learning_rate.at(progress.step, self.settings.steps),
            parameters,
            flops: progress.training_flops,
            gradient_norm,
            seconds: progress.seconds + ongoing.started.elapsed().as_secs_f64(),
        };
        self.observers.iter_mut().try_for_each(|observer| observer.logged(&row).map_err(Error::Observer))
    }

    fn checkpoint(&mut self, ongoing: &mut Ongoing<N>) -> Result<(), Error> {
        ongoing.count_seconds();
        let run = &ongoing.run;
        self.observers.iter_mut().try_for_each(|observer| observer.checkpoint(run).map_err(Error::Observer))
    }
}

/// What a pass over a batch says of the network.
struct Measured {
    /// The mean loss.
    loss: Tensor<1>,
    /// Number of right answers, if it is to be logged and the task has a score.
    correct: Option<f64>,
}

impl Measured {
    /// The loss's share in a larger mean; numbers stay.
    fn weighted(self, share: f64) -> Self {
        Self { loss: self.loss.mul_scalar(share), ..self }
    }

    fn plus(self, other: Self) -> Self {
        let correct = self.correct.zip(other.correct).map(|(own, other)| own + other);
        Self { loss: self.loss + other.loss, correct }
    }
}

fn pass<N: Growable, T: Task<Output = N::Output>>(
    task: &T,
    network: &N,
    batch: &Batch<N::Input, T::Target>,
    probe: &mut dyn Probe,
) -> Pass<N::Output> {
    let output = network.forward_probed(batch.input.clone(), probe);
    Pass { loss: task.training_loss(&output, &batch.target), output }
}

fn check_finite(loss: f64, step: usize) -> Result<(), Error> {
    match loss.is_finite() {
        true => Ok(()),
        false => Err(Error::LossNotFinite { step, loss }),
    }
}

/// Whether an error says that a growth event failed, and not that data cannot be read or training has gone wrong.
fn is_of_growth(error: &Error) -> bool {
    !matches!(error, Error::Examples(_) | Error::Observer(_) | Error::LossNotFinite { .. } | Error::Checkpoint { .. })
}
