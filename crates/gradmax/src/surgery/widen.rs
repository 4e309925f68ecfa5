//! Widening a module by extensions, and its gradients with it.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::error::Error;
use crate::modules::revalued;
use crate::site::extension::Extension;
use crate::surgery::index_map::IndexMaps;
use crate::surgery::rescale::Rescaling;

/// Inserts the extensions into the module's parameters; ids, and everything else, stay as they are.
///
/// # Errors
/// [`Error::ExtensionMismatch`], if an extension's parameter is not in the module or has another shape. The module is
/// consumed; clone it first if it must survive a failure (a clone shares its tensors and costs next to nothing).
pub fn widen<M: Module>(module: M, extensions: &[Extension]) -> Result<M, Error> {
    widen_by(module, &IndexMaps::of(extensions))
}

/// What an event does to a network's parameters, for other modules that have the same parameters: averages of its
/// weights.
#[derive(Debug, Clone, Default)]
pub struct Widening {
    /// What existing entries are multiplied by before.
    pub(crate) rescaling: Rescaling,
    /// What is added to entries that were there before.
    pub(crate) shifts: Vec<Extension>,
    /// New entries.
    pub(crate) extensions: Vec<Extension>,
}

impl Widening {
    /// The module with the same changes and the same new entries; ids stay as they are. Clones of a module share
    /// running statistics, which change in all of them; `valid()` gives a copy with its own.
    ///
    /// # Errors
    /// As [`widen`].
    pub fn apply<M: Module>(&self, module: M) -> Result<M, Error> {
        widen(shift(self.rescaling.apply(module), &self.shifts), &self.extensions)
    }
}

/// As [`widen`], by index maps that are made already.
pub(crate) fn widen_by<M: Module>(module: M, maps: &IndexMaps<'_>) -> Result<M, Error> {
    let mut widening = Inserting { maps, path: Vec::new(), done: BTreeSet::new(), error: None };
    let module = module.map(&mut widening);
    if let Some(error) = widening.error {
        return Err(error);
    }
    // A clone of a layer, made when it was listed, can have other ids than the network's own.
    match maps.parameters().find(|(id, _)| !widening.done.contains(id)) {
        None => Ok(module),
        Some((id, missed)) => Err(Error::ExtensionMismatch {
            parameter: id.to_string(),
            axis: missed.extensions[0].axis,
            reason: "the network has no such parameter; `sites()` must name layers of the network itself".into(),
        }),
    }
}

/// Adds the values of extensions to existing entries, from `at` on along their axes, in place of inserting them; ids,
/// and everything else, stay as they are.
pub(crate) fn shift<M: Module>(module: M, shifts: &[Extension]) -> M {
    match shifts.is_empty() {
        true => module,
        false => {
            let mut by_parameter = BTreeMap::<_, Vec<_>>::new();
            shifts.iter().for_each(|shift| by_parameter.entry(shift.parameter).or_default().push(shift));
            module.map(&mut Shifting { shifts: by_parameter })
        }
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
        revalued(param, |old| {
            let (device, dtype) = (old.device(), old.dtype());
            shifts.iter().fold(old, |tensor, shift| {
                let values = Tensor::<D>::from_data(shift.values.clone(), (&device, dtype));
                let mut ranges = tensor.dims().map(|length| 0..length);
                ranges[shift.axis] = shift.at..shift.at + shift.added();
                let entries = tensor.clone().slice(ranges.clone()) + values;
                tensor.slice_assign(ranges, entries)
            })
        })
    }
}

struct Inserting<'a> {
    maps: &'a IndexMaps<'a>,
    path: Vec<String>,
    done: BTreeSet<ParamId>,
    error: Option<Error>,
}

impl ModuleMapper for Inserting<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(map) = self.maps.get(param.id) else {
            return param;
        };
        let (shape, path) = (param.val().dims(), self.path.join("."));
        if let Some(error) = map.extensions.iter().find_map(|extension| extension.check(&path, &shape).err()) {
            self.error.get_or_insert(error);
            return param;
        }
        self.done.insert(param.id);
        revalued(param, |old| map.extended(old))
    }
}

