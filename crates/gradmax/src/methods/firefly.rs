//! Firefly: split neurons and new ones compete (Wu, Liu, Stone and Liu 2020).

use faer::Mat;
use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request, rows_of_norm, standard_normal};
use super::split::{offsets, split};
use crate::error::Error;
use crate::matrix::Matrix;
use crate::methods::adam::Adam;
use crate::site::declaration::Site;
use crate::site::side::Side;
use crate::surgery::existing::Existing;
use crate::surgery::new_neurons::{Changes, NewNeurons};

/// Every existing neuron, split in two, and some new random neurons are candidates. All of them are trained together
/// for a few steps on the loss of the growth batch, kept close to what leaves the function as it is; the ones whose
/// gradients foretell the largest decrease of the loss are added.
///
/// The score of a new neuron is its first-order share of the loss, `-<gradient, outgoing weights>`; that of a split,
/// whose first order is zero, its second-order share, `-<gradient, offset> / 2`. The function changes a little, and the
/// receipt states by how much. A pass through the whole network each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Firefly {
    /// New random candidates for each neuron that is added.
    pub candidates: usize,
    /// Training steps of the candidates.
    pub steps: usize,
    /// The learning rate of their Adam, as a share of the norm of what it moves.
    pub learning_rate: f64,
    /// How far candidates may be from what leaves the function as it is: the norm of outgoing weights and of offsets,
    /// as a share of those of existing neurons.
    pub epsilon: f64,
}

impl Default for Firefly {
    fn default() -> Self {
        Self { candidates: 2, steps: 10, learning_rate: 0.1, epsilon: 1e-2 }
    }
}

impl GrowthMethod for Firefly {
    fn name(&self) -> &str {
        "firefly"
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Loss]
    }

    fn zero_side(&self, _: Side) -> Option<Side> {
        None
    }

    fn check(&self) -> Result<(), Error> {
        super::method::check_positive("learning_rate", self.learning_rate)?;
        super::method::check_positive("epsilon", self.epsilon)
    }

    fn check_site(&self, site: &Site) -> Result<(), Error> {
        super::method::check_parents(self.name(), site)
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let existing = request.existing();
        let loss = request.loss()?;
        let mut candidates = Candidates::drawn(self, request, existing)?;
        let shapes = [&candidates.offsets, &candidates.incoming, &candidates.outgoing].map(|matrix| matrix.shape());
        let mut optimizers = shapes.map(|shape| Adam::new(self.learning_rate, shape));
        for _ in 0..self.steps {
            let gradients = candidates.gradients(loss.at(&candidates.all())?);
            candidates.step(&gradients, &mut optimizers);
        }
        let scores = candidates.scores(&candidates.gradients(loss.at(&candidates.all())?));
        let mut order = (0..scores.len()).collect::<Vec<_>>();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        Ok(candidates.chosen(&order[..request.count]))
    }
}

/// Candidates: offsets of splits, a neuron a row, and the weights of new neurons, a neuron a row on both sides.
struct Candidates {
    existing: Existing,
    /// `[width, fan_in]`
    offsets: Matrix,
    /// `[new, fan_in]`
    incoming: Matrix,
    /// `[new, fan_out]`
    outgoing: Matrix,
    epsilon: f64,
    /// The norms of incoming and of outgoing weights of new neurons.
    norms: [f64; 2],
}

/// The gradients of the loss at the same, in units of their norms.
struct Gradients {
    offsets: Matrix,
    incoming: Matrix,
    outgoing: Matrix,
}

impl Candidates {
    fn drawn(firefly: &Firefly, request: &Request<'_>, existing: Existing) -> Result<Self, Error> {
        let mut rng = request.rng();
        let mut drawn = |rows: usize, columns: usize| Mat::from_fn(rows, columns, |_, _| standard_normal(&mut rng));
        // Few existing neurons give few splits; there must be as many candidates as neurons to add.
        let new = (firefly.candidates * request.count).max(request.count.saturating_sub(existing.count()));
        let norms = [request.norm(Side::Outgoing)?, firefly.epsilon * request.norm(Side::Incoming)?];
        let mut candidates = Self {
            offsets: drawn(existing.count(), request.fan_in),
            incoming: drawn(new, request.fan_in),
            outgoing: drawn(new, request.fan_out),
            epsilon: firefly.epsilon,
            norms,
            existing,
        };
        candidates.project();
        Ok(candidates)
    }

