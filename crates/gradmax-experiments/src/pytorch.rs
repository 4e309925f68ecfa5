//! Networks as safetensors files with PyTorch's names and layouts, and the Python that rebuilds them there.

use std::collections::HashMap;

use anyhow::Result;
use gradmax::networks::{
    Array, Described, GptConfig, GraphNode, NetworkGraph, Operation, Positions, TransformerBlock, TransformerNorm,
    Value,
};
use gradmax::site::Activation;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value as Json, json};

use crate::failure::misuse;
use crate::network::Network;

/// What the input is called among the nodes.
const INPUT: &str = "input";

/// The weights of a network, and in the metadata its layers as PyTorch calls them (or the shape of a transformer), with
/// further entries.
pub fn exported(network: &Network, properties: &[(&str, String)]) -> Vec<u8> {
    let mut metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    if let Some(graph) = network.graph() {
        metadata.insert("network".into(), Json::from(layers(&graph)).to_string());
        metadata.insert("input".into(), json!(graph.input).to_string());
    }
    if let Some(shape) = network.transformer() {
        metadata.insert("transformer".into(), shape.to_string());
    }
    metadata.extend(properties.iter().map(|(key, value)| (key.to_string(), value.clone())));
    written(network.weights(), metadata)
}

/// A transformer as Hugging Face's library reads it: its weights, and the `config.json` beside them.
///
/// # Errors
/// If it is no transformer, or one that no model of that library is.
pub fn hugging_face(network: &Network) -> Result<(Vec<u8>, Json)> {
    let Some(gpt) = network.as_gpt() else {
        return Err(misuse("--format huggingface is for transformers; --format safetensors writes any network"));
    };
    let shape = gpt.shape();
    let refused = |reason: &str| {
        let remedy = "--format safetensors writes it with Python of its own";
        Err(misuse(format!("no model of Hugging Face's is this network: {reason}; {remedy}")))
    };
    // Blocks that are not there yet are left out.
    let there = shape.blocks.iter().filter(|block| block.heads + block.neurons > 0).collect::<Vec<_>>();
    let block = there.first().filter(|block| block.heads * block.neurons > 0);
    let Some(block) = block.filter(|block| there.iter().all(|other| other == *block)) else {
        return refused("its blocks differ in heads or neurons");
    };
    let activation = match shape.activation {
        Activation::Identity => "linear",
        Activation::Elu | Activation::Softplus => return refused("that library has not its activation"),
        other => other.name(),
    };
    let layer = match (shape.norm, shape.positions, shape.gated) {
        (TransformerNorm::Rms, Positions::Rotary, true) if !shape.width.is_multiple_of(block.heads) => {
            return refused("Llama's residual stream is a multiple of the number of heads wide");
        }
        (TransformerNorm::Layer, Positions::Learned, false) if block.heads * shape.head != shape.width => {
            return refused("GPT-2's heads are together as wide as the residual stream");
        }
        (TransformerNorm::Layer, Positions::Learned, false) => json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "n_positions": shape.context,
            "n_embd": shape.width,
            "n_layer": there.len(),
            "n_head": block.heads,
            "n_inner": block.neurons,
            "activation_function": activation,
            "layer_norm_epsilon": 1e-5,
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        }),
        (TransformerNorm::Rms, Positions::Rotary, true) => json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "max_position_embeddings": shape.context,
            "hidden_size": shape.width,
            "num_hidden_layers": there.len(),
            "num_attention_heads": block.heads,
            "num_key_value_heads": block.heads,
            "head_dim": shape.head,
            "intermediate_size": block.neurons,
            "hidden_act": activation,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1e4,
        }),
        _ => {
            return refused(
                "it is neither GPT-2 (layer norm, learned positions, no gates) nor Llama (RMS norm, rotary \
                             positions, gates)",
            );
        }
    };
    let mut config = layer;
    config["vocab_size"] = json!(shape.vocabulary);
    config["tie_word_embeddings"] = json!(false);
    config["torch_dtype"] = json!("float32");
    config["bos_token_id"] = Json::Null;
    config["eos_token_id"] = Json::Null;
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let (mut weights, mut left_out) = (Vec::new(), Vec::new());
    for (name, array) in network.weights() {
        match renumbered(&name, &shape) {
            Some(name) => weights.push((name, array)),
            None => left_out.push((name, array)),
        }
    }
    let adds = |(name, array): &(String, Array)| {
        let is_last = ["o_proj.bias", "down_proj.bias", "c_proj.bias"].iter().any(|end| name.ends_with(end));
        is_last && array.values.iter().any(|entry| *entry != 0.0)
    };
    if left_out.iter().any(adds) {
        return refused("a block that is not there adds a bias");
    }
    Ok((written(weights, metadata), config))
}

