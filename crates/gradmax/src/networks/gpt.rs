//! Transformers that predict the next token: pre-norm decoders with any numbers of heads and neurons, block by block.

mod attention;
mod names;

use burn::module::{Module, Param};
use burn::nn::{Embedding, LayerNorm, LayerNormConfig, Linear, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use flexconv::dense;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use self::attention::Attention;
pub use self::attention::Positions;
use super::{Architecture, seed_width};
use crate::error::Error;
use crate::modules::parameter;
use crate::networks::graph::{Array, NetworkGraph};
use crate::networks::summary::{Described, LayerSummary, Walk, flops_of};
use crate::seed::Seed;
use crate::site::activation::Activation;
use crate::site::declaration::Site;
use crate::site::front_norm::FrontNorm;
use crate::site::growable::Growable;
use crate::site::layers::Gate;
use crate::site::probe::Probe;
use crate::site::width::SiteWidth;

/// The shape of a [`Gpt`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GptConfig {
    /// Number of tokens that there are.
    pub vocabulary: usize,
    /// The longest sequence.
    pub context: usize,
    /// The width of the residual stream.
    pub width: usize,
    /// The width of a head.
    pub head: usize,
    /// Every block.
    pub blocks: Vec<GptBlock>,
    /// The norm in front of attention, neurons and output.
    #[serde(default)]
    pub norm: GptNorm,
    /// How tokens know where they are.
    #[serde(default)]
    pub positions: Positions,
    /// What follows the neurons between two dense layers; of gated neurons, the gates.
    #[serde(default = "gelu")]
    pub activation: Activation,
    /// Whether each neuron is multiplied by a gate of its own (Shazeer 2020), as in Llama.
    #[serde(default)]
    pub gated: bool,
}

/// A block: attention, then neurons between two dense layers, each added to the residual stream. What has none is not
/// there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GptBlock {
    /// Attention heads.
    pub heads: usize,
    /// Neurons.
    pub neurons: usize,
}

/// A norm over the features of each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GptNorm {
    /// By the root of the mean square (Zhang and Sennrich 2019).
    #[default]
    Rms,
    /// By mean and standard deviation, with a summand (Ba et al. 2016).
    Layer,
}

fn gelu() -> Activation {
    Activation::Gelu
}

/// A transformer that predicts the next token (Radford et al. 2019): `[batch, time]` token indices to `[batch, time,
/// vocabulary]` logits.
///
/// Its sites are the heads and the neurons of each block, `block1.heads`, `block1.neurons`, ...; the width of a site of heads
/// is that of all its heads.
#[derive(Module, Debug)]
pub struct Gpt {
    tokens: Embedding,
    positions: Option<Embedding>,
    blocks: Vec<Block>,
    norm: TokenNorm,
    output: Linear,
    #[module(skip)]
    context: usize,
}

#[derive(Module, Debug)]
struct Block {
    attention_norm: TokenNorm,
    attention: Attention,
    neurons_norm: TokenNorm,
    up: Linear,
    gate: Option<Linear>,
    down: Linear,
    #[module(skip)]
    activation: Activation,
}

/// A norm over the features of each token.
#[derive(Module, Debug)]
enum TokenNorm {
    Rms(RmsNorm),
    Layer(LayerNorm),
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
    fn new(kind: GptNorm, width: usize, device: &Device) -> Self {
        match kind {
            GptNorm::Rms => Self::Rms(RmsNormConfig::new(width).with_epsilon(EPSILON).init(device)),
            GptNorm::Layer => Self::Layer(LayerNormConfig::new(width).with_epsilon(EPSILON).init(device)),
        }
    }

    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let summands = self.summand().map(|summand| summand.val());
        flexconv::token_norm(tokens, self.factor().val(), summands, EPSILON)
    }
}

/// What norms add to mean squares.
const EPSILON: f64 = 1e-5;

/// The standard deviation of fresh weights; those that write to the residual stream have less (GPT-2).
const DEVIATION: f64 = 0.02;

impl Architecture for GptConfig {
    type Network = Gpt;

