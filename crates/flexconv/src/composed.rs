//! Operations made of Burn's own, with backward passes of their own, for devices that this crate has no kernels for.
//!
//! On a GPU, what counts is the number of kernels that are launched, and that none of them leaves most of the device idle.
//! Automatic differentiation of what an operation is made of launches several times as many: for every slice, zeros of the
//! whole, an assignment and a sum.

use std::fmt;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};
use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use crate::batch_norm::Normalized;
use crate::unrolled;

type Graph<B> = Autodiff<B, NoCheckpointing>;

/// What becomes of the output's gradient: those of the operands that need one.
type BackwardPass<B, const N: usize> = dyn Fn(FloatTensor<B>, [bool; N]) -> [Option<FloatTensor<B>>; N] + Send + Sync;

struct State<B: Backend, const N: usize>(Arc<BackwardPass<B, N>>);

impl<B: Backend, const N: usize> Clone for State<B, N> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Backend, const N: usize> fmt::Debug for State<B, N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("composed")
    }
}

#[derive(Debug)]
struct Composed;

impl<B: Backend, const N: usize> Backward<B, N> for Composed {
    type State = State<B, N>;

    fn backward(self, ops: Ops<State<B, N>, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let needed = ops.parents.each_ref().map(Option::is_some);
        for (parent, gradient) in ops.parents.into_iter().zip(ops.state.0(gradient, needed)) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// A backend that these operations are for.
pub(crate) trait Composing: Backend + Sized {
    /// The tensor in a graph, if it is part of one of this backend.
    fn node<const D: usize>(tensor: &Tensor<D>) -> Option<FloatTensor<Graph<Self>>>;
    /// The primitive of a tensor that is part of no graph, if it is of this backend.
    fn primitive<const D: usize>(tensor: Tensor<D>) -> Option<FloatTensor<Self>>;
    /// A tensor that is part of no graph.
    fn constant<const D: usize>(primitive: FloatTensor<Self>) -> Tensor<D>;
    /// A tensor that is part of a graph.
    fn tracked<const D: usize>(node: FloatTensor<Graph<Self>>) -> Tensor<D>;
}

macro_rules! composing {
    ($backend:ty) => {
        impl Composing for $backend {
            fn node<const D: usize>(tensor: &Tensor<D>) -> Option<FloatTensor<Graph<Self>>> {
                tensor.clone().try_into_primitive::<Graph<Self>>().ok()
            }

            fn primitive<const D: usize>(tensor: Tensor<D>) -> Option<FloatTensor<Self>> {
                tensor.try_into_primitive::<Self>().ok()
            }

            fn constant<const D: usize>(primitive: FloatTensor<Self>) -> Tensor<D> {
                Tensor::from_primitive::<Self>(primitive)
            }

            fn tracked<const D: usize>(node: FloatTensor<Graph<Self>>) -> Tensor<D> {
                Tensor::from_primitive::<Graph<Self>>(node)
            }
        }
    };
}

#[cfg(feature = "cube")]
composing!(burn::backend::Cube);
#[cfg(all(test, feature = "flex"))]
composing!(burn::backend::Flex);

/// An operand: in a graph, or as a constant where others are.
fn operand<B: Composing, const D: usize>(tensor: &Tensor<D>) -> Option<FloatTensor<Graph<B>>> {
    B::node(tensor).or_else(|| B::primitive(tensor.clone()).map(FloatTensor::<Graph<B>>::new))
}

/// What an operand is outside of its graph.
fn values<B: Composing, const D: usize>(operand: &FloatTensor<Graph<B>>) -> Tensor<D> {
    B::constant(operand.primitive().clone())
}

/// The output of an operation, with what becomes of its gradient.
fn differentiable<B: Composing, const N: usize, const D: usize>(
    operands: [FloatTensor<Graph<B>>; N],
    output: Tensor<D>,
    backward: impl Fn(Tensor<D>, [bool; N]) -> [Option<FloatTensor<B>>; N] + Send + Sync + 'static,
) -> Tensor<D> {
    let nodes = operands.map(|operand| operand.node());
    let output = own::<B, D>(output);
    let tracked = match Composed.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let backward = move |gradient, needed| backward(B::constant(gradient), needed);
            prepared.finish(State(Arc::new(backward)), output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    B::tracked(tracked)
}

/// A convolution without groups as a product of matrices; none if no operand is part of a graph on this backend, if the kernel
/// does not fit into the maps, or if padding reaches beyond it.
pub(crate) fn conv2d<B: Composing>(
    input: &Tensor<4>,
    weight: &Tensor<4>,
    options: &ConvOptions<2>,
) -> Option<Tensor<4>> {
    B::node(input).or_else(|| B::node(weight))?;
    let operands = [operand::<B, 4>(input)?, operand::<B, 4>(weight)?];
    let [input, weight] = operands.each_ref().map(values::<B, 4>);
    let shapes = [input.dims(), weight.dims()];
    if !unrolled::has_input_gradient(shapes[0], shapes[1], options) {
        return None;
    }
    let output = unrolled::conv2d(input.clone(), weight.clone(), options)?;
    let options = options.clone();
    Some(differentiable(operands, output, move |gradient: Tensor<4>, [of_input_is_needed, of_weight_is_needed]| {
        let known = "a convolution that was computed has its gradients";
        let of_weight =
            || unrolled::weight_gradient(gradient.clone(), input.clone(), shapes[1], &options).expect(known);
        let of_weight = of_weight_is_needed.then(|| own::<B, 4>(of_weight()));
        let of_input = || unrolled::input_gradient(gradient.clone(), weight.clone(), shapes[0], &options).expect(known);
        [of_input_is_needed.then(|| own::<B, 4>(of_input())), of_weight]
    }))
}

/// The primitive of a tensor that was computed from this backend's.
fn own<B: Composing, const D: usize>(tensor: Tensor<D>) -> FloatTensor<B> {
    B::primitive(tensor).expect("what is computed of a backend's tensors is of that backend")
}

/// Batch norm in training mode, as [`batch_norm_train`](crate::batch_norm_train); none if the input is not part of a graph
/// on this backend.
pub(crate) fn batch_norm_train<B: Composing, const D: usize>(
    input: &Tensor<D>,
    [gamma, beta]: [&Tensor<1>; 2],
    epsilon: f64,
    rectified: bool,
) -> Option<Normalized<D>> {
    let dims = input.dims();
    if D < 2 || dims.contains(&0) {
        return None;
    }
    let operands = [B::node(input)?, operand::<B, 1>(gamma)?, operand::<B, 1>(beta)?];
    let (channels, positions) = (dims[1], dims[2..].iter().product::<usize>());
    let count = dims[0] * positions;
    let by_channel = move |values: Tensor<1>| values.reshape([1, channels, 1]);
    let maps = values::<B, D>(&operands[0]).reshape([dims[0], channels, positions]);
    let [gamma, beta] = [values::<B, 1>(&operands[1]), values::<B, 1>(&operands[2])];
    let mean = channel_sums(maps.clone()).div_scalar(count as f64);
    let centred = maps - by_channel(mean.clone());
    let variance = channel_sums(centred.clone().square()).div_scalar(count as f64);
    let inverse = variance.clone().add_scalar(epsilon).sqrt().recip();
    let scale = gamma * inverse.clone();
    let before = centred.clone() * by_channel(scale.clone()) + by_channel(beta);
    let output = if rectified { before.clone().clamp_min(0.0) } else { before.clone() };
    let kept = rectified.then_some(before);
    let output = differentiable(operands, output.reshape(dims), move |gradient: Tensor<D>, needed| {
        let gradient = gradient.reshape([dims[0], channels, positions]);
        let gradient = match &kept {
            // The slope at 0 is 1.
            Some(before) => gradient.mask_fill(before.clone().lower_elem(0.0), 0.0),
            None => gradient,
        };
        let of_beta = channel_sums(gradient.clone());
        let along = channel_sums(gradient.clone() * centred.clone());
        let of_gamma = along.clone() * inverse.clone();
        let of_input = || {
            let share = (along * inverse.clone().square()).div_scalar(count as f64);
            let rest = gradient - by_channel(of_beta.clone().div_scalar(count as f64));
            let of_maps = (rest - centred.clone() * by_channel(share)) * by_channel(scale.clone());
            own::<B, D>(of_maps.reshape(dims))
        };
        let of_input = needed[0].then(of_input);
        [of_input, needed[1].then(|| own::<B, 1>(of_gamma)), needed[2].then(|| own::<B, 1>(of_beta))]
    });
    let constant = |statistic| B::tracked(FloatTensor::<Graph<B>>::new(own::<B, 1>(statistic)));
    Some(Normalized { output, mean: constant(mean), variance: constant(variance), count })
}

/// The sum of each channel of `[batch, channels, positions]`, over positions first: Burn's reductions take one thread for each
/// entry of the result where nothing was tuned, and there are few channels.
fn channel_sums(maps: Tensor<3>) -> Tensor<1> {
    let [batch, channels, positions] = maps.dims();
    let of_examples = match positions {
        1 => maps.reshape([batch, channels]),
        _ => maps.reshape([batch * channels, positions]).sum_dim(1).reshape([batch, channels]),
    };
    of_examples.sum_dim(0).reshape([channels])
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::{Device, Distribution, module};

    use super::*;

    fn apart<const D: usize>(found: Tensor<D>, expected: Tensor<D>) -> f64 {
        let size = expected.clone().abs().max().into_scalar::<f64>();
        (found - expected).abs().max().into_scalar::<f64>() / size
    }

    fn drawn<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), device)
    }

