//! Every operation against Burn's own, forward and backward, to 1e-5 relative.

#![cfg(feature = "flex")]

use std::sync::{Arc, Barrier, Mutex};

use burn::module::Param;
use burn::nn::conv::Conv2dConfig;
use burn::nn::{Linear, PaddingConfig2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Tensor, TensorData, module};
use flexconv::Joined;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

fn numbers<const D: usize>(shape: [usize; D], rng: &mut ChaCha8Rng) -> Tensor<D> {
    let values = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn leaf<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    tensor.clone().autodiff().require_grad()
}

/// The largest difference, relative to the largest entry.
fn difference<const D: usize>(found: Tensor<D>, expected: Tensor<D>) -> f64 {
    let largest = expected.clone().abs().max().into_scalar::<f64>().max(1e-3);
    (found - expected).abs().max().into_scalar::<f64>() / largest
}

fn assert_same<const D: usize>(found: Tensor<D>, expected: Tensor<D>, what: &str) {
    let difference = difference(found.inner(), expected.inner());
    assert!(difference < 1e-5, "{what} differs by {difference}");
}

#[test]
fn convolutions_agree_with_burns_in_all_gradients() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let maps = [
        (PaddingConfig2d::Same, [9, 10]),
        (PaddingConfig2d::Valid, [9, 10]),
        (PaddingConfig2d::Explicit(1, 2, 0, 1), [9, 10]),
        (PaddingConfig2d::Valid, [3, 2]),
    ];
    for (padding, [height, width]) in maps {
        for (stride, groups, bias) in [([1, 1], 1, true), ([2, 1], 2, false), ([2, 2], 4, true)] {
            let config = Conv2dConfig::new([4, 8], [3, 2]).with_stride(stride).with_groups(groups);
            let mut conv = config.with_padding(padding.clone()).with_bias(bias).init(&Device::flex().autodiff());
            conv.weight = Param::from_tensor(numbers(conv.weight.dims(), &mut rng).autodiff());
            let input = numbers([5, 4, height, width], &mut rng);
            let plus = conv.forward(input.clone().autodiff()).zeros_like().inner() + 0.5;
            for rectified in [false, true] {
                let leaves = || (leaf(&input), leaf(&plus));
                let (x, p) = leaves();
                let found = flexconv::convolve_joined(&conv, x.clone(), Joined { rectified, plus: Some(p.clone()) });
                let (own_x, own_p) = leaves();
                let before = if rectified { own_x.clone().clamp_min(0.0) } else { own_x.clone() };
                let expected = conv.forward(before) + own_p.clone();
                let factors = numbers(found.dims(), &mut rng).autodiff();
                let of_found = (found.clone() * factors.clone()).sum().backward();
                let of_expected = (expected.clone() * factors).sum().backward();
                assert_same(found, expected, "the output");
                assert_same(x.grad(&of_found).unwrap(), own_x.grad(&of_expected).unwrap(), "the input's gradient");
                assert_same(p.grad(&of_found).unwrap(), own_p.grad(&of_expected).unwrap(), "the summand's gradient");
                let weight = conv.weight.val();
                assert_same(
                    weight.grad(&of_found).unwrap(),
                    weight.grad(&of_expected).unwrap(),
                    "the weight's gradient",
                );
                if let Some(bias) = &conv.bias {
                    let of = |gradients| bias.val().grad(gradients).unwrap();
                    assert_same(of(&of_found), of(&of_expected), "the bias's gradient");
                }
            }
        }
    }
}

