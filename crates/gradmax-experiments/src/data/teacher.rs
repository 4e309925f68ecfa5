//! Teachers (Evci et al. 2022, section 4.1 and appendix D): targets are the noiseless outputs of a random network.

use anyhow::Result;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use gradmax::Seed;
use gradmax::networks::Architecture;
use gradmax::site::Growable;
use gradmax::training::{InMemory, Supervised, Target};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use super::images::Size;
use super::scale::Scale;
use super::source::{Answers, DataSet, Quantity};
use crate::failure::misuse;
use crate::network::{Network, Shape};
use crate::reading::Reading;

/// What the outputs of a teacher mean: values without names, as they are.
pub fn answers(outputs: usize) -> Answers {
    let quantity = |output| Quantity { name: format!("output {output}"), scale: Scale::NONE };
    Answers::Values((1..=outputs).map(quantity).collect())
}

/// Examples that a teacher answers: a network of this shape with weights from `U[-1, 1]` and inputs that are standard
/// normal.
pub fn examples_of(
    teacher: &Shape,
    [channels, height, width]: Size,
    [train, test]: [usize; 2],
    seed: Seed,
    device: &Device,
) -> Result<DataSet> {
    if channels * height * width == 0 || train == 0 || test == 0 {
        return Err(misuse("`data`: a teacher needs at least one input, hidden neuron, output and example"));
    }
    let teacher = with_uniform_weights(teacher.init(Seed::new(0), device)?, seed.fold("teacher"));
    let examples = |purpose: &str, count: usize| {
        let mut rng = seed.fold("teacher inputs").fold(purpose).rng();
        let drawn =
            (0..count * channels * height * width).map(|_| StandardNormal.sample(&mut rng)).collect::<Vec<f32>>();
        let inputs = Tensor::from_data(TensorData::new(drawn, [count, channels, height, width]), device);
        let inputs = Reading::Maps(inputs);
        InMemory::new(inputs.clone(), Target::Values(teacher.forward(inputs)))
    };
    let (train, test) = (Box::new(examples("train", train)), Box::new(examples("test", test)));
    Ok(DataSet::new(train, test, Supervised::Regression))
}

/// Examples of a teacher, for training and for testing, if a configuration says nothing of them.
pub fn default_examples() -> usize {
    1000
}

/// The network with all its weights drawn anew, layer after layer.
fn with_uniform_weights(network: Network, seed: Seed) -> Network {
    struct Drawing(rand::rngs::ChaCha8Rng);
    impl ModuleMapper for Drawing {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if D == 1 {
                // Norms stay as they are.
                return param;
            }
            param.map(|old| {
                let shape = old.dims();
                let count = shape.iter().product::<usize>();
                let drawn = (0..count).map(|_| self.0.random_range(-1.0_f32..1.0)).collect::<Vec<_>>();
                Tensor::from_data(TensorData::new(drawn, shape), &old.device())
            })
        }
    }
    network.map(&mut Drawing(seed.rng()))
}
