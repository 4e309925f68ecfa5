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
        Self::keeping(network, parts, (memory, &[]), sums)
    }

    /// As [`of`](Self::of), keeping apart what each of these sections of the parts says by itself.
    pub(crate) fn keeping(
        network: &N,
        parts: &[Part<'_, N>],
        (memory, sections): (usize, &[Range<usize>]),
        sums: &SharedSums,
    ) -> Result<Self, Error> {
        let device = device_of(network);
        let mut clock = Clock::start(&device);
        let looking = independent(network);
        let looked = look(&looking, parts, (memory, sections), sums)?;
        Ok(Self { looking, looked, milliseconds: clock.lap() })
    }
}

/// What the probed passes over the growth batch gave.
pub(crate) struct Looked<O> {
    whole: Section,
    /// What sections of the parts say by themselves, if that was asked for.
    pub(crate) sections: Vec<Section>,
    pub(crate) outputs: Vec<O>,
    /// The mean loss of each part, on this machine.
    pub(crate) losses: Vec<Tensor<1>>,
    /// The mean loss over the whole batch.
    pub(crate) loss: f64,
    /// The gradients of the mean loss, if sections were asked for.
    pub(crate) gradients: Option<GradientsParams>,
    /// The pass itself, if the batch has one part; until training takes it. Its gradients are summed over all machines.
    pub(crate) pass: RefCell<Option<TrainingPass<O>>>,
    /// What is computed from here on, beyond the passes themselves.
    pub(crate) work: Work,
}

impl<O> Looked<O> {
    /// What was seen; `network` is the one that was looked at.
    pub(crate) fn replay<'a, 'p, N: Growable>(&'a self, network: &'a N, parts: &'a [Part<'p, N>]) -> Replay<'a, 'p, N> {
        self.whole.replay(network, parts)
    }

    /// What was seen, or can be seen again by this replay.
    pub(crate) fn seen<'a>(&'a self, replay: &'a dyn Again) -> Seen<'a> {
        self.whole.seen(replay)
    }
}

/// What some parts of a growth batch say, of their own mean loss.
pub(crate) struct Section {
    /// Of these parts, or of an example of each site if that would be too much to keep.
    evidence: Evidence,
    is_sample: bool,
    parts: Range<usize>,
    /// Their share of the whole batch.
    share: f64,
    sums: SharedSums,
    work: Work,
}

impl Section {
    fn of(parts: Range<usize>, sums: &SharedSums, work: &Work) -> Self {
        let (sums, work) = (sums.clone(), work.clone());
        Self { evidence: Evidence::default(), is_sample: false, parts, share: 0.0, sums, work }
    }

    /// What was seen, to be seen again; `network` is the one that was looked at, and `parts` are those of the whole batch.
    pub(crate) fn replay<'a, 'p, N: Growable>(&'a self, network: &'a N, parts: &'a [Part<'p, N>]) -> Replay<'a, 'p, N> {
        let (parts, weight) = (&parts[self.parts.clone()], 1.0 / self.share);
        Replay { network, parts, sample: &self.evidence, weight, work: &self.work }
    }

    /// What was seen, or can be seen again by this replay.
    pub(crate) fn seen<'a>(&'a self, replay: &'a dyn Again) -> Seen<'a> {
        let source = match self.is_sample {
            true => Source::Again(replay),
            false => Source::Kept(&self.evidence),
        };
        Seen { source, sums: &self.sums, work: &self.work }
    }

    /// Adds the evidence of one of its parts; of all only a sample, if the batch shows too much to keep.
    fn extend(&mut self, evidence: Evidence, weight: f64, is_sample: bool) {
        self.evidence.extend(evidence);
        self.share += weight;
        if is_sample {
            self.evidence = self.evidence.sample();
        }
    }

    /// The same of the parts' own mean loss, over all machines.
    fn summed(self, is_sample: bool) -> Self {
        let share = self.sums.number(self.share);
        let evidence = if is_sample { self.evidence.sample() } else { self.evidence.weighted(1.0 / share) };
        Self { share, evidence, is_sample, ..self }
    }
}

/// The network before growth, and what a look at it gave.
pub(crate) struct Before<'a, N: Growable> {
    pub(crate) network: &'a N,
    pub(crate) looked: &'a Looked<N::Output>,
    pub(crate) sums: &'a SharedSums,
}

/// Takes a probed pass over every part. Evidence beyond so many bytes is not kept, unless it is of a single part, which
/// is in memory during its pass anyway. What each of these sections of the parts says is kept apart.
fn look<N: Growable>(
    network: &N,
    parts: &[Part<'_, N>],
    (memory, sections): (usize, &[Range<usize>]),
    sums: &SharedSums,
) -> Result<Looked<N::Output>, Error> {
    let work = Work::default();
    let section = |parts: Range<usize>| Section::of(parts, sums, &work);
    let whole = section(0..parts.len());
    let sections = sections.iter().cloned().map(section).collect::<Vec<_>>();
    let (outputs, losses, loss, gradients, pass) = (Vec::new(), Vec::new(), 0.0, None, RefCell::new(None));
    let mut looked = Looked { whole, sections, outputs, losses, loss, gradients, pass, work };
    let mut is_sample = false;
    for (index, part) in parts.iter().enumerate() {
        let Probed { evidence, output, loss, gradients } = probed(network, part)?;
        // A first part that does not fit shows that the whole does not; a single part was in memory for its pass
        // anyway.
        is_sample |= parts.len() > 1 && looked.whole.evidence.bytes() + evidence.bytes() > memory;
        looked.outputs.push(output.clone());
        looked.losses.push(loss.clone());
        looked.loss += part.weight * loss.clone().into_scalar::<f64>();
        for section in looked.sections.iter_mut().filter(|section| section.parts.contains(&index)) {
            // The same tensors as in the evidence of all parts.
            section.extend(evidence.clone(), part.weight, is_sample);
        }
        if !looked.sections.is_empty() {
            let gradients = GradientsParams::from_grads(gradients, network);
            let sum = looked.gradients.take().unwrap_or_default();
            looked.gradients = Some(added(network, sum, gradients, part.weight));
        } else if parts.len() == 1 {
            let gradients = GradientsParams::from_grads(gradients, network);
            let gradients = sums.gradients(network, gradients, part.weight);
            looked.pass.replace(Some(TrainingPass { output, loss, gradients }));
        }
        looked.whole.extend(evidence, part.weight, is_sample);
    }
    looked.loss = sums.number(looked.loss);
    // All machines see the batch in the same way.
    let mut is_sample = [f64::from(u8::from(is_sample))];
    sums.largest(&mut is_sample);
    let is_sample = is_sample[0] > 0.0;
    looked.sections = looked.sections.into_iter().map(|section| section.summed(is_sample)).collect();
    // The whole batch's loss is what its parts' shares make it: it needs no other weight.
    looked.whole.share = 1.0;
    if is_sample {
        (looked.whole.is_sample, looked.whole.evidence) = (true, looked.whole.evidence.sample());
    }
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
