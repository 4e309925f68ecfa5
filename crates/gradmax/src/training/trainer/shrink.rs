//! Removing the neurons that a trained network can do without.

use serde::{Deserialize, Serialize};

use super::Trainer;
use crate::error::Error;
use crate::event::look::{EVIDENCE_MEMORY, Taken};
use crate::event::pass::Part;
use crate::operator::branch::Branch;
use crate::site::declaration::Site;
use crate::site::growable::{Growable, trainable_parameters};
use crate::surgery::existing::Existing;
use crate::surgery::removal::Removal;
use crate::training::evaluation::evaluate_some;
use crate::training::settings::GrowthBatch;
use crate::training::task::Task;

/// How much of a network is removed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shrink {
    /// As much as the loss rises by this share at most.
    LossRise(f64),
    /// This share of all neurons, whatever the loss becomes.
    Share(f64),
}

/// What was removed, and what became of the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShrinkReceipt {
    /// Examples on which the loss was measured, of the training set.
    pub examples: usize,
    /// Their mean loss before, in evaluation mode.
    pub loss_before: f64,
    /// And after.
    pub loss_after: f64,
    /// Trainable parameters before and after.
    pub parameters: [usize; 2],
    /// Floating-point operations of an example's forward pass, before and after.
    pub flops: [u64; 2],
    /// Every site that lost neurons.
    pub sites: Vec<SiteShrinkage>,
}

/// What a site lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteShrinkage {
    /// The site's name.
    pub site: String,
    /// Its width before.
    pub before: usize,
    /// Its width after.
    pub after: usize,
}

/// Neurons of a site that go together: so many of each block that its groups stay even.
struct Candidate {
    site: usize,
    /// Indices within the blocks.
    neurons: Vec<usize>,
    importance: f64,
}

/// The share of the neurons that are left which is tried first in a round; importance is measured anew in each.
const ROUND: f64 = 0.1;

impl<N: Growable, T: Task<Output = N::Output>> Trainer<'_, N, T> {
    /// A network without the neurons that it can do without, and a receipt: those of least importance go first, a tenth
    /// of all at a time, as long as the loss on so many training examples (all, if there are not as many) allows. Every
    /// site keeps a neuron of each block.
    ///
    /// Importance is the Fisher information of a factor on a neuron's output (Theis et al. 2018; Molchanov et al. 2019);
    /// how far to go is told by the loss itself, in evaluation mode.
    ///
    /// # Errors
    /// [`Error::BadOption`]; [`Error::Examples`], if examples cannot be read; those of sites that do not fit what the
    /// network shows.
    pub fn shrunk(&self, network: &N, shrink: Shrink, examples: usize) -> Result<(N, ShrinkReceipt), Error> {
        shrink.check()?;
        let count = examples.min(self.train.count());
        let indices = self.drawn(count, self.settings.seed.fold("shrink"));
        let parts = self.growth_batch(GrowthBatch::Examples(count), &[], 0, false)?;
        let loss = |network: &N| self.loss_of(network, &indices);
        let loss_before = loss(network)?;
        let all = neurons(network);
        let (mut narrow, mut loss_after) = (network.clone(), loss_before);
        loop {
            let candidates = self.candidates(&narrow, &parts)?;
            let left = match shrink {
                Shrink::LossRise(_) => candidates.len(),
                Shrink::Share(share) => {
                    let gone = all - neurons(&narrow);
                    let wanted = ((share * all as f64).round() as usize).saturating_sub(gone);
                    first_of(&candidates, wanted, &narrow)
                }
            };
            let mut number = ((ROUND * candidates.len() as f64).ceil() as usize).min(left);
            // Fewer and fewer, until the loss allows it.
            let smaller = loop {
                if number == 0 {
                    break None;
                }
                let tried = without(&narrow, &candidates[..number]);
                let after = loss(&tried)?;
                let allowed = match shrink {
                    Shrink::LossRise(rise) => after <= loss_before + rise * loss_before.abs(),
                    Shrink::Share(_) => after.is_finite(),
                };
                if allowed {
                    break Some((tried, after));
                }
                number /= 2;
            };
            match smaller {
                Some(smaller) => (narrow, loss_after) = smaller,
                None => break,
            }
        }
        let receipt = ShrinkReceipt {
            examples: count,
            loss_before,
            loss_after,
            parameters: [trainable_parameters(network), trainable_parameters(&narrow)],
            flops: [network.flops(), narrow.flops()],
            sites: shrinkage(network, &narrow),
        };
        Ok((narrow, receipt))
    }

    /// The mean loss over training examples, in evaluation mode.
    fn loss_of(&self, network: &N, indices: &[usize]) -> Result<f64, Error> {
        let part = self.settings.evaluation_batch;
        Ok(evaluate_some(network, &self.task, self.train, (indices, part), &*self.sums)?.loss)
    }

    /// What can be removed, the least important first; not the last of a site.
    fn candidates(&self, network: &N, parts: &[Part<'_, N>]) -> Result<Vec<Candidate>, Error> {
        let taken = Taken::of(network, parts, EVIDENCE_MEMORY, &self.sums)?;
        let replay = taken.looked.replay(&taken.looking, parts);
        let mut candidates = Vec::new();
        for (number, site) in taken.looking.sites().iter().enumerate() {
            let width = site.width() / site.blocks();
            let mut importance = vec![0.0; width];
            for block in 0..site.blocks() {
                let branch = Branch::new(site, block, taken.looked.seen(&replay))?;
                let of_block = branch.importance(&Existing::of(site, block).as_neurons())?;
                importance.iter_mut().zip(of_block).for_each(|(total, of_block)| *total += of_block);
            }
            candidates.extend(of_site(number, site, &importance));
        }
        candidates.sort_by(|a, b| a.importance.total_cmp(&b.importance));
        Ok(candidates)
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

/// The neurons of a site that may go, by importance within the site.
fn of_site(number: usize, site: &Site, importance: &[f64]) -> Vec<Candidate> {
    let together = (site.growth_unit() / site.blocks()).max(1);
    let mut order = (0..importance.len()).collect::<Vec<_>>();
    order.sort_by(|a, b| importance[*a].total_cmp(&importance[*b]));
    let may_go = order.len().saturating_sub(1) / together;
    let candidate = |neurons: &[usize]| Candidate {
        site: number,
        importance: neurons.iter().map(|neuron| importance[*neuron]).sum(),
        neurons: neurons.to_vec(),
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

fn without<N: Growable>(network: &N, candidates: &[Candidate]) -> N {
    let sites = network.sites();
    let mut removal = Removal::default();
    candidates.iter().for_each(|candidate| removal.add(&sites[candidate.site], &candidate.neurons));
    removal.apply(network.clone())
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
