//! Plain stacks of layers, from a list.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::draw::{Geometry, he_conv, he_dense, he_depthwise};
use super::{Architecture, seed_width};
use crate::activation::Activation;
use crate::anatomy::{Described, LayerSummary, Walk, flops_of};
use crate::between::{Between, global_average};
use crate::error::Error;
use crate::growable::Growable;
use crate::layer::Layer;
use crate::modules::{DepthwiseConv2d, Norm, NormKind};
use crate::probe::Probe;
use crate::schedule::SiteWidth;
use crate::seed::Seed;
use crate::signal::Signal;
use crate::site::Site;

/// One stage of a [`ConvNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Stage {
    /// A convolution.
    Conv {
        /// Number of channels that it computes.
        channels: usize,
        /// Height and width of its kernels.
        #[serde(default = "three")]
        kernel: usize,
        /// Stride along height and width.
        #[serde(default = "one")]
        stride: usize,
        /// Zeros around the maps; so many that a stride of 1 keeps their size, if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        padding: Option<usize>,
        /// Dilation along height and width.
        #[serde(default = "one")]
        dilation: usize,
        /// Groups of channels that are computed apart.
        #[serde(default = "one")]
        groups: usize,
        /// Whether it has biases.
        #[serde(default)]
        bias: bool,
    },
    /// A depthwise convolution, without biases.
    Depthwise {
        /// Height and width of its kernels.
        #[serde(default = "three")]
        kernel: usize,
        /// Stride along height and width.
        #[serde(default = "one")]
        stride: usize,
    },
    /// A dense layer.
    Dense {
        /// Number of units.
        units: usize,
        /// Whether it has biases.
        #[serde(default = "yes")]
        bias: bool,
    },
    /// A norm over channels or units.
    Norm {
        /// Which one.
        norm: NormKind,
    },
    /// An elementwise nonlinearity.
    Activation {
        /// Which one.
        function: Activation,
    },
    /// Max pooling with square windows side by side.
    MaxPool {
        /// Height and width of a window.
        #[serde(default = "two")]
        size: usize,
    },
    /// Average pooling with square windows side by side.
    AveragePool {
        /// Height and width of a window.
        #[serde(default = "two")]
        size: usize,
    },
    /// The mean of each channel.
    GlobalAverage,
    /// All positions of all channels side by side.
    Flatten,
    /// Dropout.
    Dropout {
        /// The share of neurons that are dropped.
        rate: f64,
    },
}

fn one() -> usize {
    1
}

fn two() -> usize {
    2
}

fn three() -> usize {
    3
}

fn yes() -> bool {
    true
}

impl Stage {
    /// A 3x3 convolution without biases that keeps the size of maps at stride 1.
    pub fn conv3x3(channels: usize, stride: usize) -> Self {
        Self::Conv { channels, kernel: 3, stride, padding: None, dilation: 1, groups: 1, bias: false }
    }

    /// A 1x1 convolution without biases.
    pub fn conv1x1(channels: usize, stride: usize) -> Self {
        Self::Conv { channels, kernel: 1, stride, padding: None, dilation: 1, groups: 1, bias: false }
    }

    fn width(&self) -> Option<usize> {
        match self {
            Self::Conv { channels, .. } => Some(*channels),
            Self::Dense { units, .. } => Some(*units),
            _ => None,
        }
    }
}

/// The shape of a [`ConvNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvNetConfig {
    /// Channels, height and width of the input.
    pub input: [usize; 3],
    /// The stages, in order; what the last one gives is the output, averaged over positions if it is maps.
    pub stages: Vec<Stage>,
}

impl ConvNetConfig {
    /// The stack of these stages, with a norm and an activation after every convolution and dense layer but the last.
    pub fn plain(input: [usize; 3], stages: Vec<Stage>, norm: NormKind, activation: Activation) -> Self {
        let last = stages.iter().rposition(|stage| stage.width().is_some());
        let mut all = Vec::new();
        for (index, stage) in stages.into_iter().enumerate() {
            let hidden = stage.width().is_some() && Some(index) != last;
            all.push(stage);
            if hidden {
                all.extend((norm != NormKind::None).then_some(Stage::Norm { norm }));
                all.push(Stage::Activation { function: activation });
            }
        }
        Self { input, stages: all }
    }

    /// Names of layers with neurons: `conv1`, `conv2`, ..., `dense1`, ...
    fn names(&self) -> Vec<String> {
        let (mut convs, mut denses) = (0, 0);
        let layers = self.stages.iter().filter_map(|stage| match stage {
            Stage::Conv { .. } => {
                convs += 1;
                Some(format!("conv{convs}"))
            }
            Stage::Dense { .. } => {
                denses += 1;
                Some(format!("dense{denses}"))
            }
            _ => None,
        });
        layers.collect()
    }
}

