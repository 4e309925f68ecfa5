//! From a configuration to a finished run.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use gradmax::Seed;
use gradmax::event::Grower;
use gradmax::methods::GrowthMethod;
use gradmax::networks::Architecture;
use gradmax::policies::Amount;
use gradmax::site::{Growable, SiteWidth};
use gradmax::surgery::SecondMoments;
use gradmax::training::{
    GrowthSettings, NewWeights, Observer, ObserverError, Outcome, Run, Settings, Supervised, Trainer, checkpoint,
};

use crate::config::{Experiment, GrowthConfig, UNLIMITED};
use crate::data::DataSet;
use crate::device;
use crate::failure::misuse;
use crate::folder::{Recording, RunFolder, RunSummary};
use crate::method::{self, Method};
use crate::network::{Network, Shape};
use crate::output;
use crate::policy;
use crate::progress::{RunBar, Steps};
use crate::ranks::Ranks;
use crate::reading::Reading;
use crate::tensorboard::TensorBoard;

/// How a run ended.
pub enum Ending {
    /// It came to its end.
    Finished(Box<RunSummary>),
    /// Stopped, after a checkpoint.
    Stopped,
}

/// The networks of an experiment.
pub struct Networks {
    /// The network that growth starts from.
    pub seed: Shape,
    /// The network that growth leads to, if the policy knows it beforehand.
    pub target: Option<Shape>,
}

impl Networks {
    /// The seed network, and where the schedule leads from there.
    pub fn of(experiment: &Experiment) -> Result<Self> {
        let ends = experiment.data.shape()?;
        let seed = experiment.network.shape(ends)?;
        let sites = seed.site_widths();
        let target = match &experiment.growth {
            None => Some(sites),
            Some(growth) => match experiment.training.steps(|| experiment.data.examples()) {
                // Growth without end in a run that its budget ends leads to a network that is not known beforehand.
                UNLIMITED if growth.times.is_none() => None,
                steps => policy::named(growth, &experiment.policies)?.target(&sites, steps),
            },
        };
        let with_widths =
            |sites: Vec<SiteWidth>| seed.with_site_widths(&sites.iter().map(|site| site.width).collect::<Vec<_>>());
        let target = target.map(with_widths);
        Ok(Self { seed, target })
    }

    /// The network that a run of this method starts with.
    pub fn start(self, method: &Method) -> Result<Shape> {
        match (method, self.target) {
            (Method::Big, Some(target)) => Ok(target),
            (Method::Big, None) => Err(misuse(
                "the baseline `big` starts with the network that growth leads to, which the policy does not know \
                 beforehand; leave `big` out, or use a policy that does",
            )),
            (Method::Static(widths), _) => {
                let widths = self.seed.site_widths().iter().map(|site| widths.of(site)).collect::<Vec<_>>();
                Ok(self.seed.with_site_widths(&widths))
            }
            (Method::Small | Method::Grow(_), _) => Ok(self.seed),
        }
    }
}

/// Checks what can be checked without data or training.
pub fn check(experiment: &Experiment) -> Result<()> {
    let device = device::named(&experiment.device)?;
    let method = method::named(&experiment.method, &experiment.methods)?;
    let networks = Networks::of(experiment)?;
    let network = networks.start(&method)?.init(Seed::new(0), &device)?;
    if let (Method::Grow(_), Some(growth)) = (&method, &experiment.growth)
        && let Ok(amount) = growth.amount()
    {
        let widths = Run::new(network.clone(), experiment.optimizer.init(&device)).progress.sites;
        let sites = network.sites();
        let counts = amount.of(&widths);
        if matches!(amount, Amount::Blocks(_)) && counts.iter().all(|count| *count == 0) {
            return Err(misuse(
                "`growth.blocks` fills blocks that have no neurons yet, and the network has none: give `network.blocks` \
                 some with `{ heads = 0, neurons = 0 }`",
            ));
        }
        sites.iter().zip(counts).try_for_each(|(site, count)| site.check_growth(count))?;
    }
    let starts_with_seed = method.starts_with_seed();
    if let Some(growth) = growth_settings(experiment, method)? {
        if network.sites().is_empty() {
            return Err(misuse("the network has no hidden layers, so there is nothing to grow; name at least one"));
        }
        growth.grower.check(&network)?;
    }
    experiment.network.filled(network, starts_with_seed).map(|_| ())
}

