//! Passes over the batch of a step, forward and backward: what they measure, and the gradients as the optimizer sees them.

use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::Trainer;
use super::evaluate::check_finite;
use crate::across::with_part;
use crate::error::Error;
use crate::event::gradients::added;
use crate::event::pass::TrainingPass;
use crate::policies::policy::Stretch;
use crate::site::growable::{Growable, trainable_parameters};
use crate::site::output::Output;
use crate::training::data::Batch;
use crate::training::evaluation::Evaluation;
use crate::training::gradients::clipped;
use crate::training::observer::Split;
use crate::training::ongoing::Ongoing;
use crate::training::order::{Order, Taken};
use crate::training::run::Progress;
use crate::training::task::Task;

/// What a pass over a batch says of the network.
pub(super) struct Measured {
    /// The mean loss.
    loss: Tensor<1>,
    /// Number of right answers, if it is to be logged and the task has a score.
    correct: Option<f64>,
}

impl Measured {
    /// The loss's share in a larger mean; numbers stay.
    pub(super) fn weighted(self, share: f64) -> Self {
        Self { loss: self.loss.mul_scalar(share), ..self }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let correct = self.correct.zip(other.correct).map(|(own, other)| own + other);
        Self { loss: self.loss + other.loss, correct }
    }
}

impl<N: Growable, T: Task<Output = N::Output>> Trainer<'_, N, T> {
    /// Adds a step to the stretch that the policy follows.
    pub(super) fn follow(&self, progress: &mut Progress, units: usize, Measured { loss, .. }: &Measured) {
        let loss = self.sums.number(loss.clone().into_scalar::<f64>() * self.share(units));
        let rate = self.learning_rate(progress);
        let Stretch { steps, losses, rates } = progress.stretch;
        progress.stretch = Stretch { steps: steps + 1, losses: losses + loss, rates: rates + rate };
    }

    /// Logs the training loss of a batch, with its score and the norm of its gradients.
    pub(super) fn log_training(
        &mut self,
        ongoing: &mut Ongoing<N>,
        order: &Order,
        units: usize,
        Measured { loss, correct }: Measured,
        gradient_norm: f64,
    ) -> Result<(), Error> {
        let loss = self.sums.number(loss.into_scalar::<f64>() * self.share(units));
        check_finite(loss, ongoing.run.progress.step)?;
        let score = correct.map(|correct| self.sums.number(correct) / self.sums.number(units as f64));
        ongoing.run.progress.loss = Some(loss);
        let parameters = trainable_parameters(&ongoing.run.network);
        self.row(ongoing, order, (Split::Train, parameters), Evaluation { loss, score }, Some(gradient_norm))
    }

    /// Passes over all parts of a batch: the mean loss, and its gradients.
    pub(super) fn training_passes(
        &self,
        network: &N,
        batch: &[Taken<N::Input, T::Target>],
        logs: bool,
    ) -> Result<(Measured, GradientsParams), Error> {
        let units = self.units(batch);
        let own = self.share(units);
        // Only where nothing else is summed in a pass.
        let overlaps = self.settings.overlap && !self.synchronises();
        if let ([part], true) = (batch, overlaps) {
            let pass = || {
                let pass = with_part(part.first, own, || self.training_pass(network, &part.batch))?;
                Ok((self.measured(&pass.output, &pass.loss, part, logs), pass.gradients))
            };
            if let Some(summed) = self.sums.gradients_of_pass(network, own, pass) {
                return summed;
            }
        }
        let mut sum: Option<(Measured, GradientsParams)> = None;
        for part in batch {
            let share = self.units_of(part) as f64 / units.max(1) as f64;
            let pass = with_part(part.first, own * share, || self.training_pass(network, &part.batch))?;
            let measured = self.measured(&pass.output, &pass.loss, part, logs);
            sum = Some(match sum {
                None if batch.len() == 1 => (measured, pass.gradients),
                None => (measured.weighted(share), added(network, GradientsParams::new(), pass.gradients, share)),
                Some((so_far, gradients)) => {
                    (so_far.plus(measured.weighted(share)), added(network, gradients, pass.gradients, share))
                }
            });
        }
        let (measured, gradients) = sum.expect("a batch has examples");
        Ok((measured, self.sums.gradients(network, gradients, own)))
    }

    /// The loss of a pass over these targets, and if it is to be logged the number of right answers.
    pub(super) fn measured(
        &self,
        output: &N::Output,
        loss: &Tensor<1>,
        part: &Taken<N::Input, T::Target>,
        logs: bool,
    ) -> Measured {
        let correct = if logs { self.task.correct(output, &part.batch.target) } else { None };
        let correct = correct.map(|correct| if part.counts { correct } else { 0.0 });
        Measured { loss: loss.clone(), correct }
    }

    fn training_pass(&self, network: &N, batch: &Batch<N::Input, T::Target>) -> Result<TrainingPass<N::Output>, Error> {
        let output = network.forward(batch.input.clone());
        // Before the loss, which would look for outputs that are not there.
        if self.checks_classes {
            self.task.check("training", &output, &batch.target, None)?;
        }
        let loss = self.task.training_loss(&output, &batch.target);
        let gradients = GradientsParams::from_grads(loss.backward(), network);
        Ok(TrainingPass { output: output.inner(), loss: loss.inner(), gradients })
    }

    /// Gradients as the optimizer sees them.
    pub(super) fn regularised(&self, network: &N, gradients: GradientsParams) -> GradientsParams {
        let gradients = match self.settings.clip_gradients {
            Some(largest) => clipped(network, gradients, largest),
            None => gradients,
        };
        match self.settings.weight_decay {
            Some(decay) => decay.added(network, gradients),
            None => gradients,
        }
    }
}
