//! Convolution as an operation on tensors.

use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::module;
use burn::tensor::ops::ConvOptions;

use crate::dense::linear;
use crate::memory::computes_on_threads;
use crate::rectifier::relu;
use crate::unrolled;

/// What a convolution is joined with, so that its passes over the maps are saved.
#[derive(Debug, Clone, Default)]
pub struct Joined {
    /// Whether the input is rectified first: `conv(max(x, 0))`. The rectified input is never stored.
    pub rectified: bool,
    /// Maps to add to the output.
    pub plus: Option<Tensor<4>>,
}

/// Applies a convolution, as [`Conv2d::forward`] does.
///
/// # Shapes
/// `[batch, channels, height, width]` in and out.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn convolve(conv: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    convolve_joined(conv, input, Joined::default())
}

/// Applies a convolution, joined with what comes before and after it.
///
/// # Panics
/// As [`convolve`].
pub fn convolve_joined(conv: &Conv2d, input: Tensor<4>, joined: Joined) -> Tensor<4> {
    let [_, _, height, width] = input.dims();
    let options = options(conv, [height, width]);
    conv2d(input, conv.weight.val(), conv.bias.as_ref().map(|bias| bias.val()), options, joined)
}

/// The geometry of a convolution of maps of this height and width.
pub fn options(conv: &Conv2d, [height, width]: [usize; 2]) -> ConvOptions<2> {
    let padding = match conv.padding {
        PaddingConfig2d::Valid => [(0, 0); 2],
        PaddingConfig2d::Explicit(top, left, bottom, right) => [(top, bottom), (left, right)],
        // As Burn's module: one output for each stride begun, the odd zero at the end, dilation not counted.
        PaddingConfig2d::Same => [(0, height), (1, width)].map(|(axis, length)| {
            let (kernel, stride) = (conv.kernel_size[axis], conv.stride[axis]);
            let total = ((length.div_ceil(stride).max(1) - 1) * stride + kernel).saturating_sub(length);
            (total / 2, total - total / 2)
        }),
    };
    ConvOptions::new_with_padding(conv.stride, padding, conv.dilation, conv.groups)
}

/// Two-dimensional convolution: `weight` `[outputs, inputs / groups, height, width]`, `bias` `[outputs]`.
///
/// On the `flex` device, in single precision, this runs on the kernels of this crate; anywhere else it is Burn's own.
///
/// # Panics
/// As [`convolve`].
pub fn conv2d(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
    joined: Joined,
) -> Tensor<4> {
    let whole = sees_whole_maps(&input, &weight, &options);
    #[cfg(feature = "flex")]
    if !whole && let Some(output) = flex::conv2d(&input, &weight, bias.as_ref(), &options, &joined) {
        return output;
    }
    let input = if joined.rectified { relu(input) } else { input };
    let unrolled = || match takes_products(&input, &options) {
        true => as_product(&input, &weight, &options),
        false => None,
    };
    let output = match (whole, (!whole).then(unrolled).flatten()) {
        (true, _) => on_whole_maps(input, weight, bias),
        (false, Some(output)) => match bias {
            Some(bias) => {
                let [outputs] = bias.dims();
                output + bias.reshape([1, outputs, 1, 1])
            }
            None => output,
        },
        (false, None) => module::conv2d(input, weight, bias, options),
    };
    match joined.plus {
        Some(plus) => output + plus,
        None => output,
    }
}

fn as_product(input: &Tensor<4>, weight: &Tensor<4>, options: &ConvOptions<2>) -> Option<Tensor<4>> {
    #[cfg(feature = "cube")]
    if let Some(output) = crate::composed::conv2d::<burn::backend::Cube>(input, weight, options) {
        return Some(output);
    }
    unrolled::conv2d(input.clone(), weight.clone(), options)
}

/// Whether convolutions are products of matrices there: on devices without kernels of this crate, and not on a CPU,
/// where memory is dear.
fn takes_products(input: &Tensor<4>, options: &ConvOptions<2>) -> bool {
    options.groups == 1 && !computes_on_threads(&input.device())
}

/// Whether the kernel fits its maps exactly, so that there is one output position: a dense layer.
fn sees_whole_maps(input: &Tensor<4>, weight: &Tensor<4>, options: &ConvOptions<2>) -> bool {
    let ([_, channels, height, width], [_, inputs, rows, columns]) = (input.dims(), weight.dims());
    let unpadded = [options.padding_begin(), options.padding_end()] == [[0, 0]; 2];
    // A kernel of one position has nothing to gain.
    (height, width) == (rows, columns) && rows * columns > 1 && unpadded && options.groups == 1 && channels == inputs
}

