//! What transformers are made of: pre-norm blocks of any numbers of heads and neurons, each of which may be missing.

mod attention;
mod names;

use burn::module::{Module, Param};
use burn::nn::{Embedding, LayerNorm, LayerNormConfig, Linear, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor, TensorData};
use flexconv::dense;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use self::attention::Attention;
pub(super) use self::names::{Named, dense_weights, norm_weights, place_of};
use super::seed_width;
use crate::error::Error;
use crate::modules::parameter;
use crate::networks::summary::Walk;
use crate::seed::Seed;
use crate::site::activation::Activation;
use crate::site::declaration::Site;
use crate::site::front_norm::FrontNorm;
use crate::site::layers::Gate;
use crate::site::probe::Probe;
use crate::site::width::SiteWidth;

/// A block: attention, then neurons between two dense layers, each added to the residual stream. What has none is not
/// there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerBlock {
    /// Attention heads.
    pub heads: usize,
    /// Neurons.
    pub neurons: usize,
}

/// A norm over the features of each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransformerNorm {
    /// By the root of the mean square (Zhang and Sennrich 2019).
    #[default]
    Rms,
    /// By mean and standard deviation, with a summand (Ba et al. 2016).
    Layer,
}

/// How tokens know where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// A vector for each position is added to the token's (GPT-2).
    #[default]
    Learned,
    /// Queries and keys are rotated by angles that grow with the position (Su et al. 2021), first half against second, as
    /// Llama does.
    Rotary,
}

/// The shape of all blocks of a transformer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks<'a> {
    /// The width of the residual stream.
    pub(super) width: usize,
    /// The width of a head.
    pub(super) head: usize,
    pub(super) blocks: &'a [TransformerBlock],
    pub(super) norm: TransformerNorm,
    pub(super) activation: Activation,
    pub(super) gated: bool,
    pub(super) rotary: bool,
    /// Whether tokens look at those before them only.
    pub(super) causal: bool,
}

#[derive(Module, Debug)]
pub(super) struct Block {
    pub(super) attention_norm: TokenNorm,
    pub(super) attention: Attention,
    pub(super) neurons_norm: TokenNorm,
    pub(super) up: Linear,
    pub(super) gate: Option<Linear>,
    pub(super) down: Linear,
    #[module(skip)]
    pub(super) activation: Activation,
}

/// A norm over the features of each token.
#[derive(Module, Debug)]
pub(super) enum TokenNorm {
    Rms(RmsNorm),
    Layer(LayerNorm),
}

/// What norms add to mean squares.
const EPSILON: f64 = 1e-5;

/// The standard deviation of fresh weights; those that write to the residual stream have less (GPT-2).
const DEVIATION: f64 = 0.02;

/// The series of sites.
const HEADS: &str = "heads";
const NEURONS: &str = "neurons";

fn heads_name(index: usize) -> String {
    format!("block{}.{HEADS}", index + 1)
}

fn neurons_name(index: usize) -> String {
    format!("block{}.{NEURONS}", index + 1)
}

