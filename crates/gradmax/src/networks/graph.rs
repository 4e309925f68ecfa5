//! A network as a list of operations with their weights, from which other programs can rebuild it.

use burn::module::{Module, ModuleVisitor, Param, ParamId, RunningState};
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, PaddingConfig2d};
use burn::tensor::Tensor;

use crate::modules::{DepthwiseConv2d, Norm};
use crate::site::activation::Activation;

/// A network as a list of operations, each of which reads the input or results of operations before it.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkGraph {
    /// The shape of an example: features, or channels, height and width.
    pub input: Vec<usize>,
    /// The operations, in order; the last one's result is the output.
    pub nodes: Vec<GraphNode>,
}

/// An operation, and what it reads.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphNode {
    /// A name of its own, for layers with weights that of the layer.
    pub name: String,
    /// What it reads.
    pub reads: Vec<Value>,
    /// What it does.
    pub operation: Operation,
}

/// What an operation can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// The network's input.
    Input,
    /// The result of the node with this index.
    Node(usize),
}

/// The entries of a parameter or of a running statistic, in row-major order, as PyTorch lays them out.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// The shape.
    pub shape: Vec<usize>,
    /// The entries.
    pub values: Vec<f32>,
    /// The parameter of the network, or several side by side along the last axis, with their lengths there.
    pub parameters: Vec<(ParamId, usize)>,
    /// Whether the parameter has the two axes the other way round: Burn's dense weights.
    pub transposed: bool,
}

/// What a node does with examples, in evaluation mode.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// A dense layer.
    Dense {
        /// `[outputs, inputs]`.
        weight: Array,
        /// `[outputs]`.
        bias: Option<Array>,
    },
    /// A two-dimensional convolution.
    Conv {
        /// `[outputs, inputs / groups, height, width]`.
        weight: Array,
        /// `[outputs]`.
        bias: Option<Array>,
        /// Along height and width.
        stride: [usize; 2],
        /// Zeros above, left, below and right.
        padding: [usize; 4],
        /// Along height and width.
        dilation: [usize; 2],
        /// Groups of channels that are computed apart.
        groups: usize,
    },
    /// Normalisation of each channel by fixed statistics, then a factor and a summand.
    BatchNorm {
        /// A factor for each channel.
        gamma: Array,
        /// A summand for each channel.
        beta: Array,
        /// What is taken off each channel.
        mean: Array,
        /// The variance that each channel is divided by the root of.
        variance: Array,
        /// Added to the variance.
        epsilon: f64,
    },
    /// Normalisation of groups of channels of each example, then a factor and a summand for each channel.
    GroupNorm {
        /// Number of groups.
        groups: usize,
        /// A factor for each channel.
        gamma: Array,
        /// A summand for each channel.
        beta: Array,
        /// Added to the variance.
        epsilon: f64,
    },
    /// A function of each entry.
    Activation(Activation),
    /// The largest entry of square windows side by side.
    MaxPool {
        /// Height and width of a window.
        size: usize,
    },
    /// The mean of square windows side by side.
    AveragePool {
        /// Height and width of a window.
        size: usize,
    },
    /// The mean of each channel: maps become vectors.
    GlobalAverage,
    /// All entries of an example side by side.
    Flatten,
    /// The sum of two results.
    Add,
}

impl NetworkGraph {
    /// All weights and running statistics, by the names that PyTorch would give them: the node's, and what they are in
    /// it.
    pub fn weights(&self) -> Vec<(String, &Array)> {
        let of_node = self.nodes.iter().flat_map(|node| node.operation.weights().into_iter().map(move |of| (node, of)));
        of_node.map(|(node, (what, array))| (format!("{}.{what}", node.name), array)).collect()
    }
}

impl Operation {
    /// Weights and running statistics, by PyTorch's names.
    pub fn weights(&self) -> Vec<(&'static str, &Array)> {
        match self {
            Self::Dense { weight, bias } | Self::Conv { weight, bias, .. } => {
                let bias = bias.as_ref().map(|bias| ("bias", bias));
                std::iter::once(("weight", weight)).chain(bias).collect()
            }
            Self::BatchNorm { gamma, beta, mean, variance, .. } => {
                vec![("weight", gamma), ("bias", beta), ("running_mean", mean), ("running_var", variance)]
            }
            Self::GroupNorm { gamma, beta, .. } => vec![("weight", gamma), ("bias", beta)],
            _ => Vec::new(),
        }
    }
}

/// A graph while it is put together.
pub(super) struct GraphBuilder {
    graph: NetworkGraph,
}

impl GraphBuilder {
    /// A graph without operations, for examples of this shape.
    pub(super) fn new(input: &[usize]) -> Self {
        Self { graph: NetworkGraph { input: input.to_vec(), nodes: Vec::new() } }
    }

