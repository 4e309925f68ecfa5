//! Networks as ONNX models, which other programs run.

use crate::data::{Answers, Scale};
use gradmax::networks::{Array, GraphNode, NetworkGraph, Operation, Value};
use gradmax::site::Activation;
use onnx_rs::ast::{
    Attribute, AttributeType, DataType, Dimension, Graph, Model, Node, OpType, OperatorSetId, StringStringEntry,
    TensorProto, TensorShape, TensorShapeDimension, TensorTypeProto, TypeProto, TypeValue, ValueInfo,
};

/// The version of the operators: the first that has GELU.
pub const OPSET: i64 = 20;
/// The version of the file format that belongs to it.
const FORMAT: i64 = 9;
/// What the input and the output are called.
pub const INPUT: &str = "input";
const OUTPUT: &str = "output";

/// What is put around a network, so that its model reads data as it is and gives answers.
pub struct Ends<'a> {
    /// How each feature or channel is standardised.
    pub inputs: &'a [Scale],
    /// What the outputs mean.
    pub answers: &'a Answers,
}

/// The model of a network, for any number of examples; with what is to be around it, if anything, and entries for its
/// list of properties.
pub fn model(graph: &NetworkGraph, ends: Option<&Ends<'_>>, properties: &[(&str, String)]) -> Vec<u8> {
    let mut parts = Parts::default();
    let mut results: Vec<String> = Vec::new();
    let input = match ends {
        Some(ends) => parts.standardised(ends.inputs, graph.input.len()),
        None => INPUT.into(),
    };
    for node in &graph.nodes {
        let reads = node.reads.iter().map(|read| match read {
            Value::Input => input.clone(),
            Value::Node(index) => results[*index].clone(),
        });
        let result = parts.node(node, reads.collect());
        results.push(result);
    }
    let last = results.last().cloned().unwrap_or(input);
    let last = match ends {
        Some(ends) => parts.answered(ends.answers, last),
        None => last,
    };
    // The last result has the name of the output.
    parts.operation(OpType::Identity, "network.output", vec![last], vec![OUTPUT.into()], Vec::new());
    parts.encoded(graph, properties)
}

/// The operations and weights of a model, which own their names.
#[derive(Default)]
struct Parts {
    nodes: Vec<Part>,
    weights: Vec<Weight>,
}

