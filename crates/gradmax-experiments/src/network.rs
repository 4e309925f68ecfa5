//! The networks that configurations can name.

use anyhow::Result;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use gradmax::modules::NormKind;
use gradmax::networks::{
    Architecture, Array, ConvNet, ConvNetConfig, Described, Downsampling, Gpt, GptConfig, HiddenPath, LayerSummary,
    Mlp, MlpConfig, MobileNetV1Config, NetworkGraph, Positions, Stage, Strides, TransformerBlock, TransformerNorm,
    VggConfig, Vit, VitConfig, WideResNet, WideResNetConfig,
};
use gradmax::site::{Activation, Growable, Probe, Site, SiteWidth};
use gradmax::{Error, Seed};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::data::DataShape;
use crate::failure::misuse;
use crate::reading::Reading;

/// The seed network; inputs and outputs are the data's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum NetworkConfig {
    /// A multilayer perceptron.
    Mlp {
        /// Width of each hidden layer of the seed network.
        hidden: Vec<usize>,
        /// What follows every layer.
        #[serde(default = "relu")]
        activation: Activation,
        /// Whether layers have biases.
        #[serde(default = "yes")]
        bias: bool,
        /// Hidden layers beside the others; of width 0 until growth makes them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        paths: Vec<HiddenPath>,
    },
    /// A plain stack of stages, with a norm and an activation after every convolution and dense layer.
    ConvNet {
        /// All hidden stages; a last one to the outputs is added.
        stages: Vec<Stage>,
        /// The norm after every convolution.
        #[serde(default)]
        norm: NormKind,
        /// What follows every layer.
        #[serde(default = "relu")]
        activation: Activation,
        /// What ends the stack.
        #[serde(default)]
        last: Last,
    },
    /// A wide residual network.
    #[serde(rename = "wide_resnet")]
    WideResNet {
        /// 6n + 4, for three groups of n blocks.
        depth: usize,
        /// Multiplies the channels 16, 32 and 64 of the groups.
        #[serde(default = "one")]
        width: usize,
        /// The part of the channels inside blocks that the seed network has.
        #[serde(default = "whole")]
        fraction: f64,
        /// The norm between the two convolutions of a block.
        #[serde(default)]
        norm: NormKind,
        /// Blocks at the end of each group that start without channels.
        #[serde(default)]
        new_blocks: usize,
        /// Whether the residual streams grow too; the seed network then has `fraction` of their channels.
        #[serde(default)]
        streams: bool,
    },
    /// A VGG network.
    Vgg {
        /// 11, 13, 16 or 19.
        depth: usize,
        /// The part of the channels that the seed network has.
        #[serde(default = "whole")]
        fraction: f64,
        /// The norm after every convolution.
        #[serde(default)]
        norm: NormKind,
        /// How maps get smaller.
        #[serde(default)]
        downsampling: Downsampling,
    },
    /// A MobileNet of the first version.
    #[serde(rename = "mobilenet_v1")]
    MobileNetV1 {
        /// The part of the channels that the seed network has.
        #[serde(default = "whole")]
        fraction: f64,
        /// The norm after depthwise convolutions.
        #[serde(default)]
        norm: NormKind,
        /// Where maps get smaller.
        #[serde(default)]
        strides: Strides,
    },
    /// A transformer that predicts the next token.
    Gpt {
        /// The width of the residual stream.
        width: usize,
        /// The width of a head.
        head: usize,
        /// Every block of the seed network: `{ heads = 4, neurons = 512 }`. Those without heads and neurons are not there
        /// until growth makes them.
        blocks: Vec<TransformerBlock>,
        /// `"rms"` or `"layer"`.
        #[serde(default)]
        norm: TransformerNorm,
        /// `"learned"` or `"rotary"`.
        #[serde(default)]
        positions: Positions,
        /// What follows the neurons; of gated ones, the gates.
        #[serde(default = "gelu")]
        activation: Activation,
        /// Whether each neuron is multiplied by a gate of its own.
        #[serde(default)]
        gated: bool,
    },
    /// A transformer that classifies images.
    Vit {
        /// The side of the squares that are its tokens, in pixels.
        patch: usize,
        /// The width of the residual stream.
        width: usize,
        /// The width of a head.
        head: usize,
        /// Every block of the seed network, as of `gpt`.
        blocks: Vec<TransformerBlock>,
        /// `"rms"` or `"layer"`.
        #[serde(default)]
        norm: TransformerNorm,
        /// What follows the neurons; of gated ones, the gates.
        #[serde(default = "gelu")]
        activation: Activation,
        /// Whether each neuron is multiplied by a gate of its own.
        #[serde(default)]
        gated: bool,
    },
}

