//! Probes look at a forward pass, site by site, and take the evidence that growth needs.

use std::collections::BTreeMap;

use burn::tensor::{Gradients, Tensor};

use crate::error::Error;
use crate::site::declaration::Site;
use crate::site::signal::{Activations, Signal, map_tensor};

/// Sees the producer's input and the consumer's output of every site during a forward pass.
///
/// A network calls [`site`](trait.Probe.html#method.site) once for each site (twice, if it uses the site's layers
/// twice) and goes on with what it returns. Ordinary training passes the empty probe `()`, which costs nothing.
pub trait Probe {
    /// Sees a passage through a site: the producer's input and the output of one of the site's consumers, counted from
    /// 0; returns the consumer's output.
    #[must_use = "the forward pass has to go on with what the probe returns, or the site receives no gradient"]
    fn passage(&mut self, site: &str, consumer: usize, input: Signal, output: Signal) -> Signal;
}

impl dyn Probe + '_ {
    /// Shows a site: the producer's input and the consumer's output; returns the consumer's output.
    ///
    /// # Shapes
    /// `[batch, inputs]` at dense layers, `[batch, channels, height, width]` at convolutions; the two may differ in rank.
    #[must_use = "the forward pass has to go on with what the probe returns, or the site receives no gradient"]
    pub fn site<P: Activations, C: Activations>(&mut self, site: &str, input: &P, output: C) -> C {
        self.consumer(site, 0, input, output)
    }

    /// As `site`, for one of several consumers of the site's neurons, in the order of
    /// [`Site::paths`].
    #[must_use = "the forward pass has to go on with what the probe returns, or the site receives no gradient"]
    pub fn consumer<P: Activations, C: Activations>(&mut self, site: &str, consumer: usize, input: &P, output: C) -> C {
        C::from_signal(self.passage(site, consumer, input.clone().into_signal(), output.into_signal()))
    }
}

impl Probe for () {
    fn passage(&mut self, _site: &str, _consumer: usize, _input: Signal, output: Signal) -> Signal {
        output
    }
}

/// What one use of a site's layers in a forward pass showed.
#[derive(Debug, Clone)]
pub(crate) struct Passage {
    /// Which of the site's consumers.
    pub(crate) consumer: usize,
    /// The producer's input `h`.
    pub(crate) input: Signal,
    /// The gradient of the loss at the consumer's output.
    pub(crate) delta: Signal,
}

impl Passage {
    fn has_examples(&self) -> bool {
        self.input.shape()[0] > 0 && self.delta.shape()[0] > 0
    }

    fn map(&self, of: impl Fn(Signal) -> Signal) -> Self {
        Self { consumer: self.consumer, input: of(self.input.clone()), delta: of(self.delta.clone()) }
    }

    /// The first example, if there is one.
    pub(crate) fn first_example(&self) -> Self {
        self.map(|signal| {
            let examples = signal.shape()[0].min(1);
            map_tensor!(signal, tensor => tensor.narrow(0, 0, examples))
        })
    }

    /// The same in memory of its own: a part of a tensor keeps the whole one alive.
    fn apart(&self) -> Self {
        self.map(|signal| {
            map_tensor!(signal, tensor => {
                let place = (&tensor.device(), tensor.dtype());
                Tensor::from_data(tensor.into_data(), place)
            })
        })
    }
}

/// Keeps the producer inputs and, after the backward pass, the gradients at the consumer outputs.
///
/// One forward and one backward pass serve every site of the network at once, and this can be the training step's own
/// pass: the values that flow through are unchanged.
#[derive(Debug, Default)]
pub struct Recorder {
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    site: String,
    consumer: usize,
    input: Signal,
    /// A zero added to the consumer's output: its gradient is the gradient there.
    tap: Signal,
}

impl Recorder {
    /// A recorder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the evidence out of the gradients of the loss, leaving the parameters' gradients in place.
    pub fn into_evidence(self, gradients: &mut Gradients) -> Evidence {
        let mut evidence = Evidence::default();
        for Seen { site, consumer, input, tap } in self.seen {
            // No gradient means that the loss does not depend on this output.
            let delta = map_tensor!(tap, tap => {
                tap.grad_remove(gradients).unwrap_or_else(|| tap.inner().zeros_like())
            });
            evidence.sites.entry(site).or_default().push(Passage { consumer, input, delta });
        }
        evidence
    }
}

impl Probe for Recorder {
    fn passage(&mut self, site: &str, consumer: usize, input: Signal, output: Signal) -> Signal {
        let tap = output.zero_leaf();
        let input = input.inner();
        self.seen.push(Seen { site: site.to_string(), consumer, input, tap: tap.clone() });
        output.plus(tap)
    }
}

