//! Cohorts: the weights that came at one growth event, and how fast they train.
//!
//! A cohort's rate multiplies what the optimizer does to its weights, `w <- w_old + s (w_stepped - w_old)`. That is a
//! learning rate of its own under every optimizer; gradients that are scaled are not, since Adam and its kin divide by
//! their size.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::matrix::Matrix;
use crate::modules::revalued;
use crate::site::declaration::Site;
use crate::site::extension::Extension;
use crate::site::growable::Growable;
use crate::site::layer::Consumer;
use crate::surgery::addition::belongings;
use crate::surgery::index_map::{IndexMaps, ParameterMap, Segment};
use crate::surgery::removal::Removal;
use crate::surgery::widen::Widening;

/// How the learning rates of new weights differ from that of the others.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CohortRates {
    /// Not at all.
    #[default]
    None,
    /// They are so many times as high at first, and fall to the others' over so many steps (after SPARKLING, 2026, which
    /// found 1.3 and 250 steps best for language models).
    Boost {
        /// How many times.
        factor: f64,
        /// Gradient steps.
        steps: usize,
    },
    /// They are as many times as high, for the whole run, as the norm of the cohort is that of the seed network's weights
    /// (Yuan et al. 2023), parameter by parameter and within 1/2 and 2. Norms are those that fresh layers would have: the
    /// measured one is 0 for the side of new neurons that is.
    Norm,
}

impl CohortRates {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// [`Error::BadOption`].
    pub fn check(&self) -> Result<(), Error> {
        let bad = |option, value: String, remedy| Err(Error::BadOption { option, value, remedy });
        match *self {
            Self::Boost { factor, .. } if !(factor > 0.0 && factor.is_finite()) => bad(
                "boost",
                factor.to_string(),
                "new weights learn so many times as fast at first; it must be positive",
            ),
            Self::Boost { steps: 0, .. } => {
                bad("boost_steps", "0".into(), "a boost lasts for some steps; use no boost for none")
            }
            _ => Ok(()),
        }
    }
}

/// How new weights train, beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct NewWeights {
    /// Their learning rates.
    pub rates: CohortRates,
    /// The betas of Adam (or its kin), if the moments of new weights start at zero: these are then divided by `1 - beta^n`
    /// with the number of their own steps. With the optimizer's count, as large as the run is long, their first steps
    /// would be three to six times as long as a fresh network's.
    pub own_steps: Option<[f64; 2]>,
}

/// Bounds on the rates that norms give.
const NORM_RATES: [f64; 2] = [0.5, 2.0];

/// Which weights of a network came at which growth event.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Cohorts {
    /// The step before which each cohort came.
    steps: Vec<usize>,
    /// By the ids of parameters that have grown.
    parameters: BTreeMap<u64, Born>,
}

/// When the entries of a parameter came. An entry came with the later one of its row and its column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Born {
    /// For each axis, runs of indices that came together: the number of a cohort, counted from 1, or 0 for the seed
    /// network's, and how many there are.
    axes: Vec<Vec<(usize, usize)>>,
    /// What the norm of each cohort's entries is to that of the seed's, were all of them fresh; 1 for those with none
    /// here.
    norms: Vec<f64>,
}

impl Cohorts {
    /// Whether any weights are not the seed network's.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The step before which the last cohort came.
    pub(crate) fn last_came(&self) -> Option<usize> {
        self.steps.last().copied()
    }

    /// With another cohort, which comes before a step by a widening of this network.
    pub fn grow<N: Growable>(&mut self, network: &N, widening: &Widening, step: usize) {
        self.steps.push(step);
        let cohort = self.steps.len();
        let inputs = axes_of_inputs(network);
        for (parameter, map) in IndexMaps::of(&widening.extensions).parameters() {
            let born = self.parameters.entry(parameter.val()).or_insert_with(|| Born::seed(&map.old_shape()));
            born.grow(map, cohort, inputs.get(&parameter).copied());
        }
    }

    /// The number of the cohort after the first so many, counted from 1, if it has been trained for this number of steps.
    pub(crate) fn next_of_age(&self, first: usize, age: usize, step: usize) -> Option<usize> {
        self.steps.get(first).filter(|came| **came + age <= step).map(|_| first + 1)
    }

    /// The step before which the cohort with this number, counted from 1, came.
    pub(crate) fn came(&self, cohort: usize) -> usize {
        self.steps[cohort - 1]
    }

