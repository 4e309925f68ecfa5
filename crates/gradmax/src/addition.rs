//! What new neurons at a site append to each parameter: incoming and outgoing weights, and entries of all that lies between.

use std::collections::BTreeMap;

use burn::module::ParamId;
use burn::tensor::{Device, Tensor, TensorData};

use crate::between::{Between, Fresh, FreshLeaves};
use crate::extension::Extension;
use crate::initializer::NewNeurons;
use crate::matrix::Matrix;
use crate::site::{Path, Site};

/// The extensions that add neurons to a site, by what they are.
#[derive(Debug)]
pub(crate) struct Addition {
    /// Of the producer's weight.
    pub(crate) incoming: Vec<Extension>,
    /// Of the consumers' weights.
    pub(crate) outgoing: Vec<Extension>,
    /// Of biases, and of layers between.
    pub(crate) rest: Vec<Extension>,
}

impl Addition {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Extension> {
        self.incoming.iter().chain(&self.outgoing).chain(&self.rest)
    }
}

/// Values for the new neurons of one block of a site: their weights, or the gradients of these.
pub(crate) struct BlockValues {
    pub(crate) neurons: NewNeurons,
    /// Of trained entries between, flat.
    pub(crate) fresh: BTreeMap<ParamId, Vec<f32>>,
}

impl BlockValues {
    pub(crate) fn of_weights(
        incoming: Matrix,
        outgoing: Matrix,
        bias: Vec<f64>,
        fresh: BTreeMap<ParamId, Vec<f32>>,
    ) -> Self {
        let neurons = NewNeurons { incoming, outgoing, bias, singular_values: Vec::new(), incoming_gradient: None };
        Self { neurons, fresh }
    }
}

/// A parameter between that gains entries, and where they go.
pub(crate) struct FreshAt {
    pub(crate) fresh: Fresh,
    /// Channels of others before the neurons.
    before: usize,
    /// All channels.
    channels: usize,
    /// Features of a channel.
    positions: usize,
}

impl FreshAt {
    /// Number of entries of `count` new neurons.
    pub(crate) fn length(&self, count: usize) -> usize {
        self.fresh.entry.len() * count * self.positions
    }

    /// The initial values of `count` new neurons, flat.
    fn values(&self, count: usize) -> Vec<f32> {
        self.fresh.entry.repeat(count * self.positions)
    }

    /// The extension for `count` neurons after the first `width` ones of the site.
    fn extension(&self, width: usize, count: usize, values: Vec<f32>) -> Extension {
        let shape = [&[count * self.positions], self.fresh.entry_shape.as_slice()].concat();
        Extension {
            parameter: self.fresh.parameter,
            axis: 0,
            length: self.channels * self.positions,
            at: (self.before + width) * self.positions,
            values: TensorData::new(values, shape),
        }
    }
}

/// Everything between that gains entries with a neuron, each parameter once.
pub(crate) fn fresh_between(site: &Site) -> Vec<FreshAt> {
    let mut found: Vec<FreshAt> = Vec::new();
    for path in &site.paths {
        for at in fresh_on(path, site.width()) {
            if !found.iter().any(|known| known.fresh.parameter == at.fresh.parameter) {
                found.push(at);
            }
        }
    }
    found
}

fn fresh_on(path: &Path, width: usize) -> Vec<FreshAt> {
    let (mut before, mut channels, mut positions) = (0, width, 1);
    let mut found = Vec::new();
    for between in &path.between {
        match between {
            Between::Beside { before: first, after } => (before, channels) = (before + first, channels + first + after),
            Between::Flatten => positions = path.positions(width),
            _ => {}
        }
        found.extend(between.fresh().into_iter().map(|fresh| FreshAt { fresh, before, channels, positions }));
    }
    found
}

/// The trained entries between of `count` new neurons, as leaves.
pub(crate) fn fresh_leaves(fresh: &[FreshAt], count: usize, device: &Device) -> FreshLeaves {
    let leaf = |at: &FreshAt| {
        let values = at.values(count);
        let length = values.len();
        let tensor = Tensor::<1>::from_data(TensorData::new(values, [length]), device);
        (at.fresh.parameter, tensor.autodiff().require_grad())
    };
    fresh.iter().filter(|at| at.fresh.is_trained()).map(leaf).collect()
}

/// The extensions that add the neurons of every block, each after the block's existing ones.
pub(crate) fn addition(site: &Site, blocks: &[&NewNeurons]) -> Addition {
    let count = blocks[0].count();
    let values = |at: &FreshAt, _: usize| at.values(count);
    extensions(site, blocks, fresh_between(site).iter(), values)
}

/// Gradients of the new entries, in the form of the extensions of [`addition`].
pub(crate) fn gradient_addition(site: &Site, blocks: &[&BlockValues]) -> Addition {
    let neurons = blocks.iter().map(|block| &block.neurons).collect::<Vec<_>>();
    let fresh = fresh_between(site);
    let trained = fresh.iter().filter(|at| at.fresh.is_trained());
    extensions(site, &neurons, trained, |at, block| blocks[block].fresh[&at.fresh.parameter].clone())
}

fn extensions<'a>(
    site: &Site,
    blocks: &[&NewNeurons],
    fresh: impl Iterator<Item = &'a FreshAt>,
    fresh_values: impl Fn(&FreshAt, usize) -> Vec<f32>,
) -> Addition {
    let (width, count) = (site.width() / blocks.len(), blocks[0].count());
    let mut addition = Addition { incoming: Vec::new(), outgoing: Vec::new(), rest: Vec::new() };
    for (index, neurons) in blocks.iter().enumerate() {
        let at = (index + 1) * width;
        let (weight, bias) = site.producer.extend_as_producer(at, &neurons.incoming, &neurons.bias);
        addition.incoming.push(weight);
        addition.rest.extend(bias);
        for layer in &site.added {
            let zeros = Matrix::zeros(count, layer.fan_in());
            let (weight, bias) = layer.extend_as_producer(at, &zeros, &vec![0.0; count]);
            addition.rest.extend(std::iter::once(weight).chain(bias));
        }
    }
    for at in fresh {
        let of = |block: usize| at.extension((block + 1) * width, count, fresh_values(at, block));
        addition.rest.extend((0..blocks.len()).map(of));
    }
    for layer in &site.unseen {
        let zeros = Matrix::zeros(layer.fan_out(), count);
        let in_group = blocks.len() / layer.groups();
        let of_groups = vec![&zeros; layer.groups()];
        addition.rest.extend((1..=in_group).map(|nth| layer.extend_as_consumer(nth * width, &of_groups, 1)));
    }
    let mut first_row = 0;
    for path in &site.paths {
        let (positions, rows) = (path.positions(site.width()), path.fan_out(site.width()));
        let outgoing = blocks.iter().map(|neurons| neurons.outgoing.subrows(first_row, rows).to_owned());
        let outgoing = outgoing.collect::<Vec<Matrix>>();
        first_row += rows;
        // Blocks that one group of the consumer reads lie one after another in each group.
        let in_group = blocks.len() / path.consumer.groups();
        for nth in 0..in_group {
            let at = (path.before() + (nth + 1) * width) * positions;
            let of_groups = outgoing.iter().skip(nth).step_by(in_group).collect::<Vec<_>>();
            addition.outgoing.push(path.consumer.extend_as_consumer(at, &of_groups, positions));
        }
    }
    addition
}