    /// Weights are normal with a standard deviation of 0.02, and that over `sqrt(2 blocks)` where they write to the
    /// residual stream, as in GPT-2; biases are zero.
    fn init(&self, seed: Seed, device: &Device) -> Result<Gpt, Error> {
        self.check()?;
        let Self { vocabulary, context, width, head, .. } = *self;
        let drawn = |shape: [usize; 2], deviation: f64, seed: Seed| {
            let mut rng = seed.rng();
            let entries = (0..shape[0] * shape[1]).map(|_| {
                let entry: f64 = StandardNormal.sample(&mut rng);
                (entry * deviation) as f32
            });
            parameter(Tensor::from_data(TensorData::new(entries.collect::<Vec<_>>(), shape), device))
        };
        let writing = DEVIATION / (2.0 * self.blocks.len().max(1) as f64).sqrt();
        let dense = |[inputs, outputs]: [usize; 2], bias: bool, deviation: f64, seed: Seed| Linear {
            weight: drawn([inputs, outputs], deviation, seed),
            bias: bias.then(|| parameter(Tensor::zeros([outputs], device))),
        };
        // Biases as GPT-2 and Llama have them.
        let bias = self.norm == GptNorm::Layer;
        let block = |(index, block): (usize, &GptBlock)| {
            // Whatever lies between that is not there yet, the same blocks start with the same weights.
            let there = self.blocks[..index].iter().filter(|block| block.heads + block.neurons > 0).count();
            let seed = seed.fold("block").at(there as u64);
            let gathered = block.heads * head;
            let norm = || TokenNorm::new(self.norm, width, device);
            Block {
                attention_norm: norm(),
                attention: Attention {
                    query: dense([width, gathered], bias, DEVIATION, seed.fold("query")),
                    key: dense([width, gathered], bias, DEVIATION, seed.fold("key")),
                    value: dense([width, gathered], bias, DEVIATION, seed.fold("value")),
                    output: dense([gathered, width], bias, writing, seed.fold("output")),
                    width: head,
                    rotary: self.positions == Positions::Rotary,
                },
                neurons_norm: norm(),
                up: dense([width, block.neurons], bias && !self.gated, DEVIATION, seed.fold("up")),
                gate: self.gated.then(|| dense([width, block.neurons], false, DEVIATION, seed.fold("gate"))),
                down: dense([block.neurons, width], bias, writing, seed.fold("down")),
                activation: self.activation,
            }
        };
        let positions = (self.positions == Positions::Learned)
            .then(|| Embedding { weight: drawn([context, width], DEVIATION, seed.fold("positions")) });
        Ok(Gpt {
            tokens: Embedding { weight: drawn([vocabulary, width], DEVIATION, seed.fold("tokens")) },
            positions,
            blocks: self.blocks.iter().enumerate().map(block).collect(),
            norm: TokenNorm::new(self.norm, width, device),
            output: dense([width, vocabulary], false, DEVIATION, seed.fold("output")),
            context,
        })
    }

    fn site_widths(&self) -> Vec<SiteWidth> {
        let of_block = |(index, block): (usize, &GptBlock)| {
            let heads = seed_width(heads_name(index), block.heads * self.head);
            let neurons = seed_width(neurons_name(index), block.neurons);
            let (of_heads, of_neurons) = (Some(HEADS.to_string()), Some(NEURONS.to_string()));
            [SiteWidth { unit: self.head, series: of_heads, ..heads }, SiteWidth { series: of_neurons, ..neurons }]
        };
        self.blocks.iter().enumerate().flat_map(of_block).collect()
    }

    fn with_site_widths(&self, widths: &[usize]) -> Self {
        let of_block = |widths: &[usize]| GptBlock { heads: widths[0] / self.head.max(1), neurons: widths[1] };
        Self { blocks: widths.chunks_exact(2).map(of_block).collect(), ..self.clone() }
    }
}

impl GptConfig {
    fn check(&self) -> Result<(), Error> {
        let bad = |option, value: usize, remedy| Err(Error::BadOption { option, value: value.to_string(), remedy });
        match self {
            _ if self.vocabulary == 0 => bad("vocabulary", 0, "there are tokens to predict; 256 for bytes"),
            _ if self.context == 0 => bad("context", 0, "sequences have at least one token"),
            _ if self.width == 0 => bad("width", 0, "the residual stream has at least one feature"),
            _ if self.head == 0 => bad("head", 0, "a head has at least one feature, usually 32 to 128"),
            _ if self.positions == Positions::Rotary && self.head % 2 == 1 => {
                bad("head", self.head, "rotary positions turn pairs of features, so a head has an even number of them")
            }
            _ => Ok(()),
        }
    }
}

