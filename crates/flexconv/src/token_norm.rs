//! Norms over the features of each token, in one pass each way.

use burn::tensor::Tensor;

/// A norm over the last axis, times a factor each, plus a summand each: by mean and standard deviation if there are
/// summands (Ba et al. 2016), else by the root of the mean square (Zhang and Sennrich 2019). `factors` and `summands` are
/// `[features]`.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn token_norm<const D: usize>(
    input: Tensor<D>,
    factors: Tensor<1>,
    summands: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(output) = flex::token_norm(&input, &factors, summands.as_ref(), epsilon) {
        return output;
    }
    match summands {
        Some(summands) => {
            let centred = input.clone() - input.mean_dim(D - 1);
            let variance = centred.clone().square().mean_dim(D - 1);
            centred / variance.add_scalar(epsilon).sqrt() * factors.unsqueeze() + summands.unsqueeze()
        }
        None => {
            let mean = input.clone().square().mean_dim(D - 1);
            input / mean.add_scalar(epsilon).sqrt() * factors.unsqueeze()
        }
    }
}

#[cfg(feature = "flex")]
mod flex {
    use std::mem::MaybeUninit;

    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use crate::elementwise::{PART, dot, sum, vectorized, written};
    use crate::operation::{Operand, Values, output, values};

    pub(super) fn token_norm<const D: usize>(
        input: &Tensor<D>,
        factors: &Tensor<1>,
        summands: Option<&Tensor<1>>,
        epsilon: f64,
    ) -> Option<Tensor<D>> {
        let shape = input.dims();
        let features = shape[D - 1];
        if features == 0 || factors.dims() != [features] || summands.is_some_and(|other| other.dims() != [features]) {
            return None;
        }
        let operands = [Operand::of(input)?, Operand::of(factors)?];
        let summands = match summands {
            Some(summands) => Some(Operand::of(summands)?),
            None => None,
        };
        let [input, factors] = operands.each_ref().map(Operand::values);
        let (centred, entries) = (summands.is_some(), input.get());
        // Whole rows for each thread.
        let part = (PART / features).max(1) * features;
        let [normal, scales] = written([entries.len(), entries.len() / features], |[normal, scales]| {
            let parts = normal.par_chunks_mut(part).zip(scales.par_chunks_mut(part / features));
            parts.zip(entries.par_chunks(part)).for_each(|((normal, scales), entries)| {
                normalised(normal, scales, entries, features, centred, epsilon as f32);
            });
        });
        let added = summands.as_ref().map(Operand::values);
        let added = added.as_ref().map_or([].as_slice(), Values::get);
        let [result] = written([entries.len()], |[result]| {
            let parts = result.par_chunks_mut(part).zip(normal.par_chunks(part));
            parts.for_each(|(result, normal)| applied(result, normal, factors.get(), added));
        });
        let result = values(result, shape);
        let backward = move |gradient: &[f32]| {
            let parts = gradient.par_chunks(part).zip(normal.par_chunks(part)).zip(scales.par_chunks(part / features));
            let mut of_input = Vec::with_capacity(gradient.len());
            let room = &mut of_input.spare_capacity_mut()[..gradient.len()];
            // In order, so that sums are the same for any number of threads.
            let sums = room.par_chunks_mut(part).zip(parts).map(|(of_input, ((gradient, normal), scales))| {
                let mut sums = vec![0.0; 2 * features];
                differentiated(of_input, &mut sums, gradient, normal, scales, factors.get(), centred);
                sums
            });
            let sums = sums.collect::<Vec<_>>();
            // SAFETY: every entry was written.
            unsafe { of_input.set_len(gradient.len()) };
            let mut total = vec![0.0; 2 * features];
            for sums in sums {
                total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
            }
            let of_summands = total.split_off(features);
            [values(of_input, shape), values(total, [features]), values(of_summands, [features])]
        };
        Some(match (operands, summands) {
            (operands, None) => output(operands, result, move |gradient: Values, _| {
                let [of_input, of_factors, _] = backward(gradient.get());
                [Some(of_input), Some(of_factors)]
            }),
            ([input, factors], Some(summands)) => {
                output([input, factors, summands], result, move |gradient: Values, _| {
                    backward(gradient.get()).map(Some)
                })
            }
        })
    }

    vectorized! {
        /// Rows by their norms, and what each row was multiplied by.
        fn normalised(
            normal: &mut [MaybeUninit<f32>],
            scales: &mut [MaybeUninit<f32>],
            entries: &[f32],
            features: usize,
            centred: bool,
            epsilon: f32,
        ) {
            let rows = normal.chunks_exact_mut(features).zip(entries.chunks_exact(features));
            for ((normal, row), to) in rows.zip(scales) {
                let mean = if centred { sum(row) / features as f32 } else { 0.0 };
                normal.iter_mut().zip(row).for_each(|(to, entry)| { to.write(entry - mean); });
                // SAFETY: written just now.
                let normal = unsafe { normal.assume_init_mut() };
                let scale = 1.0 / (dot(normal, normal) / features as f32 + epsilon).sqrt();
                normal.iter_mut().for_each(|entry| *entry *= scale);
                to.write(scale);
            }
        }
    }

    vectorized! {
        fn applied(result: &mut [MaybeUninit<f32>], normal: &[f32], factors: &[f32], summands: &[f32]) {
            let rows = result.chunks_exact_mut(factors.len()).zip(normal.chunks_exact(factors.len()));
            for (result, normal) in rows {
                let scaled = normal.iter().zip(factors).map(|(entry, factor)| entry * factor);
                match summands {
                    [] => result.iter_mut().zip(scaled).for_each(|(to, entry)| { to.write(entry); }),
                    _ => result.iter_mut().zip(scaled).zip(summands).for_each(|((to, entry), summand)| {
                        to.write(entry + summand);
                    }),
                }
            }
        }
    }

    vectorized! {
        /// The gradient of the input, and the sums over rows of those of factors and summands, one after the other.
        fn differentiated(
            of_input: &mut [MaybeUninit<f32>],
            sums: &mut [f32],
            gradient: &[f32],
            normal: &[f32],
            scales: &[f32],
            factors: &[f32],
            centred: bool,
        ) {
            let features = factors.len();
            let (of_factors, of_summands) = sums.split_at_mut(features);
            let rows = of_input.chunks_exact_mut(features).zip(gradient.chunks_exact(features));
            for (((of_input, gradient), normal), scale) in rows.zip(normal.chunks_exact(features)).zip(scales) {
                for ((sum, gradient), normal) in of_factors.iter_mut().zip(gradient).zip(normal) {
                    *sum += gradient * normal;
                }
                of_input.iter_mut().zip(gradient).zip(factors).for_each(|((to, gradient), factor)| {
                    to.write(gradient * factor);
                });
                // SAFETY: written just now.
                let of_input = unsafe { of_input.assume_init_mut() };
                let along = dot(of_input, normal) / features as f32;
                let mut mean = 0.0;
                if centred {
                    of_summands.iter_mut().zip(gradient).for_each(|(sum, gradient)| *sum += gradient);
                    mean = sum(of_input) / features as f32;
                }
                for (entry, normal) in of_input.iter_mut().zip(normal) {
                    *entry = scale * (*entry - mean - along * normal);
                }
            }
        }
    }
}
