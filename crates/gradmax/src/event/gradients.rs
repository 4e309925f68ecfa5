//! All gradients of a module together: their norm, and their sums.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::error::Error;
use crate::event::pass::Part;
use crate::site::growable::Growable;

/// The norm of all gradients of a module together.
pub(crate) fn gradient_norm<M: Module>(module: &M, gradients: &GradientsParams) -> f64 {
    let mut norm = SquaredNorm { gradients, sum: 0.0 };
    module.visit(&mut norm);
    norm.sum.sqrt()
}

struct SquaredNorm<'a> {
    gradients: &'a GradientsParams,
    sum: f64,
}

impl ModuleVisitor for SquaredNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sum += gradient.square().sum().into_scalar::<f64>();
        }
    }
}

/// Gradients, with more of them added, which count with a weight.
pub(crate) fn added<M: Module>(
    module: &M,
    sum: GradientsParams,
    more: GradientsParams,
    weight: f64,
) -> GradientsParams {
    let mut adding = Summing { sum, more, weight };
    module.visit(&mut adding);
    adding.sum
}

struct Summing {
    sum: GradientsParams,
    more: GradientsParams,
    weight: f64,
}

impl ModuleVisitor for Summing {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(more) = self.more.remove::<D>(param.id) {
            let more = more.mul_scalar(self.weight);
            let sum = self.sum.remove::<D>(param.id).map_or(more.clone(), |sum| sum + more);
            self.sum.register(param.id, sum);
        }
    }
}

/// The gradients of the mean loss over all parts, by a pass over each.
pub(crate) fn gradients_of_parts<N: Growable>(network: &N, parts: &[Part<'_, N>]) -> Result<GradientsParams, Error> {
    let mut sum = GradientsParams::new();
    for part in parts {
        let gradients = GradientsParams::from_grads(part.run(network, &mut ())?.loss.backward(), network);
        sum = added(network, sum, gradients, part.weight);
    }
    Ok(sum)
}
