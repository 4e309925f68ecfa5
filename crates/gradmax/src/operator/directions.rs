//! The leading left singular directions of a growth operator (Evci et al. 2022, eq. 11 and 20), by two solvers behind
//! one function.

use faer::linalg::solvers::SelfAdjointEigen;
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::{Mat, MatRef, Par, Side};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::error::Error;
use crate::matrix::Matrix;
use crate::operator::linear_operator::LinearOperator;
use crate::seed::Seed;

/// Outgoing directions in decreasing order of their singular values.
#[derive(Debug, Clone)]
pub struct Directions {
    /// Unit columns, `[fan_out, count]`; orthonormal as long as `count <= fan_out`.
    pub vectors: Matrix,
    /// The norm of the gradient that a neuron with each of these outgoing weights receives: the singular values.
    pub values: Vec<f64>,
    /// The gradients themselves, a neuron a row, `[count, fan_in]`: what the operator makes of the vectors.
    pub images: Matrix,
}

impl Directions {
    /// These but the first so many.
    pub(crate) fn without_first(mut self, skip: usize) -> Self {
        if skip > 0 {
            let kept = self.vectors.ncols() - skip;
            self.vectors = self.vectors.subcols(skip, kept).to_owned();
            self.images = self.images.subrows(skip, kept).to_owned();
            self.values.drain(..skip);
        }
        self
    }
}

/// How well two sets of directions agree, one by one: `|tr(U'V)| / k` (Evci et al. 2022, fig. 6). 1 if they are the
/// same; 0 if each is orthogonal to its counterpart.
///
/// # Shapes
/// `[fan_out, k]` both.
///
/// # Panics
/// If the shapes differ.
pub fn alignment(u: &Matrix, v: &Matrix) -> f64 {
    assert_eq!(u.shape(), v.shape(), "directions to be compared have one shape");
    let products = (0..u.ncols()).map(|j| u.col(j).transpose() * v.col(j));
    products.sum::<f64>().abs() / u.ncols() as f64
}

/// How to find the directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Solver {
    /// The operator's matrix from a basis of its smaller side, and its dense singular vectors.
    Explicit,
    /// A block Krylov space of the operator and its adjoint, so that cost grows with the number of directions and never
    /// with the square of the layer (Musco and Musco 2015). It stops when less than 1 % of the gradient norm is left
    /// uncaptured, as far as the falling gains of the blocks foretell it.
    BlockKrylov,
}

/// Up to this smaller side, or from this share of it asked for, the explicit solver costs less.
const EXPLICIT_SIDE: usize = 64;
const EXPLICIT_SHARE: usize = 4;

/// The `count` leading left singular directions, by the solver that costs less.
///
/// Deterministic: the Krylov start is drawn from a fixed seed, and every direction's sign is fixed so that its largest
/// entry is positive. Directions beyond the rank are an orthonormal completion, with values that are rounding. The
/// block Krylov solver captures at least 99 % of the attainable gradient norm; that is no bound, but what tests draw
/// for, see [`Solver::BlockKrylov`]. Beyond `fan_out` there are no further orthogonal ones: the set is then repeated
/// with its sign turned (the other half of a rectifier), and after that turned at random, so that no two new neurons
/// are the same.
///
/// # Errors
/// [`Error::OperatorNotFinite`], if the gradients on the growth batch overflowed.
pub fn leading_directions(operator: &dyn LinearOperator, count: usize) -> Result<Directions, Error> {
    let smaller = operator.fan_in().min(operator.fan_out());
    let solver = match smaller <= EXPLICIT_SIDE || (count + OVERSAMPLING) * EXPLICIT_SHARE >= smaller {
        true => Solver::Explicit,
        false => Solver::BlockKrylov,
    };
    leading_directions_by(solver, operator, count)
}