    #[test]
    fn convolutions_have_the_gradients_of_burns() {
        let device = Device::flex().autodiff();
        for (stride, tracked) in [(1, [true, true]), (2, [true, true]), (2, [false, true]), (1, [true, false])] {
            let options = ConvOptions::new([stride; 2], [1, 1], [1, 1], 1);
            let shapes = [[3, 4, 9, 8], [5, 4, 3, 3]];
            let plain = device.clone().inner();
            let leaf = |(shape, tracked)| match tracked {
                true => drawn::<4>(shape, &device).require_grad(),
                false => drawn::<4>(shape, &plain),
            };
            let [maps, kernels] = [(shapes[0], tracked[0]), (shapes[1], tracked[1])].map(leaf);
            let found = conv2d::<Flex>(&maps, &kernels, &options).unwrap();
            let expected = module::conv2d(maps.clone(), kernels.clone(), None, options);
            assert!(apart(found.clone().inner(), expected.clone().inner()) < 1e-5);
            let delta = drawn(expected.dims(), &plain).autodiff();
            let [found, expected] = [found, expected].map(|output| (output * delta.clone()).sum().backward());
            for (leaf, tracked) in [(maps, tracked[0]), (kernels, tracked[1])] {
                if tracked {
                    assert!(apart(leaf.grad(&found).unwrap(), leaf.grad(&expected).unwrap()) < 1e-5, "{stride}");
                }
            }
        }
        // Padding beyond the kernel has no gradient of this form: the operation says so before it is computed.
        let wide = ConvOptions::new([1; 2], [3; 2], [1; 2], 1);
        let [maps, kernels] = [[1, 1, 4, 4], [1, 1, 3, 3]].map(|shape| drawn::<4>(shape, &device).require_grad());
        assert!(conv2d::<Flex>(&maps, &kernels, &wide).is_none());
        let plain = drawn::<4>([1, 1, 3, 3], &Device::flex());
        assert!(conv2d::<Flex>(&plain, &plain, &ConvOptions::new([1; 2], [0; 2], [1; 2], 1)).is_none(), "no graph");
    }

