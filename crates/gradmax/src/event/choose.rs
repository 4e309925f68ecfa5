//! Choosing the weights of new neurons: what a growth method gets to see at each block of each site, and what is checked
//! of its answer.

use flexconv::{computes_on_threads, map_side_by_side};

use crate::error::Error;
use crate::event::chosen::{Chosen, ChosenBlock};
use crate::event::loss_on_batch::OnGrowthBatch;
use crate::event::pass::Part;
use crate::event::rounding::{ONLY_ROUNDING, gradient_rounding};
use crate::matrix::Matrix;
use crate::methods::growth_loss::{AtBlock, GrowthLoss, NetworkLoss};
use crate::methods::method::{GrowthMethod, Need, Request};
use crate::methods::placement::{Placement, Scale};
use crate::operator::branch::{Branch, gradients_of};
use crate::operator::growth_operator::GrowthOperator;
use crate::operator::seen::{Again, Seen, Source};
use crate::seed::Seed;
use crate::site::declaration::Site;
use crate::site::growable::{Growable, device_of};
use crate::site::probe::Evidence;
use crate::site::side::Side;
use crate::sums::SharedSums;
use crate::surgery::new_neurons::{Changes, NewNeurons};

/// A site, and the neurons that it is to gain.
pub(super) type PlannedSite = (Site, usize);

/// Who chooses, and how.
pub(super) struct Choosing<'a> {
    pub(super) method: &'a dyn GrowthMethod,
    /// What messages call the method.
    pub(super) name: &'a str,
    pub(super) placement: Placement,
    /// The event's seed, which sites fold.
    pub(super) seed: Seed,
    pub(super) sums: &'a SharedSums,
}

/// Companions that are tried beside those of existing units.
const DRAWN_COMPANIONS: u64 = 8;
/// How many of them are starting points.
const COMPANION_STARTS: usize = 4;
/// Steps up the gradient from each, and the share of its norm that the first ones are long.
const COMPANION_STEPS: usize = 6;
const COMPANION_STEP: f64 = 0.5;

/// The side that a growth method leaves zero at a site.
pub(super) fn zero_side_of(method: &dyn GrowthMethod, placement: Placement, site: &Site) -> Option<Side> {
    method.zero_side(placement.zero_side.at(site))
}

