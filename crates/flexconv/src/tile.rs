//! Tiles: the parts of a batch that are packed and computed at a time.

use std::cell::RefCell;
use std::ops::Range;

use crate::elementwise::vectorized;
use crate::geometry::Correlation;

/// Entries of a tile's packed input that stay in a core's second-level cache, next to weights and results.
const CACHED: usize = 40_000;

/// Entries of a cache line.
const LINE: usize = 16;

/// How the input of a correlation is packed, tile by tile.
///
/// Vectors hold either neighbouring positions of a row, or the same position of several images, where rows are shorter
/// than a vector. Either way a tap is an offset, so that kernels need not know which.
#[derive(Debug, Clone)]
pub(crate) struct Packing {
    /// Entries of a vector.
    lanes: usize,
    /// Whether a vector holds several images.
    pub(crate) across_images: bool,
    /// Images of a tile; a multiple of the lanes where vectors hold several.
    pub(crate) images: usize,
    /// Grid rows of a tile.
    pub(crate) rows: usize,
    /// Input channels of all groups.
    channels: usize,
    source: [usize; 2],
    step: [usize; 2],
    /// Grid columns.
    columns: usize,
    /// Remainders of input positions by the step that taps read, each packed apart from the others.
    phases: Vec<[usize; 2]>,
    /// The least rows and columns that taps read, in steps.
    least: [isize; 2],
    /// Rows and columns beyond the grid that taps read.
    margin: [usize; 2],
    taps: Vec<Offset>,
}

/// A tap's phase, and its rows and columns from the least.
#[derive(Debug, Clone, Copy)]
struct Offset {
    phase: usize,
    rows: usize,
    columns: usize,
}

/// A part of the batch and of the grid's rows.
#[derive(Debug, Clone)]
pub(crate) struct Tile {
    pub(crate) images: Range<usize>,
    pub(crate) rows: Range<usize>,
}

/// A vector of grid positions of a tile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Its first image, from the tile's first.
    pub(crate) image: usize,
    /// Its row, from the tile's first.
    pub(crate) row: usize,
    /// Its first column.
    pub(crate) column: usize,
}

impl Packing {
    /// The packing of a correlation that has taps; a tile has at least so many vectors, where there are as many.
    pub(crate) fn new(correlation: &Correlation, batch: usize, lanes: usize, least_vectors: usize) -> Self {
        let step = correlation.step;
        let phase_of = |axis: usize, at: isize| at.rem_euclid(step[axis] as isize) as usize;
        let steps_of = |axis: usize, at: isize| at.div_euclid(step[axis] as isize);
        let mut phases = Vec::new();
        let extent = |axis: usize| {
            let steps = correlation.taps.iter().map(|tap| steps_of(axis, tap.at[axis]));
            let (least, most) = steps.fold((isize::MAX, isize::MIN), |(l, m), at| (l.min(at), m.max(at)));
            (least, (most - least) as usize)
        };
        let ((top, high), (left, wide)) = (extent(0), extent(1));
        let taps = correlation.taps.iter().map(|tap| {
            let phase = [phase_of(0, tap.at[0]), phase_of(1, tap.at[1])];
            let index = phases.iter().position(|known| *known == phase).unwrap_or_else(|| {
                phases.push(phase);
                phases.len() - 1
            });
            let rows = (steps_of(0, tap.at[0]) - top) as usize;
            Offset { phase: index, rows, columns: (steps_of(1, tap.at[1]) - left) as usize }
        });
        let taps = taps.collect::<Vec<_>>();
        let [rows, columns] = correlation.grid;
        let mut packing = Self {
            lanes,
            across_images: columns < lanes,
            images: 1,
            rows,
            channels: correlation.groups * correlation.inputs,
            source: correlation.source,
            step,
            columns,
            phases,
            least: [top, left],
            margin: [high, wide],
            taps,
        };
        packing.fit(batch, least_vectors);
        packing
    }

    /// Chooses the rows and images of a tile.
    fn fit(&mut self, batch: usize, least_vectors: usize) {
        if self.across_images {
            self.images = self.lanes;
            let positions = self.rows * self.columns;
            let wanted = least_vectors.div_ceil(positions).min(batch.div_ceil(self.lanes));
            self.images = self.lanes * wanted.max(1);
            return;
        }
        let of_row = self.image_size() / (self.rows + self.margin[0]);
        let fitting = (CACHED / of_row).saturating_sub(self.margin[0]);
        let row_vectors = self.columns.div_ceil(self.lanes);
        let all = self.rows;
        if fitting < all {
            // Equal parts, so that the last tile is no remainder.
            let least = least_vectors.div_ceil(row_vectors).min(all);
            self.rows = all.div_ceil(all.div_ceil(fitting.max(least).max(1)));
            return;
        }
        let wanted = least_vectors.div_ceil(row_vectors * all);
        self.images = wanted.clamp(1, batch.max(1));
    }

