//! Splitting steepest descent: split neurons along which the loss curves down (Liu, Wu and Wang 2019; signed: Wu et al.
//! 2020b).

use faer::{Mat, Side as Triangle};
use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request, rows_of_norm};
use super::split::{offsets, split};
use crate::error::Error;
use crate::matrix::Matrix;
use crate::operator::branch::Branch;
use crate::operator::directions::random_signs;
use crate::site::declaration::Site;
use crate::site::side::Side;
use crate::surgery::existing::Existing;
use crate::surgery::new_neurons::{Changes, NewNeurons};

/// Neurons are split in two along the eigenvector of the smallest eigenvalue of their *splitting matrix*, those first
/// that have the smallest.
///
/// The splitting matrix of a neuron is the second derivative at its incoming weights of `<delta, branch(h, w_in,
/// w_out)>`, `delta` being the gradient of the loss at the consumer's output. Two halves at `w + e v` and `w - e v`
/// change the loss by `e^2/2 v' S v` to second order, so that directions of negative curvature lower it where gradient
/// descent itself cannot.
///
/// With `signed`, a neuron can also be split into one of twice its outgoing weights at `w + e v / 2` and one of minus
/// them at `w + e v`: that changes the loss by `-e^2/4 v' S v`, so that positive curvature lowers it too.
///
/// The matrix is never formed: its extreme eigenvectors come from Lanczos iterations, all neurons side by side, on
/// differences of gradients over a finite distance. Under rectifiers, whose second derivative is zero but for the kink,
/// that distance is what makes the matrix exist.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplittingSteepestDescent {
    /// The distance `e` of the offspring from the original, as a share of the norm of its incoming weights.
    pub epsilon: f64,
    /// The distance over which curvature is measured, as a share of the same.
    pub distance: f64,
    /// Lanczos iterations at most.
    pub iterations: usize,
    /// Whether outgoing weights may be split with a negative sign.
    pub signed: bool,
}

impl Default for SplittingSteepestDescent {
    fn default() -> Self {
        Self { epsilon: 1e-2, distance: 0.1, iterations: 20, signed: false }
    }
}

impl SplittingSteepestDescent {
    /// With signed splits.
    pub fn signed() -> Self {
        Self { signed: true, ..Self::default() }
    }
}

impl GrowthMethod for SplittingSteepestDescent {
    fn name(&self) -> &str {
        if self.signed { "signed_splitting_descent" } else { "splitting_steepest_descent" }
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Branch]
    }

    fn zero_side(&self, _: Side) -> Option<Side> {
        None
    }

    fn check(&self) -> Result<(), Error> {
        super::method::check_positive("epsilon", self.epsilon)?;
        super::method::check_positive("distance", self.distance)?;
        super::method::check_positive("iterations", self.iterations as f64)
    }

    fn check_site(&self, site: &Site) -> Result<(), Error> {
        super::method::check_parents(self.name(), site)
    }

    fn draws(&self) -> bool {
        false
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let existing = request.existing();
        let extremes = extreme_curvatures(request.branch()?, &existing, self.distance, self.iterations)?;
        let mut splits = Vec::new();
        for (parent, [smallest, largest]) in extremes.into_iter().enumerate() {
            // The distance `e` is a share of the parent's norm, so curvatures count with its square.
            let scale = existing.incoming.row(parent).norm_l2().powi(2);
            splits.push(Splitting {
                parent,
                gain: -smallest.value * scale,
                direction: smallest.vector,
                negative: false,
            });
            if self.signed {
                let gain = largest.value / 2.0 * scale;
                splits.push(Splitting { parent, gain, direction: largest.vector, negative: true });
            }
        }
        splits.sort_by(|a, b| b.gain.total_cmp(&a.gain));
        // Each neuron once, the better way, before any is split again.
        let mut split = vec![false; request.width];
        splits.retain(|splitting| !std::mem::replace(&mut split[splitting.parent], true));
        let chosen = (0..request.count).map(|number| &splits[number % splits.len()]).collect::<Vec<_>>();
        Ok(self.offspring(&existing, &chosen))
    }
}

/// A way to split a neuron, and by how much it lowers the loss, in units of `e^2/2`.
struct Splitting {
    parent: usize,
    gain: f64,
    direction: Vec<f64>,
    negative: bool,
}

