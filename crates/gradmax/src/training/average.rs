//! An exponential moving average of a network's weights (Polyak and Juditsky 1992, with decay), which grows along with
//! the network.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// The average after one more step, which led to these weights; running statistics are averaged too.
///
/// `steps` is the number of steps before. The first steps count for more than the decay says, so that the weights that
/// the network started with are soon forgotten.
pub(crate) fn averaged<M: Module>(average: M, network: &M, decay: f64, steps: usize) -> M {
    let decay = decay.min((1.0 + steps as f64) / (10.0 + steps as f64));
    // A container for tensors of any rank, by parameter.
    let mut weights = Weights(GradientsParams::new());
    network.valid().visit(&mut weights);
    average.map(&mut Averaging { weights: weights.0, decay })
}

struct Weights(GradientsParams);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register(param.id, param.val());
    }
}

struct Averaging {
    weights: GradientsParams,
    decay: f64,
}

impl ModuleMapper for Averaging {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.weights.remove::<D>(param.id) {
            Some(weights) => param.map(|old| old.mul_scalar(self.decay) + weights.mul_scalar(1.0 - self.decay)),
            None => param,
        }
    }
}
