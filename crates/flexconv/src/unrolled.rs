//! Convolution as a product of matrices, for devices that this crate has no kernels for.
//!
//! Where nothing was tuned, Burn's own convolution on a GPU takes one thread for each entry of the result. A weight
//! gradient has few entries, each a sum over all positions of all examples, so that most of the GPU waits. Products of
//! matrices are fast everywhere; laying every kernel's window out beside each other (im2col) takes memory, of which a
//! GPU has plenty, and bandwidth.

use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Slice, Tensor};

/// The convolution of `input` `[batch, inputs, height, width]` by `weight` `[outputs, inputs, height, width]`, without
/// groups, if the kernel fits into the maps.
pub(crate) fn conv2d(input: Tensor<4>, weight: Tensor<4>, options: &ConvOptions<2>) -> Option<Tensor<4>> {
    let ([batch, ..], [outputs, inputs, rows, columns]) = (input.dims(), weight.dims());
    let [height, width] = output_size(&input, [rows, columns], options)?;
    let windows = windows(input, [rows, columns], options);
    let (reach, positions) = (inputs * rows * columns, height * width);
    let output = match positions < FEW_POSITIONS {
        true => {
            let windows = windows.permute([1, 4, 5, 0, 2, 3]).reshape([reach, batch * positions]);
            let output = weight.reshape([outputs, reach]).matmul(windows);
            output.reshape([outputs, batch, positions]).swap_dims(0, 1)
        }
        false => {
            let windows = windows.permute([0, 1, 4, 5, 2, 3]).reshape([batch, reach, positions]);
            weight.reshape([1, outputs, reach]).matmul(windows)
        }
    };
    Some(output.reshape([batch, outputs, height, width]))
}

/// Output positions below which all examples' are one product, in place of one product an example.
const FEW_POSITIONS: usize = 64;

/// The gradient of the weight, of the given shape, from that of the output.
pub(crate) fn weight_gradient(
    gradient: Tensor<4>,
    input: Tensor<4>,
    [outputs, inputs, rows, columns]: [usize; 4],
    options: &ConvOptions<2>,
) -> Option<Tensor<4>> {
    let [batch, _, height, width] = gradient.dims();
    if output_size(&input, [rows, columns], options)? != [height, width] {
        return None;
    }
    let windows = windows(input, [rows, columns], options).permute([0, 2, 3, 1, 4, 5]);
    let (reach, positions) = (inputs * rows * columns, height * width);
    let gradient = gradient.reshape([batch, outputs, positions]);
    let sum = match positions < FEW_POSITIONS {
        true => {
            let gradient = gradient.swap_dims(0, 1).reshape([outputs, batch * positions]);
            gradient.matmul(windows.reshape([batch * positions, reach]))
        }
        false => gradient.matmul(windows.reshape([batch, positions, reach])).sum_dim(0).reshape([outputs, reach]),
    };
    Some(sum.reshape([outputs, inputs, rows, columns]))
}

/// Whether [`input_gradient`] can tell the gradient of an input of this shape: no padding reaches beyond the kernel.
pub(crate) fn has_input_gradient(input: [usize; 4], weight: [usize; 4], options: &ConvOptions<2>) -> bool {
    (0..2).all(|axis| {
        let reach = options.dilation[axis] * (weight[2 + axis] - 1);
        let [begin, end] = [options.padding_begin()[axis], options.padding_end()[axis]];
        begin.max(end) <= reach && input[2 + axis] + begin + end > reach
    })
}

/// The gradient of the input, of the given shape, from that of the output: a convolution of the output's, spread by the
/// stride, by the kernels turned around.
pub(crate) fn input_gradient(
    gradient: Tensor<4>,
    weight: Tensor<4>,
    input: [usize; 4],
    options: &ConvOptions<2>,
) -> Option<Tensor<4>> {
    if !has_input_gradient(input, weight.dims(), options) {
        return None;
    }
    let [_, _, rows, columns] = weight.dims();
    let [batch, outputs, ..] = gradient.dims();
    let reach = [options.dilation[0] * (rows - 1), options.dilation[1] * (columns - 1)];
    let begin = options.padding_begin();
    let spread = [0, 1].map(|axis| (gradient.dims()[2 + axis] - 1) * options.stride[axis] + 1);
    // Rows and columns at the end that no window of a stride reaches have no gradient.
    let after = [0, 1].map(|axis| (input[2 + axis] + begin[axis]).checked_sub(spread[axis]));
    let [Some(below), Some(right)] = after else {
        return None;
    };
    let padding = [(reach[0] - begin[0], below), (reach[1] - begin[1], right)];
    let turned = weight.flip([2, 3]).permute([1, 0, 2, 3]);
    let gradient = match options.stride {
        [1, 1] => gradient,
        stride => {
            let place = (&gradient.device(), gradient.dtype());
            let whole = Tensor::<4>::zeros([batch, outputs, spread[0], spread[1]], place);
            let at = [Slice::full(), Slice::full(), every(stride[0]), every(stride[1])];
            whole.slice_assign(at, gradient)
        }
    };
    let options = ConvOptions::new_with_padding([1, 1], padding, options.dilation, 1);
    conv2d(gradient, turned, &options).filter(|result| result.dims() == input)
}

