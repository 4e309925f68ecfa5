//! The gradient of a convolution's weights, summed over a batch.

use rayon::prelude::*;

use crate::correlate::SMALL;
use crate::geometry::{Correlation, Geometry};
use crate::kernel::{Gradient, InstructionSet, MAX_CHANNELS, blocks, vectors_for};
use crate::tile::{Packing, Place, Tile, run_of, with_scratch};

/// Vectors of a tile, at least, where there are as many: sums over lanes come once a tile.
const LEAST_VECTORS: usize = 128;
/// Vectors that kernels sum over at a time: the gradient's stay in a core's first-level cache while they meet all
/// streams.
const VECTORS: usize = 64;
/// Parts that a batch is summed in, at most. They are fixed, so that the result does not depend on threads.
const PARTS: usize = 16;
/// Entries of all parts' sums together, at most.
const SUMS: usize = 1 << 22;

/// Everything that the gradient is computed from.
pub(crate) struct WeightGradient<'a> {
    pub(crate) geometry: &'a Geometry,
    /// The convolution's input.
    pub(crate) source: &'a [f32],
    /// Whether it is rectified as it is read.
    pub(crate) rectified: bool,
    /// The gradient of the convolution's output.
    pub(crate) gradient: &'a [f32],
}

/// What all tiles have in common.
struct Plan<'a> {
    set: &'a InstructionSet,
    correlation: &'a Correlation,
    packing: &'a Packing,
    /// Where the streams of each group begin: every tap of every input channel.
    streams: Vec<usize>,
}

/// Tiles that are summed together, for a range of each group's output channels.
struct Job<'a> {
    tiles: &'a [Tile],
    outputs: std::ops::Range<usize>,
}

