//! How new neurons get their weights: the contract of growth methods, and what they may ask for.

use faer::{Mat, MatRef};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::error::Error;
use crate::matrix::Matrix;
use crate::methods::growth_loss::GrowthLoss;
use crate::methods::placement::{Placement, Scale};
use crate::operator::branch::{Branch, ROUNDING};
use crate::operator::growth_operator::GrowthOperator;
use crate::operator::linear_operator::LinearOperator;
use crate::seed::Seed;
use crate::site::declaration::{FRESH_INCOMING_NORM, Site};
use crate::site::side::Side;
use crate::surgery::existing::Existing;
use crate::surgery::new_neurons::NewNeurons;

/// Chooses the weights of new neurons at one site.
///
/// A growth method sees matrices and operators; never a network, an optimizer or a data set. A new growth method is one
/// type that implements this trait.
pub trait GrowthMethod: Send + Sync {
    /// The name used in configurations, receipts and messages.
    fn name(&self) -> &str;

    /// What it looks at in [`neurons`](GrowthMethod::neurons); nothing else is measured for it, or shown to it.
    fn needs(&self) -> &'static [Need];

    /// The side of the new neurons that it leaves zero, given the one that the placement asks for at a site; none
    /// if it leaves neither.
    fn zero_side(&self, asked: Side) -> Option<Side> {
        Some(asked)
    }

    /// Checks its own options, before any training.
    ///
    /// # Errors
    /// [`Error::BadOption`].
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Checks that it can grow a site, before any training.
    ///
    /// # Errors
    /// [`Error::Method`].
    fn check_site(&self, _site: &Site) -> Result<(), Error> {
        Ok(())
    }

    /// Which site of its series a site that has no neurons yet copies, by its place in the series; none for methods that
    /// look at each site alone.
    ///
    /// # Errors
    /// A sentence, if there is nothing to copy.
    fn template(&self, _series: &Series) -> Result<Option<usize>, String> {
        Ok(None)
    }

    /// Whether it draws at random, so that two seeds differ.
    fn draws(&self) -> bool {
        true
    }

    /// The weights of `request.count` new neurons.
    ///
    /// # Errors
    /// [`Error::Method`], if the site or the placement is one that the method has no answer for.
    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error>;
}

/// A site's place among those of its [series](Site::in_series), in the order of the forward pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The widths of all.
    pub widths: Vec<usize>,
    /// The places of those that grow at this event, in order.
    pub growing: Vec<usize>,
    /// The site's own place.
    pub place: usize,
}

/// A kind of evidence that a growth method may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// The growth operator of the site, on the growth batch: [`Request::operator`].
    Operator,
    /// Second moments of the producer's input: [`Request::input_moments`].
    Moments,
    /// The branch of new neurons, and so the gradients at neurons of one's choice: [`Request::branch`].
    Branch,
    /// The loss on the growth batch as a function of the new neurons' weights: [`Request::loss`].
    Loss,
}

/// What a growth method is asked, and what it may look at.
pub struct Request<'a> {
    /// The site's name.
    pub site: &'a str,
    /// Number of new neurons.
    pub count: usize,
    /// Number of existing neurons.
    pub width: usize,
    /// Neurons that belong together, the width of a head, or 1: both numbers are multiples of it.
    pub unit: usize,
    /// Incoming weights of each.
    pub fan_in: usize,
    /// Outgoing weights of each.
    pub fan_out: usize,
    /// Which side is zero.
    pub zero_side: Side,
    /// How large the other one is.
    pub placement: Placement,
    /// The seed of this growth of this site.
    pub seed: Seed,
    pub(crate) method: &'a str,
    pub(crate) layers: &'a Site,
    pub(crate) block: usize,
    pub(crate) needs: &'static [Need],
    pub(crate) branch: &'a Branch<'a>,
    pub(crate) operator: Option<&'a GrowthOperator>,
    pub(crate) loss: Option<&'a dyn GrowthLoss>,
}

