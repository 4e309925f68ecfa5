//! Probes look at a forward pass, site by site, and take the evidence that growth needs.

use std::collections::BTreeMap;

use burn::tensor::{Gradients, Tensor};

use crate::error::Error;
use crate::site::Site;

/// Sees the producer's input and the consumer's output of every site during a forward pass.
///
/// A network calls it once for each site (twice, if it uses the site's layers twice) and goes on with what it returns.
/// Ordinary training passes the empty probe `()`, which costs nothing.
pub trait Probe {
    /// Sees a site with a dense consumer: the producer's input `[batch, inputs]` and the consumer's output
    /// `[batch, outputs]`; returns the consumer's output.
    fn dense(&mut self, site: &str, input: &Tensor<2>, output: Tensor<2>) -> Tensor<2>;
}

impl Probe for () {
    fn dense(&mut self, _site: &str, _input: &Tensor<2>, output: Tensor<2>) -> Tensor<2> {
        output
    }
}

/// What one use of a site's layers in a forward pass showed.
#[derive(Debug, Clone)]
pub(crate) struct Passage {
    /// The producer's input `h`, `[batch, inputs]`.
    pub(crate) input: Tensor<2>,
    /// The gradient of the loss at the consumer's output, `[batch, outputs]`.
    pub(crate) delta: Tensor<2>,
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
    input: Tensor<2>,
    /// A zero added to the consumer's output: its gradient is the gradient there.
    tap: Tensor<2>,
}

impl Recorder {
    /// A recorder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the evidence out of the gradients of the loss, leaving the parameters' gradients in place.
    pub fn into_evidence(self, gradients: &mut Gradients) -> Evidence {
        let mut evidence = Evidence::default();
        for Seen { site, input, tap } in self.seen {
            // No gradient means that the loss does not depend on this output.
            let delta = tap.grad_remove(gradients).unwrap_or_else(|| tap.inner().zeros_like());
            evidence.sites.entry(site).or_default().push(Passage { input, delta });
        }
        evidence
    }
}

impl Probe for Recorder {
    fn dense(&mut self, site: &str, input: &Tensor<2>, output: Tensor<2>) -> Tensor<2> {
        let tap = output.clone().inner().zeros_like().autodiff().require_grad();
        self.seen.push(Seen { site: site.to_string(), input: input.clone().inner(), tap: tap.clone() });
        output + tap
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
        for (site, passages) in other.sites {
            let scaled = |delta: Tensor<2>| if weight == 1.0 { delta } else { delta.mul_scalar(weight) };
            let weighted = passages.into_iter().map(|Passage { input, delta }| Passage { input, delta: scaled(delta) });
            self.sites.entry(site).or_default().extend(weighted);
        }
    }

    /// The passages of a site, checked against its layers.
    pub(crate) fn passages(&self, site: &Site) -> Result<&[Passage], Error> {
        let passages = self.sites.get(&site.name).ok_or_else(|| Error::SiteNotShown { site: site.name.clone() })?;
        for passage in passages {
            let (input, output) = (passage.input.dims()[1], passage.delta.dims()[1]);
            let (inputs, outputs) = (site.producer.inputs(), site.consumer.outputs());
            if input != inputs || output != outputs {
                return Err(Error::ShownWrongTensors { site: site.name.clone(), input, output, inputs, outputs });
            }
        }
        Ok(passages)
    }
}
