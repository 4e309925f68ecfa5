//! Dense layers as an operation on tensors.

use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::module;

use crate::rectifier::relu;

/// Applies a dense layer, as [`Linear::forward`] does: `[batch, inputs]` to `[batch, outputs]`.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn dense(layer: &Linear, input: Tensor<2>) -> Tensor<2> {
    linear(input, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()))
}

/// Applies a dense layer and the rectifier: [`relu`](crate::relu) of [`dense`], without what lies between.
///
/// # Panics
/// As [`dense`].
pub fn dense_rectified(layer: &Linear, input: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(output) =
        flex::linear(&input, &layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()).as_ref(), true)
    {
        return output;
    }
    relu(dense(layer, input))
}

/// `input * weight + bias`: `weight` `[inputs, outputs]`, `bias` `[outputs]`.
///
/// On the `flex` device, in single precision, this runs on the kernels of this crate; anywhere else it is Burn's own.
///
/// # Panics
/// As [`dense`].
pub fn linear(input: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(output) = flex::linear(&input, &weight, bias.as_ref(), false) {
        return output;
    }
    module::linear(input, weight, bias)
}

#[cfg(feature = "flex")]
mod flex {
    use burn::tensor::Tensor;

    use crate::kernel::InstructionSet;
    use crate::operation::{Operand, Values, output, values};
    use crate::product::{After, Matrix, SMALL, product};
    use crate::rectifier::masked;

    pub(super) fn linear(
        input: &Tensor<2>,
        weight: &Tensor<2>,
        bias: Option<&Tensor<1>>,
        rectified: bool,
    ) -> Option<Tensor<2>> {
        let ([batch, inputs], [rows, outputs]) = (input.dims(), weight.dims());
        let fits = rows == inputs && bias.is_none_or(|bias| bias.dims() == [outputs]);
        if !fits || [batch, inputs, outputs].contains(&0) {
            return None;
        }
        let operands = [Operand::of(input)?, Operand::of(weight)?];
        let bias = match bias {
            Some(bias) => Some(Operand::of(bias)?),
            None => None,
        };
        let [input, weight] = operands.each_ref().map(Operand::values);
        let bias_values = bias.as_ref().map(Operand::values);
        let set = InstructionSet::best();
        let x = Matrix::new([batch, inputs]);
        let w = Matrix::new([inputs, outputs]);
        let plus = bias_values.as_ref().map(|bias| bias.get());
        let result = product(set, x.of(input.get()), w.of(weight.get()), After { plus, rectified });
        let result = values(result, [batch, outputs]);
        let kept = rectified.then(|| result.clone());
        // The gradient in front of the rectifier.
        let before = move |gradient: Values| match &kept {
            Some(result) => masked(gradient, result.get(), [batch, outputs]),
            None => gradient,
        };
        let gradients = move |gradient: &[f32], [of_input, of_weight]: [bool; 2]| {
            let g = Matrix::new([batch, outputs]);
            let of_input = || {
                let entries =
                    of_input.then(|| product(set, g.of(gradient), w.transposed().of(weight.get()), After::default()));
                entries.map(|entries| values(entries, [batch, inputs]))
            };
            let of_weight = || {
                let entries =
                    of_weight.then(|| product(set, x.transposed().of(input.get()), g.of(gradient), After::default()));
                entries.map(|entries| values(entries, [inputs, outputs]))
            };
            // Together, so that threads are called once.
            let (of_input, of_weight) = match 2 * batch * inputs * outputs < SMALL {
                true => (of_input(), of_weight()),
                false => rayon::join(of_input, of_weight),
            };
            [of_input, of_weight]
        };
        Some(match (operands, bias) {
            (operands, None) => {
                output(operands, result, move |gradient, needed| gradients(before(gradient).get(), needed))
            }
            ([input, weight], Some(bias)) => output([input, weight, bias], result, move |gradient, [i, w, b]| {
                let gradient = before(gradient);
                let [input, weight] = gradients(gradient.get(), [i, w]);
                [input, weight, b.then(|| values(column_sums(gradient.get(), outputs), [outputs]))]
            }),
        })
    }

    /// The sums of a matrix's columns.
    fn column_sums(entries: &[f32], columns: usize) -> Vec<f32> {
        let mut sums = vec![0.0; columns];
        for row in entries.chunks_exact(columns) {
            sums.iter_mut().zip(row).for_each(|(sum, entry)| *sum += entry);
        }
        sums
    }
}
