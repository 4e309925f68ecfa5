//! Carrying optimizer state across growth, for every Burn optimizer, through Burn's record format.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::{DynOptimizer, DynState, ModuleOptimizer, Optimizer, StateSink, StateSource};
use burn::tensor::kind::BridgeTensor;
use burn::tensor::{Bytes, DType, Device, Tensor, TensorData};
use burn_pack::{Reader, Writer};
use flexconv::map_side_by_side;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::matrix::values;
use crate::site::extension::Extension;
use crate::surgery::index_map::{IndexMaps, ParameterMap, Segment};
use crate::surgery::removal::Removal;

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
    /// Zeros, for optimizers that count steps (Adam and kin), whose new weights are trained by a count [of their
    /// own](crate::training::NewWeights::own_steps), as in a fresh network.
    Own,
}

/// An optimizer whose state fits the widened module.
pub struct Carried {
    /// The optimizer.
    pub optimizer: ModuleOptimizer,
    /// Parameters whose state could not be padded, because it does not have the parameter's shape (Adafactor's factored
    /// moments): it was dropped, and the optimizer will start it anew.
    pub reset: Vec<ParamId>,
    /// Fields of the state that are neither known as first nor as second moments: their new entries are zeros. If such
    /// a field is what an optimizer divides by, the first steps of new weights are too long.
    pub unknown_fields: Vec<String>,
}

/// Fields that hold second moments, by the names that Burn's optimizers give them.
const SECOND_MOMENT_FIELDS: [&str; 7] =
    ["moment_2", "max_moment_2", "square_avg", "avg", "sum", "exp_avg_sq", "second_moment"];
/// Fields that start at zero: first moments, velocities, differences of gradients.
const ZERO_FIELDS: [&str; 8] =
    ["velocity", "moment_1", "momentum", "buf", "grad_avg", "exp_avg", "exp_avg_diff", "neg_pre_grad"];

/// Pads the optimizer's state as the extensions widen the module: first moments with zeros, second moments as chosen;
/// old entries stay bit-identical.
///
/// Burn loads state onto its default device, whatever the network's is; it gets to the right one at the next step.
/// Where several backends are compiled in and the default one cannot be used, make the optimizer with [`optimizer_on`].
///
/// # Errors
/// [`Error::OptimizerState`], if Burn's record cannot be read or written.
pub fn carry(optimizer: ModuleOptimizer, extensions: &[Extension], second: SecondMoments) -> Result<Carried, Error> {
    carry_by(optimizer, &IndexMaps::of(extensions), second)
}

/// As [`carry`], by index maps that are made already.
pub(crate) fn carry_by(
    optimizer: ModuleOptimizer,
    maps: &IndexMaps<'_>,
    second: SecondMoments,
) -> Result<Carried, Error> {
    carried(optimizer, |tensor| padded_tensor(tensor, maps, second))
}

/// The optimizer without the state of weights that are removed.
///
/// # Errors
/// As [`carry`].
pub(crate) fn narrow(optimizer: ModuleOptimizer, removal: &Removal) -> Result<Carried, Error> {
    carried(optimizer, |tensor| {
        let (name, id, data) = decoded(tensor)?;
        let parameter = id.map(ParamId::from);
        let fate = match parameter.and_then(|parameter| Some((parameter, removal.get(parameter)?))) {
            None => Fate::As(data),
            Some((_, removed)) if data.shape().to_vec() == removed.shape => Fate::As(removed.narrowed(&data)),
            Some((parameter, _)) => Fate::Dropped(parameter),
        };
        Ok((name, id, fate))
    })
}

/// A state tensor's name, its parameter, and what becomes of it.
type Decided = (String, Option<u64>, Fate);

