//! A look at a network on a growth batch, from which it grows.

use std::cell::RefCell;
use std::ops::Range;
use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::error::Error;
use crate::event::gradients::added;
use crate::event::pass::{Part, Probed, TrainingPass, probed};
use crate::event::replay::Replay;
use crate::operator::branch::Branch;
use crate::operator::growth_operator::GrowthOperator;
use crate::operator::seen::{Again, Seen, Source};
use crate::operator::work::Work;
use crate::site::declaration::site_named;
use crate::site::growable::{Growable, device_of};
use crate::site::probe::Evidence;
use crate::site::side::Side;
use crate::sums::{SharedSums, alone};

/// Bytes of evidence of a growth batch in several parts that are kept, unless [something
/// else](crate::event::Grower::with_evidence_memory) is said: 1 GiB.
pub const EVIDENCE_MEMORY: usize = 1 << 30;

/// A probed pass over a growth batch, from which networks grow.
pub struct Look<'p, N: Growable> {
    pub(crate) parts: Vec<Part<'p, N>>,
    pub(crate) taken: Taken<N>,
}

/// A probed pass over the parts of a growth batch.
pub(crate) struct Taken<N: Growable> {
    /// A copy of the network whose running statistics have seen the batch: batch norm's change in every training pass,
    /// in all clones of a network, and the network itself is to stay as it is.
    pub(crate) looking: N,
    pub(crate) looked: Looked<N::Output>,
    /// What the pass took.
    pub(crate) milliseconds: f64,
}

impl<'p, N: Growable> Look<'p, N> {
    /// Takes the pass; `parts` show the network's sites to the probe. Of evidence, [`EVIDENCE_MEMORY`] is kept.
    ///
    /// # Errors
    /// [`Error::Examples`], if examples cannot be read.
    pub fn of(network: &N, parts: Vec<Part<'p, N>>) -> Result<Self, Error> {
        Self::keeping(network, parts, EVIDENCE_MEMORY)
    }

    /// As [`of`](Self::of), of whose evidence so many bytes are kept. Where a batch in several parts gives more, what
    /// looks at it again passes over the batch again.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn keeping(network: &N, parts: Vec<Part<'p, N>>, bytes: usize) -> Result<Self, Error> {
        let taken = Taken::of(network, &parts, bytes, &alone())?;
        Ok(Self { parts, taken })
    }

    /// The parts of the growth batch.
    pub fn parts(&self) -> &[Part<'p, N>] {
        &self.parts
    }

    /// The mean loss on the growth batch.
    pub fn loss(&self) -> f64 {
        self.taken.looked.loss
    }

    /// The growth operators of these sites on the growth batch; for a grouped site, that of its first block.
    ///
    /// # Errors
    /// [`Error::UnknownSite`], and those of [`GrowthOperator::new`].
    pub fn operators(&self, sites: &[impl AsRef<str>]) -> Result<Vec<GrowthOperator>, Error> {
        let Taken { looking, looked, .. } = &self.taken;
        let replay = looked.replay(looking, &self.parts);
        let known = looking.sites();
        let branch = |name: &str| Branch::new(site_named(name, &known)?, 0, looked.seen(&replay));
        let branches = sites.iter().map(|name| branch(name.as_ref())).collect::<Result<Vec<_>, _>>()?;
        GrowthOperator::of_branches(&branches.iter().map(|branch| (branch, Side::Incoming)).collect::<Vec<_>>())
    }

    /// Milliseconds that the pass took.
    pub fn milliseconds(&self) -> f64 {
        self.taken.milliseconds
    }
}