/// What was seen at the sites of a network on the growth batch.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    sites: BTreeMap<String, Vec<Passage>>,
}

impl Evidence {
    /// Adds the evidence of another batch, whose loss counts with the given weight.
    ///
    /// For a mean loss over a growth batch of `n` examples that is seen in parts of `n_i`, the weights are `n_i / n`.
    pub fn accumulate(&mut self, other: Evidence, weight: f64) {
        self.extend(other.weighted(weight));
    }

    pub(crate) fn extend(&mut self, other: Evidence) {
        for (site, passages) in other.sites {
            self.sites.entry(site).or_default().extend(passages);
        }
    }

    /// The evidence of so many times the loss.
    pub(crate) fn weighted(self, weight: f64) -> Self {
        let weighted = |passage: Passage| Passage { delta: passage.delta.scaled(weight), ..passage };
        let sites = self.sites.into_iter();
        Self { sites: sites.map(|(site, passages)| (site, passages.into_iter().map(weighted).collect())).collect() }
    }

    /// Of what each of a site's consumers shows, one example, or none if it had none.
    pub(crate) fn sample(&self) -> Self {
        let of_site = |passages: &Vec<Passage>| {
            let mut kept = BTreeMap::new();
            for passage in passages {
                let earlier = kept.entry(passage.consumer).or_insert(passage);
                if !earlier.has_examples() {
                    *earlier = passage;
                }
            }
            kept.into_values().map(|passage| passage.first_example().apart()).collect()
        };
        Self { sites: self.sites.iter().map(|(site, passages)| (site.clone(), of_site(passages))).collect() }
    }

    /// The memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.sites.values().flatten().map(|passage| passage.input.bytes() + passage.delta.bytes()).sum()
    }

    /// The passages of a site that have examples, which every consumer must have shown.
    pub(crate) fn passages(&self, site: &Site) -> Result<Vec<&Passage>, Error> {
        let not_shown = |consumer| Error::SiteNotShown { site: site.name.clone(), consumer };
        let all = self.sites.get(&site.name).ok_or_else(|| not_shown(0))?;
        let passages = self.passages_with_examples(site)?;
        if let Some(consumer) =
            (0..site.paths.len()).find(|consumer| all.iter().all(|passage| passage.consumer != *consumer))
        {
            return Err(not_shown(consumer));
        }
        match passages.is_empty() {
            true => Err(Error::NoExamples { site: site.name.clone() }),
            false => Ok(passages),
        }
    }

    /// The passages of a site that have examples, checked against its layers. Experts of a mixture can get no examples of a
    /// batch.
    pub(crate) fn passages_with_examples(&self, site: &Site) -> Result<Vec<&Passage>, Error> {
        let passages = self.sites.get(&site.name).map_or([].as_slice(), Vec::as_slice);
        passages.iter().try_for_each(|passage| check_passage(site, passage))?;
        Ok(passages.iter().filter(|passage| passage.has_examples()).collect())
    }

    /// By how much the gradients at a site's consumers differ from those of other evidence on the same batch, relative to
    /// their size; none if they cannot be compared.
    pub(crate) fn delta_change(&self, other: &Self, site: &str) -> Option<f64> {
        let (mine, others) = (self.sites.get(site)?, other.sites.get(site)?);
        let (mut squared, mut change) = (0.0, 0.0);
        for (passage, other) in mine.iter().zip(others) {
            if passage.delta.shape() != other.delta.shape() {
                return None;
            }
            squared += passage.delta.norm().powi(2);
            change += passage.delta.clone().plus(other.delta.clone().scaled(-1.0)).norm().powi(2);
        }
        Some((change / squared).sqrt())
    }
}

/// Checks that what was shown fits the site's layers.
fn check_passage(site: &Site, passage: &Passage) -> Result<(), Error> {
    let Some(path) = site.paths.get(passage.consumer) else {
        return Err(Error::UnknownConsumer {
            site: site.name.clone(),
            consumer: passage.consumer,
            consumers: site.paths.len(),
        });
    };
    let (input, output) = (passage.input.width(), passage.delta.width());
    let (inputs, outputs) = (site.producer.inputs(), path.consumer.outputs());
    let fits = site.producer.fits(&passage.input) && path.consumer.fits(&passage.delta);
    match input == inputs && output == outputs && fits {
        true => Ok(()),
        false => Err(Error::ShownWrongTensors { site: site.name.clone(), input, output, inputs, outputs }),
    }
}
