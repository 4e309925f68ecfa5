//! Multilayer perceptrons of any depth.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use flexconv::{dense, dense_rectified};
use serde::{Deserialize, Serialize};

use super::draw::glorot_dense;
use super::{Architecture, seed_width};
use crate::error::Error;
use crate::networks::graph::{GraphBuilder, NetworkGraph, Operation, Value};
use crate::networks::summary::{Described, LayerSummary, Walk, flops_of};
use crate::seed::Seed;
use crate::site::activation::Activation;
use crate::site::declaration::Site;
use crate::site::growable::Growable;
use crate::site::probe::Probe;
use crate::site::width::SiteWidth;

/// The shape of an [`Mlp`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpConfig {
    /// Number of inputs.
    pub inputs: usize,
    /// Width of each hidden layer.
    pub hidden: Vec<usize>,
    /// Number of outputs.
    pub outputs: usize,
    /// What follows each hidden layer.
    pub activation: Activation,
    /// Whether layers have biases.
    pub bias: bool,
    /// Further hidden layers, beside the others.
    #[serde(default)]
    pub paths: Vec<HiddenPath>,
}

/// A hidden layer beside others: it reads what layer `from` gives (0 is the input) and adds to what layer `to`
/// computes.
///
/// With a width of 0 it is not there yet; growth makes a new layer of it (Evci et al. 2022, appendix A).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HiddenPath {
    /// The layer whose neurons it reads: 0 for the input, 1 for the first hidden layer, ...
    pub from: usize,
    /// The layer to whose sums it adds: one more than `from` or later; the output layer is the last.
    pub to: usize,
    /// Its number of neurons.
    #[serde(default)]
    pub width: usize,
}

impl Architecture for MlpConfig {
    type Network = Mlp;

    /// Weights are Glorot-uniform (Glorot and Bengio 2010), biases zero.
    fn init(&self, seed: Seed, device: &Device) -> Result<Mlp, Error> {
        let widths = self.widths();
        if widths.contains(&0) {
            return Err(Error::BadOption {
                option: "hidden",
                value: format!("{:?}", self.hidden),
                remedy: "every layer needs at least one neuron, the inputs and outputs too",
            });
        }
        if let Some(path) = self.paths.iter().find(|path| path.from >= path.to || path.to >= widths.len()) {
            return Err(Error::BadOption {
                option: "paths",
                value: format!("from {} to {}", path.from, path.to),
                remedy: "a path leads from a layer (0 is the input) to a later one (the output is the last)",
            });
        }
        let layer = |sizes, seed| glorot_dense(sizes, self.bias, seed, device);
        let layers =
            widths.windows(2).enumerate().map(|(index, sizes)| layer([sizes[0], sizes[1]], seed.at(index as u64)));
        let layers = layers.collect();
        let paths = self.paths.iter().enumerate().map(|(index, HiddenPath { from, to, width })| {
            let seed = seed.fold("path").at(index as u64);
            // Without a bias: the layer that it adds to has one.
            let consumer = glorot_dense([*width, widths[*to]], false, seed.at(1), device);
            NewLayer { producer: layer([widths[*from], *width], seed.at(0)), consumer, ends: [*from, *to] }
        });
        let paths = paths.collect();
        Ok(Mlp { layers, paths, activation: self.activation })
    }

    fn site_widths(&self) -> Vec<SiteWidth> {
        let hidden = self.hidden.iter().enumerate().map(|(index, width)| seed_width(site_name(index), *width));
        let paths = self.paths.iter().enumerate().map(|(index, path)| seed_width(path_name(index), path.width));
        hidden.chain(paths).collect()
    }

    fn with_site_widths(&self, widths: &[usize]) -> Self {
        let (hidden, paths) = widths.split_at(self.hidden.len());
        let paths = self.paths.iter().zip(paths).map(|(path, width)| HiddenPath { width: *width, ..path.clone() });
        Self { hidden: hidden.to_vec(), paths: paths.collect(), ..self.clone() }
    }
}

impl MlpConfig {
    /// A network with biases and these widths.
    pub fn new(inputs: usize, hidden: &[usize], outputs: usize, activation: Activation) -> Self {
        Self { inputs, hidden: hidden.to_vec(), outputs, activation, bias: true, paths: Vec::new() }
    }

    fn widths(&self) -> Vec<usize> {
        let hidden = self.hidden.iter().copied();
        std::iter::once(self.inputs).chain(hidden).chain([self.outputs]).collect()
    }
}

/// A multilayer perceptron; its sites are its hidden layers, `hidden1`, `hidden2`, ..., and those beside them, `path1`,
/// ...
#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
    paths: Vec<NewLayer>,
    #[module(skip)]
    activation: Activation,
}

/// A hidden layer beside others.
#[derive(Module, Debug)]
struct NewLayer {
    producer: Linear,
    consumer: Linear,
    /// The layer that it reads, and the one that it adds to.
    #[module(skip)]
    ends: [usize; 2],
}

impl NewLayer {
    fn width(&self) -> usize {
        self.producer.weight.dims()[1]
    }
}