/// Writes into a configuration what it takes from files that may be gone later: where the data is, and the widths of a
/// file of weights.
pub fn located(mut experiment: Experiment) -> Result<Experiment> {
    experiment.data.locate()?;
    if experiment.network.takes_widths() {
        let (ends, device) = (experiment.data.shape()?, device::named(&experiment.device)?);
        experiment.network.take_widths(&ends, &device)?;
    }
    Ok(experiment)
}

/// Why a network that is to grow never will, if that is so.
pub fn never_grows(experiment: &Experiment) -> Result<Option<String>> {
    let Some(growth) = &experiment.growth else {
        return Ok(None);
    };
    let grows = matches!(method::named(&experiment.method, &experiment.methods)?, Method::Grow(_));
    let Networks { seed, target } = Networks::of(experiment)?;
    let (Some(every), Some(start)) = (growth.every, growth.start) else {
        return Ok(None);
    };
    if !grows || growth.times == Some(0) || target.is_none_or(|target| target != seed) {
        return Ok(None);
    }
    let steps = experiment.training.steps(|| experiment.data.examples());
    Ok(Some(format!(
        "the network never grows: growth is at multiples of {every} from step {start} on, and the run has {steps} steps"
    )))
}

/// About what a run computes: three forward passes a step and example, through a network halfway through its growth.
pub fn training_flops(experiment: &Experiment) -> Result<u64> {
    let device = device::named(&experiment.device)?;
    let method = method::named(&experiment.method, &experiment.methods)?;
    let networks = Networks::of(experiment)?;
    let flops = |shape: &Shape| Ok::<_, anyhow::Error>(shape.init(Seed::new(0), &device)?.flops());
    let grown = networks.target.as_ref().filter(|_| matches!(method, Method::Grow(_))).map(flops).transpose()?;
    let first = flops(&networks.start(&method)?)?;
    let a_step = grown.map_or(first, |grown| first.midpoint(grown));
    let examples = || experiment.data.examples();
    let batch = experiment.training.batch_size.unwrap_or_else(examples);
    let steps = experiment.training.steps(examples) as u64;
    let all = (3 * a_step).saturating_mul(steps.saturating_mul(batch as u64));
    Ok(experiment.training.budget.flops.map_or(all, |budget| budget.min(all)))
}

/// Runs an experiment in its folder, from its checkpoint if there is one, to its end or until stopped.
pub fn run(
    experiment: &Experiment,
    data: &DataSet,
    folder: &RunFolder,
    bar: RunBar,
    stop: &AtomicBool,
    ranks: &Ranks,
) -> Result<Ending> {
    let device = device::named(&experiment.device)?;
    let method = method::named(&experiment.method, &experiment.methods)?;
    let settings = settings(experiment, data.train.count());
    let _alone = if ranks.is_first() { Some(folder.lock()?) } else { None };
    agree(experiment, data, ranks)?;
    let run = start(experiment, &method, folder, &device, ranks)?;
    let steps = Steps::new(bar, settings.steps, settings.budget, &run.progress);
    let mut trainer = Trainer::new(settings, task(experiment, data), &*data.train)
        .with_test(&*data.test)
        .with_observer(steps)
        .with_sums(ranks.sums())
        .with_stop(stop)
        .with_observer(InStep(ranks));
    if ranks.is_first() {
        trainer = trainer.with_observer(Recording::new(folder)?);
    }
    if experiment.training.tensorboard && ranks.is_first() {
        trainer = trainer.with_observer(TensorBoard::new(&folder.tensorboard(), &run.progress)?);
    }
    if let Some(validation) = &data.validation {
        trainer = trainer.with_validation(&**validation);
    }
    if let Some(growth) = growth_settings(experiment, method)? {
        trainer = trainer.with_growth(growth);
    }
    let sums_before = ranks.seconds();
    let trained = trainer.train(run);
    say_what_was_passed_over(&data.passed_over());
    let Outcome { run, finished } = trained?;
    let Some(evaluated) = finished else {
        return Ok(Ending::Stopped);
    };
    let (_, sites) = run.kept();
    let widths = sites.iter().map(|site| (site.site.clone(), site.width.into()));
    let summary = RunSummary {
        method: experiment.method.clone(),
        seed: experiment.seed,
        steps: run.progress.step,
        kept_step: evaluated.kept_step,
        final_train_loss: evaluated.train.loss,
        final_validation_loss: evaluated.validation.map(|validation| validation.loss),
        final_validation_score: evaluated.validation.and_then(|validation| validation.score),
        final_test_loss: evaluated.test.map(|test| test.loss),
        final_test_score: evaluated.test.and_then(|test| test.score),
        of_text: data.task == Supervised::NextToken,
        parameters: evaluated.parameters,
        widths: widths.collect(),
        train_flops: run.progress.flops(),
        seconds: run.progress.seconds,
        step_seconds_median: evaluated.step_seconds_median,
        growth_seconds: run.progress.growth_seconds,
        ranks: ranks.count(),
        sums_seconds: ranks.seconds() - sums_before,
    };
    if ranks.is_first() {
        folder.write_summary(&summary)?;
    }
    Ok(Ending::Finished(Box::new(summary)))
}