/// As [`leading_directions`], by the solver of your choice.
///
/// # Errors
/// As [`leading_directions`].
pub fn leading_directions_by(solver: Solver, operator: &dyn LinearOperator, count: usize) -> Result<Directions, Error> {
    let orthogonal = count.min(operator.fan_out());
    let found = match solver {
        Solver::Explicit => explicit(operator, orthogonal)?,
        Solver::BlockKrylov => block_krylov(operator, orthogonal)?,
    };
    let directions = with_fixed_signs(completed(found, operator, orthogonal)?);
    match count > orthogonal {
        true => repeated(directions, operator, count),
        false => Ok(directions),
    }
}

/// Directions from the operator's matrix, formed on its smaller side.
fn explicit(operator: &dyn LinearOperator, count: usize) -> Result<Directions, Error> {
    let (fan_in, fan_out) = (operator.fan_in(), operator.fan_out());
    // From the smaller side's identity: each of its columns is one neuron in a pass of the branch.
    let matrix = match fan_out <= fan_in {
        true => operator.apply(Mat::identity(fan_out, fan_out).as_ref()),
        false => operator.adjoint(Mat::identity(fan_in, fan_in).as_ref()),
    };
    let (vectors, values) = left_singular(matrix.as_ref(), count)?;
    let images = vectors.transpose() * matrix;
    Ok(Directions { vectors, values, images })
}

/// Relative size below which something is rounding, where operators compute in single precision.
const NOISE: f64 = 1e-6;
/// Neurons beyond those asked for in each Krylov block: they catch directions that the start nearly misses.
const OVERSAMPLING: usize = 2;
/// Blocks at most; each costs one application of the operator and one of its adjoint. Singular values of white noise
/// lie so close together that Krylov spaces of this depth are needed to tell the leading ones.
const KRYLOV_DEPTH: usize = 16;
/// The share of the gradient norm that may be left uncaptured, as [`is_enough`] foretells it.
const KRYLOV_REMAINDER: f64 = 8e-3;

/// Directions from the block Krylov space `[S, (G G') S, ...]`, grown until it captures the gradient norm, where `S = G
/// V` for random incoming weights `V`.
///
/// The start has to be random. One that is known to be good, like the gradients of the existing neurons, can miss
/// leading directions altogether, since training has just taken the gradient along these away from the existing
/// neurons.
fn block_krylov(operator: &dyn LinearOperator, count: usize) -> Result<Directions, Error> {
    let (fan_in, fan_out) = (operator.fan_in(), operator.fan_out());
    let width = (count + OVERSAMPLING).min(fan_in).min(fan_out);
    let mut random = RandomImages::of(operator);
    let (mut basis, mut images) = (Mat::zeros(fan_out, 0), Mat::zeros(0, fan_in));
    let mut next = random.completing(Mat::zeros(fan_out, 0), &basis, width)?;
    let (mut captured, mut last_gain) = (0.0, 1.0);
    for block in 0..=KRYLOV_DEPTH {
        if next.ncols() == 0 {
            // The space holds all that the operator gives.
            break;
        }
        let newest = operator.apply(next.as_ref());
        images = stacked_rows(&images, &newest);
        basis = stacked_columns(&basis, &next);
        // Of all directions in a block: those asked for can seem to have converged while the next ones are on their way
        // past them.
        let found = norm(&singular_values(images.as_ref(), width)?);
        let gain = if found > 0.0 { (found - captured) / found } else { 0.0 };
        if block == KRYLOV_DEPTH || (block > 0 && is_enough(block, gain, last_gain)) {
            break;
        }
        let further = without(operator.adjoint(newest.as_ref()).as_ref(), &basis)?;
        next = random.completing(further, &basis, width)?;
        (captured, last_gain) = (found, gain);
    }
    if basis.ncols() == 0 {
        return Ok(Directions { vectors: basis, values: Vec::new(), images });
    }
    // The basis is orthonormal, so the best directions inside it are those of its images (Rayleigh and Ritz).
    let (inside, values) = left_singular(images.as_ref(), count)?;
    let images = inside.transpose() * images;
    Ok(Directions { vectors: basis * inside, values, images })
}

