//! What a policy can look at: what growth would give at each site, and what it would cost.

use std::cell::OnceCell;
use std::ops::Range;

use serde::Serialize;

use crate::error::Error;
use crate::event::gain::gains;
use crate::event::gradients::{gradient_norm, gradients_of_parts};
use crate::event::grower::Grower;
use crate::event::look::{Taken, independent};
use crate::event::pass::Part;
use crate::event::plan::Planned;
use crate::operator::branch::Branch;
use crate::operator::directions::Directions;
use crate::operator::growth_operator::GrowthOperator;
use crate::operator::linear_operator::LinearOperator;
use crate::site::declaration::{Site, site_named};
use crate::site::growable::{Growable, trainable_parameters};
use crate::site::side::Side;
use crate::surgery::addition::addition;
use crate::surgery::new_neurons::NewNeurons;
use crate::surgery::widen::widen;

/// A network on a growth batch, as a policy sees it. The pass over the batch is taken when something is asked for
/// first.
pub trait PolicyLook {
    /// The mean loss on the growth batch.
    ///
    /// # Errors
    /// [`Error::Examples`], if examples cannot be read.
    fn loss(&self) -> Result<f64, Error>;

    /// The norm of the loss's gradient over all parameters, on the growth batch.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    fn gradient_norm(&self) -> Result<f64, Error>;

    /// What further neurons gain at these sites that the existing ones cannot: by how much the loss falls per unit of the
    /// learning rate with the first step of each, the best first. What changes of the existing neurons' outgoing weights
    /// can explain is taken off before. The neurons are GradMax's, whatever the run's growth method is, in the sizes that
    /// the run gives them; they are chosen by one half of the growth batch and judged by the other, so that noise gains
    /// nothing on average, and a number can be negative.
    ///
    /// For every site in turn, one number for each [growth unit](Self::growth_unit) of its neurons.
    ///
    /// # Errors
    /// [`Error::UnknownSite`], [`Error::UnevenGroups`], those of [`GrowthOperator::new`]; [`Error::Examples`], if the
    /// policy does not [look in halves](crate::policies::Policy::looks_in_halves).
    fn gains(&self, plan: &[Planned]) -> Result<Vec<Vec<f64>>, Error>;

    /// What the network is: its trainable parameters, and its operations.
    fn size(&self) -> Cost;

    /// The leading singular values of a site's growth operator, at most so many of each of its blocks, the largest
    /// first: with outgoing weights of norm `c`, the incoming weights of a new neuron receive a gradient of norm `c`
    /// times its value.
    ///
    /// # Errors
    /// [`Error::UnknownSite`], and those of [`GrowthOperator::new`].
    fn spectrum(&self, site: &str, count: usize) -> Result<Vec<f64>, Error>;

    /// New neurons of a site come in multiples of this, so that its groups stay even.
    ///
    /// # Errors
    /// [`Error::UnknownSite`].
    fn growth_unit(&self, site: &str) -> Result<usize, Error>;

    /// What so many new neurons at a site cost.
    ///
    /// # Errors
    /// [`Error::UnknownSite`] and [`Error::UnevenGroups`].
    fn cost(&self, site: &str, count: usize) -> Result<Cost, Error> {
        let (before, after) = (self.size(), self.grown_size(&[Planned { site: site.to_string(), count }])?);
        Ok(Cost {
            parameters: after.parameters.saturating_sub(before.parameters),
            flops: after.flops.saturating_sub(before.flops),
        })
    }

    /// What the network would be with these new neurons.
    ///
    /// # Errors
    /// As [`cost`](Self::cost).
    fn grown_size(&self, plan: &[Planned]) -> Result<Cost, Error>;
}

/// What new neurons, or a network, cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Trainable parameters.
    pub parameters: u64,
    /// Floating-point operations of an example's forward pass.
    pub flops: u64,
}

/// A singular value of a growth operator, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SingularValue {
    /// On the whole growth batch. Noise makes it larger.
    pub value: f64,
    /// Its standard error, by how much the parts of the batch differ along its directions.
    pub error: f64,
    /// The mean of what each half of the batch has along the directions of the other: without what is noise.
    pub held_out: f64,
}

