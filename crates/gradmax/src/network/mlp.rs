//! Multilayer perceptrons of any depth.

use burn::module::{Module, Param, ParamId};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::activation::Activation;
use crate::error::Error;
use crate::growable::Growable;
use crate::probe::Probe;
use crate::schedule::SiteWidth;
use crate::seed::Seed;
use crate::site::Site;

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
}

impl MlpConfig {
    /// A network with this shape: weights Glorot-uniform (Glorot and Bengio 2010), biases zero.
    ///
    /// Weights are drawn on the host from the seed, layer by layer, so they do not depend on the device.
    ///
    /// # Errors
    /// [`Error::BadOption`], if a width is 0.
    pub fn init(&self, seed: Seed, device: &Device) -> Result<Mlp, Error> {
        let widths = self.widths();
        if widths.contains(&0) {
            return Err(Error::BadOption {
                option: "hidden",
                value: format!("{:?}", self.hidden),
                remedy: "every layer needs at least one neuron, the inputs and outputs too",
            });
        }
        let layers = widths.windows(2).enumerate();
        let layers = layers.map(|(index, sizes)| self.layer([sizes[0], sizes[1]], seed.at(index as u64), device));
        Ok(Mlp { layers: layers.collect(), activation: self.activation })
    }

    /// The same shape with other hidden widths.
    #[must_use]
    pub fn with_hidden(&self, hidden: Vec<usize>) -> Self {
        Self { hidden, ..self.clone() }
    }

    /// The sites of a seed network with this shape.
    pub fn site_widths(&self) -> Vec<SiteWidth> {
        let sites = self.hidden.iter().enumerate();
        sites.map(|(index, width)| SiteWidth { site: site_name(index), seed: *width, width: *width }).collect()
    }

    fn widths(&self) -> Vec<usize> {
        let hidden = self.hidden.iter().copied();
        std::iter::once(self.inputs).chain(hidden).chain([self.outputs]).collect()
    }

    fn layer(&self, [inputs, outputs]: [usize; 2], seed: Seed, device: &Device) -> Linear {
        let limit = (6.0 / (inputs + outputs) as f32).sqrt();
        let mut rng = seed.rng();
        let weights = (0..inputs * outputs).map(|_| rng.random_range(-limit..limit)).collect::<Vec<_>>();
        let weight = Tensor::from_data(TensorData::new(weights, [inputs, outputs]), device);
        let bias = self.bias.then(|| Tensor::<1>::zeros([outputs], device));
        Linear { weight: parameter(weight), bias: bias.map(parameter) }
    }
}

fn parameter<const D: usize>(values: Tensor<D>) -> Param<Tensor<D>> {
    let tracked = values.is_autodiff();
    Param::initialized(ParamId::new(), if tracked { values.require_grad() } else { values })
}

/// A multilayer perceptron; its sites are its hidden layers, `hidden1`, `hidden2`, ...
#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
    #[module(skip)]
    activation: Activation,
}

impl Growable for Mlp {
    type Input = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        let pairs = self.layers.windows(2).enumerate();
        pairs.map(|(index, layers)| Site::new(site_name(index), &layers[0], [self.activation], &layers[1])).collect()
    }

    fn forward_probed(&self, input: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
        let (first, rest) = self.layers.split_first().expect("an Mlp has at least one layer");
        let mut produced = first.forward(input.clone());
        let mut producer_input = input;
        for (index, consumer) in rest.iter().enumerate() {
            let neurons = self.activation.apply(produced);
            produced = probe.dense(&site_name(index), &producer_input, consumer.forward(neurons.clone()));
            producer_input = neurons;
        }
        produced
    }
}

fn site_name(index: usize) -> String {
    format!("hidden{}", index + 1)
}
