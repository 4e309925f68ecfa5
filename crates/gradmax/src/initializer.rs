//! How new neurons get their weights: the contract of initializers, and what they may ask for.

mod gradmax;
mod gradmax_rectified;
mod random;

use faer::{Mat, MatRef};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

pub use self::gradmax::GradMax;
pub use self::gradmax_rectified::GradMaxRectified;
pub use self::random::{Random, RandomPositive};
use crate::branch::Branch;
use crate::error::Error;
use crate::matrix::Matrix;
use crate::operator::{GrowthOperator, LinearOperator};
use crate::placement::{Placement, Scale, ZeroSide};
use crate::seed::Seed;
use crate::site::Site;

/// Chooses the weights of new neurons at one site.
///
/// An initializer sees matrices and operators; never a network, an optimizer or a data set. A new growth method is one
/// type that implements this trait.
pub trait Initializer: Send + Sync {
    /// The name used in configurations, receipts and messages.
    fn name(&self) -> &str;

    /// What has to be measured before [`neurons`](Initializer::neurons) is called; nothing else is.
    fn needs(&self) -> Needs;

    /// The weights of `request.count` new neurons.
    ///
    /// # Errors
    /// [`Error::Initializer`], if the site or the placement is one that the method has no answer for.
    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error>;
}

/// The evidence that an initializer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Needs {
    /// None: it draws weights without looking.
    Nothing,
    /// The growth operator of the site, on the growth batch.
    Operator,
}

/// The weights of new neurons.
#[derive(Debug, Clone)]
pub struct NewNeurons {
    /// Weights into the new neurons, `[count, fan_in]`.
    pub incoming: Matrix,
    /// Weights out of them, `[fan_out, count]`.
    pub outgoing: Matrix,
    /// Their biases; ignored where the producer has none.
    pub bias: Vec<f64>,
    /// Singular values of their directions, for methods that find them; else empty.
    pub singular_values: Vec<f64>,
    /// The gradient that their incoming weights will receive, `[count, fan_in]`, if the method came by it; else it is computed.
    /// Only looked at where the incoming weights and biases are zero.
    pub incoming_gradient: Option<Matrix>,
}

impl NewNeurons {
    /// Number of neurons.
    pub fn count(&self) -> usize {
        self.incoming.nrows()
    }

    /// The gradient norm of the new incoming weights that singular values and scale predict, where there are any.
    pub fn predicted_gradient_norm(&self) -> Option<f64> {
        let squared = |(j, value): (usize, &f64)| (self.outgoing.col(j).norm_l2() * value).powi(2);
        match self.singular_values.is_empty() {
            true => None,
            false => Some(self.singular_values.iter().enumerate().map(squared).sum::<f64>().sqrt()),
        }
    }

    /// Whether incoming weights and biases are zero.
    pub(crate) fn are_silent(&self) -> bool {
        self.incoming.norm_max() == 0.0 && self.bias.iter().all(|bias| *bias == 0.0)
    }

    /// Whether adding these neurons leaves the network's output exactly as it is, for activations with `f(0) = 0`.
    pub fn preserves_function(&self) -> bool {
        self.outgoing.norm_max() == 0.0 || self.are_silent()
    }
}

/// What an initializer is asked, and what it may look at.
pub struct Request<'a> {
    /// The site's name.
    pub site: &'a str,
    /// Number of new neurons.
    pub count: usize,
    /// Incoming weights of each.
    pub fan_in: usize,
    /// Outgoing weights of each.
    pub fan_out: usize,
    /// Which side is zero (never [`ZeroSide::Automatic`]), and how large the other one is.
    pub placement: Placement,
    /// The seed of this growth of this site.
    pub seed: Seed,
    pub(crate) initializer: &'a str,
    pub(crate) layers: &'a Site,
    pub(crate) branch: &'a Branch,
    pub(crate) operator: Option<&'a GrowthOperator>,
}