    fn project(&mut self) {
        let parents = (0..self.existing.count()).collect::<Vec<_>>();
        self.offsets = offsets(&self.existing, &parents, &self.offsets, self.epsilon);
        self.incoming = rows_of_norm(self.incoming.as_ref(), self.norms[0]);
        self.outgoing = rows_of_norm(self.outgoing.as_ref(), self.norms[1]);
    }

    /// The candidates with these numbers, splits first, as neurons to add.
    fn chosen(&self, numbers: &[usize]) -> NewNeurons {
        let width = self.existing.count();
        let (splits, new) = numbers.iter().partition::<Vec<usize>, _>(|number| **number < width);
        let new = new.into_iter().map(|number| number - width).collect::<Vec<_>>();
        let moved = Mat::from_fn(splits.len(), self.offsets.ncols(), |i, j| self.offsets[(splits[i], j)]);
        let split = match splits.is_empty() {
            true => NewNeurons {
                changes: Some(Changes::none(width, self.incoming.ncols(), self.outgoing.ncols())),
                ..NewNeurons::unbiased(Mat::zeros(0, self.incoming.ncols()), Mat::zeros(self.outgoing.ncols(), 0))
            },
            false => split(&self.existing, &splits, &moved),
        };
        let count = numbers.len();
        let incoming = Mat::from_fn(count, self.incoming.ncols(), |i, j| match i < splits.len() {
            true => split.incoming[(i, j)],
            false => self.incoming[(new[i - splits.len()], j)],
        });
        let outgoing = Mat::from_fn(self.outgoing.ncols(), count, |i, j| match j < splits.len() {
            true => split.outgoing[(i, j)],
            false => self.outgoing[(new[j - splits.len()], i)],
        });
        let mut bias = split.bias;
        bias.resize(count, 0.0);
        let mut parents = split.parents;
        parents.resize(count, None);
        NewNeurons { parents, changes: split.changes, ..NewNeurons::new(incoming, outgoing, bias) }
    }

    fn all(&self) -> NewNeurons {
        self.chosen(&(0..self.existing.count() + self.incoming.nrows()).collect::<Vec<_>>())
    }

    fn gradients(&self, at: crate::methods::growth_loss::LossAt) -> Gradients {
        let (width, new) = (self.existing.count(), self.incoming.nrows());
        // A copy goes with its offset, and its original against it.
        let offsets = at.incoming.subrows(0, width) - &at.existing.incoming;
        let incoming = at.incoming.subrows(width, new).to_owned();
        let outgoing = at.outgoing.subcols(width, new).transpose().to_owned();
        Gradients { offsets, incoming, outgoing }
    }

    fn step(&mut self, gradients: &Gradients, optimizers: &mut [Adam; 3]) {
        let [of_offsets, of_incoming, of_outgoing] = optimizers;
        let stepped = |optimizer: &mut Adam, weights: &Matrix, gradient: &Matrix| {
            // Adam's steps have the size of its rate whatever the gradient: each row is moved in units of its own norm.
            let size = |row: usize| weights.row(row).norm_l2() / (weights.ncols() as f64).sqrt();
            let sizes = (0..weights.nrows()).map(|row| size(row).max(f64::MIN_POSITIVE)).collect::<Vec<_>>();
            let unit = Mat::from_fn(weights.nrows(), weights.ncols(), |i, j| weights[(i, j)] / sizes[i]);
            // The gradient is not rescaled with the weights: Adam takes no notice of its length.
            let moved = optimizer.stepped(&unit, gradient);
            Mat::from_fn(weights.nrows(), weights.ncols(), |i, j| moved[(i, j)] * sizes[i])
        };
        self.offsets = stepped(of_offsets, &self.offsets, &gradients.offsets);
        self.incoming = stepped(of_incoming, &self.incoming, &gradients.incoming);
        self.outgoing = stepped(of_outgoing, &self.outgoing, &gradients.outgoing);
        self.project();
    }

    /// The decrease of the loss that each candidate promises.
    fn scores(&self, gradients: &Gradients) -> Vec<f64> {
        let along =
            |gradient: &Matrix, weights: &Matrix, row: usize| -(gradient.row(row) * weights.row(row).transpose());
        let splits = (0..self.existing.count()).map(|row| along(&gradients.offsets, &self.offsets, row) / 2.0);
        let new = (0..self.incoming.nrows()).map(|row| along(&gradients.outgoing, &self.outgoing, row));
        splits.chain(new).collect()
    }
}