impl<N: Growable> Taken<N> {
    /// Takes the pass, of whose evidence so many bytes are kept.
    pub(crate) fn of(network: &N, parts: &[Part<'_, N>], memory: usize, sums: &SharedSums) -> Result<Self, Error> {
        Self::looking_for(network, parts, (memory, false), sums)
    }

    /// As [`of`](Self::of), keeping apart what each half of the parts says.
    ///
    /// # Errors
    /// [`Error::Examples`], if there is only one part, or examples cannot be read.
    pub(crate) fn in_halves(
        network: &N,
        parts: &[Part<'_, N>],
        memory: usize,
        sums: &SharedSums,
    ) -> Result<Self, Error> {
        if parts.len() < 2 {
            let reason =
                "the growth batch has one example, and the policy compares two halves of it: take a larger one";
            return Err(Error::Examples(reason.into()));
        }
        Self::looking_for(network, parts, (memory, true), sums)
    }

    fn looking_for(
        network: &N,
        parts: &[Part<'_, N>],
        keeping: (usize, bool),
        sums: &SharedSums,
    ) -> Result<Self, Error> {
        let device = device_of(network);
        let mut clock = Clock::start(&device);
        let looking = independent(network);
        let looked = look(&looking, parts, keeping, sums)?;
        Ok(Self { looking, looked, milliseconds: clock.lap() })
    }
}

/// What the probed passes over the growth batch gave.
pub(crate) struct Looked<O> {
    /// Of all parts, or of an example of each site if that would be too much to keep.
    evidence: Evidence,
    is_sample: bool,
    pub(crate) outputs: Vec<O>,
    /// The mean loss of each part, on this machine.
    pub(crate) losses: Vec<Tensor<1>>,
    /// The mean loss over the whole batch.
    pub(crate) loss: f64,
    /// What each half of the parts says by itself, if that was asked for.
    pub(crate) halves: Vec<Half>,
    /// The gradients of the mean loss, if halves were asked for.
    pub(crate) gradients: Option<GradientsParams>,
    /// The pass itself, if the batch has one part; until training takes it. Its gradients are summed over all machines.
    pub(crate) pass: RefCell<Option<TrainingPass<O>>>,
    sums: SharedSums,
    /// What is computed from here on, beyond the passes themselves.
    pub(crate) work: Work,
}

impl<O> Looked<O> {
    /// What was seen; `network` is the one that was looked at.
    pub(crate) fn replay<'a, 'p, N: Growable>(&'a self, network: &'a N, parts: &'a [Part<'p, N>]) -> Replay<'a, 'p, N> {
        Replay { network, parts, sample: &self.evidence, weight: 1.0, work: &self.work }
    }

    /// What was seen, or can be seen again by this replay.
    pub(crate) fn seen<'a>(&'a self, replay: &'a dyn Again) -> Seen<'a> {
        seen(&self.evidence, self.is_sample, replay, (&self.sums, &self.work))
    }
}

/// What one half of a growth batch says, of its own mean loss.
pub(crate) struct Half {
    /// Of its parts, or of an example of each site if that would be too much to keep.
    evidence: Evidence,
    is_sample: bool,
    /// Which of the batch's parts it has.
    parts: Range<usize>,
    /// Its share of the whole batch.
    share: f64,
    work: Work,
}

impl Half {
    fn of(parts: Range<usize>, work: &Work) -> Self {
        Self { evidence: Evidence::default(), is_sample: false, parts, share: 0.0, work: work.clone() }
    }

    /// The parts of the growth batch that it has.
    pub(crate) fn parts_of<'a, 'p, N: Growable>(&self, parts: &'a [Part<'p, N>]) -> &'a [Part<'p, N>] {
        &parts[self.parts.clone()]
    }

    /// What was seen; `network` is the one that was looked at.
    pub(crate) fn replay<'a, 'p, N: Growable>(&'a self, network: &'a N, parts: &'a [Part<'p, N>]) -> Replay<'a, 'p, N> {
        Replay {
            network,
            parts: self.parts_of(parts),
            sample: &self.evidence,
            weight: 1.0 / self.share,
            work: &self.work,
        }
    }

    /// What was seen, or can be seen again by this replay.
    pub(crate) fn seen<'a>(&'a self, replay: &'a dyn Again, sums: &'a SharedSums) -> Seen<'a> {
        seen(&self.evidence, self.is_sample, replay, (sums, &self.work))
    }

    /// Its sums over all machines, as those of a batch of its own.
    fn summed(self, is_sample: bool, sums: &SharedSums) -> Self {
        let share = sums.number(self.share);
        let evidence = if is_sample { self.evidence.sample() } else { self.evidence.weighted(1.0 / share) };
        Self { share, evidence, is_sample, ..self }
    }
}

