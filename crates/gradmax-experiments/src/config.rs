//! The configuration of an experiment: read, changed by `--set`, checked once, and written out in full.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use gradmax::event::Verification;
use gradmax::methods::SidePolicy;
use gradmax::methods::{Placement, Scale};
use gradmax::policies::{Amount, Budget, Order, Periodic};
use gradmax::surgery::SecondMoments;
use gradmax::training::{BatchStatistics, CohortRates, Decay, GrowthBatch, Keep, LearningRate, OnFailure, Undo};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::data::DataConfig;
use crate::edits::{PACE, alternatives, edit, insert, is_about, options_of, typed};
use crate::failure::misuse;
use crate::method::{self, MethodOptions, Within};
use crate::optimizer::OptimizerConfig;
use crate::policy::{self, PolicyOptions};
use crate::seed_network::SeedNetwork;
use crate::shipped;

/// Everything that is needed to repeat a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// How new neurons get their weights, or one of the baselines `small` and `big`.
    #[serde(default = "default_method")]
    pub method: String,
    /// The seed of everything that is drawn.
    #[serde(default)]
    pub seed: u64,
    /// The device to compute on.
    #[serde(default = "default_device")]
    pub device: String,
    /// What to train on.
    pub data: DataConfig,
    /// The seed network.
    pub network: SeedNetwork,
    /// What steps down the gradient.
    pub optimizer: OptimizerConfig,
    /// How long, and on what batches.
    pub training: TrainingConfig,
    /// When and how the network grows; none for baselines without a target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<GrowthConfig>,
    /// What a comparison runs.
    #[serde(default)]
    pub compare: CompareConfig,
    /// Options of policies, by name.
    #[serde(default, skip_serializing_if = "PolicyOptions::is_empty")]
    pub policies: PolicyOptions,
    /// Options of methods, and variants of methods, by name.
    #[serde(default, skip_serializing_if = "MethodOptions::is_empty")]
    pub methods: MethodOptions,
}

/// How long a run is, on what batches, and what is logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Gradient steps; or `epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Passes over the training examples; or `steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// What a run may spend, and how large its network may become: `{ flops = 1e12, seconds = 600, parameters = 1e6,
    /// inference_flops = 1e6 }`, of which any may be left out. With a limit of operations or seconds, `steps` and
    /// `epochs` may be left out; the run ends at whichever comes first, and the learning rate follows that.
    #[serde(default, skip_serializing_if = "Budget::is_none")]
    pub budget: Budget,
    /// Examples a step; all of them if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    /// Steps in which the learning rate rises from 0.
    #[serde(default)]
    pub warm_up_steps: usize,
    /// Epochs in which it does; or `warm_up_steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up_epochs: Option<f64>,
    /// How it falls: `"constant"`, `"cosine"`, `"linear"`, `{ wsd = { last = 0.2 } }` (linearly over the last share of the
    /// run), or `{ step = { at = [0.3, 0.6], factor = 0.1 } }`.
    #[serde(default)]
    pub decay: Decay,
    /// Steps after a growth event in which the learning rate rises again from 0 to what it would be.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rewarm_steps: usize,
    /// The largest norm of all gradients together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_gradients: Option<f64>,
    /// The share of each class's probability that is spread over all classes.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Examples that are evaluated together.
    #[serde(default = "default_evaluation_batch")]
    pub evaluation_batch: usize,
    /// Steps between two logged training losses.
    #[serde(default = "default_log_every")]
    pub log_every: usize,
    /// Over what batch norm takes its statistics under MPI: each rank's part of a batch, `"local"`, or the parts of all,
    /// `"synchronised"`.
    #[serde(default, skip_serializing_if = "is_local")]
    pub batch_norm: BatchStatistics,
    /// Whether gradients travel between ranks while the backward pass goes on.
    #[serde(default, skip_serializing_if = "is_off")]
    pub overlap: bool,
    /// Parts in which a step's examples are passed through the network, whose gradients add up.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// The decay of a moving average of the weights, which is then evaluated and kept in their place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<f64>,
    /// Steps between two evaluations on the validation examples, or the test examples if there are none; every epoch (or
    /// a twentieth of the steps) if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluate_every: Option<usize>,
    /// Training examples, at equal distances, that the network is evaluated on at the end; all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluate_train: Option<usize>,
    /// Which network is kept: `"last"`, or the `"best"` on the validation examples.
    #[serde(default)]
    pub keep: Keep,
    /// Evaluations on the validation examples without a lower loss after which the run ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Whether event files for TensorBoard are written.
    #[serde(default, skip_serializing_if = "is_off")]
    pub tensorboard: bool,
    /// Steps between two checkpoints; a tenth of the steps if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<usize>,
}