impl SplittingSteepestDescent {
    fn offspring(&self, existing: &Existing, chosen: &[&Splitting]) -> NewNeurons {
        let fan_in = existing.incoming.ncols();
        let parents = chosen.iter().map(|splitting| splitting.parent).collect::<Vec<_>>();
        // A neuron that is split again is split at another distance, so that no two offspring are the same.
        let again =
            |number: usize| 1.0 + parents[..number].iter().filter(|other| **other == parents[number]).count() as f64;
        let directions = Mat::from_fn(chosen.len(), fan_in, |i, j| chosen[i].direction[j]);
        let mut moved = offsets(existing, &parents, &directions, self.epsilon);
        for number in 0..chosen.len() {
            let distance = again(number);
            moved.row_mut(number).iter_mut().for_each(|entry| *entry *= distance);
        }
        let mut neurons = split(existing, &parents, &moved);
        let Some(Changes { incoming, outgoing, .. }) = &mut neurons.changes else {
            return neurons;
        };
        let once = |parent: usize| parents.iter().filter(|other| **other == parent).count() == 1;
        for (number, splitting) in
            chosen.iter().enumerate().filter(|(_, splitting)| splitting.negative && once(splitting.parent))
        {
            let parent = splitting.parent;
            for i in 0..fan_in {
                incoming[(parent, i)] = moved[(number, i)] / 2.0;
            }
            for i in 0..existing.outgoing.nrows() {
                outgoing[(i, parent)] = existing.outgoing[(i, parent)];
                neurons.outgoing[(i, number)] = -existing.outgoing[(i, parent)];
            }
        }
        neurons
    }
}

/// An eigenvalue of a splitting matrix, and its eigenvector.
struct Curvature {
    value: f64,
    vector: Vec<f64>,
}

/// The smallest and the largest eigenvalue of every neuron's splitting matrix, by Lanczos iterations with full
/// orthogonalisation.
fn extreme_curvatures(
    branch: &Branch<'_>,
    existing: &Existing,
    distance: f64,
    iterations: usize,
) -> Result<Vec<[Curvature; 2]>, Error> {
    let (width, fan_in) = existing.incoming.shape();
    let depth = iterations.min(fan_in);
    // One step a matrix of all neurons' vectors, `[width, fan_in]`.
    let mut vectors = vec![rows_of_norm(random_signs(width, fan_in).as_ref(), 1.0)];
    let mut images: Vec<Matrix> = Vec::new();
    for step in 0..depth {
        let image = curvature_along(branch, existing, distance, &vectors[step])?;
        images.push(image.clone());
        if step + 1 == depth {
            break;
        }
        let mut next = image;
        // Twice: once leaves rounding along the earlier vectors, which Lanczos iterations blow up to spurious copies of
        // eigenvalues.
        for _ in 0..2 {
            for neuron in 0..width {
                for earlier in &vectors {
                    let share: f64 = next.row(neuron) * earlier.row(neuron).transpose();
                    (0..fan_in).for_each(|i| next[(neuron, i)] -= share * earlier[(neuron, i)]);
                }
            }
        }
        vectors.push(rows_of_norm(next.as_ref(), 1.0));
    }
    Ok((0..width).map(|neuron| extremes(neuron, &vectors[..depth], &images)).collect())
}

/// The smallest and the largest eigenvalue of one neuron's splitting matrix within the span of its vectors, from these
/// and their images.
fn extremes(neuron: usize, vectors: &[Matrix], images: &[Matrix]) -> [Curvature; 2] {
    let depth = vectors.len();
    let basis = Mat::from_fn(vectors[0].ncols(), depth, |i, j| vectors[j][(neuron, i)]);
    let inside = Mat::from_fn(depth, depth, |i, j| {
        let product = |a: usize, b: usize| -> f64 { vectors[a].row(neuron) * images[b].row(neuron).transpose() };
        // Symmetric but for the error of the finite differences.
        (product(i, j) + product(j, i)) / 2.0
    });
    let eigen = inside.self_adjoint_eigen(Triangle::Lower).expect("the eigenvalues of a finite matrix converge");
    [0, depth - 1].map(|at| {
        let vector: Matrix = &basis * eigen.U().subcols(at, 1);
        Curvature { value: eigen.S().column_vector()[at], vector: vector.col(0).iter().copied().collect() }
    })
}

