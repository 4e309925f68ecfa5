//! The rectifier, with slope 1 at 0, in one pass each way.

use burn::tensor::Tensor;

#[cfg(feature = "flex")]
pub(crate) use flex::{masked, rectify_marked};

/// `max(input, 0)`, with slope 1 at 0. On the `flex` device what was negative becomes `-0`: the sign is all that the
/// gradient needs to know of the input, which is not kept.
pub fn relu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(output) = flex::relu(&input) {
        return output;
    }
    // `clamp_min` passes the gradient where the input equals the bound: slope 1 at 0.
    input.clamp_min(0.0)
}

#[cfg(feature = "flex")]
mod flex {
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use crate::elementwise::{PART, vectorized};
    use crate::operation::{Operand, Values, output, values};

    pub(super) fn relu<const D: usize>(input: &Tensor<D>) -> Option<Tensor<D>> {
        let shape = input.dims();
        let operand = Operand::of(input)?;
        let result = values(rectified(operand.values().get()), shape);
        let marked = result.clone();
        Some(output([operand], result, move |gradient, _| [Some(masked(gradient, marked.get(), shape))]))
    }

    fn rectified(input: &[f32]) -> Vec<f32> {
        let mut result = Vec::with_capacity(input.len());
        let room = &mut result.spare_capacity_mut()[..input.len()];
        match input.len() <= PART {
            true => rectify_into(room, input),
            false => {
                room.par_chunks_mut(PART).zip(input.par_chunks(PART)).for_each(|(to, from)| rectify_into(to, from))
            }
        }
        // SAFETY: every entry was written.
        unsafe { result.set_len(input.len()) };
        result
    }

    /// The gradient where [`rectify_marked`] gave no `-0`, written in place if no other tensor shares it.
    pub(crate) fn masked<const D: usize>(mut gradient: Values, marked: &[f32], shape: [usize; D]) -> Values {
        let mask_all = |gradient: &mut [f32]| match gradient.len() <= PART {
            true => mask(gradient, marked),
            false => gradient.par_chunks_mut(PART).zip(marked.par_chunks(PART)).for_each(|(g, m)| mask(g, m)),
        };
        if let Some(entries) = gradient.get_mut() {
            mask_all(entries);
            return gradient;
        }
        let mut copy = gradient.get().to_vec();
        mask_all(&mut copy);
        values(copy, shape)
    }

    /// `max(value, 0)`, with `-0` for what is negative, and only for that.
    #[inline(always)]
    fn marked(value: f32) -> f32 {
        // The sum makes a `-0` that was there a `0`.
        if value < 0.0 { -0.0 } else { value + 0.0 }
    }

    vectorized! {
        /// Rectifies in place, with `-0` for what is negative.
        pub(crate) fn rectify_marked(entries: &mut [f32]) {
            entries.iter_mut().for_each(|entry| *entry = marked(*entry));
        }
    }

    vectorized! {
        fn rectify_into(to: &mut [std::mem::MaybeUninit<f32>], from: &[f32]) {
            to.iter_mut().zip(from).for_each(|(to, value)| { to.write(marked(*value)); });
        }
    }

    vectorized! {
        fn mask(gradient: &mut [f32], marked: &[f32]) {
            let mark = (-0.0_f32).to_bits();
            gradient.iter_mut().zip(marked).for_each(|(gradient, marked)| {
                *gradient = if marked.to_bits() == mark { 0.0 } else { *gradient };
            });
        }
    }
}