    pub(super) fn finish(self) -> NetworkGraph {
        self.graph
    }

    /// Adds an operation, and returns its result.
    pub(super) fn add(&mut self, name: impl Into<String>, operation: Operation, reads: &[Value]) -> Value {
        self.graph.nodes.push(GraphNode { name: name.into(), reads: reads.to_vec(), operation });
        Value::Node(self.graph.nodes.len() - 1)
    }

    /// Adds an operation without weights, under a name that it makes.
    pub(super) fn plain(&mut self, kind: &str, operation: Operation, reads: &[Value]) -> Value {
        let name = format!("{kind}{}", self.graph.nodes.len() + 1);
        self.add(name, operation, reads)
    }

    pub(super) fn activation(&mut self, activation: Activation, read: Value) -> Value {
        match activation {
            Activation::Identity => read,
            activation => self.plain(activation.name(), Operation::Activation(activation), &[read]),
        }
    }

    pub(super) fn dense(&mut self, name: &str, linear: &Linear, read: Value) -> Value {
        let weight = of_dense(&linear.weight);
        let bias = linear.bias.as_ref().map(of_parameter);
        self.add(name, Operation::Dense { weight, bias }, &[read])
    }

    pub(super) fn conv(&mut self, name: &str, conv: &Conv2d, read: Value) -> Value {
        let padding = match conv.padding {
            PaddingConfig2d::Explicit(top, left, bottom, right) => [top, left, bottom, right],
            // The networks here state their padding.
            PaddingConfig2d::Valid | PaddingConfig2d::Same => [0; 4],
        };
        let (weight, bias) = (of_parameter(&conv.weight), conv.bias.as_ref().map(of_parameter));
        let (stride, dilation, groups) = (conv.stride, conv.dilation, conv.groups);
        self.add(name, Operation::Conv { weight, bias, stride, padding, dilation, groups }, &[read])
    }

    pub(super) fn depthwise(&mut self, name: &str, conv: &DepthwiseConv2d, read: Value) -> Value {
        let [vertical, horizontal] = conv.padding;
        let operation = Operation::Conv {
            weight: of_parameter(&conv.weight),
            bias: conv.bias.as_ref().map(of_parameter),
            stride: conv.stride,
            padding: [vertical, horizontal, vertical, horizontal],
            dilation: conv.dilation,
            groups: conv.channels(),
        };
        self.add(name, operation, &[read])
    }

    pub(super) fn norm(&mut self, name: &str, norm: &Norm, read: Value) -> Value {
        let operation = match norm {
            Norm::Batch(norm) => Operation::BatchNorm {
                gamma: of_parameter(&norm.gamma),
                beta: of_parameter(&norm.beta),
                mean: array(id_of(&norm.running_mean), norm.running_mean.value_sync()),
                variance: array(id_of(&norm.running_var), norm.running_var.value_sync()),
                epsilon: norm.epsilon,
            },
            Norm::Group(norm) => Operation::GroupNorm {
                groups: norm.channels() / norm.group_size,
                gamma: of_parameter(&norm.gamma),
                beta: of_parameter(&norm.beta),
                epsilon: norm.epsilon,
            },
        };
        self.add(name, operation, &[read])
    }
}

/// The id of a running statistic, which it shows to visitors only.
fn id_of<const D: usize>(state: &RunningState<Tensor<D>>) -> ParamId {
    struct Id(Option<ParamId>);
    impl ModuleVisitor for Id {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 = Some(param.id);
        }
    }
    let mut id = Id(None);
    state.visit(&mut id);
    id.0.expect("a running statistic is a tensor of floats")
}

pub(super) fn of_parameter<const D: usize>(parameter: &Param<Tensor<D>>) -> Array {
    array(parameter.id, parameter.val())
}

/// A dense layer's weight as PyTorch has it: `[outputs, inputs]`.
pub(super) fn of_dense(weight: &Param<Tensor<2>>) -> Array {
    Array { transposed: true, ..array(weight.id, weight.val().transpose()) }
}

/// Parameters side by side along their last axis.
pub(super) fn beside<const D: usize>(parameters: &[&Param<Tensor<D>>]) -> Array {
    let lengths = parameters.iter().map(|parameter| (parameter.id, parameter.val().dims()[D - 1])).collect();
    let all = Tensor::cat(parameters.iter().map(|parameter| parameter.val()).collect(), D - 1);
    Array { parameters: lengths, ..array(parameters[0].id, all) }
}

fn array<const D: usize>(parameter: ParamId, tensor: Tensor<D>) -> Array {
    let shape = tensor.dims().to_vec();
    let parameters = vec![(parameter, shape.last().copied().unwrap_or(1))];
    Array { shape, values: tensor.into_data().iter::<f32>().collect(), parameters, transposed: false }
}