    #[test]
    fn batch_norms_have_the_gradients_of_burns() {
        let device = Device::flex().autodiff();
        for rectified in [false, true] {
            let maps = drawn::<4>([6, 3, 4, 5], &device).require_grad();
            let [gamma, beta] = [(); 2].map(|()| drawn::<1>([3], &device).require_grad());
            let found = batch_norm_train::<Flex, 4>(&maps, [&gamma, &beta], 1e-3, rectified).unwrap();
            let expected = module::batch_norm_train(maps.clone(), gamma.clone(), beta.clone(), 1e-3);
            let output = if rectified { expected.output.clamp_min(0.0) } else { expected.output };
            assert!(apart(found.output.clone().inner(), output.clone().inner()) < 1e-5 && found.count == 120);
            assert!(apart(found.mean.inner(), expected.mean.inner()) < 1e-5);
            assert!(apart(found.variance.inner(), expected.variance.inner()) < 1e-5);
            let delta = drawn(output.dims(), &device.clone().inner()).autodiff();
            let [found, expected] = [found.output, output].map(|output| (output * delta.clone()).sum().backward());
            assert!(apart(maps.grad(&found).unwrap(), maps.grad(&expected).unwrap()) < 1e-4, "{rectified}");
            for parameter in [gamma, beta] {
                assert!(
                    apart(parameter.grad(&found).unwrap(), parameter.grad(&expected).unwrap()) < 1e-4,
                    "{rectified}"
                );
            }
        }
    }
}