impl Blocks<'_> {
    pub(super) fn check(&self) -> Result<(), Error> {
        let bad = |option, value: usize, remedy| Err(Error::BadOption { option, value: value.to_string(), remedy });
        match self {
            _ if self.width == 0 => bad("width", 0, "the residual stream has at least one feature"),
            _ if self.head == 0 => bad("head", 0, "a head has at least one feature, usually 32 to 128"),
            _ if self.rotary && self.head % 2 == 1 => {
                bad("head", self.head, "rotary positions turn pairs of features, so a head has an even number of them")
            }
            _ => Ok(()),
        }
    }

    /// Weights are normal with a standard deviation of 0.02, and that over `sqrt(2 blocks)` where they write to the
    /// residual stream, as in GPT-2; biases are zero.
    pub(super) fn init(&self, seed: Seed, device: &Device) -> Vec<Block> {
        let Self { width, head, blocks, norm, activation, gated, rotary, causal } = *self;
        let writing = DEVIATION / (2.0 * blocks.len().max(1) as f64).sqrt();
        // Biases as GPT-2 and Llama have them.
        let bias = norm == TransformerNorm::Layer;
        let block = |(index, block): (usize, &TransformerBlock)| {
            // Whatever lies between that is not there yet, the same blocks start with the same weights.
            let there = blocks[..index].iter().filter(|block| block.heads + block.neurons > 0).count();
            let seed = seed.fold("block").at(there as u64);
            let reading = |outputs: usize, bias: bool, what: &str| {
                drawn_dense([width, outputs], bias, DEVIATION, seed.fold(what), device)
            };
            let gathered = block.heads * head;
            let written =
                |inputs: usize, what: &str| drawn_dense([inputs, width], bias, writing, seed.fold(what), device);
            Block {
                attention_norm: TokenNorm::new(norm, width, device),
                attention: Attention {
                    query: reading(gathered, bias, "query"),
                    key: reading(gathered, bias, "key"),
                    value: reading(gathered, bias, "value"),
                    output: written(gathered, "output"),
                    width: head,
                    rotary,
                    causal,
                },
                neurons_norm: TokenNorm::new(norm, width, device),
                up: reading(block.neurons, bias && !gated, "up"),
                gate: gated.then(|| reading(block.neurons, false, "gate")),
                down: written(block.neurons, "down"),
                activation,
            }
        };
        blocks.iter().enumerate().map(block).collect()
    }

    pub(super) fn site_widths(&self) -> Vec<SiteWidth> {
        let of_block = |(index, block): (usize, &TransformerBlock)| {
            let heads = seed_width(heads_name(index), block.heads * self.head);
            let neurons = seed_width(neurons_name(index), block.neurons);
            let (of_heads, of_neurons) = (Some(HEADS.to_string()), Some(NEURONS.to_string()));
            [SiteWidth { unit: self.head, series: of_heads, ..heads }, SiteWidth { series: of_neurons, ..neurons }]
        };
        self.blocks.iter().enumerate().flat_map(of_block).collect()
    }

    pub(super) fn with_site_widths(&self, widths: &[usize]) -> Vec<TransformerBlock> {
        let of_block = |widths: &[usize]| TransformerBlock { heads: widths[0] / self.head.max(1), neurons: widths[1] };
        widths.chunks_exact(2).map(of_block).collect()
    }
}

/// Normal numbers of this standard deviation.
pub(super) fn drawn(shape: [usize; 2], deviation: f64, seed: Seed, device: &Device) -> Param<Tensor<2>> {
    let mut rng = seed.rng();
    let entries = (0..shape[0] * shape[1]).map(|_| {
        let entry: f64 = StandardNormal.sample(&mut rng);
        (entry * deviation) as f32
    });
    parameter(Tensor::from_data(TensorData::new(entries.collect::<Vec<_>>(), shape), device))
}

fn drawn_dense([inputs, outputs]: [usize; 2], bias: bool, deviation: f64, seed: Seed, device: &Device) -> Linear {
    Linear {
        weight: drawn([inputs, outputs], deviation, seed, device),
        bias: bias.then(|| parameter(Tensor::zeros([outputs], device))),
    }
}

/// A dense layer from or to tokens, with fresh weights.
pub(super) fn fresh_dense(ends: [usize; 2], bias: bool, seed: Seed, device: &Device) -> Linear {
    drawn_dense(ends, bias, DEVIATION, seed, device)
}

/// A table with a fresh row for each of so many.
pub(super) fn fresh_table(count: usize, width: usize, seed: Seed, device: &Device) -> Embedding {
    Embedding { weight: drawn([count, width], DEVIATION, seed, device) }
}

/// The heads and the neurons of each block, `block1.heads`, `block1.neurons`, ...; the width of a site of heads is that of
/// all its heads.
pub(super) fn sites_of(blocks: &[Block]) -> Vec<Site> {
    let of_block = |(index, block): (usize, &Block)| {
        let neurons = match &block.gate {
            None => Site::new(neurons_name(index), &block.up, [block.activation], &block.down),
            Some(gate) => Site::new(neurons_name(index), &block.up, (), &block.down)
                .seeing_through(Gate { layer: gate.clone(), activation: block.activation }),
        };
        let heads = block.attention.site(heads_name(index)).behind(&block.attention_norm);
        [heads.in_series(HEADS), neurons.behind(&block.neurons_norm).in_series(NEURONS)]
    };
    blocks.iter().enumerate().flat_map(of_block).collect()
}

