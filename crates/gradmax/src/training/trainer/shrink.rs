//! Removing the neurons that a trained network can do without.

use super::Trainer;
use crate::error::Error;
use crate::event::look::{EVIDENCE_MEMORY, Taken};
use crate::event::pass::Part;
use crate::operator::branch::Branch;
use crate::site::declaration::Site;
use crate::site::growable::{Growable, trainable_parameters, training_flops};
use crate::surgery::existing::Existing;
use crate::surgery::removal::Removal;
use crate::training::cohorts::Cohorts;
use crate::training::evaluation::evaluate_some;
use crate::training::settings::GrowthBatch;
use crate::training::shrinkage::{ShrinkReceipt, SiteShrinkage};
use crate::training::task::Task;

/// How much of a network is removed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shrink {
    /// As much as the loss rises by this share at most.
    LossRise(f64),
    /// This share of all neurons, whatever the loss becomes.
    Share(f64),
}

/// Neurons of a site that go together: so many of each block that its groups stay even.
struct Candidate {
    site: usize,
    /// Indices within the blocks.
    neurons: Vec<usize>,
    importance: f64,
}

/// A network without some of its neurons.
pub(super) struct Shrunk<N> {
    pub(super) network: N,
    pub(super) receipt: ShrinkReceipt,
    /// What was removed, one after another.
    pub(super) removals: Vec<Removal>,
    /// Floating-point operations that it took.
    pub(super) flops: u64,
}

/// The share of the neurons that are left which is tried first in a round; importance is measured anew in each.
const ROUND: f64 = 0.1;
/// The same of a cohort's neurons, which are few beside all: rounds cost passes, and training goes on afterwards.
const ROUND_OF_COHORT: f64 = 1.0;