/// Height and width of the output, if there is one.
fn output_size(input: &Tensor<4>, kernel: [usize; 2], options: &ConvOptions<2>) -> Option<[usize; 2]> {
    let [_, _, height, width] = input.dims();
    let [begin, end] = [options.padding_begin(), options.padding_end()];
    let along = |axis: usize, length: usize| {
        let reach = options.dilation[axis] * (kernel[axis] - 1) + 1;
        Some((length + begin[axis] + end[axis]).checked_sub(reach)? / options.stride[axis] + 1)
    };
    Some([along(0, height)?, along(1, width)?])
}

/// The window of every output position, `[batch, inputs, height, width, rows, columns]`. Windows that overlap share their
/// entries until they are laid out.
fn windows(input: Tensor<4>, kernel: [usize; 2], options: &ConvOptions<2>) -> Tensor<6> {
    let [begin, end] = [options.padding_begin(), options.padding_end()];
    let padded = match [begin, end] == [[0, 0]; 2] {
        true => input,
        false => input.pad([(begin[0], end[0]), (begin[1], end[1])], PadMode::Constant(0.0)),
    };
    let span = [0, 1].map(|axis| options.dilation[axis] * (kernel[axis] - 1) + 1);
    let views = padded.unfold::<5, _>(2, span[0], options.stride[0]).unfold::<6, _>(3, span[1], options.stride[1]);
    match options.dilation {
        [1, 1] => views,
        [rows, columns] => views.slice_dim(4, every(rows)).slice_dim(5, every(columns)),
    }
}

/// The first entry of an axis, and every further one at this distance.
fn every(distance: usize) -> Slice {
    Slice::new(0, None, distance as isize)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, module};

    use super::*;

    /// Maps and a kernel.
    struct Case {
        input: [usize; 4],
        outputs: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [(usize, usize); 2],
        dilation: [usize; 2],
    }

    /// A kernel of 3x3 with zeros around, and others.
    fn cases() -> Vec<Case> {
        let usual = |input: [usize; 4]| Case {
            input,
            outputs: 4,
            kernel: [3, 3],
            stride: [1, 1],
            padding: [(1, 1); 2],
            dilation: [1, 1],
        };
        let pointwise = Case { kernel: [1, 1], padding: [(0, 0); 2], ..usual([1, 2, 8, 8]) };
        vec![
            usual([2, 3, 8, 8]),
            Case { stride: [2, 2], ..usual([2, 3, 9, 7]) },
            Case { stride: [2, 2], ..pointwise },
            pointwise,
            Case {
                kernel: [2, 5],
                stride: [1, 2],
                padding: [(0, 1), (2, 1)],
                dilation: [2, 1],
                ..usual([2, 2, 9, 10])
            },
            Case { padding: [(2, 2); 2], dilation: [2, 2], ..usual([1, 1, 6, 6]) },
            Case { kernel: [5, 5], padding: [(0, 0); 2], ..usual([2, 3, 5, 5]) },
        ]
    }

    fn apart<const D: usize>(found: Tensor<D>, expected: Tensor<D>) -> f64 {
        let size = expected.clone().abs().max().into_scalar::<f64>();
        (found - expected).abs().max().into_scalar::<f64>() / size
    }

    #[test]
    fn it_is_burns_convolution_with_all_its_gradients() {
        let device = Device::flex().autodiff();
        for Case { input, outputs, kernel, stride, padding, dilation } in cases() {
            let options = ConvOptions::new_with_padding(stride, padding, dilation, 1);
            let shape = [outputs, input[1], kernel[0], kernel[1]];
            let [maps, kernels] =
                [input, shape].map(|shape| Tensor::<4>::random(shape, Distribution::Default, &device).require_grad());
            let expected = module::conv2d(maps.clone(), kernels.clone(), None, options.clone());
            let found = conv2d(maps.clone(), kernels.clone(), &options).unwrap();
            assert!(apart(found.clone().inner(), expected.clone().inner()) < 1e-5, "{input:?} {shape:?}");

            let delta = Tensor::<4>::random(expected.dims(), Distribution::Default, &device.clone().inner());
            let of = |output: Tensor<4>| (output * delta.clone().autodiff()).sum().backward();
            let (found, expected) = (of(found), of(expected));
            for leaf in [&maps, &kernels] {
                assert!(apart(leaf.grad(&found).unwrap(), leaf.grad(&expected).unwrap()) < 1e-5, "{input:?}");
            }
            let weight = weight_gradient(delta.clone(), maps.clone().inner(), shape, &options).unwrap();
            assert!(apart(weight, kernels.grad(&expected).unwrap()) < 1e-5, "{input:?} {shape:?}");
            match input_gradient(delta, kernels.inner(), input, &options) {
                Some(gradient) => assert!(apart(gradient, maps.grad(&expected).unwrap()) < 1e-5, "{input:?}"),
                None => panic!("{input:?} {shape:?} has no gradient"),
            }
        }
    }
}