impl Growable for Mlp {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        let pairs = self.layers.windows(2).enumerate();
        let hidden = pairs.map(|(index, layers)| {
            let ending = self.paths.iter().filter(|path| path.ends[1] == index + 1);
            let site = Site::written_by(site_name(index), &layers[0]);
            let site = ending.fold(site, |site, path| site.plus(&path.consumer)).and([self.activation], &layers[1]);
            let starting = self.paths.iter().filter(|path| path.ends[0] == index + 1);
            starting.fold(site, |site, path| site.and([self.activation], &path.producer))
        });
        let paths = self.paths.iter().enumerate();
        let paths =
            paths.map(|(index, path)| Site::new(path_name(index), &path.producer, [self.activation], &path.consumer));
        hidden.chain(paths).collect()
    }

    fn forward_probed(&self, input: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
        // What each layer reads: the input, then the neurons of the layers before.
        let mut read = vec![input];
        let mut produced = None;
        for (index, consumer) in self.layers[1..].iter().enumerate() {
            let neurons = match produced.take() {
                None => self.first_neurons(&read, probe),
                Some(produced) => self.activation.apply(produced),
            };
            let output = probe.site(&site_name(index), &read[index], dense(consumer, neurons.clone()));
            read.push(neurons);
            produced = Some(self.add_paths(index + 2, &read, output, probe));
        }
        produced.unwrap_or_else(|| self.first_produced(&read, probe))
    }

    fn flops(&self) -> u64 {
        flops_of(&self.layers())
    }
}

impl Mlp {
    fn first_produced(&self, read: &[Tensor<2>], probe: &mut dyn Probe) -> Tensor<2> {
        self.add_paths(1, read, dense(&self.layers[0], read[0].clone()), probe)
    }

    /// The neurons of the first hidden layer. Layer and rectifier run as one operation where no path adds to the sum in
    /// front of the rectifier.
    fn first_neurons(&self, read: &[Tensor<2>], probe: &mut dyn Probe) -> Tensor<2> {
        if self.activation == Activation::Relu && self.paths.iter().all(|path| path.ends[1] != 1) {
            return dense_rectified(&self.layers[0], read[0].clone());
        }
        self.activation.apply(self.first_produced(read, probe))
    }

    /// Adds what the paths to this layer give to what it computes.
    fn add_paths(&self, to: usize, read: &[Tensor<2>], produced: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
        let here = self.paths.iter().enumerate().filter(|(_, path)| path.ends[1] == to);
        here.enumerate().fold(produced, |produced, (number, (index, path))| {
            let from = path.ends[0];
            let added = match path.width() {
                // A layer that is not there yet is shown all the same: growth needs the gradient at its output.
                0 => produced.zeros_like(),
                _ => {
                    let neurons = dense(&path.producer, read[from].clone());
                    let neurons = match from.checked_sub(1) {
                        Some(site) => probe.consumer(&site_name(site), self.reader(index), &read[site], neurons),
                        None => neurons,
                    };
                    let neurons = self.activation.apply(neurons);
                    if to < self.layers.len() {
                        probe.write(&site_name(to - 1), 1 + number, &neurons);
                    }
                    dense(&path.consumer, neurons)
                }
            };
            produced + probe.site(&path_name(index), &read[from], added)
        })
    }

    /// Which consumer of the layer that it reads a path is: the next hidden layer is the first.
    fn reader(&self, path: usize) -> usize {
        let from = self.paths[path].ends[0];
        1 + self.paths[..path].iter().filter(|other| other.ends[0] == from).count()
    }
}

impl Described for Mlp {
    fn layers(&self) -> Vec<LayerSummary> {
        let inputs = self.layers[0].weight.dims()[0];
        let mut walk = Walk::new(&[inputs], self.sites());
        for (index, layer) in self.layers.iter().enumerate() {
            walk.dense(&format!("dense{}", index + 1), layer);
        }
        for (index, path) in self.paths.iter().enumerate() {
            walk.back_to(vec![path.producer.weight.dims()[0]]);
            walk.dense(&format!("path{}.producer", index + 1), &path.producer);
            walk.dense(&format!("path{}.consumer", index + 1), &path.consumer);
        }
        walk.finish()
    }

    fn graph(&self) -> Option<NetworkGraph> {
        let mut graph = GraphBuilder::new(&[self.layers[0].weight.dims()[0]]);
        // What each layer reads: the input, then the neurons of the layers before.
        let mut read = vec![Value::Input];
        for (index, layer) in self.layers.iter().enumerate() {
            let mut sum = graph.dense(&format!("dense{}", index + 1), layer, read[index]);
            let here = self.paths.iter().enumerate().filter(|(_, path)| path.ends[1] == index + 1 && path.width() > 0);
            for (number, path) in here {
                let name = path_name(number);
                let neurons = graph.dense(&format!("{name}.producer"), &path.producer, read[path.ends[0]]);
                let neurons = graph.activation(self.activation, neurons);
                let added = graph.dense(&format!("{name}.consumer"), &path.consumer, neurons);
                sum = graph.plain("add", Operation::Add, &[sum, added]);
            }
            let is_last = index + 1 == self.layers.len();
            read.push(if is_last { sum } else { graph.activation(self.activation, sum) });
        }
        Some(graph.finish())
    }
}

fn site_name(index: usize) -> String {
    format!("hidden{}", index + 1)
}

fn path_name(index: usize) -> String {
    format!("path{}", index + 1)
}
