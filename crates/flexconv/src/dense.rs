//! Dense layers as an operation on tensors.

use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::module;

/// Applies a dense layer, as [`Linear::forward`] does: `[batch, inputs]` to `[batch, outputs]`.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn dense(layer: &Linear, input: Tensor<2>) -> Tensor<2> {
    linear(input, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()))
}

/// `input * weight + bias`: `weight` `[inputs, outputs]`, `bias` `[outputs]`.
///
/// On the `flex` device, in single precision, this runs on the kernels of this crate; anywhere else it is Burn's own.
///
/// # Panics
/// As [`dense`].
pub fn linear(input: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(output) = flex::linear(&input, &weight, bias.as_ref()) {
        return output;
    }
    module::linear(input, weight, bias)
}

#[cfg(feature = "flex")]
mod flex {
    use burn::tensor::Tensor;

    use crate::kernel::InstructionSet;
    use crate::operation::{Operand, output, values};
    use crate::product::{Matrix, product};

    pub(super) fn linear(input: &Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> Option<Tensor<2>> {
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
        let added = bias_values.as_ref().map(|bias| bias.get());
        let result = product(set, x.of(input.get()), w.of(weight.get()), added);
        let result = values(result, [batch, outputs]);
        let gradients = move |gradient: &[f32], [of_input, of_weight]: [bool; 2]| {
            let g = Matrix::new([batch, outputs]);
            let of_input = of_input.then(|| {
                let entries = product(set, g.of(gradient), w.transposed().of(weight.get()), None);
                values(entries, [batch, inputs])
            });
            let of_weight = of_weight.then(|| {
                let entries = product(set, x.transposed().of(input.get()), g.of(gradient), None);
                values(entries, [inputs, outputs])
            });
            [of_input, of_weight]
        };
        Some(match (operands, bias) {
            (operands, None) => output(operands, result, move |gradient, needed| gradients(gradient.get(), needed)),
            ([input, weight], Some(bias)) => output([input, weight, bias], result, move |gradient, [i, w, b]| {
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