impl Choosing<'_> {
    /// The weights of new neurons at these sites by what was seen on these parts, and the gradients that they will
    /// receive.
    pub(super) fn choose<N: Growable>(
        &self,
        planned: Vec<PlannedSite>,
        network: &N,
        parts: &[Part<'_, N>],
        seen: Seen<'_>,
    ) -> Result<Vec<Chosen>, Error> {
        if self.scales_jointly(planned.iter().map(|(site, _)| site)) {
            planned.iter().try_for_each(|(site, _)| self.check_gradient(site, network, parts))?;
        }
        let loss = OnGrowthBatch { network, parts, sums: self.sums, work: seen.work };
        let loss = self.method.needs().contains(&Need::Loss).then_some(&loss as &dyn NetworkLoss);
        let Source::Kept(evidence) = seen.source else {
            // Each pass over the growth batch shows all sites.
            return self.choose_at(planned, seen, loss);
        };
        let one = |one: PlannedSite, loss| {
            let seen = Seen { source: Source::Kept(evidence), ..seen };
            self.choose_at(vec![one], seen, loss)
        };
        // Several machines meet in the order of the sites.
        let side_by_side = loss.is_none() && computes_on_threads(&device_of(network)) && self.sums.is_alone();
        let chosen = match side_by_side {
            true => map_side_by_side(planned, |site| one(site, None)).into_iter().collect(),
            false => planned.into_iter().map(|site| one(site, loss)).collect::<Result<Vec<_>, _>>(),
        };
        Ok(chosen?.into_iter().flatten().collect())
    }

    /// As [`choose`](Self::choose), by what was seen: first the branches and operators of all blocks of these sites,
    /// then the neurons of each block, then the gradients of all.
    fn choose_at(
        &self,
        planned: Vec<PlannedSite>,
        seen: Seen<'_>,
        loss: Option<&dyn NetworkLoss>,
    ) -> Result<Vec<Chosen>, Error> {
        let with_companions = |(site, count)| Ok((self.with_companions(site, count, seen)?, count));
        let mut planned = planned.into_iter().map(with_companions).collect::<Result<Vec<_>, Error>>()?;
        let mut branches = branches_of(&planned, seen)?;
        let blocks =
            planned.iter().flat_map(|(site, count)| (0..site.blocks()).map(move |block| (site, *count, block)));
        let operators = self.operators(&branches)?;
        let neurons = blocks.zip(&branches).zip(&operators).map(|((at, branch), operator)| {
            let loss = loss.map(|network| AtBlock { network, site: at.0, block: at.2 });
            let loss = loss.as_ref().map(|loss| loss as &dyn GrowthLoss);
            self.neurons_of_block(at, (branch, operator.as_ref(), loss))
        });
        let neurons = neurons.collect::<Result<Vec<_>, Error>>()?;
        if let Some(parted) = with_parents(&planned, &neurons) {
            planned = parted;
            branches = branches_of(&planned, seen)?;
        }
        let gradients = gradients_of(&branches.iter().zip(&neurons).collect::<Vec<_>>())?;
        let mut chosen =
            neurons.into_iter().zip(gradients).map(|(neurons, gradients)| ChosenBlock { neurons, gradients });
        let sites = planned.iter().map(|(site, _)| site);
        Ok(sites
            .map(|site| Chosen { site: site.clone(), blocks: chosen.by_ref().take(site.blocks()).collect() })
            .collect())
    }

    /// A site that is to gain so many neurons, with the companions that these are to have: those under which the growth
    /// operator is largest, of the units that are there and some that are drawn, after some steps up its gradient; on the
    /// first part of a growth batch that is too large to be kept. A method that does not look at the operator gets drawn
    /// ones.
    pub(super) fn with_companions(&self, site: Site, count: usize, seen: Seen<'_>) -> Result<Site, Error> {
        let Some(companions) = &site.companions else {
            return Ok(site);
        };
        if site.template.is_some() {
            return Ok(site);
        }
        let seed = self.seed.fold(&site.name).fold("companions");
        let with = |companions| Site { companions: Some(companions), ..site.clone() };
        if !self.method.needs().contains(&Need::Operator) {
            return Ok(with(companions.choosing(companions.companion.drawn(seed))));
        }
        // Each candidate would take passes of its own over a batch that is not kept: then its first part has to do.
        let first_part = match seen.source {
            Source::Kept(_) => None,
            Source::Again(again) => first_part(again)?,
        };
        let seen = first_part.as_ref().map_or(seen, |evidence| Seen { source: Source::Kept(evidence), ..seen });
        let of = |weights| {
            let candidate = with(companions.choosing(weights));
            let operator = Branch::new(&candidate, 0, seen)?.operator(self.zero_side(&candidate))?;
            let directions = operator.directions(count)?;
            let size = directions.values.iter().map(|value| value * value).sum::<f64>();
            Ok::<_, Error>((size, candidate, directions))
        };
        let there = (0..companions.units()).map(|unit| companions.of_unit(unit));
        let drawn = (0..DRAWN_COMPANIONS).map(|index| companions.companion.drawn(seed.at(index)));
        let mut tried = there.chain(drawn).map(of).collect::<Result<Vec<_>, _>>()?;
        tried.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
        tried.truncate(COMPANION_STARTS);
        // What neurons see as it is: companions are what is asked about.
        let plain = Site { companions: None, ..site.clone() };
        let branch = Branch::new(&plain, 0, seen)?;
        for so_far in &mut tried {
            let mut share = COMPANION_STEP;
            for _ in 0..COMPANION_STEPS {
                let (size, candidate, directions) = &*so_far;
                let Some(chosen) = &candidate.companions else { break };
                let gradients = branch.companion_gradients(chosen, &directions.images, &directions.vectors)?;
                let moved = of(chosen.moved(&gradients, share))?;
                match moved.0 > *size {
                    true => *so_far = moved,
                    false => share /= 2.0,
                }
            }
        }
        let best = tried.into_iter().max_by(|(a, ..), (b, ..)| a.total_cmp(b));
        Ok(best.map_or(site, |(_, best, _)| best))
    }

    /// The growth operator of each branch, if the method or the scale needs it.
    fn operators(&self, branches: &[Branch<'_>]) -> Result<Vec<Option<GrowthOperator>>, Error> {
        let scales_jointly = self.scales_jointly(branches.iter().map(|branch| &branch.block.site));
        if !self.method.needs().contains(&Need::Operator) && !scales_jointly {
            return Ok(branches.iter().map(|_| None).collect());
        }
        let placed = branches.iter().map(|branch| (branch, self.zero_side(&branch.block.site)));
        Ok(GrowthOperator::of_branches(&placed.collect::<Vec<_>>())?.into_iter().map(Some).collect())
    }

    /// Whether the size of new neurons refers to the operator's, as that of copies does not.
    fn scales_jointly<'s>(&self, mut sites: impl Iterator<Item = &'s Site>) -> bool {
        self.placement.scale == Scale::Joint && sites.all(|site| site.template.is_none())
    }

    /// The side that stays zero; methods that leave no side zero are asked as if it were the outgoing one.
    pub(super) fn zero_side(&self, site: &Site) -> Side {
        zero_side_of(self.method, self.placement, site).unwrap_or(Side::Outgoing)
    }

    /// The method's new neurons for one block of a site that is to gain so many in all its blocks.
    pub(super) fn neurons_of_block(
        &self,
        (site, count, block): (&Site, usize, usize),
        (branch, operator, loss): (&Branch<'_>, Option<&GrowthOperator>, Option<&dyn GrowthLoss>),
    ) -> Result<NewNeurons, Error> {
        let (blocks, seed) = (site.blocks(), self.seed.fold(&site.name));
        let request = Request {
            site: &site.name,
            count: count / blocks,
            width: site.width() / blocks,
            unit: site.unit(),
            fan_in: site.fan_in(),
            fan_out: site.fan_out(),
            zero_side: self.zero_side(site),
            placement: self.placement,
            seed: if blocks == 1 { seed } else { seed.at(block as u64) },
            method: self.name,
            layers: site,
            block,
            needs: self.method.needs(),
            branch,
            operator,
            loss,
        };
        let neurons = self.method.neurons(&request)?;
        check_neurons(&neurons, &request)?;
        Ok(neurons)
    }

    /// Checks that a gradient arrives at a site, and not rounding only: scale `joint` would divide by its norm.
    fn check_gradient<N: Growable>(&self, site: &Site, network: &N, parts: &[Part<'_, N>]) -> Result<(), Error> {
        match gradient_rounding(&site.name, network, parts, self.sums)? > ONLY_ROUNDING {
            false => Ok(()),
            true => Err(Error::Method {
                method: self.name.to_string(),
                site: site.name.clone(),
                reason:
                    "the gradient that arrives at it is no more than rounding, so scale `joint` has nothing to divide \
                     by; use scale `mean`, or leave the site out"
                        .into(),
            }),
        }
    }
}

/// What the first part of a batch shows that is seen again, if there is any.
fn first_part(again: &dyn Again) -> Result<Option<Evidence>, Error> {
    let mut first = None;
    again.each_part(&mut |evidence| {
        first.get_or_insert_with(|| evidence.clone());
        Ok(())
    })?;
    Ok(first)
}

/// The branches of all blocks of sites.
fn branches_of<'s>(planned: &[PlannedSite], seen: Seen<'s>) -> Result<Vec<Branch<'s>>, Error> {
    let blocks = planned.iter().flat_map(|(site, _)| (0..site.blocks()).map(move |block| (site, block)));
    blocks.map(|(site, block)| Branch::new(site, block, seen)).collect()
}

