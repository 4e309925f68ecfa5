//! Transformers that predict the next token: pre-norm decoders with any numbers of heads and neurons, block by block.

mod names;

use burn::module::Module;
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::Architecture;
use super::transformer::{
    Block, Blocks, Positions, TokenNorm, TransformerBlock, TransformerNorm, by_token, fresh_dense, fresh_table,
    sites_of, through, walk,
};
use crate::error::Error;
use crate::networks::graph::{Array, NetworkGraph};
use crate::networks::summary::{Described, LayerSummary, Walk, flops_of};
use crate::seed::Seed;
use crate::site::activation::Activation;
use crate::site::declaration::Site;
use crate::site::growable::Growable;
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
    pub blocks: Vec<TransformerBlock>,
    /// The norm in front of attention, neurons and output.
    #[serde(default)]
    pub norm: TransformerNorm,
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

impl GptConfig {
    fn of_blocks(&self) -> Blocks<'_> {
        Blocks {
            width: self.width,
            head: self.head,
            blocks: &self.blocks,
            norm: self.norm,
            activation: self.activation,
            gated: self.gated,
            rotary: self.positions == Positions::Rotary,
            causal: true,
        }
    }
}

impl Architecture for GptConfig {
    type Network = Gpt;

    /// Weights are normal with a standard deviation of 0.02, and that over `sqrt(2 blocks)` where they write to the
    /// residual stream, as in GPT-2; biases are zero.
    fn init(&self, seed: Seed, device: &Device) -> Result<Gpt, Error> {
        let Self { vocabulary, context, width, .. } = *self;
        let bad = |option, remedy| Err(Error::BadOption { option, value: "0".into(), remedy });
        match self {
            _ if vocabulary == 0 => return bad("vocabulary", "there are tokens to predict; 256 for bytes"),
            _ if context == 0 => return bad("context", "sequences have at least one token"),
            _ => self.of_blocks().check()?,
        }
        let positions =
            (self.positions == Positions::Learned).then(|| fresh_table(context, width, seed.fold("positions"), device));
        Ok(Gpt {
            tokens: fresh_table(vocabulary, width, seed.fold("tokens"), device),
            positions,
            blocks: self.of_blocks().init(seed, device),
            norm: TokenNorm::new(self.norm, width, device),
            output: fresh_dense([width, vocabulary], false, seed.fold("output"), device),
            context,
        })
    }

    fn site_widths(&self) -> Vec<SiteWidth> {
        self.of_blocks().site_widths()
    }

    fn with_site_widths(&self, widths: &[usize]) -> Self {
        Self { blocks: self.of_blocks().with_site_widths(widths), ..self.clone() }
    }
}

impl Gpt {
    /// The shape that it has grown to.
    pub fn shape(&self) -> GptConfig {
        let [vocabulary, width] = self.tokens.weight.dims();
        let first = self.blocks.first();
        GptConfig {
            vocabulary,
            context: self.context,
            width,
            head: first.map_or(width, |block| block.attention.width),
            blocks: self.blocks.iter().map(Block::widths).collect(),
            norm: self.norm.kind(),
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
        sites_of(&self.blocks)
    }

    fn forward_probed(&self, tokens: Tensor<2, Int>, probe: &mut dyn Probe) -> Tensor<3> {
        let [_, time] = tokens.dims();
        let mut stream = self.tokens.forward(tokens);
        if let Some(positions) = &self.positions {
            let [_, width] = positions.weight.dims();
            stream = stream + positions.weight.val().narrow(0, 0, time).reshape([1, time, width]);
        }
        by_token(&self.output, self.norm.forward(through(&self.blocks, stream, probe)))
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
        let mut layers = Walk::new(&[time], self.sites());
        if let Some(positions) = &self.positions {
            layers.embedding("positions", positions);
            layers.back_to(vec![time]);
        }
        layers.embedding("tokens", &self.tokens);
        walk(&mut layers, &self.blocks, width, time);
        layers.dense_at("output", &self.output, time);
        layers.finish()
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
