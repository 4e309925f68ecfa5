//! What a network is made of, layer by layer: sizes, parameters and operations.

use burn::module::{Module, ParamId};
use burn::nn::conv::Conv2d;
use burn::nn::{Embedding, Linear};
use serde::Serialize;

use crate::modules::{DepthwiseConv2d, Norm};
use crate::networks::graph::{Array, NetworkGraph};
use crate::site::declaration::Site;
use crate::site::growable::Growable;

/// A network that can say what it is made of.
pub trait Described: Growable {
    /// Its layers with parameters, in the order of the forward pass.
    fn layers(&self) -> Vec<LayerSummary>;

    /// Its operations in evaluation mode, with their weights, for other programs; layers that are not there yet are left out.
    /// None of networks that cannot be told in such operations yet.
    fn graph(&self) -> Option<NetworkGraph>;

    /// All weights and running statistics, by the names that other programs have for them.
    fn weights(&self) -> Vec<(String, Array)> {
        let named = |graph: NetworkGraph| {
            graph.weights().into_iter().map(|(name, array)| (name, array.clone())).collect::<Vec<_>>()
        };
        self.graph().map(named).unwrap_or_default()
    }

    /// The weight of a layer that writes the neurons of a site, by its name among [`weights`](Self::weights), and the axis
    /// along which they lie; with how many others as long beside them.
    fn written_by(&self, site: &str) -> Option<(String, usize, usize)> {
        let layer = self.layers().into_iter().find(|layer| layer.site.as_deref() == Some(site))?;
        Some((format!("{}.weight", layer.layer), 0, 1))
    }
}

/// A layer in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerSummary {
    /// Where it is in the network.
    pub layer: String,
    /// What it is: `conv 3x3 /2`, `dense`, ...
    pub kind: String,
    /// Shape of one example's input: features, or channels, height and width.
    pub input: Vec<usize>,
    /// Shape of one example's output.
    pub output: Vec<usize>,
    /// Trainable parameters.
    pub parameters: usize,
    /// Running statistics, which some count as parameters.
    pub running_statistics: usize,
    /// Floating-point operations of one example's forward pass: two for each multiply-add, one for each bias; those of
    /// norms, activations and pooling are not counted.
    pub flops: u64,
    /// The site that the layer's neurons belong to.
    pub site: Option<String>,
    /// What lies between them and the layers that read them.
    pub between: Vec<String>,
}

/// Walks through a network with the shape of one example.
pub(crate) struct Walk {
    shape: Vec<usize>,
    sites: Vec<Site>,
    layers: Vec<LayerSummary>,
}

impl Walk {
    /// From the input of a network with these sites.
    pub(crate) fn new(input: &[usize], sites: Vec<Site>) -> Self {
        Self { shape: input.to_vec(), sites, layers: Vec::new() }
    }

    pub(crate) fn finish(self) -> Vec<LayerSummary> {
        self.layers
    }

    /// The shape at this point.
    pub(crate) fn shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    /// Goes on from another point.
    pub(crate) fn back_to(&mut self, shape: Vec<usize>) {
        self.shape = shape;
    }

    pub(crate) fn dense(&mut self, name: &str, linear: &Linear) {
        let [inputs, outputs] = linear.weight.dims();
        let bias = linear.bias.as_ref().map_or(0, |_| outputs);
        self.add(
            name,
            "dense".into(),
            vec![outputs],
            linear.num_params(),
            2 * inputs * outputs + bias,
            linear.weight.id,
        );
    }

    /// A dense layer at so many positions.
    pub(crate) fn dense_at(&mut self, name: &str, linear: &Linear, positions: usize) {
        let [inputs, outputs] = linear.weight.dims();
        let bias = linear.bias.as_ref().map_or(0, |_| outputs);
        let flops = positions * (2 * inputs * outputs + bias);
        self.add(name, "dense".into(), vec![positions, outputs], linear.num_params(), flops, linear.weight.id);
    }

    /// A table with a row for each of so many tokens or positions.
    pub(crate) fn embedding(&mut self, name: &str, embedding: &Embedding) {
        let [_, width] = embedding.weight.dims();
        let output = vec![self.shape[0], width];
        self.add(name, "embedding".into(), output, embedding.num_params(), 0, embedding.weight.id);
    }

    /// Adds to the last layer what is computed with its output and has no weights.
    pub(crate) fn add_flops(&mut self, flops: usize) {
        if let Some(layer) = self.layers.last_mut() {
            layer.flops += flops as u64;
        }
    }