#[test]
fn dense_layers_agree_with_burns() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for [batch, inputs, outputs] in [[1, 1, 1], [7, 3, 5], [100, 20, 10], [61, 300, 17], [48, 513, 64], [700, 9, 3]] {
        let input = numbers([batch, inputs], &mut rng);
        let (weight, bias) = (numbers([inputs, outputs], &mut rng), numbers([outputs], &mut rng));
        let factors = numbers([batch, outputs], &mut rng).autodiff();
        for [with_bias, rectified] in [[false, false], [false, true], [true, false], [true, true]] {
            let run = |own: bool| {
                let (x, w, b) = (leaf(&input), leaf(&weight), leaf(&bias));
                let bias = with_bias.then(|| b.clone());
                let output = match (own, rectified) {
                    (false, _) => module::linear(x.clone(), w.clone(), bias),
                    (true, false) => flexconv::linear(x.clone(), w.clone(), bias),
                    (true, true) => {
                        let (weight, bias) = (Param::from_tensor(w.clone()), bias.map(Param::from_tensor));
                        flexconv::dense_rectified(&Linear { weight, bias }, x.clone())
                    }
                };
                let output = if rectified && !own { output.clamp_min(0.0) } else { output };
                let gradients = (output.clone() * factors.clone()).sum().backward();
                (output, x.grad(&gradients).unwrap(), w.grad(&gradients).unwrap(), b.grad(&gradients))
            };
            let (found, expected) = (run(true), run(false));
            assert_same(found.0, expected.0, "the output");
            assert_same(found.1, expected.1, "the input's gradient");
            assert_same(found.2, expected.2, "the weight's gradient");
            assert_eq!(found.3.is_some(), with_bias);
            if let (Some(found), Some(expected)) = (found.3, expected.3) {
                assert_same(found, expected, "the bias's gradient");
            }
        }
    }
}

#[test]
fn batch_norm_agrees_with_burns_at_any_rank_and_size_of_maps() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    norm_agrees::<2>([70, 9], &mut rng);
    norm_agrees::<2>([3, 300], &mut rng);
    norm_agrees::<4>([5, 3, 2, 2], &mut rng);
    norm_agrees::<4>([130, 70, 2, 3], &mut rng);
    norm_agrees::<4>([4, 5, 9, 11], &mut rng);
    norm_agrees::<4>([3, 2, 32, 32], &mut rng);
}

fn norm_agrees<const D: usize>(shape: [usize; D], rng: &mut ChaCha8Rng) {
    // Far from zero, where a careless variance would lose its digits.
    let input = numbers(shape, rng) + 20.0;
    let (gamma, beta) = (numbers([shape[1]], rng), numbers([shape[1]], rng));
    for rectified in [false, true] {
        let leaves = || (leaf(&input), leaf(&gamma), leaf(&beta));
        let (x, g, b) = leaves();
        let found = flexconv::batch_norm_train(x.clone(), g.clone(), b.clone(), 1e-5, rectified);
        let (own_x, own_g, own_b) = leaves();
        let expected = module::batch_norm_train(own_x.clone(), own_g.clone(), own_b.clone(), 1e-5);
        let output = if rectified { expected.output.clamp_min(0.0) } else { expected.output };
        let factors = numbers(shape, rng).autodiff();
        let of_found = (found.output.clone() * factors.clone()).sum().backward();
        let of_expected = (output.clone() * factors).sum().backward();
        assert_same(found.output, output, "the output");
        assert_same(found.mean, expected.mean, "the mean");
        assert_same(found.variance, expected.variance, "the variance");
        // Differences of nearly equal numbers, which both compute in single precision.
        let of_x = difference(x.grad(&of_found).unwrap(), own_x.grad(&of_expected).unwrap());
        assert!(of_x < 1e-4, "the input's gradient differs by {of_x} for {shape:?}");
        let of_g = difference(g.grad(&of_found).unwrap(), own_g.grad(&of_expected).unwrap());
        assert!(of_g < 1e-4, "gamma's gradient differs by {of_g} for {shape:?}");
        assert_same(b.grad(&of_found).unwrap(), own_b.grad(&of_expected).unwrap(), "beta's gradient");
    }
}