impl Request<'_> {
    /// The growth operator of the site.
    ///
    /// # Errors
    /// [`Error::Method`], if the growth method did not say that it [needs](GrowthMethod::needs) it.
    pub fn operator(&self) -> Result<&dyn LinearOperator, Error> {
        self.check_need(Need::Operator)?;
        Ok(self.operator.expect("what a growth method needs is measured before"))
    }

    /// The second moments of what the producer reads, times `incoming` `[n, fan_in]`: the sums over examples and
    /// positions of a neuron's response times that of each incoming weight, `[n, fan_in]`.
    ///
    /// # Errors
    /// As [`operator`](Self::operator); [`Error::Examples`].
    pub fn input_moments(&self, incoming: MatRef<'_, f64>) -> Result<Matrix, Error> {
        self.check_need(Need::Moments)?;
        self.branch.input_moments(incoming)
    }

    /// The branch that new neurons add, for gradients at neurons of one's choice.
    ///
    /// # Errors
    /// As [`operator`](Self::operator).
    pub fn branch(&self) -> Result<&Branch<'_>, Error> {
        self.check_need(Need::Branch)?;
        Ok(self.branch)
    }

    /// The loss on the growth batch, as a function of the new neurons.
    ///
    /// # Errors
    /// As [`operator`](Self::operator).
    pub fn loss(&self) -> Result<&dyn GrowthLoss, Error> {
        self.check_need(Need::Loss)?;
        Ok(self.loss.expect("what a growth method needs is measured before"))
    }

    fn check_need(&self, need: Need) -> Result<(), Error> {
        match self.needs.contains(&need) {
            true => Ok(()),
            false => Err(self.refuse(format!("it looks at evidence that `needs()` does not name: `Need::{need:?}`"))),
        }
    }

    /// The weights of the existing neurons.
    pub fn existing(&self) -> Existing {
        Existing::of(self.layers, self.block)
    }

    /// The neurons of the site that the growth method [copies](GrowthMethod::template).
    ///
    /// # Errors
    /// [`Error::Method`], if it copies none.
    pub fn template(&self) -> Result<Existing, Error> {
        match &self.layers.template {
            Some(template) => Ok(Existing::of(template, self.block)),
            None => Err(self.refuse("it names no site to copy in `template()`")),
        }
    }

    /// Mean L2 norm of the existing neurons' incoming weights.
    pub fn mean_incoming_norm(&self) -> f64 {
        self.layers.mean_incoming_norm()
    }

    /// Mean L2 norm of the existing neurons' outgoing weights.
    pub fn mean_outgoing_norm(&self) -> f64 {
        self.layers.mean_outgoing_norm(self.count)
    }

    /// A generator for this growth of this site.
    pub fn rng(&self) -> ChaCha8Rng {
        self.seed.rng()
    }

    /// An error of this growth method at this site, with what is wrong and what to do.
    pub fn refuse(&self, reason: impl Into<String>) -> Error {
        refused(self.method, self.site, reason)
    }

    /// Weights drawn entry by entry for the side that is not zero, a neuron a row: `[count, fan]`.
    pub fn draw(&self, mut entry: impl FnMut(&mut ChaCha8Rng) -> f64) -> Matrix {
        let fan = match self.zero_side {
            Side::Incoming => self.fan_out,
            Side::Outgoing => self.fan_in,
        };
        let mut rng = self.rng();
        let mut weights = Mat::zeros(self.count, fan);
        for neuron in 0..self.count {
            (0..fan).for_each(|j| weights[(neuron, j)] = entry(&mut rng));
        }
        weights
    }

    /// New neurons from directions, a neuron a row, for the side that is not zero: scaled as the placement says, with
    /// the other side zero (or of norm epsilon) and zero biases.
    ///
    /// # Errors
    /// [`Error::Method`], if the scale has nothing to refer to.
    pub fn place(&self, directions: MatRef<'_, f64>) -> Result<NewNeurons, Error> {
        self.place_with(directions, self.placement.epsilon)
    }

    /// As [`place`](Self::place), with another epsilon.
    pub(crate) fn place_with(&self, directions: MatRef<'_, f64>, epsilon: f64) -> Result<NewNeurons, Error> {
        let weights = self.scaled(directions)?;
        // A stream of its own, so that directions are the same with and without an epsilon.
        let mut rng = self.seed.fold("epsilon").rng();
        let mut small = |fan: usize| {
            if epsilon == 0.0 {
                return Mat::zeros(self.count, fan);
            }
            let drawn = Mat::from_fn(self.count, fan, |_, _| StandardNormal.sample(&mut rng));
            rows_of_norm(drawn.as_ref(), epsilon)
        };
        let (incoming, outgoing) = match self.zero_side {
            Side::Incoming => (small(self.fan_in), weights.transpose().to_owned()),
            Side::Outgoing => (weights, small(self.fan_out).transpose().to_owned()),
        };
        Ok(NewNeurons::unbiased(incoming, outgoing))
    }

    /// The norm that a new neuron's weights get on the side that is not zero (or, on the other side, would).
    ///
    /// # Errors
    /// [`Error::Method`], if the scale has nothing to refer to.
    pub fn norm(&self, zero_side: Side) -> Result<f64, Error> {
        let reference = match (self.placement.scale, zero_side) {
            (Scale::Fixed, _) => 1.0,
            (Scale::Fresh, Side::Incoming) => self.layers.fresh_outgoing_norm(self.count),
            (Scale::Fresh, Side::Outgoing) => FRESH_INCOMING_NORM,
            (_, Side::Incoming) => self.mean_outgoing_norm(),
            (_, Side::Outgoing) => self.mean_incoming_norm(),
        };
        if reference == 0.0 {
            return Err(self.refuse(
                "the existing neurons' weights on the side to be filled are all zero, so there is no mean norm to scale by; \
                 use scale `fixed`",
            ));
        }
        Ok(self.placement.factor * reference)
    }

    fn scaled(&self, directions: MatRef<'_, f64>) -> Result<Matrix, Error> {
        let norm = self.norm(self.zero_side)?;
        match self.placement.scale {
            Scale::Mean | Scale::Fresh | Scale::Fixed => Ok(rows_of_norm(directions, norm)),
            Scale::Joint => self.scaled_jointly(rows_of_norm(directions, 1.0), norm),
        }
    }

    /// Unit rows times `c / ||gradient||`, so that the new weights' gradient has norm `c`.
    fn scaled_jointly(&self, unit: Matrix, c: f64) -> Result<Matrix, Error> {
        let operator = self.operator.expect("it is measured for this scale");
        let gradient = match self.zero_side {
            Side::Incoming => operator.apply(unit.transpose()),
            Side::Outgoing => operator.adjoint(unit.as_ref()),
        };
        let norm = gradient.norm_l2();
        let neurons = match self.zero_side {
            Side::Incoming => NewNeurons::unbiased(Mat::zeros(self.count, self.fan_in), unit.transpose().to_owned()),
            Side::Outgoing => NewNeurons::unbiased(unit.clone(), Mat::zeros(self.fan_out, self.count)),
        };
        // A gradient that is only rounding would be blown up to norm `c`.
        if norm <= ROUNDING * self.branch.magnitude(&neurons)? {
            return Err(self.refuse(
                "new neurons receive no gradient but rounding, so scale `joint` has nothing to divide by; use scale `mean`",
            ));
        }
        Ok(unit * faer::Scale(c / norm))
    }
}

