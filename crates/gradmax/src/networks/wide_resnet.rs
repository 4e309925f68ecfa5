//! Wide residual networks (Zagoruyko and Komodakis 2016), as Evci et al. 2022 grow them, inside their blocks, and with
//! growing residual streams.

use burn::module::Module;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use flexconv::{Joined, convolve, convolve_joined, dense};

use super::draw::{Geometry, he_conv, he_dense};
use super::{Architecture, part_of, seed_width};
use crate::error::Error;
use crate::modules::{Norm, NormKind};
use crate::networks::graph::{GraphBuilder, NetworkGraph, Operation, Value};
use crate::networks::summary::{Described, LayerSummary, Walk, flops_of};
use crate::seed::Seed;
use crate::site::activation::Activation;
use crate::site::between::BetweenLayer;
use crate::site::declaration::Site;
use crate::site::growable::Growable;
use crate::site::layers::{GlobalAverage, global_average};
use crate::site::probe::Probe;
use crate::site::shown::Showable;
use crate::site::width::SiteWidth;

/// The shape of a [`WideResNet`].
#[derive(Debug, Clone, PartialEq)]
pub struct WideResNetConfig {
    /// 6n + 4, for three groups of n blocks.
    pub depth: usize,
    /// Multiplies the channels 16, 32 and 64 of the groups.
    pub width: usize,
    /// The norm between the two convolutions of a block. The others are always there: group norm if this is, else batch
    /// norm.
    pub norm: NormKind,
    /// Channels inside each block: of the first convolution of the blocks, group by group.
    pub inside: Vec<usize>,
    /// Blocks at the end of each group that start without channels, so that growth makes new layers of them.
    pub new_blocks: usize,
    /// Channels of the residual streams: what the blocks of each group add to, one for a group, and before them that of
    /// the first convolution if the groups are wider.
    pub streams: Vec<usize>,
    /// Whether the residual streams are sites too.
    pub growing_streams: bool,
    /// Channels, height and width of the input.
    pub input: [usize; 3],
    /// Number of classes.
    pub classes: usize,
}

/// Channels of the first convolution.
const STEM: usize = 16;
const GROUPS: usize = 3;

impl WideResNetConfig {
    /// The network of this depth and width, with a part of the channels inside its blocks, for 3x32x32 images and 10
    /// classes.
    pub fn new(depth: usize, width: usize, fraction: f64) -> Self {
        let blocks = depth.saturating_sub(4) / 6;
        let inside = (0..GROUPS).flat_map(|group| vec![part_of(channels(group, width), fraction); blocks]);
        let inside = inside.collect();
        Self {
            depth,
            width,
            norm: NormKind::None,
            inside,
            new_blocks: 0,
            streams: all_streams(width),
            growing_streams: false,
            input: [3, 32, 32],
            classes: 10,
        }
    }

    /// The same network with a part of its residual streams' channels, and the streams among its sites.
    #[must_use]
    pub fn with_growing_streams(self, fraction: f64) -> Self {
        let streams = all_streams(self.width).into_iter().map(|channels| part_of(channels, fraction)).collect();
        Self { streams, growing_streams: true, ..self }
    }

    /// The same network with blocks at the end of each group that start without channels.
    #[must_use]
    pub fn with_new_blocks(mut self, new_blocks: usize) -> Self {
        let old = self.blocks();
        let inside = self.inside.chunks(old.max(1)).take(GROUPS);
        let inside = inside.flat_map(|group| [&group[..self.old_blocks()], &vec![0; new_blocks]].concat());
        self.inside = inside.collect();
        self.new_blocks = new_blocks;
        self
    }

    fn old_blocks(&self) -> usize {
        self.depth.saturating_sub(4) / 6
    }

    /// Blocks of a group.
    fn blocks(&self) -> usize {
        self.old_blocks() + self.new_blocks
    }

