//! Plain stacks of layers, from a list.

mod config;

use burn::module::Module;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::tensor::Tensor;
use flexconv::{convolve, dense};

pub use self::config::{ConvNetConfig, Stage};
use crate::modules::{DepthwiseConv2d, Dropout, Norm};
use crate::networks::graph::{GraphBuilder, NetworkGraph, Operation, Value};
use crate::networks::summary::{Described, LayerSummary, Walk, flops_of};
use crate::site::activation::Activation;
use crate::site::between::BetweenLayer;
use crate::site::declaration::Site;
use crate::site::growable::Growable;
use crate::site::layers::{Flatten, GlobalAverage, global_average};
use crate::site::probe::Probe;

/// A plain stack of layers; its sites are its convolutions and dense layers, but for the last.
#[derive(Module, Debug)]
pub struct ConvNet {
    convs: Vec<Conv2d>,
    depthwise: Vec<DepthwiseConv2d>,
    denses: Vec<Linear>,
    norms: Vec<Norm>,
    #[module(skip)]
    layers: Vec<Step>,
    #[module(skip)]
    names: Vec<String>,
    #[module(skip)]
    input: [usize; 3],
}

/// A stage, with the place of its parameters.
#[derive(Debug, Clone, Copy)]
enum Step {
    Conv(usize),
    Depthwise(usize),
    Dense(usize),
    Norm(usize),
    Activation(Activation),
    MaxPool(usize),
    AveragePool(usize),
    GlobalAverage,
    Flatten,
    Dropout(f64),
}

impl ConvNet {
    fn empty(input: [usize; 3]) -> Self {
        Self {
            convs: Vec::new(),
            depthwise: Vec::new(),
            denses: Vec::new(),
            norms: Vec::new(),
            layers: Vec::new(),
            names: Vec::new(),
            input,
        }
    }

    /// The step, if it is none with neurons, as what lies between two that are.
    fn between(&self, step: &Step) -> Option<BetweenLayer> {
        Some(match step {
            Step::Conv(_) | Step::Dense(_) => return None,
            Step::Depthwise(index) => (&self.depthwise[*index]).into(),
            Step::Norm(index) => (&self.norms[*index]).into(),
            Step::Activation(activation) => (*activation).into(),
            Step::MaxPool(size) => (&max_pool(*size)).into(),
            Step::AveragePool(size) => (&average_pool(*size)).into(),
            Step::GlobalAverage => GlobalAverage.into(),
            Step::Flatten => Flatten.into(),
            Step::Dropout(rate) => (&Dropout::new(*rate)).into(),
        })
    }

    /// The site that this layer writes, whose readers are still to be named.
    fn site(&self, name: &str, writer: &Step) -> Option<Site> {
        match writer {
            Step::Conv(index) => Some(Site::written_by(name, &self.convs[*index])),
            Step::Dense(index) => Some(Site::written_by(name, &self.denses[*index])),
            _ => None,
        }
    }

    /// The site with the layer that reads it.
    fn read_by(&self, site: Site, between: Vec<BetweenLayer>, reader: &Step) -> Site {
        match reader {
            Step::Conv(index) => site.and(between, &self.convs[*index]),
            Step::Dense(index) => site.and(between, &self.denses[*index]),
            _ => site,
        }
    }

    fn apply(&self, step: &Step, activations: Activations) -> Activations {
        use Activations::{Maps, Vectors};
        match (step, activations) {
            (Step::Conv(index), Maps(maps)) => Maps(convolve(&self.convs[*index], maps)),
            (Step::Dense(index), activations) => Vectors(dense(&self.denses[*index], activations.flattened())),
            (Step::Depthwise(index), Maps(maps)) => Maps(self.depthwise[*index].forward(maps)),
            (Step::Norm(index), Maps(maps)) => Maps(self.norms[*index].forward(maps)),
            (Step::Norm(index), Vectors(vectors)) => Vectors(self.norms[*index].forward(vectors)),
            (Step::Activation(activation), Maps(maps)) => Maps(activation.apply(maps)),
            (Step::Activation(activation), Vectors(vectors)) => Vectors(activation.apply(vectors)),
            (Step::MaxPool(size), Maps(maps)) => Maps(max_pool(*size).forward(maps)),
            (Step::AveragePool(size), Maps(maps)) => Maps(average_pool(*size).forward(maps)),
            (Step::GlobalAverage, Maps(maps)) => Vectors(global_average(maps)),
            (Step::Flatten, activations) => Vectors(activations.flattened()),
            (Step::Dropout(rate), Maps(maps)) => Maps(Dropout::new(*rate).forward(maps)),
            (Step::Dropout(rate), Vectors(vectors)) => Vectors(Dropout::new(*rate).forward(vectors)),
            (step, Vectors(_)) => unreachable!("configurations are checked: no {step:?} follows vectors"),
        }
    }
}

/// What flows through the stack.
#[derive(Clone)]
enum Activations {
    Maps(Tensor<4>),
    Vectors(Tensor<2>),
}

impl Activations {
    fn flattened(self) -> Tensor<2> {
        match self {
            Self::Vectors(vectors) => vectors,
            Self::Maps(maps) => {
                let [batch, channels, height, width] = maps.dims();
                maps.reshape([batch, channels * height * width])
            }
        }
    }