impl Request<'_> {
    /// The growth operator of the site.
    ///
    /// # Errors
    /// [`Error::Initializer`], if the initializer did not say that it [needs](Initializer::needs) it.
    pub fn operator(&self) -> Result<&GrowthOperator, Error> {
        self.operator
            .ok_or_else(|| self.refuse("it asked for the growth operator; `needs()` must return `Needs::Operator`"))
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

    /// An error of this initializer at this site, with what is wrong and what to do.
    pub fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Initializer {
            initializer: self.initializer.to_string(),
            site: self.site.to_string(),
            reason: reason.into(),
        }
    }

    /// Weights drawn entry by entry for the side that is not zero, a neuron a row: `[count, fan]`.
    pub fn draw(&self, mut entry: impl FnMut(&mut ChaCha8Rng) -> f64) -> Matrix {
        let fan = match self.placement.zero_side {
            ZeroSide::Incoming | ZeroSide::Automatic => self.fan_out,
            ZeroSide::Outgoing => self.fan_in,
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
    /// [`Error::Initializer`], if the scale has nothing to refer to.
    pub fn place(&self, directions: MatRef<'_, f64>) -> Result<NewNeurons, Error> {
        let weights = self.scaled(directions)?;
        let mut rng = self.seed.fold("epsilon").rng();
        let mut small = |fan: usize| {
            if self.placement.epsilon == 0.0 {
                return Mat::zeros(self.count, fan);
            }
            let drawn = Mat::from_fn(self.count, fan, |_, _| StandardNormal.sample(&mut rng));
            rows_of_norm(drawn.as_ref(), self.placement.epsilon)
        };
        let (incoming, outgoing) = match self.placement.zero_side {
            ZeroSide::Incoming | ZeroSide::Automatic => (small(self.fan_in), weights.transpose().to_owned()),
            ZeroSide::Outgoing => (weights, small(self.fan_out).transpose().to_owned()),
        };
        Ok(NewNeurons {
            incoming,
            outgoing,
            bias: vec![0.0; self.count],
            singular_values: Vec::new(),
            incoming_gradient: None,
        })
    }

    fn scaled(&self, directions: MatRef<'_, f64>) -> Result<Matrix, Error> {
        let reference = match (self.placement.scale, self.placement.zero_side) {
            (Scale::Fixed, _) => 1.0,
            (_, ZeroSide::Incoming | ZeroSide::Automatic) => self.mean_outgoing_norm(),
            (_, ZeroSide::Outgoing) => self.mean_incoming_norm(),
        };
        if reference == 0.0 {
            return Err(self.refuse(
                "the existing neurons' weights on the side to be filled are all zero, so there is no mean norm to scale by; \
                 use scale `fixed`",
            ));
        }
        let norm = self.placement.factor * reference;
        match self.placement.scale {
            Scale::Mean | Scale::Fixed => Ok(rows_of_norm(directions, norm)),
            Scale::Joint => self.scaled_jointly(rows_of_norm(directions, 1.0), norm),
        }
    }

    /// Unit rows times `c / ||gradient||`, so that the new weights' gradient has norm `c`.
    fn scaled_jointly(&self, unit: Matrix, c: f64) -> Result<Matrix, Error> {
        let operator = self.operator()?;
        let gradient = match self.placement.zero_side {
            ZeroSide::Incoming | ZeroSide::Automatic => operator.apply(unit.transpose()),
            ZeroSide::Outgoing => operator.adjoint(unit.as_ref()),
        };
        let norm = gradient.norm_l2();
        if norm == 0.0 {
            return Err(
                self.refuse("new neurons receive no gradient at all, so scale `joint` has nothing to divide by")
            );
        }
        Ok(unit * faer::Scale(c / norm))
    }
}

/// The rows, each with the given norm; a row of zeros stays zero.
fn rows_of_norm(rows: MatRef<'_, f64>, norm: f64) -> Matrix {
    let factors = (0..rows.nrows()).map(|i| match rows.row(i).norm_l2() {
        0.0 => 0.0,
        length => norm / length,
    });
    let factors = factors.collect::<Vec<_>>();
    Mat::from_fn(rows.nrows(), rows.ncols(), |i, j| rows[(i, j)] * factors[i])
}

/// An entry from the standard normal distribution.
pub(crate) fn standard_normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// An entry from the uniform distribution on `[0, 1)`.
pub(crate) fn unit_uniform(rng: &mut ChaCha8Rng) -> f64 {
    rng.random::<f64>()
}