fn on_whole_maps(input: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>) -> Tensor<4> {
    let ([batch, ..], [outputs, channels, height, width]) = (input.dims(), weight.dims());
    let size = channels * height * width;
    let output = linear(input.reshape([batch, size]), weight.reshape([outputs, size]).transpose(), bias);
    output.reshape([batch, outputs, 1, 1])
}

/// The gradient of a convolution's input, of the given shape, from that of its output: a constant.
///
/// # Panics
/// As [`convolve`].
pub fn conv2d_input_gradient(
    gradient: Tensor<4>,
    weight: Tensor<4>,
    input: [usize; 4],
    options: ConvOptions<2>,
) -> Tensor<4> {
    let (gradient, weight) = (gradient.inner(), weight.inner());
    #[cfg(feature = "flex")]
    if let Some(result) = flex::conv2d_input_gradient(&gradient, &weight, input, &options) {
        return result;
    }
    if takes_products(&gradient, &options)
        && let Some(result) = unrolled::input_gradient(gradient.clone(), weight.clone(), input, &options)
    {
        return result;
    }
    let place = (&gradient.device(), gradient.dtype());
    let input = Tensor::<4>::zeros(input, place).autodiff().require_grad();
    let output = module::conv2d(input.clone(), weight.autodiff(), None, options);
    gradient_of(input, output, gradient)
}

/// The gradient of a convolution's weight, of the given shape, from that of its output: a constant.
///
/// # Panics
/// As [`convolve`].
pub fn conv2d_weight_gradient(
    gradient: Tensor<4>,
    input: Tensor<4>,
    weight: [usize; 4],
    options: ConvOptions<2>,
) -> Tensor<4> {
    let (gradient, input) = (gradient.inner(), input.inner());
    #[cfg(feature = "flex")]
    if let Some(result) = flex::conv2d_weight_gradient(&gradient, &input, weight, &options) {
        return result;
    }
    if takes_products(&gradient, &options)
        && let Some(result) = unrolled::weight_gradient(gradient.clone(), input.clone(), weight, &options)
    {
        return result;
    }
    let place = (&gradient.device(), gradient.dtype());
    let weight = Tensor::<4>::zeros(weight, place).autodiff().require_grad();
    let output = module::conv2d(input.autodiff(), weight.clone(), None, options);
    gradient_of(weight, output, gradient)
}

/// The gradient of a leaf, where that of the output is given.
fn gradient_of(leaf: Tensor<4>, output: Tensor<4>, gradient: Tensor<4>) -> Tensor<4> {
    let gradients = (output * gradient.autodiff()).sum().backward();
    leaf.grad(&gradients).expect("the output depends on the leaf")
}

#[cfg(feature = "flex")]
mod flex {
    use super::*;
    use crate::correlate::Finish;
    use crate::geometry::Geometry;
    use crate::kernel::InstructionSet;
    use crate::operation::{Operand, constant, output, values};
    use crate::passes::Convolution;

