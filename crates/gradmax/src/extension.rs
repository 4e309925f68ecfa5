//! Extensions: entries to insert into parameters, the only currency of growth. One list widens the module, pads its
//! gradients and its optimizer state, and is what a receipt counts.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

use crate::error::Error;

/// Entries to insert into one parameter along one axis; usually at its end.
///
/// `values` has the parameter's *old* shape but for the axis, where it has the number of new entries. Extensions of one
/// parameter along several axes, or at several places of one, are all stated against its old shape; where axes meet,
/// entries are zero, or those of the entry that is copied.
#[derive(Debug, Clone)]
pub struct Extension {
    /// The parameter.
    pub parameter: ParamId,
    /// The axis that gains entries.
    pub axis: usize,
    /// The old length of that axis.
    pub length: usize,
    /// The old index that the new entries come before; the old length to append.
    pub at: usize,
    /// What to insert.
    pub values: TensorData,
    /// For each new entry along the axis, the old one that it is a copy of, if any: `values` are then added to what
    /// that one has become, along the other axes too. Empty if none is.
    pub copies: Vec<Option<usize>>,
}

impl Extension {
    /// Number of entries that the axis gains.
    pub fn added(&self) -> usize {
        self.values.shape()[self.axis]
    }

    /// The parameter's shape before.
    pub fn old_shape(&self) -> Vec<usize> {
        let mut shape = self.values.shape().to_vec();
        shape[self.axis] = self.length;
        shape
    }

    fn check(&self, name: &str, shape: &[usize]) -> Result<(), Error> {
        if self.old_shape() == shape && self.at <= self.length {
            return Ok(());
        }
        Err(Error::ExtensionMismatch {
            parameter: name.to_string(),
            axis: self.axis,
            reason: format!("it was made for shape {:?}, but the parameter has shape {shape:?}", self.old_shape()),
        })
    }
}

/// Extensions by the parameter that they are for, in the order in which they can be inserted one after another: places
/// that come later first, so that no insertion moves the next one's place.
pub(crate) fn by_parameter(extensions: &[Extension]) -> BTreeMap<ParamId, Vec<&Extension>> {
    let mut grouped = BTreeMap::<_, Vec<_>>::new();
    for extension in extensions {
        grouped.entry(extension.parameter).or_default().push(extension);
    }
    for of_parameter in grouped.values_mut() {
        of_parameter.reverse();
        // Copies come last, so that they take over all that is new in what they are copies of.
        let copies = |extension: &Extension| extension.copies.iter().any(Option::is_some);
        of_parameter.sort_by_key(|extension| (copies(extension), extension.axis, std::cmp::Reverse(extension.at)));
    }
    grouped
}

/// Inserts the extensions into the module's parameters; ids, and everything else, stay as they are.
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

/// Adds the values of extensions to existing entries, from `at` on along their axes, in place of inserting them; ids,
/// and everything else, stay as they are.
pub(crate) fn shift<M: Module>(module: M, shifts: &[Extension]) -> M {
    match shifts.is_empty() {
        true => module,
        false => module.map(&mut Shifting { shifts: by_parameter(shifts) }),
    }
}

struct Shifting<'a> {
    shifts: BTreeMap<ParamId, Vec<&'a Extension>>,
}

impl ModuleMapper for Shifting<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(shifts) = self.shifts.get(&param.id) else {
            return param;
        };
        param.map(|old| {
            let tracked = old.is_require_grad();
            let old = old.inner();
            let (device, dtype) = (old.device(), old.dtype());
            let shifted = shifts.iter().fold(old, |tensor, shift| {
                let values = Tensor::<D>::from_data(shift.values.clone(), (&device, dtype));
                let mut ranges = tensor.dims().map(|length| 0..length);
                ranges[shift.axis] = shift.at..shift.at + shift.added();
                let entries = tensor.clone().slice(ranges.clone()) + values;
                tensor.slice_assign(ranges, entries)
            });
            shifted.autodiff().set_require_grad(tracked)
        })
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
            let grown = extended(old.inner(), extensions);
            match autodiff {
                true => grown.autodiff().set_require_grad(tracked),
                false => grown,
            }
        })
    }
}

