//! Training: step, maybe grow, evaluate. Everything else happens in observers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::{ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::data::{Batch, Examples};
use crate::error::Error;
use crate::growable::{Growable, training_flops};
use crate::grower::{EventContext, Grower, Growth, Part, Pass};
use crate::observer::{Observer, Row, Split};
use crate::probe::Probe;
use crate::receipt::Receipt;
use crate::schedule::{Observed, Planned, Schedule, SiteWidth};
use crate::seed::Seed;
use crate::task::Task;

/// How long, on what batches, and what to log.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Gradient steps in all.
    pub steps: usize,
    /// Examples a step; none for all of them, in order.
    pub batch_size: Option<usize>,
    /// Learning rate.
    pub learning_rate: f64,
    /// Steps between two logged training losses.
    pub log_every: usize,
    /// Steps between two evaluations on the test examples; none for only one at the end.
    pub evaluate_every: Option<usize>,
    /// Steps between two checkpoints; none for only one at the end.
    pub checkpoint_every: Option<usize>,
    /// The seed of the order of examples.
    pub seed: Seed,
}

/// When and how a run grows.
pub struct GrowthPolicy {
    /// When, where and how much.
    pub schedule: Box<dyn Schedule>,
    /// How.
    pub grower: Grower,
    /// On what.
    pub batch: GrowthBatch,
}

/// The examples that a growth event looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrowthBatch {
    /// The batch of the training step at hand: growth then costs no pass of its own.
    Training,
    /// This many examples, drawn anew for each event.
    Examples(usize),
    /// All training examples ("full gradient estimation").
    All,
}

/// A run between two steps: all that a checkpoint holds.
#[derive(Clone)]
pub struct Run<N> {
    /// The network.
    pub network: N,
    /// The optimizer, with its state.
    pub optimizer: ModuleOptimizer,
    /// How far the run is.
    pub progress: Progress,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Gradient steps taken.
    pub step: usize,
    /// Growth events done.
    pub events: usize,
    /// Rows given to observers.
    pub rows: usize,
    /// Every site with its width in the seed network and now.
    pub sites: Vec<SiteWidth>,
    /// Floating-point operations spent on training steps.
    pub training_flops: u64,
    /// Seconds spent.
    pub seconds: f64,
    /// Of these, seconds spent on growth.
    pub growth_seconds: f64,
}

impl<N: Growable> Run<N> {
    /// The start of a run with a seed network.
    pub fn new(network: N, optimizer: ModuleOptimizer) -> Self {
        let sites = network.sites().into_iter().map(|site| {
            let width = site.width();
            SiteWidth { site: site.name, seed: width, width }
        });
        let progress = Progress {
            step: 0,
            events: 0,
            rows: 0,
            sites: sites.collect(),
            training_flops: 0,
            seconds: 0.0,
            growth_seconds: 0.0,
        };
        Self { network, optimizer, progress }
    }
}

/// How a run ended.
pub struct Outcome<N> {
    /// The run as it is now.
    pub run: Run<N>,
    /// The final evaluation; none if the run was interrupted before its last step.
    pub finished: Option<Summary>,
}

/// The final evaluation of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Loss over all training examples.
    pub train: Evaluation,
    /// Loss and score over all test examples, if there are any.
    pub test: Option<Evaluation>,
    /// Median seconds of a training step; of those since the last resume.
    pub step_seconds_median: f64,
}

/// Mean loss, and score where the task has one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f64,
    /// Share of correct answers.
    pub score: Option<f64>,
}

/// Trains a network, growing it when its policy says so.
///
/// A run is a pure function of its settings, data and seed: stopped anywhere and resumed from its last checkpoint, it ends in
/// the same weights, bit for bit, on a device that computes deterministically.
pub struct Trainer<'a, N: Growable> {
    settings: Settings,
    task: Task,
    train: &'a dyn Examples<Input = N::Input>,
    test: Option<&'a dyn Examples<Input = N::Input>>,
    growth: Option<GrowthPolicy>,
    observers: Vec<Box<dyn Observer<N> + 'a>>,
    stop: Option<&'a AtomicBool>,
}