/// A sum over threads that call it together.
fn sums_over_threads(size: usize) -> Arc<flexconv::SumOverProcesses> {
    let (parts, barrier) = (Mutex::new(Vec::<Vec<f64>>::new()), Barrier::new(size));
    Arc::new(move |values: &mut [f64]| {
        parts.lock().unwrap().push(values.to_vec());
        barrier.wait();
        for (at, value) in values.iter_mut().enumerate() {
            *value = parts.lock().unwrap().iter().map(|part| part[at]).sum();
        }
        barrier.wait();
        parts.lock().unwrap().clear();
        barrier.wait();
    })
}

#[test]
fn batch_norm_over_processes_is_that_of_the_whole_batch() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    over_processes::<2>([12, 9], &mut rng);
    over_processes::<4>([9, 70, 2, 3], &mut rng);
    over_processes::<4>([7, 3, 9, 11], &mut rng);
}

fn over_processes<const D: usize>(shape: [usize; D], rng: &mut ChaCha8Rng) {
    let input = numbers(shape, rng) * 3.0 + 20.0;
    let (gamma, beta, factors) = (numbers([shape[1]], rng), numbers([shape[1]], rng), numbers(shape, rng));
    // Parts of different sizes, whose mean losses count by them.
    let count = shape[0];
    let bounds = [0, count / 3, count / 3 + 1, count];
    for rectified in [false, true] {
        let (x, g, b) = (leaf(&input), leaf(&gamma), leaf(&beta));
        let whole = flexconv::batch_norm_train(x.clone(), g.clone(), b.clone(), 1e-5, rectified);
        let gradients = (whole.output.clone() * factors.clone().autodiff()).sum().div_scalar(count as f64).backward();
        let sum = sums_over_threads(3);
        let parts = [0, 1, 2].map(|part| {
            let (start, length) = (bounds[part], bounds[part + 1] - bounds[part]);
            let (x, g, b) = (leaf(&input.clone().narrow(0, start, length)), leaf(&gamma), leaf(&beta));
            let factors = factors.clone().narrow(0, start, length).autodiff();
            let across = flexconv::Across { sum: sum.clone(), weight: length as f64 / count as f64 };
            std::thread::spawn(move || {
                let found = flexconv::batch_norm_train_across(&x, [&g, &b], 1e-5, rectified, &across).unwrap();
                let loss = (found.output.clone() * factors).sum().div_scalar(length as f64);
                let gradients = loss.backward();
                let weighted = |gradient: Tensor<1>| gradient * across.weight;
                let of_x = x.grad(&gradients).unwrap() * across.weight;
                (found, of_x, weighted(g.grad(&gradients).unwrap()), weighted(b.grad(&gradients).unwrap()))
            })
        });
        let parts = parts.map(|part| part.join().unwrap());
        let together = |of: &dyn Fn(usize) -> Tensor<D>| Tensor::cat((0..3).map(of).collect(), 0);
        assert_same(together(&|part| parts[part].0.output.clone().inner()), whole.output.inner(), "the output");
        let (mean, variance) = (whole.mean, whole.variance);
        for (found, ..) in &parts {
            assert_eq!(found.count, whole.count);
            assert_same(found.mean.clone(), mean.clone(), "the mean");
            assert_same(found.variance.clone(), variance.clone(), "the variance");
        }
        let of_x = difference(together(&|part| parts[part].1.clone()), x.grad(&gradients).unwrap());
        assert!(of_x < 1e-5, "the input's gradient differs by {of_x} for {shape:?}");
        let sum = |of: &dyn Fn(usize) -> Tensor<1>| of(0) + of(1) + of(2);
        let of_g = difference(sum(&|part| parts[part].2.clone()), g.grad(&gradients).unwrap());
        assert!(of_g < 1e-5, "gamma's gradient differs by {of_g} for {shape:?}");
        assert_same(sum(&|part| parts[part].3.clone()), b.grad(&gradients).unwrap(), "beta's gradient");
    }
}

