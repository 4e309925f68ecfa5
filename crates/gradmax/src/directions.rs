//! The leading left singular directions of a growth operator (Evci et al. 2022, eq. 11 and 20), by two solvers behind one function.

use faer::linalg::solvers::Svd;
use faer::{Mat, MatRef};
use rand_distr::{Distribution, StandardNormal};

use crate::matrix::Matrix;
use crate::operator::LinearOperator;
use crate::seed::Seed;

/// Outgoing directions in decreasing order of their singular values.
#[derive(Debug, Clone)]
pub struct Directions {
    /// Unit columns, `[fan_out, count]`; orthonormal as long as `count <= fan_out`.
    pub vectors: Matrix,
    /// The norm of the gradient that a neuron with each of these outgoing weights receives: the singular values.
    pub values: Vec<f64>,
}

/// How to find the directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Solver {
    /// The operator's matrix from a basis of its smaller side, and its dense singular value decomposition.
    Explicit,
    /// A block Krylov space of the operator and its adjoint, so that cost grows with the number of directions and never
    /// with the square of the layer (Musco and Musco 2015, with a stopping rule).
    BlockKrylov,
}

/// Up to this smaller side, or this share of it asked for, the explicit solver costs less.
const EXPLICIT_SIDE: usize = 256;
const EXPLICIT_SHARE: usize = 6;

/// The `count` leading left singular directions, by the solver that costs less.
///
/// Deterministic: the Krylov start is drawn from a fixed seed, and every direction's sign is fixed so that its largest
/// entry is positive. Directions beyond the rank are an orthonormal completion with value 0. Beyond `fan_out` there are
/// no further orthogonal ones: the set is then repeated with its sign turned (the other half of a rectifier), and after
/// that turned at random, so that no two new neurons are the same.
pub fn leading_directions(operator: &dyn LinearOperator, count: usize) -> Directions {
    let smaller = operator.fan_in().min(operator.fan_out());
    let solver = match smaller <= EXPLICIT_SIDE || count * EXPLICIT_SHARE >= smaller {
        true => Solver::Explicit,
        false => Solver::BlockKrylov,
    };
    leading_directions_by(solver, operator, count)
}

/// As [`leading_directions`], by the solver of your choice.
pub fn leading_directions_by(solver: Solver, operator: &dyn LinearOperator, count: usize) -> Directions {
    let orthogonal = count.min(operator.fan_out());
    let (vectors, values) = match solver {
        Solver::Explicit => explicit(operator, orthogonal),
        Solver::BlockKrylov => block_krylov(operator, orthogonal),
    };
    let directions = with_fixed_signs(completed(vectors, values, orthogonal));
    match count > orthogonal {
        true => repeated(directions, operator, count),
        false => directions,
    }
}

/// Singular vectors and values from the operator's matrix, formed on its smaller side.
fn explicit(operator: &dyn LinearOperator, count: usize) -> (Matrix, Vec<f64>) {
    let (fan_in, fan_out) = (operator.fan_in(), operator.fan_out());
    let matrix = match fan_out <= fan_in {
        true => operator.apply(Mat::identity(fan_out, fan_out).as_ref()),
        false => operator.adjoint(Mat::identity(fan_in, fan_in).as_ref()),
    };
    left_singular(matrix.as_ref(), count)
}

/// Neurons beyond those asked for in each Krylov block: they catch directions that the start nearly misses.
const OVERSAMPLING: usize = 8;
/// Blocks beyond the first, at most; each costs one application of the operator and one of its adjoint.
const KRYLOV_DEPTH: usize = 12;
/// Stop when another block raises the captured gradient norm by less than this share.
const KRYLOV_GAIN: f64 = 2e-4;

/// Singular vectors and values from the block Krylov space `[G V, (G G') G V, ...]`, grown until it captures the gradient norm.
fn block_krylov(operator: &dyn LinearOperator, count: usize) -> (Matrix, Vec<f64>) {
    let (fan_in, fan_out) = (operator.fan_in(), operator.fan_out());
    let width = (count + OVERSAMPLING).min(fan_in).min(fan_out);
    let mut rng = Seed::new(0).fold("krylov").rng();
    let start = Mat::from_fn(width, fan_in, |_, _| StandardNormal.sample(&mut rng));
    let mut basis = orthonormal(operator.adjoint(start.as_ref()));
    let mut images = operator.apply(basis.as_ref());
    let mut captured = 0.0;
    let mut found;
    loop {
        // The basis is orthonormal, so the best directions inside it are those of its images (Rayleigh and Ritz).
        let (inside, values) = left_singular(images.as_ref(), count);
        let gained = norm(&values);
        found = (&basis * inside, values);
        let room = fan_out - basis.ncols();
        let blocks = basis.ncols() / width;
        if gained <= captured * (1.0 + KRYLOV_GAIN) || room == 0 || blocks > KRYLOV_DEPTH {
            return found;
        }
        captured = gained;
        let last = images.subrows(images.nrows() - width.min(images.nrows()), width.min(images.nrows()));
        let next = without(operator.adjoint(last).as_ref(), &basis);
        let next = next.subcols(0, next.ncols().min(room)).to_owned();
        images = stacked_rows(&images, &operator.apply(next.as_ref()));
        basis = stacked_columns(&basis, &next);
    }
}