/// Examples an evaluation takes at once.
const EVALUATION_BATCH: usize = 1000;

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
        let mut session = Session::new(run);
        let mut order = Order::new(self.settings, self.train.count());
        while session.run.progress.step < self.settings.steps {
            if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                let run = self.checkpoint(session)?;
                return Ok(Outcome { run, finished: None });
            }
            session = self.step(session, &mut order)?;
        }
        let summary = self.finish(&mut session)?;
        let run = self.checkpoint(session)?;
        Ok(Outcome { run, finished: Some(summary) })
    }

    fn check(&self, run: &Run<N>) -> Result<(), Error> {
        let bad = |option, remedy| Err(Error::BadOption { option, value: "0".into(), remedy });
        match self.settings {
            _ if self.train.count() == 0 => bad("examples", "there is nothing to train on"),
            Settings { batch_size: Some(0), .. } => bad("batch_size", "a batch needs at least one example"),
            Settings { log_every: 0, .. } => bad("log_every", "log at least every so many steps"),
            Settings { evaluate_every: Some(0), .. } => {
                bad("evaluate_every", "leave it out to evaluate at the end only")
            }
            Settings { checkpoint_every: Some(0), .. } => {
                bad("checkpoint_every", "leave it out for one at the end only")
            }
            _ => self.growth.as_ref().map_or(Ok(()), |growth| growth.grower.check(&run.network)),
        }
    }

    fn step(&mut self, mut session: Session<N>, order: &mut Order) -> Result<Session<N>, Error> {
        let step = session.run.progress.step;
        if self.settings.evaluate_every.is_some_and(|every| step.is_multiple_of(every)) {
            self.evaluate_test(&mut session)?;
        }
        let plan = self.growth.as_ref().map_or_else(Vec::new, |growth| {
            let progress = &session.run.progress;
            growth.schedule.plan(&Observed::new(step, progress.events, &progress.sites))
        });
        let batch = order.batch(self.train, step);
        let examples = batch_size(&batch.target);

        let mut from_growth = None;
        if !plan.is_empty() {
            (session, from_growth) = self.grow(session, &plan, &batch)?;
        }
        let started = Instant::now();
        let logged = step.is_multiple_of(self.settings.log_every);
        let Taken { gradients, loss, score } = match from_growth {
            Some(taken) => taken,
            None => self.pass_and_gradients(&session.run.network, &batch, logged),
        };
        if logged {
            let loss = loss.into_scalar::<f64>();
            check_finite(loss, step)?;
            let gradient_norm = Some(gradient_norm(&session.run.network, &gradients));
            self.row(&mut session, Split::Train, Evaluation { loss, score }, gradient_norm)?;
        }
        let Run { network, mut optimizer, mut progress } = session.run;
        progress.training_flops += training_flops(&network) * examples as u64;
        let network = optimizer.step(self.settings.learning_rate, network, gradients);
        progress.step += 1;
        session.run = Run { network, optimizer, progress };
        session.step_seconds.push(started.elapsed().as_secs_f64());
        session.steps_since_growth += 1;

        for observer in &mut self.observers {
            observer.stepped(session.run.progress.step).map_err(Error::Observer)?;
        }
        let step = session.run.progress.step;
        let due = self.settings.checkpoint_every.is_some_and(|every| step.is_multiple_of(every));
        if due && step < self.settings.steps {
            session.run = self.checkpoint_run(session.run, session.started)?;
            session.started = Instant::now();
        }
        Ok(session)
    }

    /// Grows the network; where its pass can serve as the training step's own, returns what the step needs from it.
    fn grow(
        &mut self,
        mut session: Session<N>,
        plan: &[Planned],
        batch: &Batch<N::Input>,
    ) -> Result<(Session<N>, Option<Taken>), Error> {
        let growth = self.growth.as_ref().expect("there is a plan, so there is a policy");
        let (task, started) = (self.task, Instant::now());
        let batches = match growth.batch {
            GrowthBatch::Training => vec![(1.0, batch.clone())],
            GrowthBatch::Examples(count) => self.parts(self.drawn(count, session.run.progress.step)),
            GrowthBatch::All => self.parts((0..self.train.count()).collect()),
        };
        let parts = batches.into_iter().map(|(weight, batch)| Part {
            weight,
            pass: Box::new(move |network: &N, probe: &mut dyn Probe| pass(task, network, &batch, probe)),
        });
        let context = EventContext {
            step: session.run.progress.step,
            event: session.run.progress.events,
            batch_is_training_step: growth.batch == GrowthBatch::Training,
            training_step: session.recent_step_milliseconds(),
        };
        let parts = parts.collect::<Vec<_>>();
        let Growth { network, optimizer, gradients, receipt } =
            growth.grower.grow_on(&session.run.network, &session.run.optimizer, plan, &parts, context)?;
        check_finite(receipt.loss_before, context.step)?;
        drop(parts);

        let Run { mut progress, .. } = session.run;
        progress.events += 1;
        for site in &receipt.sites {
            progress.sites.iter_mut().filter(|at| at.site == site.site).for_each(|at| at.width = site.width);
        }
        progress.growth_seconds += started.elapsed().as_secs_f64();
        let usable = gradients.filter(|_| growth.batch == GrowthBatch::Training);
        session.run = Run { network, optimizer, progress };
        session.steps_since_growth = 0;
        self.notify_growth(&receipt)?;
        let taken = usable.map(|gradients| {
            let output = session.run.network.valid().forward(batch.input.clone());
            let loss = Tensor::from_data([receipt.loss_before as f32], &output.device());
            Taken { gradients, loss, score: score(self.task, output, batch) }
        });
        Ok((session, taken))
    }

    fn notify_growth(&mut self, receipt: &Receipt) -> Result<(), Error> {
        self.observers.iter_mut().try_for_each(|observer| observer.grown(receipt).map_err(Error::Observer))
    }

    fn pass_and_gradients(&self, network: &N, batch: &Batch<N::Input>, scored: bool) -> Taken {
        let Pass { output, loss } = pass(self.task, network, batch, &mut ());
        let gradients = GradientsParams::from_grads(loss.backward(), network);
        let score = if scored { score(self.task, output.inner(), batch) } else { None };
        Taken { gradients, loss: loss.inner(), score }
    }

    /// The examples with these indices, in parts of the evaluation's size, with their shares.
    fn parts(&self, indices: Vec<usize>) -> Vec<(f64, Batch<N::Input>)> {
        let parts = indices.chunks(EVALUATION_BATCH);
        parts.map(|part| (part.len() as f64 / indices.len() as f64, self.train.batch(part))).collect()
    }

    /// Examples for one growth event, without repetition.
    fn drawn(&self, count: usize, step: usize) -> Vec<usize> {
        let mut rng = self.settings.seed.fold("growth batch").at(step as u64).rng();
        let available = self.train.count();
        rand::seq::index::sample(&mut rng, available, count.min(available)).into_vec()
    }

    fn evaluate_test(&mut self, session: &mut Session<N>) -> Result<Option<Evaluation>, Error> {
        let Some(test) = self.test else {
            return Ok(None);
        };
        let evaluation = evaluate(&session.run.network, self.task, test);
        check_finite(evaluation.loss, session.run.progress.step)?;
        self.row(session, Split::Test, evaluation, None)?;
        Ok(Some(evaluation))
    }

    fn finish(&mut self, session: &mut Session<N>) -> Result<Summary, Error> {
        let train = evaluate(&session.run.network, self.task, self.train);
        check_finite(train.loss, session.run.progress.step)?;
        self.row(session, Split::Train, train, None)?;
        let test = self.evaluate_test(session)?;
        Ok(Summary { train, test, step_seconds_median: median(&session.step_seconds).unwrap_or(0.0) })
    }

    fn row(
        &mut self,
        session: &mut Session<N>,
        split: Split,
        evaluation: Evaluation,
        gradient_norm: Option<f64>,
    ) -> Result<(), Error> {
        let progress = &mut session.run.progress;
        progress.rows += 1;
        let row = Row {
            step: progress.step,
            epoch: (progress.step * self.settings.batch_size.unwrap_or(self.train.count())) as f64
                / self.train.count() as f64,
            split,
            loss: evaluation.loss,
            score: evaluation.score,
            learning_rate: self.settings.learning_rate,
            parameters: session.run.network.num_params(),
            flops: progress.training_flops,
            gradient_norm,
            seconds: progress.seconds + session.started.elapsed().as_secs_f64(),
        };
        self.observers.iter_mut().try_for_each(|observer| observer.logged(&row).map_err(Error::Observer))
    }

    fn checkpoint(&mut self, session: Session<N>) -> Result<Run<N>, Error> {
        self.checkpoint_run(session.run, session.started)
    }

    fn checkpoint_run(&mut self, mut run: Run<N>, started: Instant) -> Result<Run<N>, Error> {
        run.progress.seconds += started.elapsed().as_secs_f64();
        self.observers.iter_mut().try_for_each(|observer| observer.checkpoint(&run).map_err(Error::Observer))?;
        Ok(run)
    }
}