    /// Whether a neuron of a site came with the cohort of this number, counted from 1. A neuron is given by its index within
    /// the blocks.
    pub(crate) fn is_of(&self, site: &Site, neuron: usize, cohort: usize) -> bool {
        let came_with = |entries: &Extension| {
            let born = self.parameters.get(&entries.parameter.val())?;
            along(&born.axes[entries.axis]).get(entries.at).copied()
        };
        belongings(site, neuron).all().filter_map(came_with).max() == Some(cohort)
    }

    /// Without weights that are removed.
    pub(crate) fn shrink(&mut self, removal: &Removal) {
        for (parameter, removed) in removal.parameters() {
            if let Some(born) = self.parameters.get_mut(&parameter.val()) {
                for (axis, kept) in removed.kept() {
                    let old = along(&born.axes[axis]);
                    born.axes[axis] = runs(kept.into_iter().map(|index| (old[index], 1)));
                }
            }
        }
    }

    /// What the update of each cohort's weights in a parameter is multiplied by at a step: first the seed's, which is 1.
    fn multipliers(&self, born: &Born, how: &NewWeights, step: usize) -> Vec<f64> {
        let of_cohort = |(number, came): (usize, &usize)| {
            let age = step - came;
            let rate = match how.rates {
                CohortRates::None => 1.0,
                CohortRates::Boost { factor, steps } => {
                    1.0 + (factor - 1.0) * (1.0 - age as f64 / steps as f64).max(0.0)
                }
                CohortRates::Norm => {
                    born.norms.get(number).map_or(1.0, |norm| norm.clamp(NORM_RATES[0], NORM_RATES[1]))
                }
            };
            rate * how.own_steps.map_or(1.0, |betas| own_steps(betas, age + 1, step + 1))
        };
        std::iter::once(1.0).chain(self.steps.iter().enumerate().map(of_cohort)).collect()
    }
}

/// What turns a step of Adam whose moments are divided by `1 - beta^all` into one where this is done with the number of the
/// weights' own steps.
fn own_steps([beta_1, beta_2]: [f64; 2], own: usize, all: usize) -> f64 {
    let left = |beta: f64, steps: usize| 1.0 - beta.powf(steps as f64);
    left(beta_1, all) / left(beta_1, own) * (left(beta_2, own) / left(beta_2, all)).sqrt()
}

/// The axes along which parameters have their inputs, for those that read a site's neurons.
fn axes_of_inputs<N: Growable>(network: &N) -> BTreeMap<ParamId, usize> {
    let sites = network.sites();
    let readers = sites.iter().flat_map(|site| &site.paths).map(|path| &path.consumer);
    let axis = |reader: &Arc<dyn Consumer>| {
        // The axis along which it gains inputs, told by gaining none.
        let none = Matrix::zeros(reader.fan_out(), 0);
        let extension = reader.extend_inputs(0, &vec![&none; reader.groups()], 1);
        (extension.parameter, extension.axis)
    };
    readers.map(axis).collect()
}

impl Born {
    /// Of a parameter that has not grown yet.
    fn seed(shape: &[usize]) -> Self {
        Self { axes: shape.iter().map(|length| vec![(0, *length)]).collect(), norms: Vec::new() }
    }

    fn grow(&mut self, map: &ParameterMap<'_>, cohort: usize, inputs: Option<usize>) {
        // What had no entries starts anew with these, the optimizer's state included.
        let is_new = map.old_shape().contains(&0);
        let cohort_here = if is_new { 0 } else { cohort };
        for axis in map.axes() {
            let old = along(&self.axes[axis]);
            let of_segment = |segment| match segment {
                Segment::Old(range) => old[range].iter().map(|cohort| (*cohort, 1)).collect::<Vec<_>>(),
                Segment::New(number) => vec![(cohort_here, map.extensions[number].added())],
            };
            self.axes[axis] = runs(map.segments(axis).into_iter().flat_map(of_segment));
        }
        self.norms.resize(cohort, 1.0);
        if !is_new && self.axes.len() > 1 {
            self.norms[cohort - 1] = self.norm(cohort, inputs);
        }
    }