/// The sites where neurons that are split from others have their companions; none if there is no such site.
fn with_parents(planned: &[PlannedSite], neurons: &[NewNeurons]) -> Option<Vec<PlannedSite>> {
    // Sites with companions are one block.
    let firsts = planned.iter().scan(0, |first, (site, _)| {
        let of_site = *first;
        *first += site.blocks();
        Some(of_site)
    });
    let splits = |site: &Site, first: usize| site.companions.is_some() && neurons[first].parent(0).is_some();
    let of_site = |((site, count), first): (&PlannedSite, usize)| {
        let parents = || (0..*count).step_by(site.unit()).filter_map(|neuron| neurons[first].parent(neuron));
        match splits(site, first) {
            true => (site.seen_by_units(parents().map(|parent| parent / site.unit())), *count),
            false => (site.clone(), *count),
        }
    };
    let any = planned.iter().zip(firsts.clone()).any(|((site, _), first)| splits(site, first));
    any.then(|| planned.iter().zip(firsts).map(of_site).collect())
}

/// Checks that a method's neurons have the shapes that were asked for, come from neurons that are there, and are finite.
fn check_neurons(neurons: &NewNeurons, request: &Request<'_>) -> Result<(), Error> {
    match misshapen(neurons, request).or_else(|| not_finite(neurons)).or_else(|| unaccompanied(neurons, request)) {
        None => Ok(()),
        Some(reason) => {
            Err(Error::UnusableNeurons { method: request.method.into(), site: request.site.into(), reason })
        }
    }
}