/// Every kind of network with what it is.
pub const LIST: [(&str, &str); 7] = [
    ("mlp", "dense layers; further ones beside them can start without neurons"),
    ("conv_net", "a stack of convolutions, norms, pools and dense layers, as a list"),
    ("wide_resnet", "a wide residual network, inside whose blocks and residual streams channels grow"),
    ("vgg", "VGG11 to VGG19"),
    ("mobilenet_v1", "MobileNet-v1"),
    ("gpt", "a transformer that predicts the next token; heads, neurons and blocks grow"),
    ("vit", "a transformer that classifies images; heads, neurons and blocks grow"),
];

/// What a stack of stages ends with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Last {
    /// The mean of each channel, and a dense layer.
    #[default]
    GlobalAverage,
    /// A dense layer on all positions of all channels.
    Flatten,
    /// A convolution of this kernel size without padding, averaged over positions.
    Conv(usize),
}

fn relu() -> Activation {
    Activation::Relu
}

fn gelu() -> Activation {
    Activation::Gelu
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn whole() -> f64 {
    1.0
}

impl NetworkConfig {
    /// The width of a head, of transformers.
    pub fn head(&self) -> Option<usize> {
        match self {
            Self::Gpt { head, .. } | Self::Vit { head, .. } => Some((*head).max(1)),
            _ => None,
        }
    }

    /// The seed network's shape, for these data.
    pub fn shape(&self, DataShape { input, outputs, has_tokens }: DataShape) -> Result<Shape> {
        let fraction = match self {
            Self::WideResNet { fraction, .. } | Self::Vgg { fraction, .. } | Self::MobileNetV1 { fraction, .. } => {
                *fraction
            }
            Self::Mlp { .. } | Self::ConvNet { .. } | Self::Gpt { .. } | Self::Vit { .. } => 1.0,
        };
        if !(fraction > 0.0 && fraction.is_finite()) {
            return Err(misuse(format!(
                "`network.fraction` is {fraction}; it must be a positive number, usually up to 1"
            )));
        }
        let reads_tokens = matches!(self, Self::Gpt { .. });
        if reads_tokens != has_tokens {
            let (reads, has) =
                if reads_tokens { ("tokens", "features or images") } else { ("features or images", "tokens") };
            return Err(misuse(format!("the network reads {reads}, and the data has {has}; choose another of them")));
        }
        Ok(match self {
            Self::Gpt { width, head, blocks, norm, positions, activation, gated } => Shape::Gpt(GptConfig {
                vocabulary: outputs,
                context: input[2],
                width: *width,
                head: *head,
                blocks: blocks.clone(),
                norm: *norm,
                positions: *positions,
                activation: *activation,
                gated: *gated,
            }),
            Self::Vit { patch, width, head, blocks, norm, activation, gated } => Shape::Vit(VitConfig {
                input,
                patch: *patch,
                classes: outputs,
                width: *width,
                head: *head,
                blocks: blocks.clone(),
                norm: *norm,
                activation: *activation,
                gated: *gated,
            }),
            Self::Mlp { hidden, activation, bias, paths } => Shape::Mlp(MlpConfig {
                bias: *bias,
                paths: paths.clone(),
                ..MlpConfig::new(input.iter().product(), hidden, outputs, *activation)
            }),
            Self::ConvNet { stages, norm, activation, last } => {
                let mut stages = stages.clone();
                let dense = Stage::Dense { units: outputs, bias: true };
                match last {
                    Last::GlobalAverage => stages.extend([Stage::GlobalAverage, dense]),
                    Last::Flatten => stages.extend([Stage::Flatten, dense]),
                    Last::Conv(kernel) => stages.push(Stage::Conv {
                        channels: outputs,
                        kernel: *kernel,
                        stride: 1,
                        padding: Some(0),
                        dilation: 1,
                        groups: 1,
                        bias: false,
                    }),
                }
                Shape::Stack(ConvNetConfig::plain(input, stages, *norm, *activation))
            }
            Self::WideResNet { depth, width, fraction, norm, new_blocks, streams } => {
                let config = WideResNetConfig::new(*depth, *width, *fraction);
                let config = WideResNetConfig { norm: *norm, input, classes: outputs, ..config };
                let config = if *new_blocks > 0 { config.with_new_blocks(*new_blocks) } else { config };
                Shape::WideResNet(if *streams { config.with_growing_streams(*fraction) } else { config })
            }
            Self::Vgg { depth, fraction, norm, downsampling } => {
                let (depth, fraction, norm, downsampling) = (*depth, *fraction, *norm, *downsampling);
                Shape::Stack(VggConfig { depth, fraction, norm, downsampling, input, classes: outputs }.stack()?)
            }
            Self::MobileNetV1 { fraction, norm, strides } => {
                let (fraction, norm, strides) = (*fraction, *norm, *strides);
                Shape::Stack(MobileNetV1Config { fraction, norm, strides, input, classes: outputs }.stack())
            }
        })
    }
}

/// The shape of a network.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A multilayer perceptron.
    Mlp(MlpConfig),
    /// A plain stack of layers.
    Stack(ConvNetConfig),
    /// A wide residual network.
    WideResNet(WideResNetConfig),
    /// A transformer that predicts the next token.
    Gpt(GptConfig),
    /// A transformer that classifies images.
    Vit(VitConfig),
}