    fn check(&self) -> Result<(), Error> {
        let bad = |option, value: String, remedy| Err(Error::BadOption { option, value, remedy });
        if self.depth < 10 || !(self.depth - 4).is_multiple_of(6) {
            return bad(
                "depth",
                self.depth.to_string(),
                "a wide residual network has depth 6n + 4: 10, 16, 22, 28, 40, ...",
            );
        }
        if self.width == 0 || self.classes == 0 || self.input.contains(&0) {
            return bad("width", self.width.to_string(), "width, classes and the input's sizes must be at least 1");
        }
        let old = self.inside.chunks(self.blocks()).flat_map(|group| &group[..self.old_blocks()]);
        if self.inside.len() != GROUPS * self.blocks() || old.into_iter().any(|width| *width == 0) {
            let remedy = "every block needs a number of channels of at least 1";
            return bad("inside", format!("{:?}", self.inside), remedy);
        }
        if self.streams.len() != all_streams(self.width).len() || self.streams.contains(&0) {
            let remedy = "every residual stream needs a number of channels of at least 1";
            return bad("streams", format!("{:?}", self.streams), remedy);
        }
        if let NormKind::Group(size) = self.norm {
            let mut all = self.inside.iter().chain(&self.streams).copied();
            if let Some(width) = all.find(|width| size == 0 || !width.is_multiple_of(size)) {
                return Err(Error::UnevenGroups { site: "a block".into(), width, unit: size });
            }
        }
        Ok(())
    }

    /// The channels of every site, by name.
    fn sites(&self) -> Vec<(String, usize)> {
        let streams = if self.growing_streams { self.streams.as_slice() } else { &[] };
        let streams = streams.iter().enumerate().map(|(index, channels)| (stream_name(index), *channels));
        let of_group = |group: usize| (0..self.blocks()).map(move |block| site_name(group, block));
        let inside = (0..GROUPS).flat_map(of_group).zip(self.inside.iter().copied());
        streams.chain(inside).collect()
    }
}

/// The channels of all residual streams of the target network.
fn all_streams(width: usize) -> Vec<usize> {
    let stem = (width > 1).then_some(STEM);
    stem.into_iter().chain((0..GROUPS).map(|group| channels(group, width))).collect()
}

fn stream_name(index: usize) -> String {
    format!("stream{}", index + 1)
}

/// Channels between the blocks of a group.
fn channels(group: usize, width: usize) -> usize {
    width * (STEM << group)
}

fn site_name(group: usize, block: usize) -> String {
    format!("group{}.block{}", group + 1, block + 1)
}

impl Architecture for WideResNetConfig {
    type Network = WideResNet;

    fn init(&self, seed: Seed, device: &Device) -> Result<WideResNet, Error> {
        self.check()?;
        // The norm in front of each block is there in the paper's networks "without norm" too: the stream's scale grows
        // with every block.
        let outer = match self.norm {
            NormKind::None => NormKind::Batch,
            norm => norm,
        };
        // The stem writes the first stream, whatever its width.
        let first = self.streams[0];
        let mut streams = self.streams.iter().copied();
        let mut inputs = streams.next().unwrap_or(first);
        let mut groups = Vec::new();
        for (group, inside) in self.inside.chunks(self.blocks()).enumerate() {
            // The first group goes on with the stream of the first convolution if that is as wide.
            let outputs = if group == 0 && self.width == 1 { inputs } else { streams.next().unwrap_or(inputs) };
            let mut blocks = Vec::new();
            for (block, inside) in inside.iter().enumerate() {
                let stride = if group > 0 && block == 0 { 2 } else { 1 };
                let seed = seed.fold(&site_name(group, block));
                let conv = |sizes, geometry, purpose| he_conv(sizes, geometry, false, seed.at(purpose), device);
                let projects = block == 0 && (group > 0 || self.width > 1);
                blocks.push(Block {
                    norm1: outer.init(inputs, device).expect("it is a norm"),
                    conv1: conv([inputs, *inside], Geometry::same(3, stride), 0),
                    norm2: self.norm.init(*inside, device),
                    conv2: conv([*inside, outputs], Geometry::same(3, 1), 1),
                    shortcut: projects.then(|| conv([inputs, outputs], Geometry::same(1, stride), 2)),
                });
                inputs = outputs;
            }
            groups.push(blocks);
        }
        Ok(WideResNet {
            stem: he_conv([self.input[0], first], Geometry::same(3, 1), false, seed.fold("stem"), device),
            groups,
            norm: outer.init(inputs, device).expect("it is a norm"),
            output: he_dense([inputs, self.classes], true, seed.fold("output"), device),
            growing_streams: self.growing_streams,
            input: self.input,
        })
    }

    fn site_widths(&self) -> Vec<SiteWidth> {
        self.sites().into_iter().map(|(site, width)| seed_width(site, width)).collect()
    }

