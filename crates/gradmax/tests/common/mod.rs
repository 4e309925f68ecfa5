//! What the tests share: small networks and batches.
#![allow(dead_code)]

use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use gradmax::{Activation, Architecture, Growable, Mlp, MlpConfig, Pass, Planned, Probe, Seed, Target, Task};
use rand_distr::{Distribution, StandardNormal};

pub fn device() -> Device {
    Device::flex().autodiff()
}

pub fn mlp(inputs: usize, hidden: &[usize], outputs: usize, activation: Activation, bias: bool) -> Mlp {
    let config = MlpConfig { bias, ..MlpConfig::new(inputs, hidden, outputs, activation) };
    config.init(Seed::new(3), &device()).unwrap()
}

pub fn normal(shape: [usize; 2], seed: u64) -> Tensor<2> {
    let mut rng = Seed::new(seed).rng();
    let values = (0..shape[0] * shape[1]).map(|_| StandardNormal.sample(&mut rng)).collect::<Vec<f32>>();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// A regression batch: inputs and values.
#[derive(Clone)]
pub struct Batch {
    pub input: Tensor<2>,
    pub target: Target,
}

impl Batch {
    pub fn new(examples: usize, inputs: usize, outputs: usize) -> Self {
        Self { input: normal([examples, inputs], 1), target: Target::Values(normal([examples, outputs], 2)) }
    }

    pub fn pass<N: Growable<Input = Tensor<2>>>(&self, network: &N, probe: &mut dyn Probe) -> Pass {
        let output = network.forward_probed(self.input.clone(), probe);
        Pass { loss: Task::Regression.loss(output.clone(), &self.target), output }
    }

    pub fn step<N: Growable<Input = Tensor<2>>>(&self, network: N, optimizer: &mut ModuleOptimizer, rate: f64) -> N {
        let gradients = GradientsParams::from_grads(self.pass(&network, &mut ()).loss.backward(), &network);
        optimizer.step(rate, network, gradients)
    }
}

/// A plan that grows every site of a network by the same number of neurons.
pub fn everywhere<N: Growable>(network: &N, count: usize) -> Vec<Planned> {
    network.sites().into_iter().map(|site| Planned { site: site.name, count }).collect()
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as::<f32>().unwrap()
}
