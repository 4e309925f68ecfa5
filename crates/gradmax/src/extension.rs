//! Extensions: entries to append to parameters, the only currency of growth. One list widens the module, pads its
//! gradients and its optimizer state, and is what a receipt counts.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

use crate::error::Error;

/// Entries to append to one parameter along one axis.
///
/// `values` has the parameter's *old* shape but for the axis, where it has the number of new entries. Extensions of one
/// parameter along several axes are all stated against its old shape; where they meet, entries are zero.
#[derive(Debug, Clone)]
pub struct Extension {
    /// The parameter.
    pub parameter: ParamId,
    /// The axis to append along.
    pub axis: usize,
    /// The old length of that axis.
    pub at: usize,
    /// What to append.
    pub values: TensorData,
}

impl Extension {
    /// Number of entries that the axis gains.
    pub fn added(&self) -> usize {
        self.values.shape()[self.axis]
    }

    /// The parameter's shape before.
    pub fn old_shape(&self) -> Vec<usize> {
        let mut shape = self.values.shape().to_vec();
        shape[self.axis] = self.at;
        shape
    }

    fn check(&self, name: &str, shape: &[usize]) -> Result<(), Error> {
        if self.old_shape() == shape {
            return Ok(());
        }
        Err(Error::ExtensionMismatch {
            parameter: name.to_string(),
            axis: self.axis,
            reason: format!("it was made for shape {:?}, but the parameter has shape {shape:?}", self.old_shape()),
        })
    }
}

/// Extensions by the parameter that they are for.
pub(crate) fn by_parameter(extensions: &[Extension]) -> BTreeMap<ParamId, Vec<&Extension>> {
    let mut grouped = BTreeMap::<_, Vec<_>>::new();
    for extension in extensions {
        grouped.entry(extension.parameter).or_default().push(extension);
    }
    grouped
}

/// Appends the extensions to the module's parameters; ids, and everything else, stay as they are.
///
/// # Errors
/// [`Error::ExtensionMismatch`], if an extension's parameter is not in the module or has another shape. The module is
/// consumed; clone it first if it must survive a failure (a clone shares its tensors and costs next to nothing).
pub fn widen<M: Module>(module: M, extensions: &[Extension]) -> Result<M, Error> {
    let mut widening =
        Widening { extensions: by_parameter(extensions), path: Vec::new(), done: BTreeSet::new(), error: None };
    let module = module.map(&mut widening);
    if let Some(error) = widening.error {
        return Err(error);
    }
    match widening.extensions.iter().find(|(id, _)| !widening.done.contains(*id)) {
        None => Ok(module),
        Some((id, missed)) => Err(Error::ExtensionMismatch {
            parameter: id.to_string(),
            axis: missed[0].axis,
            reason: "the network has no such parameter; `sites()` must name layers of the network itself".into(),
        }),
    }
}

struct Widening<'a> {
    extensions: BTreeMap<ParamId, Vec<&'a Extension>>,
    path: Vec<String>,
    done: BTreeSet<ParamId>,
    error: Option<Error>,
}

impl ModuleMapper for Widening<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(extensions) = self.extensions.get(&param.id) else {
            return param;
        };
        let shape = param.val().dims();
        if let Some(error) = extensions.iter().find_map(|extension| extension.check(&self.path.join("."), &shape).err())
        {
            self.error.get_or_insert(error);
            return param;
        }
        self.done.insert(param.id);
        param.map(|old| {
            let tracked = old.is_require_grad();
            let autodiff = old.is_autodiff();
            let grown = appended(old.inner(), extensions);
            match autodiff {
                true => grown.autodiff().set_require_grad(tracked),
                false => grown,
            }
        })
    }
}

/// Appends gradients of new entries to the gradients of a module that has been widened by extensions of the same shapes.
pub(crate) fn widen_gradients<M: Module>(
    module: &M,
    gradients: GradientsParams,
    extensions: &[Extension],
) -> GradientsParams {
    let mut widening = GradientWidening { extensions: by_parameter(extensions), gradients };
    module.visit(&mut widening);
    widening.gradients
}

struct GradientWidening<'a> {
    extensions: BTreeMap<ParamId, Vec<&'a Extension>>,
    gradients: GradientsParams,
}

impl ModuleVisitor for GradientWidening<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(extensions) = self.extensions.get(&param.id) else {
            return;
        };
        // A frozen parameter has no gradient, and needs none.
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, appended(gradient, extensions));
        }
    }
}

/// The tensor with all its extensions appended, zero where they meet.
fn appended<const D: usize>(old: Tensor<D>, extensions: &[&Extension]) -> Tensor<D> {
    let device = old.device();
    let dtype = old.dtype();
    extensions.iter().fold(old, |tensor, extension| {
        let mut values = Tensor::<D>::from_data(extension.values.clone(), (&device, dtype));
        for axis in (0..D).filter(|axis| *axis != extension.axis) {
            let missing = tensor.dims()[axis] - values.dims()[axis];
            if missing > 0 {
                let mut corner = values.dims();
                corner[axis] = missing;
                values = Tensor::cat(vec![values, Tensor::zeros(corner, (&device, dtype))], axis);
            }
        }
        Tensor::cat(vec![tensor, values], extension.axis)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    fn extension(parameter: ParamId, axis: usize, at: usize, shape: [usize; 2]) -> Extension {
        let values = TensorData::new(vec![2.0_f32; shape[0] * shape[1]], shape);
        Extension { parameter, axis, at, values }
    }

    #[test]
    fn extensions_of_two_axes_meet_in_zeros() {
        let linear = LinearConfig::new(2, 3).with_bias(false).init(&Device::flex().autodiff());
        let id = linear.weight.id;
        let old = linear.weight.val().into_data();
        let grown = widen(linear, &[extension(id, 0, 2, [1, 3]), extension(id, 1, 3, [2, 2])]).unwrap();

        assert_eq!(grown.weight.id, id);
        assert!(grown.weight.val().is_require_grad());
        let values = grown.weight.val();
        assert_eq!(values.dims(), [3, 5]);
        assert_eq!(values.clone().slice([0..2, 0..3]).into_data(), old);
        assert_eq!(values.clone().slice([2..3, 0..3]).sum().into_scalar::<f32>(), 6.0);
        assert_eq!(values.clone().slice([0..2, 3..5]).sum().into_scalar::<f32>(), 8.0);
        assert_eq!(values.slice([2..3, 3..5]).abs().sum().into_scalar::<f32>(), 0.0);
    }

    #[test]
    fn extensions_that_do_not_fit_are_refused() {
        let linear = LinearConfig::new(2, 3).with_bias(false).init(&Device::flex());
        let wrong = extension(linear.weight.id, 0, 5, [1, 3]);
        assert!(matches!(widen(linear.clone(), &[wrong]), Err(Error::ExtensionMismatch { .. })));
        let elsewhere = extension(ParamId::new(), 0, 2, [1, 3]);
        assert!(matches!(widen(linear, &[elsewhere]), Err(Error::ExtensionMismatch { .. })));
    }
}