/// Runs an expression on whichever shape or network it is.
macro_rules! on_each {
    ($which:expr, $kind:ident, $inside:ident => $result:expr) => {
        match $which {
            $kind::Mlp($inside) => $result,
            $kind::Stack($inside) => $result,
            $kind::WideResNet($inside) => $result,
            $kind::Gpt($inside) => $result,
            $kind::Vit($inside) => $result,
        }
    };
}

impl Architecture for Shape {
    type Network = Network;

    fn init(&self, seed: Seed, device: &Device) -> Result<Network, Error> {
        Ok(match self {
            Self::Mlp(shape) => Network::Mlp(shape.init(seed, device)?),
            Self::Stack(shape) => Network::Stack(shape.init(seed, device)?),
            Self::WideResNet(shape) => Network::WideResNet(shape.init(seed, device)?),
            Self::Gpt(shape) => Network::Gpt(shape.init(seed, device)?),
            Self::Vit(shape) => Network::Vit(shape.init(seed, device)?),
        })
    }

    fn site_widths(&self) -> Vec<SiteWidth> {
        on_each!(self, Self, shape => shape.site_widths())
    }

    fn with_site_widths(&self, widths: &[usize]) -> Self {
        match self {
            Self::Mlp(shape) => Self::Mlp(shape.with_site_widths(widths)),
            Self::Stack(shape) => Self::Stack(shape.with_site_widths(widths)),
            Self::WideResNet(shape) => Self::WideResNet(shape.with_site_widths(widths)),
            Self::Gpt(shape) => Self::Gpt(shape.with_site_widths(widths)),
            Self::Vit(shape) => Self::Vit(shape.with_site_widths(widths)),
        }
    }
}

/// Any of the networks. Where there are tokens, they give a row for each, one sequence after another.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Network {
    /// A multilayer perceptron.
    Mlp(Mlp),
    /// A plain stack of layers.
    Stack(ConvNet),
    /// A wide residual network.
    WideResNet(WideResNet),
    /// A transformer that predicts the next token.
    Gpt(Gpt),
    /// A transformer that classifies images.
    Vit(Vit),
}

impl Network {
    /// The transformer that predicts tokens, if it is one.
    pub fn as_gpt(&self) -> Option<&Gpt> {
        match self {
            Self::Gpt(network) => Some(network),
            _ => None,
        }
    }

    /// The shape of a transformer, of either kind.
    pub fn transformer(&self) -> Option<serde_json::Value> {
        match self {
            Self::Gpt(network) => Some(json!(network.shape())),
            Self::Vit(network) => Some(json!(network.shape())),
            _ => None,
        }
    }

    /// The weights as a record of the module inside: of an `Mlp`, a `ConvNet`, a `WideResNet`, a `Gpt` or a `Vit`.
    ///
    /// # Errors
    /// If Burn cannot write it.
    pub fn record(&self) -> anyhow::Result<Vec<u8>> {
        Ok(on_each!(self, Self, network => network.clone().into_record().into_bytes()?.to_vec()))
    }
}

impl Growable for Network {
    type Input = Reading;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        on_each!(self, Self, network => network.sites())
    }

    fn forward_probed(&self, input: Reading, probe: &mut dyn Probe) -> Tensor<2> {
        match self {
            Self::Mlp(network) => {
                let input = input.maps();
                let [batch, channels, height, width] = input.dims();
                network.forward_probed(input.reshape([batch, channels * height * width]), probe)
            }
            Self::Stack(network) => network.forward_probed(input.maps(), probe),
            Self::WideResNet(network) => network.forward_probed(input.maps(), probe),
            Self::Vit(network) => network.forward_probed(input.maps(), probe),
            Self::Gpt(network) => {
                let logits = network.forward_probed(input.tokens(), probe);
                let [batch, time, vocabulary] = logits.dims();
                logits.reshape([batch * time, vocabulary])
            }
        }
    }

    fn flops(&self) -> u64 {
        on_each!(self, Self, network => network.flops())
    }
}

impl Described for Network {
    fn layers(&self) -> Vec<LayerSummary> {
        on_each!(self, Self, network => network.layers())
    }

    fn graph(&self) -> Option<NetworkGraph> {
        on_each!(self, Self, network => network.graph())
    }

    fn weights(&self) -> Vec<(String, Array)> {
        on_each!(self, Self, network => network.weights())
    }

    fn written_by(&self, site: &str) -> Option<(String, usize, usize)> {
        on_each!(self, Self, network => network.written_by(site))
    }
}