impl Architecture for ConvNetConfig {
    type Network = ConvNet;

    fn init(&self, seed: Seed, device: &Device) -> Result<ConvNet, Error> {
        let mut build = Build { shape: Shape::Maps(self.input), net: ConvNet::empty(self.input), seed, device };
        for (index, stage) in self.stages.iter().enumerate() {
            build.stage(index, stage)?;
        }
        match build.net.layers.is_empty() {
            true => Err(Error::BadStage { stage: 0, reason: "a network needs at least one layer".into() }),
            false => Ok(ConvNet { names: self.names(), ..build.net }),
        }
    }

    fn site_widths(&self) -> Vec<SiteWidth> {
        let widths = self.stages.iter().filter_map(Stage::width);
        let mut sites =
            self.names().into_iter().zip(widths).map(|(site, width)| seed_width(site, width)).collect::<Vec<_>>();
        sites.pop();
        sites
    }

    fn with_site_widths(&self, widths: &[usize]) -> Self {
        let mut changed = self.clone();
        let mut widths = widths.iter();
        for stage in &mut changed.stages {
            if let Stage::Conv { channels: width, .. } | Stage::Dense { units: width, .. } = stage
                && let Some(new) = widths.next()
            {
                *width = *new;
            }
        }
        changed
    }
}

/// Features of one example, while a network is built.
#[derive(Clone, Copy)]
enum Shape {
    Maps([usize; 3]),
    Vectors(usize),
}

struct Build<'a> {
    shape: Shape,
    net: ConvNet,
    seed: Seed,
    device: &'a Device,
}

impl Build<'_> {
    fn stage(&mut self, index: usize, stage: &Stage) -> Result<(), Error> {
        let bad = |reason: String| Err(Error::BadStage { stage: index + 1, reason });
        let seed = self.seed.at(index as u64);
        let device = self.device;
        match (stage, self.shape) {
            (
                Stage::Conv { channels, kernel, stride, padding, dilation, groups, bias },
                Shape::Maps([inputs, h, w]),
            ) => {
                if [*channels, *kernel, *stride, *dilation, *groups].contains(&0) {
                    return bad("channels, kernel, stride, dilation and groups must be at least 1".into());
                }
                if !inputs.is_multiple_of(*groups) || !channels.is_multiple_of(*groups) {
                    return bad(format!("{inputs} and {channels} channels do not fall into {groups} groups"));
                }
                let padding = padding.unwrap_or((kernel - 1) * dilation / 2);
                let (kernel, stride, dilation, groups) = (*kernel, *stride, *dilation, *groups);
                let geometry = Geometry { kernel, stride, padding, dilation, groups };
                let Some([height, width]) = convolved([h, w], geometry) else {
                    return bad(format!("maps of {h}x{w} are smaller than its kernel"));
                };
                let conv = he_conv([inputs, *channels], geometry, *bias, seed, device);
                self.net.layers.push(Step::Conv(self.net.convs.len()));
                self.net.convs.push(conv);
                self.shape = Shape::Maps([*channels, height, width]);
            }
            (Stage::Depthwise { kernel, stride }, Shape::Maps([channels, h, w])) => {
                if [*kernel, *stride].contains(&0) {
                    return bad("kernel and stride must be at least 1".into());
                }
                let geometry = Geometry::same(*kernel, *stride);
                let Some([height, width]) = convolved([h, w], geometry) else {
                    return bad(format!("maps of {h}x{w} are smaller than its kernel"));
                };
                self.net.layers.push(Step::Depthwise(self.net.depthwise.len()));
                self.net.depthwise.push(he_depthwise(channels, geometry, seed, device));
                self.shape = Shape::Maps([channels, height, width]);
            }
            (Stage::Dense { units, bias }, Shape::Vectors(inputs)) => {
                if *units == 0 {
                    return bad("a dense layer needs at least one unit".into());
                }
                self.net.layers.push(Step::Dense(self.net.denses.len()));
                self.net.denses.push(he_dense([inputs, *units], *bias, seed, device));
                self.shape = Shape::Vectors(*units);
            }
            (Stage::Norm { norm }, shape) => {
                let channels = match shape {
                    Shape::Maps([channels, ..]) => channels,
                    Shape::Vectors(units) => units,
                };
                if let NormKind::Group(size) = norm
                    && (*size == 0 || !channels.is_multiple_of(*size))
                {
                    return bad(format!("{channels} channels do not fall into groups of {size}"));
                }
                if let Some(norm) = norm.init(channels, device) {
                    self.net.layers.push(Step::Norm(self.net.norms.len()));
                    self.net.norms.push(norm);
                }
            }
            (Stage::Activation { function }, _) => self.net.layers.push(Step::Activation(*function)),
            (Stage::MaxPool { size } | Stage::AveragePool { size }, Shape::Maps([channels, height, width])) => {
                if *size == 0 || *size > height || *size > width {
                    return bad(format!("maps of {height}x{width} have no windows of {size}x{size}"));
                }
                self.net.layers.push(match stage {
                    Stage::MaxPool { .. } => Step::MaxPool(*size),
                    _ => Step::AveragePool(*size),
                });
                self.shape = Shape::Maps([channels, height / size, width / size]);
            }
            (Stage::GlobalAverage, Shape::Maps([channels, ..])) => {
                self.net.layers.push(Step::GlobalAverage);
                self.shape = Shape::Vectors(channels);
            }
            (Stage::Flatten, Shape::Maps(sizes)) => {
                self.net.layers.push(Step::Flatten);
                self.shape = Shape::Vectors(sizes.iter().product());
            }
            (Stage::Dropout { rate }, _) => {
                if !(0.0..1.0).contains(rate) {
                    return bad(format!("a dropout rate of {rate} is not in [0, 1)"));
                }
                self.net.layers.push(Step::Dropout(self.net.dropouts.len()));
                self.net.dropouts.push(DropoutConfig::new(*rate).init());
            }
            (Stage::Dense { .. }, Shape::Maps(_)) => {
                return bad("a dense layer reads vectors: put `flatten` or `global_average` before it".into());
            }
            (_, Shape::Vectors(_)) => return bad("it reads maps, but the stages before it give vectors".into()),
        }
        Ok(())
    }
}

