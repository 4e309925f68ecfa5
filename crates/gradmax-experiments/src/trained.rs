//! The network of a run in use: what it answers on new inputs, and how well it does on examples.

use std::path::Path;

use crate::failure::misuse;
use crate::reading::Reading;
use crate::weights::NO_GRAPH;
use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData, activation};
use gradmax::Seed;
use gradmax::networks::{Architecture, Described, NetworkGraph};
use gradmax::site::{Growable, SiteWidth};
use gradmax::training::{Evaluation, Run, Target, Task, checkpoint, each_batch};
use rand::{Rng, RngExt};
use serde::Serialize;

use crate::config::Experiment;
use crate::data::{Answers, AnyExamples, Inputs};
use crate::device;
use crate::experiment::{Networks, widened};
use crate::folder::RunFolder;
use crate::network::Network;

/// A network as a run has left it, in evaluation mode.
pub struct Trained {
    network: Network,
    /// The width of every site.
    widths: Vec<(String, usize)>,
    device: Device,
    /// What its outputs mean.
    answers: Answers,
    /// Examples that it looks at together.
    part: usize,
}

/// What a network answers on one example.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// A class, and the probability of each.
    Class {
        /// The most probable class.
        class: String,
        /// Its probability.
        probability: f64,
        /// Those of all classes, in the classes' order.
        probabilities: Vec<f64>,
    },
    /// Values.
    Values {
        /// The values, in the outputs' order.
        values: Vec<f64>,
    },
}

/// How well a network does on examples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// Number of examples.
    pub examples: usize,
    /// The mean loss, as training counts it.
    pub loss: f64,
    /// What else there is to say, by what is learned.
    #[serde(flatten)]
    pub of: ScoresOf,
}

/// Scores by what is learned.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ScoresOf {
    /// Of classes.
    Classes {
        /// The share of examples whose most probable class is right.
        accuracy: f64,
        /// The names of the classes.
        classes: Vec<String>,
        /// For each class, how many of its examples were given each class: a row a class.
        confusion: Vec<Vec<usize>>,
    },
    /// Of text, byte by byte.
    Text {
        /// The share of bytes that were the most probable ones.
        accuracy: f64,
        /// The mean number of bits that a byte takes by the network's probabilities: the loss in other units.
        bits_per_byte: f64,
        /// The number of equally probable bytes that would be as hard to tell: the exponential of the loss.
        perplexity: f64,
    },
    /// Of values, each output by itself.
    Values {
        /// The root of the mean squared error, in the values' own units.
        root_mean_squared_error: Vec<f64>,
        /// The share of the values' variance that is explained; none where they do not vary.
        explained_variance: Vec<Option<f64>>,
    },
}

/// The run of a folder, as its last checkpoint has it.
///
/// # Errors
/// If there is no checkpoint yet, or it is damaged.
pub fn run_of(folder: &RunFolder, experiment: &Experiment) -> Result<Run<Network>> {
    run_at(folder, &folder.checkpoint(), experiment)
}

fn run_at(folder: &RunFolder, checkpoint: &Path, experiment: &Experiment) -> Result<Run<Network>> {
    if !checkpoint::exists(checkpoint) {
        bail!("{} has no checkpoint yet; let the run go on first", folder.path().display());
    }
    loaded(checkpoint, experiment)
}

/// The run that a checkpoint holds.
///
/// # Errors
/// If it is damaged, or of another network.
pub fn loaded(checkpoint: &Path, experiment: &Experiment) -> Result<Run<Network>> {
    let device = device::named(&experiment.device)?;
    let shape = Networks::of(experiment)?.seed;
    let network =
        |sites: &[SiteWidth]| Ok::<_, anyhow::Error>(widened(&shape, sites, checkpoint)?.init(Seed::new(0), &device)?);
    checkpoint::load(checkpoint, network, experiment.optimizer.init(&device))
}

