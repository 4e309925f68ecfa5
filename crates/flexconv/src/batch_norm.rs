//! Batch norm in training mode, and the rectifier behind it, in one operation.

use std::fmt;
use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::module;

/// What batch norm gives in training mode.
#[derive(Debug, Clone)]
pub struct Normalized<const D: usize> {
    /// The normalised input, scaled and shifted, and rectified if so asked.
    pub output: Tensor<D>,
    /// The mean of each channel, a constant.
    pub mean: Tensor<1>,
    /// The biased variance of each channel, a constant.
    pub variance: Tensor<1>,
    /// Entries of a channel that mean and variance are of.
    pub count: usize,
}

/// Replaces each value by the sum of all processes' values; all call it in the same order.
pub type SumOverProcesses = dyn Fn(&mut [f64]) + Send + Sync;

/// The other processes that have a part of the batch each.
#[derive(Clone)]
pub struct Across {
    /// The sum over them.
    pub sum: Arc<SumOverProcesses>,
    /// What the loss whose gradients this process computes counts in that of all, more than 0.
    pub weight: f64,
}

impl fmt::Debug for Across {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Across").field("weight", &self.weight).finish_non_exhaustive()
    }
}

/// Normalises each channel of `[batch, channels, ...]` over all else with the batch's own statistics, then multiplies
/// by `gamma` and adds `beta`; with `rectified`, negative results become 0, with slope 1 at 0.
///
/// On the `flex` device, in single precision, this runs on the kernels of this crate; anywhere else it is Burn's own.
pub fn batch_norm_train<const D: usize>(
    input: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    rectified: bool,
) -> Normalized<D> {
    #[cfg(feature = "flex")]
    if let Some(normalized) = flex::batch_norm_train(&input, [&gamma, &beta], epsilon, rectified, None) {
        return normalized;
    }
    #[cfg(feature = "cube")]
    if let Some(normalized) =
        crate::composed::batch_norm_train::<burn::backend::Cube, D>(&input, [&gamma, &beta], epsilon, rectified)
    {
        return normalized;
    }
    let dims = input.dims();
    let count = dims.iter().product::<usize>() / dims[1].max(1);
    let result = module::batch_norm_train(input, gamma, beta, epsilon);
    let output = if rectified { result.output.clamp_min(0.0) } else { result.output };
    Normalized { output, mean: result.mean.detach(), variance: result.variance.detach(), count }
}

/// As [`batch_norm_train`], with the statistics of the whole batch, of which each process has a part; so gradients pass
/// through the parts of all (Zhang et al. 2018, "synchronised"). None where the kernels of this crate do not run.
#[allow(unused_variables)]
pub fn batch_norm_train_across<const D: usize>(
    input: &Tensor<D>,
    [gamma, beta]: [&Tensor<1>; 2],
    epsilon: f64,
    rectified: bool,
    across: &Across,
) -> Option<Normalized<D>> {
    #[cfg(feature = "flex")]
    return flex::batch_norm_train(input, [gamma, beta], epsilon, rectified, Some(across));
    #[cfg(not(feature = "flex"))]
    None
}

/// Takes off each channel of `[batch, channels, ...]` its mean over the whole batch, of which each process has a part.
/// None where the kernels of this crate do not run.
#[allow(unused_variables)]
pub fn centre_across<const D: usize>(input: &Tensor<D>, across: &Across) -> Option<Tensor<D>> {
    #[cfg(feature = "flex")]
    return flex::centre_across(input, across);
    #[cfg(not(feature = "flex"))]
    None
}

#[cfg(feature = "flex")]
mod flex {
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use super::{Across, Normalized};
    use crate::correlate::Target;
    use crate::elementwise::vectorized;
    use crate::operation::{Operand, constant, output, values};

    /// Where the entries of a channel lie: `[batch, channels, plane]`.
    #[derive(Clone, Copy)]
    struct Layout {
        batch: usize,
        channels: usize,
        plane: usize,
    }

    /// What is known of a channel.
    #[derive(Clone, Copy, Default)]
    struct Channel {
        mean: f64,
        variance: f64,
        /// `1 / sqrt(variance + epsilon)`.
        inverse_deviation: f64,
        gamma: f32,
        beta: f32,
    }

    impl Channel {
        /// What the centred input is multiplied by.
        fn scale(&self) -> f32 {
            (f64::from(self.gamma) * self.inverse_deviation) as f32
        }
    }