fn convolved(size: [usize; 2], geometry: Geometry) -> Option<[usize; 2]> {
    let Geometry { kernel, stride, padding, dilation, .. } = geometry;
    let along = |length: usize| Some((length + 2 * padding).checked_sub(dilation * (kernel - 1) + 1)? / stride + 1);
    Some([along(size[0])?, along(size[1])?])
}

/// A plain stack of layers; its sites are its convolutions and dense layers, but for the last.
#[derive(Module, Debug)]
pub struct ConvNet {
    convs: Vec<Conv2d>,
    depthwise: Vec<DepthwiseConv2d>,
    denses: Vec<Linear>,
    norms: Vec<Norm>,
    dropouts: Vec<Dropout>,
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
    Dropout(usize),
}

impl ConvNet {
    fn empty(input: [usize; 3]) -> Self {
        Self {
            convs: Vec::new(),
            depthwise: Vec::new(),
            denses: Vec::new(),
            norms: Vec::new(),
            dropouts: Vec::new(),
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
            Step::Dropout(index) => Part::Between((&self.dropouts[*index]).into()),
        }
    }

    fn apply(&self, step: &Step, signal: Signal) -> Signal {
        match (step, signal) {
            (Step::Conv(index), signal) => Signal::Maps(self.convs[*index].forward(signal.maps())),
            (Step::Dense(index), signal) => Signal::Vectors(self.denses[*index].forward(signal.flattened())),
            (Step::Depthwise(index), signal) => Signal::Maps(self.depthwise[*index].forward(signal.maps())),
            (Step::Norm(index), Signal::Maps(maps)) => Signal::Maps(self.norms[*index].forward(maps)),
            (Step::Norm(index), Signal::Vectors(vectors)) => Signal::Vectors(self.norms[*index].forward(vectors)),
            (Step::Activation(activation), Signal::Maps(maps)) => Signal::Maps(activation.apply(maps)),
            (Step::Activation(activation), Signal::Vectors(vectors)) => Signal::Vectors(activation.apply(vectors)),
            (Step::MaxPool(size), signal) => Signal::Maps(max_pool(*size).forward(signal.maps())),
            (Step::AveragePool(size), signal) => Signal::Maps(average_pool(*size).forward(signal.maps())),
            (Step::GlobalAverage, signal) => Signal::Vectors(global_average(signal.maps())),
            (Step::Flatten, signal) => Signal::Vectors(signal.flattened()),
            (Step::Dropout(index), Signal::Maps(maps)) => Signal::Maps(self.dropouts[*index].forward(maps)),
            (Step::Dropout(index), Signal::Vectors(vectors)) => Signal::Vectors(self.dropouts[*index].forward(vectors)),
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