    /// The tiles of a batch, in order.
    pub(crate) fn tiles(&self, batch: usize, rows: usize) -> Vec<Tile> {
        let images = (0..batch).step_by(self.images).map(|first| first..(first + self.images).min(batch));
        let rows = (0..rows).step_by(self.rows).map(|first| first..(first + self.rows).min(rows)).collect::<Vec<_>>();
        images
            .flat_map(|images| rows.iter().map(move |rows| Tile { images: images.clone(), rows: rows.clone() }))
            .collect()
    }

    /// Images side by side at each packed position.
    fn unit(&self) -> usize {
        if self.across_images { self.images } else { 1 }
    }

    fn height(&self) -> usize {
        self.rows + self.margin[0]
    }

    fn pitch(&self) -> usize {
        self.columns + self.margin[1]
    }

    fn phase_size(&self) -> usize {
        self.height() * self.pitch() * self.unit()
    }

    /// Packed entries of a channel: an odd number of cache lines, so that neighbouring channels do not fall on the same
    /// lines of a cache.
    pub(crate) fn channel_size(&self) -> usize {
        LINE * ((self.phases.len() * self.phase_size()).div_ceil(LINE) | 1)
    }

    /// Packed entries of an image, or of all that lie side by side.
    fn image_size(&self) -> usize {
        self.channels * self.channel_size()
    }

    /// Packed entries of a tile.
    pub(crate) fn size(&self) -> usize {
        if self.across_images { self.image_size() } else { self.images * self.image_size() }
    }

    /// Where the taps lie in a packed channel.
    pub(crate) fn tap_offsets(&self) -> Vec<usize> {
        let of = |tap: &Offset| tap.phase * self.phase_size() + (tap.rows * self.pitch() + tap.columns) * self.unit();
        self.taps.iter().map(of).collect()
    }

    /// The vectors of a tile. The last of a row may overlap the one before it.
    pub(crate) fn places(&self, tile: &Tile) -> Vec<Place> {
        let mut places = Vec::new();
        if self.across_images {
            let images = (0..tile.images.len()).step_by(self.lanes);
            for row in 0..tile.rows.len() {
                for column in 0..self.columns {
                    places.extend(images.clone().map(|image| Place { image, row, column }));
                }
            }
            return places;
        }
        for image in 0..tile.images.len() {
            for row in 0..tile.rows.len() {
                let columns = (0..self.columns).step_by(self.lanes).map(|first| first.min(self.columns - self.lanes));
                places.extend(columns.map(|column| Place { image, row, column }));
            }
        }
        places
    }

    /// The indices of a tile's vectors that hold an image, where vectors hold several, position by position.
    pub(crate) fn places_of_image(&self, tile: &Tile, image: usize, places: usize) -> impl Iterator<Item = usize> {
        let vectors = tile.images.len().div_ceil(self.lanes);
        (image / self.lanes..places).step_by(vectors)
    }

    /// Whether a row's last vector overlaps the one before it.
    pub(crate) fn overlaps(&self) -> bool {
        !self.across_images && !self.columns.is_multiple_of(self.lanes)
    }

    /// Where a vector begins in a packed channel.
    pub(crate) fn offset(&self, place: Place) -> usize {
        let position = place.row * self.pitch() + place.column;
        match self.across_images {
            true => position * self.unit() + place.image,
            false => place.image * self.image_size() + position,
        }
    }

    /// Packs a tile of the source, `[batch, channels, height, width]`; with `rectified`, what is negative becomes zero.
    pub(crate) fn pack(&self, source: &[f32], tile: &Tile, rectified: bool, packed: &mut [f32]) {
        match self.across_images {
            true => self.pack_across_images(source, tile, rectified, packed),
            false => self.pack_rows(source, tile, rectified, packed),
        }
    }

    fn pack_rows(&self, source: &[f32], tile: &Tile, rectified: bool, packed: &mut [f32]) {
        let plane = self.source.iter().product::<usize>();
        let windows = self.windows(tile);
        let maps = tile.images.start * self.channels..tile.images.end * self.channels;
        for (map, to) in maps.zip(packed.chunks_exact_mut(self.channel_size())) {
            let from = &source[map * plane..][..plane];
            for (window, to) in windows.iter().zip(to.chunks_exact_mut(self.phase_size())) {
                pack_map(window, from, rectified, to);
            }
        }
    }

    /// What each phase's packed map holds of a map.
    fn windows(&self, tile: &Tile) -> Vec<Window> {
        let [row_step, step] = self.step;
        let of = |phase: &[usize; 2]| {
            let (rows, first_row) = self.inside(0, tile.rows.start, phase[0]);
            let (columns, first_column) = self.inside(1, 0, phase[1]);
            let (width, pitch) = (self.source[1], self.pitch());
            Window { width, pitch, rows, first_row, row_step, columns, first_column, step }
        };
        self.phases.iter().map(of).collect()
    }

