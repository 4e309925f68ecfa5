//! Transformers that classify images: squares of an image are its tokens.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use flexconv::dense;
use serde::{Deserialize, Serialize};

use super::Architecture;
use super::transformer::{
    Block, Blocks, TokenNorm, TransformerBlock, TransformerNorm, by_token, drawn, fresh_dense, sites_of, through, walk,
};
use crate::error::Error;
use crate::networks::graph::{Array, NetworkGraph, of_dense, of_parameter};
use crate::networks::summary::{Described, LayerSummary, Walk, flops_of};
use crate::seed::Seed;
use crate::site::activation::Activation;
use crate::site::declaration::Site;
use crate::site::front_norm::FrontNorm;
use crate::site::growable::Growable;
use crate::site::probe::Probe;
use crate::site::width::SiteWidth;

/// The shape of a [`Vit`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Channels, height and width of an image.
    pub input: [usize; 3],
    /// The side of a square, in pixels; height and width are multiples of it.
    pub patch: usize,
    /// Classes.
    pub classes: usize,
    /// The width of the residual stream.
    pub width: usize,
    /// The width of a head.
    pub head: usize,
    /// Every block.
    pub blocks: Vec<TransformerBlock>,
    /// The norm in front of attention, neurons and output.
    pub norm: TransformerNorm,
    /// What follows the neurons between two dense layers; of gated neurons, the gates.
    pub activation: Activation,
    /// Whether each neuron is multiplied by a gate of its own (Shazeer 2020).
    pub gated: bool,
}

/// A transformer that classifies images (Dosovitskiy et al. 2021), by the mean over all tokens: `[batch, channels, height,
/// width]` to `[batch, classes]` logits.
///
/// Its sites are those of a [`Gpt`](super::Gpt).
#[derive(Module, Debug)]
pub struct Vit {
    squares: Linear,
    positions: Param<Tensor<2>>,
    blocks: Vec<Block>,
    norm: TokenNorm,
    output: Linear,
    #[module(skip)]
    patch: usize,
    /// Height and width of an image.
    #[module(skip)]
    size: [usize; 2],
}

impl VitConfig {
    fn of_blocks(&self) -> Blocks<'_> {
        Blocks {
            width: self.width,
            head: self.head,
            blocks: &self.blocks,
            norm: self.norm,
            activation: self.activation,
            gated: self.gated,
            rotary: false,
            causal: false,
        }
    }

    fn tokens(&self) -> usize {
        self.input[1] * self.input[2] / (self.patch * self.patch)
    }
}

impl Architecture for VitConfig {
    type Network = Vit;

    /// Weights are normal with a standard deviation of 0.02, and that over `sqrt(2 blocks)` where they write to the
    /// residual stream; those that read pixels have a variance of one over their number. Biases are zero.
    fn init(&self, seed: Seed, device: &Device) -> Result<Vit, Error> {
        let ([channels, height, width], patch) = (self.input, self.patch);
        let bad = |option, value: usize, remedy| Err(Error::BadOption { option, value: value.to_string(), remedy });
        match self {
            _ if channels * height * width == 0 => return bad("input", 0, "images have channels, height and width"),
            _ if patch == 0 || !height.is_multiple_of(patch) || !width.is_multiple_of(patch) => {
                return bad("patch", patch, "height and width of the images are multiples of it");
            }
            _ => self.of_blocks().check()?,
        }
        let pixels = channels * patch * patch;
        let squares = fresh_dense([pixels, self.width], true, seed.fold("squares"), device);
        let deviation = (pixels as f64).sqrt().recip();
        let weight = drawn([pixels, self.width], deviation, seed.fold("squares"), device);
        Ok(Vit {
            squares: Linear { weight, ..squares },
            positions: drawn([self.tokens(), self.width], 0.02, seed.fold("positions"), device),
            blocks: self.of_blocks().init(seed, device),
            norm: TokenNorm::new(self.norm, self.width, device),
            output: fresh_dense([self.width, self.classes], true, seed.fold("output"), device),
            patch,
            size: [height, width],
        })
    }