impl Trained {
    /// The network that a run keeps, by its checkpoint, and the run's configuration with changes of the form
    /// `key=value`. The folder is the run's, or that of a checkpoint in it.
    ///
    /// # Errors
    /// If the folder holds no run, or no checkpoint yet.
    pub fn of(folder: &Path, changes: &[String]) -> Result<(Self, Experiment)> {
        let parent = folder.parent().filter(|run| checkpoint::is_one(folder) && RunFolder::at(*run).config().exists());
        let (run, checkpoint) = match parent {
            Some(run) => (RunFolder::at(run), folder.to_path_buf()),
            None => (RunFolder::at(folder), RunFolder::at(folder).checkpoint()),
        };
        let experiment = run.read_experiment_with(changes)?;
        let device = device::named(&experiment.device)?;
        let run = run_at(&run, &checkpoint, &experiment)?;
        let (network, sites) = run.kept();
        let (answers, part) = (experiment.data.answers()?, experiment.training.evaluation_batch);
        let widths = sites.iter().map(|site| (site.site.clone(), site.width)).collect();
        let trained = Self { network: network.valid(), widths, device: device.inner(), answers, part };
        Ok((trained, experiment))
    }

    /// The network's operations, with their weights.
    ///
    /// # Errors
    /// If the network cannot be told in such operations.
    pub fn graph(&self) -> Result<NetworkGraph> {
        self.network.graph().ok_or_else(|| misuse(NO_GRAPH))
    }

    /// The network itself, in evaluation mode.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The network as Burn's record of the module inside.
    ///
    /// # Errors
    /// If Burn cannot write it.
    pub fn record(&self) -> Result<Vec<u8>> {
        self.network.record()
    }

    /// The width of every site.
    pub fn widths(&self) -> &[(String, usize)] {
        &self.widths
    }

    /// What the outputs mean.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// The device that inputs must lie on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The answers on these inputs, in their order.
    pub fn predict(&self, inputs: &Inputs) -> Vec<Answer> {
        let count = inputs.names.len();
        let parts = (0..count).step_by(self.part.max(1));
        let of_part = |first: usize| {
            let part = inputs.tensor.clone().narrow(0, first, self.part.min(count - first));
            self.answered(self.network.forward(Reading::Maps(part)))
        };
        parts.flat_map(of_part).collect()
    }

    fn answered(&self, output: Tensor<2>) -> Vec<Answer> {
        match &self.answers {
            Answers::Classes(classes) => {
                let rows = rows(activation::softmax(output, 1));
                rows.into_iter().map(|probabilities| most_probable(classes, probabilities)).collect()
            }
            Answers::Values(quantities) => {
                let values = |row: Vec<f64>| {
                    row.into_iter().zip(quantities).map(|(value, of)| of.scale.restored(value)).collect()
                };
                rows(output).into_iter().map(|row| Answer::Values { values: values(row) }).collect()
            }
            Answers::Bytes => unreachable!("text has no examples of a file's"),
        }
    }

    /// Text that follows a beginning, byte by byte, each drawn by the probabilities that the network gives it from as many
    /// bytes before it as it takes.
    ///
    /// # Errors
    /// If the network does not go on with text, or the beginning is empty.
    pub fn continued(&self, beginning: &[u8], sampling: &Sampling) -> Result<Vec<u8>> {
        let gpt = self.network.as_gpt().filter(|_| matches!(self.answers, Answers::Bytes));
        let Some(context) = gpt.map(|gpt| gpt.shape().context) else {
            return Err(misuse("the run's network does not go on with text; give it files in place of beginnings"));
        };
        if beginning.is_empty() {
            return Err(misuse("there is nothing to go on from; give a beginning of one byte at least"));
        }
        let mut rng = Seed::new(sampling.seed).fold("sampling").rng();
        let mut text = beginning.to_vec();
        for _ in 0..sampling.count {
            let seen = &text[text.len().saturating_sub(context)..];
            let tokens = seen.iter().map(|byte| i32::from(*byte)).collect::<Vec<_>>();
            let tokens = Tensor::from_data(TensorData::new(tokens, [1, seen.len()]), &self.device);
            let logits = self.network.forward(Reading::Tokens(tokens)).narrow(0, seen.len() - 1, 1);
            let logits = logits.into_data().iter::<f64>().collect::<Vec<_>>();
            text.push(sampling.drawn(&logits, &mut rng) as u8);
        }
        Ok(text.split_off(beginning.len()))
    }