    /// The norm of a cohort's entries over that of the seed's, if all had the variance of a fresh layer: the inverse of the
    /// number of inputs.
    fn norm(&self, cohort: usize, inputs: Option<usize>) -> f64 {
        let up_to = |axis: &[(usize, usize)], last: usize| {
            axis.iter().filter(|(cohort, _)| *cohort <= last).map(|(_, count)| *count).sum::<usize>() as f64
        };
        let entries = |last: usize| self.axes.iter().map(|axis| up_to(axis, last)).product::<f64>();
        let inputs = |last: usize| inputs.map_or(1.0, |axis| up_to(&self.axes[axis], last));
        ((entries(cohort) - entries(cohort - 1)) / entries(0) * inputs(0) / inputs(cohort)).sqrt()
    }

    /// The number of each entry's cohort, flat.
    fn numbers(&self) -> Vec<usize> {
        self.axes.iter().fold(vec![0], |entries, axis| {
            let along = along(axis);
            entries.iter().flat_map(|so_far| along.iter().map(|cohort| *cohort.max(so_far))).collect()
        })
    }
}

/// Runs of indices that came together, those of one cohort next to each other as one.
fn runs(parts: impl Iterator<Item = (usize, usize)>) -> Vec<(usize, usize)> {
    parts.fold(Vec::<(usize, usize)>::new(), |mut runs, (cohort, count)| {
        match runs.last_mut() {
            Some((last, so_far)) if *last == cohort => *so_far += count,
            _ => runs.push((cohort, count)),
        }
        runs
    })
}

/// The cohort of each index along an axis.
fn along(axis: &[(usize, usize)]) -> Vec<usize> {
    axis.iter().flat_map(|(cohort, count)| std::iter::repeat_n(*cohort, *count)).collect()
}

/// Steps of a network whose cohorts have rates of their own.
#[derive(Default)]
pub(crate) struct CohortSteps {
    /// The number of each entry's cohort, by parameters, for so many cohorts: rates can be others at every step, and these
    /// are not.
    numbers: BTreeMap<u64, Tensor<1, Int>>,
    cohorts: usize,
}

impl CohortSteps {
    /// The network after an optimizer's step, with what this did to each cohort's weights multiplied by its rate.
    pub(crate) fn step<N: Module>(
        &mut self,
        (cohorts, how): (&Cohorts, &NewWeights),
        step: usize,
        network: N,
        optimize: impl FnOnce(N) -> N,
    ) -> N {
        if cohorts.is_empty() || *how == NewWeights::default() {
            return optimize(network);
        }
        if self.cohorts != cohorts.steps.len() {
            (self.numbers, self.cohorts) = (BTreeMap::new(), cohorts.steps.len());
        }
        let of_parameter = |(id, born): (&u64, &Born)| {
            let multipliers = cohorts.multipliers(born, how, step);
            multipliers.iter().any(|multiplier| *multiplier != 1.0).then_some((*id, multipliers))
        };
        let rates = cohorts.parameters.iter().filter_map(of_parameter).collect::<BTreeMap<_, _>>();
        if rates.is_empty() {
            return optimize(network);
        }
        let mut before = Before { rates: &rates, weights: GradientsParams::new() };
        network.visit(&mut before);
        let weights = before.weights;
        optimize(network).map(&mut Rating { rates: &rates, cohorts, numbers: &mut self.numbers, before: weights })
    }
}

/// Keeps the weights of parameters that have rates of their own.
struct Before<'a> {
    rates: &'a BTreeMap<u64, Vec<f64>>,
    weights: GradientsParams,
}

impl ModuleVisitor for Before<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Frozen parameters are not trained.
        if self.rates.contains_key(&param.id.val()) && param.is_require_grad() {
            self.weights.register(param.id, param.val().inner());
        }
    }
}

struct Rating<'a> {
    rates: &'a BTreeMap<u64, Vec<f64>>,
    cohorts: &'a Cohorts,
    numbers: &'a mut BTreeMap<u64, Tensor<1, Int>>,
    before: GradientsParams,
}