    fn site_widths(&self) -> Vec<SiteWidth> {
        self.of_blocks().site_widths()
    }

    fn with_site_widths(&self, widths: &[usize]) -> Self {
        Self { blocks: self.of_blocks().with_site_widths(widths), ..self.clone() }
    }
}

impl Vit {
    /// The shape that it has grown to.
    pub fn shape(&self) -> VitConfig {
        let [pixels, width] = self.squares.weight.dims();
        let [_, classes] = self.output.weight.dims();
        let (first, patch) = (self.blocks.first(), self.patch);
        VitConfig {
            input: [pixels / (patch * patch), self.size[0], self.size[1]],
            patch,
            classes,
            width,
            head: first.map_or(width, |block| block.attention.width),
            blocks: self.blocks.iter().map(Block::widths).collect(),
            norm: self.norm.kind(),
            activation: first.map_or(Activation::Gelu, |block| block.activation),
            gated: first.is_some_and(|block| block.gate.is_some()),
        }
    }
}

impl Growable for Vit {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        sites_of(&self.blocks)
    }

    fn forward_probed(&self, images: Tensor<4>, probe: &mut dyn Probe) -> Tensor<2> {
        let ([batch, channels, height, width], patch) = (images.dims(), self.patch);
        let (rows, columns, pixels) = (height / patch, width / patch, channels * patch * patch);
        // Square after square, each with its channels one after another.
        let squares = images.reshape([batch, channels, rows, patch, columns, patch]).permute([0, 2, 4, 1, 3, 5]);
        let tokens = by_token(&self.squares, squares.reshape([batch, rows * columns, pixels]));
        let stream = tokens + self.positions.val().unsqueeze();
        let stream = self.norm.forward(through(&self.blocks, stream, probe));
        let [_, _, features] = stream.dims();
        dense(&self.output, stream.mean_dim(1).reshape([batch, features]))
    }

    fn flops(&self) -> u64 {
        flops_of(&self.layers())
    }
}

impl Described for Vit {
    /// Those with matrices; scores and the sums of values that they weigh count to the layer of values.
    fn layers(&self) -> Vec<LayerSummary> {
        let [time, width] = self.positions.dims();
        let [pixels, _] = self.squares.weight.dims();
        let mut layers = Walk::new(&[time, pixels], self.sites());
        layers.dense_at("squares", &self.squares, time);
        walk(&mut layers, &self.blocks, width, time);
        layers.back_to(vec![width]);
        layers.dense("output", &self.output);
        layers.finish()
    }

    fn graph(&self) -> Option<NetworkGraph> {
        None
    }

    /// Those of the blocks as in Llama.
    fn weights(&self) -> Vec<(String, Array)> {
        let dense = |name: &str, layer: &Linear| {
            let bias = layer.bias.as_ref().map(|bias| (format!("{name}.bias"), of_parameter(bias)));
            std::iter::once((format!("{name}.weight"), of_dense(&layer.weight))).chain(bias).collect::<Vec<_>>()
        };
        let mut named = dense("squares", &self.squares);
        named.push(("positions".into(), of_parameter(&self.positions)));
        let blocks = self.blocks.iter().enumerate();
        named.extend(blocks.flat_map(|(index, block)| block.as_in_llama(&format!("blocks.{index}"))));
        named.push(("norm.weight".into(), of_parameter(self.norm.factor())));
        named.extend(self.norm.summand().map(|summand| ("norm.bias".to_string(), of_parameter(summand))));
        named.extend(dense("output", &self.output));
        named
    }

    fn written_by(&self, site: &str) -> Option<(String, usize, usize)> {
        let (index, is_heads) = super::transformer::place_of(site)?;
        let layer = if is_heads { "self_attn.v_proj" } else { "mlp.up_proj" };
        Some((format!("blocks.{index}.{layer}.weight"), 0, 1))
    }
}
