//! Runs a correlation over a batch: packs tiles, calls the kernels, finishes what they computed.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use crate::geometry::Correlation;
use crate::kernel::{Correlate, InstructionSet, MAX_CHANNELS, blocks, vectors_for};
use crate::tile::{Packing, Place, Tile, run_of, with_scratch};

/// Input channels that kernels sum over at a time: as many as fit in half of a core's second-level cache, within
/// limits.
fn channel_block(packing: &Packing) -> usize {
    (24_000 / packing.channel_size()).clamp(16, 128)
}

/// Vectors of a tile, at least, where there are as many.
const LEAST_VECTORS: usize = 24;
/// Operations below which threads cost more than they save.
pub(crate) const SMALL: usize = 1 << 18;

/// Which weights a correlation uses: those of the convolution, `[outputs, inputs, taps]`, of each group, or with inputs
/// and outputs exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weights {
    AsTheyAre,
    Exchanged,
}

/// What becomes of the sums.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Finish<'a> {
    /// A value to add to each channel.
    pub(crate) bias: Option<&'a [f32]>,
    /// Values of the target's shape to add.
    pub(crate) plus: Option<&'a [f32]>,
    /// Values of the target's shape: where they are negative, the result is zero.
    pub(crate) mask: Option<&'a [f32]>,
}

/// A target that tiles write to, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct Target(pub(crate) *mut f32);

// SAFETY: tiles are disjoint, and each is written by one thread.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// A method, so that closures capture the whole.
    pub(crate) fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }

    /// A part of the target, whatever is there.
    ///
    /// # Safety
    /// The target is good for the range, and no other thread touches it.
    pub(crate) unsafe fn slice<'a>(self, range: Range<usize>) -> &'a mut [MaybeUninit<f32>] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at(range.start).cast(), range.len()) }
    }
}

/// A correlation of a batch, ready to run.
pub(crate) struct Correlator<'a> {
    pub(crate) correlation: &'a Correlation,
    pub(crate) batch: usize,
    /// `[batch, groups * inputs, height, width]`.
    pub(crate) source: &'a [f32],
    /// Whether the source is rectified as it is read.
    pub(crate) rectified: bool,
    pub(crate) weights: (&'a [f32], Weights),
    /// Entries of a kernel, whether the correlation uses them all or not.
    pub(crate) kernel: usize,
    pub(crate) finish: Finish<'a>,
}

/// Output channels that one kernel call computes.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: usize,
    channels: usize,
    /// Where its packed weights begin.
    weights: usize,
}

