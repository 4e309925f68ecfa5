//! The three passes of a convolution: forward, and the gradients of its input and its weights.

use rayon::prelude::*;

use crate::correlate::{Correlator, Finish, Target, Weights};
use crate::geometry::{Correlation, Geometry};
use crate::kernel::InstructionSet;
use crate::weight_gradient::WeightGradient;

/// A convolution of a batch on this processor.
pub(crate) struct Convolution<'a> {
    pub(crate) geometry: Geometry,
    pub(crate) set: &'a InstructionSet,
    /// Whether the input is rectified before it is convolved.
    pub(crate) rectified: bool,
}

impl Convolution<'_> {
    /// The output: `[batch, groups * outputs, height, width]`.
    pub(crate) fn forward(&self, input: &[f32], weight: &[f32], finish: Finish<'_>) -> Vec<f32> {
        let correlation = self.geometry.forward();
        let source = (input, self.rectified);
        self.correlate(&[correlation], source, (weight, Weights::AsTheyAre), finish)
    }

    /// The gradient of the input, from that of the output.
    pub(crate) fn input_gradient(&self, gradient: &[f32], input: &[f32], weight: &[f32]) -> Vec<f32> {
        let finish = Finish { mask: self.rectified.then_some(input), ..Finish::default() };
        self.correlate(&self.geometry.input_gradient(), (gradient, false), (weight, Weights::Exchanged), finish)
    }

    /// The gradient of the weights, from that of the output.
    pub(crate) fn weight_gradient(&self, gradient: &[f32], input: &[f32]) -> Vec<f32> {
        let Self { geometry, rectified, set } = self;
        WeightGradient { geometry, source: input, rectified: *rectified, gradient }.run(set)
    }

    /// The gradient of a bias: the sum over images and positions, for each channel of a number of maps of so many
    /// positions.
    pub(crate) fn bias_gradient(geometry: &Geometry, gradient: &[f32]) -> Vec<f32> {
        let Geometry { groups, outputs, batch, .. } = *geometry;
        let channels = groups * outputs;
        let plane = gradient.len() / (batch * channels).max(1);
        let of = |channel: usize| {
            let maps = (0..batch).map(|image| &gradient[(image * channels + channel) * plane..][..plane]);
            maps.map(|map| map.iter().sum::<f32>()).sum::<f32>()
        };
        (0..channels).into_par_iter().map(of).collect()
    }

    fn correlate(
        &self,
        parts: &[Correlation],
        (source, rectified): (&[f32], bool),
        weights: (&[f32], Weights),
        finish: Finish<'_>,
    ) -> Vec<f32> {
        let Geometry { batch, .. } = self.geometry;
        let Some(first) = parts.first() else {
            return Vec::new();
        };
        let size = batch * first.groups * first.outputs * first.target.iter().product::<usize>();
        let mut target = Vec::with_capacity(size);
        for correlation in parts {
            let kernel = self.geometry.taps();
            let run = Correlator { correlation, batch, source, rectified, weights, kernel, finish };
            // SAFETY: the target has room for its whole shape.
            unsafe { run.run(self.set, Target(target.as_mut_ptr())) };
        }
        // SAFETY: the parts write every position: one for each remainder of rows and columns by the stride.
        unsafe { target.set_len(size) };
        target
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::ChaCha8Rng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::kernel::available;

    /// A convolution with its tensors.
    struct Case {
        geometry: Geometry,
        input: Vec<f32>,
        weight: Vec<f32>,
        gradient: Vec<f32>,
    }

    impl Case {
        fn draw(rng: &mut ChaCha8Rng) -> Self {
            let geometry = loop {
                let pair = |rng: &mut ChaCha8Rng, least: usize, most: usize| {
                    [rng.random_range(least..=most), rng.random_range(least..=most)]
                };
                let depthwise = rng.random_range(0..4) == 0;
                let channels = |rng: &mut ChaCha8Rng| match rng.random_range(0..8) {
                    0 => rng.random_range(120..150),
                    _ => rng.random_range(1..=13),
                };
                let wide = rng.random_range(0..3) == 0;
                let geometry = Geometry {
                    batch: rng.random_range(1..=if wide { 3 } else { 19 }),
                    groups: if depthwise { rng.random_range(2..=9) } else { rng.random_range(1..=2) },
                    inputs: if depthwise { 1 } else { channels(rng) },
                    outputs: if depthwise { 1 } else { channels(rng) },
                    input: if wide { pair(rng, 1, 40) } else { pair(rng, 1, 12) },
                    kernel: pair(rng, 1, 5),
                    stride: pair(rng, 1, 3),
                    padding: pair(rng, 0, 3),
                    padding_end: pair(rng, 0, 3),
                    dilation: pair(rng, 1, 2),
                };
                if geometry.output().is_some() && geometry.operations() < 30_000_000 {
                    break geometry;
                }
            };
            let Geometry { batch, groups, inputs, outputs, input, .. } = geometry;
            let output = geometry.output().expect("it was drawn to fit").iter().product::<usize>();
            let mut numbers = |count: usize| (0..count).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
            Self {
                input: numbers(batch * groups * inputs * input[0] * input[1]),
                weight: numbers(groups * outputs * inputs * geometry.taps()),
                gradient: numbers(batch * groups * outputs * output),
                geometry,
            }
        }

        /// Calls `visit(input index, weight index, output index)` for every product that the convolution sums.
        fn products(&self, mut visit: impl FnMut(usize, usize, usize)) {
            let Geometry { batch, groups, inputs, outputs, input, kernel, stride, padding, dilation, .. } =
                self.geometry;
            let output = self.geometry.output().expect("it was drawn to fit");
            for image in 0..batch {
                for to in 0..groups * outputs {
                    let group = to / outputs;
                    for from in 0..inputs {
                        for position in 0..output[0] * output[1] {
                            for tap in 0..kernel[0] * kernel[1] {
                                let at = |axis: usize, position: usize, tap: usize| {
                                    let at = position * stride[axis] + tap * dilation[axis];
                                    at.checked_sub(padding[axis]).filter(|at| *at < input[axis])
                                };
                                let row = at(0, position / output[1], tap / kernel[1]);
                                let column = at(1, position % output[1], tap % kernel[1]);
                                if let (Some(row), Some(column)) = (row, column) {
                                    let map = image * groups * inputs + group * inputs + from;
                                    visit(
                                        (map * input[0] + row) * input[1] + column,
                                        (to * inputs + from) * self.geometry.taps() + tap,
                                        (image * groups * outputs + to) * output[0] * output[1] + position,
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn rectified(values: &[f32], rectify: bool) -> Vec<f64> {
        values.iter().map(|value| if rectify { f64::from(value.max(0.0)) } else { f64::from(*value) }).collect()
    }

    /// Sums of products of numbers below one, in single precision: the error grows with the root of their number.
    fn assert_close(found: &[f32], expected: &[f64], what: &str, geometry: &Geometry) {
        assert_eq!(found.len(), expected.len(), "{what} of {geometry:?}");
        let scale = expected.iter().fold(1.0_f64, |scale, value| scale.max(value.abs()));
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let difference = (f64::from(*found) - expected).abs();
            assert!(difference < 1e-5 * scale, "{what}[{index}] of {geometry:?}: {found}, expected {expected}");
        }
    }

    /// All passes, on every instruction set of this processor, against sums in double precision.
    #[test]
    fn passes_agree_with_plain_sums_in_double_precision() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for index in 0..1500 {
            let case = Case::draw(&mut rng);
            let rectify = index % 2 == 1;
            let input = rectified(&case.input, rectify);
            let weight = rectified(&case.weight, false);
            let gradient = rectified(&case.gradient, false);
            let mut outputs = vec![0.0; gradient.len()];
            let (mut of_input, mut of_weight) = (vec![0.0; input.len()], vec![0.0; weight.len()]);
            case.products(|i, w, o| {
                outputs[o] += input[i] * weight[w];
                of_input[i] += gradient[o] * weight[w];
                of_weight[w] += gradient[o] * input[i];
            });
            if rectify {
                of_input.iter_mut().zip(&case.input).for_each(|(value, input)| *value *= f64::from(*input >= 0.0));
            }
            for set in available() {
                let convolution = Convolution { geometry: case.geometry, set, rectified: rectify };
                let what = |pass: &str| format!("{pass}, {}", set.name);
                let found = convolution.forward(&case.input, &case.weight, Finish::default());
                assert_close(&found, &outputs, &what("output"), &case.geometry);
                let found = convolution.input_gradient(&case.gradient, &case.input, &case.weight);
                assert_close(&found, &of_input, &what("input gradient"), &case.geometry);
                let found = convolution.weight_gradient(&case.gradient, &case.input);
                assert_close(&found, &of_weight, &what("weight gradient"), &case.geometry);
            }
        }
    }
}