/// When and how the network grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrowthConfig {
    /// When, where and how many: the name of a policy.
    #[serde(default = "default_policy")]
    pub policy: String,
    /// The first step at which the network may grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<usize>,
    /// Growth events happen at multiples of this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<usize>,
    /// Number of growth events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<usize>,
    /// New neurons of a site at an event; or `fraction`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// New neurons as a share of the site's seed width; or `count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    /// New neurons as a share of the site's width at that time; or `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geometric: Option<f64>,
    /// Whole blocks at an event: so many of those that have no neurons yet are filled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<usize>,
    /// Which sites grow at an event: `"all_at_once"`, or one after another, `"round_robin"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Which weights of new neurons are zero: `"automatic"`, `"incoming"` or `"outgoing"`.
    #[serde(default = "default_zero_side")]
    pub zero_side: SidePolicy,
    /// What the norm of the other weights refers to: `"mean"`, `"fresh"`, `"joint"` or `"fixed"`.
    #[serde(default = "default_scale")]
    pub scale: Scale,
    /// Multiplies the norm that `scale` refers to.
    #[serde(default = "default_factor")]
    pub factor: f64,
    /// Norm of small random weights on the zero side.
    #[serde(default)]
    pub epsilon: f64,
    /// `"training"`, `"all"` or `{ examples = N }`.
    #[serde(default = "default_growth_batch")]
    pub batch: GrowthBatch,
    /// What new entries of second moments start with: `"own"` (zeros, with a count of steps of their own), the default with
    /// Adam and AdamW; `"mean"`, that of the old ones, the default with others; or `"zeros"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_moments: Option<SecondMoments>,
    /// How the learning rates of new weights differ from that of the others: `"none"`, `"boost"` or `"norm"`.
    #[serde(default)]
    pub rates: Rates,
    /// Whether layers that are to read more are rescaled where a batch norm follows: weights with `d` inputs that get `d'`
    /// are multiplied by `sqrt(d / d')`.
    #[serde(default, skip_serializing_if = "is_off")]
    pub rescale: bool,
    /// With `rates = "boost"`: how many times as high they are at first.
    #[serde(default = "default_boost", skip_serializing_if = "is_default_boost")]
    pub boost: f64,
    /// With `rates = "boost"`: the steps in which they fall to that of the others.
    #[serde(default = "default_boost_steps", skip_serializing_if = "is_default_boost_steps")]
    pub boost_steps: usize,
    /// Steps after an event at which those of its neurons are removed that the network can do without by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_after: Option<usize>,
    /// With `undo_after`: the share by which the loss on training examples may rise by that.
    #[serde(default = "default_undo_rise", skip_serializing_if = "is_default_undo_rise")]
    pub undo_rise: f64,
    /// How much of an event is verified: `"full"`, `"output"` or `"off"`.
    #[serde(default)]
    pub verify: Verification,
    /// What to do when an event fails: `"stop"`, or `"skip"` it and go on.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Largest relative output change at a growth event.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
}

/// How the learning rates of new weights differ from that of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rates {
    /// Not at all.
    #[default]
    None,
    /// Higher at first.
    Boost,
    /// As the norm of the new weights is to that of the seed network's.
    Norm,
}

/// What a comparison runs, and how it is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompareConfig {
    /// The methods.
    pub methods: Vec<String>,
    /// Number of seeds, from `seed` on.
    pub seeds: u64,
    /// The method that the others are compared with, seed by seed.
    pub reference: String,
    /// Confidence level of intervals.
    pub confidence: f64,
    /// A value that every method gets its own of, by validation examples on seeds of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tune: Option<Tune>,
}

/// A value that every method of a comparison gets its own of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tune {
    /// What is tuned: a key of the configuration, with dots.
    #[serde(default = "default_tuned")]
    pub key: String,
    /// The values to choose from.
    pub values: Vec<Value>,
    /// Seeds that each value is tried on.
    #[serde(default = "default_tuning_seeds")]
    pub seeds: u64,
}