/// Outgoing weights that an operator's adjoint makes of random incoming ones.
struct RandomImages<'a> {
    operator: &'a dyn LinearOperator,
    rng: ChaCha8Rng,
    /// Whether everything that the operator's adjoint gives lies in the span of what was asked about.
    exhausted: bool,
}

impl<'a> RandomImages<'a> {
    fn of(operator: &'a dyn LinearOperator) -> Self {
        Self { operator, rng: Seed::new(0).fold("krylov").rng(), exhausted: false }
    }

    /// The orthonormal block, completed to so many columns by random images orthogonal to it and to the basis, as far
    /// as there are any. A block loses columns where its directions depend on each other, or where the space that it
    /// started from is left unchanged by the operator; what lies outside would then never be looked at.
    fn completing(&mut self, block: Matrix, basis: &Matrix, width: usize) -> Result<Matrix, Error> {
        let missing = width.saturating_sub(block.ncols());
        if missing == 0 || self.exhausted {
            return Ok(block);
        }
        let known = stacked_columns(basis, &block);
        let drawn = signs(&mut self.rng, missing, self.operator.fan_in());
        let added = without(self.operator.adjoint(drawn.as_ref()).as_ref(), &known)?;
        self.exhausted = added.ncols() < missing;
        Ok(stacked_columns(&block, &added))
    }
}

/// Random signs, always the same for a shape: they start iterations.
pub(crate) fn random_signs(rows: usize, columns: usize) -> Matrix {
    signs(&mut Seed::new(0).fold("krylov").rng(), rows, columns)
}

fn signs(rng: &mut ChaCha8Rng, rows: usize, columns: usize) -> Matrix {
    Mat::from_fn(rows, columns, |_, _| if rng.random::<bool>() { 1.0 } else { -1.0 })
}

/// Whether further blocks would raise the captured gradient norm by too little.
///
/// Gains fall geometrically where singular values are apart, and like the cube of the block's number where they lie
/// close together, as those of white noise do; what is left is then half of the last gain times the number of blocks.
/// Neither is a bound. Over 2 850 random operators of 66 to 576 rows and columns (white noise, power laws,
/// exponentials, a few directions above noise) and 1 to 16 directions, the least that was captured is .994 of the
/// optimum.
fn is_enough(block: usize, gain: f64, last_gain: f64) -> bool {
    let ratio = gain / last_gain;
    let geometric = if ratio < 1.0 { gain * ratio / (1.0 - ratio) } else { 1.0 };
    gain <= 0.0 || geometric.max(gain * block as f64 / 2.0) < KRYLOV_REMAINDER
}

/// The leading singular values of a dense matrix, from the eigenvalues of its smaller Gram matrix.
fn singular_values(matrix: MatRef<'_, f64>, count: usize) -> Result<Vec<f64>, Error> {
    let gram = smaller_gram(matrix);
    let squares =
        finite(&gram)?.self_adjoint_eigenvalues(Side::Lower).expect("the eigenvalues of a finite matrix converge");
    // In increasing order, and the smallest perhaps below zero by rounding.
    Ok(squares.iter().rev().take(count).map(|square| square.max(0.0).sqrt()).collect())
}

fn smaller_gram(matrix: MatRef<'_, f64>) -> Matrix {
    match matrix.nrows() <= matrix.ncols() {
        true => matrix * matrix.transpose(),
        false => matrix.transpose() * matrix,
    }
}

fn finite(matrix: &Matrix) -> Result<&Matrix, Error> {
    matrix.is_all_finite().then_some(matrix).ok_or(Error::OperatorNotFinite)
}

