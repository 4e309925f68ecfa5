//! Transformers grow exactly: drawn architectures, every kind of site.

mod common;

use burn::module::Module;
use burn::optim::SgdConfig;
use burn::tensor::{Int, Tensor, TensorData};
use common::device;
use gradmax::Seed;
use gradmax::event::{Grower, Pass, Planned};
use gradmax::methods::{GradMax, GrowthMethod, Placement, Random, SidePolicy};
use gradmax::networks::{Architecture, Gpt, GptBlock, GptConfig, GptNorm, Positions};
use gradmax::site::{Activation, Growable, Probe};
use gradmax::training::{NextToken, Task};
use rand::RngExt;

/// Small transformers of any kind; some blocks have no heads or no neurons.
fn drawn(seed: Seed) -> GptConfig {
    let mut rng = seed.rng();
    let blocks = (0..rng.random_range(1..4)).map(|_| GptBlock {
        heads: rng.random_range(0..4),
        neurons: [0, rng.random_range(1..7)][rng.random_range(0..2)],
    });
    let blocks = blocks.collect();
    GptConfig {
        vocabulary: rng.random_range(3..9),
        context: 6,
        width: rng.random_range(3..9),
        head: 2 * rng.random_range(1..3),
        blocks,
        norm: [GptNorm::Rms, GptNorm::Layer][rng.random_range(0..2)],
        positions: [Positions::Learned, Positions::Rotary][rng.random_range(0..2)],
        activation: [Activation::Gelu, Activation::Silu, Activation::Tanh, Activation::Relu][rng.random_range(0..4)],
        gated: rng.random(),
    }
}

fn tokens(shape: [usize; 2], vocabulary: usize, seed: Seed) -> Tensor<2, Int> {
    let mut rng = seed.rng();
    let entries = (0..shape[0] * shape[1]).map(|_| rng.random_range(0..vocabulary) as i32).collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(entries, shape), &device().inner())
}

/// Twenty times the initial weights, so that attention and norms matter.
fn trained(config: &GptConfig, seed: Seed) -> Gpt {
    struct Larger;
    impl burn::module::ModuleMapper for Larger {
        fn map_float<const D: usize>(
            &mut self,
            param: burn::module::Param<Tensor<D>>,
        ) -> burn::module::Param<Tensor<D>> {
            match D {
                2 => param.map(|weight| weight.mul_scalar(20.0).detach().require_grad()),
                _ => param,
            }
        }
    }
    config.init(seed, &device()).unwrap().map(&mut Larger)
}

/// Two heads and three neurons more in each block.
fn planned(network: &Gpt, head: usize) -> Vec<Planned> {
    let count = |site: &str| if site.ends_with("heads") { 2 * head } else { 3 };
    network.sites().into_iter().map(|site| Planned { count: count(&site.name), site: site.name }).collect()
}

#[test]
fn every_site_of_drawn_transformers_grows_exactly() {
    for case in 0..200 {
        let seed = Seed::new(case);
        let config = drawn(seed.fold("architecture"));
        let network = trained(&config, seed.fold("weights"));
        let input = tokens([3, 6], config.vocabulary, seed.fold("input"));
        let target = tokens([3, 6], config.vocabulary, seed.fold("target"));
        let pass = |network: &Gpt, probe: &mut dyn Probe| {
            let output = network.forward_probed(input.clone(), probe);
            Pass { loss: NextToken.loss(&output, &target), output }
        };
        let methods: [(Box<dyn GrowthMethod>, SidePolicy); 3] = [
            (Box::<GradMax>::default(), SidePolicy::Incoming),
            (Box::<GradMax>::default(), SidePolicy::Outgoing),
            (Box::<Random>::default(), SidePolicy::Incoming),
        ];
        for (method, zero_side) in methods {
            let grower = Grower::boxed(method).with_placement(Placement { zero_side, ..Placement::default() });
            let plan = planned(&network, config.head);
            let growth = grower.grow(&network, &SgdConfig::new().init(), &plan, pass);
            let growth = growth.unwrap_or_else(|error| panic!("case {case}, {config:?}: {error}"));
            assert_eq!(growth.receipt.output_change, Some(0.0), "case {case}, {config:?}");
            for receipt in &growth.receipt.sites {
                let (received, predicted) = (receipt.gradient_norm.unwrap(), receipt.predicted_gradient_norm);
                assert!((received - predicted).abs() <= 1e-4 * predicted.max(received), "case {case}: {receipt:?}");
            }
        }
    }
}

/// What a token is told depends on those before it only.
#[test]
fn attention_does_not_look_ahead() {
    for case in 0..20 {
        let seed = Seed::new(case);
        let config = drawn(seed.fold("architecture"));
        let network = trained(&config, seed.fold("weights")).valid();
        let input = tokens([2, 6], config.vocabulary, seed.fold("input"));
        let whole = network.forward(input.clone());
        for length in 1..6 {
            let part = network.forward(input.clone().narrow(1, 0, length));
            let difference = (part - whole.clone().narrow(1, 0, length)).abs().max().into_scalar::<f64>();
            assert!(difference < 1e-4, "case {case}, {length} tokens: {difference}");
        }
    }
}
