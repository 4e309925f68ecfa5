//! The teacher-student task (Evci et al. 2022, section 4.1): targets are the noiseless outputs of a random network.

use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use gradmax::{InMemory, Seed, Target, Task};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::DataSet;
use crate::failure::misuse;

/// Examples of a teacher with sizes inputs:hidden:outputs, weights from `U[-1, 1]`, ReLU and no biases; inputs are standard normal.
pub fn load(sizes: [usize; 3], [train, test]: [usize; 2], seed: Seed, device: &Device) -> Result<DataSet> {
    if sizes.contains(&0) || train == 0 || test == 0 {
        return Err(misuse("`data`: a teacher needs at least one input, hidden neuron, output and example"));
    }
    let [inputs, hidden, outputs] = sizes;
    let mut rng = seed.fold("teacher").rng();
    let mut uniform = |count: usize| (0..count).map(|_| rng.random_range(-1.0_f32..1.0)).collect::<Vec<_>>();
    let teacher = [uniform(inputs * hidden), uniform(hidden * outputs)];
    let examples = |purpose: &str, count: usize| {
        let mut rng = seed.fold("teacher inputs").fold(purpose).rng();
        let drawn = normal(count * inputs, &mut rng);
        let values = drawn.chunks_exact(inputs).flat_map(|input| answer(input, &teacher, sizes)).collect();
        let tensor = |values: Vec<f32>, width| Tensor::<2>::from_data(TensorData::new(values, [count, width]), device);
        InMemory::new(tensor(drawn, inputs), Target::Values(tensor(values, outputs)))
    };
    let (train, test) = (examples("train", train), examples("test", test));
    Ok(DataSet { train, test, task: Task::Regression })
}

fn normal(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| StandardNormal.sample(rng)).collect()
}

/// The teacher's output, with sums in double precision.
fn answer(input: &[f32], [first, second]: &[Vec<f32>; 2], [_, hidden, outputs]: [usize; 3]) -> Vec<f32> {
    let product = |values: &[f64], weights: &[f32], width: usize| {
        let sum = |column: usize| {
            let terms = values.iter().enumerate();
            terms.map(|(row, value)| value * f64::from(weights[row * width + column])).sum::<f64>()
        };
        (0..width).map(sum).collect::<Vec<_>>()
    };
    let input = input.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let neurons = product(&input, first, hidden).into_iter().map(|x| x.max(0.0)).collect::<Vec<_>>();
    product(&neurons, second, outputs).into_iter().map(|x| x as f32).collect()
}