/// The leading left singular vectors and values of a dense matrix.
fn left_singular(matrix: MatRef<'_, f64>, count: usize) -> (Matrix, Vec<f64>) {
    let count = count.min(matrix.nrows()).min(matrix.ncols());
    let svd: Svd<f64> = matrix.thin_svd().expect("the singular value decomposition of a finite matrix converges");
    let values = (0..count).map(|i| svd.S().column_vector()[i]).collect();
    (svd.U().subcols(0, count).to_owned(), values)
}

/// An orthonormal basis of the columns' span (and more, if they are dependent).
fn orthonormal(columns: Matrix) -> Matrix {
    columns.qr().compute_thin_Q()
}

/// An orthonormal block from the columns, orthogonal to a basis; projected out twice, which is enough in floating point.
fn without(columns: MatRef<'_, f64>, basis: &Matrix) -> Matrix {
    let project = |columns: MatRef<'_, f64>| columns - basis * (basis.transpose() * columns);
    let first = orthonormal(project(columns));
    orthonormal(project(first.as_ref()))
}

/// Completes the vectors to `count` orthonormal columns, and gives the added ones the value 0.
fn completed(vectors: Matrix, mut values: Vec<f64>, count: usize) -> Directions {
    let floor = values.first().copied().unwrap_or(0.0) * f64::from(f32::EPSILON);
    let rank = values.iter().take_while(|value| **value > floor).count();
    values.resize(count, 0.0);
    values[rank..].fill(0.0);
    if rank == count {
        return Directions { vectors, values };
    }
    // The unit vectors span everything: what they add to the kept columns is the completion.
    let kept = vectors.subcols(0, rank).to_owned();
    let fan_out = kept.nrows();
    let mut rng = Seed::new(0).fold("completion").rng();
    let fresh = Mat::from_fn(fan_out, count - rank, |_, _| StandardNormal.sample(&mut rng));
    let added = match rank {
        0 => orthonormal(fresh),
        _ => without(fresh.as_ref(), &kept),
    };
    Directions { vectors: stacked_columns(&kept, &added), values }
}

/// Turns each direction so that its entry of largest magnitude is positive.
fn with_fixed_signs(mut directions: Directions) -> Directions {
    for j in 0..directions.vectors.ncols() {
        let column = directions.vectors.col(j);
        let largest = (0..column.nrows()).fold(0.0_f64, |largest, i| match column[i].abs() > largest.abs() {
            true => column[i],
            false => largest,
        });
        if largest < 0.0 {
            (0..directions.vectors.nrows()).for_each(|i| directions.vectors[(i, j)] *= -1.0);
        }
    }
    directions
}

/// More directions than the outgoing space has: the set again with its sign turned, then turned at random.
fn repeated(set: Directions, operator: &dyn LinearOperator, count: usize) -> Directions {
    let fan_out = set.vectors.nrows();
    let mut rng = Seed::new(0).fold("repeated").rng();
    let (mut vectors, mut values) = (set.vectors.clone(), set.values.clone());
    while vectors.ncols() < count {
        let block = match vectors.ncols() == fan_out {
            true => -&set.vectors,
            false => {
                let fresh = Mat::from_fn(fan_out, fan_out, |_, _| StandardNormal.sample(&mut rng));
                orthonormal(fresh)
            }
        };
        let block = block.subcols(0, fan_out.min(count - vectors.ncols())).to_owned();
        let images = operator.apply(block.as_ref());
        values.extend((0..block.ncols()).map(|i| images.row(i).norm_l2()));
        vectors = stacked_columns(&vectors, &block);
    }
    Directions { vectors, values }
}

fn stacked_columns(left: &Matrix, right: &Matrix) -> Matrix {
    let split = left.ncols();
    Mat::from_fn(left.nrows(), split + right.ncols(), |i, j| match j < split {
        true => left[(i, j)],
        false => right[(i, j - split)],
    })
}

fn stacked_rows(top: &Matrix, bottom: &Matrix) -> Matrix {
    let split = top.nrows();
    Mat::from_fn(split + bottom.nrows(), top.ncols(), |i, j| match i < split {
        true => top[(i, j)],
        false => bottom[(i - split, j)],
    })
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}