#[test]
fn the_rectifier_passes_gradients_at_zero() {
    let input = Tensor::<1>::from_floats([-1.0, 0.0, 2.0], &Device::flex()).autodiff().require_grad();
    let output = flexconv::relu(input.clone());
    let gradients = (output.clone() * 3.0).sum().backward();
    output.into_data().assert_eq(&TensorData::from([0.0_f32, 0.0, 2.0]), true);
    input.grad(&gradients).unwrap().into_data().assert_eq(&TensorData::from([0.0_f32, 3.0, 3.0]), true);
}

/// What a function of several tensors gives, and the gradients of its sum with random factors, in single and in double
/// precision, where no kernel of this crate runs.
fn assert_same_in_double<const D: usize, const N: usize>(
    inputs: [Tensor<D>; N],
    of: impl Fn([Tensor<D>; N]) -> Tensor<D>,
    what: &str,
) {
    let run = |dtype: DType, factors: Option<Tensor<D>>| {
        let leaves = inputs.each_ref().map(|input| input.clone().cast(dtype).autodiff().require_grad());
        let output = of(leaves.clone());
        assert_eq!(output.dtype(), dtype);
        let factors = factors.unwrap_or_else(|| numbers(output.dims(), &mut ChaCha8Rng::seed_from_u64(9)));
        let gradients = (output.clone() * factors.clone().cast(dtype).autodiff()).sum().backward();
        let of_leaves = leaves.map(|leaf| leaf.grad(&gradients).unwrap().cast(DType::F32));
        (output.inner().cast(DType::F32), of_leaves, factors)
    };
    let (output, of_inputs, factors) = run(DType::F32, None);
    let (expected, of_expected, _) = run(DType::F64, Some(factors));
    assert_same(output, expected.clone(), what);
    let without_a_graph = of(inputs.clone());
    assert_same(without_a_graph, expected, what);
    for (index, (found, expected)) in of_inputs.into_iter().zip(of_expected).enumerate() {
        let difference = difference(found, expected);
        assert!(difference < 2e-5, "{what}: the gradient of operand {index} differs by {difference}");
    }
}

#[test]
fn attention_agrees_with_what_it_is_composed_of() {
    let mut rng = ChaCha8Rng::seed_from_u64(20);
    // Batch, time, width, heads, groups; more positions than rows of a block, and odd numbers of everything.
    let shapes =
        [[2, 5, 4, 3, 3], [1, 1, 2, 1, 1], [3, 64, 32, 4, 2], [2, 65, 8, 6, 1], [1, 150, 5, 4, 4], [2, 16, 1, 2, 2]];
    for [batch, time, width, heads, groups] in shapes {
        let queries = numbers([batch, time, heads * width], &mut rng) * 4.0;
        let [keys, values] = [0, 1].map(|_| numbers([batch, time, groups * width], &mut rng) * 2.0);
        for causal in [true, false] {
            let of =
                |[queries, keys, values]: [Tensor<3>; 3]| flexconv::attention(queries, keys, values, width, causal);
            let what = format!("{time} {width} {heads} {groups} {causal}");
            assert_same_in_double([queries.clone(), keys.clone(), values.clone()], of, &what);
        }
    }
}

#[test]
fn token_norms_agree_with_what_they_are_composed_of() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    for [batch, time, features] in [[2, 3, 5], [1, 1, 1], [40, 30, 64], [3, 2, 700]] {
        let input = numbers([batch, time, features], &mut rng) + 0.7;
        let vectors = [0, 1].map(|_| numbers([1, 1, features], &mut rng));
        let flat = |vector: Tensor<3>| vector.reshape([features]);
        let [factors, summands] = vectors;
        let rms = |[input, factors]: [Tensor<3>; 2]| flexconv::token_norm(input, flat(factors), None, 1e-5);
        assert_same_in_double([input.clone(), factors.clone()], rms, &format!("rms {features}"));
        if features > 1 {
            let layer = |[input, factors, summands]: [Tensor<3>; 3]| {
                flexconv::token_norm(input, flat(factors), Some(flat(summands)), 1e-5)
            };
            assert_same_in_double([input, factors, summands], layer, &format!("layer {features}"));
        }
    }
}