/// What a pass over a batch gives to the optimizer and the log.
struct Taken {
    gradients: GradientsParams,
    loss: Tensor<1>,
    score: Option<f64>,
}

/// A run, and what is known about it since it was started or resumed.
struct Session<N> {
    run: Run<N>,
    started: Instant,
    step_seconds: Vec<f64>,
    steps_since_growth: usize,
}

/// Steps that the median of a training step's time is taken over.
const RECENT_STEPS: usize = 100;

impl<N> Session<N> {
    fn new(run: Run<N>) -> Self {
        Self { run, started: Instant::now(), step_seconds: Vec::new(), steps_since_growth: 0 }
    }

    /// Median milliseconds of the last steps of the network as it is.
    fn recent_step_milliseconds(&self) -> Option<f64> {
        let recent = self.steps_since_growth.min(RECENT_STEPS).min(self.step_seconds.len());
        median(&self.step_seconds[self.step_seconds.len() - recent..]).map(|seconds| seconds * 1e3)
    }
}

/// The order of examples: every epoch its own permutation, a function of the seed and the epoch.
struct Order {
    settings: Settings,
    examples: usize,
    epoch: Option<usize>,
    permutation: Vec<usize>,
}

impl Order {
    fn new(settings: Settings, examples: usize) -> Self {
        Self { settings, examples, epoch: None, permutation: (0..examples).collect() }
    }

