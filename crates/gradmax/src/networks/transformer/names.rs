//! The weights of blocks by the names, and in the layouts, that Hugging Face's models have.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::Tensor;

use super::{Block, HEADS, TokenNorm};
use crate::networks::graph::{Array, beside, of_dense, of_parameter};
use crate::site::front_norm::FrontNorm;

/// Weights by their names.
pub(in crate::networks) type Named = Vec<(String, Array)>;

/// The index of a site's block, and whether the site is that of its heads.
pub(in crate::networks) fn place_of(site: &str) -> Option<(usize, bool)> {
    let (block, kind) = site.strip_prefix("block")?.split_once('.')?;
    Some((block.parse::<usize>().ok()?.checked_sub(1)?, kind == HEADS))
}

impl Block {
    /// As in Llama, behind a name of the block's.
    pub(in crate::networks) fn as_in_llama(&self, name: &str) -> Named {
        let attention = &self.attention;
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
        norms.chain(all.flat_map(|(part, layer)| dense_weights(&format!("{name}.{part}"), layer))).collect()
    }

    pub(in crate::networks) fn as_in_gpt2(&self, index: usize) -> Named {
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

pub(in crate::networks) fn norm_weights(name: &str, norm: &TokenNorm) -> Named {
    let summand = norm.summand().map(|summand| (format!("{name}.bias"), of_parameter(summand)));
    std::iter::once((format!("{name}.weight"), of_parameter(norm.factor()))).chain(summand).collect()
}

pub(in crate::networks) fn dense_weights(name: &str, layer: &Linear) -> Named {
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