#[test]
fn smooth_activations_agree_with_burns() {
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    for (count, size) in [(7, 1.0), (100_000, 6.0), (1000, 200.0)] {
        let input = numbers([count], &mut rng) * size;
        assert_same_in_double([input.clone()], |[input]| flexconv::gelu(input), &format!("gelu {count} {size}"));
        assert_same_in_double([input], |[input]| flexconv::silu(input), &format!("silu {count} {size}"));
    }
    let input = Tensor::<1>::from_floats([0.0, f32::NAN, -1e30, 1e30], &Device::flex());
    for output in [flexconv::gelu(input.clone()), flexconv::silu(input)] {
        let output = output.into_data().try_to_vec::<f32>().unwrap();
        assert!(output[0] == 0.0 && output[1].is_nan() && output[2].abs() < 1e-6 && output[3] == 1e30, "{output:?}");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let mut bits = Vec::new();
            for (channels, size, stride) in [(16, 32, 1), (64, 8, 2), (96, 4, 1), (3, 33, 2)] {
                let config = Conv2dConfig::new([channels, 24], [3, 3]).with_stride([stride, stride]).with_bias(false);
                let conv = config.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(&Device::flex().autodiff());
                let weight = leaf(&numbers(conv.weight.dims(), &mut rng));
                let conv = burn::nn::conv::Conv2d { weight: Param::from_tensor(weight), ..conv };
                let input = leaf(&numbers([37, channels, size, size], &mut rng));
                let gamma = leaf(&numbers([24], &mut rng));
                let convolved = flexconv::convolve(&conv, input.clone());
                let output = flexconv::batch_norm_train(convolved, gamma.clone(), gamma.clone(), 1e-5, true).output;
                let gradients = output.clone().square().sum().backward();
                let mut add = |values: Vec<f32>| bits.extend(values.into_iter().map(f32::to_bits));
                add(output.into_data().try_to_vec().unwrap());
                add(input.grad(&gradients).unwrap().into_data().try_to_vec().unwrap());
                add(conv.weight.val().grad(&gradients).unwrap().into_data().try_to_vec().unwrap());
                add(gamma.grad(&gradients).unwrap().into_data().try_to_vec().unwrap());
            }
            let tokens = [0, 1, 2].map(|_| leaf(&numbers([5, 80, 48], &mut rng)));
            let [queries, keys, values] = tokens.clone();
            let gathered = flexconv::attention(queries, keys, values, 16, true);
            let factors = leaf(&numbers([48], &mut rng));
            let output = flexconv::gelu(flexconv::token_norm(gathered, factors.clone(), None, 1e-5));
            let gradients = output.clone().square().sum().backward();
            let mut add = |values: Vec<f32>| bits.extend(values.into_iter().map(f32::to_bits));
            add(output.into_data().try_to_vec().unwrap());
            add(factors.grad(&gradients).unwrap().into_data().try_to_vec().unwrap());
            tokens.iter().for_each(|leaf| add(leaf.grad(&gradients).unwrap().into_data().try_to_vec().unwrap()));
            bits
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(3) && one == run(7), "the bits differ");
}

