//! Rescaling the weights of layers that are about to read more, where a batch norm follows (Yuan et al. 2023).
//!
//! A layer with `d` inputs that is to have `d'` gets `sqrt(d / d')` times its weights, as large as fresh ones of its new
//! size would be. What a batch norm makes of its outputs stays as it is, but for epsilon; the weights themselves then learn
//! `d' / d` times as fast, since the norm's gradient is inverse to their size.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::Tensor;

use crate::modules::revalued;
use crate::site::between::{BetweenLayer, Role};
use crate::site::declaration::Site;

/// What parameters are multiplied by.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rescaling(BTreeMap<ParamId, f64>);

impl Rescaling {
    /// That of the readers of sites, each of which is to gain so many neurons, among all sites of a network.
    pub(crate) fn of(planned: &[(Site, usize)], sites: &[Site]) -> Self {
        let mut gained = BTreeMap::<ParamId, (usize, usize)>::new();
        for (site, count) in planned {
            for path in &site.paths {
                // Of all groups: a grouped reader shares the site's neurons among them.
                let features = count * path.positions(site.width());
                gained.entry(path.consumer.weight()).or_insert((path.consumer.inputs(), 0)).1 += features;
            }
        }
        let mut factors = BTreeMap::new();
        for (reader, (inputs, more)) in gained {
            let factor = (inputs as f64 / (inputs + more) as f64).sqrt();
            if let Some(layer) = sites.iter().find_map(|site| normalised(site, reader)).filter(|_| inputs > 0) {
                let Normalised { bias, mean, variance } = layer;
                factors.extend([(reader, factor), (mean, factor), (variance, factor * factor)]);
                factors.extend(bias.map(|bias| (bias, factor)));
            }
        }
        Self(factors)
    }

    /// Whether nothing is rescaled.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The module with its parameters multiplied; ids, and everything else, stay as they are.
    pub(crate) fn apply<M: Module>(&self, module: M) -> M {
        match self.is_empty() {
            true => module,
            false => module.map(&mut Scaling(&self.0)),
        }
    }
}

/// What is multiplied along with the weights of a layer that a batch norm follows.
struct Normalised {
    bias: Option<ParamId>,
    mean: ParamId,
    variance: ParamId,
}

/// A layer of a site, if it is the only one that writes the site's neurons, and one batch norm is the first thing that
/// happens to them on every path.
fn normalised(site: &Site, layer: ParamId) -> Option<Normalised> {
    let [writer] = site.writers.as_slice() else {
        return None;
    };
    let norms = site.paths.iter().map(|path| statistics(path.between.first()?)).collect::<Option<Vec<_>>>()?;
    let first = *norms.first()?;
    let [mean, variance] = first;
    let is_it = writer.weight() == layer && norms.iter().all(|norm| *norm == first);
    is_it.then(|| Normalised { bias: writer.bias().map(|bias| bias.id), mean, variance })
}

/// The running mean and variance of a batch norm.
fn statistics(between: &BetweenLayer) -> Option<[ParamId; 2]> {
    between.traits().norm_gain?;
    let statistics = between.gains().into_iter().filter(|gain| gain.role == Role::Statistic);
    // New neurons start with mean 0 and variance 1.
    match statistics.map(|gain| (gain.entry[0], gain.parameter)).collect::<Vec<_>>().as_slice() {
        [(0.0, mean), (1.0, variance)] => Some([*mean, *variance]),
        _ => None,
    }
}

struct Scaling<'a>(&'a BTreeMap<ParamId, f64>);

impl ModuleMapper for Scaling<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.get(&param.id) {
            Some(factor) => revalued(param, |old| old.mul_scalar(*factor)),
            None => param,
        }
    }
}