    fn with_site_widths(&self, widths: &[usize]) -> Self {
        let (streams, inside) = widths.split_at(widths.len() - self.inside.len());
        let streams = if self.growing_streams { streams.to_vec() } else { self.streams.clone() };
        Self { streams, inside: inside.to_vec(), ..self.clone() }
    }
}

/// A wide residual network; its sites are the channels inside its blocks, `group1.block1`, `group1.block2`, ..., and
/// its residual streams, `stream1`, `stream2`, ..., if these grow.
#[derive(Module, Debug)]
pub struct WideResNet {
    stem: Conv2d,
    groups: Vec<Vec<Block>>,
    norm: Norm,
    output: Linear,
    #[module(skip)]
    growing_streams: bool,
    #[module(skip)]
    input: [usize; 3],
}

#[derive(Module, Debug)]
struct Block {
    norm1: Norm,
    conv1: Conv2d,
    norm2: Option<Norm>,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Growable for WideResNet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        let streams = if self.growing_streams { self.streams() } else { Vec::new() };
        let inside = self.blocks().map(|(name, block)| Site::new(name, &block.conv1, block.between(), &block.conv2));
        streams.into_iter().chain(inside).collect()
    }

    fn forward_probed(&self, images: Tensor<4>, probe: &mut dyn Probe) -> Tensor<2> {
        let mut stream = self.growing_streams.then(StreamPlace::first);
        show_written(&mut stream, probe, || images.clone());
        let maps = convolve(&self.stem, images);
        let maps = self.blocks().fold(maps, |maps, (name, block)| block.forward(maps, &name, &mut stream, probe));
        let maps = self.norm.forward_rectified(maps);
        show_read(&mut stream, probe, dense(&self.output, global_average(maps)))
    }

    fn flops(&self) -> u64 {
        flops_of(&self.layers())
    }
}

impl WideResNet {
    /// The residual streams: the first convolution writes the first, a shortcut with a convolution each of the others,
    /// and the blocks add to them. The blocks behind read them, and what ends the network.
    fn streams(&self) -> Vec<Site> {
        let mut ended = Vec::new();
        let mut stream = Site::written_by(stream_name(0), &self.stem);
        for (_, block) in self.blocks() {
            stream = stream.and((&block.norm1, Activation::Relu), &block.conv1);
            if let Some(shortcut) = &block.shortcut {
                ended.push(stream.and((), shortcut));
                stream = Site::written_by(stream_name(ended.len()), shortcut);
            }
            stream = stream.plus(&block.conv2);
        }
        ended.push(stream.and((&self.norm, Activation::Relu, GlobalAverage), &self.output));
        ended
    }

    fn blocks(&self) -> impl Iterator<Item = (String, &Block)> {
        let groups = self.groups.iter().enumerate();
        groups.flat_map(|(group, blocks)| {
            blocks.iter().enumerate().map(move |(block, layers)| (site_name(group, block), layers))
        })
    }
}

impl Block {
    fn between(&self) -> Vec<BetweenLayer> {
        self.norm2.iter().map(BetweenLayer::from).chain([Activation::Relu.into()]).collect()
    }

    /// Adds the two convolutions to the shortcut; nothing is added while there is no channel between them.
    fn forward(
        &self,
        maps: Tensor<4>,
        site: &str,
        stream: &mut Option<StreamPlace>,
        probe: &mut dyn Probe,
    ) -> Tensor<4> {
        let read = self.norm1.forward_rectified(maps.clone());
        let neurons = match self.conv1.weight.dims()[0] {
            0 => {
                stream.iter_mut().for_each(StreamPlace::pass_reader);
                None
            }
            _ => Some(show_read(stream, probe, convolve(&self.conv1, read.clone()))),
        };
        let shortcut = match &self.shortcut {
            Some(shortcut) => {
                let read = show_read(stream, probe, convolve(shortcut, maps.clone()));
                stream.iter_mut().for_each(StreamPlace::next);
                show_written(stream, probe, || maps);
                read
            }
            None => maps,
        };
        // The probe may see the sum: its gradient is that of each summand.
        let joined = self.joined(neurons, shortcut, stream, probe);
        probe.site(site, &read, joined)
    }

