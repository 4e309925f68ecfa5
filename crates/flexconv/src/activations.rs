//! Smooth activations in one pass each way.

use burn::tensor::{Tensor, activation};

/// `x` times the probability that a standard normal number is below it (Hendrycks and Gimpel 2016).
///
/// On the `flex` device, in single precision, this is one operation, within 1e-6 of Burn's own; anywhere else it is
/// Burn's.
pub fn gelu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(output) = flex::apply(&input, [flex::gelu, flex::gelu_and_slope]) {
        return output;
    }
    activation::gelu(input)
}

/// `x` times its logistic function, also known as swish (Ramachandran et al. 2017).
///
/// Where it runs is as with [`gelu`].
pub fn silu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(output) = flex::apply(&input, [flex::silu, flex::silu_and_slope]) {
        return output;
    }
    activation::silu(input)
}

#[cfg(feature = "flex")]
mod flex {
    use std::mem::MaybeUninit;

    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use crate::elementwise::{PART, vectorized, written};
    use crate::exponential::{exp_of_negative, normal};
    use crate::operation::{Operand, Values, output, values};

    /// Writes a function of entries, and its slopes if there is room for them.
    type Pass = fn(&mut [MaybeUninit<f32>], &mut [MaybeUninit<f32>], &[f32]);

    /// A function of every entry, from a pass that gives it alone, and one that gives the slopes too.
    pub(super) fn apply<const D: usize>(input: &Tensor<D>, [alone, and_slope]: [Pass; 2]) -> Option<Tensor<D>> {
        let shape = input.dims();
        let operand = Operand::of(input)?;
        let entries = operand.values();
        let entries = entries.get();
        if !operand.is_tracked() {
            let [result] = written([entries.len()], |[result]| {
                let parts = result.par_chunks_mut(PART).zip(entries.par_chunks(PART));
                parts.for_each(|(result, entries)| alone(result, &mut [], entries));
            });
            return Some(output([operand], values(result, shape), |_, _| [None]));
        }
        let [result, slopes] = written([entries.len(); 2], |[result, slopes]| {
            let parts = result.par_chunks_mut(PART).zip(slopes.par_chunks_mut(PART)).zip(entries.par_chunks(PART));
            parts.for_each(|((result, slopes), entries)| and_slope(result, slopes, entries));
        });
        Some(output([operand], values(result, shape), move |gradient, _| [Some(scaled(gradient, &slopes, shape))]))
    }

    /// The gradient times the slopes, written in place if no other tensor shares it.
    fn scaled<const D: usize>(mut gradient: Values, slopes: &[f32], shape: [usize; D]) -> Values {
        if let Some(entries) = gradient.get_mut() {
            entries.par_chunks_mut(PART).zip(slopes.par_chunks(PART)).for_each(|(entries, slopes)| {
                entries.iter_mut().zip(slopes).for_each(|(entry, slope)| *entry *= slope);
            });
            return gradient;
        }
        let product = gradient.get().par_iter().with_min_len(PART).zip(slopes).map(|(entry, slope)| entry * slope);
        values(product.collect(), shape)
    }

    /// Defines a pass from a function that gives the value and the slope.
    macro_rules! pass {
        ($alone:ident, $and_slope:ident, $function:ident) => {
            vectorized! {
                pub(super) fn $alone(result: &mut [MaybeUninit<f32>], _none: &mut [MaybeUninit<f32>], entries: &[f32]) {
                    result.iter_mut().zip(entries).for_each(|(result, x)| { result.write($function(*x)[0]); });
                }
            }

            vectorized! {
                pub(super) fn $and_slope(
                    result: &mut [MaybeUninit<f32>],
                    slopes: &mut [MaybeUninit<f32>],
                    entries: &[f32],
                ) {
                    for ((result, slope), x) in result.iter_mut().zip(slopes).zip(entries) {
                        let [value, at] = $function(*x);
                        result.write(value);
                        slope.write(at);
                    }
                }
            }
        };
    }

    pass!(gelu, gelu_and_slope, of_gelu);
    pass!(silu, silu_and_slope, of_silu);

    #[inline(always)]
    fn of_gelu(x: f32) -> [f32; 2] {
        let [below, density] = normal(x);
        [x * below, below + x * density]
    }

    #[inline(always)]
    fn of_silu(x: f32) -> [f32; 2] {
        let falling = exp_of_negative(x.abs());
        let larger = 1.0 / (1.0 + falling);
        let logistic = if x < 0.0 { falling * larger } else { larger };
        [x * logistic, logistic * (1.0 + x * (1.0 - logistic))]
    }
}
