//! Probes look at a forward pass, site by site, and take the evidence that growth needs.

use std::collections::BTreeMap;

use burn::tensor::Gradients;

use crate::error::Error;
use crate::site::declaration::Site;
use crate::site::layer::{Consumer, Producer};
use crate::site::shown::{Showable, Shown, Tap};
use crate::site::signal::{Indices, Input, Signal};

/// Sees what the writers of every site read, and what its readers compute, during a forward pass.
///
/// A network calls [`site`](trait.Probe.html#method.site) once for each site (twice, if it uses the site's layers
/// twice) and goes on with what it returns. Ordinary training passes the empty probe `()`, which costs nothing.
pub trait Probe {
    /// Sees what a writer of a site reads, counted from 0.
    fn wrote(&mut self, site: &str, writer: usize, input: Shown);

    /// Sees that a reader of a site, counted from 0, computes something of what the writers before it wrote last; the tap
    /// gives the gradient there.
    fn reads(&mut self, site: &str, consumer: usize, tap: Tap);

    /// Whether it looks at all.
    fn looks(&self) -> bool {
        true
    }
}

impl dyn Probe + '_ {
    /// Shows a site: the producer's input and the consumer's output; returns the consumer's output.
    ///
    /// # Shapes
    /// `[batch, inputs]` at dense layers, with axes of positions in between if there are any; `[batch, channels,
    /// height, width]` at convolutions; indices at embeddings. The two may differ in rank.
    #[must_use = "the forward pass has to go on with what the probe returns, or the site receives no gradient"]
    pub fn site<P: Showable, C: Showable>(&mut self, site: &str, input: &P, output: C) -> C {
        self.consumer(site, 0, input, output)
    }

    /// As `site`, for one of several consumers of the site's neurons, in the order of
    /// [`Site::paths`].
    #[must_use = "the forward pass has to go on with what the probe returns, or the site receives no gradient"]
    pub fn consumer<P: Showable, C: Showable>(&mut self, site: &str, consumer: usize, input: &P, output: C) -> C {
        self.write(site, 0, input);
        self.read(site, consumer, output)
    }

    /// Shows what one of a residual stream's writers reads, in the order of [`Site::writers`], before any reader of it
    /// is shown.
    pub fn write<P: Showable>(&mut self, site: &str, writer: usize, input: &P) {
        if self.looks() {
            self.wrote(site, writer, input.clone().into_shown());
        }
    }

    /// Shows what one of a residual stream's readers computes, in the order of [`Site::paths`]; returns it.
    #[must_use = "the forward pass has to go on with what the probe returns, or the site receives no gradient"]
    pub fn read<C: Showable>(&mut self, site: &str, consumer: usize, output: C) -> C {
        if !self.looks() {
            return output;
        }
        let (output, tap) = output.tapped();
        self.reads(site, consumer, tap);
        output
    }
}

impl Probe for () {
    fn wrote(&mut self, _site: &str, _writer: usize, _input: Shown) {}

    fn reads(&mut self, _site: &str, _consumer: usize, _tap: Tap) {}

    fn looks(&self) -> bool {
        false
    }
}

/// What one reading of a site's neurons in a forward pass showed, as the site's layers understand it.
#[derive(Debug, Clone)]
pub(crate) struct Passage {
    /// Which of the site's consumers.
    pub(crate) consumer: usize,
    /// What the writers before it read, `h`; none for one that was not shown, as it reads nothing.
    pub(crate) inputs: Vec<Option<Input>>,
    /// The gradient of the loss at the consumer's output.
    pub(crate) delta: Signal,
    /// Whether its examples count: a part whose loss counts nothing was passed for the sake of other machines.
    pub(crate) counts: bool,
}

impl Passage {
    /// The first example.
    pub(crate) fn first_example(&self) -> Self {
        let first = |signal: &Signal| signal.clone().map(|entries| entries.narrow(0, 0, 1));
        let inputs = self.inputs.iter().map(|input| match input {
            Some(Input::Signal(signal)) => Some(Input::Signal(first(signal))),
            Some(Input::Indices(indices)) => {
                let count = indices.positions.iter().product();
                let entries = indices.entries.clone().narrow(0, 0, count);
                Some(Input::Indices(Indices { entries, examples: 1, positions: indices.positions.clone() }))
            }
            None => None,
        });
        Self { inputs: inputs.collect(), delta: first(&self.delta), ..*self }
    }
}

