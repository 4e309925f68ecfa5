//! What new neurons at a site append to each parameter: incoming and outgoing weights, and entries of all that lies
//! between.

use std::borrow::Cow;
use std::collections::BTreeMap;

use burn::module::ParamId;
use burn::tensor::{Device, Tensor, TensorData};

use crate::matrix::Matrix;
use crate::site::between::{Gain, Gained, Positions};
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
    /// Of trained entries between, flat, and of the biases of writers but for the first that has any.
    pub(crate) further: BTreeMap<ParamId, Vec<f32>>,
}

impl BlockValues {
    pub(crate) fn of_weights(
        incoming: Matrix,
        outgoing: Matrix,
        bias: Vec<f64>,
        further: BTreeMap<ParamId, Vec<f32>>,
    ) -> Self {
        Self { neurons: NewNeurons::new(incoming, outgoing, bias), further }
    }
}

/// A parameter between that gains entries, and where they go.
pub(crate) struct GainAt {
    pub(crate) gain: Gain,
    /// Channels of others before the neurons.
    before: usize,
    /// All channels.
    channels: usize,
    /// Features of a channel.
    positions: usize,
}

impl GainAt {
    /// Number of entries of `count` new neurons.
    pub(crate) fn length(&self, count: usize) -> usize {
        self.gain.entry.len() * count * self.positions
    }

    /// The initial values of new neurons, flat: those of the neurons that they are split from, the block's first one
    /// being the site's `first`.
    fn values(&self, neurons: &NewNeurons, first: usize) -> Vec<f32> {
        if neurons.parents.iter().all(Option::is_none) {
            return self.gain.entry.repeat(neurons.count() * self.positions);
        }
        let existing = crate::matrix::values(&self.gain.existing.clone().into_data());
        let entries = self.gain.entry.len() * self.positions;
        let of_neuron = |neuron: usize| match neurons.parent(neuron) {
            None => self.gain.entry.repeat(self.positions),
            Some(parent) => {
                let at = (self.before + first + parent) * entries;
                existing[at..at + entries].iter().map(|entry| *entry as f32).collect()
            }
        };
        (0..neurons.count()).flat_map(of_neuron).collect()
    }

    /// The extension for `count` neurons after the first `width` ones of the site.
    fn extension(&self, width: usize, count: usize, values: Vec<f32>) -> Extension {
        let shape = [&[count * self.positions], self.gain.entry_shape.as_slice()].concat();
        Extension {
            parameter: self.gain.parameter,
            axis: 0,
            length: self.channels * self.positions,
            at: (self.before + width) * self.positions,
            values: TensorData::new(values, shape),
            copies: Vec::new(),
        }
    }
}

/// Everything between that gains entries with a neuron, each parameter once.
pub(crate) fn gains_between(site: &Site) -> Vec<GainAt> {
    let mut found: Vec<GainAt> = Vec::new();
    for path in &site.paths {
        for at in gains_on(path, site.width()) {
            if !found.iter().any(|known| known.gain.parameter == at.gain.parameter) {
                found.push(at);
            }
        }
    }
    found
}

fn gains_on(path: &Path, width: usize) -> Vec<GainAt> {
    let (mut before, mut channels, mut positions) = (0, width, 1);
    let mut found = Vec::new();
    for between in &path.between {
        let traits = between.traits();
        let [first, after] = traits.beside;
        (before, channels) = (before + first, channels + first + after);
        if traits.positions == Positions::Flattened {
            positions = path.positions(width);
        }
        found.extend(between.gains().into_iter().map(|gain| GainAt { gain, before, channels, positions }));
    }
    found
}

/// The trained entries between of new neurons, as leaves; the block's first neuron is the site's `first`.
pub(crate) fn leaves_of(gains: &[GainAt], neurons: &NewNeurons, first: usize, device: &Device) -> Gained {
    let leaf = |at: &GainAt| {
        let values = at.values(neurons, first);
        let length = values.len();
        let tensor = Tensor::<1>::from_data(TensorData::new(values, [length]), device);
        (at.gain.parameter, tensor.autodiff().require_grad())
    };
    Gained(gains.iter().filter(|at| at.gain.is_trained()).map(leaf).collect())
}

/// The extensions that add the neurons of every block, each after the block's existing ones.
pub(crate) fn addition(site: &Site, blocks: &[&NewNeurons]) -> Addition {
    let width = site.width() / blocks.len();
    let values = |at: &GainAt, block: usize| at.values(blocks[block], block * width);
    let addition = extensions(site, blocks, &end_of_block(width), gains_between(site).iter(), values, |_, _| None);
    with_companions(addition, site, width, blocks[0].count(), false)
}