/// Inserts gradients of new entries to the gradients of a module that has been widened by extensions of the same
/// shapes.
pub(crate) fn widen_gradients<M: Module>(
    module: &M,
    gradients: GradientsParams,
    extensions: &[Extension],
) -> GradientsParams {
    let mut widening = GradientWidening { maps: &IndexMaps::of(extensions), gradients };
    module.visit(&mut widening);
    widening.gradients
}

struct GradientWidening<'a> {
    maps: &'a IndexMaps<'a>,
    gradients: GradientsParams,
}

impl ModuleVisitor for GradientWidening<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(map) = self.maps.get(param.id) else {
            return;
        };
        let gradient = self.gradients.remove::<D>(param.id).or_else(|| {
            // What had no entries took no part in the pass. A frozen parameter has no gradient, and needs none.
            let weights = param.val();
            let is_new = weights.is_require_grad() && map.old_shape().contains(&0);
            is_new.then(|| Tensor::zeros(map.old_shape(), (&weights.device().inner(), weights.dtype())))
        });
        if let Some(gradient) = gradient {
            self.gradients.register(param.id, map.extended(gradient));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, TensorData};

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

    /// Blocks `[a0 a1 | b0 b1]`: a plain neuron at the end of block a, and a split of b0 at the end of block b.
    #[test]
    fn copies_in_one_block_and_new_entries_in_another_keep_their_places() {
        let mut linear = LinearConfig::new(1, 4).with_bias(false).init(&Device::flex());
        let id = linear.weight.id;
        linear.weight = linear.weight.map(|_| Tensor::from_floats([[1.0, 2.0, 3.0, 4.0]], &Device::flex()));
        let entry = |at: usize, value: f32, copies: Vec<Option<usize>>| {
            let values = TensorData::new(vec![value], [1, 1]);
            Extension { parameter: id, axis: 1, length: 4, at, values, copies }
        };
        for order in [[0, 1], [1, 0]] {
            let both = [entry(2, 9.0, Vec::new()), entry(4, 0.5, vec![Some(2)])];
            let grown = widen(linear.clone(), &order.map(|index| both[index].clone())).unwrap();
            assert_eq!(values(&grown), [1.0, 2.0, 9.0, 3.0, 4.0, 3.5]);
        }
        // A copy that comes first, and several copies of one entry, some with new entries between.
        let mixed = [
            entry(0, 0.25, vec![Some(3)]),
            entry(4, 7.0, Vec::new()),
            entry(4, 0.5, vec![Some(0)]),
            entry(1, 8.0, vec![None]),
        ];
        let grown = widen(linear, &mixed).unwrap();
        assert_eq!(values(&grown), [4.25, 1.0, 8.0, 2.0, 3.0, 4.0, 7.0, 1.5]);
    }

    /// A row that is split off, and a column that is split off: where they meet lies the entry where their originals
    /// meet.
    #[test]
    fn copies_take_over_what_is_new_along_other_axes() {
        let mut linear = LinearConfig::new(2, 2).with_bias(false).init(&Device::flex());
        let id = linear.weight.id;
        linear.weight = linear.weight.map(|_| Tensor::from_floats([[1.0, 2.0], [3.0, 4.0]], &Device::flex()));
        let row = Extension {
            parameter: id,
            axis: 0,
            length: 2,
            at: 1,
            values: TensorData::new(vec![0.0_f32, 0.5], [1, 2]),
            copies: vec![Some(1)],
        };
        let copied = Extension {
            parameter: id,
            axis: 1,
            length: 2,
            at: 0,
            values: TensorData::new(vec![0.0_f32, 0.0], [2, 1]),
            copies: vec![Some(1)],
        };
        let new = Extension {
            at: 1,
            values: TensorData::new(vec![7.0_f32, 8.0], [2, 1]),
            copies: Vec::new(),
            ..copied.clone()
        };
        for extensions in [[&row, &copied, &new], [&new, &copied, &row], [&copied, &row, &new]] {
            let grown = widen(linear.clone(), &extensions.map(Clone::clone)).unwrap();
            assert_eq!(values(&grown), [[2.0, 1.0, 7.0, 2.0], [4.5, 3.0, 8.0, 4.5], [4.0, 3.0, 8.0, 4.0]].concat());
        }
    }

    fn values(linear: &burn::nn::Linear) -> Vec<f32> {
        linear.weight.val().into_data().try_into_vec_as::<f32>().unwrap()
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