/// Inserts gradients of new entries to the gradients of a module that has been widened by extensions of the same
/// shapes.
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
            self.gradients.register(param.id, extended(gradient, extensions));
        }
    }
}

/// The tensor with all its extensions inserted, zero where they meet.
fn extended<const D: usize>(old: Tensor<D>, extensions: &[&Extension]) -> Tensor<D> {
    let (device, dtype) = (old.device(), old.dtype());
    let mut tensor = old;
    for (index, extension) in extensions.iter().enumerate() {
        let mut values = Tensor::<D>::from_data(extension.values.clone(), (&device, dtype));
        // The values are stated against the old shape; along other axes the tensor may have grown by now.
        for other in extensions[..index].iter().filter(|other| other.axis != extension.axis) {
            let mut corner = values.dims();
            corner[other.axis] = other.added();
            values = inserted(values, Tensor::zeros(corner, (&device, dtype)), other.axis, other.at);
        }
        if extension.copies.iter().any(Option::is_some) {
            values = with_copies(values, &tensor, extension);
        }
        tensor = inserted(tensor, values, extension.axis, extension.at);
    }
    tensor
}

/// The values, each added to what it is a copy of. Entries before the extension's place have not moved.
fn with_copies<const D: usize>(values: Tensor<D>, tensor: &Tensor<D>, extension: &Extension) -> Tensor<D> {
    let entry = |(index, parent): (usize, &Option<usize>)| {
        let own = values.clone().narrow(extension.axis, index, 1);
        match parent {
            Some(parent) => own + tensor.clone().narrow(extension.axis, *parent, 1),
            None => own,
        }
    };
    Tensor::cat(extension.copies.iter().enumerate().map(entry).collect(), extension.axis)
}

fn inserted<const D: usize>(tensor: Tensor<D>, values: Tensor<D>, axis: usize, at: usize) -> Tensor<D> {
    let length = tensor.dims()[axis];
    if length == 0 {
        return values;
    }
    if values.dims().contains(&0) {
        // A layer without neurons, whose other axis grows.
        let mut dims = tensor.dims();
        dims[axis] += values.dims()[axis];
        return Tensor::zeros(dims, (&tensor.device(), tensor.dtype()));
    }
    let mut parts = vec![values];
    if at > 0 {
        parts.insert(0, tensor.clone().narrow(axis, 0, at));
    }
    if at < length {
        parts.push(tensor.narrow(axis, at, length - at));
    }
    Tensor::cat(parts, axis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    fn extension(parameter: ParamId, axis: usize, length: usize, shape: [usize; 2]) -> Extension {
        let values = TensorData::new(vec![2.0_f32; shape[0] * shape[1]], shape);
        Extension { parameter, axis, length, at: length, values, copies: Vec::new() }
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
    fn extensions_go_before_the_old_indices_that_they_name() {
        let mut linear = LinearConfig::new(2, 3).with_bias(false).init(&Device::flex());
        let id = linear.weight.id;
        let rows = |rows: &[[f32; 3]]| {
            Tensor::<2>::from_data(TensorData::new(rows.concat(), [rows.len(), 3]), &Device::flex())
        };
        linear.weight = linear.weight.map(|_| rows(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]));
        let column = |at: usize, value: f32| {
            let values = TensorData::new(vec![value; 2], [2, 1]);
            Extension { parameter: id, axis: 1, length: 3, at, values, copies: Vec::new() }
        };
        let row = Extension { at: 1, ..extension(id, 0, 2, [1, 3]) };
        let grown = widen(linear, &[column(1, 7.0), column(3, 8.0), row, column(1, 9.0)]).unwrap();

        let expected =
            [[1.0_f32, 7.0, 9.0, 2.0, 3.0, 8.0], [2.0, 0.0, 0.0, 2.0, 2.0, 0.0], [4.0, 7.0, 9.0, 5.0, 6.0, 8.0]];
        assert_eq!(grown.weight.val().into_data(), TensorData::new(expected.concat(), [3, 6]));
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
