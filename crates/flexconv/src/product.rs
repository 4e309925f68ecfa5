//! Matrix products by the correlation kernels: a row of the result is a channel, its columns are positions.

use rayon::prelude::*;

use crate::correlate::Target;
use crate::kernel::{Correlate, InstructionSet, MAX_CHANNELS, blocks, vectors_for};
use crate::tile::{LINE, with_scratch};

/// Entries that are summed at a time, so that what kernels read stays in a core's caches.
const DEPTH: usize = 256;
/// Rows of the result that a thread takes at a time.
const ROWS: usize = 8 * MAX_CHANNELS;
/// Operations below which threads cost more than they save.
const SMALL: usize = 1 << 20;

/// The shape of a matrix, and where its entries lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix {
    shape: [usize; 2],
    strides: [usize; 2],
}

/// A matrix with its entries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entries<'a> {
    matrix: Matrix,
    entries: &'a [f32],
}

impl Matrix {
    /// A matrix whose rows lie one after another.
    pub(crate) fn new(shape: [usize; 2]) -> Self {
        Self { shape, strides: [shape[1], 1] }
    }

    /// The transpose, of the same entries.
    pub(crate) fn transposed(self) -> Self {
        let ([rows, columns], [down, along]) = (self.shape, self.strides);
        Self { shape: [columns, rows], strides: [along, down] }
    }

    pub(crate) fn of(self, entries: &[f32]) -> Entries<'_> {
        Entries { matrix: self, entries }
    }
}

impl Entries<'_> {
    fn at(&self, row: usize, column: usize) -> f32 {
        self.entries[row * self.matrix.strides[0] + column * self.matrix.strides[1]]
    }
}

/// `left * right`, plus a value for each column: rows one after another.
pub(crate) fn product(set: &InstructionSet, left: Entries<'_>, right: Entries<'_>, plus: Option<&[f32]>) -> Vec<f32> {
    let ([rows, depth], [_, columns]) = (left.matrix.shape, right.matrix.shape);
    let mut result = Vec::with_capacity(rows * columns);
    let target = Target(result.as_mut_ptr());
    let vectors = (0..columns.next_multiple_of(set.lanes)).step_by(set.lanes).collect::<Vec<_>>();
    // Whole vectors, an odd number of cache lines apart.
    let apart = LINE * (columns.div_ceil(LINE) | 1);
    let work = |first: usize, packed: &[f32]| {
        let rows = first..(first + ROWS).min(rows);
        // SAFETY: these rows of the result, which no other thread writes.
        unsafe { product_rows(set, left, rows, [depth, columns, apart], packed, &vectors, plus, target) };
    };
    with_scratch([depth * apart, 0], |[packed, _]| {
        pack(right, apart, packed);
        let firsts = (0..rows).step_by(ROWS);
        match 2 * rows * columns * depth < SMALL {
            true => firsts.for_each(|first| work(first, packed)),
            false => firsts.collect::<Vec<_>>().into_par_iter().for_each(|first| work(first, packed)),
        }
    });
    // SAFETY: all rows were written.
    unsafe { result.set_len(rows * columns) };
    result
}

/// The rows of a matrix, each followed by zeros.
fn pack(matrix: Entries<'_>, apart: usize, packed: &mut [f32]) {
    let [rows, columns] = matrix.matrix.shape;
    for (row, to) in (0..rows).zip(packed.chunks_exact_mut(apart)) {
        let (to, rest) = to.split_at_mut(columns);
        rest.fill(0.0);
        match matrix.matrix.strides {
            [down, 1] => to.copy_from_slice(&matrix.entries[row * down..][..columns]),
            _ => to.iter_mut().enumerate().for_each(|(column, to)| *to = matrix.at(row, column)),
        }
    }
}

/// # Safety
/// The target is good for these rows, and no other thread touches them.
#[allow(clippy::too_many_arguments)]
unsafe fn product_rows(
    set: &InstructionSet,
    left: Entries<'_>,
    rows: std::ops::Range<usize>,
    [depth, columns, apart]: [usize; 3],
    right: &[f32],
    vectors: &[usize],
    plus: Option<&[f32]>,
    target: Target,
) {
    let width = vectors.len() * set.lanes;
    with_scratch([MAX_CHANNELS * depth, MAX_CHANNELS * width], |[factors, sums]| {
        for [block, channels] in blocks(rows.len()) {
            let first = rows.start + block;
            for (k, factors) in factors[..channels * depth].chunks_exact_mut(channels).enumerate() {
                factors.iter_mut().enumerate().for_each(|(m, factor)| *factor = left.at(first + m, k));
            }
            for from in (0..depth).step_by(DEPTH) {
                for vectors in vectors.chunks(vectors_for(channels)) {
                    let task = Correlate {
                        input: right[from * apart..].as_ptr(),
                        vectors,
                        taps: &[0],
                        channels: DEPTH.min(depth - from),
                        channel_stride: apart,
                        weights: factors[from * channels..].as_ptr(),
                        output: sums.as_mut_ptr(),
                        output_vectors: vectors,
                        output_stride: width,
                        accumulate: from > 0,
                    };
                    // SAFETY: packed rows and sums hold whole vectors.
                    unsafe { set.correlate(channels, vectors.len())(&task) };
                }
            }
            for (m, sums) in sums.chunks_exact(width).take(channels).enumerate() {
                let start = (first + m) * columns;
                // SAFETY: a row of the caller's.
                let to = unsafe { target.slice(start..start + columns) };
                match plus {
                    Some(plus) => to.iter_mut().zip(sums).zip(plus).for_each(|((to, sum), plus)| {
                        to.write(sum + plus);
                    }),
                    None => to.iter_mut().zip(sums).for_each(|(to, sum)| {
                        to.write(*sum);
                    }),
                }
            }
        }
    });
}
