//! Attention of several heads.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Bool, Device, Tensor, TensorData, activation};

use super::by_token;
use crate::seed::Seed;
use crate::site::companion::{Companion, CompanionWeights, UnitTensors};
use crate::site::declaration::Site;
use crate::site::layer::Producer;
use crate::site::layers::drawn_as;
use crate::site::signal::Signal;

/// The base of rotary angles: pair `i` of `n` turns by `base^(-i / n)` a position.
const ROTARY_BASE: f64 = 10_000.0;

/// Attention: `heads * width` queries, keys and values of each token, and a dense layer that reads what the heads
/// gather. Without heads it is not there yet.
#[derive(Module, Debug)]
pub(in crate::networks) struct Attention {
    pub(in crate::networks) query: Linear,
    pub(in crate::networks) key: Linear,
    pub(in crate::networks) value: Linear,
    pub(in crate::networks) output: Linear,
    /// The width of a head.
    #[module(skip)]
    pub(in crate::networks) width: usize,
    #[module(skip)]
    pub(in crate::networks) rotary: bool,
    /// Whether tokens look at those before them only.
    #[module(skip)]
    pub(in crate::networks) causal: bool,
}

impl Attention {
    /// The heads as a site: what they gather of the values, and the layer that reads it. New ones come whole, each with a
    /// query and a key.
    pub(in crate::networks) fn site(&self, name: String) -> Site {
        let (query, key) = (self.query.clone(), self.key.clone());
        Site::new(name, &self.value, (), &self.output).seeing_through(Heads {
            query,
            key,
            width: self.width,
            rotary: self.rotary,
            causal: self.causal,
        })
    }

    /// The number of heads.
    pub(in crate::networks) fn heads(&self) -> usize {
        self.value.weight.dims()[1] / self.width
    }

    /// `[batch, time, features]` in and out; there are heads.
    pub(in crate::networks) fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let compared = |layer: &Linear| {
            let features = by_token(layer, tokens.clone());
            if self.rotary { rotated(features, self.width) } else { features }
        };
        let (query, key, value) = (compared(&self.query), compared(&self.key), by_token(&self.value, tokens.clone()));
        by_token(&self.output, flexconv::attention(query, key, value, self.width, self.causal))
    }
}

/// The queries and keys of heads, which decide which tokens a head's values are gathered from.
#[derive(Debug, Clone)]
struct Heads {
    query: Linear,
    key: Linear,
    width: usize,
    rotary: bool,
    causal: bool,
}

impl Companion for Heads {
    fn name(&self) -> &str {
        "query and key"
    }

    fn unit(&self) -> usize {
        self.width
    }

    fn layers(&self) -> Vec<&dyn Producer> {
        vec![&self.query, &self.key]
    }

    /// The tokens as a head gathers them.
    fn seen_through(&self, read: Signal, of_unit: &[UnitTensors]) -> Signal {
        let [query, key] = of_unit else {
            panic!("a head has a query and a key, and {} layers were chosen", of_unit.len());
        };
        let (examples, positions) = (read.examples(), read.positions().to_vec());
        let rows = read.rows();
        let [_, features] = rows.dims();
        let time = positions.iter().product::<usize>();
        let compared = |of: &UnitTensors| {
            let compared = rows.clone().matmul(of.incoming.clone().transpose()) + of.bias.clone().unsqueeze();
            let compared = compared.reshape([examples, time, self.width]);
            let compared = if self.rotary { rotated(compared, self.width) } else { compared };
            compared.reshape([examples, 1, time, self.width])
        };
        let tokens = rows.clone().reshape([examples, 1, time, features]);
        let gathered = pattern(compared(query), compared(key), self.causal).matmul(tokens);
        Signal::of_rows(gathered.reshape([examples * time, features]), examples, positions)
    }

    fn drawn(&self, seed: Seed) -> Vec<CompanionWeights> {
        let of = |(index, layer): (u64, &Linear)| drawn_as(layer, self.width, seed.at(index));
        [(0, &self.query), (1, &self.key)].map(of).to_vec()
    }
}

/// Which tokens each token looks at, and how much: `[batch, heads, time, time]`, rows of which sum to 1; where it is causal,
/// none looks ahead.
fn pattern(query: Tensor<4>, key: Tensor<4>, causal: bool) -> Tensor<4> {
    let [batch, heads, time, width] = query.dims();
    let scores = query.matmul(key.swap_dims(2, 3)).div_scalar((width as f64).sqrt());
    if !causal {
        return activation::softmax(scores, 3);
    }
    let ahead = ahead(time, &scores.device()).reshape([1, 1, time, time]).expand([batch, heads, time, time]);
    activation::softmax(scores.mask_fill(ahead, f32::NEG_INFINITY), 3)
}

/// Which positions lie ahead of each: `[time, time]`.
fn ahead(time: usize, device: &Device) -> Tensor<2, Bool> {
    let entries = (0..time * time).map(|at| at % time > at / time).collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(entries, [time, time]), device)
}

/// Each pair of features of every head turned by its angle, `[batch, time, heads * width]`: feature `i` of the head's first
/// half with feature `i` of the second.
fn rotated(features: Tensor<3>, width: usize) -> Tensor<3> {
    let ([batch, time, all], half) = (features.dims(), width / 2);
    let features = features.reshape([batch, time, all / width, width]);
    let angle = |at: usize| (at / half) as f64 * ROTARY_BASE.powf(-((at % half) as f64) / half as f64);
    let of = |function: fn(f64) -> f64| {
        let entries = (0..time * half).map(|at| function(angle(at)) as f32).collect::<Vec<_>>();
        Tensor::<4>::from_data(TensorData::new(entries, [1, time, 1, half]), &features.device())
    };
    let (cos, sin) = (of(f64::cos), of(f64::sin));
    let (first, second) = (features.clone().narrow(3, 0, half), features.narrow(3, half, half));
    let turned = first.clone() * cos.clone() - second.clone() * sin.clone();
    Tensor::cat(vec![turned, second * cos + first * sin], 3).reshape([batch, time, all])
}
