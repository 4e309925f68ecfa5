//! The norm of all gradients of a module together.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
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

/// The gradients of the mean loss over all parts, by a pass over each.
pub(crate) fn gradients_of_parts<N: Growable>(network: &N, parts: &[Part<'_, N>]) -> Result<GradientsParams, Error> {
    let mut sum = GradientsAccumulator::new();
    for part in parts {
        // Weighted before the backward pass: a scalar costs less than all gradients.
        let loss = part.run(network, &mut ())?.loss.mul_scalar(part.weight);
        sum.accumulate(network, GradientsParams::from_grads(loss.backward(), network));
    }
    Ok(sum.grads())
}