    /// How well it does on examples.
    ///
    /// # Errors
    /// If examples cannot be read, or there are none.
    pub fn evaluate(&self, examples: &AnyExamples) -> Result<Scores> {
        let task = self.answers.task();
        let (mut sums, mut tally) = (gradmax::training::Tally::default(), Tally::new(&self.answers));
        let indices = (0..examples.count()).collect::<Vec<_>>();
        each_batch(&**examples, &indices, self.part, |batch| {
            if task.examples(&batch.target) > 0 {
                let output = self.network.forward(batch.input);
                sums = sums + task.tally(&output, &batch.target);
                tally.add(&rows(output), &batch.target);
            }
        })?;
        let Evaluation { loss, .. } = Evaluation::of(sums).context("there are no examples to evaluate on")?;
        Ok(Scores { examples: tally.examples, loss, of: tally.scores(&self.answers, loss) })
    }
}

/// How text goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Bytes.
    pub count: usize,
    /// What log-odds are divided by: below 1 for what is probable, above for what is not; 0 always takes the most probable.
    pub temperature: f64,
    /// Only so many of the most probable bytes are drawn from; all if none.
    pub most_probable: Option<usize>,
    /// Other seeds draw other text.
    pub seed: u64,
}

impl Sampling {
    /// Checks that the options make sense.
    ///
    /// # Errors
    /// A sentence about the one that does not.
    pub fn check(&self) -> Result<()> {
        match self {
            _ if !(self.temperature >= 0.0 && self.temperature.is_finite()) => {
                Err(misuse(format!("--temperature is {}; it is 0 or a positive number", self.temperature)))
            }
            Self { most_probable: Some(0), .. } => Err(misuse("--top-k is 0; leave it out to draw from all bytes")),
            _ => Ok(()),
        }
    }

    /// A token, by its log-odds.
    fn drawn(&self, logits: &[f64], rng: &mut impl Rng) -> usize {
        let mut order = (0..logits.len()).collect::<Vec<_>>();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        order.truncate(self.most_probable.unwrap_or(order.len()));
        let best = order[0];
        if self.temperature == 0.0 {
            return best;
        }
        let weight = |token: usize| ((logits[token] - logits[best]) / self.temperature).exp();
        let mut left = rng.random::<f64>() * order.iter().map(|token| weight(*token)).sum::<f64>();
        for token in order {
            left -= weight(token);
            if left <= 0.0 {
                return token;
            }
        }
        best
    }
}

fn most_probable(classes: &[String], probabilities: Vec<f64>) -> Answer {
    let best = argmax(&probabilities);
    let class = classes.get(best).cloned().unwrap_or_else(|| best.to_string());
    Answer::Class { class, probability: probabilities[best], probabilities }
}

/// The first of the largest entries.
fn argmax(row: &[f64]) -> usize {
    (0..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best })
}

/// The rows of a tensor, on the host.
fn rows(tensor: Tensor<2>) -> Vec<Vec<f64>> {
    let [_, columns] = tensor.dims();
    let entries = tensor.into_data().iter::<f64>().collect::<Vec<_>>();
    entries.chunks(columns.max(1)).map(<[f64]>::to_vec).collect()
}

/// Sums over examples.
struct Tally {
    examples: usize,
    confusion: Vec<Vec<usize>>,
    /// Tokens that were the most probable ones.
    right: usize,
    /// For each output: squared errors, targets, and squared targets.
    sums: Vec<[f64; 3]>,
}