/// Looks at a network when it is asked to.
pub(crate) struct LazyLook<'a, 'p, N: Growable> {
    network: &'a N,
    parts: &'a [Part<'p, N>],
    /// What chooses new neurons.
    grower: &'a Grower,
    /// What is kept apart: nothing, the two halves of the parts, or these and then every part.
    sections: Vec<Range<usize>>,
    taken: OnceCell<Taken<N>>,
}

impl<'a, 'p, N: Growable> LazyLook<'a, 'p, N> {
    pub(crate) fn new(network: &'a N, parts: &'a [Part<'p, N>], grower: &'a Grower, in_halves: bool) -> Self {
        let middle = parts.len() / 2;
        let sections = if in_halves { vec![0..middle, middle..parts.len()] } else { Vec::new() };
        Self { network, parts, grower, sections, taken: OnceCell::new() }
    }

    /// A look in halves that tells the parts apart too.
    pub(crate) fn in_parts(network: &'a N, parts: &'a [Part<'p, N>], grower: &'a Grower) -> Self {
        let mut look = Self::new(network, parts, grower, true);
        look.sections.extend((0..parts.len()).map(|part| part..part + 1));
        look
    }

    /// The leading singular values of a site's growth operator, at most so many of each of its blocks, the largest first,
    /// with how sure they are; of a look that tells its parts apart.
    pub(crate) fn singular_values(&self, site: &str, count: usize) -> Result<Vec<SingularValue>, Error> {
        let (site, taken) = (self.site(site)?, self.taken()?);
        let count = count.min(site.fan_in()).min(site.fan_out());
        let mut values = Vec::new();
        let replay = taken.looked.replay(&taken.looking, self.parts);
        let replays = taken.looked.sections.iter().map(|section| section.replay(&taken.looking, self.parts));
        let replays = replays.collect::<Vec<_>>();
        for block in 0..site.blocks() {
            let seen = taken.looked.sections.iter().zip(&replays).map(|(section, replay)| section.seen(replay));
            let branches = std::iter::once(taken.looked.seen(&replay)).chain(seen);
            let branches = branches.map(|seen| Branch::new(&site, block, seen)).collect::<Result<Vec<_>, _>>()?;
            let operators =
                branches.iter().map(|branch| branch.operator(Side::Outgoing)).collect::<Result<Vec<_>, _>>()?;
            let [whole, first, second, parts @ ..] = &operators[..] else {
                return Err(Error::Examples("a spectrum with errors needs a look at two parts at least".into()));
            };
            let of_whole = whole.directions(count)?;
            let in_parts = parts.iter().map(|part| along(&of_whole, part)).collect::<Vec<_>>();
            let [first_by_second, second_by_first] =
                [along(&first.directions(count)?, second), along(&second.directions(count)?, first)];
            for (index, value) in of_whole.values.iter().enumerate() {
                let of_parts = in_parts.iter().map(|part| part[index]).collect::<Vec<_>>();
                let held_out = (first_by_second[index] + second_by_first[index]) / 2.0;
                values.push(SingularValue { value: *value, error: standard_error(&of_parts), held_out });
            }
        }
        values.sort_by(|a, b| b.value.total_cmp(&a.value));
        Ok(values)
    }

    /// What was seen, if something was asked for.
    pub(crate) fn into_taken(self) -> Option<Taken<N>> {
        self.taken.into_inner()
    }

    fn taken(&self) -> Result<&Taken<N>, Error> {
        if let Some(taken) = self.taken.get() {
            return Ok(taken);
        }
        let (memory, sums) = (self.grower.evidence_memory(), self.grower.sums());
        let taken = Taken::keeping(self.network, self.parts, (memory, &self.sections), sums)?;
        Ok(self.taken.get_or_init(|| taken))
    }

    /// What was seen, in halves.
    fn halves(&self) -> Result<&Taken<N>, Error> {
        match self.sections.is_empty() {
            false => self.taken(),
            true => Err(Error::Examples("the policy does not say that it looks in halves".into())),
        }
    }

    fn site(&self, name: &str) -> Result<Site, Error> {
        site_named(name, &self.network.sites()).cloned()
    }
}

impl<N: Growable> PolicyLook for LazyLook<'_, '_, N> {
    fn loss(&self) -> Result<f64, Error> {
        Ok(self.taken()?.looked.loss)
    }

    fn gradient_norm(&self) -> Result<f64, Error> {
        let taken = self.taken()?;
        let pass = taken.looked.pass.borrow();
        match pass.as_ref() {
            Some(pass) => Ok(gradient_norm(&taken.looking, &pass.gradients)),
            None => {
                // A pass of its own, on a copy: batch norm's statistics must not count the batch twice.
                let copy = independent(self.network);
                let gradients = self.grower.sums().gradients(&copy, gradients_of_parts(&copy, self.parts)?, 1.0);
                Ok(gradient_norm(&copy, &gradients))
            }
        }
    }

    fn gains(&self, plan: &[Planned]) -> Result<Vec<Vec<f64>>, Error> {
        let taken = self.halves()?;
        let planned = plan.iter().map(|Planned { site, count }| {
            let site = self.site(site)?;
            site.check_growth(*count)?;
            Ok((site, *count))
        });
        let planned = planned.collect::<Result<Vec<_>, Error>>()?;
        // A unit can have several neurons of each block.
        let of_a_unit = planned.iter().map(|(site, _)| site.growth_unit() / site.blocks()).collect::<Vec<_>>();
        let of_neurons = gains(self.grower, self.parts, taken, planned)?;
        let in_units = |(gains, unit): (Vec<f64>, usize)| gains.chunks(unit).map(|unit| unit.iter().sum()).collect();
        Ok(of_neurons.into_iter().zip(of_a_unit).map(in_units).collect())
    }

    fn size(&self) -> Cost {
        size_of(self.network)
    }

    fn spectrum(&self, site: &str, count: usize) -> Result<Vec<f64>, Error> {
        let (site, taken) = (self.site(site)?, self.taken()?);
        let replay = taken.looked.replay(&taken.looking, self.parts);
        let branches = (0..site.blocks()).map(|block| Branch::new(&site, block, taken.looked.seen(&replay)));
        let branches = branches.collect::<Result<Vec<_>, _>>()?;
        // No more than there are: GradMax goes on with repetitions.
        let count = count.min(site.fan_in()).min(site.fan_out());
        // With zero outgoing weights no activation is refused; where both sides can be zero, the operator is the same.
        let placed = branches.iter().map(|branch| (branch, Side::Outgoing)).collect::<Vec<_>>();
        let directions = GrowthOperator::of_branches(&placed)?.into_iter().map(|operator| operator.directions(count));
        let directions = directions.collect::<Result<Vec<_>, _>>()?;
        let mut values = directions.into_iter().flat_map(|directions| directions.values).collect::<Vec<_>>();
        values.sort_by(|a, b| b.total_cmp(a));
        Ok(values)
    }

    fn growth_unit(&self, site: &str) -> Result<usize, Error> {
        Ok(self.site(site)?.growth_unit())
    }

    fn grown_size(&self, plan: &[Planned]) -> Result<Cost, Error> {
        let mut extensions = Vec::new();
        for Planned { site, count } in plan {
            let site = self.site(site)?;
            site.check_growth(*count)?;
            let silent = NewNeurons::zeros(count / site.blocks(), site.fan_in(), site.fan_out());
            extensions.extend(addition(&site, &vec![&silent; site.blocks()]).all().cloned());
        }
        // Widened for real and counted, so that no formula of a layer's cost has to be kept true.
        Ok(size_of(&widen(independent(self.network), &extensions)?))
    }
}

/// What an operator is along directions of another: what the singular values would be if the directions were its own.
fn along(directions: &Directions, operator: &GrowthOperator) -> Vec<f64> {
    let images = operator.apply(directions.vectors.as_ref());
    let of_direction = |(index, value): (usize, &f64)| match *value {
        0.0 => 0.0,
        value => images.row(index) * directions.images.row(index).transpose() / value,
    };
    directions.values.iter().enumerate().map(of_direction).collect()
}

/// The standard error of the mean.
fn standard_error(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (squares / (count - 1.0) / count).sqrt()
}

fn size_of<N: Growable>(network: &N) -> Cost {
    Cost { parameters: trainable_parameters(network) as u64, flops: network.flops() }
}
