//! What is wrong with a run before its first step.

use super::Trainer;
use crate::error::Error;
use crate::modules::norm::can_synchronise;
use crate::site::growable::{Growable, device_of};
use crate::training::data::Examples;
use crate::training::run::Run;
use crate::training::settings::{GrowthBatch, Keep, Settings, Undo};
use crate::training::task::Task;

impl<N: Growable, T: Task<Output = N::Output>> Trainer<'_, N, T> {
    /// Checks that a policy that compares two halves of the growth batch ever gets two.
    fn check_halves(&self) -> Result<(), Error> {
        let Some(growth) = self.growth.as_ref().filter(|growth| growth.policy.looks_in_halves()) else {
            return Ok(());
        };
        let all = self.train.count();
        let examples = match growth.batch {
            GrowthBatch::Training => self.settings.batch_size.unwrap_or(all).min(all),
            GrowthBatch::Examples(count) => count.min(all),
            GrowthBatch::All => all,
        };
        match examples < 2 {
            true => Err(Error::BadOption {
                option: "growth batch",
                value: format!("{examples} examples"),
                remedy: "the policy compares two halves of it; let it look at more, a few hundred at least",
            }),
            false => Ok(()),
        }
    }

    pub(super) fn check(&self, run: &Run<N>) -> Result<(), Error> {
        let bad = |option, remedy| Err(Error::BadOption { option, value: "0".into(), remedy });
        let without_validation = |option, value| {
            Err(Error::BadOption { option, value, remedy: "there are no validation examples to go by" })
        };
        self.check_halves()?;
        self.settings.learning_rate.check()?;
        self.settings.budget.check()?;
        self.settings.new_weights.rates.check()?;
        self.settings.undo.map_or(Ok(()), Undo::check)?;
        match self.settings {
            _ if self.train.count() == 0 => bad("examples", "there is nothing to train on"),
            _ if self.test.is_some_and(|test| test.count() == 0) => {
                bad("test examples", "there is nothing to evaluate on; leave the test set out")
            }
            _ if self.validation.is_some_and(|validation| validation.count() == 0) => {
                bad("validation examples", "there is nothing to evaluate on; leave the validation set out")
            }
            Settings { keep: Keep::Best, .. } if self.validation.is_none() => without_validation("keep", "best".into()),
            Settings { patience: Some(patience), .. } if self.validation.is_none() => {
                without_validation("patience", patience.to_string())
            }
            Settings { patience: Some(0), .. } => bad("patience", "leave it out to train to the last step"),
            Settings { accumulate: 0, .. } => bad("accumulate", "a batch has at least one part"),
            Settings { average: Some(decay), .. } if !(0.0..1.0).contains(&decay) => Err(Error::BadOption {
                option: "average",
                value: decay.to_string(),
                remedy: "the decay is at least 0 and below 1, usually 0.99 to 0.9999",
            }),
            Settings { batch_size: Some(0), .. } => bad("batch_size", "a batch needs at least one example"),
            Settings { evaluation_batch: 0, .. } => {
                bad("evaluation_batch", "evaluation looks at one example at least at a time")
            }
            Settings { evaluate_train: Some(0), .. } => {
                bad("evaluate_train", "leave it out to evaluate on all training examples at the end")
            }
            Settings { log_every: 0, .. } => bad("log_every", "log at least every so many steps"),
            Settings { evaluate_every: Some(0), .. } => {
                bad("evaluate_every", "leave it out to evaluate at the end only")
            }
            Settings { checkpoint_every: Some(0), .. } => {
                bad("checkpoint_every", "leave it out for one at the end only")
            }
            _ if self.growth.as_ref().is_some_and(|growth| growth.batch == GrowthBatch::Examples(0)) => {
                bad("growth batch", "growth needs at least one example to look at")
            }
            _ if self.synchronises() && self.smallest_pass() < self.sums.size() => Err(Error::BadOption {
                option: "batch_norm",
                value: "synchronised".into(),
                remedy: "a part of a batch, or of the last one of an epoch, has fewer examples than there are machines",
            }),
            _ if self.synchronises() && !can_synchronise(&device_of(&run.network)) => Err(Error::BadOption {
                option: "batch_norm",
                value: "synchronised".into(),
                remedy: "statistics over several machines are computed on the `flex` device only",
            }),
            _ => self.growth.as_ref().map_or(Ok(()), |growth| {
                growth.policy.check()?;
                growth.grower.check(&run.network)
            }),
        }
    }

    /// Checks that there is an output for every class, by a pass over one example; says whether classes have to be
    /// looked at batch by batch.
    pub(super) fn check_classes(&self, network: &N) -> Result<bool, Error> {
        if !self.task.has_classes() {
            return Ok(false);
        }
        let batch = self.train.batch(&[0])?;
        if self.task.examples(&batch.target) == 0 {
            return Ok(false);
        }
        let output = network.valid().forward(batch.input);
        let sets = [("training", Some(self.train)), ("validation", self.validation), ("test", self.test)];
        for (set, examples) in sets {
            if let Some(largest) = examples.and_then(Examples::largest_class) {
                self.task.check(set, &output, &batch.target, Some(largest))?;
            }
        }
        Ok(self.train.largest_class().is_none())
    }

    /// Examples of the smallest pass of a step or a growth event.
    fn smallest_pass(&self) -> usize {
        let rest = |count: usize| match count % self.settings.evaluation_batch.max(1) {
            0 => count,
            rest => rest,
        };
        let step = self.order().smallest_part();
        match self.growth.as_ref().map(|growth| growth.batch) {
            None | Some(GrowthBatch::Training) => step,
            Some(GrowthBatch::All) => step.min(rest(self.train.count())),
            Some(GrowthBatch::Examples(count)) => step.min(rest(count.min(self.train.count()))),
        }
    }
}