/// Every neuron's splitting matrix times a vector, `[width, fan_in]`, from gradients at both sides of its weights.
fn curvature_along(branch: &Branch<'_>, existing: &Existing, distance: f64, vectors: &Matrix) -> Result<Matrix, Error> {
    let (width, fan_in) = existing.incoming.shape();
    let reaches = (0..width).map(|i| distance * existing.incoming.row(i).norm_l2().max(f64::MIN_POSITIVE));
    let reaches = reaches.collect::<Vec<_>>();
    let gradients = |side: f64| {
        let incoming =
            Mat::from_fn(width, fan_in, |i, j| existing.incoming[(i, j)] + side * reaches[i] * vectors[(i, j)]);
        let parents = (0..width).map(Some).collect();
        let moved =
            NewNeurons { parents, ..NewNeurons::new(incoming, existing.outgoing.clone(), existing.bias.clone()) };
        Ok::<_, Error>(branch.gradients(&moved)?.incoming)
    };
    // Central differences: their error is of the second order in the distance.
    let (ahead, behind) = (gradients(1.0)?, gradients(-1.0)?);
    Ok(Mat::from_fn(width, fan_in, |i, j| (ahead[(i, j)] - behind[(i, j)]) / (2.0 * reaches[i])))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use rand_distr::{Distribution, StandardNormal};

    use super::*;
    use crate::operator::seen::{Seen, Source};
    use crate::operator::work::Work;
    use crate::Seed;
    use crate::networks::{Architecture, MlpConfig};
    use crate::site::{Activation, Growable, Recorder};

    #[test]
    fn the_splitting_matrix_is_the_second_derivative_of_the_form() {
        let mut rng = Seed::new(4).rng();
        let mut normal = |count: usize| (0..count).map(|_| StandardNormal.sample(&mut rng)).collect::<Vec<f64>>();
        let (examples, inputs, width, outputs) = (30, 4, 3, 2);
        let (h, target) = (normal(examples * inputs), normal(examples * outputs));
        let device = Device::flex();
        let tensor = |entries: &[f64], shape: [usize; 2]| {
            let entries = entries.iter().map(|entry| *entry as f32).collect::<Vec<_>>();
            Tensor::<2>::from_data(TensorData::new(entries, shape), &device)
        };
        let config = MlpConfig { bias: false, ..MlpConfig::new(inputs, &[width], outputs, Activation::Tanh) };
        let network = config.init(Seed::new(1), &device.clone().autodiff()).unwrap();
        let mut recorder = Recorder::new();
        let output = network.forward_probed(tensor(&h, [examples, inputs]), &mut recorder);
        let error = output - tensor(&target, [examples, outputs]).autodiff();
        let delta = crate::matrix::values(&error.clone().inner().into_data());
        let mut gradients = (error.clone() * error).sum().div_scalar(2.0).backward();
        let evidence = recorder.into_evidence(&mut gradients);

        let site = &network.sites()[0];
        let sums = crate::sums::alone();
        let work = Work::default();
        let seen = Seen { source: Source::Kept(&evidence), sums: &sums, work: &work };
        let (branch, existing) = (Branch::new(site, 0, seen).unwrap(), Existing::of(site, 0));
        // The form of one neuron in double precision, and its second differences.
        let form = |neuron: usize, w: &[f64]| {
            (0..examples)
                .map(|example| {
                    let response = (0..inputs).map(|i| h[example * inputs + i] * w[i]).sum::<f64>().tanh();
                    let along = |o: usize| delta[example * outputs + o] * existing.outgoing[(o, neuron)];
                    response * (0..outputs).map(along).sum::<f64>()
                })
                .sum::<f64>()
        };
        let step = 1e-3;
        let exact = |neuron: usize, i: usize, j: usize| {
            let at = |a: f64, b: f64| {
                let mut w = existing.incoming.row(neuron).iter().copied().collect::<Vec<_>>();
                w[i] += a * step;
                w[j] += b * step;
                form(neuron, &w)
            };
            (at(1.0, 1.0) - at(1.0, -1.0) - at(-1.0, 1.0) + at(-1.0, -1.0)) / (4.0 * step * step)
        };
        let matrices = (0..width).map(|neuron| Matrix::from_fn(inputs, inputs, |i, j| exact(neuron, i, j)));
        let matrices = matrices.collect::<Vec<_>>();
        for i in 0..inputs {
            let along = Mat::from_fn(width, inputs, |_, j| if i == j { 1.0 } else { 0.0 });
            let product = curvature_along(&branch, &existing, 1e-2, &along).unwrap();
            for (neuron, matrix) in matrices.iter().enumerate() {
                for j in 0..inputs {
                    let error = (product[(neuron, j)] - matrix[(i, j)]).abs();
                    assert!(error <= 5e-3 * matrix.norm_l2(), "{neuron} {i} {j}: {error}");
                }
            }
        }
        // The extreme eigenvalues are those of the exact matrices.
        for (extremes, matrix) in extreme_curvatures(&branch, &existing, 1e-2, 20).unwrap().iter().zip(&matrices) {
            let exact = matrix.self_adjoint_eigenvalues(Triangle::Lower).unwrap();
            for (found, exact) in extremes.iter().zip([exact[0], exact[inputs - 1]]) {
                assert!((found.value - exact).abs() <= 1e-2 * matrix.norm_l2());
            }
        }
    }
}
