//! Matrix products, for dense layers.

use rayon::prelude::*;

use crate::correlate::Target;
use crate::kernel::{InstructionSet, MAX_CHANNELS, Product, blocks, vectors_for};
use crate::tile::with_scratch;

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
    let panel = PANEL * set.lanes;
    let panels = columns.div_ceil(panel);
    let vectors = (0..columns.div_ceil(set.lanes)).map(|vector| {
        let (panel_index, within) = (vector / PANEL, vector % PANEL);
        (panel_index * depth * panel + within * set.lanes, vector * set.lanes)
    });
    let (vectors, output_vectors) = vectors.unzip();
    with_scratch([panels * depth * panel, 0], |[packed, _]| {
        pack(right, panel, packed);
        let run = Run { set, left, right: packed, panel, vectors, output_vectors, columns, plus, target };
        let parts = (0..rows).step_by(ROWS).map(|first| first..(first + ROWS).min(rows));
        // SAFETY: each row of the result is in one part.
        let work = |rows| unsafe { run.rows(rows) };
        match 2 * rows * columns * depth < SMALL {
            true => parts.for_each(work),
            false => parts.collect::<Vec<_>>().into_par_iter().for_each(work),
        }
    });
    // SAFETY: all rows were written.
    unsafe { result.set_len(rows * columns) };
    result
}

/// Vectors of a panel: what kernels read of a row together.
const PANEL: usize = 2;

/// A matrix in panels of columns, each with all rows one after another; the last is filled up with zeros.
fn pack(matrix: Entries<'_>, panel: usize, packed: &mut [f32]) {
    let [rows, columns] = matrix.matrix.shape;
    for (index, packed) in packed.chunks_exact_mut(rows * panel).enumerate() {
        let first = index * panel;
        let count = panel.min(columns - first);
        for (row, to) in packed.chunks_exact_mut(panel).enumerate() {
            let (to, rest) = to.split_at_mut(count);
            rest.fill(0.0);
            match matrix.matrix.strides {
                [down, 1] => to.copy_from_slice(&matrix.entries[row * down + first..][..count]),
                _ => to.iter_mut().enumerate().for_each(|(column, to)| *to = matrix.at(row, first + column)),
            }
        }
    }
}

/// A product, with everything that its parts share.
struct Run<'a> {
    set: &'a InstructionSet,
    left: Entries<'a>,
    /// The right matrix in panels of so many columns.
    right: &'a [f32],
    panel: usize,
    /// Where the vectors of the first row begin, packed and in the result.
    vectors: Vec<usize>,
    output_vectors: Vec<usize>,
    columns: usize,
    plus: Option<&'a [f32]>,
    target: Target,
}

impl Run<'_> {
    /// # Safety
    /// The target is good for these rows, and no other thread touches them.
    unsafe fn rows(&self, rows: std::ops::Range<usize>) {
        let Self { set, left, right, panel, vectors, output_vectors, columns, plus, target } = self;
        let Matrix { shape: [_, depth], strides } = left.matrix;
        let width = vectors.len() * set.lanes;
        with_scratch([MAX_CHANNELS * width, 0], |[sums, _]| {
            for [block, channels] in blocks(rows.len()) {
                let first = rows.start + block;
                let most = vectors_for(channels);
                for (vectors, output_vectors) in vectors.chunks(most).zip(output_vectors.chunks(most)) {
                    for from in (0..depth).step_by(DEPTH) {
                        let task = Product {
                            left: left.entries[first * strides[0] + from * strides[1]..].as_ptr(),
                            left_strides: strides,
                            right: right[from * panel..].as_ptr(),
                            right_stride: *panel,
                            depth: DEPTH.min(depth - from),
                            vectors,
                            output: sums.as_mut_ptr(),
                            output_vectors,
                            output_stride: width,
                            accumulate: from > 0,
                        };
                        // SAFETY: the left matrix has these rows; panels and sums hold whole vectors.
                        unsafe { set.product(channels, vectors.len())(&task) };
                    }
                }
                for (m, sums) in sums.chunks_exact(width).take(channels).enumerate() {
                    let start = (first + m) * columns;
                    // SAFETY: a row of the caller's.
                    let to = unsafe { target.slice(start..start + columns) };
                    match plus {
                        Some(plus) => to.iter_mut().zip(sums).zip(*plus).for_each(|((to, sum), plus)| {
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
}
