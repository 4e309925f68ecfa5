//! Growth within a run: on which examples, and what becomes of an event that fails.

use std::time::Instant;

use burn::optim::GradientsParams;

use super::Trainer;
use super::passes::Measured;
use crate::across::with_part;
use crate::draws::with_draws;
use crate::error::Error;
use crate::event::look::Taken as LookTaken;
use crate::event::pass::{Part, Pass};
use crate::operator::work::Work;
use crate::policies::look::LazyLook;
use crate::policies::policy::Stretch;
use crate::seed::Seed;
use crate::site::growable::{Growable, training_flops};
use crate::site::probe::Probe;
use crate::sums::Slice;
use crate::training::data::Batch;
use crate::training::ongoing::Ongoing;
use crate::training::order::{Order, Taken};
use crate::training::run::Progress;
use crate::training::settings::{GrowthBatch, GrowthSettings, OnFailure};
use crate::training::task::Task;

/// The parts of a batch.
type Parts<N, T> = Vec<Taken<<N as Growable>::Input, <T as Task>::Target>>;

impl<'a, N: Growable, T: Task<Output = N::Output>> Trainer<'a, N, T> {
    /// The batch of a step, in halves if the policy is due and looks at it so.
    pub(super) fn batch(&self, step: usize, order: &mut Order, due: bool) -> Result<Parts<N, T>, Error> {
        let looks = self.growth.as_ref().filter(|growth| due && growth.policy.looks_in_halves());
        let halves =
            looks.is_some_and(|growth| growth.batch == GrowthBatch::Training || self.sees_all(growth.batch, order));
        order.batch_in(if halves { 2 } else { 1 }, self.train, step, self.settings.steps)
    }

    /// Whether the network may grow before the next step.
    pub(super) fn is_growth_due(&self, progress: &Progress) -> bool {
        let is_due = |growth: &GrowthSettings| growth.policy.due(&self.observed(progress), &progress.policy);
        self.growth.as_ref().is_some_and(is_due)
    }

    /// Whether the growth batch is all examples, and that of each step too.
    fn sees_all(&self, batch: GrowthBatch, order: &Order) -> bool {
        batch == GrowthBatch::All && order.is_whole() && !self.train.augments()
    }

    /// Grows the network if the policy, which is due, says so; returns the pass over the batch, if growth took it on the
    /// training step's behalf.
    pub(super) fn grow(
        &mut self,
        ongoing: &mut Ongoing<N>,
        order: &Order,
        batch: &[Taken<N::Input, T::Target>],
        logs: bool,
    ) -> Result<Option<(Measured, GradientsParams)>, Error> {
        let Some(growth) = &self.growth else {
            return Ok(None);
        };
        let progress = &ongoing.run.progress;
        let observed = self.observed(progress);
        let started = Instant::now();
        let which = match growth.batch {
            all if self.sees_all(all, order) => GrowthBatch::Training,
            other => other,
        };
        let is_step = which == GrowthBatch::Training;
        let context = ongoing.event_context(is_step && batch.len() == 1);
        let in_halves = growth.policy.looks_in_halves();
        let parts = self.growth_batch(which, batch, context.step, in_halves)?;
        // The last batch of an epoch can have a single example, which has no halves: the policy looks at the next one.
        if in_halves && parts.len() < 2 {
            return Ok(None);
        }
        let network = &ongoing.run.network;
        let counting = |part: &&Taken<N::Input, T::Target>| part.counts;
        let examples = batch.iter().filter(counting).map(|part| self.task.examples(&part.batch.target)).sum::<usize>();
        let a_step = training_flops(network) * self.sums.number(examples as f64) as u64;
        let look = LazyLook::new(network, &parts, &growth.grower, in_halves);
        let mut state = progress.policy.clone();
        let plan = self.settings.budget.trimmed(growth.policy.plan(&observed, &look, &mut state)?, &look)?;
        let taken = look.into_taken();
        let a_pass = match which {
            GrowthBatch::Training => a_step,
            GrowthBatch::Examples(count) => training_flops(network) * count.min(self.train.count()) as u64,
            GrowthBatch::All => training_flops(network) * self.train.count() as u64,
        };
        if plan.is_empty() {
            drop(parts);
            let progress = &mut ongoing.run.progress;
            (progress.policy, progress.stretch) = (state, Stretch::default());
            // A training step goes on from the look's pass over its own batch.
            progress.growth_flops +=
                taken.as_ref().map_or(0, |taken| self.flops_of(&taken.looked.work, !is_step, a_pass));
            let went_on = taken.filter(|_| is_step).and_then(|taken| self.went_on(taken, batch, logs));
            return Ok(went_on.map(|(network, pass)| {
                // The copy that was looked at: its running statistics have seen the batch.
                ongoing.run.network = network;
                pass
            }));
        }
        let grown = growth.grower.grow_from(network, &ongoing.run.optimizer, &plan, &parts, context, taken);
        // The parts borrow the batch's tensors, which can be as large as the network's activations.
        drop(parts);
        let (receipt, training_pass, work) = match grown {
            Ok(grown) => ongoing.grew(grown, started)?,
            Err(error) if growth.on_failure == OnFailure::Skip && is_of_growth(&error) => {
                (ongoing.passed_over_growth(context, growth.grower.method(), &error), None, Work::default())
            }
            Err(error) => return Err(error),
        };
        (ongoing.run.progress.policy, ongoing.run.progress.stretch) = (state, Stretch::default());
        ongoing.run.progress.growth_flops += self.flops_of(&work, training_pass.is_none(), a_pass);
        self.observers.iter_mut().try_for_each(|observer| observer.grown(&receipt).map_err(Error::Observer))?;
        Ok(training_pass.map(|pass| (self.measured(&pass.output, &pass.loss, &batch[0], logs), pass.gradients)))
    }