struct Part {
    name: String,
    kind: OpType<'static>,
    reads: Vec<String>,
    gives: Vec<String>,
    attributes: Vec<(&'static str, Given)>,
}

/// The value of an attribute.
enum Given {
    Number(f32),
    Whole(i64),
    Wholes(Vec<i64>),
}

struct Weight {
    name: String,
    shape: Vec<i64>,
    values: Entries,
}

enum Entries {
    Floats(Vec<u8>),
    Wholes(Vec<i64>),
}

impl Parts {
    fn operation(
        &mut self,
        kind: OpType<'static>,
        name: &str,
        reads: Vec<String>,
        gives: Vec<String>,
        attributes: Vec<(&'static str, Given)>,
    ) {
        self.nodes.push(Part { name: name.into(), kind, reads, gives, attributes });
    }

    /// An operation with one result, called after it.
    fn simple(
        &mut self,
        kind: OpType<'static>,
        name: &str,
        reads: Vec<String>,
        attributes: Vec<(&'static str, Given)>,
    ) -> String {
        let result = format!("{name}.result");
        self.operation(kind, name, reads, vec![result.clone()], attributes);
        result
    }

    /// A weight, whose name comes back.
    fn weight(&mut self, name: String, array: &Array) -> String {
        self.constant(name, &array.shape, &array.values)
    }

    /// Entries of this shape, whose name comes back.
    fn constant(&mut self, name: String, shape: &[usize], values: &[f32]) -> String {
        let shape = shape.iter().map(|length| *length as i64).collect();
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.weights.push(Weight { name: name.clone(), shape, values: Entries::Floats(bytes) });
        name
    }

    /// Adds a node of the network, and returns the name of its result.
    fn node(&mut self, node: &GraphNode, mut reads: Vec<String>) -> String {
        let name = node.name.as_str();
        match &node.operation {
            Operation::Dense { weight, bias } => {
                reads.push(self.weight(format!("{name}.weight"), weight));
                reads.extend(bias.as_ref().map(|bias| self.weight(format!("{name}.bias"), bias)));
                self.simple(OpType::Gemm, name, reads, vec![("transB", Given::Whole(1))])
            }
            Operation::Conv { weight, bias, stride, padding, dilation, groups } => {
                reads.push(self.weight(format!("{name}.weight"), weight));
                reads.extend(bias.as_ref().map(|bias| self.weight(format!("{name}.bias"), bias)));
                let attributes = vec![
                    ("kernel_shape", wholes(&weight.shape[2..])),
                    ("strides", wholes(stride)),
                    ("pads", wholes(padding)),
                    ("dilations", wholes(dilation)),
                    ("group", Given::Whole(*groups as i64)),
                ];
                self.simple(OpType::Conv, name, reads, attributes)
            }
            Operation::BatchNorm { gamma, beta, mean, variance, epsilon } => {
                let weights = [("weight", gamma), ("bias", beta), ("running_mean", mean), ("running_var", variance)];
                reads.extend(weights.map(|(what, array)| self.weight(format!("{name}.{what}"), array)));
                self.simple(OpType::BatchNormalization, name, reads, vec![("epsilon", Given::Number(*epsilon as f32))])
            }
            Operation::GroupNorm { groups, gamma, beta, epsilon } => {
                self.group_norm(name, reads, *groups, [gamma, beta], *epsilon)
            }
            Operation::Activation(activation) => self.activation(*activation, name, reads),
            Operation::MaxPool { size } => self.simple(OpType::MaxPool, name, reads, windows(*size)),
            Operation::AveragePool { size } => self.simple(OpType::AveragePool, name, reads, windows(*size)),
            Operation::GlobalAverage => {
                let averaged = self.simple(OpType::GlobalAveragePool, &format!("{name}.maps"), reads, Vec::new());
                self.simple(OpType::Flatten, name, vec![averaged], Vec::new())
            }
            Operation::Flatten => self.simple(OpType::Flatten, name, reads, Vec::new()),
            Operation::Add => self.simple(OpType::Add, name, reads, Vec::new()),
            other => unreachable!("no network has the operation {other:?}"),
        }
    }

    /// The input, of this rank, standardised feature by feature, or channel by channel.
    fn standardised(&mut self, scales: &[Scale], rank: usize) -> String {
        // So that factors meet the first axis of an example.
        let shape = std::iter::once(scales.len()).chain(std::iter::repeat_n(1, rank - 1)).collect::<Vec<_>>();
        let [means, deviations] = columns(scales);
        let mean = self.constant("data.mean".into(), &shape, &means);
        let deviation = self.constant("data.deviation".into(), &shape, &deviations);
        let centred = self.simple(OpType::Sub, "data.centred", vec![INPUT.into(), mean], Vec::new());
        self.simple(OpType::Div, "data.standardised", vec![centred, deviation], Vec::new())
    }

    /// Probabilities of classes, or values in their own units.
    fn answered(&mut self, answers: &Answers, output: String) -> String {
        match answers {
            Answers::Classes(_) | Answers::Bytes => {
                self.simple(OpType::Softmax, "data.probabilities", vec![output], vec![("axis", Given::Whole(1))])
            }
            Answers::Values(quantities) => {
                let [means, deviations] = columns(&quantities.iter().map(|of| of.scale).collect::<Vec<_>>());
                let deviation = self.constant("data.output_deviation".into(), &[deviations.len()], &deviations);
                let mean = self.constant("data.output_mean".into(), &[means.len()], &means);
                let scaled = self.simple(OpType::Mul, "data.scaled", vec![output, deviation], Vec::new());
                self.simple(OpType::Add, "data.values", vec![scaled, mean], Vec::new())
            }
        }
    }

    fn activation(&mut self, activation: Activation, name: &str, mut reads: Vec<String>) -> String {
        let (kind, attributes) = match activation {
            Activation::Identity => (OpType::Identity, Vec::new()),
            Activation::Relu => (OpType::Relu, Vec::new()),
            Activation::LeakyRelu => (OpType::LeakyRelu, vec![("alpha", Given::Number(0.01))]),
            Activation::Tanh => (OpType::Tanh, Vec::new()),
            Activation::Gelu => (OpType::Custom("Gelu"), Vec::new()),
            Activation::Silu => {
                let gate = self.simple(OpType::Sigmoid, &format!("{name}.gate"), reads.clone(), Vec::new());
                reads.push(gate);
                (OpType::Mul, Vec::new())
            }
            Activation::Elu => (OpType::Elu, vec![("alpha", Given::Number(1.0))]),
            Activation::Sigmoid => (OpType::Sigmoid, Vec::new()),
            Activation::Softplus => (OpType::Softplus, Vec::new()),
            other => unreachable!("no network has the activation {other:?}"),
        };
        self.simple(kind, name, reads, attributes)
    }

    /// Every group of channels as one channel of an instance norm, and back: ONNX's own group norm is of a later
    /// version.
    fn group_norm(
        &mut self,
        name: &str,
        mut reads: Vec<String>,
        groups: usize,
        [gamma, beta]: [&Array; 2],
        epsilon: f64,
    ) -> String {
        let input = reads[0].clone();
        let grouped = self.whole(format!("{name}.grouped"), vec![0, groups as i64, -1]);
        reads.push(grouped);
        let grouped = self.simple(OpType::Reshape, &format!("{name}.group"), reads, Vec::new());
        let scale = self.constant(format!("{name}.ones"), &[groups], &vec![1.0; groups]);
        let shift = self.constant(format!("{name}.zeros"), &[groups], &vec![0.0; groups]);
        let attributes = vec![("epsilon", Given::Number(epsilon as f32))];
        let inside = format!("{name}.inside");
        let normal = self.simple(OpType::InstanceNormalization, &inside, vec![grouped, scale, shift], attributes);
        let shape = self.simple(OpType::Shape, &format!("{name}.shape"), vec![input], Vec::new());
        let back = self.simple(OpType::Reshape, &format!("{name}.back"), vec![normal, shape], Vec::new());
        // For maps, `[channels, 1, 1]`: so that factors meet the second axis.
        let gamma = self.constant(format!("{name}.weight"), &[gamma.values.len(), 1, 1], &gamma.values);
        let beta = self.constant(format!("{name}.bias"), &[beta.values.len(), 1, 1], &beta.values);
        let scaled = self.simple(OpType::Mul, &format!("{name}.scaled"), vec![back, gamma], Vec::new());
        self.simple(OpType::Add, name, vec![scaled, beta], Vec::new())
    }

    fn whole(&mut self, name: String, values: Vec<i64>) -> String {
        self.weights.push(Weight {
            name: name.clone(),
            shape: vec![values.len() as i64],
            values: Entries::Wholes(values),
        });
        name
    }

    fn encoded(&self, graph: &NetworkGraph, properties: &[(&str, String)]) -> Vec<u8> {
        let property = |(key, value): &'_ (&'_ str, String)| (key.to_string(), value.clone());
        let properties = properties.iter().map(property).collect::<Vec<_>>();
        let graph = Graph {
            name: "gradmax",
            node: self.nodes.iter().map(Part::encoded).collect(),
            initializer: self.weights.iter().map(Weight::encoded).collect(),
            input: vec![value(INPUT, &graph.input)],
            output: vec![value(OUTPUT, &[outputs(graph)])],
            ..Graph::default()
        };
        let model = Model {
            ir_version: FORMAT,
            opset_import: vec![OperatorSetId { domain: "", version: OPSET }],
            producer_name: "gradmax",
            producer_version: env!("CARGO_PKG_VERSION"),
            graph: Some(graph),
            metadata_props: properties.iter().map(|(key, value)| StringStringEntry { key, value }).collect(),
            ..Model::default()
        };
        onnx_rs::encode(&model)
    }
}

impl Part {
    fn encoded(&self) -> Node<'_> {
        let attribute = |(name, given): &'_ (&'static str, Given)| {
            let none = Attribute { name, ..Attribute::default() };
            match given {
                Given::Number(f) => Attribute { r#type: AttributeType::Float, f: *f, ..none },
                Given::Whole(i) => Attribute { r#type: AttributeType::Int, i: *i, ..none },
                Given::Wholes(ints) => Attribute { r#type: AttributeType::Ints, ints: ints.clone(), ..none },
            }
        };
        Node {
            input: self.reads.iter().map(String::as_str).collect(),
            output: self.gives.iter().map(String::as_str).collect(),
            name: &self.name,
            op_type: self.kind.clone(),
            attribute: self.attributes.iter().map(attribute).collect(),
            ..Node::default()
        }
    }
}

impl Weight {
    fn encoded(&self) -> TensorProto<'_> {
        match &self.values {
            Entries::Floats(bytes) => TensorProto::from_raw(&self.name, self.shape.clone(), DataType::Float, bytes),
            Entries::Wholes(values) => TensorProto::from_i64(&self.name, self.shape.clone(), values.clone()),
        }
    }
}

/// Means, and deviations.
fn columns(scales: &[Scale]) -> [Vec<f32>; 2] {
    let of = |of: fn(&Scale) -> f64| scales.iter().map(|scale| of(scale) as f32).collect();
    [of(|scale| scale.mean), of(|scale| scale.deviation)]
}

fn wholes(values: &[usize]) -> Given {
    Given::Wholes(values.iter().map(|value| *value as i64).collect())
}

/// Square windows side by side.
fn windows(size: usize) -> Vec<(&'static str, Given)> {
    vec![("kernel_shape", wholes(&[size; 2])), ("strides", wholes(&[size; 2]))]
}

/// Outputs of a network: of its last layer with weights.
fn outputs(graph: &NetworkGraph) -> usize {
    let of = |node: &GraphNode| match &node.operation {
        Operation::Dense { weight, .. } | Operation::Conv { weight, .. } => Some(weight.shape[0]),
        _ => None,
    };
    graph.nodes.iter().rev().find_map(of).unwrap_or_default()
}

/// A value of any number of examples of a shape.
fn value<'a>(name: &'a str, shape: &[usize]) -> ValueInfo<'a> {
    let dimension = |value| TensorShapeDimension { value, denotation: "" };
    let examples = std::iter::once(dimension(Dimension::Param("examples")));
    let sizes = shape.iter().map(|length| dimension(Dimension::Value(*length as i64)));
    let shape = Some(TensorShape { dim: examples.chain(sizes).collect() });
    let tensor = TypeValue::Tensor(TensorTypeProto { elem_type: DataType::Float, shape });
    ValueInfo { name, r#type: Some(TypeProto { value: Some(tensor), denotation: "" }), ..ValueInfo::default() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use burn::tensor::Device;
    use gradmax::Seed;
    use gradmax::modules::NormKind;
    use gradmax::networks::{Architecture, Described, WideResNetConfig};

    use super::*;

    #[test]
    fn every_name_is_given_once_and_before_it_is_read() {
        let config = WideResNetConfig { norm: NormKind::Group(4), ..WideResNetConfig::new(10, 1, 0.5) };
        let graph = config.init(Seed::new(0), &Device::flex()).unwrap().graph().unwrap();
        let answers = Answers::Classes(Vec::new());
        let ends = Ends { inputs: &[Scale::NONE; 3], answers: &answers };
        let bytes = model(&graph, Some(&ends), &[("method", "gradmax".into())]);
        let model = onnx_rs::parse(&bytes).unwrap();
        let graph = model.graph.unwrap();
        let names = graph.node.iter().map(|node| node.name).collect::<BTreeSet<_>>();
        assert_eq!(names.len(), graph.node.len(), "names of nodes are their own");
        let mut known = graph.initializer.iter().map(|weight| weight.name()).chain([INPUT]).collect::<BTreeSet<_>>();
        assert_eq!(known.len(), graph.initializer.len() + 1, "names of weights are their own");
        for node in &graph.node {
            assert!(node.input.iter().all(|read| known.contains(read)), "{} reads {:?}", node.name, node.input);
            assert!(node.output.iter().all(|given| known.insert(given)), "{} gives {:?}", node.name, node.output);
        }
        assert!(known.contains(OUTPUT));
        assert_eq!((model.metadata_props[0].key, model.metadata_props[0].value), ("method", "gradmax"));
    }
}
