//! Networks as safetensors files with PyTorch's names and layouts, and the Python that rebuilds them there.

use std::collections::HashMap;

use gradmax::networks::{GraphNode, NetworkGraph, Operation, Value};
use gradmax::site::Activation;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value as Json, json};

/// What the input is called among the nodes.
const INPUT: &str = "input";

/// The weights of a network, and in the metadata its layers as PyTorch calls them, with further entries.
pub fn exported(graph: &NetworkGraph, properties: &[(&str, String)]) -> Vec<u8> {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let weights = graph.weights().into_iter().map(|(name, array)| (name, array.shape.clone(), bytes(&array.values)));
    let weights = weights.collect::<Vec<_>>();
    let views = weights.iter().map(|(name, shape, bytes)| {
        let view =
            TensorView::new(Dtype::F32, shape.clone(), bytes).expect("an array has as many entries as its shape");
        (name.clone(), view)
    });
    let mut metadata = HashMap::from([
        ("format".to_string(), "pt".to_string()),
        ("network".into(), Json::from(layers(graph)).to_string()),
        ("input".into(), json!(graph.input).to_string()),
    ]);
    metadata.extend(properties.iter().map(|(key, value)| (key.to_string(), value.clone())));
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
pub fn python(graph: &NetworkGraph, file: &str, module: &str, about: &str) -> String {
    // A docstring is ended by three quotes, and reads backslashes.
    let plain = |text: &str| text.replace('\\', "/").replace('"', "'").replace(char::is_control, " ");
    let input = graph.input.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    include_str!("pytorch/network.py")
        .replace("{about}", &plain(about))
        .replace("{module}", module)
        .replace("{input}", &input)
        .replace("{file}", &file.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use gradmax::Seed;
    use gradmax::networks::{Architecture, Described, MlpConfig};
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn weights_have_the_names_and_layouts_of_pytorch() {
        let network = MlpConfig::new(4, &[3], 2, Activation::Gelu).init(Seed::new(0), &Device::flex()).unwrap();
        let bytes = exported(&network.graph().unwrap(), &[("method", "gradmax".into())]);
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

    #[test]
    fn the_python_is_short_and_nothing_gets_out_of_its_strings() {
        let network = MlpConfig::new(4, &[3], 2, Activation::Relu).init(Seed::new(0), &Device::flex()).unwrap();
        let text = python(&network.graph().unwrap(), "a \"b\\.safetensors", "network", "x\"\"\"\nimport os\\");
        assert!(text.lines().count() <= 60, "{text}");
        assert!(text.contains("\"a \\\"b\\\\.safetensors\"") && !text.contains("\nimport os"), "{text}");
        assert!(!text.contains("{about}") && !text.contains("{file}"), "{text}");
    }
}