/// The place of new neurons: after the existing ones of their block.
fn end_of_block(width: usize) -> impl Fn(usize) -> usize {
    move |block| (block + 1) * width
}

/// Everything that belongs to one existing neuron of each block, the one with this index there: the entries from `at` on,
/// rather than new ones before it. Their values say nothing.
pub(crate) fn belongings(site: &Site, neuron: usize) -> Addition {
    let (blocks, width) = (site.blocks(), site.width() / site.blocks());
    let silent = NewNeurons::zeros(1, site.fan_in(), site.fan_out());
    let gains = gains_between(site);
    let place = |block: usize| block * width + neuron;
    let silent = vec![&silent; blocks];
    let addition = extensions(site, &silent, &place, gains.iter(), |at, _| vec![0.0; at.length(1)], |_, _| None);
    with_companions(addition, site, neuron, 1, false)
}

/// What is added to existing weights: the entries from `at` on, rather than new ones before it.
pub(crate) fn changes(site: &Site, blocks: &[&NewNeurons]) -> Vec<Extension> {
    let width = site.width() / blocks.len();
    if blocks.iter().all(|neurons| neurons.changes.is_none()) {
        return Vec::new();
    }
    // A reader of several blocks is changed as a whole, also where only one block's neurons change.
    let none = Changes::none(width, site.fan_in(), site.fan_out());
    let of_blocks = blocks.iter().map(|neurons| neurons.changes.as_ref().unwrap_or(&none)).collect::<Vec<_>>();
    let incoming = of_blocks.iter().enumerate().flat_map(|(index, changes)| {
        at_writers(site, index * width, &changes.incoming, |writer| bias_of(site, writer, &changes.bias))
            .flat_map(|(weight, bias)| std::iter::once(weight).chain(bias))
            .collect::<Vec<_>>()
    });
    let outgoing = of_blocks.iter().map(|changes| &changes.outgoing).collect::<Vec<_>>();
    incoming.chain(at_consumers(site, &outgoing, |nth| nth * width)).collect()
}

/// Gradients of the new entries, in the form of the extensions of [`addition`].
pub(crate) fn gradient_addition(site: &Site, blocks: &[&BlockValues]) -> Addition {
    let neurons = blocks.iter().map(|block| &block.neurons).collect::<Vec<_>>();
    let gains = gains_between(site);
    let trained = gains.iter().filter(|at| at.gain.is_trained());
    let further_bias = |parameter: ParamId, block: usize| blocks[block].further.get(&parameter).cloned();
    let width = site.width() / blocks.len();
    let further = |at: &GainAt, block: usize| blocks[block].further[&at.gain.parameter].clone();
    let addition = extensions(site, &neurons, &end_of_block(width), trained, further, further_bias);
    with_companions(addition, site, width, neurons[0].count(), true)
}

/// The extensions of every parameter by neurons of every block, at the neuron of the site that `place` gives each block.
fn extensions<'a>(
    site: &Site,
    blocks: &[&NewNeurons],
    place: &dyn Fn(usize) -> usize,
    gains: impl Iterator<Item = &'a GainAt>,
    gained: impl Fn(&GainAt, usize) -> Vec<f32>,
    further_bias: impl Fn(ParamId, usize) -> Option<Vec<f32>>,
) -> Addition {
    let count = blocks[0].count();
    let mut addition = Addition { incoming: Vec::new(), outgoing: Vec::new(), rest: Vec::new() };
    add_writers(&mut addition, site, blocks, place, further_bias);
    for at in gains {
        let of = |block: usize| at.extension(place(block), count, gained(at, block));
        addition.rest.extend((0..blocks.len()).map(of));
    }
    for layer in &site.unseen {
        // A layer that reads the neurons unseen must not change what it computes: growth knows no gradient there.
        let zeros = Matrix::zeros(layer.fan_out(), count);
        let in_group = blocks.len() / layer.groups();
        let of_groups = vec![&zeros; layer.groups()];
        addition.rest.extend((0..in_group).map(|nth| layer.extend_inputs(place(nth), &of_groups, 1)));
    }
    let outgoing = blocks.iter().map(|neurons| &neurons.outgoing).collect::<Vec<_>>();
    addition.outgoing = at_consumers(site, &outgoing, place);
    addition
}