impl Correlator<'_> {
    /// Writes the positions of the target, `[batch, groups * outputs, height, width]`, that belong to the correlation.
    ///
    /// # Safety
    /// The target is good for its whole shape.
    pub(crate) unsafe fn run(&self, set: &InstructionSet, target: Target) {
        let correlation = self.correlation;
        if correlation.taps.is_empty() || correlation.inputs == 0 {
            // SAFETY: the caller's promise.
            unsafe { self.run_without_taps(target) };
            return;
        }
        let packing = Packing::new(correlation, self.batch, set.lanes, LEAST_VECTORS);
        let of_output = correlation.inputs * correlation.taps.len();
        let blocks = blocks(correlation.outputs).into_iter();
        let blocks = blocks.map(|[first, channels]| Block { first, channels, weights: first * of_output });
        let blocks = blocks.collect::<Vec<_>>();
        let weights = self.packed_weights(&blocks);
        let tiles = packing.tiles(self.batch, correlation.grid[0]);
        let positions = correlation.grid.iter().product::<usize>();
        let operations = 2 * self.batch * positions * weights.len();
        let work = |tile: &Tile| {
            // SAFETY: tiles are disjoint, and the target is good for all of them.
            unsafe { self.run_tile(set, &packing, &blocks, &weights, tile, target) };
        };
        match operations < SMALL || tiles.len() == 1 {
            true => tiles.iter().for_each(work),
            false => tiles.par_iter().for_each(work),
        }
    }

    /// Output channels of all groups.
    fn outputs(&self) -> usize {
        self.correlation.groups * self.correlation.outputs
    }

    /// Weights as kernels read them: for each group and block of output channels, `[input, tap, output]`.
    fn packed_weights(&self, blocks: &[Block]) -> Vec<f32> {
        let Correlation { groups, inputs, outputs, taps, .. } = self.correlation;
        let mut packed = vec![0.0; groups * inputs * outputs * taps.len()];
        let mut parts = Vec::with_capacity(groups * blocks.len());
        let mut rest = packed.as_mut_slice();
        for group in 0..*groups {
            for block in blocks {
                let (part, after) = rest.split_at_mut(block.channels * inputs * taps.len());
                parts.push((group, block, part));
                rest = after;
            }
        }
        let least = (SMALL / (inputs * taps.len() * MAX_CHANNELS)).max(1);
        parts.into_par_iter().with_min_len(least).for_each(|(group, block, part)| self.pack_block(group, block, part));
        packed
    }

    fn pack_block(&self, group: usize, block: &Block, packed: &mut [f32]) {
        let Correlation { inputs, outputs, taps, .. } = self.correlation;
        let (weights, order) = self.weights;
        for (input, packed) in packed.chunks_exact_mut(taps.len() * block.channels).enumerate() {
            for m in 0..block.channels {
                let output = block.first + m;
                let kernel = match order {
                    Weights::AsTheyAre => (group * outputs + output) * inputs + input,
                    Weights::Exchanged => (group * inputs + input) * outputs + output,
                };
                let kernel = &weights[kernel * self.kernel..][..self.kernel];
                for (tap, packed) in taps.iter().zip(packed.chunks_exact_mut(block.channels)) {
                    packed[m] = kernel[tap.index];
                }
            }
        }
    }

    /// # Safety
    /// The target is good for its whole shape, and no other thread touches the tile's part of it.
    unsafe fn run_tile(
        &self,
        set: &InstructionSet,
        packing: &Packing,
        blocks: &[Block],
        weights: &[f32],
        tile: &Tile,
        target: Target,
    ) {
        let correlation = self.correlation;
        let places = packing.places(tile);
        let vectors = places.iter().map(|place| packing.offset(*place)).collect::<Vec<_>>();
        let taps = packing.tap_offsets();
        let plane = correlation.target.iter().product::<usize>();
        // Kernels write the target itself where vectors lie in it as they are packed; sums over several blocks of
        // channels would count twice where vectors overlap.
        let channel_block = channel_block(packing);
        let direct = !packing.across_images
            && correlation.spacing == [1, 1]
            && (!packing.overlaps() || correlation.inputs <= channel_block);
        let buffer = if direct { 0 } else { self.outputs() * places.len() * set.lanes };
        let outputs = places.iter().enumerate().map(|(index, place)| match direct {
            true => self.target_offset(tile, *place),
            false => index * set.lanes,
        });
        let output_vectors = outputs.collect::<Vec<_>>();
        with_scratch([packing.size(), buffer], |[packed, sums]| {
            packing.pack(self.source, tile, self.rectified, packed);
            let (output, output_stride) = match direct {
                true => (target.at(0), plane),
                false => (sums.as_mut_ptr(), places.len() * set.lanes),
            };
            for group in 0..correlation.groups {
                for first in (0..correlation.inputs).step_by(channel_block) {
                    let channels = channel_block.min(correlation.inputs - first);
                    let from = (group * correlation.inputs + first) * packing.channel_size();
                    for block in blocks {
                        let of_group = group * correlation.inputs * correlation.outputs * taps.len();
                        let of_block = block.weights + first * taps.len() * block.channels;
                        let weights = &weights[of_group + of_block..][..channels * taps.len() * block.channels];
                        let most = vectors_for(block.channels);
                        for (vectors, output_vectors) in vectors.chunks(most).zip(output_vectors.chunks(most)) {
                            let task = Correlate {
                                input: packed[from..].as_ptr(),
                                vectors,
                                taps: &taps,
                                channels,
                                channel_stride: packing.channel_size(),
                                weights: weights.as_ptr(),
                                output: output
                                    .wrapping_add((group * correlation.outputs + block.first) * output_stride),
                                output_vectors,
                                output_stride,
                                accumulate: first > 0,
                            };
                            // SAFETY: the packed tile holds a margin for every tap of every vector; outputs are inside
                            // of the buffer, or of the tile's part of the target.
                            unsafe { set.correlate(block.channels, vectors.len())(&task) };
                        }
                    }
                }
            }
            match direct {
                // SAFETY: the tile's part of the target was just written by this thread.
                true => unsafe { self.finish_in_place(tile, target) },
                // SAFETY: the tile's part of the target is this thread's.
                false => unsafe { self.scatter(packing, tile, &places, sums, target, set.lanes) },
            }
        });
    }

    /// Where a vector of a tile lies in the first channel of the target.
    fn target_offset(&self, tile: &Tile, place: Place) -> usize {
        let Correlation { target: [height, width], start, spacing, .. } = self.correlation;
        let image = (tile.images.start + place.image) * self.outputs() * height * width;
        let row = start[0] + (tile.rows.start + place.row) * spacing[0];
        image + row * width + start[1] + place.column * spacing[1]
    }

    /// # Safety
    /// The tile's part of the target is initialised, and no other thread touches it.
    unsafe fn finish_in_place(&self, tile: &Tile, target: Target) {
        let Finish { bias, plus, mask } = self.finish;
        if bias.is_none() && plus.is_none() && mask.is_none() {
            return;
        }
        let [height, width] = self.correlation.target;
        for image in tile.images.clone() {
            for channel in 0..self.outputs() {
                let first = ((image * self.outputs() + channel) * height + tile.rows.start) * width;
                let count = tile.rows.len() * width;
                // SAFETY: rows of the tile, as the caller promises.
                let values = unsafe { std::slice::from_raw_parts_mut(target.at(first), count) };
                if let Some(bias) = bias {
                    values.iter_mut().for_each(|value| *value += bias[channel]);
                }
                if let Some(plus) = plus {
                    values.iter_mut().zip(&plus[first..]).for_each(|(value, plus)| *value += plus);
                }
                if let Some(mask) = mask {
                    let pairs = values.iter_mut().zip(&mask[first..]);
                    pairs.for_each(|(value, mask)| *value = masked(*value, *mask));
                }
            }
        }
    }

    /// Writes sums, `[channel, vector, lane]`, to their places in the target.
    ///
    /// # Safety
    /// The target is good for its whole shape, and no other thread touches the tile's part of it.
    unsafe fn scatter(
        &self,
        packing: &Packing,
        tile: &Tile,
        places: &[Place],
        sums: &[f32],
        target: Target,
        lanes: usize,
    ) {
        let plane = self.correlation.target.iter().product::<usize>();
        let image_size = self.outputs() * plane;
        let offsets = places.iter().map(|place| self.target_offset(tile, *place)).collect::<Vec<_>>();
        let length = places.len() * lanes;
        if !packing.across_images {
            for (channel, sums) in sums.chunks_exact(length).enumerate() {
                for (first, sums) in offsets.iter().zip(sums.chunks_exact(lanes)) {
                    for (lane, value) in sums.iter().enumerate() {
                        let at = channel * plane + first + lane * self.correlation.spacing[1];
                        // SAFETY: a position of the tile, as the caller promises.
                        unsafe { *target.at(at) = self.finished(*value, channel, at) };
                    }
                }
            }
            return;
        }
        // Image by image, a run of channels at a time, so that the target is written in order.
        let run = run_of(plane);
        for (index, sums) in sums.chunks(run * length).enumerate() {
            for image in 0..tile.images.len() {
                let lane = image % lanes;
                for (channel, sums) in sums.chunks_exact(length).enumerate() {
                    let channel = index * run + channel;
                    for place in packing.places_of_image(tile, image, places.len()) {
                        let at = channel * plane + offsets[place] + lane * image_size;
                        // SAFETY: a position of the tile, as the caller promises.
                        unsafe { *target.at(at) = self.finished(sums[place * lanes + lane], channel, at) };
                    }
                }
            }
        }
    }

    fn finished(&self, value: f32, channel: usize, at: usize) -> f32 {
        let Finish { bias, plus, mask } = self.finish;
        let value = value + bias.map_or(0.0, |bias| bias[channel]) + plus.map_or(0.0, |plus| plus[at]);
        mask.map_or(value, |mask| masked(value, mask[at]))
    }

    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn run_without_taps(&self, target: Target) {
        let Correlation { target: [height, width], start, spacing, .. } = *self.correlation;
        for map in 0..self.batch * self.outputs() {
            for row in (start[0]..height).step_by(spacing[0]) {
                for column in (start[1]..width).step_by(spacing[1]) {
                    let at = (map * height + row) * width + column;
                    // SAFETY: inside the target's shape.
                    unsafe { *target.at(at) = self.finished(0.0, map % self.outputs(), at) };
                }
            }
        }
    }
}

#[inline(always)]
fn masked(value: f32, mask: f32) -> f32 {
    if mask < 0.0 { 0.0 } else { value }
}
