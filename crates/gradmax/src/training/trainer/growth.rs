//! Growth within a run: on which examples, and what becomes of an event that fails.

use std::time::Instant;

use super::Trainer;
use crate::across::with_part;
use crate::draws::with_draws;
use crate::error::Error;
use crate::event::pass::{Part, Pass, TrainingPass};
use crate::policies::look::LazyLook;
use crate::seed::Seed;
use crate::site::growable::Growable;
use crate::site::probe::Probe;
use crate::sums::Slice;
use crate::training::data::Batch;
use crate::training::ongoing::Ongoing;
use crate::training::order::{Order, Taken};
use crate::training::settings::{GrowthBatch, OnFailure};
use crate::training::task::Task;

impl<'a, N: Growable, T: Task<Output = N::Output>> Trainer<'a, N, T> {
    /// Grows the network if the policy says so; returns the pass over the batch, if growth took it on the training
    /// step's behalf.
    pub(super) fn grow_if_due(
        &mut self,
        ongoing: &mut Ongoing<N>,
        order: &Order,
        batch: &[Taken<N::Input, T::Target>],
    ) -> Result<Option<TrainingPass<N::Output>>, Error> {
        let Some(growth) = &self.growth else {
            return Ok(None);
        };
        let progress = &ongoing.run.progress;
        let observed = progress.observed(self.settings.steps);
        if !growth.policy.due(&observed, &progress.policy) {
            return Ok(None);
        }
        let started = Instant::now();
        let which = match growth.batch {
            GrowthBatch::All if order.is_whole() && !self.train.augments() => GrowthBatch::Training,
            other => other,
        };
        let context = ongoing.event_context(which == GrowthBatch::Training && batch.len() == 1);
        let parts = self.growth_batch(which, batch, context.step)?;
        let network = &ongoing.run.network;
        let look = LazyLook::new(network, &parts, growth.grower.evidence_memory(), &self.sums);
        let mut state = progress.policy.clone();
        let plan = growth.policy.plan(&observed, &look, &mut state)?;
        let taken = look.into_taken();
        if plan.is_empty() {
            ongoing.run.progress.policy = state;
            return Ok(taken.filter(|_| context.batch_is_training_step).and_then(|taken| ongoing.looked(taken)));
        }
        let grown = growth.grower.grow_from(network, &ongoing.run.optimizer, &plan, &parts, context, taken);
        // The parts borrow the batch's tensors, which can be as large as the network's activations.
        drop(parts);
        let (receipt, training_pass) = match grown {
            Ok(grown) => ongoing.grew(grown, started)?,
            Err(error) if growth.on_failure == OnFailure::Skip && is_of_growth(&error) => {
                (ongoing.passed_over_growth(context, growth.grower.method(), &error), None)
            }
            Err(error) => return Err(error),
        };
        ongoing.run.progress.policy = state;
        self.observers.iter_mut().try_for_each(|observer| observer.grown(&receipt).map_err(Error::Observer))?;
        Ok(training_pass)
    }

    /// The growth batch of a growth event at this step, as the trainer would look at it: for growing by hand.
    ///
    /// # Errors
    /// [`Error::Examples`], if an example cannot be read.
    pub fn growth_parts(&self, which: GrowthBatch, step: usize) -> Result<Vec<Part<'a, N>>, Error>
    where
        N: 'a,
        T: 'a,
    {
        let batch = self.order().batch(self.train, step, self.settings.steps)?;
        self.growth_batch(which, &batch, step)
    }

    /// The examples that a growth event looks at, in parts with their shares.
    fn growth_batch<'p>(
        &self,
        which: GrowthBatch,
        batch: &[Taken<N::Input, T::Target>],
        step: usize,
    ) -> Result<Vec<Part<'p, N>>, Error>
    where
        'a: 'p,
        N: 'p,
        T: 'p,
    {
        let task = self.task.clone();
        match which {
            GrowthBatch::Training => {
                let units = self.units(batch);
                let share = self.share(units);
                let part = |part: &Taken<N::Input, T::Target>| {
                    let weight = share * (self.units_of(part) as f64 / units.max(1) as f64);
                    let (part, task) = (part.clone(), task.clone());
                    let whole = Part::whole(move |network: &N, probe: &mut dyn Probe| {
                        with_part(part.first, weight, || pass(&task, network, &part.batch, probe))
                    });
                    Part { weight, ..whole }
                };
                Ok(batch.iter().map(part).collect())
            }
            GrowthBatch::Examples(count) => {
                let seed = self.settings.seed.fold("growth batch").at(step as u64);
                Ok(self.parts(self.drawn(count, seed), Some(seed.fold("augment")), step))
            }
            GrowthBatch::All => Ok(self.parts((0..self.train.count()).collect(), None, step)),
        }
    }

    /// The examples with these indices, in parts of the evaluation's size, with their shares; each part is read when
    /// its pass is taken, so that only one is in memory.
    fn parts<'p>(&self, indices: Vec<usize>, augmentation: Option<Seed>, step: usize) -> Vec<Part<'p, N>>
    where
        'a: 'p,
        N: 'p,
        T: 'p,
    {
        let train = self.train;
        let draws = self.settings.seed.fold("draws of growth").at(step as u64);
        let all = indices.len() as f64;
        let part = |(number, part): (usize, &[usize])| {
            let Slice { first, indices, counts } = self.sums.slice(part);
            let (indices, task) = (indices.to_vec(), self.task.clone());
            let weight = if counts { indices.len() as f64 / all } else { 0.0 };
            let draws = draws.at(number as u64);
            let taken = move |network: &N, probe: &mut dyn Probe| {
                let batch = match augmentation {
                    Some(seed) => train.augmented(&indices, seed),
                    None => train.batch(&indices),
                }?;
                Ok(with_part(first, weight, || with_draws(draws, || pass(&task, network, &batch, probe))))
            };
            Part { weight, pass: Box::new(taken) }
        };
        indices.chunks(self.settings.evaluation_batch).enumerate().map(part).collect()
    }

    /// Examples for one growth event, without repetition.
    fn drawn(&self, count: usize, seed: Seed) -> Vec<usize> {
        let mut rng = seed.rng();
        let available = self.train.count();
        rand::seq::index::sample(&mut rng, available, count.min(available)).into_vec()
    }
}

fn pass<N: Growable, T: Task<Output = N::Output>>(
    task: &T,
    network: &N,
    batch: &Batch<N::Input, T::Target>,
    probe: &mut dyn Probe,
) -> Pass<N::Output> {
    let output = network.forward_probed(batch.input.clone(), probe);
    Pass { loss: task.training_loss(&output, &batch.target), output }
}

/// Whether an error says that a growth event failed, and not that data cannot be read or training has gone wrong.
fn is_of_growth(error: &Error) -> bool {
    !matches!(error, Error::Examples(_) | Error::Observer(_) | Error::LossNotFinite { .. } | Error::Checkpoint { .. })
}