    pub(super) fn batch_norm_train<const D: usize>(
        input: &Tensor<D>,
        [gamma, beta]: [&Tensor<1>; 2],
        epsilon: f64,
        rectified: bool,
        across: Option<&Across>,
    ) -> Option<Normalized<D>> {
        let shape = input.dims();
        let layout = Layout::of(shape)?;
        if gamma.dims() != [layout.channels] || beta.dims() != [layout.channels] {
            return None;
        }
        let operands = [Operand::of(input)?, Operand::of(gamma)?, Operand::of(beta)?];
        let [input, gamma, beta] = operands.each_ref().map(Operand::values);
        let parameters = [gamma.get(), beta.get()];
        let known = |channel: usize, [mean, variance]: [f64; 2]| {
            let inverse_deviation = (variance + epsilon).sqrt().recip();
            let [gamma, beta] = parameters.map(|entries| entries[channel]);
            Channel { mean, variance, inverse_deviation, gamma, beta }
        };
        let (result, channels, count) = match across {
            None => {
                let (result, channels) = layout.normalized(input.get(), known, rectified);
                (result, channels, layout.count())
            }
            Some(across) => layout.normalized_across(input.get(), known, rectified, across),
        };
        let channel_values = |of: &dyn Fn(&Channel) -> f64| {
            let entries = channels.iter().map(|channel| of(channel) as f32).collect();
            constant(&operands[0], values(entries, [layout.channels]))
        };
        let mean = channel_values(&|channel| channel.mean);
        let variance = channel_values(&|channel| channel.variance);
        let result = values(result, shape);
        let across = across.cloned();
        let output = output(operands, result, move |gradient, [of_input, ..]| {
            let (gradient, input) = (gradient.get(), input.get());
            let (of_x, of_gamma, of_beta) = match &across {
                None => layout.gradients(gradient, input, &channels, rectified, of_input),
                Some(across) => {
                    layout.gradients_across(gradient, input, &channels, rectified, of_input, (across, count))
                }
            };
            let channel_values = |entries| Some(values(entries, [layout.channels]));
            [of_x.map(|entries| values(entries, shape)), channel_values(of_gamma), channel_values(of_beta)]
        });
        Some(Normalized { output, mean, variance, count })
    }

    pub(super) fn centre_across<const D: usize>(input: &Tensor<D>, across: &Across) -> Option<Tensor<D>> {
        let (shape, operand) = (input.dims(), Operand::of(input)?);
        let layout = Layout::of(shape)?;
        let result = values(layout.centred(operand.values().get(), across, 1.0), shape);
        let across = across.clone();
        Some(output([operand], result, move |gradient, [of_input]| {
            // The map is its own adjoint.
            [of_input.then(|| values(layout.centred(gradient.get(), &across, across.weight), shape))]
        }))
    }

    impl Layout {
        /// The layout of a tensor that has entries.
        fn of<const D: usize>(shape: [usize; D]) -> Option<Self> {
            let layout = Self { batch: shape[0], channels: shape[1], plane: shape[2..].iter().product() };
            (!shape.contains(&0)).then_some(layout)
        }

        /// The entries less the mean of their channel over all processes, where this one's count so much.
        fn centred(self, entries: &[f32], across: &Across, weight: f64) -> Vec<f32> {
            let sums = (0..self.channels)
                .map(|channel| weight * self.planes(channel).map(|plane| f64::from(sum(&entries[plane]))).sum::<f64>());
            let mut sums = sums.chain([self.count() as f64]).collect::<Vec<_>>();
            (across.sum)(&mut sums);
            let count = sums.pop().expect("the count is the last");
            let means = sums.into_iter().map(|sum| (sum / count / weight) as f32).collect::<Vec<_>>();
            let planes = entries.chunks_exact(self.plane).zip((0..self.channels).cycle());
            planes
                .flat_map(|(plane, channel)| plane.iter().map(move |entry| (channel, entry)))
                .map(|(channel, entry)| entry - means[channel])
                .collect()
        }

        /// The parts of all entries that a channel's are, in order.
        fn planes(self, channel: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
            let first = move |image: usize| (image * self.channels + channel) * self.plane;
            (0..self.batch).map(move |image| first(image)..first(image) + self.plane)
        }

        /// Whether planes are too short to fill vectors: then runs of channels are taken together.
        fn has_small_planes(self) -> bool {
            self.plane < 2 * SUMS
        }