/// The optimizer with what becomes of each tensor of its state.
fn carried(
    optimizer: ModuleOptimizer,
    decide: impl Fn(burn_pack::Tensor) -> Result<Decided, Error> + Send + Sync,
) -> Result<Carried, Error> {
    let reader = Reader::from_bytes(optimizer.into_bytes().map_err(failed)?).map_err(failed)?;
    let (scalars, metadata) = (reader.scalars().clone(), reader.metadata().clone());
    let (mut reset, mut unknown, mut tensors) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for tensor in map_side_by_side(reader.into_tensors().map_err(failed)?, decide) {
        let (name, id, data) = tensor?;
        match data {
            Fate::As(data) => tensors.push((name, id, data)),
            Fate::Guessed(data, field) => {
                tensors.push((name, id, data));
                unknown.insert(field);
            }
            Fate::Dropped(parameter) => _ = reset.insert(parameter),
        }
    }

    // A parameter's state is dropped whole: half of it would be of no use.
    let kept = |key: &str| {
        let id = key.split('.').next().and_then(|id| id.parse::<u64>().ok());
        !id.is_some_and(|id| reset.contains(&ParamId::from(id)))
    };
    let tensors = tensors.into_iter().filter(|(name, ..)| kept(name)).map(|(name, id, data)| {
        let (bytes, shape, dtype) = data.into_parts();
        burn_pack::Tensor::new(name, dtype, shape, id, bytes)
    });
    let (scalars, metadata) =
        (scalars.iter().filter(|(key, _)| kept(key)), metadata.iter().filter(|(key, _)| kept(key)));
    let writer = Writer::new(tensors.collect());
    let writer = scalars.fold(writer, |writer, (key, value)| writer.with_scalar(key, *value));
    let writer = metadata.fold(writer, |writer, (key, value)| writer.with_metadata(key, value));
    let optimizer = optimizer.from_bytes(writer.into_bytes().map_err(failed)?).map_err(failed)?;
    Ok(Carried { optimizer, reset: reset.into_iter().collect(), unknown_fields: unknown.into_iter().collect() })
}

/// What becomes of a state tensor where parameters grow.
fn padded_tensor(tensor: burn_pack::Tensor, maps: &IndexMaps<'_>, second: SecondMoments) -> Result<Decided, Error> {
    let (name, id, data) = decoded(tensor)?;
    let Some(map) = id.and_then(|id| maps.get(ParamId::from(id))) else {
        return Ok((name, id, Fate::As(data)));
    };
    // Factored moments have a row's and a column's length, and no entry for each weight.
    if data.shape().to_vec() != map.extensions[0].old_shape() {
        return Ok((name, id, Fate::Dropped(map.extensions[0].parameter)));
    }
    let field = name.rsplit('.').next().unwrap_or_default();
    let is_second = SECOND_MOMENT_FIELDS.contains(&field);
    let data = padded(&data, map, &map.axes(), is_second && second == SecondMoments::Mean);
    let padded = match is_second || ZERO_FIELDS.contains(&field) {
        true => Fate::As(data),
        false => Fate::Guessed(data, field.to_string()),
    };
    Ok((name, id, padded))
}

/// What becomes of a state tensor.
enum Fate {
    As(TensorData),
    /// Padded with zeros, without knowing what the field of this name means.
    Guessed(TensorData, String),
    /// Of another shape than its parameter.
    Dropped(ParamId),
}