    /// The second convolution of these neurons, added to the shortcut.
    fn joined(
        &self,
        neurons: Option<Tensor<4>>,
        shortcut: Tensor<4>,
        stream: &mut Option<StreamPlace>,
        probe: &mut dyn Probe,
    ) -> Tensor<4> {
        let Some(neurons) = neurons else {
            stream.iter_mut().for_each(StreamPlace::pass_writer);
            return shortcut;
        };
        match &self.norm2 {
            Some(norm) => {
                let neurons = norm.forward_rectified(neurons);
                show_written(stream, probe, || neurons.clone());
                convolve_joined(&self.conv2, neurons, Joined { rectified: false, plus: Some(shortcut) })
            }
            None => {
                show_written(stream, probe, || Activation::Relu.apply(neurons.clone()));
                convolve_joined(&self.conv2, neurons, Joined { rectified: true, plus: Some(shortcut) })
            }
        }
    }
}

/// How far a forward pass is in the residual streams.
struct StreamPlace {
    name: String,
    stream: usize,
    writer: usize,
    reader: usize,
}

impl StreamPlace {
    fn first() -> Self {
        Self { name: stream_name(0), stream: 0, writer: 0, reader: 0 }
    }

    fn next(&mut self) {
        *self = Self { name: stream_name(self.stream + 1), stream: self.stream + 1, writer: 0, reader: 0 };
    }

    fn pass_writer(&mut self) {
        self.writer += 1;
    }

    fn pass_reader(&mut self) {
        self.reader += 1;
    }
}

/// Shows what the next writer of the stream reads.
fn show_written(stream: &mut Option<StreamPlace>, probe: &mut dyn Probe, read: impl FnOnce() -> Tensor<4>) {
    if let Some(place) = stream {
        if probe.looks() {
            probe.write(&place.name, place.writer, &read());
        }
        place.pass_writer();
    }
}

/// Shows what the next reader of the stream computes.
fn show_read<C: Showable>(stream: &mut Option<StreamPlace>, probe: &mut dyn Probe, output: C) -> C {
    let Some(place) = stream else {
        return output;
    };
    let output = probe.read(&place.name, place.reader, output);
    place.pass_reader();
    output
}

impl Described for WideResNet {
    fn layers(&self) -> Vec<LayerSummary> {
        let mut walk = Walk::new(&self.input, self.sites());
        walk.conv("stem", &self.stem);
        for (name, block) in self.blocks() {
            let named = |layer: &str| format!("{name}.{layer}");
            let read = walk.shape();
            walk.norm(&named("norm1"), &block.norm1);
            walk.conv(&named("conv1"), &block.conv1);
            if let Some(norm) = &block.norm2 {
                walk.norm(&named("norm2"), norm);
            }
            walk.conv(&named("conv2"), &block.conv2);
            if let Some(shortcut) = &block.shortcut {
                let written = walk.shape();
                walk.back_to(read);
                walk.conv(&named("shortcut"), shortcut);
                walk.back_to(written);
            }
        }
        walk.norm("norm", &self.norm);
        walk.global_average();
        walk.dense("output", &self.output);
        walk.finish()
    }

    fn graph(&self) -> Option<NetworkGraph> {
        let mut graph = GraphBuilder::new(&self.input);
        let mut maps = graph.conv("stem", &self.stem, Value::Input);
        for (name, block) in self.blocks() {
            maps = block.in_graph(&mut graph, &name, maps);
        }
        let normed = graph.norm("norm", &self.norm, maps);
        let active = graph.activation(Activation::Relu, normed);
        let averaged = graph.plain("global_average", Operation::GlobalAverage, &[active]);
        graph.dense("output", &self.output, averaged);
        Some(graph.finish())
    }
}

impl Block {
    /// Adds the block's operations to a graph.
    fn in_graph(&self, graph: &mut GraphBuilder, name: &str, maps: Value) -> Value {
        let named = |layer: &str| format!("{name}.{layer}");
        let projects = |graph: &mut GraphBuilder| match &self.shortcut {
            Some(shortcut) => graph.conv(&named("shortcut"), shortcut, maps),
            None => maps,
        };
        if self.conv1.weight.dims()[0] == 0 {
            return projects(graph);
        }
        let read = graph.norm(&named("norm1"), &self.norm1, maps);
        let read = graph.activation(Activation::Relu, read);
        let mut neurons = graph.conv(&named("conv1"), &self.conv1, read);
        if let Some(norm) = &self.norm2 {
            neurons = graph.norm(&named("norm2"), norm, neurons);
        }
        let neurons = graph.activation(Activation::Relu, neurons);
        let residual = graph.conv(&named("conv2"), &self.conv2, neurons);
        let shortcut = projects(graph);
        graph.plain("add", Operation::Add, &[residual, shortcut])
    }
}