impl Tally {
    fn new(answers: &Answers) -> Self {
        let (classes, values) = match answers {
            Answers::Classes(classes) => (classes.len(), 0),
            Answers::Values(quantities) => (0, quantities.len()),
            Answers::Bytes => (0, 0),
        };
        Self { examples: 0, confusion: vec![vec![0; classes]; classes], right: 0, sums: vec![[0.0; 3]; values] }
    }

    fn add(&mut self, outputs: &[Vec<f64>], target: &Target) {
        self.examples += outputs.len();
        match target {
            Target::Classes(classes) => {
                let classes = classes.clone().into_data().iter::<i64>().collect::<Vec<_>>();
                for (output, class) in outputs.iter().zip(classes) {
                    self.confusion[class as usize][argmax(output)] += 1;
                }
            }
            Target::Values(values) => {
                for (output, values) in outputs.iter().zip(rows(values.clone())) {
                    for ((output, value), sums) in output.iter().zip(values).zip(&mut self.sums) {
                        let added = [(output - value).powi(2), value, value * value];
                        sums.iter_mut().zip(added).for_each(|(sum, added)| *sum += added);
                    }
                }
            }
            Target::Tokens(tokens) => {
                let tokens = tokens.clone().into_data().iter::<i64>().collect::<Vec<_>>();
                self.right +=
                    outputs.iter().zip(tokens).filter(|(output, token)| argmax(output) == *token as usize).count();
            }
            _ => unreachable!("networks of this program answer with classes, values or tokens"),
        }
    }

    fn scores(self, answers: &Answers, loss: f64) -> ScoresOf {
        let count = self.examples.max(1) as f64;
        match answers {
            Answers::Bytes => ScoresOf::Text {
                accuracy: self.right as f64 / count,
                bits_per_byte: loss / std::f64::consts::LN_2,
                perplexity: loss.exp(),
            },
            Answers::Classes(classes) => {
                let right = (0..classes.len()).map(|class| self.confusion[class][class]).sum::<usize>();
                let accuracy = right as f64 / count;
                ScoresOf::Classes { accuracy, classes: classes.clone(), confusion: self.confusion }
            }
            Answers::Values(quantities) => {
                // Targets are standardised, so that the difference of these sums keeps its digits.
                let variance = |[_, sum, squares]: [f64; 3]| squares / count - (sum / count).powi(2);
                let error = |[error, ..]: [f64; 3]| error / count;
                let explained = |sums| (variance(sums) > 1e-12).then(|| 1.0 - error(sums) / variance(sums));
                let errors = self.sums.iter().zip(quantities);
                let errors = errors.map(|(sums, of)| error(*sums).sqrt() * of.scale.deviation);
                ScoresOf::Values {
                    root_mean_squared_error: errors.collect(),
                    explained_variance: self.sums.iter().map(|sums| explained(*sums)).collect(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_drawn_by_their_probabilities() {
        let logits = [0.0, 2.0_f64.ln(), f64::NEG_INFINITY, 1.0_f64.ln()];
        let shares = |temperature: f64, most_probable: Option<usize>| {
            let sampling = Sampling { count: 0, temperature, most_probable, seed: 0 };
            let mut rng = Seed::new(3).rng();
            let mut counts = [0.0; 4];
            (0..40_000).for_each(|_| counts[sampling.drawn(&logits, &mut rng)] += 1.0 / 40_000.0);
            counts
        };
        let is = |shares: [f64; 4], expected: [f64; 4]| {
            assert!(shares.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.01), "{shares:?} {expected:?}");
        };
        is(shares(1.0, None), [0.25, 0.5, 0.0, 0.25]);
        is(shares(0.5, None), [1.0 / 6.0, 4.0 / 6.0, 0.0, 1.0 / 6.0]);
        is(shares(1.0, Some(2)), [1.0 / 3.0, 2.0 / 3.0, 0.0, 0.0]);
        assert_eq!(shares(0.0, None)[1].round(), 1.0);
    }
}