impl WeightGradient<'_> {
    /// The gradient, `[groups * outputs, inputs, kernel]`.
    pub(crate) fn run(&self, set: &InstructionSet) -> Vec<f32> {
        let correlation = self.geometry.forward();
        let weights = correlation.groups * correlation.outputs * correlation.inputs * correlation.taps.len();
        if weights == 0 {
            return Vec::new();
        }
        let packing = Packing::new(&correlation, self.geometry.batch, set.lanes, LEAST_VECTORS);
        let taps = packing.tap_offsets();
        let channels = (0..correlation.inputs).map(|input| input * packing.channel_size());
        let streams = channels.flat_map(|channel| taps.iter().map(move |tap| channel + tap)).collect();
        let plan = Plan { set, correlation: &correlation, packing: &packing, streams };

        let tiles = packing.tiles(self.geometry.batch, correlation.grid[0]);
        let parts = tiles.len().min(PARTS).min((SUMS / weights).max(1));
        let tiles = tiles.chunks(tiles.len().div_ceil(parts.max(1)).max(1)).collect::<Vec<_>>();
        // Where few parts fit, output channels are divided too.
        let divisions = (PARTS / tiles.len().max(1)).min(correlation.outputs / (4 * MAX_CHANNELS)).max(1);
        let range = correlation.outputs.div_ceil(divisions).next_multiple_of(MAX_CHANNELS);
        let ranges = (0..correlation.outputs).step_by(range);
        let ranges = ranges.map(|first| first..(first + range).min(correlation.outputs)).collect::<Vec<_>>();
        let jobs = ranges.iter().flat_map(|outputs| tiles.iter().map(|tiles| Job { tiles, outputs: outputs.clone() }));
        let jobs = jobs.collect::<Vec<_>>();
        let work = |job: &Job<'_>| self.sum_of(&plan, job);
        let sums = match self.geometry.operations() < SMALL || jobs.len() == 1 {
            true => jobs.iter().map(work).collect::<Vec<_>>(),
            false => jobs.par_iter().map(work).collect::<Vec<_>>(),
        };
        let row = correlation.inputs * correlation.taps.len();
        let mut total = vec![0.0; weights];
        for (job, sums) in jobs.iter().zip(&sums) {
            let of_group = job.outputs.len() * row;
            for (group, sums) in sums.chunks_exact(of_group).enumerate() {
                let to = &mut total[(group * correlation.outputs + job.outputs.start) * row..][..of_group];
                to.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
            }
        }
        total
    }

    /// The sum over a job's tiles: `[groups, outputs of the job, inputs, taps]`.
    fn sum_of(&self, plan: &Plan<'_>, job: &Job<'_>) -> Vec<f32> {
        let mut sums = vec![0.0; plan.correlation.groups * job.outputs.len() * plan.streams.len()];
        job.tiles.iter().for_each(|tile| self.add_tile(plan, job, tile, &mut sums));
        sums
    }

    fn add_tile(&self, plan: &Plan<'_>, job: &Job<'_>, tile: &Tile, sums: &mut [f32]) {
        let Plan { set, correlation, packing, streams } = plan;
        let places = packing.places(tile);
        let vectors = places.iter().map(|place| packing.offset(*place)).collect::<Vec<_>>();
        let of_channel = places.len() * set.lanes;
        with_scratch([packing.size(), job.outputs.len() * of_channel], |[packed, gathered]| {
            packing.pack(self.source, tile, self.rectified, packed);
            for group in 0..correlation.groups {
                let from = group * correlation.inputs * packing.channel_size();
                self.gather(plan, tile, &places, group * correlation.outputs + job.outputs.start, gathered);
                let sums = &mut sums[group * job.outputs.len() * streams.len()..];
                for [output, channels] in blocks(job.outputs.len()) {
                    let most = vectors_for(channels);
                    for (index, vectors) in vectors.chunks(VECTORS).enumerate() {
                        let first = output * of_channel + index * VECTORS * channels * set.lanes;
                        for (index, streams_here) in streams.chunks(most).enumerate() {
                            let task = Gradient {
                                input: packed[from..].as_ptr(),
                                streams: streams_here,
                                vectors,
                                gradient: gathered[first..].as_ptr(),
                                sums: sums[output * streams.len() + index * most..].as_mut_ptr(),
                                sums_stride: streams.len(),
                            };
                            // SAFETY: the packed tile holds a margin for every tap of every vector; the gradient has
                            // all of the tile's vectors for these channels, and the sums a row for each.
                            unsafe { set.gradient(channels, streams_here.len())(&task) };
                        }
                    }
                }
            }
        });
    }

    /// The gradient of a job's outputs as vectors, `[block][vector, channel of the block, lane]`: zero where there is
    /// no image, and where a vector overlaps the one before it, so that nothing counts twice.
    fn gather(&self, plan: &Plan<'_>, tile: &Tile, places: &[Place], outputs: usize, gathered: &mut [f32]) {
        let Plan { set: InstructionSet { lanes, .. }, correlation, packing, .. } = plan;
        let [rows, columns] = correlation.grid;
        let (plane, all) = (rows * columns, correlation.groups * correlation.outputs);
        let length = places.len() * lanes;
        let positions = places.iter().map(|place| place.row * columns + place.column).collect::<Vec<_>>();
        let map = |image: usize, output: usize| {
            let map = (tile.images.start + image) * all + outputs + output;
            &self.gradient[map * plane + tile.rows.start * columns..][..tile.rows.len() * columns]
        };
        // Where each output's vectors begin in its block, and how far they lie apart.
        let blocks = blocks(gathered.len() / length).into_iter();
        let starts = blocks.flat_map(|[first, channels]| {
            (0..channels).map(move |channel| (first * length + channel * lanes, channels * lanes))
        });
        let starts = starts.collect::<Vec<_>>();
        if !packing.across_images {
            for (output, (start, apart)) in starts.iter().enumerate() {
                let vectors = gathered[*start..].chunks_mut(*apart);
                for ((place, position), vector) in places.iter().zip(&positions).zip(vectors) {
                    let vector = &mut vector[..*lanes];
                    vector.copy_from_slice(&map(place.image, output)[*position..][..*lanes]);
                    // Vectors begin at multiples of the lanes, but for one that ends with the row.
                    let counted = place.column.next_multiple_of(*lanes) - place.column;
                    vector[..counted].fill(0.0);
                }
            }
            return;
        }
        if !tile.images.len().is_multiple_of(*lanes) {
            gathered.fill(0.0);
        }
        // Image by image, a run of channels at a time, so that the gradient is read in order.
        let run = run_of(plane);
        for (index, starts) in starts.chunks(run).enumerate() {
            for image in 0..tile.images.len() {
                for (output, (start, apart)) in starts.iter().enumerate() {
                    let map = map(image, index * run + output);
                    for place in packing.places_of_image(tile, image, places.len()) {
                        gathered[start + place * apart + image % lanes] = map[positions[place]];
                    }
                }
            }
        }
    }
}
