//! The weights of transformers by the names, and in the layouts, that Hugging Face's models have: GPT-2's where the network
//! is one, else Llama's.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::Tensor;

use super::{Block, Gpt, TokenNorm};
use crate::networks::graph::{Array, beside, of_dense, of_parameter};
use crate::site::front_norm::FrontNorm;

/// Weights by their names.
type Named = Vec<(String, Array)>;

impl Gpt {
    /// Whether its layers are GPT-2's: layer norm, learned positions, and neurons without gates.
    pub(super) fn is_gpt2(&self) -> bool {
        let gated = self.blocks.iter().any(|block| block.gate.is_some());
        matches!(self.norm, TokenNorm::Layer(_)) && self.positions.is_some() && !gated
    }

    pub(super) fn named_weights(&self) -> Named {
        let gpt2 = self.is_gpt2();
        let [tokens, positions, norm] = match gpt2 {
            true => ["transformer.wte", "transformer.wpe", "transformer.ln_f"],
            false => ["model.embed_tokens", "model.embed_positions", "model.norm"],
        };
        let mut named = vec![(format!("{tokens}.weight"), of_parameter(&self.tokens.weight))];
        let of_positions = self.positions.iter();
        named.extend(of_positions.map(|table| (format!("{positions}.weight"), of_parameter(&table.weight))));
        for (index, block) in self.blocks.iter().enumerate() {
            named.extend(if gpt2 { block.as_in_gpt2(index) } else { block.as_in_llama(index) });
        }
        named.extend(norm_weights(norm, &self.norm));
        named.extend(dense("lm_head", &self.output));
        named
    }

    /// The weight of the layer that writes a site's neurons, their axis, and how many layers as wide lie in it.
    pub(super) fn writer_of(&self, site: &str) -> Option<(String, usize, usize)> {
        let (block, kind) = site.strip_prefix("block")?.split_once('.')?;
        let index = block.parse::<usize>().ok()?.checked_sub(1)?;
        let is_heads = kind == super::HEADS;
        Some(match (self.is_gpt2(), is_heads) {
            (true, true) => (format!("transformer.h.{index}.attn.c_attn.weight"), 1, 3),
            (true, false) => (format!("transformer.h.{index}.mlp.c_fc.weight"), 1, 1),
            (false, true) => (format!("model.layers.{index}.self_attn.v_proj.weight"), 0, 1),
            (false, false) => (format!("model.layers.{index}.mlp.up_proj.weight"), 0, 1),
        })
    }
}

impl Block {
    fn as_in_llama(&self, index: usize) -> Named {
        let (name, attention) = (format!("model.layers.{index}"), &self.attention);
        let layers = [
            ("self_attn.q_proj", &attention.query),
            ("self_attn.k_proj", &attention.key),
            ("self_attn.v_proj", &attention.value),
            ("self_attn.o_proj", &attention.output),
        ];
        let gate = self.gate.iter().map(|gate| ("mlp.gate_proj", gate));
        let all = layers.into_iter().chain(gate).chain([("mlp.up_proj", &self.up), ("mlp.down_proj", &self.down)]);
        let norms = [("input_layernorm", &self.attention_norm), ("post_attention_layernorm", &self.neurons_norm)];
        let norms = norms.into_iter().flat_map(|(part, norm)| norm_weights(&format!("{name}.{part}"), norm));
        norms.chain(all.flat_map(|(part, layer)| dense(&format!("{name}.{part}"), layer))).collect()
    }

    fn as_in_gpt2(&self, index: usize) -> Named {
        let (name, attention) = (format!("transformer.h.{index}"), &self.attention);
        let compared = [&attention.query, &attention.key, &attention.value];
        let layers = [
            ("attn.c_attn", compared.as_slice()),
            ("attn.c_proj", &[&attention.output]),
            ("mlp.c_fc", &[&self.up]),
            ("mlp.c_proj", &[&self.down]),
        ];
        let norms = [("ln_1", &self.attention_norm), ("ln_2", &self.neurons_norm)];
        let norms = norms.into_iter().flat_map(|(part, norm)| norm_weights(&format!("{name}.{part}"), norm));
        norms
            .chain(layers.into_iter().flat_map(|(part, layers)| as_conv1d(&format!("{name}.{part}"), layers)))
            .collect()
    }
}

fn norm_weights(name: &str, norm: &TokenNorm) -> Named {
    let summand = norm.summand().map(|summand| (format!("{name}.bias"), of_parameter(summand)));
    std::iter::once((format!("{name}.weight"), of_parameter(norm.factor()))).chain(summand).collect()
}

fn dense(name: &str, layer: &Linear) -> Named {
    let bias = layer.bias.as_ref().map(|bias| (format!("{name}.bias"), of_parameter(bias)));
    std::iter::once((format!("{name}.weight"), of_dense(&layer.weight))).chain(bias).collect()
}

/// Dense layers of one input as GPT-2 has them: side by side, and `[inputs, outputs]`.
fn as_conv1d(name: &str, layers: &[&Linear]) -> Named {
    let weights = layers.iter().map(|layer| &layer.weight).collect::<Vec<_>>();
    let biases = layers.iter().filter_map(|layer| layer.bias.as_ref()).collect::<Vec<&Param<Tensor<1>>>>();
    let bias = (biases.len() == layers.len()).then(|| (format!("{name}.bias"), beside(&biases)));
    std::iter::once((format!("{name}.weight"), beside(&weights))).chain(bias).collect()
}