    fn batch<I: Clone>(&mut self, examples: &dyn Examples<Input = I>, step: usize) -> Batch<I> {
        let Some(size) = self.settings.batch_size.filter(|size| *size < self.examples) else {
            return examples.all();
        };
        let steps_per_epoch = self.examples.div_ceil(size);
        let epoch = step / steps_per_epoch;
        if self.epoch != Some(epoch) {
            self.permutation = (0..self.examples).collect();
            self.permutation.shuffle(&mut self.settings.seed.fold("order").at(epoch as u64).rng());
            self.epoch = Some(epoch);
        }
        let from = step % steps_per_epoch * size;
        examples.batch(&self.permutation[from..(from + size).min(self.examples)])
    }
}

fn pass<N: Growable>(task: Task, network: &N, batch: &Batch<N::Input>, probe: &mut dyn Probe) -> Pass {
    let output = network.forward_probed(batch.input.clone(), probe);
    Pass { loss: task.loss(output.clone(), &batch.target), output }
}

fn score<I>(task: Task, output: Tensor<2>, batch: &Batch<I>) -> Option<f64> {
    let [examples, _] = output.dims();
    task.correct(output, &batch.target).map(|correct| correct / examples as f64)
}

fn batch_size(target: &crate::Target) -> usize {
    match target {
        crate::Target::Values(values) => values.dims()[0],
        crate::Target::Classes(classes) => classes.dims()[0],
    }
}

/// Mean loss and score of a network over examples, without gradients.
pub fn evaluate<N: Growable>(network: &N, task: Task, examples: &dyn Examples<Input = N::Input>) -> Evaluation {
    let network = network.valid();
    let indices = (0..examples.count()).collect::<Vec<_>>();
    let (mut loss, mut correct) = (0.0, None::<f64>);
    for part in indices.chunks(EVALUATION_BATCH) {
        let batch = if part.len() == indices.len() { examples.all() } else { examples.batch(part) };
        let output = network.forward(batch.input.clone());
        loss += task.loss(output.clone(), &batch.target).into_scalar::<f64>() * part.len() as f64;
        correct = task.correct(output, &batch.target).map(|more| correct.unwrap_or(0.0) + more);
    }
    let count = indices.len() as f64;
    Evaluation { loss: loss / count, score: correct.map(|correct| correct / count) }
}

fn check_finite(loss: f64, step: usize) -> Result<(), Error> {
    match loss.is_finite() {
        true => Ok(()),
        false => Err(Error::LossNotFinite { step, loss }),
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        even if even % 2 == 0 => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        _ => Some(sorted[middle]),
    }
}

/// The norm of all gradients of a network together.
fn gradient_norm<N: Growable>(network: &N, gradients: &GradientsParams) -> f64 {
    let mut norm = SquaredNorm { gradients, sum: 0.0 };
    network.visit(&mut norm);
    norm.sum.sqrt()
}

struct SquaredNorm<'a> {
    gradients: &'a GradientsParams,
    sum: f64,
}

impl ModuleVisitor for SquaredNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sum += gradient.square().sum().into_scalar::<f64>();
        }
    }
}
