//! The rectifier, with slope 1 at 0, in one pass each way.

use burn::tensor::Tensor;

/// `max(input, 0)`, with slope 1 at 0.
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
    use crate::tile::rectify;

    pub(super) fn relu<const D: usize>(input: &Tensor<D>) -> Option<Tensor<D>> {
        let shape = input.dims();
        let operand = Operand::of(input)?;
        let before = operand.values();
        let result = values(rectified(before.get()), shape);
        Some(output([operand], result, move |gradient, _| [Some(masked(gradient, before.get(), shape))]))
    }

    fn rectified(input: &[f32]) -> Vec<f32> {
        let mut result = Vec::with_capacity(input.len());
        if input.len() <= PART {
            result.extend(input.iter().map(|value| rectify(*value)));
            return result;
        }
        let room = &mut result.spare_capacity_mut()[..input.len()];
        room.par_chunks_mut(PART).zip(input.par_chunks(PART)).for_each(|(to, from)| rectify_into(to, from));
        // SAFETY: every entry was written.
        unsafe { result.set_len(input.len()) };
        result
    }

    /// The gradient where the input was not negative, in place if nobody else has it.
    fn masked<const D: usize>(mut gradient: Values, input: &[f32], shape: [usize; D]) -> Values {
        let mask_all = |gradient: &mut [f32]| match gradient.len() <= PART {
            true => mask(gradient, input),
            false => gradient.par_chunks_mut(PART).zip(input.par_chunks(PART)).for_each(|(g, i)| mask(g, i)),
        };
        if let Some(entries) = gradient.get_mut() {
            mask_all(entries);
            return gradient;
        }
        let mut copy = gradient.get().to_vec();
        mask_all(&mut copy);
        values(copy, shape)
    }

    vectorized! {
        fn rectify_into(to: &mut [std::mem::MaybeUninit<f32>], from: &[f32]) {
            to.iter_mut().zip(from).for_each(|(to, value)| { to.write(rectify(*value)); });
        }
    }

    vectorized! {
        fn mask(gradient: &mut [f32], input: &[f32]) {
            gradient.iter_mut().zip(input).for_each(|(gradient, input)| *gradient = if *input < 0.0 { 0.0 } else { *gradient });
        }
    }
}