    /// Shows them as what the site's writer reads.
    fn show_writer(&self, site: &str, probe: &mut dyn Probe) {
        match self {
            Self::Maps(maps) => probe.write(site, 0, maps),
            Self::Vectors(vectors) => probe.write(site, 0, vectors),
        }
    }

    /// Shows them as what the site's reader computes.
    fn show_reader(self, site: &str, probe: &mut dyn Probe) -> Self {
        match self {
            Self::Maps(maps) => Self::Maps(probe.read(site, 0, maps)),
            Self::Vectors(vectors) => Self::Vectors(probe.read(site, 0, vectors)),
        }
    }
}

fn max_pool(size: usize) -> MaxPool2d {
    MaxPool2dConfig::new([size, size]).with_strides([size, size]).init()
}

fn average_pool(size: usize) -> AvgPool2d {
    AvgPool2dConfig::new([size, size]).with_strides([size, size]).init()
}

impl Growable for ConvNet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        let mut sites = Vec::new();
        let mut names = self.names.iter();
        let mut open: Option<(&Step, Vec<BetweenLayer>)> = None;
        for step in &self.layers {
            match (self.between(step), open.as_mut()) {
                (Some(between), Some((_, collected))) => collected.push(between),
                (Some(_), None) => {}
                (None, _) => {
                    if let Some((writer, between)) = open.replace((step, Vec::new())) {
                        let name = names.next().expect("every layer has a name");
                        sites.extend(self.site(name, writer).map(|site| self.read_by(site, between, step)));
                    }
                }
            }
        }
        sites
    }

    fn forward_probed(&self, input: Tensor<4>, probe: &mut dyn Probe) -> Tensor<2> {
        let mut activations = Activations::Maps(input);
        let mut names = self.names.iter();
        // What the last layer with neurons read.
        let mut read: Option<Activations> = None;
        for step in &self.layers {
            // A clone shares the entries; a probe may still want to see what the step read.
            let output = self.apply(step, activations.clone());
            activations = match step {
                Step::Conv(_) | Step::Dense(_) => match (read.replace(activations), names.as_slice()) {
                    (Some(writer_input), [name, ..]) => {
                        names.next();
                        writer_input.show_writer(name, probe);
                        output.show_reader(name, probe)
                    }
                    _ => output,
                },
                _ => output,
            };
        }
        match activations {
            Activations::Vectors(vectors) => vectors,
            Activations::Maps(maps) => global_average(maps),
        }
    }

    fn flops(&self) -> u64 {
        flops_of(&self.layers())
    }
}

impl Described for ConvNet {
    fn layers(&self) -> Vec<LayerSummary> {
        let mut walk = Walk::new(&self.input, self.sites());
        let mut names = self.names.iter();
        let mut name = || names.next().expect("every layer has a name").clone();
        for step in &self.layers {
            match step {
                Step::Conv(index) => walk.conv(&name(), &self.convs[*index]),
                Step::Dense(index) => walk.dense(&name(), &self.denses[*index]),
                Step::Depthwise(index) => walk.depthwise(&format!("depthwise{}", index + 1), &self.depthwise[*index]),
                Step::Norm(index) => walk.norm(&format!("norm{}", index + 1), &self.norms[*index]),
                Step::MaxPool(size) | Step::AveragePool(size) => walk.pool(*size),
                Step::GlobalAverage => walk.global_average(),
                Step::Flatten => walk.flatten(),
                Step::Activation(_) | Step::Dropout(_) => {}
            }
        }
        walk.finish()
    }

    fn graph(&self) -> Option<NetworkGraph> {
        let mut graph = GraphBuilder::new(&self.input);
        let (mut value, mut is_maps) = (Value::Input, true);
        let mut names = self.names.iter();
        let mut name = || names.next().expect("every layer has a name").clone();
        for step in &self.layers {
            value = match step {
                Step::Conv(index) => graph.conv(&name(), &self.convs[*index], value),
                Step::Dense(index) => graph.dense(&name(), &self.denses[*index], value),
                Step::Depthwise(index) => {
                    graph.depthwise(&format!("depthwise{}", index + 1), &self.depthwise[*index], value)
                }
                Step::Norm(index) => graph.norm(&format!("norm{}", index + 1), &self.norms[*index], value),
                Step::Activation(activation) => graph.activation(*activation, value),
                Step::MaxPool(size) => graph.plain("max_pool", Operation::MaxPool { size: *size }, &[value]),
                Step::AveragePool(size) => {
                    graph.plain("average_pool", Operation::AveragePool { size: *size }, &[value])
                }
                Step::GlobalAverage => graph.plain("global_average", Operation::GlobalAverage, &[value]),
                Step::Flatten => graph.plain("flatten", Operation::Flatten, &[value]),
                // It drops nothing in evaluation mode.
                Step::Dropout(_) => value,
            };
            is_maps &= !matches!(step, Step::Dense(_) | Step::GlobalAverage | Step::Flatten);
        }
        if is_maps {
            graph.plain("global_average", Operation::GlobalAverage, &[value]);
        }
        Some(graph.finish())
    }
}