impl ModuleMapper for Rating<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(before) = self.before.remove::<D>(param.id) else {
            return param;
        };
        let id = param.id.val();
        let (device, dtype) = (before.device(), before.dtype());
        let numbers = self.numbers.entry(id).or_insert_with(|| {
            let numbers = self.cohorts.parameters[&id].numbers().into_iter().map(|number| number as i64);
            let numbers = numbers.collect::<Vec<_>>();
            let length = numbers.len();
            Tensor::from_data(TensorData::new(numbers, [length]), &device)
        });
        let rates = self.rates[&id].iter().map(|rate| *rate as f32).collect::<Vec<_>>();
        let count = rates.len();
        let rates = Tensor::<1>::from_data(TensorData::new(rates, [count]), (&device, dtype));
        let rates = rates.select(0, numbers.clone()).reshape(before.dims());
        revalued(param, |stepped| before.clone() + (stepped - before) * rates)
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    use super::*;

    fn extension(parameter: ParamId, axis: usize, shape: [usize; 2], at: usize, added: usize) -> Extension {
        let length = shape[axis];
        let mut of_values = shape;
        of_values[axis] = added;
        let values = TensorData::new(vec![0.0_f32; of_values.iter().product()], of_values);
        Extension { parameter, axis, length, at, values, copies: Vec::new() }
    }

    /// A matrix of two inputs and three outputs that gains an input, then two outputs in between and another input.
    fn grown() -> (ParamId, Born) {
        let id = ParamId::new();
        let mut born = Born::seed(&[2, 3]);
        let first = [extension(id, 0, [2, 3], 2, 1)];
        born.grow(IndexMaps::of(&first).get(id).unwrap(), 1, Some(0));
        let second = [extension(id, 1, [3, 3], 1, 2), extension(id, 0, [3, 3], 0, 1)];
        born.grow(IndexMaps::of(&second).get(id).unwrap(), 2, Some(0));
        (id, born)
    }

    #[test]
    fn an_entry_came_with_the_later_one_of_its_row_and_column() {
        let (_, born) = grown();
        let expected = [[2, 2, 2, 2, 2], [0, 2, 2, 0, 0], [0, 2, 2, 0, 0], [1, 2, 2, 1, 1]];
        assert_eq!(born.numbers(), expected.concat());
    }

    #[test]
    fn norms_are_those_of_fresh_layers() {
        let (_, born) = grown();
        // 6 entries at first; 3 more, then 11 more. A fresh entry has a variance of one over its inputs: 2, 3, 4.
        let expected = [(3.0_f64 / 6.0 * 2.0 / 3.0).sqrt(), (11.0_f64 / 6.0 * 2.0 / 4.0).sqrt()];
        assert!(born.norms.iter().zip(expected).all(|(norm, expected)| (norm - expected).abs() < 1e-12));
    }

    #[test]
    fn updates_are_multiplied_by_the_rates_of_their_cohorts() {
        let device = Device::flex().autodiff();
        let linear = LinearConfig::new(2, 3).with_bias(false).init(&device);
        let id = linear.weight.id;
        let mut born = Born::seed(&[1, 3]);
        born.grow(IndexMaps::of(&[extension(id, 0, [1, 3], 1, 1)]).get(id).unwrap(), 1, None);
        let cohorts = Cohorts { steps: vec![10], parameters: BTreeMap::from([(id.val(), born)]) };
        let mut steps = CohortSteps::default();
        let mut update = |step: usize, how: NewWeights| {
            let before = linear.weight.val().inner();
            let after = steps.step((&cohorts, &how), step, linear.clone(), |mut linear| {
                linear.weight = linear.weight.map(|weight| (weight.inner() + 0.5).autodiff().require_grad());
                linear
            });
            assert!(after.weight.val().is_require_grad() && after.weight.id == id);
            (after.weight.val().inner() - before).into_data().try_to_vec::<f32>().unwrap()
        };
        let close = |found: Vec<f32>, old: f32, new: f32| {
            found.iter().zip([old, old, old, new, new, new]).all(|(a, b)| (a - b).abs() < 1e-6)
        };
        let boost = NewWeights { rates: CohortRates::Boost { factor: 1.4, steps: 10 }, own_steps: None };
        assert!(close(update(10, boost), 0.5, 0.7) && close(update(15, boost), 0.5, 0.6));
        assert!(close(update(20, boost), 0.5, 0.5) && close(update(50, NewWeights::default()), 0.5, 0.5));
        // The fourth step of new weights, and the fourteenth of all.
        let own = NewWeights { own_steps: Some([0.9, 0.99]), ..NewWeights::default() };
        let left = |beta: f64, steps: i32| 1.0 - beta.powi(steps);
        let ratio = left(0.9, 14) / left(0.9, 4) * (left(0.99, 4) / left(0.99, 14)).sqrt();
        assert!(close(update(13, own), 0.5, 0.5 * ratio as f32));
    }
}