    /// What a training step takes from a look at its batch after which nothing grew: the network that was looked at, and
    /// the pass over the batch.
    #[allow(clippy::type_complexity)]
    fn went_on(
        &self,
        taken: LookTaken<N>,
        batch: &[Taken<N::Input, T::Target>],
        logs: bool,
    ) -> Option<(N, (Measured, GradientsParams))> {
        let LookTaken { looking, looked, .. } = taken;
        if let Some(pass) = looked.pass.into_inner() {
            let measured = self.measured(&pass.output, &pass.loss, &batch[0], logs);
            return Some((looking, (measured, pass.gradients)));
        }
        let gradients = looked.gradients?;
        let units = self.units(batch).max(1) as f64;
        let of_part = |((output, loss), part)| {
            let share = self.units_of(part) as f64 / units;
            self.measured(output, loss, part, logs).weighted(share)
        };
        let measured = looked.outputs.iter().zip(&looked.losses).zip(batch).map(of_part).reduce(Measured::plus)?;
        Some((looking, (measured, gradients)))
    }

    /// Floating-point operations of a look or an event, on all machines, of which a pass over the growth batch takes so
    /// many.
    fn flops_of(&self, work: &Work, takes_own_pass: bool, a_pass: u64) -> u64 {
        let mut counted = [work.flops() as f64, work.passes()];
        self.sums.sum(&mut counted);
        let [flops, passes] = counted;
        (flops + (passes + f64::from(u8::from(takes_own_pass))) * a_pass as f64) as u64
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
        self.growth_batch(which, &batch, step, false)
    }

    /// The examples that a growth event looks at, in parts with their shares; those of a policy that compares two halves
    /// have two parts at least.
    pub(super) fn growth_batch<'p>(
        &self,
        which: GrowthBatch,
        batch: &[Taken<N::Input, T::Target>],
        step: usize,
        in_halves: bool,
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
                Ok(self.parts(self.drawn(count, seed), Some(seed.fold("augment")), step, in_halves))
            }
            GrowthBatch::All => Ok(self.parts((0..self.train.count()).collect(), None, step, in_halves)),
        }
    }

    /// The examples with these indices, in parts of the evaluation's size, with their shares; each part is read when
    /// its pass is taken, so that only one is in memory.
    fn parts<'p>(
        &self,
        indices: Vec<usize>,
        augmentation: Option<Seed>,
        step: usize,
        in_halves: bool,
    ) -> Vec<Part<'p, N>>
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
        let most = if in_halves { indices.len().div_ceil(2).max(1) } else { usize::MAX };
        indices.chunks(self.settings.evaluation_batch.min(most)).enumerate().map(part).collect()
    }

    /// Examples for one growth event, without repetition.
    pub(super) fn drawn(&self, count: usize, seed: Seed) -> Vec<usize> {
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