impl<N: Growable, T: Task<Output = N::Output>> Trainer<'_, N, T> {
    /// A network without the neurons that it can do without, and a receipt: those of least importance go first, a tenth
    /// of all at a time, as long as the loss on so many training examples (all, if there are not as many) allows. Every
    /// site keeps a neuron of each block.
    ///
    /// Heads and gated neurons stay. Importance is the Fisher information of a factor on a neuron's output (Theis et al. 2018; Molchanov et al. 2019);
    /// how far to go is told by the loss itself, in evaluation mode.
    ///
    /// # Errors
    /// [`Error::BadOption`]; [`Error::Examples`], if examples cannot be read; those of sites that do not fit what the
    /// network shows.
    pub fn shrunk(&self, network: &N, shrink: Shrink, examples: usize) -> Result<(N, ShrinkReceipt), Error> {
        shrink.check()?;
        let indices = self.drawn(examples, self.settings.seed.fold("shrink"));
        let parts = self.growth_batch(GrowthBatch::Examples(indices.len()), &[], 0, false)?;
        let shrunk = self.without_least(network, shrink, (&indices, &parts), None)?;
        Ok((shrunk.network, shrunk.receipt))
    }

    /// As [`shrunk`](Self::shrunk), with the loss on these training examples and importance on these parts of as many; of
    /// a cohort's neurons alone, if one is given.
    pub(super) fn without_least(
        &self,
        network: &N,
        shrink: Shrink,
        (examples, parts): (&[usize], &[Part<'_, N>]),
        cohort: Option<(&Cohorts, usize)>,
    ) -> Result<Shrunk<N>, Error> {
        let mut flops = 0;
        let mut loss = |network: &N| {
            flops += network.flops() * examples.len() as u64;
            self.loss_of(network, examples)
        };
        let loss_before = loss(network)?;
        let all = neurons(network);
        let (mut narrow, mut loss_after) = (network.clone(), loss_before);
        let mut cohort = cohort.map(|(cohorts, number)| (cohorts.clone(), number));
        let (mut removals, mut looks) = (Vec::<Removal>::new(), 0);
        loop {
            let (candidates, found) = self.candidates(&narrow, parts, cohort.as_ref())?;
            looks += found + training_flops(&narrow) * examples.len() as u64;
            let left = match shrink {
                Shrink::LossRise(_) => candidates.len(),
                Shrink::Share(share) => {
                    let gone = all - neurons(&narrow);
                    let wanted = ((share * all as f64).round() as usize).saturating_sub(gone);
                    first_of(&candidates, wanted, &narrow)
                }
            };
            let round = if cohort.is_some() { ROUND_OF_COHORT } else { ROUND };
            let mut number = ((round * candidates.len() as f64).ceil() as usize).min(left);
            // Fewer and fewer, until the loss allows it.
            let smaller = loop {
                if number == 0 {
                    break None;
                }
                let removal = removal_of(&candidates[..number], &narrow);
                let tried = removal.apply(narrow.clone());
                let after = loss(&tried)?;
                let allowed = match shrink {
                    Shrink::LossRise(rise) => after <= loss_before + rise * loss_before.abs(),
                    Shrink::Share(_) => after.is_finite(),
                };
                if allowed {
                    break Some((tried, after, removal));
                }
                number /= 2;
            };
            let Some((tried, after, removal)) = smaller else {
                break;
            };
            if let Some((cohorts, _)) = &mut cohort {
                cohorts.shrink(&removal);
            }
            (narrow, loss_after) = (tried, after);
            removals.push(removal);
        }
        let receipt = ShrinkReceipt {
            examples: examples.len(),
            loss_before,
            loss_after,
            parameters: [trainable_parameters(network), trainable_parameters(&narrow)],
            flops: [network.flops(), narrow.flops()],
            sites: shrinkage(network, &narrow),
        };
        Ok(Shrunk { network: narrow, receipt, removals, flops: flops + looks })
    }

    /// The mean loss over training examples, in evaluation mode.
    fn loss_of(&self, network: &N, indices: &[usize]) -> Result<f64, Error> {
        let part = self.settings.evaluation_batch;
        Ok(evaluate_some(network, &self.task, self.train, (indices, part), &*self.sums)?.loss)
    }

    /// What can be removed, the least important first, not the last of a site; of a cohort's neurons alone, if one is
    /// given. And what finding that takes beyond a pass, in floating-point operations.
    fn candidates(
        &self,
        network: &N,
        parts: &[Part<'_, N>],
        cohort: Option<&(Cohorts, usize)>,
    ) -> Result<(Vec<Candidate>, u64), Error> {
        let taken = Taken::of(network, parts, EVIDENCE_MEMORY, &self.sums)?;
        let replay = taken.looked.replay(&taken.looking, parts);
        let mut candidates = Vec::new();
        for (number, site) in taken.looking.sites().iter().enumerate() {
            let width = site.width() / site.blocks();
            let may_go = |neuron: &usize| cohort.is_none_or(|(cohorts, number)| cohorts.is_of(site, *neuron, *number));
            let may_go = (0..width).filter(may_go).collect::<Vec<_>>();
            if may_go.is_empty() {
                continue;
            }
            let unit = site.unit();
            let mut importance = vec![0.0; width / unit];
            // Each unit as it sees its input.
            let each = site.seen_by_units(0..width / unit);
            for block in 0..site.blocks() {
                let branch = Branch::new(&each, block, taken.looked.seen(&replay))?;
                let of_block = branch.importance(&Existing::of(site, block).as_neurons(), unit)?;
                importance.iter_mut().zip(of_block).for_each(|(total, of_block)| *total += of_block);
            }
            candidates.extend(of_site(number, site, may_go, &importance));
        }
        candidates.sort_by(|a, b| a.importance.total_cmp(&b.importance));
        Ok((candidates, taken.looked.work.flops()))
    }
}

impl Shrink {
    fn check(self) -> Result<(), Error> {
        let bad = |option, value: f64, remedy| Err(Error::BadOption { option, value: value.to_string(), remedy });
        match self {
            Self::LossRise(rise) if !(rise >= 0.0 && rise.is_finite()) => {
                bad("rise", rise, "it is the share by which the loss may rise: 0 or more, for example 0.01")
            }
            Self::Share(share) if !(share > 0.0 && share < 1.0) => {
                bad("share", share, "it is the share of all neurons that is removed: above 0 and below 1")
            }
            _ => Ok(()),
        }
    }
}

/// Those of a site's units that may go, by importance within the site; never all that it has. A unit goes whole.
fn of_site(number: usize, site: &Site, neurons: Vec<usize>, importance: &[f64]) -> Vec<Candidate> {
    let unit = site.unit();
    let may_go = |at: &usize| (at * unit..(at + 1) * unit).all(|neuron| neurons.binary_search(&neuron).is_ok());
    let mut order = (0..importance.len()).filter(may_go).collect::<Vec<_>>();
    order.sort_by(|a, b| importance[*a].total_cmp(&importance[*b]));
    // So many units at a time, so that the groups of norms stay even.
    let together = (site.growth_unit() / site.blocks() / unit).max(1);
    let may_go = order.len().min(importance.len() - 1) / together;
    let candidate = |units: &[usize]| Candidate {
        site: number,
        importance: units.iter().map(|at| importance[*at]).sum(),
        neurons: units.iter().flat_map(|at| at * unit..(at + 1) * unit).collect(),
    };
    order.chunks_exact(together).take(may_go).map(candidate).collect()
}

/// The number of candidates from the first on that make up so many neurons.
fn first_of<N: Growable>(candidates: &[Candidate], wanted: usize, network: &N) -> usize {
    let blocks = network.sites().iter().map(Site::blocks).collect::<Vec<_>>();
    let mut sum = 0;
    candidates
        .iter()
        .take_while(|candidate| {
            sum += candidate.neurons.len() * blocks[candidate.site];
            sum <= wanted
        })
        .count()
}

fn removal_of<N: Growable>(candidates: &[Candidate], network: &N) -> Removal {
    let sites = network.sites();
    let mut removal = Removal::default();
    candidates.iter().for_each(|candidate| removal.add(&sites[candidate.site], &candidate.neurons));
    removal
}

/// Neurons of all sites.
fn neurons<N: Growable>(network: &N) -> usize {
    network.sites().iter().map(Site::width).sum()
}

fn shrinkage<N: Growable>(before: &N, after: &N) -> Vec<SiteShrinkage> {
    let pair = |(before, after): (&Site, &Site)| SiteShrinkage {
        site: before.name.clone(),
        before: before.width(),
        after: after.width(),
    };
    let (before, after) = (before.sites(), after.sites());
    before.iter().zip(&after).map(pair).filter(|site| site.after < site.before).collect()
}