        /// Runs of channels whose entries of an image fill vectors, and the caches.
        fn runs(self) -> Vec<Run> {
            let channels = RUN.div_ceil(self.plane);
            let firsts = (0..self.channels).step_by(channels);
            firsts.map(|first| Run { layout: self, first, channels: channels.min(self.channels - first) }).collect()
        }

        fn size(self) -> usize {
            self.batch * self.channels * self.plane
        }

        /// Entries of a channel.
        fn count(self) -> usize {
            self.batch * self.plane
        }

        fn normalized(
            self,
            input: &[f32],
            known: impl Fn(usize, [f64; 2]) -> Channel + Sync,
            rectified: bool,
        ) -> (Vec<f32>, Vec<Channel>) {
            let mut result = Vec::with_capacity(self.size());
            let target = Target(result.as_mut_ptr());
            let channels = match self.has_small_planes() {
                true => self
                    .runs()
                    .into_par_iter()
                    .flat_map_iter(|run| {
                        let statistics = run.statistics(input).into_iter().enumerate();
                        let channels = statistics.map(|(index, statistics)| known(run.first + index, statistics));
                        let channels = channels.collect::<Vec<_>>();
                        // SAFETY: this run of channels, which no other thread writes.
                        unsafe { run.write(input, target, &channels, rectified) };
                        channels
                    })
                    .collect(),
                false => (0..self.channels)
                    .into_par_iter()
                    .map(|channel| {
                        let known = known(channel, self.statistics(input, channel));
                        // SAFETY: this channel, which no other thread writes.
                        unsafe { self.write(input, target, channel, &known, rectified) };
                        known
                    })
                    .collect(),
            };
            // SAFETY: all channels are written.
            unsafe { result.set_len(self.size()) };
            (result, channels)
        }

        /// As `normalized`, with the statistics of all processes' entries, and the number of a channel's entries.
        fn normalized_across(
            self,
            input: &[f32],
            known: impl Fn(usize, [f64; 2]) -> Channel + Sync,
            rectified: bool,
            across: &Across,
        ) -> (Vec<f32>, Vec<Channel>, usize) {
            let own: Vec<[f64; 2]> = match self.has_small_planes() {
                true => self.runs().into_par_iter().flat_map_iter(|run| run.statistics(input)).collect(),
                false => (0..self.channels).into_par_iter().map(|channel| self.statistics(input, channel)).collect(),
            };
            let (count, statistics) = merged(self.count() as f64, &own, across);
            let channels = statistics.into_iter().enumerate().map(|(channel, statistics)| known(channel, statistics));
            let channels = channels.collect::<Vec<_>>();
            let mut result = Vec::with_capacity(self.size());
            let target = Target(result.as_mut_ptr());
            match self.has_small_planes() {
                true => self.runs().into_par_iter().for_each(|run| {
                    // SAFETY: this run of channels, which no other thread writes.
                    unsafe { run.write(input, target, run.own(&channels), rectified) };
                }),
                false => channels.par_iter().enumerate().for_each(|(channel, known)| {
                    // SAFETY: this channel, which no other thread writes.
                    unsafe { self.write(input, target, channel, known, rectified) };
                }),
            }
            // SAFETY: all channels are written.
            unsafe { result.set_len(self.size()) };
            (result, channels, count as usize)
        }

        /// Writes the normalised entries of a channel.
        ///
        /// # Safety
        /// The target is good for the channel's entries, and no other thread touches them.
        unsafe fn write(self, input: &[f32], target: Target, channel: usize, known: &Channel, rectified: bool) {
            for plane in self.planes(channel) {
                // SAFETY: the caller's promise.
                let to = unsafe { target.slice(plane.clone()) };
                normalize(to, &input[plane], [known.mean as f32, known.scale(), known.beta], rectified);
            }
        }

        /// Mean and biased variance of a channel, merged plane by plane (Chan, Golub and LeVeque 1979).
        fn statistics(self, input: &[f32], channel: usize) -> [f64; 2] {
            let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
            let length = self.plane as f64;
            for plane in self.planes(channel) {
                let plane = &input[plane];
                let plane_mean = f64::from(sum(plane)) / length;
                let plane_squares = f64::from(centred_squares(plane, plane_mean as f32));
                let distance = plane_mean - mean;
                let total = count + length;
                mean += distance * length / total;
                squares += plane_squares + distance * distance * count * length / total;
                count = total;
            }
            [mean, squares / count]
        }

