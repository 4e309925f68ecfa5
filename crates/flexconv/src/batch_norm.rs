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

/// Normalises each channel of `[batch, channels, ...]` over all else with the batch's own statistics, then multiplies by `gamma` and adds
/// `beta`; with `rectified`, negative results become 0, with slope 1 at 0.
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
            let work = |channel: usize| {
                let [mean, variance] = self.statistics(input, channel);
                let inverse_deviation = (variance + epsilon).sqrt().recip();
                let known =
                    Channel { mean, variance, inverse_deviation, gamma: gamma[channel], beta: beta[channel] };
                for plane in self.planes(channel) {
                    // SAFETY: a plane of this channel, which no other thread writes.
                    let to = unsafe { target.slice(plane.clone()) };
                    normalize(to, &input[plane], [mean as f32, known.scale(), known.beta], rectified);
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
