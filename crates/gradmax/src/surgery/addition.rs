//! What new neurons at a site append to each parameter: incoming and outgoing weights, and entries of all that lies
//! between.

use std::collections::BTreeMap;

use burn::module::ParamId;
use burn::tensor::{Device, Tensor, TensorData};

use crate::matrix::Matrix;
use crate::site::between::{Between, Fresh, FreshLeaves};
use crate::site::declaration::{Path, Site};
use crate::site::extension::Extension;
use crate::surgery::existing::Existing;
use crate::surgery::new_neurons::{Changes, NewNeurons};

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
        Self { neurons: NewNeurons::new(incoming, outgoing, bias), fresh }
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

    /// The initial values of new neurons, flat: those of the neurons that they are split from, the block's first one
    /// being the site's `first`.
    fn values(&self, neurons: &NewNeurons, first: usize) -> Vec<f32> {
        if neurons.parents.iter().all(Option::is_none) {
            return self.fresh.entry.repeat(neurons.count() * self.positions);
        }
        let existing = crate::matrix::values(&self.fresh.existing.clone().into_data());
        let entries = self.fresh.entry.len() * self.positions;
        let of_neuron = |neuron: usize| match neurons.parent(neuron) {
            None => self.fresh.entry.repeat(self.positions),
            Some(parent) => {
                let at = (self.before + first + parent) * entries;
                existing[at..at + entries].iter().map(|entry| *entry as f32).collect()
            }
        };
        (0..neurons.count()).flat_map(of_neuron).collect()
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
            copies: Vec::new(),
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

/// The trained entries between of new neurons, as leaves; the block's first neuron is the site's `first`.
pub(crate) fn fresh_leaves(fresh: &[FreshAt], neurons: &NewNeurons, first: usize, device: &Device) -> FreshLeaves {
    let leaf = |at: &FreshAt| {
        let values = at.values(neurons, first);
        let length = values.len();
        let tensor = Tensor::<1>::from_data(TensorData::new(values, [length]), device);
        (at.fresh.parameter, tensor.autodiff().require_grad())
    };
    fresh.iter().filter(|at| at.fresh.is_trained()).map(leaf).collect()
}

/// The extensions that add the neurons of every block, each after the block's existing ones.
pub(crate) fn addition(site: &Site, blocks: &[&NewNeurons]) -> Addition {
    let width = site.width() / blocks.len();
    let values = |at: &FreshAt, block: usize| at.values(blocks[block], block * width);
    extensions(site, blocks, fresh_between(site).iter(), values)
}

/// What is added to existing weights: the entries from `at` on, rather than new ones before it.
pub(crate) fn changes(site: &Site, blocks: &[&NewNeurons]) -> Vec<Extension> {
    let width = site.width() / blocks.len();
    if blocks.iter().all(|neurons| neurons.changes.is_none()) {
        return Vec::new();
    }
    let none = Changes::none(width, site.fan_in(), site.fan_out());
    let of_blocks = blocks.iter().map(|neurons| neurons.changes.as_ref().unwrap_or(&none)).collect::<Vec<_>>();
    let incoming = of_blocks.iter().enumerate().flat_map(|(index, changes)| {
        let (weight, bias) = site.producer.extend_as_producer(index * width, &changes.incoming, &changes.bias);
        std::iter::once(weight).chain(bias)
    });
    let outgoing = of_blocks.iter().map(|changes| &changes.outgoing).collect::<Vec<_>>();
    incoming.chain(at_consumers(site, &outgoing, |nth| nth * width)).collect()
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
        let (mut weight, bias) = match neurons.parents.iter().any(Option::is_some) {
            false => site.producer.extend_as_producer(at, &neurons.incoming, &neurons.bias),
            true => site.producer.extend_as_producer(at, &from_parents(site, index, neurons), &neurons.bias),
        };
        weight.copies = neurons.parents.iter().map(|parent| parent.map(|parent| index * width + parent)).collect();
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
    let outgoing = blocks.iter().map(|neurons| &neurons.outgoing).collect::<Vec<_>>();
    addition.outgoing = at_consumers(site, &outgoing, |nth| (nth + 1) * width);
    addition
}

/// Incoming weights, `[count, fan_in]`, as differences to what those of the neurons that new ones are split from
/// become.
fn from_parents(site: &Site, block: usize, neurons: &NewNeurons) -> Matrix {
    let mut parents = Existing::of(site, block).incoming;
    if let Some(changes) = &neurons.changes {
        parents += &changes.incoming;
    }
    let (count, fan_in) = neurons.incoming.shape();
    Matrix::from_fn(count, fan_in, |i, j| {
        neurons.incoming[(i, j)] - neurons.parent(i).map_or(0.0, |parent| parents[(parent, j)])
    })
}

/// Extensions of the consumers by outgoing weights of every block, `[fan_out, count]`, at a neuron of the `nth` block
/// that one group of the consumer reads.
fn at_consumers(site: &Site, outgoing: &[&Matrix], neuron: impl Fn(usize) -> usize) -> Vec<Extension> {
    let mut extensions = Vec::new();
    let mut first_row = 0;
    for path in &site.paths {
        let (positions, rows) = (path.positions(site.width()), path.fan_out(site.width()));
        let of_path = outgoing.iter().map(|outgoing| outgoing.subrows(first_row, rows).to_owned());
        let of_path = of_path.collect::<Vec<Matrix>>();
        first_row += rows;
        // Blocks that one group of the consumer reads lie one after another in each group.
        let in_group = of_path.len() / path.consumer.groups();
        for nth in 0..in_group {
            let at = (path.before() + neuron(nth)) * positions;
            let of_groups = of_path.iter().skip(nth).step_by(in_group).collect::<Vec<_>>();
            extensions.push(path.consumer.extend_as_consumer(at, &of_groups, positions));
        }
    }
    extensions
}