/// The rows, each with the given norm; a row of zeros stays zero.
pub(crate) fn rows_of_norm(rows: MatRef<'_, f64>, norm: f64) -> Matrix {
    let factors = (0..rows.nrows()).map(|i| match rows.row(i).norm_l2() {
        0.0 => 0.0,
        length => norm / length,
    });
    let factors = factors.collect::<Vec<_>>();
    Mat::from_fn(rows.nrows(), rows.ncols(), |i, j| rows[(i, j)] * factors[i])
}

/// Checks that a site has neurons to start from, which no further layers take part in: new ones would have to share
/// these.
pub(crate) fn check_parents(method: &str, site: &Site) -> Result<(), Error> {
    if site.width() == 0 {
        let reason = "it starts from existing neurons, and there are none; grow new layers by another method";
        return Err(refused(method, &site.name, reason));
    }
    if !site.is_seen_whole() {
        let reason = "further layers add to its neurons, or read them unseen, so that a neuron cannot be split in two; use another method";
        return Err(refused(method, &site.name, reason));
    }
    Ok(())
}

pub(crate) fn refused(method: &str, site: &str, reason: impl Into<String>) -> Error {
    Error::Method { method: method.to_string(), site: site.to_string(), reason: reason.into() }
}

pub(crate) fn check_positive(option: &'static str, value: f64) -> Result<(), Error> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(Error::BadOption { option, value: value.to_string(), remedy: "it must be a positive number" }),
    }
}

pub(crate) fn check_not_negative(option: &'static str, value: f64) -> Result<(), Error> {
    match value >= 0.0 && value.is_finite() {
        true => Ok(()),
        false => {
            Err(Error::BadOption { option, value: value.to_string(), remedy: "it must be 0 or a positive number" })
        }
    }
}

/// An entry from the standard normal distribution.
pub(crate) fn standard_normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// An entry from the uniform distribution on `[0, 1)`.
pub(crate) fn unit_uniform(rng: &mut ChaCha8Rng) -> f64 {
    rng.random::<f64>()
}