/// Checks that all ranks run the same program on the same configuration and data.
fn agree(experiment: &Experiment, data: &DataSet, ranks: &Ranks) -> Result<()> {
    if ranks.count() == 1 {
        return Ok(());
    }
    ranks.agree("the program's version", env!("CARGO_PKG_VERSION").as_bytes())?;
    // Where the data lies may differ from machine to machine.
    let mut portable = experiment.clone();
    portable.data.forget_paths();
    ranks.agree("the configuration", portable.to_toml()?.as_bytes())?;
    for (what, examples) in
        [("training", Some(&data.train)), ("validation", data.validation.as_ref()), ("test", Some(&data.test))]
    {
        let count = examples.map_or(0, |examples| examples.count());
        let mut seen = count.to_le_bytes().to_vec();
        if let (Some(examples), true) = (examples, count > 0) {
            let some = examples.batch(&[0, count / 2, count - 1])?;
            let read = match some.input {
                Reading::Maps(maps) => maps.into_data(),
                Reading::Tokens(tokens) => tokens.into_data(),
            };
            seen.extend_from_slice(read.as_bytes());
        }
        ranks.agree(&format!("the {what} data"), &seen)?;
    }
    Ok(())
}

/// Looks at every checkpoint whether all ranks have come to the same weights.
struct InStep<'a>(&'a Ranks);

impl<N: Growable> Observer<N> for InStep<'_> {
    fn checkpoint(&mut self, run: &Run<N>) -> Result<(), ObserverError> {
        if self.0.count() == 1 {
            return Ok(());
        }
        let what = format!(
            "after step {} the network (processors that round differently cannot train one together)",
            run.progress.step
        );
        Ok(self.0.agree(&what, &bytes(&run.network))?)
    }
}

/// All weights and statistics of a network.
fn bytes<N: Growable>(network: &N) -> Vec<u8> {
    struct Bytes(Vec<u8>);
    impl ModuleVisitor for Bytes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend_from_slice(param.val().into_data().as_bytes());
        }
    }
    let mut found = Bytes(Vec::new());
    network.visit(&mut found);
    found.0
}

fn say_what_was_passed_over(images: &[String]) {
    if !images.is_empty() {
        let listed = images.iter().map(|image| format!("\n  {image}")).collect::<String>();
        output::say(&format!("warning: {} images cannot be read and were passed over:{listed}", images.len()));
    }
}

/// The run as its checkpoint has it, or at its beginning; the folder's files are cut back to match.
fn start(
    experiment: &Experiment,
    method: &Method,
    folder: &RunFolder,
    device: &Device,
    ranks: &Ranks,
) -> Result<Run<Network>> {
    let run = match folder.has_checkpoint() {
        false => beginning(experiment)?,
        true => {
            let shape = Networks::of(experiment)?.start(method)?;
            let network = |sites: &[SiteWidth]| {
                Ok::<_, anyhow::Error>(
                    widened(&shape, sites, &folder.checkpoint())?.init(init_seed(experiment), device)?,
                )
            };
            checkpoint::load(&folder.checkpoint(), network, experiment.optimizer.init(device))?
        }
    };
    if ranks.count() > 1 {
        ranks.agree("the run's step", &run.progress.step.to_le_bytes())?;
        ranks.agree("the run's network", &bytes(&run.network))?;
    }
    let (was, is) = (run.progress.ranks, ranks.count());
    if was > 0 && was != is && ranks.is_first() {
        output::say(&format!(
            "the run's steps so far were taken on {was} ranks, and the next are on {is}: it goes on, but will not end in the \
             same bits as on {was}"
        ));
    }
    if ranks.is_first() {
        folder.rewind(run.progress.rows, run.progress.events, run.progress.judged)?;
    }
    Ok(run)
}

/// The run at its first step: the network that its method starts with, and a fresh optimizer.
pub fn beginning(experiment: &Experiment) -> Result<Run<Network>> {
    let method = method::named(&experiment.method, &experiment.methods)?;
    let device = device::named(&experiment.device)?;
    let network = Networks::of(experiment)?.start(&method)?.init(init_seed(experiment), &device)?;
    let network = experiment.network.filled(network, method.starts_with_seed())?;
    Ok(Run::new(network, experiment.optimizer.init(&device)))
}

