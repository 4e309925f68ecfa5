//! Batch norm in training mode, and the rectifier behind it, in one operation.

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
    if let Some(normalized) = flex::batch_norm_train(&input, &gamma, &beta, epsilon, rectified) {
        return normalized;
    }
    let result = module::batch_norm_train(input, gamma, beta, epsilon);
    let output = if rectified { result.output.clamp_min(0.0) } else { result.output };
    Normalized { output, mean: result.mean.detach(), variance: result.variance.detach() }
}

#[cfg(feature = "flex")]
mod flex {
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use super::Normalized;
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
        gamma: &Tensor<1>,
        beta: &Tensor<1>,
        epsilon: f64,
        rectified: bool,
    ) -> Option<Normalized<D>> {
        let shape = input.dims();
        let layout = Layout { batch: shape[0], channels: shape[1], plane: shape[2..].iter().product() };
        if shape.contains(&0) || gamma.dims() != [layout.channels] || beta.dims() != [layout.channels] {
            return None;
        }
        let operands = [Operand::of(input)?, Operand::of(gamma)?, Operand::of(beta)?];
        let [input, gamma, beta] = operands.each_ref().map(Operand::values);
        let (result, channels) = layout.normalized(input.get(), [gamma.get(), beta.get()], epsilon, rectified);
        let channel_values = |of: &dyn Fn(&Channel) -> f64| {
            let entries = channels.iter().map(|channel| of(channel) as f32).collect();
            constant(&operands[0], values(entries, [layout.channels]))
        };
        let mean = channel_values(&|channel| channel.mean);
        let variance = channel_values(&|channel| channel.variance);
        let result = values(result, shape);
        let output = output(operands, result, move |gradient, [of_input, ..]| {
            let (of_x, of_gamma, of_beta) =
                layout.gradients(gradient.get(), input.get(), &channels, rectified, of_input);
            let channel_values = |entries| Some(values(entries, [layout.channels]));
            [of_x.map(|entries| values(entries, shape)), channel_values(of_gamma), channel_values(of_beta)]
        });
        Some(Normalized { output, mean, variance })
    }

    impl Layout {
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

        fn normalized(
            self,
            input: &[f32],
            [gamma, beta]: [&[f32]; 2],
            epsilon: f64,
            rectified: bool,
        ) -> (Vec<f32>, Vec<Channel>) {
            let mut result = Vec::with_capacity(self.size());
            let target = Target(result.as_mut_ptr());
            let known = |channel: usize, [mean, variance]: [f64; 2]| {
                let inverse_deviation = (variance + epsilon).sqrt().recip();
                Channel { mean, variance, inverse_deviation, gamma: gamma[channel], beta: beta[channel] }
            };
            if self.has_small_planes() {
                let runs = self.runs().into_par_iter();
                let channels = runs.flat_map_iter(|run| {
                    // SAFETY: this run of channels, which no other thread writes.
                    unsafe { run.normalized(input, target, known, rectified) }
                });
                let channels = channels.collect();
                // SAFETY: the runs are all channels.
                unsafe { result.set_len(self.size()) };
                return (result, channels);
            }
            let work = |channel: usize| {
                let known = known(channel, self.statistics(input, channel));
                for plane in self.planes(channel) {
                    // SAFETY: a plane of this channel, which no other thread writes.
                    let to = unsafe { target.slice(plane.clone()) };
                    normalize(to, &input[plane], [known.mean as f32, known.scale(), known.beta], rectified);
                }
                known
            };
            let channels = (0..self.channels).into_par_iter().map(work).collect();
            // SAFETY: the planes of all channels are all entries.
            unsafe { result.set_len(self.size()) };
            (result, channels)
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
            let target = Target(result.as_mut_ptr());
            if self.has_small_planes() {
                let runs = self.runs().into_par_iter();
                let of_parameters = runs.flat_map_iter(|run| {
                    let channels = &channels[run.first..run.first + run.channels];
                    // SAFETY: this run of channels, which no other thread writes.
                    unsafe { run.gradients([gradient, input], channels, rectified, of_input.then_some(target)) }
                });
                let (of_gamma, of_beta) = of_parameters.unzip();
                if of_input {
                    // SAFETY: the runs are all channels.
                    unsafe { result.set_len(self.size()) };
                }
                return (of_input.then_some(result), of_gamma, of_beta);
            }
            let work = |channel: usize| {
                let known = &channels[channel];
                let numbers = [known.mean as f32, known.scale(), known.beta];
                // Sums of the gradient, and of its products with the centred input.
                let mut sums = [0.0; 2];
                for plane in self.planes(channel) {
                    let [plain, product] = gradient_sums(&gradient[plane.clone()], &input[plane], numbers, rectified);
                    sums[0] += f64::from(plain);
                    sums[1] += f64::from(product);
                }
                let of_gamma = sums[1] * known.inverse_deviation;
                if of_input {
                    let count = (self.batch * self.plane) as f64;
                    let means = [sums[0] / count, of_gamma * known.inverse_deviation / count].map(|mean| mean as f32);
                    for plane in self.planes(channel) {
                        // SAFETY: a plane of this channel, which no other thread writes.
                        let to = unsafe { target.slice(plane.clone()) };
                        input_gradient(to, &gradient[plane.clone()], &input[plane], numbers, means, rectified);
                    }
                }
                (of_gamma as f32, sums[0] as f32)
            };
            let (of_gamma, of_beta) = (0..self.channels).into_par_iter().map(work).unzip();
            if of_input {
                // SAFETY: the planes of all channels are all entries.
                unsafe { result.set_len(self.size()) };
            }
            (of_input.then_some(result), of_gamma, of_beta)
        }
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

        /// # Safety
        /// The target is good for the run's entries, and no other thread touches them.
        unsafe fn normalized(
            &self,
            input: &[f32],
            target: Target,
            known: impl Fn(usize, [f64; 2]) -> Channel,
            rectified: bool,
        ) -> Vec<Channel> {
            let count = (self.layout.batch * self.layout.plane) as f64;
            let means = self.sums(|sums, row| add_row(sums, &input[row]));
            let means = means.into_iter().map(|sum| sum / count).collect::<Vec<_>>();
            let spread = self.spread(|channel| means[channel] as f32);
            let squares = self.sums(|sums, row| add_squares(sums, &input[row], &spread));
            let channels = means.iter().zip(squares).enumerate();
            let channels = channels.map(|(index, (mean, squares))| known(self.first + index, [*mean, squares / count]));
            let channels = channels.collect::<Vec<_>>();
            let numbers = self.numbers(&channels);
            for row in self.rows() {
                // SAFETY: the caller's promise.
                let to = unsafe { target.slice(row.clone()) };
                normalize_columns(to, &input[row], numbers.each_ref().map(Vec::as_slice), rectified);
            }
            channels
        }

        /// Mean, scale and beta of each column.
        fn numbers(&self, channels: &[Channel]) -> [Vec<f32>; 3] {
            [
                self.spread(|channel| channels[channel].mean as f32),
                self.spread(|channel| channels[channel].scale()),
                self.spread(|channel| channels[channel].beta),
            ]
        }

        /// The gradients of gamma and beta; that of the input goes to the target, if there is one.
        ///
        /// # Safety
        /// The target is good for the run's entries, and no other thread touches them.
        unsafe fn gradients(
            &self,
            [gradient, input]: [&[f32]; 2],
            channels: &[Channel],
            rectified: bool,
            target: Option<Target>,
        ) -> Vec<(f32, f32)> {
            let numbers = self.numbers(channels);
            let numbers = numbers.each_ref().map(Vec::as_slice);
            let sums = |product: bool| {
                self.sums(|sums, row| {
                    add_gradients(sums, &gradient[row.clone()], &input[row], numbers, [rectified, product]);
                })
            };
            let (of_beta, products) = (sums(false), sums(true));
            let of_gamma = products.iter().zip(channels).map(|(sum, channel)| sum * channel.inverse_deviation);
            let of_gamma = of_gamma.collect::<Vec<_>>();
            if let Some(target) = target {
                let count = (self.layout.batch * self.layout.plane) as f64;
                let means = [
                    self.spread(|channel| (of_beta[channel] / count) as f32),
                    self.spread(|channel| (of_gamma[channel] * channels[channel].inverse_deviation / count) as f32),
                ];
                for row in self.rows() {
                    // SAFETY: the caller's promise.
                    let to = unsafe { target.slice(row.clone()) };
                    let means = means.each_ref().map(Vec::as_slice);
                    input_gradient_columns(to, [&gradient[row.clone()], &input[row]], numbers, means, rectified);
                }
            }
            of_gamma.into_iter().zip(of_beta).map(|(gamma, beta)| (gamma as f32, beta as f32)).collect()
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
