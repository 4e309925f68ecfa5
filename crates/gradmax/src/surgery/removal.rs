//! Removing neurons from a module: the inverse of widening it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Int, Tensor, TensorData};

use crate::modules::revalued;
use crate::site::declaration::Site;
use crate::surgery::addition::belongings;

/// What of each parameter goes with neurons that are removed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Removal {
    of_parameter: BTreeMap<ParamId, Removed>,
}

/// What of a parameter goes.
#[derive(Debug, Clone)]
pub(crate) struct Removed {
    /// The parameter's shape before.
    pub(crate) shape: Vec<usize>,
    /// By axis, the indices.
    axes: BTreeMap<usize, BTreeSet<usize>>,
}

impl Removal {
    /// Adds the neurons with these indices, of every block of a site.
    pub(crate) fn add(&mut self, site: &Site, neurons: &[usize]) {
        for neuron in neurons {
            for entries in belongings(site, *neuron).all() {
                let removed = self.of_parameter.entry(entries.parameter);
                let removed = removed.or_insert_with(|| Removed { shape: entries.old_shape(), axes: BTreeMap::new() });
                removed.axes.entry(entries.axis).or_default().extend(entries.at..entries.at + entries.added());
            }
        }
    }

    /// The module without them; ids, and everything else, stay as they are.
    pub(crate) fn apply<M: Module>(&self, module: M) -> M {
        module.map(&mut Narrowing(self))
    }

    /// What of a parameter goes, if anything does.
    pub(crate) fn get(&self, parameter: ParamId) -> Option<&Removed> {
        self.of_parameter.get(&parameter)
    }

    /// Every parameter that loses something.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (ParamId, &Removed)> {
        self.of_parameter.iter().map(|(parameter, removed)| (*parameter, removed))
    }
}

impl Removed {
    /// The axes that lose something, each with the indices that stay.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (usize, Vec<usize>)> {
        let kept = |(axis, removed): (&usize, &BTreeSet<usize>)| {
            (*axis, (0..self.shape[*axis]).filter(|index| !removed.contains(index)).collect())
        };
        self.axes.iter().map(kept)
    }

    /// Entries of the parameter's shape without those that go, copied as bytes.
    pub(crate) fn narrowed(&self, data: &TensorData) -> TensorData {
        let (dtype, mut shape) = (data.dtype(), data.shape().to_vec());
        let mut bytes = data.as_bytes().to_vec();
        for (axis, kept) in self.kept() {
            let line = shape[axis + 1..].iter().product::<usize>() * dtype.size();
            let old = std::mem::replace(&mut shape[axis], kept.len());
            let place = |outer: usize, index: usize| -> Range<usize> {
                let start = (outer * old + index) * line;
                start..start + line
            };
            let outer = 0..shape[..axis].iter().product::<usize>();
            let places = outer.flat_map(|outer| kept.iter().map(move |index| place(outer, *index)));
            bytes = places.flat_map(|place| bytes[place].iter().copied()).collect();
        }
        TensorData::from_bytes_vec(bytes, shape, dtype)
    }
}

struct Narrowing<'a>(&'a Removal);

impl ModuleMapper for Narrowing<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(removed) = self.0.get(param.id) else {
            return param;
        };
        revalued(param, |old| {
            removed.kept().fold(old, |tensor, (axis, kept)| {
                let kept = kept.into_iter().map(|index| index as i64).collect::<Vec<_>>();
                let count = kept.len();
                let kept = Tensor::<1, Int>::from_data(TensorData::new(kept, [count]), &tensor.device());
                tensor.select(axis, kept)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::module::ModuleVisitor;
    use burn::tensor::Device;

    use super::*;
    use crate::modules::NormKind;
    use crate::networks::{Architecture, ConvNetConfig, MlpConfig, Stage, WideResNetConfig};
    use crate::seed::Seed;
    use crate::site::activation::Activation;
    use crate::site::growable::Growable;
    use crate::surgery::widen::widen;

    /// All parameters and statistics, in the module's order.
    fn entries<M: Module>(module: &M) -> Vec<(Vec<usize>, Vec<f32>)> {
        struct Entries(Vec<(Vec<usize>, Vec<f32>)>);
        impl ModuleVisitor for Entries {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let data = param.val().into_data();
                self.0.push((data.shape().to_vec(), data.try_into_vec_as().unwrap()));
            }
        }
        let mut found = Entries(Vec::new());
        module.visit(&mut found);
        found.0
    }

    /// Neurons put anywhere among those of each site are found again, whatever reads and writes them.
    fn what_was_put_in_is_taken_out<N: Growable>(network: N) {
        let before = entries(&network);
        for site in network.sites() {
            let width = site.width() / site.blocks();
            for neuron in [0, width / 2, width] {
                let put_in = belongings(&site, neuron);
                let grown = widen(network.clone(), &put_in.all().cloned().collect::<Vec<_>>()).unwrap();
                assert!(entries(&grown).len() == before.len() && entries(&grown) != before);
                let known = grown.sites();
                let site = known.iter().find(|grown| grown.name == site.name).unwrap();
                let mut removal = Removal::default();
                removal.add(site, &[neuron]);
                let narrow = removal.apply(grown.clone());
                assert!(entries(&narrow) == before, "{} neuron {neuron}", site.name);
            }
        }
    }

    #[test]
    fn entries_are_narrowed_along_every_axis() {
        let removed = Removed {
            shape: vec![2, 3, 2],
            axes: BTreeMap::from([(1, BTreeSet::from([0, 2])), (2, BTreeSet::from([1]))]),
        };
        let data = TensorData::new((0..12).map(|entry| entry as f32).collect::<Vec<_>>(), [2, 3, 2]);
        assert_eq!(removed.narrowed(&data), TensorData::new(vec![2.0_f32, 8.0], [2, 1, 1]));
    }

    #[test]
    fn removing_is_the_inverse_of_putting_in() {
        let device = Device::flex();
        let seed = Seed::new(1);
        what_was_put_in_is_taken_out(MlpConfig::new(4, &[5, 3], 2, Activation::Relu).init(seed, &device).unwrap());
        let conv = |channels: usize, groups: usize| Stage::Conv {
            channels,
            kernel: 3,
            stride: 1,
            padding: None,
            dilation: 1,
            groups,
            bias: true,
        };
        let stages = vec![
            conv(4, 1),
            Stage::Norm { norm: NormKind::Batch },
            Stage::Activation { function: Activation::Relu },
            conv(4, 2),
            Stage::Depthwise { kernel: 3, stride: 1 },
            Stage::Flatten,
            Stage::Dense { units: 3, bias: true },
        ];
        let config = ConvNetConfig { input: [2, 5, 5], stages };
        what_was_put_in_is_taken_out(config.init(seed, &device).unwrap());
        let residual = WideResNetConfig::new(10, 1, 0.25).with_growing_streams(0.5);
        what_was_put_in_is_taken_out(residual.init(seed, &device).unwrap());
    }
}