/// The network of a checkpoint: of this shape, with the widths that its sites have come to.
///
/// # Errors
/// If the checkpoint is of a network with other sites.
pub fn widened(shape: &Shape, sites: &[SiteWidth], checkpoint: &Path) -> Result<Shape> {
    let names = |sites: &[SiteWidth]| sites.iter().map(|site| site.site.clone()).collect::<Vec<_>>();
    let (own, other) = (names(&shape.site_widths()), names(sites));
    if own != other {
        return Err(misuse(format!(
            "the checkpoint in {} is of a network with {} sites ({}), and the configuration's has {} ({}); change it back",
            checkpoint.display(),
            other.len(),
            other.join(", "),
            own.len(),
            own.join(", ")
        )));
    }
    Ok(shape.with_site_widths(&sites.iter().map(|site| site.width).collect::<Vec<_>>()))
}

fn init_seed(experiment: &Experiment) -> Seed {
    Seed::new(experiment.seed).fold("init")
}

/// The trainer's settings for a number of training examples.
pub fn settings(experiment: &Experiment, examples: usize) -> Settings {
    let training = &experiment.training;
    let steps = training.steps(|| examples);
    // How many steps a run takes that its budget ends is not known beforehand.
    let rare = |part: usize| if steps == UNLIMITED { 2000 / part } else { (steps / part).max(1) };
    let evaluate_every = match training.batch_size {
        Some(_) => training.steps_per_epoch(examples),
        None => rare(20),
    };
    Settings {
        steps,
        budget: training.budget,
        batch_size: training.batch_size,
        learning_rate: training.learning_rate(experiment.optimizer.learning_rate(), examples),
        new_weights: new_weights(experiment),
        rewarm: training.rewarm_steps,
        undo: experiment.growth.as_ref().and_then(GrowthConfig::undo),
        weight_decay: experiment.optimizer.weight_decay(),
        clip_gradients: training.clip_gradients,
        batch_norm: training.batch_norm,
        overlap: training.overlap,
        accumulate: training.accumulate,
        average: training.average,
        keep: training.keep,
        patience: training.patience,
        evaluation_batch: training.evaluation_batch,
        log_every: training.log_every,
        evaluate_every: Some(training.evaluate_every.unwrap_or(evaluate_every)),
        evaluate_train: training.evaluate_train,
        checkpoint_every: Some(training.checkpoint_every.unwrap_or(rare(10))),
        seed: Seed::new(experiment.seed),
    }
}

/// How the weights that growth adds train.
fn new_weights(experiment: &Experiment) -> NewWeights {
    let Some(growth) = &experiment.growth else {
        return NewWeights::default();
    };
    let own = growth.second_moments == Some(SecondMoments::Own);
    NewWeights { rates: growth.cohort_rates(), own_steps: experiment.optimizer.betas().filter(|_| own) }
}

/// What an experiment's network is trained to do.
pub fn task(experiment: &Experiment, data: &DataSet) -> Supervised {
    match (data.task, experiment.training.label_smoothing) {
        (task, 0.0) | (task @ Supervised::Regression, _) => task,
        (_, smoothing) => Supervised::SmoothedClassification(smoothing),
    }
}

/// When and how an experiment grows its network; none for baselines.
pub fn growth_settings(experiment: &Experiment, method: Method) -> Result<Option<GrowthSettings>> {
    let Method::Grow(method) = method else {
        return Ok(None);
    };
    let Some(growth) = &experiment.growth else {
        return Err(misuse(format!(
            "the method `{}` grows the network, but the configuration has no [growth]; add it, or use `small`",
            experiment.method
        )));
    };
    let grower = grower(&experiment.method, growth, method, Seed::new(experiment.seed).fold("growth"));
    let grower = grower.with_first_step(experiment.optimizer.first_step());
    let (batch, on_failure) = (growth.batch, growth.on_failure);
    Ok(Some(GrowthSettings { policy: policy::named(growth, &experiment.policies)?, grower, batch, on_failure }))
}

/// The grower of a method.
pub fn grower(name: &str, growth: &GrowthConfig, method: Box<dyn GrowthMethod>, seed: Seed) -> Grower {
    Grower::boxed(method)
        .with_name(name)
        .with_placement(growth.placement())
        .with_second_moments(growth.second_moments.unwrap_or_default())
        .with_rescaling(growth.rescale)
        .with_verification(growth.verify)
        .with_tolerance(growth.tolerance)
        .with_seed(seed)
}