    /// The convolution by this crate's kernels, if they can do it.
    pub(super) fn conv2d(
        input: &Tensor<4>,
        weight: &Tensor<4>,
        bias: Option<&Tensor<1>>,
        options: &ConvOptions<2>,
        joined: &Joined,
    ) -> Option<Tensor<4>> {
        let geometry = geometry(input.dims(), weight.dims(), options)?;
        let [height, width] = geometry.output()?;
        let shape = [geometry.batch, geometry.groups * geometry.outputs, height, width];
        if bias.is_some_and(|bias| bias.dims() != [shape[1]])
            || joined.plus.as_ref().is_some_and(|plus| plus.dims() != shape)
        {
            // Burn's own operation says what is wrong.
            return None;
        }
        let (input_shape, weight_shape) = (input.dims(), weight.dims());
        let (input, weight) = (Operand::of(input)?, Operand::of(weight)?);
        let bias = match bias {
            Some(bias) => Some(Operand::of(bias)?),
            None => None,
        };
        let plus = match &joined.plus {
            Some(plus) => Some(Operand::of(plus)?),
            None => None,
        };
        let convolution = Convolution { geometry, set: InstructionSet::best(), rectified: joined.rectified };
        let (bias_values, plus_values) = (bias.as_ref().map(Operand::values), plus.as_ref().map(Operand::values));
        let finish = Finish {
            bias: bias_values.as_ref().map(|bias| bias.get()),
            plus: plus_values.as_ref().map(|plus| plus.get()),
            mask: None,
        };
        let (input_values, weight_values) = (input.values(), weight.values());
        let result = values(convolution.forward(input_values.get(), weight_values.get(), finish), shape);

        let of_input_and_weight = move |gradient: &[f32], [of_input, of_weight]: [bool; 2]| {
            let (input, weight) = (input_values.get(), weight_values.get());
            let of_weight = of_weight.then(|| values(convolution.weight_gradient(gradient, input), weight_shape));
            let of_input = of_input.then(|| values(convolution.input_gradient(gradient, input, weight), input_shape));
            [of_input, of_weight]
        };
        let of_bias = move |gradient: &[f32]| values(Convolution::bias_gradient(&geometry, gradient), [shape[1]]);
        Some(match (bias, plus) {
            (None, None) => {
                output([input, weight], result, move |gradient, needed| of_input_and_weight(gradient.get(), needed))
            }
            (Some(bias), None) => output([input, weight, bias], result, move |gradient, [i, w, b]| {
                let [input, weight] = of_input_and_weight(gradient.get(), [i, w]);
                [input, weight, b.then(|| of_bias(gradient.get()))]
            }),
            (None, Some(plus)) => output([input, weight, plus], result, move |gradient, [i, w, p]| {
                let [input, weight] = of_input_and_weight(gradient.get(), [i, w]);
                [input, weight, p.then_some(gradient)]
            }),
            (Some(bias), Some(plus)) => output([input, weight, bias, plus], result, move |gradient, [i, w, b, p]| {
                let [input, weight] = of_input_and_weight(gradient.get(), [i, w]);
                [input, weight, b.then(|| of_bias(gradient.get())), p.then_some(gradient)]
            }),
        })
    }

    pub(super) fn conv2d_input_gradient(
        gradient: &Tensor<4>,
        weight: &Tensor<4>,
        input: [usize; 4],
        options: &ConvOptions<2>,
    ) -> Option<Tensor<4>> {
        let convolution = of_gradient(gradient.dims(), input, weight.dims(), options)?;
        let (gradient, weight) = (Operand::of(gradient)?, Operand::of(weight)?);
        let entries = convolution.input_gradient(gradient.values().get(), &[], weight.values().get());
        Some(constant(&gradient, values(entries, input)))
    }

    pub(super) fn conv2d_weight_gradient(
        gradient: &Tensor<4>,
        input: &Tensor<4>,
        weight: [usize; 4],
        options: &ConvOptions<2>,
    ) -> Option<Tensor<4>> {
        let convolution = of_gradient(gradient.dims(), input.dims(), weight, options)?;
        let (gradient, input) = (Operand::of(gradient)?, Operand::of(input)?);
        let entries = convolution.weight_gradient(gradient.values().get(), input.values().get());
        Some(constant(&gradient, values(entries, weight)))
    }

    /// The convolution whose output has a gradient of this shape.
    fn of_gradient(
        gradient: [usize; 4],
        input: [usize; 4],
        weight: [usize; 4],
        options: &ConvOptions<2>,
    ) -> Option<Convolution<'static>> {
        let geometry = geometry(input, weight, options)?;
        let [height, width] = geometry.output()?;
        let fits = gradient == [geometry.batch, geometry.groups * geometry.outputs, height, width];
        fits.then(|| Convolution { geometry, set: InstructionSet::best(), rectified: false })
    }

    fn geometry(input: [usize; 4], weight: [usize; 4], options: &ConvOptions<2>) -> Option<Geometry> {
        let [batch, channels, height, width] = input;
        let [outputs, inputs, rows, columns] = weight;
        let groups = options.groups;
        let fits = inputs * groups == channels && outputs.is_multiple_of(groups);
        let whole = [batch, channels, height, width, outputs, rows, columns].iter().all(|size| *size > 0);
        (fits && whole).then(|| Geometry {
            batch,
            groups,
            inputs,
            outputs: outputs / groups,
            input: [height, width],
            kernel: [rows, columns],
            stride: options.stride,
            padding: options.padding_begin(),
            padding_end: options.padding_end(),
            dilation: options.dilation,
        })
    }
}
