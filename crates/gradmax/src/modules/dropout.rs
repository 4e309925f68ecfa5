//! Dropout that draws from the run's seed.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};

use crate::across::share;
use crate::draws::next_draw;
use crate::seed::Seed;

/// Dropout (Srivastava et al. 2014): in training, entries become 0 with probability `rate`, and the others are divided
/// by `1 - rate`.
///
/// Whether an entry is dropped depends on the seed of the [step](crate::training::with_draws), the number of dropout
/// layers before this one in the pass, and the entry's indices; so runs are reproducible, a resumed run drops what it
/// would have dropped, and existing neurons keep what they drop when others are added. Burn's own dropout draws from
/// one generator of the whole process, which runs side by side share.
#[derive(Module, Debug)]
pub struct Dropout {
    /// The probability, at least 0 and below 1.
    pub rate: f64,
}

impl Dropout {
    /// Dropout with this probability.
    ///
    /// # Panics
    /// If it is not at least 0 and below 1.
    pub fn new(rate: f64) -> Self {
        assert!((0.0..1.0).contains(&rate), "a dropout rate of {rate} is not at least 0 and below 1");
        Self { rate }
    }

    /// Drops entries where gradients are computed; elsewhere, the input is left as it is.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        if self.rate == 0.0 || !input.device().is_autodiff() {
            return input;
        }
        let dims = input.dims();
        let mut factors = Vec::with_capacity(dims.iter().product());
        let kept = 1.0 - self.rate;
        // As an integer, so that an entry costs one hash and one comparison.
        let below = (kept * u64::MAX as f64) as u64;
        // Drawn on the host: no device has a generator that is a function of indices.
        let factor = |hash: u64| if hash < below { (1.0 / kept) as f32 } else { 0.0 };
        // Of several machines, each has some of the batch's examples.
        push_factors(&mut factors, next_draw(), share().first, &dims, &factor);
        let factors = Tensor::<D>::from_data(TensorData::new(factors, dims), (&input.device().inner(), input.dtype()));
        input * factors.autodiff()
    }
}

/// The factors of all entries of these sizes, each a function of its own indices; those of the first axis begin at
/// `start`.
fn push_factors(factors: &mut Vec<f32>, seed: Seed, start: usize, dims: &[usize], factor: &impl Fn(u64) -> f32) {
    let indices = |count: usize| (start..start + count).map(|index| seed.at(index as u64));
    match dims {
        [] => factors.push(factor(seed.value())),
        [last] => factors.extend(indices(*last).map(|seed| factor(seed.value()))),
        [first, rest @ ..] => indices(*first).for_each(|seed| push_factors(factors, seed, 0, rest, factor)),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::draws::with_draws;

    fn dropped(seed: u64, shape: [usize; 3]) -> Vec<f32> {
        let ones = Tensor::<3>::ones(shape, &Device::flex().autodiff());
        let output = with_draws(Seed::new(seed), || Dropout::new(0.25).forward(ones));
        output.into_data().try_into_vec_as::<f32>().unwrap()
    }

    #[test]
    fn a_share_of_the_entries_is_dropped_and_the_mean_kept() {
        let values = dropped(1, [50, 20, 10]);
        assert!(values.iter().all(|value| *value == 0.0 || (value - 4.0 / 3.0).abs() < 1e-6));
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        // Standard error sqrt(.25 / .75 / 10000) = .006.
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
    }

    #[test]
    fn entries_keep_what_they_drop_when_any_axis_grows() {
        let [small, large] = [[3, 4, 5], [4, 6, 7]].map(|shape| (dropped(2, shape), shape));
        for (i, j, k) in (0..3).flat_map(|i| (0..4).flat_map(move |j| (0..5).map(move |k| (i, j, k)))) {
            let [a, b] = [&small, &large].map(|(values, shape)| values[(i * shape[1] + j) * shape[2] + k]);
            assert_eq!(a, b);
        }
    }

    #[test]
    fn layers_of_a_pass_and_steps_differ() {
        let ones = Tensor::<2>::ones([10, 10], &Device::flex().autodiff());
        let dropout = Dropout::new(0.5);
        let [first, second] = with_draws(Seed::new(3), || [0, 1].map(|_| dropout.forward(ones.clone()).into_data()));
        assert_ne!(first, second);
        assert_ne!(dropped(3, [1, 10, 10]), dropped(4, [1, 10, 10]));
        assert_eq!(dropout.forward(ones.clone().inner()).into_data(), ones.into_data());
    }
}
