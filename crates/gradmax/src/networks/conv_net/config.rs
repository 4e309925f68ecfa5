//! The stages of a stack, and how a network is built from them.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{ConvNet, Step};
use crate::error::Error;
use crate::modules::NormKind;
use crate::networks::draw::{Geometry, he_conv, he_dense, he_depthwise};
use crate::networks::summary::convolved_length;
use crate::networks::{Architecture, seed_width};
use crate::seed::Seed;
use crate::site::activation::Activation;
use crate::site::width::SiteWidth;

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
        // The last layer with a width gives the classes, which no norm or activation follows.
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
        // The last layer's neurons are the outputs.
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
        let seed = self.seed.at(index as u64);
        let built = match (stage, self.shape) {
            (Stage::Conv { channels, kernel, stride, padding, dilation, groups, bias }, Shape::Maps(maps)) => {
                let (kernel, stride, dilation, groups) = (*kernel, *stride, *dilation, *groups);
                let padding = padding.unwrap_or(kernel.saturating_sub(1) * dilation / 2);
                let geometry = Geometry { kernel, stride, padding, dilation, groups };
                self.conv(maps, (*channels, geometry, *bias), seed)
            }
            (Stage::Depthwise { kernel, stride }, Shape::Maps(maps)) => self.depthwise(maps, [*kernel, *stride], seed),
            (Stage::Dense { units, bias }, Shape::Vectors(inputs)) => self.dense(inputs, (*units, *bias), seed),
            (Stage::Norm { norm }, shape) => self.norm(shape, norm),
            (Stage::Activation { function }, shape) => self.keep(Step::Activation(*function), shape),
            (Stage::MaxPool { size }, Shape::Maps(maps)) => self.pool(maps, *size, Step::MaxPool(*size)),
            (Stage::AveragePool { size }, Shape::Maps(maps)) => self.pool(maps, *size, Step::AveragePool(*size)),
            (Stage::GlobalAverage, Shape::Maps([channels, ..])) => {
                self.keep(Step::GlobalAverage, Shape::Vectors(channels))
            }
            (Stage::Flatten, Shape::Maps(sizes)) => self.keep(Step::Flatten, Shape::Vectors(sizes.iter().product())),
            (Stage::Dropout { rate }, shape) => match (0.0..1.0).contains(rate) {
                true => self.keep(Step::Dropout(*rate), shape),
                false => Err(format!("a dropout rate of {rate} is not in [0, 1)")),
            },
            (Stage::Dense { .. }, Shape::Maps(_)) => {
                Err("a dense layer reads vectors: put `flatten` or `global_average` before it".into())
            }
            (_, Shape::Vectors(_)) => Err("it reads maps, but the stages before it give vectors".into()),
        };
        built.map_err(|reason| Error::BadStage { stage: index + 1, reason })
    }

    /// Adds a step after which there are outputs of this shape.
    fn keep(&mut self, step: Step, shape: Shape) -> Result<(), String> {
        self.net.layers.push(step);
        self.shape = shape;
        Ok(())
    }

    fn conv(
        &mut self,
        [inputs, height, width]: [usize; 3],
        (channels, geometry, bias): (usize, Geometry, bool),
        seed: Seed,
    ) -> Result<(), String> {
        let Geometry { kernel, stride, dilation, groups, .. } = geometry;
        if [channels, kernel, stride, dilation, groups].contains(&0) {
            return Err("channels, kernel, stride, dilation and groups must be at least 1".into());
        }
        if !inputs.is_multiple_of(groups) || !channels.is_multiple_of(groups) {
            return Err(format!("{inputs} and {channels} channels do not fall into {groups} groups"));
        }
        let [height, width] = convolved([height, width], geometry)?;
        self.net.convs.push(he_conv([inputs, channels], geometry, bias, seed, self.device));
        self.keep(Step::Conv(self.net.convs.len() - 1), Shape::Maps([channels, height, width]))
    }

    fn depthwise(
        &mut self,
        [channels, height, width]: [usize; 3],
        [kernel, stride]: [usize; 2],
        seed: Seed,
    ) -> Result<(), String> {
        if [kernel, stride].contains(&0) {
            return Err("kernel and stride must be at least 1".into());
        }
        let geometry = Geometry::same(kernel, stride);
        let [height, width] = convolved([height, width], geometry)?;
        self.net.depthwise.push(he_depthwise(channels, geometry, seed, self.device));
        self.keep(Step::Depthwise(self.net.depthwise.len() - 1), Shape::Maps([channels, height, width]))
    }

    fn dense(&mut self, inputs: usize, (units, bias): (usize, bool), seed: Seed) -> Result<(), String> {
        if units == 0 {
            return Err("a dense layer needs at least one unit".into());
        }
        self.net.denses.push(he_dense([inputs, units], bias, seed, self.device));
        self.keep(Step::Dense(self.net.denses.len() - 1), Shape::Vectors(units))
    }

    fn norm(&mut self, shape: Shape, norm: &NormKind) -> Result<(), String> {
        let (Shape::Maps([channels, ..]) | Shape::Vectors(channels)) = shape;
        if let NormKind::Group(size) = norm
            && (*size == 0 || !channels.is_multiple_of(*size))
        {
            return Err(format!("{channels} channels do not fall into groups of {size}"));
        }
        match norm.init(channels, self.device) {
            None => Ok(()),
            Some(norm) => {
                self.net.norms.push(norm);
                self.keep(Step::Norm(self.net.norms.len() - 1), shape)
            }
        }
    }

    fn pool(&mut self, [channels, height, width]: [usize; 3], size: usize, step: Step) -> Result<(), String> {
        if size == 0 || size > height || size > width {
            return Err(format!("maps of {height}x{width} have no windows of {size}x{size}"));
        }
        self.keep(step, Shape::Maps([channels, height / size, width / size]))
    }
}

fn convolved([height, width]: [usize; 2], geometry: Geometry) -> Result<[usize; 2], String> {
    let Geometry { kernel, stride, padding, dilation, .. } = geometry;
    let along = |length: usize| convolved_length(length + 2 * padding, kernel, stride, dilation);
    match (along(height), along(width)) {
        (Some(height), Some(width)) => Ok([height, width]),
        _ => Err(format!("maps of {height}x{width} are smaller than its kernel")),
    }
}