/// Adds what the companions of new neurons are, or the gradients of these: zeros, until both sides of the neurons have left
/// zero.
fn with_companions(mut addition: Addition, site: &Site, at: usize, count: usize, are_gradients: bool) -> Addition {
    let Some(companions) = &site.companions else {
        return addition;
    };
    let entry = |value: f64| if are_gradients { 0.0 } else { value };
    let unit = companions.companion.unit();
    for (index, layer) in companions.companion.layers().into_iter().enumerate() {
        let of_row = |row: usize| &companions.of_new(row / unit)[index];
        let row = |row: usize, column: usize| entry(of_row(row).incoming[(row % unit, column)]);
        let incoming = Matrix::from_fn(count, layer.fan_in(), row);
        let bias = (0..count).map(|row| entry(of_row(row).bias[row % unit])).collect::<Vec<_>>();
        let (weight, bias) = layer.extended(at, &incoming, &bias);
        addition.rest.extend(std::iter::once(weight).chain(bias));
    }
    addition
}

/// Adds the writers' weights and biases of new neurons, block by block.
fn add_writers(
    addition: &mut Addition,
    site: &Site,
    blocks: &[&NewNeurons],
    place: &dyn Fn(usize) -> usize,
    further_bias: impl Fn(ParamId, usize) -> Option<Vec<f32>>,
) {
    let width = site.width() / blocks.len();
    for (index, neurons) in blocks.iter().enumerate() {
        let incoming = match neurons.parents.iter().any(Option::is_some) {
            false => &neurons.incoming,
            true => &from_parents(site, index, neurons),
        };
        let bias = |writer: usize| {
            let further = site.writers[writer].bias().and_then(|bias| further_bias(bias.id, index));
            let given = further.map(|entries| entries.into_iter().map(f64::from).collect());
            given.unwrap_or_else(|| bias_of(site, writer, &neurons.bias))
        };
        let parents = neurons.parents.iter().map(|parent| parent.map(|parent| index * width + parent));
        let parents = parents.collect::<Vec<_>>();
        let of_writers = at_writers(site, place(index), incoming, bias);
        for (writer, (weight, bias)) in of_writers.enumerate() {
            addition.incoming.push(Extension { copies: parents.clone(), ..weight });
            // The neurons' own biases are given; those of further writers come with what a neuron is split off.
            addition.rest.extend(bias.map(|bias| match site.biased_writer() == Some(writer) {
                true => bias,
                false => Extension { copies: parents.clone(), ..bias },
            }));
        }
    }
}

/// Extensions of the writers' weights and biases before the neuron `at`, by incoming weights `[count, fan_in]`.
fn at_writers<'a>(
    site: &'a Site,
    at: usize,
    incoming: &'a Matrix,
    bias: impl Fn(usize) -> Vec<f64> + 'a,
) -> impl Iterator<Item = (Extension, Option<Extension>)> + 'a {
    site.writers.iter().enumerate().map(move |(writer, producer)| {
        let columns = site.columns(writer);
        let incoming = match columns.len() == incoming.ncols() {
            true => Cow::Borrowed(incoming),
            false => Cow::Owned(incoming.subcols(columns.start, columns.len()).to_owned()),
        };
        producer.extended(at, &incoming, &bias(writer))
    })
}

/// The neurons' biases for the writer that has them, and zeros for others.
fn bias_of(site: &Site, writer: usize, bias: &[f64]) -> Vec<f64> {
    match site.biased_writer() == Some(writer) {
        true => bias.to_vec(),
        false => vec![0.0; bias.len()],
    }
}

/// Incoming weights, `[count, fan_in]`, as differences to what those of the neurons that new ones are split from
/// become.
fn from_parents(site: &Site, block: usize, neurons: &NewNeurons) -> Matrix {
    let mut parents = Existing::of(site, block).incoming;
    if let Some(changes) = &neurons.changes {
        // A copy is of the parent as it will be, after its own change.
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
        let of_path = outgoing.iter().map(|outgoing| match rows == outgoing.nrows() {
            true => Cow::Borrowed(*outgoing),
            false => Cow::Owned(outgoing.subrows(first_row, rows).to_owned()),
        });
        let of_path = of_path.collect::<Vec<_>>();
        first_row += rows;
        // Blocks that one group of the consumer reads lie one after another in each group.
        let in_group = of_path.len() / path.consumer.groups();
        for nth in 0..in_group {
            let at = (path.before() + neuron(nth)) * positions;
            let of_groups = of_path.iter().map(|outgoing| &**outgoing).skip(nth).step_by(in_group).collect::<Vec<_>>();
            extensions.push(path.consumer.extend_inputs(at, &of_groups, positions));
        }
    }
    extensions
}