/// A weight's name where blocks that are not there yet are not counted; none if it is of such a block.
fn renumbered(name: &str, shape: &GptConfig) -> Option<String> {
    let Some((prefix, rest)) =
        ["model.layers.", "transformer.h."].iter().find_map(|prefix| Some((prefix, name.strip_prefix(prefix)?)))
    else {
        return Some(name.into());
    };
    let (index, rest) = rest.split_once('.')?;
    let index = index.parse::<usize>().ok()?;
    let is_there = |block: &&TransformerBlock| block.heads + block.neurons > 0;
    shape.blocks.get(index).filter(is_there)?;
    Some(format!("{prefix}{}.{rest}", shape.blocks[..index].iter().filter(is_there).count()))
}

fn written(weights: Vec<(String, Array)>, metadata: HashMap<String, String>) -> Vec<u8> {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let weights = weights.into_iter().map(|(name, array)| (name, array.shape, bytes(&array.values)));
    let weights = weights.collect::<Vec<_>>();
    let views = weights.iter().map(|(name, shape, bytes)| {
        let view =
            TensorView::new(Dtype::F32, shape.clone(), bytes).expect("an array has as many entries as its shape");
        (name.clone(), view)
    });
    safetensors::serialize(views, Some(metadata)).expect("names are their own")
}

/// Every layer: its name, the names of those that it reads, and the class and the arguments of its PyTorch module.
fn layers(graph: &NetworkGraph) -> Vec<Json> {
    let mut layers: Vec<Json> = Vec::new();
    // Whether each result is maps, or vectors; and what each is called.
    let mut results: Vec<(bool, String)> = Vec::new();
    for node in &graph.nodes {
        let reads = node.reads.iter().map(|read| match read {
            Value::Input => (graph.input.len() == 3, INPUT.to_string()),
            Value::Node(index) => results[*index].clone(),
        });
        let reads = reads.collect::<Vec<_>>();
        let is_maps = reads[0].0 && !matches!(node.operation, Operation::Flatten | Operation::GlobalAverage);
        let mut names = reads.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        if matches!(node.operation, Operation::GlobalAverage) {
            let pooled = format!("{}_maps", node.name);
            layers.push(layer(&pooled, &names, "AdaptiveAvgPool2d", json!({ "output_size": 1 })));
            names = vec![pooled];
        }
        let (class, arguments) = module(node, is_maps);
        layers.push(layer(&node.name, &names, class, arguments));
        results.push((is_maps, node.name.clone()));
    }
    layers
}

fn layer(name: &str, reads: &[String], class: &str, arguments: Json) -> Json {
    json!({ "name": name, "reads": reads, "class": class, "arguments": arguments })
}

/// The class of `torch.nn` that a node is, and its arguments.
fn module(node: &GraphNode, is_maps: bool) -> (&'static str, Json) {
    match &node.operation {
        Operation::Dense { weight, bias } => (
            "Linear",
            json!({ "in_features": weight.shape[1], "out_features": weight.shape[0], "bias": bias.is_some() }),
        ),
        Operation::Conv { weight, bias, stride, padding, dilation, groups } => {
            assert_eq!(padding[..2], padding[2..], "no network pads one end only");
            let arguments = json!({
                "in_channels": weight.shape[1] * groups,
                "out_channels": weight.shape[0],
                "kernel_size": &weight.shape[2..],
                "stride": stride,
                "padding": &padding[..2],
                "dilation": dilation,
                "groups": groups,
                "bias": bias.is_some(),
            });
            ("Conv2d", arguments)
        }
        Operation::BatchNorm { gamma, epsilon, .. } => {
            let class = if is_maps { "BatchNorm2d" } else { "BatchNorm1d" };
            (class, json!({ "num_features": gamma.values.len(), "eps": epsilon }))
        }
        Operation::GroupNorm { groups, gamma, epsilon, .. } => {
            ("GroupNorm", json!({ "num_groups": groups, "num_channels": gamma.values.len(), "eps": epsilon }))
        }
        Operation::Activation(activation) => activation_module(*activation),
        Operation::MaxPool { size } => ("MaxPool2d", json!({ "kernel_size": size })),
        Operation::AveragePool { size } => ("AvgPool2d", json!({ "kernel_size": size })),
        Operation::GlobalAverage | Operation::Flatten => ("Flatten", json!({})),
        Operation::Add => ("Add", json!({})),
        other => unreachable!("no network has the operation {other:?}"),
    }
}

fn activation_module(activation: Activation) -> (&'static str, Json) {
    match activation {
        Activation::Identity => ("Identity", json!({})),
        Activation::Relu => ("ReLU", json!({})),
        Activation::LeakyRelu => ("LeakyReLU", json!({ "negative_slope": 0.01 })),
        Activation::Tanh => ("Tanh", json!({})),
        Activation::Gelu => ("GELU", json!({})),
        Activation::Silu => ("SiLU", json!({})),
        Activation::Elu => ("ELU", json!({})),
        Activation::Sigmoid => ("Sigmoid", json!({})),
        Activation::Softplus => ("Softplus", json!({})),
        other => unreachable!("no network has the activation {other:?}"),
    }
}