        /// The gradients of input (if it is needed), gamma and beta.
        fn gradients(
            self,
            gradient: &[f32],
            input: &[f32],
            channels: &[Channel],
            rectified: bool,
            of_input: bool,
        ) -> (Option<Vec<f32>>, Vec<f32>, Vec<f32>) {
            let mut result = Vec::with_capacity(if of_input { self.size() } else { 0 });
            let target = of_input.then_some(Target(result.as_mut_ptr()));
            let (signals, count) = ([gradient, input], self.count() as f64);
            let sums: Vec<[f64; 2]> = match self.has_small_planes() {
                true => self
                    .runs()
                    .into_par_iter()
                    .flat_map_iter(|run| {
                        let channels = run.own(channels);
                        let sums = run.gradient_sums(signals, channels, rectified);
                        if let Some(target) = target {
                            let means = sums.iter().map(|sums| means_of(*sums, count)).collect::<Vec<_>>();
                            // SAFETY: this run of channels, which no other thread writes.
                            unsafe { run.write_gradient(signals, target, channels, &means, rectified) };
                        }
                        sums
                    })
                    .collect(),
                false => channels
                    .par_iter()
                    .enumerate()
                    .map(|(channel, known)| {
                        let sums = self.gradient_sums(signals, channel, known, rectified);
                        if let Some(target) = target {
                            let means = means_of(sums, count);
                            // SAFETY: this channel, which no other thread writes.
                            unsafe { self.write_gradient(signals, target, (channel, known), means, rectified) };
                        }
                        sums
                    })
                    .collect(),
            };
            if of_input {
                // SAFETY: all channels are written.
                unsafe { result.set_len(self.size()) };
            }
            let (of_gamma, of_beta) = of_parameters(&sums, channels);
            (of_input.then_some(result), of_gamma, of_beta)
        }

        /// As `gradients`, of all processes' losses, for statistics of so many entries of all.
        fn gradients_across(
            self,
            gradient: &[f32],
            input: &[f32],
            channels: &[Channel],
            rectified: bool,
            of_input: bool,
            (across, count): (&Across, usize),
        ) -> (Option<Vec<f32>>, Vec<f32>, Vec<f32>) {
            let signals = [gradient, input];
            let sums: Vec<[f64; 2]> = match self.has_small_planes() {
                true => self
                    .runs()
                    .into_par_iter()
                    .flat_map_iter(|run| run.gradient_sums(signals, run.own(channels), rectified))
                    .collect(),
                false => channels
                    .par_iter()
                    .enumerate()
                    .map(|(channel, known)| self.gradient_sums(signals, channel, known, rectified))
                    .collect(),
            };
            let (of_gamma, of_beta) = of_parameters(&sums, channels);
            // Whether the input's gradient is needed is the same everywhere: the networks are.
            if !of_input {
                return (None, of_gamma, of_beta);
            }
            let mut all = sums.iter().flatten().map(|sum| across.weight * sum).collect::<Vec<_>>();
            (across.sum)(&mut all);
            // The loss of this process's backward pass is not yet weighted.
            let count = count as f64 * across.weight;
            let means = all.chunks_exact(2).map(|sums| means_of([sums[0], sums[1]], count)).collect::<Vec<_>>();
            let mut result = Vec::with_capacity(self.size());
            let target = Target(result.as_mut_ptr());
            match self.has_small_planes() {
                true => self.runs().into_par_iter().for_each(|run| {
                    let (channels, means) = (run.own(channels), run.own(&means));
                    // SAFETY: this run of channels, which no other thread writes.
                    unsafe { run.write_gradient(signals, target, channels, means, rectified) };
                }),
                false => channels.par_iter().enumerate().for_each(|(channel, known)| {
                    // SAFETY: this channel, which no other thread writes.
                    unsafe { self.write_gradient(signals, target, (channel, known), means[channel], rectified) };
                }),
            }
            // SAFETY: all channels are written.
            unsafe { result.set_len(self.size()) };
            (Some(result), of_gamma, of_beta)
        }

        /// The sums of a channel's gradients, and of their products with the centred input.
        fn gradient_sums(
            self,
            [gradient, input]: [&[f32]; 2],
            channel: usize,
            known: &Channel,
            rectified: bool,
        ) -> [f64; 2] {
            let numbers = [known.mean as f32, known.scale(), known.beta];
            self.planes(channel).fold([0.0; 2], |sums, plane| {
                let [plain, product] = gradient_sums(&gradient[plane.clone()], &input[plane], numbers, rectified);
                [sums[0] + f64::from(plain), sums[1] + f64::from(product)]
            })
        }

