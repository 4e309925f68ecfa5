//! Carrying optimizer state across growth, for every Burn optimizer, through Burn's record format.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::ParamId;
use burn::optim::ModuleOptimizer;
use burn::tensor::TensorData;
use burn_pack::{Reader, Writer};
use flexconv::map_side_by_side;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::extension::{Extension, by_parameter};
use crate::matrix::values;

/// What new entries of second moments (Adam and kin) start with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondMoments {
    /// The mean of the old entries along the new axis, so that the first steps of new weights are as long as the old
    /// ones'.
    #[default]
    Mean,
    /// Zeros. Adam's step count is shared, so the first steps of new weights are then about three times too long.
    Zeros,
}

/// An optimizer whose state fits the widened module.
pub struct Carried {
    /// The optimizer.
    pub optimizer: ModuleOptimizer,
    /// Parameters whose state could not be padded, because it does not have the parameter's shape (Adafactor's factored
    /// moments): it was dropped, and the optimizer will start it anew.
    pub reset: Vec<ParamId>,
}

/// State fields that hold second moments, by the names that Burn's optimizers give them.
const SECOND_MOMENT_FIELDS: [&str; 7] =
    ["moment_2", "max_moment_2", "square_avg", "avg", "sum", "exp_avg_sq", "second_moment"];

/// Pads the optimizer's state as the extensions widen the module: first moments with zeros, second moments as chosen;
/// old entries stay bit-identical.
///
/// # Errors
/// [`Error::OptimizerState`], if Burn's record cannot be read or written.
pub fn carry(optimizer: ModuleOptimizer, extensions: &[Extension], second: SecondMoments) -> Result<Carried, Error> {
    let failed = |reason: String| Error::OptimizerState { reason };
    let bytes = optimizer.into_bytes().map_err(|error| failed(error.to_string()))?;
    let reader = Reader::from_bytes(bytes).map_err(|error| failed(error.to_string()))?;
    let (scalars, metadata) = (reader.scalars().clone(), reader.metadata().clone());
    let extensions = by_parameter(extensions);

    let grown = |tensor: burn_pack::Tensor| {
        let (name, dtype, shape, id, bytes) = tensor.into_parts()?;
        let data = TensorData::from_bytes(bytes, shape, dtype);
        let data = match id.and_then(|id| extensions.get(&ParamId::from(id))) {
            None => Ok(data),
            Some(extensions) if data.shape().to_vec() == extensions[0].old_shape() => {
                let field = name.rsplit('.').next().unwrap_or_default();
                let mean = second == SecondMoments::Mean && SECOND_MOMENT_FIELDS.contains(&field);
                Ok(extensions.iter().fold(data, |data, extension| padded(data, extension, mean)))
            }
            Some(extensions) => Err(extensions[0].parameter),
        };
        Ok((name, id, data))
    };
    let mut reset = BTreeSet::new();
    let mut tensors = Vec::new();
    for tensor in map_side_by_side(reader.into_tensors().map_err(|error| failed(error.to_string()))?, grown) {
        let (name, id, data) = tensor.map_err(|error: burn_pack::Error| failed(error.to_string()))?;
        match data {
            Ok(data) => tensors.push((name, id, data)),
            Err(parameter) => _ = reset.insert(parameter),
        }
    }

    // A parameter's state is dropped whole: half of it would be of no use.
    let dropped = |key: &str| {
        let id = key.split('.').next().and_then(|id| id.parse::<u64>().ok());
        id.is_some_and(|id| reset.contains(&ParamId::from(id)))
    };
    let tensors = tensors.into_iter().filter(|(name, ..)| !dropped(name)).map(|(name, id, data)| {
        let (bytes, shape, dtype) = data.into_parts();
        burn_pack::Tensor::new(name, dtype, shape, id, bytes)
    });
    let writer = Writer::new(tensors.collect());
    let writer = scalars
        .iter()
        .filter(|(key, _)| !dropped(key))
        .fold(writer, |writer, (key, value)| writer.with_scalar(key, *value));
    let writer = metadata
        .iter()
        .filter(|(key, _)| !dropped(key))
        .fold(writer, |writer, (key, value)| writer.with_metadata(key, value));
    let bytes = writer.into_bytes().map_err(|error| failed(error.to_string()))?;
    let optimizer = optimizer.from_bytes(bytes).map_err(|error| failed(error.to_string()))?;
    Ok(Carried { optimizer, reset: reset.into_iter().collect() })
}

