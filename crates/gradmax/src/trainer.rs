//! Training: step, maybe grow, evaluate. Everything else happens in observers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::optim::GradientsParams;

use crate::data::{Batch, Examples};
use crate::error::Error;
use crate::evaluation::{Evaluation, evaluate};
use crate::gradients::{clipped, gradient_norm};
use crate::growable::{Growable, training_flops};
use crate::grower::{EventContext, Growth};
use crate::observer::{Observer, Row, Split};
use crate::ongoing::Ongoing;
use crate::order::Order;
use crate::pass::{Part, Pass, TrainingPass};
use crate::probe::Probe;
use crate::run::{Outcome, Run, Summary};
use crate::schedule::Observed;
use crate::seed::Seed;
use crate::settings::{GrowthBatch, GrowthPolicy, Settings};
use crate::task::Task;

/// Trains a network, growing it when its policy says so.
///
/// A run is a pure function of its settings, data and seed: stopped anywhere and resumed from its last checkpoint, it
/// ends in the same weights, bit for bit, on a device that computes deterministically.
///
/// # Example
/// ```
/// use burn::optim::SgdConfig;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use gradmax::*;
///
/// let device = Device::flex();
/// let inputs = Tensor::<2>::random([200, 4], Distribution::Default, &device);
/// let data = InMemory::new(inputs.clone(), Target::Values(inputs.powi_scalar(2)));
/// let config = MlpConfig::new(4, &[2], 4, Activation::Tanh);
/// let network = config.init(Seed::new(0), &device.autodiff())?;
///
/// let schedule = Periodic { start: 50, every: 50, times: 3, order: Order::AllAtOnce, amount: Amount::Count(2) };
/// let growth = GrowthPolicy {
///     schedule: Box::new(schedule),
///     grower: Grower::new(GradMax::default()),
///     batch: GrowthBatch::Training,
/// };
/// let settings = Settings { batch_size: Some(50), ..Settings::new(300, 0.1) };
/// let trainer = Trainer::new(settings, Task::Regression, &data).with_growth(growth);
/// let outcome = trainer.train(Run::new(network, SgdConfig::new().init()))?;
/// assert_eq!(outcome.run.progress.sites[0].width, 2 + 3 * 2);
/// # Ok::<(), Error>(())
/// ```
pub struct Trainer<'a, N: Growable> {
    settings: Settings,
    task: Task,
    train: &'a dyn Examples<Input = N::Input>,
    test: Option<&'a dyn Examples<Input = N::Input>>,
    growth: Option<GrowthPolicy>,
    observers: Vec<Box<dyn Observer<N> + 'a>>,
    stop: Option<&'a AtomicBool>,
}

impl<'a, N: Growable> Trainer<'a, N> {
    /// A trainer without growth, test examples or observers.
    pub fn new(settings: Settings, task: Task, train: &'a dyn Examples<Input = N::Input>) -> Self {
        Self { settings, task, train, test: None, growth: None, observers: Vec::new(), stop: None }
    }

    /// Adds examples to evaluate on.
    #[must_use]
    pub fn with_test(mut self, test: &'a dyn Examples<Input = N::Input>) -> Self {
        self.test = Some(test);
        self
    }

    /// Makes the network grow.
    #[must_use]
    pub fn with_growth(mut self, growth: GrowthPolicy) -> Self {
        self.growth = Some(growth);
        self
    }