        /// Writes the input's gradient of a channel.
        ///
        /// # Safety
        /// The target is good for the channel's entries, and no other thread touches them.
        unsafe fn write_gradient(
            self,
            [gradient, input]: [&[f32]; 2],
            target: Target,
            (channel, known): (usize, &Channel),
            [plain, product]: [f64; 2],
            rectified: bool,
        ) {
            let numbers = [known.mean as f32, known.scale(), known.beta];
            let means = [plain, product * known.inverse_deviation.powi(2)].map(|mean| mean as f32);
            for plane in self.planes(channel) {
                // SAFETY: the caller's promise.
                let to = unsafe { target.slice(plane.clone()) };
                input_gradient(to, &gradient[plane.clone()], &input[plane], numbers, means, rectified);
            }
        }
    }

    /// Mean and variance of each channel over all processes, and the number of entries, from those of this one's.
    fn merged(count: f64, own: &[[f64; 2]], across: &Across) -> (f64, Vec<[f64; 2]>) {
        let mut sums = own.iter().map(|[mean, _]| count * mean).chain([count]).collect::<Vec<_>>();
        (across.sum)(&mut sums);
        let total = sums.pop().expect("the count is the last");
        let means = sums.into_iter().map(|sum| sum / total).collect::<Vec<_>>();
        // About the mean of all: sums of plain squares would cancel where that is large.
        let about = |([own, variance], mean): (&[f64; 2], &f64)| count * (variance + (own - mean).powi(2));
        let mut squares = own.iter().zip(&means).map(about).collect::<Vec<_>>();
        (across.sum)(&mut squares);
        (total, means.into_iter().zip(squares).map(|(mean, squares)| [mean, squares / total]).collect())
    }

    /// Sums over this many entries, as means.
    fn means_of(sums: [f64; 2], count: f64) -> [f64; 2] {
        sums.map(|sum| sum / count)
    }

    /// The gradients of gamma and beta.
    fn of_parameters(sums: &[[f64; 2]], channels: &[Channel]) -> (Vec<f32>, Vec<f32>) {
        let both = sums.iter().zip(channels);
        both.map(|([plain, product], known)| ((product * known.inverse_deviation) as f32, *plain as f32)).unzip()
    }

    /// Entries of an image that a run of channels has, about.
    const RUN: usize = 256;
    /// Images whose entries are summed in single precision, before the sums are.
    const IMAGES: usize = 64;

    /// Channels that are taken together, column by column: each entry of an image is a column.
    struct Run {
        layout: Layout,
        first: usize,
        channels: usize,
    }

    impl Run {
        /// The run's part of each image.
        fn rows(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
            let Layout { batch, channels, plane } = self.layout;
            let (first, count) = (self.first * plane, self.columns());
            (0..batch).map(move |image| image * channels * plane + first).map(move |first| first..first + count)
        }

        fn columns(&self) -> usize {
            self.channels * self.layout.plane
        }

        /// A number of each channel, for each of its columns.
        fn spread(&self, of: impl Fn(usize) -> f32) -> Vec<f32> {
            (0..self.columns()).map(|column| of(column / self.layout.plane)).collect()
        }

        /// Adds up the rows with the given function, and then the columns of each channel.
        fn sums(&self, add: impl Fn(&mut [f32], std::ops::Range<usize>)) -> Vec<f64> {
            let mut totals = vec![0.0; self.channels];
            let rows = self.rows().collect::<Vec<_>>();
            for rows in rows.chunks(IMAGES) {
                let mut sums = vec![0.0_f32; self.columns()];
                rows.iter().for_each(|row| add(&mut sums, row.clone()));
                for (total, sums) in totals.iter_mut().zip(sums.chunks_exact(self.layout.plane)) {
                    *total += sums.iter().map(|sum| f64::from(*sum)).sum::<f64>();
                }
            }
            totals
        }