impl Gpt {
    /// The shape that it has grown to.
    pub fn shape(&self) -> GptConfig {
        let [vocabulary, width] = self.tokens.weight.dims();
        let first = self.blocks.first();
        let blocks =
            self.blocks.iter().map(|block| GptBlock { heads: block.attention.heads(), neurons: block.neurons() });
        GptConfig {
            vocabulary,
            context: self.context,
            width,
            head: first.map_or(width, |block| block.attention.width),
            blocks: blocks.collect(),
            norm: match self.norm {
                TokenNorm::Rms(_) => GptNorm::Rms,
                TokenNorm::Layer(_) => GptNorm::Layer,
            },
            positions: if self.positions.is_some() { Positions::Learned } else { Positions::Rotary },
            activation: first.map_or(Activation::Gelu, |block| block.activation),
            gated: first.is_some_and(|block| block.gate.is_some()),
        }
    }
}

impl Growable for Gpt {
    type Input = Tensor<2, Int>;
    type Output = Tensor<3>;

    fn sites(&self) -> Vec<Site> {
        let of_block = |(index, block): (usize, &Block)| {
            let neurons = match &block.gate {
                None => Site::new(neurons_name(index), &block.up, [block.activation], &block.down),
                Some(gate) => Site::new(neurons_name(index), &block.up, (), &block.down)
                    .seeing_through(Gate { layer: gate.clone(), activation: block.activation }),
            };
            let heads = block.attention.site(heads_name(index)).behind(&block.attention_norm);
            [heads.in_series(HEADS), neurons.behind(&block.neurons_norm).in_series(NEURONS)]
        };
        self.blocks.iter().enumerate().flat_map(of_block).collect()
    }

    fn forward_probed(&self, tokens: Tensor<2, Int>, probe: &mut dyn Probe) -> Tensor<3> {
        let [_, time] = tokens.dims();
        let mut stream = self.tokens.forward(tokens);
        if let Some(positions) = &self.positions {
            let [_, width] = positions.weight.dims();
            stream = stream + positions.weight.val().narrow(0, 0, time).reshape([1, time, width]);
        }
        for (index, block) in self.blocks.iter().enumerate() {
            let read = block.attention_norm.forward(stream.clone());
            let added = match block.attention.heads() {
                // What is not there yet is shown all the same: growth needs the gradient at its output.
                0 => stream.zeros_like(),
                _ => block.attention.forward(read.clone()),
            };
            stream = stream + probe.site(&heads_name(index), &read, added);
            let read = block.neurons_norm.forward(stream.clone());
            let added = match block.neurons() {
                0 => stream.zeros_like(),
                _ => block.forward_neurons(read.clone()),
            };
            stream = stream + probe.site(&neurons_name(index), &read, added);
        }
        by_token(&self.output, self.norm.forward(stream))
    }

    /// Of a sequence as long as the context.
    fn flops(&self) -> u64 {
        flops_of(&self.layers())
    }
}

impl Described for Gpt {
    /// Those with matrices, for a sequence as long as the context; scores and the sums of values that they weigh count to the
    /// layer of values.
    fn layers(&self) -> Vec<LayerSummary> {
        let (time, [_, width]) = (self.context, self.tokens.weight.dims());
        let mut walk = Walk::new(&[time], self.sites());
        if let Some(positions) = &self.positions {
            walk.embedding("positions", positions);
            walk.back_to(vec![time]);
        }
        walk.embedding("tokens", &self.tokens);
        for (index, block) in self.blocks.iter().enumerate() {
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
        walk.dense_at("output", &self.output, time);
        walk.finish()
    }

    fn graph(&self) -> Option<NetworkGraph> {
        None
    }

    /// Hugging Face's: GPT-2's where the layers are (layer norm, learned positions, no gates), else Llama's.
    fn weights(&self) -> Vec<(String, Array)> {
        self.named_weights()
    }

    fn written_by(&self, site: &str) -> Option<(String, usize, usize)> {
        self.writer_of(site)
    }
}

/// A dense layer at every token: `[batch, time, features]` in and out.
fn by_token(layer: &Linear, tokens: Tensor<3>) -> Tensor<3> {
    let [batch, time, features] = tokens.dims();
    let [_, outputs] = layer.weight.dims();
    dense(layer, tokens.reshape([batch * time, features])).reshape([batch, time, outputs])
}

impl Block {
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

/// The series of sites.
const HEADS: &str = "heads";
const NEURONS: &str = "neurons";

fn heads_name(index: usize) -> String {
    format!("block{}.{HEADS}", index + 1)
}

fn neurons_name(index: usize) -> String {
    format!("block{}.{NEURONS}", index + 1)
}