/// The leading left singular vectors and values of a dense matrix, from the eigenvectors of its smaller Gram matrix.
///
/// Squaring costs half of the digits of the smallest values; in double precision, for entries that were computed in
/// single, none that mean anything. It is several times faster than a bidiagonalisation.
fn left_singular(matrix: MatRef<'_, f64>, count: usize) -> Result<(Matrix, Vec<f64>), Error> {
    let wide = matrix.nrows() <= matrix.ncols();
    let gram = smaller_gram(matrix);
    let size = gram.nrows();
    let count = count.min(size);
    let eigen = eigen(&gram)?;
    let squares = eigen.S().column_vector();
    let values = (0..count).map(|i| squares[size - 1 - i].max(0.0).sqrt()).collect::<Vec<_>>();
    let leading = Mat::from_fn(size, count, |i, j| eigen.U()[(i, size - 1 - j)]);
    if wide {
        return Ok((leading, values));
    }
    // The images of the right singular vectors are orthogonal, but only as well as rounding lets them be; Q mends that
    // without mixing them.
    let images = matrix * leading;
    let scaled = Mat::from_fn(images.nrows(), count, |i, j| images[(i, j)] / values[j].max(f64::MIN_POSITIVE));
    let rank = rank_of(&values);
    if rank == 0 {
        return Ok((Mat::zeros(images.nrows(), 0), Vec::new()));
    }
    Ok((scaled.subcols(0, rank).qr().compute_thin_Q(), values[..rank].to_vec()))
}

/// The eigenvectors of a Gram matrix.
fn eigen(gram: &Matrix) -> Result<SelfAdjointEigen<f64>, Error> {
    Ok(finite(gram)?.self_adjoint_eigen(Side::Lower).expect("the eigenvalues of a finite matrix converge"))
}

/// How many of these singular values are more than rounding.
fn rank_of(values: &[f64]) -> usize {
    let floor = values.first().copied().unwrap_or(0.0) * NOISE;
    values.iter().take_while(|value| **value > floor).count()
}

/// An orthonormal basis of the columns' span, nearly. Columns that depend on others leave no trace.
///
/// By the Cholesky factor of their Gram matrix (Yamamoto et al. 2015), or its eigenvectors if columns are close to
/// dependent (Stathopoulos and Wu 2002). Done twice, it is orthonormal to rounding.
fn orthonormal_once(columns: Matrix) -> Result<Matrix, Error> {
    let size = columns.ncols();
    if size == 0 {
        return Ok(columns);
    }
    let gram = columns.transpose() * &columns;
    if let Some(factor) = well_conditioned_factor(&gram) {
        let mut rows = columns.transpose().to_owned();
        solve_lower_triangular_in_place(factor.as_ref(), rows.as_mut(), Par::Seq);
        return Ok(rows.transpose().to_owned());
    }
    let eigen = eigen(&gram)?;
    let squares = eigen.S().column_vector();
    // Eigenvalues of a Gram matrix are squares of lengths.
    let floor = squares[size - 1] * NOISE * NOISE;
    let first = (0..size).find(|i| squares[*i] > floor).unwrap_or(size);
    let kept = Mat::from_fn(size, size - first, |i, j| eigen.U()[(i, first + j)] / squares[first + j].sqrt());
    Ok(columns * kept)
}

/// The Cholesky factor of a Gram matrix whose columns are far from dependent.
fn well_conditioned_factor(gram: &Matrix) -> Option<Matrix> {
    const FAR: f64 = 1e-4;
    let factor = gram.llt(Side::Lower).ok()?.L().to_owned();
    let lengths = |j: usize| gram[(j, j)].sqrt();
    // What is left of a column without those before it.
    (0..gram.ncols()).all(|j| factor[(j, j)] > FAR * lengths(j)).then_some(factor)
}