/// How far the seeds on which methods are tuned are from those that are reported.
pub const TUNING_SEEDS: u64 = 1_000_000;

impl Tune {
    fn check(&self) -> Result<()> {
        if !method::may_differ_in(&self.key) {
            return Err(misuse(format!(
                "`compare.tune` is about `{}`, which cannot be tuned; name a key of the configuration with its section, for \
                 example optimizer.learning_rate",
                self.key
            )));
        }
        match self.seeds == 0 || self.values.is_empty() {
            true => Err(misuse("`compare.tune` needs at least one value and one seed")),
            false => Ok(()),
        }
    }
}

impl Default for CompareConfig {
    fn default() -> Self {
        Self {
            methods: ["small", "big", "random", "gradmax"].map(String::from).to_vec(),
            seeds: 3,
            reference: "gradmax".into(),
            confidence: 0.95,
            tune: None,
        }
    }
}

/// Gradient steps of a run that its budget ends.
pub const UNLIMITED: usize = u32::MAX as usize;

fn default_method() -> String {
    "gradmax".into()
}

fn default_policy() -> String {
    policy::PERIODIC.into()
}

fn default_device() -> String {
    "flex".into()
}

fn default_evaluation_batch() -> usize {
    1000
}

fn is_off(on: &bool) -> bool {
    !on
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn is_local(statistics: &BatchStatistics) -> bool {
    *statistics == BatchStatistics::Local
}

fn one() -> usize {
    1
}

fn default_log_every() -> usize {
    10
}

/// What is tuned if nothing else is said.
pub fn default_tuned() -> String {
    "optimizer.learning_rate".into()
}

/// The seeds that each value is tried on if nothing else is said.
pub fn default_tuning_seeds() -> u64 {
    3
}

fn default_undo_rise() -> f64 {
    Undo::new(1).rise
}

fn is_default_undo_rise(rise: &f64) -> bool {
    *rise == default_undo_rise()
}

fn default_boost() -> f64 {
    1.3
}

fn is_default_boost(boost: &f64) -> bool {
    *boost == default_boost()
}

fn default_boost_steps() -> usize {
    250
}

fn is_default_boost_steps(steps: &usize) -> bool {
    *steps == default_boost_steps()
}

fn default_zero_side() -> SidePolicy {
    Placement::default().zero_side
}

fn default_scale() -> Scale {
    Placement::default().scale
}

fn default_factor() -> f64 {
    Placement::default().factor
}

fn default_growth_batch() -> GrowthBatch {
    GrowthBatch::Training
}

fn default_tolerance() -> f64 {
    1e-5
}

impl Experiment {
    /// Reads a configuration from a file, or the one of that name that comes with the program, with changes of the form
    /// `key=value`.
    pub fn read(path: &Path, changes: &[String]) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => match path.to_str().and_then(shipped::named).filter(|_| !path.exists()) {
                Some(shipped) => shipped.text.to_string(),
                None => {
                    let names = "`gradmax list` has the names of those that come with the program";
                    return Err(misuse(format!("cannot read the configuration {}: {error}; {names}", path.display())));
                }
            },
        };
        let mut experiment = Self::parse(&text, &path.display().to_string(), changes)?;
        // A folder in the file is meant from the file on, one of the command line from where that was typed.
        let typed = |option: &str| changes.iter().any(|change| is_about(change, &format!("data.{option}")));
        let base = path.parent().unwrap_or(Path::new(""));
        experiment.data.resolve(base, typed)?;
        let typed = changes.iter().any(|change| is_about(change, "network.from"));
        experiment.network.resolve(if typed { Path::new("") } else { base })?;
        Ok(experiment)
    }

    /// As [`read`](Self::read), from text that came from somewhere.
    pub fn parse(text: &str, origin: &str, changes: &[String]) -> Result<Self> {
        let in_file = |error: String| misuse(format!("{origin}: {}", one_line(&error)));
        if changes.is_empty() {
            // Straight from the text, so that messages can point at the line.
            let experiment = toml::from_str::<Self>(text).map_err(|error| in_file(error.to_string()))?;
            return experiment.checked().with_context(|| origin.to_string());
        }
        let mut table = text.parse::<Table>().map_err(|error| in_file(error.to_string()))?;
        edit(&mut table, changes.iter().map(|change| typed(change)).collect::<Result<Vec<_>>>()?)
            .map_err(|error| misuse(format!("--set {error}")))?;
        let experiment = Value::Table(table).try_into::<Self>();
        let experiment =
            experiment.map_err(|error| misuse(format!("{origin} with --set: {}", one_line(&error.to_string()))))?;
        experiment.checked().with_context(|| origin.to_string())
    }

    /// The seeds of a comparison.
    pub fn seeds(&self) -> Range<u64> {
        self.seed..self.seed + self.compare.seeds
    }

    /// The configuration as TOML, every default written out.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string_pretty(self)?)
    }

    /// The configuration, if every value makes sense; needed again after a change.
    pub fn checked(mut self) -> Result<Self> {
        let methods = &self.compare.methods;
        let given = std::mem::take(&mut self.methods);
        for name in [&self.method].into_iter().chain(methods).chain(given.keys()) {
            if let Some(options) = method::full_options(name, &given)? {
                self.methods.insert(name.clone(), options);
            }
        }
        if let Some((_, twice)) = methods.iter().enumerate().find(|(at, name)| methods[..*at].contains(name)) {
            return Err(misuse(format!("the method `{twice}` is named twice; name each once")));
        }
        if !self.compare.methods.contains(&self.compare.reference)
            && let Some(first) = self.compare.methods.first()
        {
            self.compare.reference = first.clone();
        }
        if !(self.compare.confidence > 0.0 && self.compare.confidence < 1.0) {
            return Err(misuse(format!(
                "`compare.confidence` is {}; it must lie between 0 and 1",
                self.compare.confidence
            )));
        }
        self.check_tuning()?;
        self.optimizer.check()?;
        self.training.check(self.data.has_validation())?;
        self.training.learning_rate(self.optimizer.learning_rate(), 1).check()?;
        self.data.check(self.training.batch_size)?;
        if self.seed.checked_add(self.compare.seeds).is_none() {
            return Err(misuse(format!(
                "`seed` is {}, and {} seeds from there on would pass the largest number; choose a smaller one",
                self.seed, self.compare.seeds
            )));
        }
        if let Some(growth) = self.growth.as_mut() {
            let own = if self.optimizer.betas().is_some() { SecondMoments::Own } else { SecondMoments::Mean };
            if *growth.second_moments.get_or_insert(own) == SecondMoments::Own && self.optimizer.betas().is_none() {
                return Err(misuse(
                    "`growth.second_moments` is `own`, a count of steps of their own, and this optimizer counts none; use \
                     `mean` or `zeros`",
                ));
            }
            growth.check()?;
            policy::check_names(self.policies.keys())?;
            let full = policy::full_options(growth, &self.policies)?;
            self.policies.remove(&growth.policy);
            self.policies.extend(Some((growth.policy.clone(), full)).filter(|(_, options)| !options.is_empty()));
        }
        Ok(self)
    }

    fn check_tuning(&self) -> Result<()> {
        let Some(tune) = &self.compare.tune else {
            return Ok(());
        };
        if !self.data.has_validation() {
            return Err(misuse(
                "`compare.tune` chooses by validation examples, and there are none; hold some out with `data.validation`, for \
                 example 0.1",
            ));
        }
        match self.seed.checked_add(TUNING_SEEDS).and_then(|seed| seed.checked_add(tune.seeds)) {
            None => {
                Err(misuse(format!("`seed` is {}, which leaves no seeds to tune on; choose a smaller one", self.seed)))
            }
            Some(_) => tune.check(),
        }
    }

    /// The experiment of one method: what `methods.NAME.with` says, and these further keys, are changed, and nothing is
    /// left of other methods and policies and of the comparison.
    pub fn of_method(&self, name: &str, further: &[(&str, Value)]) -> Result<Self> {
        let mut experiment = Self { method: name.into(), compare: CompareConfig::default(), ..self.clone() };
        experiment.methods.retain(|method, _| method == name);
        for (key, value) in further {
            let own = experiment.methods.entry(name.into()).or_default();
            insert(own, &format!("{}.{key}", method::WITH), value.clone())?;
        }
        if let Some(with) = method::with(name, &experiment.methods) {
            let mut table = Table::try_from(&experiment)?;
            edit(&mut table, options_of(with))?;
            let changed = Value::Table(table).try_into::<Self>();
            let changed =
                changed.map_err(|error| misuse(format!("`methods.{name}.with`: {}", one_line(&error.to_string()))))?;
            // What was found in the data is not in the table, and cannot be changed.
            experiment = Self { data: experiment.data, ..changed };
        }
        if let Some(growth) = &experiment.growth {
            experiment.policies.retain(|policy, _| *policy == growth.policy);
        }
        experiment.checked().with_context(|| format!("the method `{name}`"))
    }

    /// The keys in which a run differs from others of its experiment, since it is of its method.
    pub fn keys_of_method(&self) -> Vec<String> {
        let with = method::with(&self.method, &self.methods);
        let mut own = with.map(options_of).unwrap_or_default().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        if own.iter().any(|key| key == "growth.policy") {
            own.extend(PACE.iter().map(|key| format!("growth.{key}")));
            own.push("policies".into());
        }
        for section in ["network", "optimizer"] {
            if own.contains(&format!("{section}.name")) {
                own.push(section.into());
            }
        }
        if Within::of(&self.method, &self.methods).is_some() {
            own.extend(["training.steps", "training.epochs", "training.budget"].map(String::from));
        }
        let others = own.iter().flat_map(|key| alternatives(key)).map(String::from).collect::<Vec<_>>();
        own.extend(others);
        own
    }

    /// The same with another length: until this budget is spent.
    pub fn within(self, budget: Budget) -> Self {
        let Budget { flops, seconds, .. } = budget;
        let budget = Budget { flops, seconds, ..self.training.budget };
        Self { training: TrainingConfig { steps: None, epochs: None, budget, ..self.training }, ..self }
    }
}