/// Python that rebuilds the network of a file in PyTorch; `about` says in a line what it is.
pub fn python(network: &Network, file: &str, module: &str, about: &str) -> String {
    // A docstring is ended by three quotes, and reads backslashes.
    let plain = |text: &str| text.replace('\\', "/").replace('"', "'").replace(char::is_control, " ");
    let joined = |sizes: &[usize]| sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let (text, input) = match network {
        Network::Gpt(gpt) => {
            let shape = gpt.shape();
            let most =
                format!("[examples, time] of integers below {}, time at most {}", shape.vocabulary, shape.context);
            (include_str!("pytorch/transformer.py"), most)
        }
        Network::Vit(vit) => {
            let images = format!("[examples, {}]", joined(&vit.shape().input));
            (include_str!("pytorch/transformer.py"), images)
        }
        Network::Mlp(_) | Network::Stack(_) | Network::WideResNet(_) => {
            let input = network.graph().map(|graph| joined(&graph.input)).unwrap_or_default();
            (include_str!("pytorch/network.py"), input)
        }
    };
    text.replace("{about}", &plain(about))
        .replace("{module}", module)
        .replace("{input}", &input)
        .replace("{file}", &file.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use gradmax::Seed;
    use gradmax::networks::{Architecture, MlpConfig};
    use safetensors::SafeTensors;

    use super::*;
    use crate::network::Shape;

    fn network(activation: Activation) -> Network {
        let shape = Shape::Mlp(MlpConfig::new(4, &[3], 2, activation));
        shape.init(Seed::new(0), &Device::flex()).unwrap()
    }

    #[test]
    fn weights_have_the_names_and_layouts_of_pytorch() {
        let network = network(Activation::Gelu);
        let bytes = exported(&network, &[("method", "gradmax".into())]);
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let mut names = read.names();
        names.sort_unstable();
        assert_eq!(names, ["dense1.bias", "dense1.weight", "dense2.bias", "dense2.weight"]);
        assert_eq!(read.tensor("dense1.weight").unwrap().shape(), [3, 4]);
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().clone().unwrap();
        assert_eq!(metadata["method"], "gradmax");
        let layers: Vec<Json> = serde_json::from_str(&metadata["network"]).unwrap();
        let expected = json!({ "name": "dense2", "reads": ["gelu2"], "class": "Linear",
            "arguments": { "in_features": 3, "out_features": 2, "bias": true } });
        assert_eq!((layers.len(), &layers[2]), (3, &expected));
    }

    /// What other programs run is compared by `interop/run.sh`.
    #[test]
    fn transformers_are_those_of_hugging_face_or_refused() {
        let block = |heads, neurons| TransformerBlock { heads, neurons };
        let gpt2 = GptConfig {
            vocabulary: 7,
            context: 5,
            width: 4,
            head: 2,
            blocks: vec![block(2, 3), block(0, 0), block(2, 3)],
            norm: TransformerNorm::Layer,
            positions: Positions::Learned,
            activation: Activation::Gelu,
            gated: false,
        };
        let of =
            |shape: &GptConfig| hugging_face(&Shape::Gpt(shape.clone()).init(Seed::new(0), &Device::flex()).unwrap());
        let (bytes, config) = of(&gpt2).unwrap();
        assert_eq!((&config["n_layer"], &config["n_inner"]), (&json!(2), &json!(3)));
        let read = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("transformer.h.1.attn.c_attn.weight").unwrap().shape(), [4, 12]);
        assert!(read.tensor("transformer.h.2.ln_1.weight").is_err());
        let rotary = GptConfig { positions: Positions::Rotary, ..gpt2.clone() };
        let irregular = GptConfig { blocks: vec![block(2, 3), block(2, 4)], ..gpt2.clone() };
        let narrow = GptConfig { blocks: vec![block(1, 3)], ..gpt2.clone() };
        let unknown = GptConfig { activation: Activation::Elu, ..gpt2.clone() };
        let (norm, positions) = (TransformerNorm::Rms, Positions::Rotary);
        let llama = GptConfig { norm, positions, gated: true, ..gpt2 };
        assert_eq!(of(&llama).unwrap().1["num_attention_heads"], json!(2));
        let uneven = GptConfig { blocks: vec![block(3, 3)], ..llama };
        for (shape, reason) in [
            (rotary, "neither GPT-2"),
            (irregular, "differ"),
            (narrow, "as wide as"),
            (unknown, "has not its activation"),
            (uneven, "a multiple of the number of heads"),
        ] {
            assert!(of(&shape).unwrap_err().to_string().contains(reason));
        }
        assert!(hugging_face(&network(Activation::Relu)).unwrap_err().to_string().contains("is for transformers"));
    }

    #[test]
    fn the_python_is_short_and_nothing_gets_out_of_its_strings() {
        let network = network(Activation::Relu);
        let text = python(&network, "a \"b\\.safetensors", "network", "x\"\"\"\nimport os\\");
        assert!(text.lines().count() <= 60, "{text}");
        assert!(text.contains("\"a \\\"b\\\\.safetensors\"") && !text.contains("\nimport os"), "{text}");
        assert!(!text.contains("{about}") && !text.contains("{file}"), "{text}");
    }
}
