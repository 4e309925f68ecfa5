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
use crate::networks::summary::{Described, LayerSummary, Walk, flops_of};
use crate::site::activation::Activation;
use crate::site::between::{Between, global_average};
use crate::site::declaration::Site;
use crate::site::growable::Growable;
use crate::site::layer::Layer;
use crate::site::probe::Probe;
use crate::site::signal::Signal;

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

    /// The step as a layer with neurons, or as what lies between two of them.
    fn part(&self, step: &Step) -> Part {
        match step {
            Step::Conv(index) => Part::Layer((&self.convs[*index]).into()),
            Step::Dense(index) => Part::Layer((&self.denses[*index]).into()),
            Step::Depthwise(index) => Part::Between((&self.depthwise[*index]).into()),
            Step::Norm(index) => Part::Between((&self.norms[*index]).into()),
            Step::Activation(activation) => Part::Between((*activation).into()),
            Step::MaxPool(size) => Part::Between((&max_pool(*size)).into()),
            Step::AveragePool(size) => Part::Between((&average_pool(*size)).into()),
            Step::GlobalAverage => Part::Between(Between::GlobalAverage),
            Step::Flatten => Part::Between(Between::Flatten),
            Step::Dropout(_) => Part::Between(Between::Dropout),
        }
    }

    fn apply(&self, step: &Step, signal: Signal) -> Signal {
        match (step, signal) {
            (Step::Conv(index), signal) => Signal::Maps(convolve(&self.convs[*index], signal.maps())),
            (Step::Dense(index), signal) => Signal::Vectors(dense(&self.denses[*index], signal.flattened())),
            (Step::Depthwise(index), signal) => Signal::Maps(self.depthwise[*index].forward(signal.maps())),
            (Step::Norm(index), Signal::Maps(maps)) => Signal::Maps(self.norms[*index].forward(maps)),
            (Step::Norm(index), Signal::Vectors(vectors)) => Signal::Vectors(self.norms[*index].forward(vectors)),
            (Step::Activation(activation), Signal::Maps(maps)) => Signal::Maps(activation.apply(maps)),
            (Step::Activation(activation), Signal::Vectors(vectors)) => Signal::Vectors(activation.apply(vectors)),
            (Step::MaxPool(size), signal) => Signal::Maps(max_pool(*size).forward(signal.maps())),
            (Step::AveragePool(size), signal) => Signal::Maps(average_pool(*size).forward(signal.maps())),
            (Step::GlobalAverage, signal) => Signal::Vectors(global_average(signal.maps())),
            (Step::Flatten, signal) => Signal::Vectors(signal.flattened()),
            (Step::Dropout(rate), Signal::Maps(maps)) => Signal::Maps(Dropout::new(*rate).forward(maps)),
            (Step::Dropout(rate), Signal::Vectors(vectors)) => Signal::Vectors(Dropout::new(*rate).forward(vectors)),
        }
    }
}

enum Part {
    Layer(Layer),
    Between(Between),
}

fn max_pool(size: usize) -> MaxPool2d {
    MaxPool2dConfig::new([size, size]).with_strides([size, size]).init()
}

fn average_pool(size: usize) -> AvgPool2d {
    AvgPool2dConfig::new([size, size]).with_strides([size, size]).init()
}

impl Growable for ConvNet {
    type Input = Tensor<4>;

    fn sites(&self) -> Vec<Site> {
        let mut sites = Vec::new();
        let mut names = self.names.iter();
        let mut open: Option<(Layer, Vec<Between>)> = None;
        for step in &self.layers {
            match (self.part(step), open.as_mut()) {
                (Part::Between(between), Some((_, collected))) => collected.push(between),
                (Part::Between(_), None) => {}
                (Part::Layer(layer), _) => {
                    if let Some((producer, between)) = open.replace((layer.clone(), Vec::new())) {
                        let name = names.next().expect("every layer has a name");
                        sites.push(Site::new(name.clone(), producer, between, layer));
                    }
                }
            }
        }
        sites
    }

    fn forward_probed(&self, input: Tensor<4>, probe: &mut dyn Probe) -> Tensor<2> {
        let mut signal = Signal::Maps(input);
        let mut names = self.names.iter();
        // What the last layer with neurons read.
        let mut read: Option<Signal> = None;
        for step in &self.layers {
            let output = self.apply(step, signal.clone());
            signal = match step {
                Step::Conv(_) | Step::Dense(_) => match (read.replace(signal), names.as_slice()) {
                    (Some(producer_input), [name, ..]) => {
                        names.next();
                        probe.passage(name, 0, producer_input, output)
                    }
                    _ => output,
                },
                _ => output,
            };
        }
        match signal {
            Signal::Vectors(vectors) => vectors,
            Signal::Maps(maps) => global_average(maps),
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
}