/// The residual stream behind all blocks, `[batch, time, width]`.
pub(super) fn through(blocks: &[Block], mut stream: Tensor<3>, probe: &mut dyn Probe) -> Tensor<3> {
    for (index, block) in blocks.iter().enumerate() {
        let read = block.attention_norm.forward(stream.clone());
        let added = match block.attention.heads() {
            0 => missing(&block.attention.output, &stream),
            _ => block.attention.forward(read.clone()),
        };
        stream = stream + probe.site(&heads_name(index), &read, added);
        let read = block.neurons_norm.forward(stream.clone());
        let added = match block.neurons() {
            0 => missing(&block.down, &stream),
            _ => block.forward_neurons(read.clone()),
        };
        stream = stream + probe.site(&neurons_name(index), &read, added);
    }
    stream
}

/// What is not there yet adds to the residual stream: nothing, but for a bias that it may have from another program. It
/// is shown all the same, since growth needs the gradient at its output.
fn missing(reader: &Linear, stream: &Tensor<3>) -> Tensor<3> {
    match &reader.bias {
        // Not trained before there is anything that it is the bias of.
        Some(bias) => stream.zeros_like() + bias.val().detach().unsqueeze(),
        None => stream.zeros_like(),
    }
}

/// Walks through the layers with matrices of all blocks, at so many tokens; scores and the sums of values that they weigh
/// count to the layer of values.
pub(super) fn walk(walk: &mut Walk, blocks: &[Block], width: usize, time: usize) {
    for (index, block) in blocks.iter().enumerate() {
        let name = |layer: &str| format!("block{}.{layer}", index + 1);
        let attention = &block.attention;
        for (layer, linear) in [("query", &attention.query), ("key", &attention.key), ("value", &attention.value)] {
            walk.back_to(vec![time, width]);
            walk.dense_at(&name(layer), linear, time);
        }
        walk.add_flops(4 * time * time * attention.width * attention.heads());
        walk.dense_at(&name("output"), &attention.output, time);
        if let Some(gate) = &block.gate {
            walk.dense_at(&name("gate"), gate, time);
            walk.back_to(vec![time, width]);
        }
        walk.dense_at(&name("up"), &block.up, time);
        walk.dense_at(&name("down"), &block.down, time);
    }
}

/// A dense layer at every token: `[batch, time, features]` in and out.
pub(super) fn by_token(layer: &Linear, tokens: Tensor<3>) -> Tensor<3> {
    let [batch, time, features] = tokens.dims();
    let [_, outputs] = layer.weight.dims();
    dense(layer, tokens.reshape([batch * time, features])).reshape([batch, time, outputs])
}

impl Block {
    /// What the block has.
    pub(super) fn widths(&self) -> TransformerBlock {
        TransformerBlock { heads: self.attention.heads(), neurons: self.neurons() }
    }

    fn neurons(&self) -> usize {
        self.up.weight.dims()[1]
    }

    fn forward_neurons(&self, read: Tensor<3>) -> Tensor<3> {
        let neurons = match &self.gate {
            None => self.activation.apply(by_token(&self.up, read)),
            Some(gate) => self.activation.apply(by_token(gate, read.clone())) * by_token(&self.up, read),
        };
        by_token(&self.down, neurons)
    }
}

impl FrontNorm for TokenNorm {
    fn factor(&self) -> &Param<Tensor<1>> {
        match self {
            Self::Rms(norm) => norm.factor(),
            Self::Layer(norm) => norm.factor(),
        }
    }

    fn summand(&self) -> Option<&Param<Tensor<1>>> {
        match self {
            Self::Rms(norm) => norm.summand(),
            Self::Layer(norm) => norm.summand(),
        }
    }
}

impl TokenNorm {
    pub(super) fn new(kind: TransformerNorm, width: usize, device: &Device) -> Self {
        match kind {
            TransformerNorm::Rms => Self::Rms(RmsNormConfig::new(width).with_epsilon(EPSILON).init(device)),
            TransformerNorm::Layer => Self::Layer(LayerNormConfig::new(width).with_epsilon(EPSILON).init(device)),
        }
    }

    pub(super) fn kind(&self) -> TransformerNorm {
        match self {
            Self::Rms(_) => TransformerNorm::Rms,
            Self::Layer(_) => TransformerNorm::Layer,
        }
    }

    pub(super) fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let summands = self.summand().map(|summand| summand.val());
        flexconv::token_norm(tokens, self.factor().val(), summands, EPSILON)
    }
}