        /// The run's channels of all.
        fn own<'a, T>(&self, all: &'a [T]) -> &'a [T] {
            &all[self.first..self.first + self.channels]
        }

        /// Mean and biased variance of each channel.
        fn statistics(&self, input: &[f32]) -> Vec<[f64; 2]> {
            let count = self.layout.count() as f64;
            let means = self.sums(|sums, row| add_row(sums, &input[row]));
            let means = means.into_iter().map(|sum| sum / count).collect::<Vec<_>>();
            let spread = self.spread(|channel| means[channel] as f32);
            let squares = self.sums(|sums, row| add_squares(sums, &input[row], &spread));
            means.into_iter().zip(squares).map(|(mean, squares)| [mean, squares / count]).collect()
        }

        /// Writes the normalised entries.
        ///
        /// # Safety
        /// The target is good for the run's entries, and no other thread touches them.
        unsafe fn write(&self, input: &[f32], target: Target, channels: &[Channel], rectified: bool) {
            let numbers = self.numbers(channels);
            for row in self.rows() {
                // SAFETY: the caller's promise.
                let to = unsafe { target.slice(row.clone()) };
                normalize_columns(to, &input[row], numbers.each_ref().map(Vec::as_slice), rectified);
            }
        }

        /// Mean, scale and beta of each column.
        fn numbers(&self, channels: &[Channel]) -> [Vec<f32>; 3] {
            [
                self.spread(|channel| channels[channel].mean as f32),
                self.spread(|channel| channels[channel].scale()),
                self.spread(|channel| channels[channel].beta),
            ]
        }

        /// The sums of each channel's gradients, and of their products with the centred input.
        fn gradient_sums(
            &self,
            [gradient, input]: [&[f32]; 2],
            channels: &[Channel],
            rectified: bool,
        ) -> Vec<[f64; 2]> {
            let numbers = self.numbers(channels);
            let numbers = numbers.each_ref().map(Vec::as_slice);
            let sums = |product: bool| {
                self.sums(|sums, row| {
                    add_gradients(sums, &gradient[row.clone()], &input[row], numbers, [rectified, product]);
                })
            };
            sums(false).into_iter().zip(sums(true)).map(|(plain, product)| [plain, product]).collect()
        }

        /// Writes the input's gradient.
        ///
        /// # Safety
        /// The target is good for the run's entries, and no other thread touches them.
        unsafe fn write_gradient(
            &self,
            [gradient, input]: [&[f32]; 2],
            target: Target,
            channels: &[Channel],
            means: &[[f64; 2]],
            rectified: bool,
        ) {
            let numbers = self.numbers(channels);
            let numbers = numbers.each_ref().map(Vec::as_slice);
            let means = [
                self.spread(|channel| means[channel][0] as f32),
                self.spread(|channel| (means[channel][1] * channels[channel].inverse_deviation.powi(2)) as f32),
            ];
            for row in self.rows() {
                // SAFETY: the caller's promise.
                let to = unsafe { target.slice(row.clone()) };
                let means = means.each_ref().map(Vec::as_slice);
                input_gradient_columns(to, [&gradient[row.clone()], &input[row]], numbers, means, rectified);
            }
        }
    }

    vectorized! {
        fn add_row(sums: &mut [f32], row: &[f32]) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }

    vectorized! {
        fn add_squares(sums: &mut [f32], row: &[f32], means: &[f32]) {
            let columns = sums.iter_mut().zip(row).zip(means);
            columns.for_each(|((sum, value), mean)| *sum += (value - mean) * (value - mean));
        }
    }

    vectorized! {
        fn normalize_columns(
            to: &mut [std::mem::MaybeUninit<f32>],
            row: &[f32],
            numbers: [&[f32]; 3],
            rectified: bool,
        ) {
            let [means, scales, betas] = numbers.map(|numbers| &numbers[..row.len()]);
            for (column, (to, value)) in to.iter_mut().zip(row).enumerate() {
                let value = (value - means[column]) * scales[column] + betas[column];
                to.write(if rectified && value < 0.0 { 0.0 } else { value });
            }
        }
    }

    vectorized! {
        fn add_gradients(
            sums: &mut [f32],
            gradients: &[f32],
            row: &[f32],
            numbers: [&[f32]; 3],
            which: [bool; 2],
        ) {
            let [rectified, product] = which;
            let [means, scales, betas] = numbers.map(|numbers| &numbers[..row.len()]);
            for (column, ((sum, gradient), value)) in sums.iter_mut().zip(gradients).zip(row).enumerate() {
                let numbers = [means[column], scales[column], betas[column]];
                let [gradient, centred] = behind(*gradient, *value, numbers, rectified);
                *sum += if product { gradient * centred } else { gradient };
            }
        }
    }

    vectorized! {
        fn input_gradient_columns(
            to: &mut [std::mem::MaybeUninit<f32>],
            rows: [&[f32]; 2],
            numbers: [&[f32]; 3],
            means: [&[f32]; 2],
            rectified: bool,
        ) {
            let [gradients, inputs] = rows.map(|row| &row[..to.len()]);
            let [centres, scales, betas] = numbers.map(|numbers| &numbers[..to.len()]);
            let means = means.map(|means| &means[..to.len()]);
            for (column, to) in to.iter_mut().enumerate() {
                let numbers = [centres[column], scales[column], betas[column]];
                let [gradient, centred] = behind(gradients[column], inputs[column], numbers, rectified);
                to.write(scales[column] * (gradient - means[0][column] - centred * means[1][column]));
            }
        }
    }

    /// Sums that run side by side, so that they fill vectors.
    const SUMS: usize = 32;

    vectorized! {
        fn sum(values: &[f32]) -> f32 {
            let mut sums = [0.0_f32; SUMS];
            let chunks = values.chunks_exact(SUMS);
            let rest = chunks.remainder().iter().sum::<f32>();
            for chunk in chunks {
                (0..SUMS).for_each(|i| sums[i] += chunk[i]);
            }
            sums.iter().sum::<f32>() + rest
        }
    }

    vectorized! {
        fn centred_squares(values: &[f32], mean: f32) -> f32 {
            let mut sums = [0.0_f32; SUMS];
            let chunks = values.chunks_exact(SUMS);
            let rest = chunks.remainder().iter().map(|value| (value - mean) * (value - mean)).sum::<f32>();
            for chunk in chunks {
                (0..SUMS).for_each(|i| sums[i] += (chunk[i] - mean) * (chunk[i] - mean));
            }
            sums.iter().sum::<f32>() + rest
        }
    }

    vectorized! {
        fn normalize(to: &mut [std::mem::MaybeUninit<f32>], input: &[f32], numbers: [f32; 3], rectified: bool) {
            let [mean, scale, beta] = numbers;
            let pairs = to.iter_mut().zip(input);
            match rectified {
                true => pairs.for_each(|(to, value)| {
                    let value = (value - mean) * scale + beta;
                    to.write(if value < 0.0 { 0.0 } else { value });
                }),
                false => pairs.for_each(|(to, value)| {
                    to.write((value - mean) * scale + beta);
                }),
            }
        }
    }

    /// The gradient in front of the rectifier, and the centred input.
    #[inline(always)]
    fn behind(gradient: f32, input: f32, [mean, scale, beta]: [f32; 3], rectified: bool) -> [f32; 2] {
        let centred = input - mean;
        let silent = rectified && centred * scale + beta < 0.0;
        [if silent { 0.0 } else { gradient }, centred]
    }

    vectorized! {
        fn gradient_sums(gradient: &[f32], input: &[f32], numbers: [f32; 3], rectified: bool) -> [f32; 2] {
            let (mut plain, mut products) = ([0.0_f32; SUMS], [0.0_f32; SUMS]);
            let (gradients, inputs) = (gradient.chunks_exact(SUMS), input.chunks_exact(SUMS));
            let mut rest = [0.0_f32; 2];
            for (gradient, input) in gradients.remainder().iter().zip(inputs.remainder()) {
                let [gradient, centred] = behind(*gradient, *input, numbers, rectified);
                rest[0] += gradient;
                rest[1] += gradient * centred;
            }
            for (gradient, input) in gradients.zip(inputs) {
                for i in 0..SUMS {
                    let [gradient, centred] = behind(gradient[i], input[i], numbers, rectified);
                    plain[i] += gradient;
                    products[i] += gradient * centred;
                }
            }
            [plain.iter().sum::<f32>() + rest[0], products.iter().sum::<f32>() + rest[1]]
        }
    }

    vectorized! {
        fn input_gradient(
            to: &mut [std::mem::MaybeUninit<f32>],
            gradient: &[f32],
            input: &[f32],
            numbers: [f32; 3],
            means: [f32; 2],
            rectified: bool,
        ) {
            let [_, scale, _] = numbers;
            for ((to, gradient), input) in to.iter_mut().zip(gradient).zip(input) {
                let [gradient, centred] = behind(*gradient, *input, numbers, rectified);
                to.write(scale * (gradient - means[0] - centred * means[1]));
            }
        }
    }
}
