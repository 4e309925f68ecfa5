//! What a run is measured on, which of its networks is kept, and when it ends early.

use super::Trainer;
use crate::error::Error;
use crate::site::growable::{Growable, trainable_parameters};
use crate::training::data::Examples;
use crate::training::evaluation::{Evaluation, evaluate_some};
use crate::training::observer::{Row, Split};
use crate::training::ongoing::Ongoing;
use crate::training::order::Order;
use crate::training::run::{Progress, Run, Summary, Validated};
use crate::training::settings::Keep;
use crate::training::task::Task;

impl<N: Growable, T: Task<Output = N::Output>> Trainer<'_, N, T> {
    /// Evaluates on so many examples at equal distances, if there are as many, or on all.
    fn evaluated(
        &self,
        network: &N,
        examples: &dyn Examples<Input = N::Input, Target = T::Target>,
        most: Option<usize>,
    ) -> Result<Evaluation, Error> {
        let all = examples.count();
        let count = most.unwrap_or(all).min(all);
        let indices = (0..count).map(|index| index * all / count).collect::<Vec<_>>();
        evaluate_some(network, &self.task, examples, (&indices, self.settings.evaluation_batch), &*self.sums)
    }

    /// Evaluates on the validation examples, or on the test examples if there are none, where that is due.
    pub(super) fn evaluate_if_due(&mut self, ongoing: &mut Ongoing<N>, order: &Order) -> Result<(), Error> {
        let step = ongoing.run.progress.step;
        if !self.settings.evaluate_every.is_some_and(|every| step.is_multiple_of(every)) {
            return Ok(());
        }
        match (self.validation, self.test) {
            (Some(_), _) => self.validate(ongoing, order),
            (None, Some(test)) => {
                let (network, parameters) =
                    (ongoing.run.averaged().clone(), trainable_parameters(&ongoing.run.network));
                self.evaluate_as((Split::Test, parameters), (&network, test), ongoing, order).map(|_| ())
            }
            (None, None) => Ok(()),
        }
    }

    /// Evaluates on the validation examples, if that was not done since the last step, and keeps the network if it is
    /// the best so far.
    pub(super) fn validate(&mut self, ongoing: &mut Ongoing<N>, order: &Order) -> Result<(), Error> {
        let progress = &ongoing.run.progress;
        let (step, sites) = (progress.step, progress.sites.clone());
        let Some(validation) = self.validation else {
            return Ok(());
        };
        if progress.validated.as_ref().is_some_and(|validated| validated.step == step) {
            return Ok(());
        }
        // A clone would share running statistics, which go on.
        let network = ongoing.run.averaged().valid();
        // In evaluation mode nothing counts as trainable.
        let parameters = trainable_parameters(&ongoing.run.network);
        let evaluation = self.evaluate_as((Split::Validation, parameters), (&network, validation), ongoing, order)?;
        let validated = Validated { step, evaluation, sites, parameters };
        let run = &mut ongoing.run;
        let is_best = run.progress.best.as_ref().is_none_or(|best| evaluation.loss < best.evaluation.loss);
        match is_best {
            true => {
                (run.progress.best, run.progress.waited) = (Some(validated.clone()), 0);
                run.best = (self.settings.keep == Keep::Best).then_some(network);
            }
            false => run.progress.waited += 1,
        }
        run.progress.validated = Some(validated);
        Ok(())
    }

    pub(super) fn is_out_of_patience(&self, progress: &Progress) -> bool {
        self.settings.patience.is_some_and(|patience| progress.waited >= patience)
    }

    /// Evaluates a network of so many parameters on examples, and logs the result.
    fn evaluate_as(
        &mut self,
        what: (Split, usize),
        (network, examples): (&N, &dyn Examples<Input = N::Input, Target = T::Target>),
        ongoing: &mut Ongoing<N>,
        order: &Order,
    ) -> Result<Evaluation, Error> {
        let most = if what.0 == Split::Train { self.settings.evaluate_train } else { None };
        let evaluation = self.evaluated(network, examples, most)?;
        check_finite(evaluation.loss, ongoing.run.progress.step)?;
        self.row(ongoing, order, what, evaluation, None)?;
        Ok(evaluation)
    }

    /// Evaluates the network that is kept.
    pub(super) fn finish(&mut self, ongoing: &mut Ongoing<N>, order: &Order) -> Result<Summary, Error> {
        let kept = ongoing.run.kept().0.clone();
        let Run { best, progress, network, .. } = &ongoing.run;
        let validated = if best.is_some() { &progress.best } else { &progress.validated }.clone();
        let kept_step = validated.as_ref().map_or(progress.step, |validated| validated.step);
        let parameters =
            validated.as_ref().map_or_else(|| trainable_parameters(network), |validated| validated.parameters);
        let validation = validated.map(|validated| validated.evaluation);
        let train = self.evaluate_as((Split::Train, parameters), (&kept, self.train), ongoing, order)?;
        let test = match self.test {
            Some(test) => Some(self.evaluate_as((Split::Test, parameters), (&kept, test), ongoing, order)?),
            None => None,
        };
        let step_seconds_median = ongoing.step_seconds_median();
        Ok(Summary { train, validation, test, kept_step, parameters, step_seconds_median })
    }

    pub(super) fn row(
        &mut self,
        ongoing: &mut Ongoing<N>,
        order: &Order,
        (split, parameters): (Split, usize),
        evaluation: Evaluation,
        gradient_norm: Option<f64>,
    ) -> Result<(), Error> {
        let learning_rate = self.learning_rate(&ongoing.run.progress);
        let progress = &mut ongoing.run.progress;
        progress.rows += 1;
        let row = Row {
            step: progress.step,
            epoch: order.epochs(progress.step),
            split,
            loss: evaluation.loss,
            score: evaluation.score,
            learning_rate,
            parameters,
            flops: progress.flops(),
            gradient_norm,
            seconds: progress.seconds + ongoing.started.elapsed().as_secs_f64(),
        };
        self.observers.iter_mut().try_for_each(|observer| observer.logged(&row).map_err(Error::Observer))
    }
}

pub(super) fn check_finite(loss: f64, step: usize) -> Result<(), Error> {
    match loss.is_finite() {
        true => Ok(()),
        false => Err(Error::LossNotFinite { step, loss }),
    }
}
