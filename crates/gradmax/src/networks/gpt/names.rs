//! The weights of transformers by the names, and in the layouts, that Hugging Face's models have: GPT-2's where the network
//! is one, else Llama's.

use super::Gpt;
use crate::networks::graph::of_parameter;
use crate::networks::transformer::{Named, TransformerNorm, dense_weights, norm_weights, place_of};

impl Gpt {
    /// Whether its layers are GPT-2's: layer norm, learned positions, and neurons without gates.
    pub(super) fn is_gpt2(&self) -> bool {
        let gated = self.blocks.iter().any(|block| block.gate.is_some());
        self.norm.kind() == TransformerNorm::Layer && self.positions.is_some() && !gated
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
            named.extend(if gpt2 {
                block.as_in_gpt2(index)
            } else {
                block.as_in_llama(&format!("model.layers.{index}"))
            });
        }
        named.extend(norm_weights(norm, &self.norm));
        named.extend(dense_weights("lm_head", &self.output));
        named
    }

    /// The weight of the layer that writes a site's neurons, their axis, and how many layers as wide lie in it.
    pub(super) fn writer_of(&self, site: &str) -> Option<(String, usize, usize)> {
        let (index, is_heads) = place_of(site)?;
        Some(match (self.is_gpt2(), is_heads) {
            (true, true) => (format!("transformer.h.{index}.attn.c_attn.weight"), 1, 3),
            (true, false) => (format!("transformer.h.{index}.mlp.c_fc.weight"), 1, 1),
            (false, true) => (format!("model.layers.{index}.self_attn.v_proj.weight"), 0, 1),
            (false, false) => (format!("model.layers.{index}.mlp.up_proj.weight"), 0, 1),
        })
    }
}
