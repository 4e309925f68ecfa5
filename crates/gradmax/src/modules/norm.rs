//! The norms that networks of this crate can have.

use std::sync::Arc;

use burn::module::{Module, RunningState};
use burn::nn::BatchNorm;
use burn::tensor::{Device, Tensor};
use flexconv::{Across, Normalized};
use serde::{Deserialize, Serialize};

use super::GroupNorm;
use crate::across::{Share, share};
use crate::modules::parameter;

/// Which norm a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// None.
    #[default]
    None,
    /// Batch norm: epsilon 1e-5, running statistics with momentum .9 for the old value, of which the variance is the
    /// unbiased one, as in PyTorch (a batch itself is divided by its biased one). Burn's own module, outside of
    /// [`Norm`], keeps the biased variance.
    Batch,
    /// Group norm with so many channels in a group.
    Group(usize),
}

/// A norm over channels.
#[derive(Module, Debug)]
pub enum Norm {
    /// Batch norm.
    Batch(BatchNorm),
    /// Group norm.
    Group(GroupNorm),
}

/// Added to variances.
const EPSILON: f64 = 1e-5;
/// Weight of the current batch in running statistics.
const MOMENTUM: f64 = 0.1;

impl NormKind {
    /// A norm of this kind for a number of channels, which may be 0.
    pub fn init(&self, channels: usize, device: &Device) -> Option<Norm> {
        let ones = || Tensor::<1>::ones([channels], device);
        let zeros = || Tensor::<1>::zeros([channels], device);
        match self {
            Self::None => None,
            Self::Batch => Some(Norm::Batch(BatchNorm {
                gamma: parameter(ones()),
                beta: parameter(zeros()),
                training: burn::module::Param::from_bool(true),
                running_mean: RunningState::new(zeros()),
                running_var: RunningState::new(ones()),
                momentum: MOMENTUM,
                epsilon: EPSILON,
            })),
            Self::Group(group_size) => Some(Norm::Group(GroupNorm {
                gamma: parameter(ones()),
                beta: parameter(zeros()),
                group_size: *group_size,
                epsilon: EPSILON,
            })),
        }
    }
}

impl Norm {
    /// Applies the norm to `[batch, channels, ...]`.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.apply(input, false)
    }

    /// Applies the norm and then the rectifier, with slope 1 at 0.
    pub fn forward_rectified<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.apply(input, true)
    }

    fn apply<const D: usize>(&self, input: Tensor<D>, rectified: bool) -> Tensor<D> {
        let output = match self {
            Self::Batch(norm) if norm.training.is_enabled() && input.device().is_autodiff() => {
                return batch_norm_train(norm, input, rectified);
            }
            Self::Batch(norm) => norm.forward(input),
            Self::Group(norm) => norm.forward(input),
        };
        if rectified { flexconv::relu(output) } else { output }
    }
}

/// Batch norm in training mode, which moves the running statistics towards the batch's.
fn batch_norm_train<const D: usize>(norm: &BatchNorm, input: Tensor<D>, rectified: bool) -> Tensor<D> {
    let normalized = normalized(input, [norm.gamma.val(), norm.beta.val()], norm.epsilon, rectified);
    // What a batch's variance about its own mean lacks, in expectation.
    let unbiased = normalized.count as f64 / normalized.count.saturating_sub(1).max(1) as f64;
    let variance = normalized.variance.mul_scalar(unbiased);
    for (running, batch) in [(&norm.running_mean, normalized.mean), (&norm.running_var, variance)] {
        // Burn keeps pending values for each thread; without the sync a widened network would find those of the old
        // width.
        let old = running.value_sync().to_device(&batch.device());
        let new = old.mul_scalar(1.0 - norm.momentum).add(batch.mul_scalar(norm.momentum));
        running.update(new.detach());
    }
    normalized.output
}

/// Batch norm with the statistics of the batch; of that of all machines, where the run says so.
pub(crate) fn normalized<const D: usize>(
    input: Tensor<D>,
    [gamma, beta]: [Tensor<1>; 2],
    epsilon: f64,
    rectified: bool,
) -> Normalized<D> {
    match across() {
        // Nothing has no statistics.
        Some(across) if !input.dims().contains(&0) => {
            flexconv::batch_norm_train_across(&input, [&gamma, &beta], epsilon, rectified, &across).expect(REFUSED)
        }
        _ => flexconv::batch_norm_train(input, gamma, beta, epsilon, rectified),
    }
}

/// The entries less the means of their channels over all machines.
pub(crate) fn centred<const D: usize>(input: Tensor<D>, across: &Across) -> Tensor<D> {
    match input.dims().contains(&0) {
        true => input,
        false => flexconv::centre_across(&input, across).expect(REFUSED),
    }
}

const REFUSED: &str = "the trainer refuses other devices than `flex`";

/// The other machines, if statistics are taken over them.
pub(crate) fn across() -> Option<Across> {
    let Share { statistics, weight, .. } = share();
    statistics.map(|sums| Across { sum: Arc::new(move |values| sums.sum(values)), weight })
}

/// Whether a device can take statistics over several machines.
pub(crate) fn can_synchronise(device: &Device) -> bool {
    let (input, parameter) = (Tensor::<2>::ones([1, 1], device), Tensor::ones([1], device));
    let across = Across { sum: Arc::new(|_| {}), weight: 1.0 };
    flexconv::batch_norm_train_across(&input, [&parameter, &parameter], EPSILON, false, &across).is_some()
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    #[test]
    fn the_running_variance_is_the_unbiased_one() {
        let device = Device::flex().autodiff();
        let norm = NormKind::Batch.init(1, &device).expect("batch norm is a norm");
        // Of 1, 2, 3, 6: mean 3, sum of squares 14, so 14 / 3 unbiased and 14 / 4 biased.
        let input = Tensor::<2>::from_data(TensorData::new(vec![1.0_f32, 2.0, 3.0, 6.0], [4, 1]), &device);
        let output = norm.forward(input);
        let expected = (6.0 - 3.0) / (14.0_f64 / 4.0 + EPSILON).sqrt();
        assert!((output.max().into_scalar::<f64>() - expected).abs() < 1e-5, "a batch is divided by its own");
        let Norm::Batch(batch_norm) = Module::valid(&norm) else { unreachable!("the norm is batch norm") };
        let variance = batch_norm.running_var.value_sync().into_scalar::<f64>();
        assert!((variance - (0.9 + 0.1 * 14.0 / 3.0)).abs() < 1e-5, "{variance}");
        let mean = batch_norm.running_mean.value_sync().into_scalar::<f64>();
        assert!((mean - 0.3).abs() < 1e-6, "{mean}");
    }
}