/// What one reading of a site's neurons showed, as it was shown.
#[derive(Debug, Clone)]
struct Reading {
    consumer: usize,
    /// What every writer of the site had read before, by its number.
    inputs: BTreeMap<usize, Shown>,
    delta: Shown,
    /// Whether the loss counts anything.
    counts: bool,
    /// The memory of the inputs that no earlier reading has.
    input_bytes: usize,
}

impl Reading {
    fn has_examples(&self) -> bool {
        self.delta.has_examples() && self.inputs.values().all(Shown::has_examples)
    }

    /// The first example of all, in memory of its own.
    fn first_example(&self) -> Self {
        let inputs = self.inputs.iter().map(|(writer, input)| (*writer, input.first_example())).collect();
        Self { inputs, delta: self.delta.first_example(), ..*self }
    }
}

/// Keeps what writers read and, after the backward pass, the gradients at what readers compute.
///
/// One forward and one backward pass serve every site of the network at once, and this can be the training step's own
/// pass: the values that flow through are unchanged.
#[derive(Debug, Default)]
pub struct Recorder {
    /// What every writer read last, and whether a reading has it.
    written: BTreeMap<String, BTreeMap<usize, (Shown, bool)>>,
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    site: String,
    consumer: usize,
    inputs: BTreeMap<usize, Shown>,
    input_bytes: usize,
    tap: Tap,
}

impl Recorder {
    /// A recorder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the evidence out of the gradients of the loss, leaving the parameters' gradients in place.
    pub fn into_evidence(self, gradients: &mut Gradients) -> Evidence {
        let mut evidence = Evidence::default();
        for Seen { site, consumer, inputs, input_bytes, tap } in self.seen {
            let delta = tap.gradient(gradients);
            evidence.sites.entry(site).or_default().push(Reading {
                consumer,
                inputs,
                delta,
                counts: true,
                input_bytes,
            });
        }
        evidence
    }
}

impl Probe for Recorder {
    fn wrote(&mut self, site: &str, writer: usize, input: Shown) {
        let written = self.written.entry(site.to_string()).or_default();
        written.insert(writer, (input, false));
    }

    fn reads(&mut self, site: &str, consumer: usize, tap: Tap) {
        let (mut inputs, mut input_bytes) = (BTreeMap::new(), 0);
        for (writer, (input, is_kept)) in self.written.entry(site.to_string()).or_default() {
            // A tensor that two readings share is in memory once.
            input_bytes += if *is_kept { 0 } else { input.bytes() };
            *is_kept = true;
            inputs.insert(*writer, input.clone());
        }
        self.seen.push(Seen { site: site.to_string(), consumer, inputs, input_bytes, tap });
    }
}

/// What was seen at the sites of a network on the growth batch.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    sites: BTreeMap<String, Vec<Reading>>,
}

impl Evidence {
    /// Adds the evidence of another batch, whose loss counts with the given weight.
    ///
    /// For a mean loss over a growth batch of `n` examples that is seen in parts of `n_i`, the weights are `n_i / n`.
    pub fn accumulate(&mut self, other: Evidence, weight: f64) {
        self.extend(other.weighted(weight));
    }

    pub(crate) fn extend(&mut self, other: Evidence) {
        for (site, readings) in other.sites {
            self.sites.entry(site).or_default().extend(readings);
        }
    }

    /// The evidence of so many times the loss.
    pub(crate) fn weighted(self, weight: f64) -> Self {
        let weighted = |reading: Reading| Reading {
            delta: reading.delta.scaled(weight),
            counts: reading.counts && weight != 0.0,
            ..reading
        };
        let sites = self.sites.into_iter();
        Self { sites: sites.map(|(site, readings)| (site, readings.into_iter().map(weighted).collect())).collect() }
    }

    /// Of what each of a site's consumers shows, one example, or none if it had none.
    pub(crate) fn sample(&self) -> Self {
        let of_site = |readings: &Vec<Reading>| {
            let mut kept = BTreeMap::new();
            for reading in readings {
                let earlier = kept.entry(reading.consumer).or_insert(reading);
                if !earlier.has_examples() {
                    *earlier = reading;
                }
            }
            kept.into_values().map(Reading::first_example).collect()
        };
        Self { sites: self.sites.iter().map(|(site, readings)| (site.clone(), of_site(readings))).collect() }
    }

