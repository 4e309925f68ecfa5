//! Passes over the growth batch, in one part or several.

use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor};

use crate::draws::with_same_draws;
use crate::error::Error;
use crate::site::growable::Growable;
use crate::site::output::Output;
use crate::site::probe::{Evidence, Probe, Recorder};

/// One pass over (a part of) the growth batch.
pub struct Pass<O = Tensor<2>> {
    /// The network's output.
    pub output: O,
    /// The mean loss over the part.
    pub loss: Tensor<1>,
}

/// A part of the growth batch: its share of the mean loss, and its pass.
pub struct Part<'a, N: Growable> {
    /// The share: the part's examples over all examples.
    pub weight: f64,
    /// Computes output and mean loss of the part; may read its examples first, and fail to.
    #[allow(clippy::type_complexity)]
    pub pass: Box<dyn Fn(&N, &mut dyn Probe) -> Result<Pass<N::Output>, Error> + 'a>,
}

impl<'a, N: Growable> Part<'a, N> {
    /// The whole growth batch in one part, whose pass computes output and mean loss.
    pub fn whole(pass: impl Fn(&N, &mut dyn Probe) -> Pass<N::Output> + 'a) -> Self {
        Self { weight: 1.0, pass: Box::new(move |network, probe| Ok(pass(network, probe))) }
    }

    /// Takes the pass. What it [draws](crate::training::with_draws) does not depend on the passes before it, so that
    /// passes through a network before and after growth drop the same.
    ///
    /// # Errors
    /// [`Error::Examples`], if examples cannot be read.
    pub fn run(&self, network: &N, probe: &mut dyn Probe) -> Result<Pass<N::Output>, Error> {
        with_same_draws(|| (self.pass)(network, probe))
    }
}

/// A forward and a backward pass over a batch.
pub struct TrainingPass<O = Tensor<2>> {
    /// The network's output.
    pub output: O,
    /// The mean loss.
    pub loss: Tensor<1>,
    /// The loss's gradients.
    pub gradients: GradientsParams,
}

/// What a probed pass gave.
pub(crate) struct Probed<O> {
    /// Of the part's share of the loss.
    pub(crate) evidence: Evidence,
    pub(crate) output: O,
    pub(crate) loss: Tensor<1>,
    pub(crate) gradients: Gradients,
}

/// Takes a pass over a part, forward and backward, and keeps what it shows.
pub(crate) fn probed<N: Growable>(network: &N, part: &Part<'_, N>) -> Result<Probed<N::Output>, Error> {
    let mut recorder = Recorder::new();
    let Pass { output, loss } = part.run(network, &mut recorder)?;
    let mut gradients = loss.backward();
    // Taken out of the gradients before those are sorted by parameter, which would drop them.
    let evidence = recorder.into_evidence(&mut gradients).weighted(part.weight);
    Ok(Probed { evidence, output: output.inner(), loss: loss.inner(), gradients })
}
