//! Matrix products, for dense layers.

use std::ops::Range;

use rayon::prelude::*;

use crate::correlate::Target;
use crate::kernel::{InstructionSet, MAX_CHANNELS, Product, blocks};
use crate::rectifier::rectify_marked;
use crate::tile::with_scratch;

/// Entries that are summed at a time, so that what kernels read stays in a core's caches.
const DEPTH: usize = 256;
/// Parts of the result's rows for each thread, so that none waits long for another.
const PARTS: usize = 4;
/// Operations below which threads cost more than they save.
pub(crate) const SMALL: usize = 1 << 19;
/// Columns up to which rows are read where they are: a slab of them fits in a core's caches.
const NARROW: usize = 64;

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

    /// A matrix whose entries lie so far from each other, down and along.
    pub(crate) fn with_strides(shape: [usize; 2], strides: [usize; 2]) -> Self {
        Self { shape, strides }
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

/// What becomes of the sums.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct After<'a> {
    /// A value to add to each column.
    pub(crate) plus: Option<&'a [f32]>,
    /// Whether to rectify the result, with `-0` for what is negative.
    pub(crate) rectified: bool,
}

/// `left * right`: rows one after another.
pub(crate) fn product(set: &InstructionSet, left: Entries<'_>, right: Entries<'_>, after: After<'_>) -> Vec<f32> {
    let ([rows, depth], [_, columns]) = (left.matrix.shape, right.matrix.shape);
    let mut result = Vec::with_capacity(rows * columns);
    let panel = PANEL * set.lanes;
    let panels = columns.div_ceil(panel);
    let in_place = rows_in_place(right, set.lanes);
    let added = after.plus.map_or(0, |_| panels * panel);
    with_scratch([panels * (depth - in_place) * panel, added], |[packed, added]| {
        pack(right, in_place, panel, packed);
        let packed = &*packed;
        let read = slabs(0..in_place, right.entries, columns, panel);
        let slabs = read.chain(slabs(in_place..depth, packed, panel, (depth - in_place) * panel)).collect();
        if let Some(plus) = after.plus {
            added[..columns].copy_from_slice(plus);
            added[columns..].fill(0.0);
        }
        let target = Target(result.as_mut_ptr());
        let after = After { plus: after.plus.map(|_| &*added), ..after };
        let run = Run { set, left, slabs, panel, columns, after, target };
        // SAFETY: each row of the result is in one part.
        let work = |rows| unsafe { run.rows(rows) };
        if 2 * rows * columns * depth < SMALL {
            return work(0..rows);
        }
        // Each row is summed in the same order, whatever its part.
        let part = rows.div_ceil(PARTS * rayon::current_num_threads()).next_multiple_of(MAX_CHANNELS);
        let parts = (0..rows).step_by(part).map(|first| first..(first + part).min(rows));
        parts.collect::<Vec<_>>().into_par_iter().for_each(work);
    });
    // SAFETY: all rows were written.
    unsafe { result.set_len(rows * columns) };
    result
}

/// Vectors of a panel: what kernels read of a row together.
const PANEL: usize = 2;

/// How many rows kernels can read where they are: those of a narrow matrix, but for the last ones, which end before
/// whole vectors do. These are a slab of their own, so there have to be many others.
fn rows_in_place(matrix: Entries<'_>, lanes: usize) -> usize {
    let Matrix { shape: [rows, columns], strides } = matrix.matrix;
    if strides != [columns, 1] || columns > NARROW || rows < DEPTH {
        return 0;
    }
    let read = columns.next_multiple_of(lanes);
    rows.saturating_sub(read.div_ceil(columns) - 1)
}