    /// The memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.sites.values().flatten().map(|reading| reading.input_bytes + reading.delta.bytes()).sum()
    }

    /// The passages of a site that have examples, which every consumer must have shown.
    pub(crate) fn passages(&self, site: &Site) -> Result<Vec<Passage>, Error> {
        let not_shown = |consumer| Error::SiteNotShown { site: site.name.clone(), consumer };
        let all = self.sites.get(&site.name).ok_or_else(|| not_shown(0))?;
        let passages = self.passages_with_examples(site)?;
        // A layer that is not there yet computes nothing that could be shown.
        let has_outputs = |consumer: &usize| site.paths[*consumer].consumer.outputs() > 0;
        let is_missing = |consumer: &usize| all.iter().all(|reading| reading.consumer != *consumer);
        if let Some(consumer) = (0..site.paths.len()).filter(has_outputs).find(is_missing) {
            return Err(not_shown(consumer));
        }
        match passages.is_empty() {
            true => Err(Error::NoExamples { site: site.name.clone() }),
            false => Ok(passages),
        }
    }

    /// The passages of a site that have examples, checked against its layers. Experts of a mixture can get no examples
    /// of a batch.
    pub(crate) fn passages_with_examples(&self, site: &Site) -> Result<Vec<Passage>, Error> {
        let readings = self.sites.get(&site.name).map_or([].as_slice(), Vec::as_slice);
        let passages = readings.iter().map(|reading| Ok((reading, understood(site, reading)?)));
        let passages = passages.collect::<Result<Vec<_>, Error>>()?.into_iter();
        Ok(passages.filter(|(reading, _)| reading.has_examples()).map(|(_, passage)| passage).collect())
    }

    /// The squared norm of what the gradients at a site's consumers differ by from those of other evidence on the same
    /// batch, and their own; none if they cannot be compared.
    pub(crate) fn delta_change(&self, other: &Self, site: &str) -> Option<[f64; 2]> {
        let (mine, others) = (self.sites.get(site)?, other.sites.get(site)?);
        let (mut squared, mut change) = (0.0, 0.0);
        for (reading, other) in mine.iter().zip(others) {
            // A mixture of experts can send other examples along after the last digits of its weights have changed.
            if reading.delta.shape() != other.delta.shape() {
                return None;
            }
            squared += reading.delta.norm().powi(2);
            change += reading.delta.clone().plus(other.delta.values()?.mul_scalar(-1.0)).norm().powi(2);
        }
        Some([change, squared])
    }
}

/// What a reading shows to the site's layers, which it must fit.
fn understood(site: &Site, reading: &Reading) -> Result<Passage, Error> {
    let Some(path) = site.paths.get(reading.consumer) else {
        return Err(Error::UnknownConsumer {
            site: site.name.clone(),
            consumer: reading.consumer,
            consumers: site.paths.len(),
        });
    };
    let inputs =
        site.writers[..path.writers].iter().enumerate().map(|(writer, producer)| match reading.inputs.get(&writer) {
            None if producer.fan_in() == 0 => Ok(None),
            None => Err(Error::WriterNotShown { site: site.name.clone(), writer, consumer: reading.consumer }),
            Some(shown) => read_by(&**producer, shown).map(Some).ok_or_else(|| Error::ShownWrongTensors {
                site: site.name.clone(),
                what: format!("what writer {writer} reads"),
                shape: shown.shape().to_vec(),
                features: producer.inputs(),
            }),
        });
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let delta = computed_by(&*path.consumer, &reading.delta).ok_or_else(|| Error::ShownWrongTensors {
        site: site.name.clone(),
        what: format!("what consumer {} computes", reading.consumer),
        shape: reading.delta.shape().to_vec(),
        features: path.consumer.outputs(),
    })?;
    Ok(Passage { consumer: reading.consumer, inputs, delta, counts: reading.counts })
}

/// What a producer reads, if it can read this.
fn read_by(producer: &dyn Producer, shown: &Shown) -> Option<Input> {
    if let Some(entries) = shown.indices() {
        let (examples, positions) = shown.shape().split_first()?;
        let indices = Indices { entries, examples: *examples, positions: positions.to_vec() };
        return producer.reads_indices().then_some(Input::Indices(indices));
    }
    let signal = producer.layout().signal(shown)?;
    (!producer.reads_indices() && signal.width() == producer.inputs()).then_some(Input::Signal(signal))
}

/// What a consumer computes, if this can be it.
fn computed_by(consumer: &dyn Consumer, shown: &Shown) -> Option<Signal> {
    consumer.layout().signal(shown).filter(|signal| signal.width() == consumer.outputs())
}
