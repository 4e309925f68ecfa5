//! Passes over the growth batch, in one part or several.

use std::cell::RefCell;

use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::growable::Growable;
use crate::probe::{Evidence, Probe, Recorder};

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
    /// Computes output and mean loss of the part.
    #[allow(clippy::type_complexity)]
    pub pass: Box<dyn Fn(&N, &mut dyn Probe) -> Pass + 'a>,
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
    pub(crate) evidence: Evidence,
    pub(crate) outputs: Vec<Tensor<2>>,
    pub(crate) loss: f64,
    /// The pass itself, if the batch has one part; until training takes it.
    pub(crate) pass: RefCell<Option<TrainingPass>>,
}

/// Takes a probed pass over every part.
pub(crate) fn look<N: Growable>(network: &N, parts: &[Part<'_, N>]) -> Looked {
    let mut looked = Looked::default();
    for part in parts {
        let mut recorder = Recorder::new();
        let Pass { output, loss } = (part.pass)(network, &mut recorder);
        let mut gradients = loss.backward();
        let (output, loss) = (output.inner(), loss.inner());
        looked.evidence.accumulate(recorder.into_evidence(&mut gradients), part.weight);
        looked.outputs.push(output.clone());
        looked.loss += part.weight * loss.clone().into_scalar::<f64>();
        let pass = (parts.len() == 1).then(|| {
            let gradients = GradientsParams::from_grads(gradients, network);
            TrainingPass { output, loss, gradients }
        });
        looked.pass.replace(pass);
    }
    looked
}