/// Whether no entry of a serialised optimizer's state is infinite or NaN.
pub(crate) fn is_finite(optimizer: Bytes) -> Result<bool, Error> {
    for tensor in Reader::from_bytes(optimizer).map_err(failed)?.into_tensors().map_err(failed)? {
        let (_, _, data) = decoded(tensor)?;
        if !values(&data).iter().all(|entry| entry.is_finite()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A state tensor's name, parameter and entries.
fn decoded(tensor: burn_pack::Tensor) -> Result<(String, Option<u64>, TensorData), Error> {
    let (name, dtype, shape, id, bytes) = tensor.into_parts().map_err(failed)?;
    Ok((name, id, TensorData::from_bytes(bytes, shape, dtype)))
}

fn failed(error: impl Display) -> Error {
    Error::OptimizerState { reason: error.to_string() }
}

/// The state with new entries: zeros, or the mean of the old entries along the axis that grows. Old entries are copied
/// as bytes, once.
fn padded(data: &TensorData, map: &ParameterMap<'_>, axes: &[usize], mean: bool) -> TensorData {
    let (dtype, shape) = (data.dtype(), data.shape().to_vec());
    let of_axis = |(number, axis): (usize, &usize)| {
        let along = map.extensions.iter().filter(|extension| extension.axis == *axis);
        let next = axes.get(number + 1).copied().unwrap_or(shape.len());
        // Where new entries of two axes meet, the mean is taken along both.
        let entry = padded(&entry_along(data, *axis, mean), map, &axes[number + 1..], mean);
        Padding {
            old: shape[*axis],
            added: along.map(|extension| extension.added()).sum(),
            segments: map.segments(*axis),
            further: shape[axis + 1..next].iter().product(),
            line: entry.as_bytes().len() / shape[..*axis].iter().product::<usize>().max(1),
            entry,
        }
    };
    let paddings = axes.iter().enumerate().map(of_axis).collect::<Vec<_>>();
    let Some(first) = axes.first() else {
        return data.clone();
    };
    let mut grown_shape = shape.clone();
    axes.iter().zip(&paddings).for_each(|(axis, padding)| grown_shape[*axis] += padding.added);
    let mut grown = Vec::with_capacity(grown_shape.iter().product::<usize>() * dtype.size());
    for outer in 0..shape[..*first].iter().product() {
        write_padded(data, map, &paddings, outer, &mut grown);
    }
    TensorData::from_bytes_vec(grown, grown_shape, dtype)
}

/// How one axis of a tensor is padded.
struct Padding {
    /// Length of the axis before growth.
    old: usize,
    /// Entries that the axis gains.
    added: usize,
    /// What the axis consists of after growth, in order.
    segments: Vec<Segment>,
    /// Product of the axis lengths between this padded axis and the next one.
    further: usize,
    /// The new entry of this axis, for every index of the axes before it; the axes after it are padded already.
    entry: TensorData,
    /// Bytes of the new entry at one index of the axes before.
    line: usize,
}

/// A new entry of an axis: zeros, or the mean of the old ones.
fn entry_along(data: &TensorData, axis: usize, mean: bool) -> TensorData {
    let mut shape = data.shape().to_vec();
    let old = std::mem::replace(&mut shape[axis], 1);
    let (outer, inner) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
    match mean && old > 0 && inner > 0 {
        true => TensorData::new(means(data, [outer, old, inner]), shape).convert_dtype(data.dtype()),
        false => TensorData::from_bytes_vec(vec![0; outer * inner * data.dtype().size()], shape, data.dtype()),
    }
}

/// Writes what lies at an index of the axes before the first one that is padded.
fn write_padded(data: &TensorData, map: &ParameterMap<'_>, paddings: &[Padding], outer: usize, grown: &mut Vec<u8>) {
    let (padding, further) = paddings.split_first().expect("an axis grows");
    for segment in &padding.segments {
        match segment {
            Segment::New(number) => {
                let entry = &padding.entry.as_bytes()[outer * padding.line..][..padding.line];
                (0..map.extensions[*number].added()).for_each(|_| grown.extend_from_slice(entry));
            }
            Segment::Old(range) => {
                let entries = (outer * padding.old + range.start) * padding.further
                    ..(outer * padding.old + range.end) * padding.further;
                match further.is_empty() {
                    true => {
                        let size = data.dtype().size();
                        grown.extend_from_slice(&data.as_bytes()[entries.start * size..entries.end * size]);
                    }
                    false => entries.for_each(|outer| write_padded(data, map, further, outer, grown)),
                }
            }
        }
    }
}

/// The optimizer for a whole module, whose state stays on one device when it is loaded: carried across growth, or read
/// from a checkpoint.
///
/// Burn loads the state of other optimizers onto `Device::default()`, which is a GPU where one is compiled in, there or
/// not, and moves it at the next step.
///
/// # Example
/// ```
/// use burn::optim::AdamConfig;
/// use burn::tensor::Device;
/// use gradmax::surgery::optimizer_on;
/// let optimizer = optimizer_on(AdamConfig::new().build(), &Device::flex());
/// ```
pub fn optimizer_on(optimizer: impl Optimizer, device: &Device) -> ModuleOptimizer {
    let there = OnDevice { matrices: optimizer.clone(), others: optimizer.clone(), device: device.clone().inner() };
    ModuleOptimizer::from(optimizer).with_group(ParamGroup::all(), there, None)
}

/// As [`optimizer_on`], with an optimizer for matrices, as Muon is, and another one for all other parameters, and for those
/// whose paths contain any of these words: embeddings, which are matrices by shape only.
pub fn matrix_optimizer_on(
    matrices: impl Optimizer,
    others: impl Optimizer,
    never: &[&str],
    device: &Device,
) -> ModuleOptimizer {
    let there = OnDevice { matrices, others: others.clone(), device: device.clone().inner() };
    let optimizer = optimizer_on(others.clone(), device).with_group(ParamGroup::all(), there, None);
    let alone = OnDevice { matrices: others.clone(), others, device: device.clone().inner() };
    optimizer.with_group(ParamGroup::from_any_predicates(never.to_vec()), alone, None)
}

/// An optimizer for matrices, and one for other parameters, whose state is loaded onto a device of its own.
struct OnDevice<M, O> {
    matrices: M,
    others: O,
    device: Device,
}

impl<M: Optimizer, O: Optimizer> OnDevice<M, O> {
    fn of_rank(&self, rank: usize) -> &dyn DynOptimizer {
        if rank == 2 { &self.matrices } else { &self.others }
    }
}

impl<M: Optimizer, O: Optimizer> DynOptimizer for OnDevice<M, O> {
    fn step_dyn(
        &self,
        rank: usize,
        rate: f64,
        tensor: BridgeTensor,
        gradient: BridgeTensor,
        state: Option<DynState>,
    ) -> (BridgeTensor, Option<DynState>) {
        self.of_rank(rank).step_dyn(rank, rate, tensor, gradient, state)
    }

    fn to_device_dyn(&self, state: DynState, device: &Device) -> DynState {
        self.of_rank(state.rank()).to_device_dyn(state, device)
    }

    fn state_flatten(&self, prefix: &str, state: &DynState, out: &mut StateSink) {
        self.of_rank(state.rank()).state_flatten(prefix, state, out);
    }

    fn state_unflatten(&self, rank: usize, prefix: &str, source: &mut StateSource, _: &Device) -> Option<DynState> {
        self.of_rank(rank).state_unflatten(rank, prefix, source, &self.device)
    }
}

/// Means over the middle axis of entries `[outer, old, inner]`: `[outer, inner]`.
fn means(data: &TensorData, sizes: [usize; 3]) -> Vec<f64> {
    match data.as_slice::<f32>() {
        // Without a copy in double precision: second moments are as large as the network.
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
pub(crate) fn paths_of<M: Module>(module: &M, ids: &[ParamId]) -> Vec<String> {
    let known = KnownParameters::of(module).0;
    let path = |id: &ParamId| known.get(id).map_or_else(|| id.to_string(), |places| places[0].0.clone());
    let mut named = ids.iter().map(path).collect::<Vec<_>>();
    named.sort();
    named
}

/// Where each parameter is in a module, and of which type: more than one place where layers were cloned.
pub(crate) struct KnownParameters(pub(crate) BTreeMap<ParamId, Vec<(String, DType)>>);

impl KnownParameters {
    pub(crate) fn of<M: Module>(module: &M) -> Self {
        let mut visitor = Paths { path: Vec::new(), known: Self(BTreeMap::new()) };
        module.visit(&mut visitor);
        visitor.known
    }
}

struct Paths {
    path: Vec<String>,
    known: KnownParameters,
}

impl ModuleVisitor for Paths {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.known.0.entry(param.id).or_default().push((self.path.join("."), param.val().dtype()));
    }
}

#[cfg(test)]
mod tests {
    use burn::optim::{GradientsParams, RecordState};

    use super::*;

    #[test]
    fn means_are_taken_along_the_axis_that_grows() {
        // [outer, old, inner] = [2, 3, 4]: entry 100 outer + 10 old + inner.
        let entries = (0..24).map(|at| f64::from(100 * (at / 12) + 10 * (at / 4 % 3) + at % 4)).collect::<Vec<_>>();
        let expected = (0..8).map(|at| f64::from(100 * (at / 4) + 10 + at % 4)).collect::<Vec<_>>();
        assert_eq!(means_of(&entries, [2, 3, 4]), expected);
        // Rows that lie one after another, of which each has a mean: more entries than lanes.
        let rows = (0..40).map(|at| f64::from(at % 20 + 1000 * (at / 20))).collect::<Vec<_>>();
        assert_eq!(means_of(&rows, [2, 20, 1]), [9.5, 1009.5]);
        let single = rows.iter().map(|entry| *entry as f32).collect::<Vec<_>>();
        assert_eq!(means_of(&single, [2, 20, 1]), [9.5, 1009.5]);
    }

    #[test]
    fn state_grows_along_both_axes_of_a_kernel_where_new_entries_belong() {
        let parameter = ParamId::new();
        // A kernel [2, 2, 1, 2] that gains an output at 1 and an input at 0.
        let extension = |axis: usize, at: usize| {
            let mut shape = [2, 2, 1, 2];
            shape[axis] = 1;
            let values = TensorData::zeros::<f32, _>(shape);
            Extension { parameter, axis, length: 2, at, values, copies: Vec::new() }
        };
        let list = [extension(0, 1), extension(1, 0)];
        let maps = IndexMaps::of(&list);
        let old = TensorData::new(vec![1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [2, 2, 1, 2]);
        let grown = |mean| {
            padded(&old, maps.get(parameter).unwrap(), &maps.get(parameter).unwrap().axes(), mean)
                .try_into_vec_as::<f32>()
                .unwrap()
        };
        let zeros = [[0., 0., 1., 2., 3., 4.], [0.; 6], [0., 0., 5., 6., 7., 8.]].concat();
        assert_eq!(grown(false), zeros);
        let means = [[2., 3., 1., 2., 3., 4.], [4., 5., 3., 4., 5., 6.], [6., 7., 5., 6., 7., 8.]].concat();
        assert_eq!(grown(true), means);
    }

    /// An optimizer whose state has a field of a name that `carry` does not know.
    #[derive(Clone)]
    struct Unheard;

    #[derive(Clone)]
    struct UnheardState<const D: usize> {
        flux: Tensor<D>,
    }

    impl<const D: usize> RecordState for UnheardState<D> {
        fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
            out.push_tensor(prefix, "flux", self.flux.to_data());
        }

        fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
            Some(Self { flux: Tensor::from_data(source.take_tensor(prefix, "flux")?, device) })
        }
    }

    impl Optimizer for Unheard {
        type State<const D: usize> = UnheardState<D>;

        fn step<const D: usize>(
            &self,
            rate: f64,
            tensor: Tensor<D>,
            gradient: Tensor<D>,
            _: Option<UnheardState<D>>,
        ) -> (Tensor<D>, Option<UnheardState<D>>) {
            (tensor - gradient.clone().mul_scalar(rate), Some(UnheardState { flux: gradient }))
        }

        fn to_device<const D: usize>(state: UnheardState<D>, device: &Device) -> UnheardState<D> {
            UnheardState { flux: state.flux.to_device(device) }
        }
    }

    #[test]
    fn fields_of_unknown_meaning_are_told() {
        let device = Device::flex().autodiff();
        let linear = burn::nn::LinearConfig::new(2, 3).with_bias(false).init(&device);
        let mut optimizer = optimizer_on(Unheard, &device);
        let loss = linear.forward(Tensor::<2>::ones([1, 2], &device)).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &linear);
        let linear = optimizer.step(0.1, linear, gradients);
        let values = TensorData::zeros::<f32, _>([2, 1]);
        let extension =
            Extension { parameter: linear.weight.id, axis: 1, length: 3, at: 3, values, copies: Vec::new() };
        let carried = carry(optimizer, &[extension], SecondMoments::Mean).unwrap();
        assert_eq!(carried.unknown_fields, ["flux"]);
        assert!(carried.reset.is_empty() && is_finite(carried.optimizer.into_bytes().unwrap()).unwrap());
    }
}