/// The state with new entries along one axis: zeros, or the mean of the others along it. Old entries are copied as
/// bytes.
fn padded(data: TensorData, extension: &Extension, mean: bool) -> TensorData {
    let (dtype, mut shape) = (data.dtype(), data.shape().to_vec());
    // The axis may have grown already, at later places; the mean of entries and of their mean is the same mean.
    let (axis, old, added) = (extension.axis, shape[extension.axis], extension.added());
    let inner = shape[axis + 1..].iter().product::<usize>();
    let outer = shape[..axis].iter().product::<usize>();
    let line = inner * dtype.size();
    let (slab, grown_slab, before) = (old * line, (old + added) * line, extension.at * line);
    let mut grown = vec![0; outer * grown_slab];
    for (index, slab_of_old) in data.as_bytes().chunks_exact(slab.max(1)).enumerate() {
        let (first, last) = slab_of_old.split_at(before);
        let grown = &mut grown[index * grown_slab..][..grown_slab];
        grown[..before].copy_from_slice(first);
        grown[grown_slab - last.len()..].copy_from_slice(last);
    }
    if mean && old > 0 {
        let fill = TensorData::new(means(&data, [outer, old, inner]), [outer, inner]).convert_dtype(dtype);
        for (index, fill) in fill.as_bytes().chunks_exact(line).enumerate() {
            let fresh = &mut grown[index * grown_slab + before..][..added * line];
            fresh.chunks_exact_mut(line).for_each(|entry| entry.copy_from_slice(fill));
        }
    }
    shape[axis] += added;
    TensorData::from_bytes_vec(grown, shape, dtype)
}

/// Means over the middle axis of entries `[outer, old, inner]`: `[outer, inner]`.
fn means(data: &TensorData, sizes: [usize; 3]) -> Vec<f64> {
    match data.as_slice::<f32>() {
        Ok(entries) => means_of(entries, sizes),
        Err(_) => means_of(&values(data), sizes),
    }
}

fn means_of<E: Copy + Into<f64>>(entries: &[E], [outer, old, inner]: [usize; 3]) -> Vec<f64> {
    let mut sums = vec![0.0; outer * inner];
    for (sums, slab) in sums.chunks_exact_mut(inner).zip(entries.chunks_exact(old * inner)) {
        match sums {
            [sum] => *sum = sum_of(slab),
            _ => {
                let add = |(sum, entry): (&mut f64, &E)| *sum += (*entry).into();
                slab.chunks_exact(inner).for_each(|line| sums.iter_mut().zip(line).for_each(add));
            }
        }
    }
    sums.into_iter().map(|sum| sum / old as f64).collect()
}

/// The sum, in lanes: additions that do not wait for each other.
fn sum_of<E: Copy + Into<f64>>(entries: &[E]) -> f64 {
    let mut lanes = [0.0; 8];
    for chunk in entries.chunks(lanes.len()) {
        lanes.iter_mut().zip(chunk).for_each(|(lane, entry)| *lane += (*entry).into());
    }
    lanes.iter().sum()
}

/// The parameters' paths in a module, sorted, for messages.
pub(crate) fn paths_of<M: burn::module::Module>(module: &M, ids: &[ParamId]) -> Vec<String> {
    let mut paths = Paths::default();
    module.visit(&mut paths);
    let mut named =
        ids.iter().map(|id| paths.known.get(id).cloned().unwrap_or_else(|| id.to_string())).collect::<Vec<_>>();
    named.sort();
    named
}

#[derive(Default)]
struct Paths {
    path: Vec<String>,
    known: BTreeMap<ParamId, String>,
}

impl burn::module::ModuleVisitor for Paths {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<burn::tensor::Tensor<D>>) {
        self.known.insert(param.id, self.path.join("."));
    }
}