impl GrowthConfig {
    /// Checks what does not depend on the policy, and fills in what the periodic one has by default.
    fn check(&mut self) -> Result<()> {
        if self.policy == policy::PERIODIC {
            self.order.get_or_insert_default();
        }
        self.placement().check()?;
        self.cohort_rates().check().map_err(|error| misuse(format!("`growth`: {error}")))?;
        if self.batch == GrowthBatch::Examples(0) {
            return Err(misuse("`growth.batch.examples` is 0; growth needs at least one example to look at"));
        }
        match self.tolerance.is_nan() || self.tolerance < 0.0 {
            true => Err(misuse(format!("`growth.tolerance` is {}; it must not be negative", self.tolerance))),
            false => Ok(()),
        }
    }
}

impl TrainingConfig {
    fn check(&self, has_validation: bool) -> Result<()> {
        let zero = |name: &str, value: Option<usize>| match value {
            Some(0) => Err(misuse(format!("`training.{name}` is 0; it must be at least 1, or be left out"))),
            _ => Ok(()),
        };
        zero("batch_size", self.batch_size)?;
        zero("evaluation_batch", Some(self.evaluation_batch))?;
        zero("log_every", Some(self.log_every))?;
        zero("evaluate_every", self.evaluate_every)?;
        zero("evaluate_train", self.evaluate_train)?;
        zero("checkpoint_every", self.checkpoint_every)?;
        zero("accumulate", Some(self.accumulate))?;
        zero("patience", self.patience)?;
        let by_validation = [("keep = \"best\"", self.keep == Keep::Best), ("patience", self.patience.is_some())];
        if let Some((option, _)) = by_validation.iter().find(|(_, asked)| *asked && !has_validation) {
            return Err(misuse(format!(
                "`training.{option}` goes by validation examples, and there are none; hold some out with \
                 `data.validation`, for example 0.1"
            )));
        }
        if let Some(decay) = self.average.filter(|decay| !(0.0..1.0).contains(decay)) {
            return Err(misuse(format!(
                "`training.average` is {decay}; it must be at least 0 and below 1, usually 0.99 to 0.9999"
            )));
        }
        let positive = |name: &str, value: Option<f64>| match value {
            Some(value) if !(value > 0.0 && value.is_finite()) => {
                Err(misuse(format!("`training.{name}` is {value}; it must be a positive number, or be left out")))
            }
            _ => Ok(()),
        };
        positive("clip_gradients", self.clip_gradients)?;
        positive("warm_up_epochs", self.warm_up_epochs)?;
        if !(0.0..1.0).contains(&self.label_smoothing) {
            let value = self.label_smoothing;
            return Err(misuse(format!("`training.label_smoothing` is {value}; it must be at least 0 and below 1")));
        }
        if self.warm_up_steps > 0 && self.warm_up_epochs.is_some() {
            return Err(misuse("`training` needs either `warm_up_steps` or `warm_up_epochs`, and not both"));
        }
        self.budget.check().map_err(|error| misuse(format!("`training`: {error}")))?;
        match (self.steps, self.epochs) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            (None, None) if self.budget.ends_runs() => Ok(()),
            _ => Err(misuse("`training` needs either `steps` or `epochs`, and not both")),
        }
    }

    /// Gradient steps for a number of training examples, which is asked for only if epochs are counted: it can take a
    /// folder of a million files to know.
    pub fn steps(&self, examples: impl FnOnce() -> usize) -> usize {
        match (self.steps, self.epochs) {
            (Some(steps), _) => steps,
            (None, Some(epochs)) => epochs * self.steps_per_epoch(examples()),
            (None, None) => UNLIMITED,
        }
    }

    /// The learning rate of every step, for a number of training examples.
    pub fn learning_rate(&self, base: f64, examples: usize) -> LearningRate {
        let epochs =
            self.warm_up_epochs.map(|epochs| (epochs * self.steps_per_epoch(examples) as f64).round() as usize);
        LearningRate { base, warm_up: epochs.unwrap_or(self.warm_up_steps), decay: self.decay.clone() }
    }

    /// Gradient steps of a pass over a number of training examples.
    pub fn steps_per_epoch(&self, examples: usize) -> usize {
        self.batch_size.map_or(1, |size| examples.div_ceil(size)).max(1)
    }
}

