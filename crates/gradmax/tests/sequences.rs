//! Sequences grow as everything else: dense layers at every position, one-dimensional convolutions, embeddings.

mod common;

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, Linear, LinearConfig, PaddingConfig1d};
use burn::optim::SgdConfig;
use burn::tensor::{Int, Tensor, TensorData};
use common::{device, everywhere, normal};
use gradmax::event::{Grower, Pass};
use gradmax::methods::{GradMax, GrowthMethod, Placement, Random, SidePolicy, Tiny};
use gradmax::site::{Activation, Flatten, GlobalAverage, Growable, Probe, Site};
use gradmax::training::{Supervised, Target, Task};

/// Grows every site, with GradMax at zero incoming weights and with other methods, and checks what growth promises.
fn check_growth<N: Growable<Output = Tensor<2>>>(network: &N, input: &N::Input, outputs: Tensor<2>) {
    let target = Target::Values(outputs);
    let pass = |network: &N, probe: &mut dyn Probe| {
        let output = network.forward_probed(input.clone(), probe);
        Pass { loss: Supervised::Regression.loss(&output, &target), output }
    };
    let methods: [(Box<dyn GrowthMethod>, SidePolicy); 4] = [
        (Box::<GradMax>::default(), SidePolicy::Incoming),
        (Box::<GradMax>::default(), SidePolicy::Outgoing),
        (Box::<Random>::default(), SidePolicy::Outgoing),
        (Box::<Tiny>::default(), SidePolicy::Incoming),
    ];
    for (method, zero_side) in methods {
        let grower = Grower::boxed(method).with_placement(Placement { zero_side, ..Placement::default() });
        let plan = everywhere(network, 3);
        let growth = grower.grow(network, &SgdConfig::new().init(), &plan, pass).unwrap();
        assert!(growth.receipt.output_change.unwrap() <= 1e-6, "{:?}", growth.receipt);
        for (site, receipt) in growth.network.sites().iter().zip(&growth.receipt.sites) {
            assert_eq!(site.width(), receipt.width, "{receipt:?}");
            let (received, predicted) = (receipt.gradient_norm.unwrap(), receipt.predicted_gradient_norm);
            assert!((received - predicted).abs() <= 1e-4 * predicted.max(received), "{zero_side:?} {receipt:?}");
            assert!(received.max(receipt.outgoing_gradient_norm.unwrap()) > 0.0, "{receipt:?}");
        }
    }
}

fn sequences([examples, length, features]: [usize; 3], seed: u64) -> Tensor<3> {
    normal([examples * length, features], seed).reshape([examples, length, features])
}

/// Dense layers at every position of a sequence, the mean over time, and a dense layer.
#[derive(Module, Debug)]
struct Positionwise {
    first: Linear,
    second: Linear,
    output: Linear,
}

impl Growable for Positionwise {
    type Input = Tensor<3>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        let averaged = (Activation::Gelu, GlobalAverage);
        vec![
            Site::new("first", &self.first, [Activation::Tanh], &self.second),
            Site::new("second", &self.second, averaged, &self.output),
        ]
    }

    fn forward_probed(&self, input: Tensor<3>, probe: &mut dyn Probe) -> Tensor<2> {
        let neurons = Activation::Tanh.apply(self.first.forward(input.clone()));
        let second = probe.site("first", &input, self.second.forward(neurons.clone()));
        let [examples, _, width] = second.dims();
        let averaged = Activation::Gelu.apply(second).mean_dim(1).reshape([examples, width]);
        probe.site("second", &neurons, self.output.forward(averaged))
    }
}

#[test]
fn dense_layers_grow_at_every_position_of_sequences() {
    let dense = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device());
    let network = Positionwise { first: dense(6, 4), second: dense(4, 5), output: dense(5, 2) };
    check_growth(&network, &sequences([7, 5, 6], 1), normal([7, 2], 2));
}

/// Two one-dimensional convolutions, the second strided, dilated, padded on one side and grouped, and a dense layer.
#[derive(Module, Debug)]
struct Convolutional {
    first: Conv1d,
    norm: BatchNorm,
    second: Conv1d,
    output: Linear,
}

impl Growable for Convolutional {
    type Input = Tensor<3>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        vec![
            Site::new("first", &self.first, (&self.norm, Activation::Relu), &self.second),
            Site::new("second", &self.second, (Activation::Tanh, Flatten), &self.output),
        ]
    }

    fn forward_probed(&self, input: Tensor<3>, probe: &mut dyn Probe) -> Tensor<2> {
        let neurons = Activation::Relu.apply(self.norm.forward(self.first.forward(input.clone())));
        let second = probe.site("first", &input, self.second.forward(neurons.clone()));
        let [examples, channels, length] = second.dims();
        let flat = Activation::Tanh.apply(second).reshape([examples, channels * length]);
        probe.site("second", &neurons, self.output.forward(flat))
    }
}

#[test]
fn one_dimensional_convolutions_grow_at_any_geometry() {
    for groups in [1, 3] {
        let first = Conv1dConfig::new(2 * groups, 6, 3).with_padding(PaddingConfig1d::Same).with_groups(groups);
        let second = Conv1dConfig::new(6, 3, 4).with_padding(PaddingConfig1d::Explicit(2, 1)).with_stride(2);
        let network = Convolutional {
            first: first.init(&device()),
            norm: BatchNormConfig::new(6).init(&device()),
            second: second.with_dilation(2).with_groups(groups).init(&device()),
            output: LinearConfig::new(3 * 4, 2).init(&device()),
        };
        check_growth(&network, &sequences([7, 2 * groups, 11], 1), normal([7, 2], 2));
    }
}

/// An embedding, a dense layer at every position, the mean over time, and a dense layer.
#[derive(Module, Debug)]
struct Embedded {
    embedding: Embedding,
    hidden: Linear,
    output: Linear,
}

impl Growable for Embedded {
    type Input = Tensor<2, Int>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        vec![
            Site::new("embedding", &self.embedding, (), &self.hidden),
            Site::new("hidden", &self.hidden, (Activation::Gelu, GlobalAverage), &self.output),
        ]
    }

    fn forward_probed(&self, indices: Tensor<2, Int>, probe: &mut dyn Probe) -> Tensor<2> {
        let embedded = self.embedding.forward(indices.clone());
        let hidden = probe.site("embedding", &indices, self.hidden.forward(embedded.clone()));
        let [examples, _, width] = hidden.dims();
        let averaged = Activation::Gelu.apply(hidden).mean_dim(1).reshape([examples, width]);
        probe.site("hidden", &embedded, self.output.forward(averaged))
    }
}

#[test]
fn embeddings_grow() {
    let dense = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device());
    let embedding = EmbeddingConfig::new(9, 4).init(&device());
    let network = Embedded { embedding, hidden: dense(4, 5), output: dense(5, 2) };
    // Index 8 does not occur, and others do several times.
    let indices = (0..6 * 5).map(|place| place * place % 8).collect::<Vec<i32>>();
    let indices = Tensor::from_data(TensorData::new(indices, [6, 5]), &device().inner());
    check_growth(&network, &indices, normal([6, 2], 2));
}