    /// Adds an observer.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer<N> + 'a) -> Self {
        self.observers.push(Box::new(observer));
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
    /// [`Error::LossNotFinite`], any error of a growth event, [`Error::Observer`].
    pub fn train(mut self, run: Run<N>) -> Result<Outcome<N>, Error> {
        self.check(&run)?;
        let mut ongoing = Ongoing::new(run);
        let mut order = Order::new(self.train.count(), self.settings.batch_size, self.settings.seed);
        while ongoing.run.progress.step < self.settings.steps {
            if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                self.checkpoint(&mut ongoing)?;
                return Ok(Outcome { run: ongoing.run, finished: None });
            }
            ongoing = self.step(ongoing, &mut order)?;
        }
        // Before the last rows: a run that is killed while it evaluates writes them anew when it is resumed.
        self.checkpoint(&mut ongoing)?;
        let summary = self.finish(&mut ongoing, &order)?;
        ongoing.count_seconds();
        Ok(Outcome { run: ongoing.run, finished: Some(summary) })
    }

    fn check(&self, run: &Run<N>) -> Result<(), Error> {
        let bad = |option, remedy| Err(Error::BadOption { option, value: "0".into(), remedy });
        self.settings.learning_rate.check()?;
        match self.settings {
            _ if self.train.count() == 0 => bad("examples", "there is nothing to train on"),
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
            _ => self.growth.as_ref().map_or(Ok(()), |growth| growth.grower.check(&run.network)),
        }
    }

    fn step(&mut self, mut ongoing: Ongoing<N>, order: &mut Order) -> Result<Ongoing<N>, Error> {
        let step = ongoing.run.progress.step;
        if self.settings.evaluate_every.is_some_and(|every| step.is_multiple_of(every)) {
            self.evaluate_test(&mut ongoing, order)?;
        }
        let batch = order.batch(self.train, step, self.settings.steps);
        if let Err(unreadable) = check_readable(self.train) {
            // Nothing was done with the batch: once it can be read, the run goes on from here.
            self.checkpoint(&mut ongoing)?;
            return Err(unreadable);
        }
        let grown = self.grow_if_due(&mut ongoing, order, &batch)?;

        let (started, whole) = (Instant::now(), grown.is_none());
        let TrainingPass { output, loss, gradients } = match grown {
            Some(training_pass) => training_pass,
            None => self.training_pass(&ongoing.run.network, &batch),
        };
        let [examples, _] = output.dims();
        if step.is_multiple_of(self.settings.log_every) {
            let loss = loss.into_scalar::<f64>();
            check_finite(loss, step)?;
            let score = self.task.correct(output, &batch.target).map(|correct| correct / examples as f64);
            let gradient_norm = Some(gradient_norm(&ongoing.run.network, &gradients));
            self.row(&mut ongoing, order, Split::Train, Evaluation { loss, score }, gradient_norm)?;
        }
        let Run { network, mut optimizer, mut progress } = ongoing.run;
        progress.training_flops += training_flops(&network) * examples as u64;
        let rate = self.settings.learning_rate.at(step, self.settings.steps);
        let gradients = self.regularised(&network, gradients);
        let network = match self.settings.weight_decay {
            Some(decay) => decay.applied(network, rate),
            None => network,
        };
        let network = optimizer.step(rate, network, gradients);
        progress.step += 1;
        ongoing.run = Run { network, optimizer, progress };
        if whole {
            ongoing.took(started);
        }
        self.after_step(ongoing)
    }

    fn training_pass(&self, network: &N, batch: &Batch<N::Input>) -> TrainingPass {
        let Pass { output, loss } = pass(self.task, self.settings.label_smoothing, network, batch, &mut ());
        let gradients = GradientsParams::from_grads(loss.backward(), network);
        TrainingPass { output: output.inner(), loss: loss.inner(), gradients }
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

    /// Grows the network if the schedule says so; returns the pass over the batch, if growth took it on the training
    /// step's behalf.
    fn grow_if_due(
        &mut self,
        ongoing: &mut Ongoing<N>,
        order: &Order,
        batch: &Batch<N::Input>,
    ) -> Result<Option<TrainingPass>, Error> {
        let Some(growth) = &self.growth else {
            return Ok(None);
        };
        let progress = &ongoing.run.progress;
        let plan = growth.schedule.plan(&Observed::new(progress.step, progress.events, &progress.sites));
        if plan.is_empty() {
            return Ok(None);
        }
        let started = Instant::now();
        let which = match growth.batch {
            GrowthBatch::All if order.is_whole() => GrowthBatch::Training,
            other => other,
        };
        let context = EventContext {
            step: progress.step,
            event: progress.events,
            batch_is_training_step: which == GrowthBatch::Training,
            training_step: ongoing.recent_step_milliseconds(),
        };
        let parts = self.passes(self.growth_batch(which, batch, context.step));
        let grown = growth.grower.grow_on(&ongoing.run.network, &ongoing.run.optimizer, &plan, &parts, context)?;
        drop(parts);
        let Growth { network, optimizer, training_pass, receipt } = grown;
        ongoing.grew(network, optimizer, &receipt, started);
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
    {
        let mut order = Order::new(self.train.count(), self.settings.batch_size, self.settings.seed);
        let batch = order.batch(self.train, step, self.settings.steps);
        let parts = self.growth_batch(which, &batch, step);
        check_readable(self.train)?;
        Ok(self.passes(parts))
    }

    /// Batches with their shares, as passes.
    fn passes<'p>(&self, batches: Vec<(f64, Batch<N::Input>)>) -> Vec<Part<'p, N>>
    where
        N: 'p,
    {
        let (task, smoothing) = (self.task, self.settings.label_smoothing);
        let part = |(weight, batch)| Part {
            weight,
            pass: Box::new(move |network: &N, probe: &mut dyn Probe| pass(task, smoothing, network, &batch, probe)),
        };
        batches.into_iter().map(part).collect()
    }

    /// The examples that a growth event looks at, in parts with their shares.
    fn growth_batch(&self, which: GrowthBatch, batch: &Batch<N::Input>, step: usize) -> Vec<(f64, Batch<N::Input>)> {
        match which {
            GrowthBatch::Training => vec![(1.0, batch.clone())],
            GrowthBatch::Examples(count) => {
                let seed = self.settings.seed.fold("growth batch").at(step as u64);
                self.parts(self.drawn(count, seed), Some(seed.fold("augment")))
            }
            GrowthBatch::All => self.parts((0..self.train.count()).collect(), None),
        }
    }

    /// The examples with these indices, in parts of the evaluation's size, with their shares.
    fn parts(&self, indices: Vec<usize>, augmentation: Option<Seed>) -> Vec<(f64, Batch<N::Input>)> {
        let batch = |part: &[usize]| match augmentation {
            Some(seed) => self.train.augmented(part, seed),
            None => self.train.batch(part),
        };
        let parts = indices.chunks(self.settings.evaluation_batch);
        parts.map(|part| (part.len() as f64 / indices.len() as f64, batch(part))).collect()
    }

    /// Examples for one growth event, without repetition.
    fn drawn(&self, count: usize, seed: Seed) -> Vec<usize> {
        let mut rng = seed.rng();
        let available = self.train.count();
        rand::seq::index::sample(&mut rng, available, count.min(available)).into_vec()
    }

    fn evaluate_test(&mut self, ongoing: &mut Ongoing<N>, order: &Order) -> Result<Option<Evaluation>, Error> {
        let Some(test) = self.test else {
            return Ok(None);
        };
        let evaluation = evaluate(&ongoing.run.network, self.task, test, self.settings.evaluation_batch);
        check_readable(test)?;
        check_finite(evaluation.loss, ongoing.run.progress.step)?;
        self.row(ongoing, order, Split::Test, evaluation, None)?;
        Ok(Some(evaluation))
    }

    fn finish(&mut self, ongoing: &mut Ongoing<N>, order: &Order) -> Result<Summary, Error> {
        let train = evaluate(&ongoing.run.network, self.task, self.train, self.settings.evaluation_batch);
        check_readable(self.train)?;
        check_finite(train.loss, ongoing.run.progress.step)?;
        self.row(ongoing, order, Split::Train, train, None)?;
        let test = self.evaluate_test(ongoing, order)?;
        Ok(Summary { train, test, step_seconds_median: ongoing.step_seconds_median() })
    }

    fn row(
        &mut self,
        ongoing: &mut Ongoing<N>,
        order: &Order,
        split: Split,
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
            parameters: ongoing.run.network.num_params(),
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

fn pass<N: Growable>(task: Task, smoothing: f64, network: &N, batch: &Batch<N::Input>, probe: &mut dyn Probe) -> Pass {
    let output = network.forward_probed(batch.input.clone(), probe);
    Pass { loss: task.smoothed_loss(output.clone(), &batch.target, smoothing), output }
}

fn check_finite(loss: f64, step: usize) -> Result<(), Error> {
    match loss.is_finite() {
        true => Ok(()),
        false => Err(Error::LossNotFinite { step, loss }),
    }
}

fn check_readable<I: Clone>(examples: &dyn Examples<Input = I>) -> Result<(), Error> {
    examples.failure().map_or(Ok(()), |failure| Err(Error::Examples(failure)))
}