/// Evidence in memory, or what a replay shows where only a sample of it is.
fn seen<'a>(
    evidence: &'a Evidence,
    is_sample: bool,
    replay: &'a dyn Again,
    (sums, work): (&'a SharedSums, &'a Work),
) -> Seen<'a> {
    let source = match is_sample {
        true => Source::Again(replay),
        false => Source::Kept(evidence),
    };
    Seen { source, sums, work }
}

/// The network before growth, and what a look at it gave.
pub(crate) struct Before<'a, N: Growable> {
    pub(crate) network: &'a N,
    pub(crate) looked: &'a Looked<N::Output>,
    pub(crate) sums: &'a SharedSums,
}

/// Takes a probed pass over every part. Evidence beyond so many bytes is not kept, unless it is of a single part, which
/// is in memory during its pass anyway. If asked for, what each half of the parts says is kept apart.
fn look<N: Growable>(
    network: &N,
    parts: &[Part<'_, N>],
    (memory, halves): (usize, bool),
    sums: &SharedSums,
) -> Result<Looked<N::Output>, Error> {
    let mut looked = Looked {
        evidence: Evidence::default(),
        is_sample: false,
        outputs: Vec::new(),
        losses: Vec::new(),
        loss: 0.0,
        halves: Vec::new(),
        gradients: None,
        pass: RefCell::new(None),
        sums: sums.clone(),
        work: Work::default(),
    };
    if halves {
        let middle = parts.len() / 2;
        looked.halves = vec![Half::of(0..middle, &looked.work), Half::of(middle..parts.len(), &looked.work)];
    }
    for (index, part) in parts.iter().enumerate() {
        let Probed { evidence, output, loss, gradients } = probed(network, part)?;
        // A first part that does not fit shows that the whole does not; a single part was in memory for its pass
        // anyway.
        looked.is_sample |= parts.len() > 1 && looked.evidence.bytes() + evidence.bytes() > memory;
        looked.outputs.push(output.clone());
        looked.losses.push(loss.clone());
        looked.loss += part.weight * loss.clone().into_scalar::<f64>();
        let is_sample = looked.is_sample;
        let extend = |seen: &mut Evidence, more: Evidence| {
            seen.extend(more);
            if is_sample {
                *seen = seen.sample();
            }
        };
        if let Some(half) = looked.halves.iter_mut().find(|half| half.parts.contains(&index)) {
            // The same tensors as in the evidence of all parts.
            extend(&mut half.evidence, evidence.clone());
            let gradients = GradientsParams::from_grads(gradients, network);
            let sum = looked.gradients.take().unwrap_or_default();
            looked.gradients = Some(added(network, sum, gradients, part.weight));
            half.share += part.weight;
        } else if parts.len() == 1 {
            let gradients = GradientsParams::from_grads(gradients, network);
            let gradients = sums.gradients(network, gradients, part.weight);
            looked.pass.replace(Some(TrainingPass { output, loss, gradients }));
        }
        extend(&mut looked.evidence, evidence);
    }
    looked.loss = sums.number(looked.loss);
    // All machines see the batch in the same way.
    let mut is_sample = [f64::from(u8::from(looked.is_sample))];
    sums.largest(&mut is_sample);
    if is_sample[0] > 0.0 && !looked.is_sample {
        (looked.is_sample, looked.evidence) = (true, looked.evidence.sample());
    }
    let is_sample = looked.is_sample;
    looked.halves = looked.halves.into_iter().map(|half| half.summed(is_sample, sums)).collect();
    looked.gradients = looked.gradients.map(|gradients| sums.gradients(network, gradients, 1.0));
    Ok(looked)
}

/// A copy that does not share running statistics with the network.
pub(crate) fn independent<N: Growable>(network: &N) -> N {
    // Burn's clones share running statistics; only a module that was in evaluation mode in between has its own.
    network.valid().train()
}

/// Milliseconds between laps, with the device's work done.
pub(crate) struct Clock<'a> {
    device: &'a Device,
    last: Instant,
}

impl<'a> Clock<'a> {
    pub(crate) fn start(device: &'a Device) -> Self {
        Self { device, last: Instant::now() }
    }

    pub(crate) fn lap(&mut self) -> f64 {
        // A device that cannot wait has nothing to wait for; its work then counts to a later part.
        let _ = self.device.sync();
        let milliseconds = self.last.elapsed().as_secs_f64() * 1e3;
        self.last = Instant::now();
        milliseconds
    }
}