/// In double precision no kernel of this crate runs, as on another device: Burn's own operations take their place.
#[test]
fn gradients_without_kernels_agree_with_those_of_the_kernels() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for (stride, padding, dilation) in [([1, 1], [0, 0], [1, 1]), ([2, 1], [1, 2], [1, 1]), ([1, 2], [2, 1], [2, 1])] {
        let options = ConvOptions::new(stride, padding, dilation, 1);
        let (input, weight) = (numbers([3, 4, 9, 8], &mut rng), numbers([5, 4, 3, 2], &mut rng));
        let output = module::conv2d(input.clone(), weight.clone(), None, options.clone());
        let gradient = numbers(output.dims(), &mut rng);
        let double = |tensor: &Tensor<4>| tensor.clone().cast(DType::F64);
        let of_input =
            |gradient, weight| flexconv::conv2d_input_gradient(gradient, weight, input.dims(), options.clone());
        let of_weight =
            |gradient, input| flexconv::conv2d_weight_gradient(gradient, input, weight.dims(), options.clone());
        let found = of_input(double(&gradient), double(&weight));
        assert_eq!(found.dtype(), DType::F64);
        assert_same(of_input(gradient.clone(), weight.clone()), found.cast(DType::F32), "the input's gradient");
        let found = of_weight(double(&gradient), double(&input));
        assert_same(of_weight(gradient.clone(), input.clone()), found.cast(DType::F32), "the weight's gradient");
    }
}

/// One sum in single precision over so many positions would be off by 1e-4.
#[test]
fn weight_gradients_over_many_positions_keep_their_digits() {
    let (batch, side) = (10, 100);
    let constant = |channels: usize, value: f32| {
        Tensor::<4>::from_data(
            TensorData::new(vec![value; batch * channels * side * side], [batch, channels, side, side]),
            &Device::flex(),
        )
    };
    for kernel in [1, 3] {
        let options = ConvOptions::new([1, 1], [kernel / 2, kernel / 2], [1, 1], 1);
        let found =
            flexconv::conv2d_weight_gradient(constant(3, 0.1), constant(2, 0.7), [3, 2, kernel, kernel], options);
        let centre = found.slice([0..3, 0..2, kernel / 2..kernel / 2 + 1, kernel / 2..kernel / 2 + 1]);
        let expected = f64::from(0.1_f32) * f64::from(0.7_f32) * (batch * side * side) as f64;
        for entry in centre.into_data().iter::<f64>() {
            assert!((entry / expected - 1.0).abs() < 5e-6, "{entry} {expected}");
        }
    }
}

/// The mean of squares less the square of the mean would have no digit of this variance.
#[test]
fn the_variance_of_inputs_far_from_zero_keeps_its_digits() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for shape in [[64, 3, 9, 9], [300, 5, 1, 1], [2, 4, 40, 40]] {
        let input = numbers(shape, &mut rng).add_scalar(1e3);
        let ones =
            |value: f32| Tensor::<1>::from_data(TensorData::new(vec![value; shape[1]], [shape[1]]), &Device::flex());
        let normalized = flexconv::batch_norm_train(
            input.clone().autodiff(),
            ones(1.0).autodiff(),
            ones(0.0).autodiff(),
            1e-5,
            false,
        );
        let entries = input.into_data().iter::<f64>().collect::<Vec<_>>();
        let positions = shape[2] * shape[3];
        let variances = normalized.variance.into_data().iter::<f64>().collect::<Vec<_>>();
        let output = normalized.output.inner().into_data().iter::<f64>().collect::<Vec<_>>();
        for (channel, found) in variances.into_iter().enumerate() {
            let at = |example: usize, position: usize| (example * shape[1] + channel) * positions + position;
            let places = (0..shape[0]).flat_map(|example| (0..positions).map(move |position| (example, position)));
            let places = places.map(|(example, position)| at(example, position)).collect::<Vec<_>>();
            let count = places.len() as f64;
            let mean = places.iter().map(|place| entries[*place]).sum::<f64>() / count;
            let variance = places.iter().map(|place| (entries[*place] - mean).powi(2)).sum::<f64>() / count;
            assert!((found / variance - 1.0).abs() < 1e-3, "{found} {variance}");
            for place in places {
                let expected = (entries[place] - mean) / (variance + 1e-5).sqrt();
                assert!((output[place] - expected).abs() < 2e-3, "{} {expected}", output[place]);
            }
        }
    }
}