/// An orthonormal block from the columns, orthogonal to a basis; columns that lie in its span leave no trace.
fn without(columns: MatRef<'_, f64>, basis: &Matrix) -> Result<Matrix, Error> {
    if !columns.is_all_finite() {
        return Err(Error::OperatorNotFinite);
    }
    let project = |columns: MatRef<'_, f64>| columns - basis * (basis.transpose() * columns);
    let left = project(columns);
    let norms = (0..left.ncols()).map(|j| (j, left.col(j).norm_l2()));
    let outside = norms.filter(|(j, norm)| *norm > NOISE * columns.col(*j).norm_l2()).collect::<Vec<_>>();
    let unit = Mat::from_fn(left.nrows(), outside.len(), |i, j| left[(i, outside[j].0)] / outside[j].1);
    // Projected twice: the first time leaves rounding as large as what it takes away, the second none to speak of
    // (Giraud et al. 2005).
    orthonormal_once(project(orthonormal_once(unit)?.as_ref()))
}

/// Completes the vectors to `count` orthonormal columns, each with what the operator really makes of it: beyond the
/// rank that is rounding, or nothing.
fn completed(found: Directions, operator: &dyn LinearOperator, count: usize) -> Result<Directions, Error> {
    let Directions { vectors, mut values, images } = found;
    let rank = rank_of(&values);
    if rank == count {
        return Ok(Directions { vectors, values, images });
    }
    values.truncate(rank);
    let kept = vectors.subcols(0, rank).to_owned();
    // More columns than are needed, so that those that are left are independent for sure.
    let mut rng = Seed::new(0).fold("completion").rng();
    let fresh = Mat::from_fn(kept.nrows(), count - rank + OVERSAMPLING, |_, _| StandardNormal.sample(&mut rng));
    let added = without(fresh.as_ref(), &kept)?;
    let added = added.subcols(0, count - rank).to_owned();
    let of_added = operator.apply(added.as_ref());
    values.extend((0..of_added.nrows()).map(|i| of_added.row(i).norm_l2()));
    let images = stacked_rows(&images.subrows(0, rank).to_owned(), &of_added);
    Ok(Directions { vectors: stacked_columns(&kept, &added), values, images })
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
            (0..directions.images.ncols()).for_each(|i| directions.images[(j, i)] *= -1.0);
        }
    }
    directions
}

/// More directions than the outgoing space has: the set again with its sign turned, then turned at random.
fn repeated(set: Directions, operator: &dyn LinearOperator, count: usize) -> Result<Directions, Error> {
    let fan_out = set.vectors.nrows();
    let mut rng = Seed::new(0).fold("repeated").rng();
    let Directions { mut vectors, mut values, mut images } = set.clone();
    while vectors.ncols() < count {
        // Under a rectifier a direction and its opposite are two different neurons.
        let block = match vectors.ncols() == fan_out {
            true => -&set.vectors,
            false => {
                let fresh: Matrix = Mat::from_fn(fan_out, fan_out, |_, _| StandardNormal.sample(&mut rng));
                fresh.qr().compute_thin_Q()
            }
        };
        let block = block.subcols(0, fan_out.min(count - vectors.ncols())).to_owned();
        let of_block = operator.apply(block.as_ref());
        values.extend((0..block.ncols()).map(|i| of_block.row(i).norm_l2()));
        vectors = stacked_columns(&vectors, &block);
        images = stacked_rows(&images, &of_block);
    }
    Ok(Directions { vectors, values, images })
}

fn stacked_columns(left: &Matrix, right: &Matrix) -> Matrix {
    let mut stacked = Mat::zeros(left.nrows(), left.ncols() + right.ncols());
    stacked.subcols_mut(0, left.ncols()).copy_from(left);
    stacked.subcols_mut(left.ncols(), right.ncols()).copy_from(right);
    stacked
}

fn stacked_rows(top: &Matrix, bottom: &Matrix) -> Matrix {
    let mut stacked = Mat::zeros(top.nrows() + bottom.nrows(), top.ncols());
    stacked.subrows_mut(0, top.nrows()).copy_from(top);
    stacked.subrows_mut(top.nrows(), bottom.nrows()).copy_from(bottom);
    stacked
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}