    pub(crate) fn conv(&mut self, name: &str, conv: &Conv2d) {
        let [outputs, inputs, height, width] = conv.weight.dims();
        // The networks here state their padding; others do not come this way.
        let padding = match conv.padding {
            burn::nn::PaddingConfig2d::Explicit(top, left, bottom, right) => [top + bottom, left + right],
            _ => [0, 0],
        };
        let size = self.map_size([height, width], conv.stride, padding, conv.dilation);
        let positions = size.iter().product::<usize>();
        let bias = conv.bias.as_ref().map_or(0, |_| outputs);
        let flops = positions * (2 * outputs * inputs * height * width + bias);
        let kind = kind_of("conv", [height, width], conv.stride, conv.groups);
        self.add(name, kind, vec![outputs, size[0], size[1]], conv.num_params(), flops, conv.weight.id);
    }

    pub(crate) fn depthwise(&mut self, name: &str, conv: &DepthwiseConv2d) {
        let [height, width] = conv.kernel_size();
        let padding = conv.padding.map(|padding| 2 * padding);
        let size = self.map_size([height, width], conv.stride, padding, conv.dilation);
        let channels = conv.channels();
        let flops = size.iter().product::<usize>() * 2 * channels * height * width;
        let kind = kind_of("depthwise", [height, width], conv.stride, 1);
        self.add(name, kind, vec![channels, size[0], size[1]], conv.num_params(), flops, conv.weight.id);
    }

    pub(crate) fn norm(&mut self, name: &str, norm: &Norm) {
        let (kind, gamma, statistics) = match norm {
            Norm::Batch(norm) => ("batch norm", &norm.gamma, 2),
            Norm::Group(norm) => ("group norm", &norm.gamma, 0),
        };
        let (channels, id) = (gamma.lazy_shape()[0], gamma.id);
        self.add(name, kind.into(), self.shape.clone(), 2 * channels, 0, id);
        if let Some(layer) = self.layers.last_mut() {
            layer.running_statistics = statistics * channels;
        }
    }

    /// A pool with square windows side by side.
    pub(crate) fn pool(&mut self, size: usize) {
        self.shape = vec![self.shape[0], self.shape[1] / size, self.shape[2] / size];
    }

    /// Maps become vectors of one feature a channel.
    pub(crate) fn global_average(&mut self) {
        self.shape.truncate(1);
    }

    /// Maps become vectors.
    pub(crate) fn flatten(&mut self) {
        self.shape = vec![self.shape.iter().product()];
    }

    fn map_size(
        &self,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
    ) -> [usize; 2] {
        [0, 1].map(|axis| {
            let length = self.shape[1 + axis] + padding[axis];
            convolved_length(length, kernel[axis], stride[axis], dilation[axis]).unwrap_or(1)
        })
    }

    fn add(&mut self, name: &str, kind: String, output: Vec<usize>, parameters: usize, flops: usize, weight: ParamId) {
        let site = self.sites.iter().find(|site| site.writers.iter().any(|writer| writer.weight() == weight));
        let between = site.map(|site| site.paths[0].between.iter().map(|between| between.name().to_string()).collect());
        self.layers.push(LayerSummary {
            layer: name.into(),
            kind,
            input: std::mem::replace(&mut self.shape, output.clone()),
            output,
            parameters,
            running_statistics: 0,
            flops: flops as u64,
            site: site.map(|site| site.name.clone()),
            between: between.unwrap_or_default(),
        });
    }
}

/// Positions of a convolution along an axis of this length, padding included; none if the kernel does not fit in.
pub(crate) fn convolved_length(length: usize, kernel: usize, stride: usize, dilation: usize) -> Option<usize> {
    Some(length.checked_sub(dilation * (kernel - 1) + 1)? / stride + 1)
}

fn kind_of(name: &str, [height, width]: [usize; 2], stride: [usize; 2], groups: usize) -> String {
    let stride = if stride == [1, 1] { String::new() } else { format!(" /{}", stride[0]) };
    let groups = if groups == 1 { String::new() } else { format!(" x{groups}") };
    format!("{name} {height}x{width}{stride}{groups}")
}

/// Operations of all layers.
pub(crate) fn flops_of(layers: &[LayerSummary]) -> u64 {
    layers.iter().map(|layer| layer.flops).sum()
}