impl GrowthConfig {
    /// The schedule of a policy that grows at fixed steps.
    pub fn periodic(&self) -> Result<Periodic> {
        match (self.start, self.every, self.times) {
            (Some(start), Some(every), Some(times)) if self.policy == policy::PERIODIC => Ok(Periodic {
                start,
                every,
                times,
                order: self.order.unwrap_or_default(),
                amount: self.amount()?,
                stretch: 1.0,
            }),
            _ => Err(misuse(format!("this needs `growth.policy = \"{}\"` with its options", policy::PERIODIC))),
        }
    }

    /// The learning rates of new weights.
    pub fn cohort_rates(&self) -> CohortRates {
        match self.rates {
            Rates::None => CohortRates::None,
            Rates::Boost => CohortRates::Boost { factor: self.boost, steps: self.boost_steps },
            Rates::Norm => CohortRates::Norm,
        }
    }

    /// Which growth is taken back.
    pub fn undo(&self) -> Option<Undo> {
        self.undo_after.map(|after| Undo { rise: self.undo_rise, ..Undo::new(after) })
    }

    /// By how much a site grows at an event.
    pub fn amount(&self) -> Result<Amount> {
        let (count, blocks) = (self.count.map(Amount::Count), self.blocks.map(Amount::Blocks));
        let (fraction, geometric) = (self.fraction.map(Amount::Fraction), self.geometric.map(Amount::Geometric));
        let mut named = [count, fraction, geometric, blocks].into_iter().flatten();
        match (named.next(), named.next()) {
            (Some(amount), None) => Ok(amount),
            _ => Err(misuse("`growth` needs `count`, `fraction`, `geometric` or `blocks`, and not both or several")),
        }
    }

    /// Where new weights go, and how large they are.
    pub fn placement(&self) -> Placement {
        Placement { zero_side: self.zero_side, scale: self.scale, factor: self.factor, epsilon: self.epsilon }
    }
}

/// What a section says, for types that read it in pieces; an error names the key.
pub(crate) fn section<T: DeserializeOwned>(table: &Table) -> Result<T, String> {
    // From text, since tables do not tell which key an error is about.
    let text = toml::to_string(table).map_err(|error| error.to_string())?;
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let line = error.span().and_then(|span| text[..span.end].lines().last());
        match line.and_then(|line| line.split_once('=')).filter(|_| error.message().starts_with("invalid")) {
            Some((key, _)) => format!("`{}`: {}", key.trim(), error.message()),
            None => error.message().to_string(),
        }
    })
}

/// A parser's message in one line: position and problem, without the quoted source.
fn one_line(message: &str) -> String {
    let kept = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let kept = kept.filter(|line| !line.starts_with('|') && !line.contains(" | "));
    kept.collect::<Vec<_>>().join(": ").replace("TOML parse error at ", "")
}
