//! Passes over the growth batch, in one part or several.

use std::cell::RefCell;

use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor};

use crate::draws::with_same_draws;
use crate::error::Error;
use crate::growable::Growable;
use crate::probe::{Evidence, Probe, Recorder};
use crate::seen::{Again, Replay, Seen};

/// One pass over (a part of) the growth batch.
pub struct Pass {
    /// The network's output, `[batch, outputs]`.
    pub output: Tensor<2>,
    /// The mean loss over the part.
    pub loss: Tensor<1>,
}

/// A part of the growth batch: its share of the mean loss, and its pass.
pub struct Part<'a, N> {
    /// The share: the part's examples over all examples.
    pub weight: f64,
    /// Computes output and mean loss of the part; may read its examples first, and fail to.
    #[allow(clippy::type_complexity)]
    pub pass: Box<dyn Fn(&N, &mut dyn Probe) -> Result<Pass, Error> + 'a>,
}

impl<'a, N> Part<'a, N> {
    /// The whole growth batch in one part, whose pass computes output and mean loss.
    pub fn whole(pass: impl Fn(&N, &mut dyn Probe) -> Pass + 'a) -> Self {
        Self { weight: 1.0, pass: Box::new(move |network, probe| Ok(pass(network, probe))) }
    }

    /// Takes the pass. What it [draws](crate::with_draws) does not depend on the passes before it, so that passes through a
    /// network before and after growth drop the same.
    ///
    /// # Errors
    /// [`Error::Examples`], if examples cannot be read.
    pub fn run(&self, network: &N, probe: &mut dyn Probe) -> Result<Pass, Error> {
        with_same_draws(|| (self.pass)(network, probe))
    }
}

/// A forward and a backward pass over a batch.
pub struct TrainingPass {
    /// The network's output, `[batch, outputs]`.
    pub output: Tensor<2>,
    /// The mean loss.
    pub loss: Tensor<1>,
    /// The loss's gradients.
    pub gradients: GradientsParams,
}

/// What the probed passes over the growth batch gave.
#[derive(Default)]
pub(crate) struct Looked {
    /// Of all parts, or of an example of each site if that would be too much to keep.
    evidence: Evidence,
    is_sample: bool,
    pub(crate) outputs: Vec<Tensor<2>>,
    pub(crate) loss: f64,
    /// The pass itself, if the batch has one part; until training takes it.
    pub(crate) pass: RefCell<Option<TrainingPass>>,
}

impl Looked {
    /// What was seen; `network` is the one that was looked at.
    pub(crate) fn replay<'a, 'p, N>(&'a self, network: &'a N, parts: &'a [Part<'p, N>]) -> Replay<'a, 'p, N> {
        Replay { network, parts, sample: &self.evidence }
    }

    /// What was seen, or can be seen again by this replay.
    pub(crate) fn seen<'a>(&'a self, replay: &'a dyn Again) -> Seen<'a> {
        match self.is_sample {
            true => Seen::Again(replay),
            false => Seen::Kept(&self.evidence),
        }
    }
}

/// Takes a probed pass over every part. Evidence beyond so many bytes is not kept, unless it is of a single part, which is
/// in memory during its pass anyway.
pub(crate) fn look<N: Growable>(network: &N, parts: &[Part<'_, N>], memory: usize) -> Result<Looked, Error> {
    let mut looked = Looked::default();
    for part in parts {
        let Probed { evidence, output, loss, gradients } = probed(network, part)?;
        looked.is_sample |= parts.len() > 1 && looked.evidence.bytes() + evidence.bytes() > memory;
        looked.evidence.extend(evidence);
        if looked.is_sample {
            looked.evidence = looked.evidence.sample();
        }
        looked.outputs.push(output.clone());
        looked.loss += part.weight * loss.clone().into_scalar::<f64>();
        let pass = (parts.len() == 1).then(|| {
            let gradients = GradientsParams::from_grads(gradients, network);
            TrainingPass { output, loss, gradients }
        });
        looked.pass.replace(pass);
    }
    Ok(looked)
}

/// What a probed pass gave.
pub(crate) struct Probed {
    /// Of the part's share of the loss.
    pub(crate) evidence: Evidence,
    output: Tensor<2>,
    loss: Tensor<1>,
    gradients: Gradients,
}

/// Takes a pass over a part, forward and backward, and keeps what it shows.
pub(crate) fn probed<N: Growable>(network: &N, part: &Part<'_, N>) -> Result<Probed, Error> {
    let mut recorder = Recorder::new();
    let Pass { output, loss } = part.run(network, &mut recorder)?;
    let mut gradients = loss.backward();
    let evidence = recorder.into_evidence(&mut gradients).weighted(part.weight);
    Ok(Probed { evidence, output: output.inner(), loss: loss.inner(), gradients })
}