/// What is wrong with the shapes of new neurons, if anything is.
fn misshapen(neurons: &NewNeurons, request: &Request<'_>) -> Option<String> {
    let (incoming, outgoing) = (neurons.incoming.shape(), neurons.outgoing.shape());
    let wanted = ((request.count, request.fan_in), (request.fan_out, request.count), request.count);
    if (incoming, outgoing, neurons.bias.len()) != wanted {
        return Some(format!(
            "incoming {incoming:?}, outgoing {outgoing:?} and {} biases, where {:?}, {:?} and {} were asked for",
            neurons.bias.len(),
            wanted.0,
            wanted.1,
            wanted.2
        ));
    }
    let one_each = neurons.parents.is_empty() || neurons.parents.len() == request.count;
    if !one_each || neurons.parents.iter().flatten().any(|parent| *parent >= request.width) {
        return Some(format!(
            "neurons split from {:?}, where {} are asked for and {} are there",
            neurons.parents, request.count, request.width
        ));
    }
    let Changes { incoming, outgoing, bias } = neurons.changes.as_ref()?;
    let (found, width) = ((incoming.shape(), outgoing.shape(), bias.len()), request.width);
    (found != ((width, request.fan_in), (request.fan_out, width), width)).then(|| {
        format!(
            "changes of incoming {:?}, outgoing {:?} and {} biases, where {width} neurons are there",
            found.0, found.1, found.2
        )
    })
}

/// What is wrong with new neurons of a site whose neurons have companions, if anything is.
fn unaccompanied(neurons: &NewNeurons, request: &Request<'_>) -> Option<String> {
    let companions = request.layers.companions.as_ref()?;
    let name = companions.companion.name();
    let unit = request.layers.unit();
    let of_unit = |parents: &[Option<usize>]| {
        let first = parents[0].filter(|first| first.is_multiple_of(unit));
        first.is_some_and(|first| (0..unit).all(|at| parents.get(at) == Some(&Some(first + at))))
    };
    match neurons {
        // What looks at nothing was not misled by the companions that it looked through.
        _ if request.needs.is_empty() && !neurons.parents.is_empty() && neurons.parents.chunks(unit).all(of_unit) => {
            None
        }
        _ if neurons.changes.is_some() || neurons.parents.iter().any(Option::is_some) => Some(format!(
            "the site's neurons have a {name}, and methods that change or split neurons know nothing of it"
        )),
        // The companions of copies are known, and so is that the function changes.
        _ if !neurons.one_side_is_zero() && request.layers.template.is_none() => Some(format!(
            "the gradient of the {name} is known only where one side of new neurons is zero: no `epsilon`, and no method that \
             leaves neither side zero"
        )),
        _ => None,
    }
}

/// What is wrong with the numbers of new neurons, if anything is.
fn not_finite(neurons: &NewNeurons) -> Option<String> {
    let changes = neurons.changes.iter();
    let matrices = changes.clone().flat_map(|changes| [&changes.incoming, &changes.outgoing]);
    let mut matrices = matrices.chain([&neurons.incoming, &neurons.outgoing]);
    let mut biases = changes.flat_map(|changes| &changes.bias).chain(&neurons.bias);
    let finite = matrices.all(Matrix::is_all_finite) && biases.all(|bias| bias.is_finite());
    (!finite).then(|| "some weights are not finite; is the loss?".into())
}