    /// Packed rows or columns that are inside of the source, counted from a grid position, and the source's row or
    /// column of the first: the packed `i` reads `(first + least + i) * step + phase`.
    fn inside(&self, axis: usize, first: usize, phase: usize) -> (Range<usize>, usize) {
        let (step, length) = (self.step[axis] as isize, self.source[axis] as isize);
        let packed = [self.height(), self.pitch()][axis] as isize;
        let least = first as isize + self.least[axis];
        let end = ((length - phase as isize + step - 1).div_euclid(step) - least).clamp(0, packed);
        let start = (-least).clamp(0, end);
        (start as usize..end as usize, ((start + least) * step + phase as isize).max(0) as usize)
    }

    fn pack_across_images(&self, source: &[f32], tile: &Tile, rectified: bool, packed: &mut [f32]) {
        let plane = self.source.iter().product::<usize>();
        let moves = self.moves(tile);
        // Image by image, a run of channels at a time, so that the source is read in order: its images often lie a
        // power of two apart, and would push each other out of the caches.
        let run = run_of(plane).min(self.channels);
        for (first, packed) in (0..self.channels).step_by(run).zip(packed.chunks_mut(run * self.channel_size())) {
            packed.fill(0.0);
            for (lane, image) in tile.images.clone().enumerate() {
                let maps = &source[(image * self.channels + first) * plane..];
                for (map, packed) in maps.chunks_exact(plane).zip(packed.chunks_exact_mut(self.channel_size())) {
                    match rectified {
                        true => moves.iter().for_each(|[from, to]| packed[to + lane] = rectify(map[*from])),
                        false => moves.iter().for_each(|[from, to]| packed[to + lane] = map[*from]),
                    }
                }
            }
        }
    }

    /// Where each entry of a map that taps read goes in a packed channel.
    fn moves(&self, tile: &Tile) -> Vec<[usize; 2]> {
        let mut moves = Vec::new();
        for (phase, window) in self.windows(tile).iter().enumerate() {
            let Window { width, pitch, rows, first_row, row_step, columns, first_column, step } = window;
            for (index, row) in rows.clone().enumerate() {
                for (at, column) in columns.clone().enumerate() {
                    let from = (first_row + index * row_step) * width + first_column + at * step;
                    moves.push([from, phase * self.phase_size() + (row * pitch + column) * self.unit()]);
                }
            }
        }
        moves
    }
}

/// Channels with maps of this size that are read together: a few cache lines.
pub(crate) fn run_of(plane: usize) -> usize {
    (4 * LINE).div_ceil(plane.max(1))
}

/// The part of a map that a packed map holds, and where.
struct Window {
    width: usize,
    pitch: usize,
    /// Packed rows that are inside of the map.
    rows: Range<usize>,
    first_row: usize,
    row_step: usize,
    /// Packed columns that are inside of the map.
    columns: Range<usize>,
    first_column: usize,
    step: usize,
}

vectorized! {
    fn pack_map(window: &Window, from: &[f32], rectified: bool, to: &mut [f32]) {
        let Window { width, pitch, rows, first_row, row_step, columns, first_column, step } = window;
        to.fill(0.0);
        let to = to.chunks_exact_mut(*pitch).skip(rows.start).take(rows.len());
        let from = from.chunks_exact(*width).skip(*first_row).step_by(*row_step);
        for (to, from) in to.zip(from) {
            let (to, from) = (&mut to[columns.clone()], &from[(*first_column).min(*width)..]);
            match (step, rectified) {
                (1, false) => to.copy_from_slice(&from[..to.len()]),
                (1, true) => to.iter_mut().zip(from).for_each(|(to, value)| *to = rectify(*value)),
                (2, _) => {
                    let pairs = from.chunks_exact(2);
                    // A row of odd length ends in half a pair.
                    let last = pairs.remainder().first();
                    let values = pairs.map(|pair| &pair[0]).chain(last);
                    to.iter_mut().zip(values).for_each(|(to, value)| *to = if rectified { rectify(*value) } else { *value });
                }
                _ => {
                    let values = from.iter().step_by(*step);
                    to.iter_mut().zip(values).for_each(|(to, value)| *to = if rectified { rectify(*value) } else { *value });
                }
            }
        }
    }
}

/// `max(value, 0)`, which keeps what is not a number.
#[inline(always)]
pub(crate) fn rectify(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

/// Lends buffers of these sizes, with any content, that the thread keeps for the next time.
pub(crate) fn with_scratch<R>(sizes: [usize; 2], work: impl FnOnce([&mut [f32]; 2]) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
    }
    // Taken out, so that work that the thread steals meanwhile finds buffers of its own.
    let mut buffers = SCRATCH.take();
    for (buffer, size) in buffers.iter_mut().zip(sizes) {
        if buffer.len() < size + LINE {
            buffer.resize(size + LINE, 0.0);
        }
    }
    let mut index = 0;
    let lent = buffers.each_mut().map(|buffer| {
        // From the start of a cache line.
        let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        index += 1;
        &mut buffer[start..start + sizes[index - 1]]
    });
    let result = work(lent);
    SCRATCH.set(buffers);
    result
}