/// The rows of a matrix from the first one on, in panels of columns, each with all rows one after another; the last is
/// filled up with zeros.
fn pack(matrix: Entries<'_>, first_row: usize, panel: usize, packed: &mut [f32]) {
    let [rows, columns] = matrix.matrix.shape;
    if first_row == rows {
        return;
    }
    for (index, packed) in packed.chunks_exact_mut((rows - first_row) * panel).enumerate() {
        let first = index * panel;
        let count = panel.min(columns - first);
        for (row, to) in (first_row..).zip(packed.chunks_exact_mut(panel)) {
            let (to, rest) = to.split_at_mut(count);
            rest.fill(0.0);
            match matrix.matrix.strides {
                [down, 1] => to.copy_from_slice(&matrix.entries[row * down + first..][..count]),
                _ => to.iter_mut().enumerate().for_each(|(column, to)| *to = matrix.at(row, first + column)),
            }
        }
    }
}

/// Rows of the right matrix that are multiplied at a time, in panels of columns.
struct Slab<'a> {
    from: usize,
    depth: usize,
    /// The first row of the first panel.
    right: &'a [f32],
    /// From one row to the next, and from one panel to the next.
    stride: usize,
    panel_stride: usize,
}

/// Rows in slabs, from where the first row lies.
fn slabs(rows: Range<usize>, right: &[f32], stride: usize, panel_stride: usize) -> impl Iterator<Item = Slab<'_>> {
    rows.clone().step_by(DEPTH).map(move |from| {
        let right = &right[(from - rows.start) * stride..];
        Slab { from, depth: DEPTH.min(rows.end - from), right, stride, panel_stride }
    })
}

/// A product, with everything that its parts share.
struct Run<'a> {
    set: &'a InstructionSet,
    left: Entries<'a>,
    /// All rows of the right matrix, in order.
    slabs: Vec<Slab<'a>>,
    /// Columns of a panel.
    panel: usize,
    columns: usize,
    /// With a value for each column of whole panels.
    after: After<'a>,
    target: Target,
}

impl Run<'_> {
    /// # Safety
    /// The target is good for these rows, and no other thread touches them.
    unsafe fn rows(&self, rows: Range<usize>) {
        let blocks = blocks(rows.len());
        // What kernels read of the left matrix stays in the caches for all panels, and a slab for all blocks.
        for index in 0..self.slabs.len() {
            for [first, channels] in &blocks {
                let first = rows.start + first;
                for panel in 0..self.columns.div_ceil(self.panel) {
                    // SAFETY: the caller's promise.
                    unsafe { self.block(first, *channels, panel, index) };
                }
                if self.after.rectified && index + 1 == self.slabs.len() {
                    let [start, end] = [first, first + channels].map(|row| row * self.columns);
                    // SAFETY: rows of the caller's, all written.
                    rectify_marked(unsafe { self.target.slice(start..end).assume_init_mut() });
                }
            }
        }
    }

    /// So many rows of a panel, as far as a slab goes.
    ///
    /// # Safety
    /// As [`Self::rows`].
    unsafe fn block(&self, first: usize, rows: usize, panel: usize, index: usize) {
        let Self { set, left, slabs, columns, after, target, .. } = self;
        let slab = &slabs[index];
        let strides = left.matrix.strides;
        let column = panel * self.panel;
        let count = self.panel.min(columns - column);
        let vectors = count.div_ceil(set.lanes);
        let plus = after.plus.filter(|_| index + 1 == slabs.len());
        let task = Product {
            left: left.entries[first * strides[0] + slab.from * strides[1]..].as_ptr(),
            left_strides: strides,
            right: slab.right[panel * slab.panel_stride..].as_ptr(),
            right_stride: slab.stride,
            depth: slab.depth,
            output: target.at(first * columns + column),
            output_stride: *columns,
            last: count - (vectors - 1) * set.lanes,
            accumulate: index > 0,
            plus: plus.map_or(std::ptr::null(), |plus| plus[column..].as_ptr()),
        };
        // SAFETY: the left matrix has these rows, slabs hold whole vectors, and the rows of the target are the
        // caller's.
        unsafe { set.product(rows, vectors)(&task) };
    }
}
