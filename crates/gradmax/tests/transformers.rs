//! Transformers grow exactly: drawn architectures, every kind of site.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::nn::LinearConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, AdamWConfig, ModuleOptimizer, MuonConfig, SgdConfig};
use burn::tensor::{Int, Tensor, TensorData};
use common::{Keep, Seen, device, weights, widths_of};
use gradmax::event::{Grower, Pass, Planned};
use gradmax::methods::{
    GradMax, GrowthMethod, Interleave, METHODS, Need, Net2Wider, Outputs, Placement, Random, Request, Scale,
    SidePolicy, Stack,
};
use gradmax::networks::{
    Architecture, Described, Gpt, GptConfig, Positions, TransformerBlock, TransformerNorm, Vit, VitConfig,
};
use gradmax::policies::{Amount, Marginal, Order as PolicyOrder, Periodic};
use gradmax::site::{Activation, Gate, Growable, Probe, Site, SiteWidth};
use gradmax::surgery::{NewNeurons, matrix_optimizer_on};
use gradmax::training::{
    GrowthBatch, GrowthSettings, InMemory, NextToken, OnFailure, Run, Settings, Shrink, Supervised, Target, Task,
    Trainer, checkpoint,
};
use gradmax::{Error, Matrix, Options, Seed};
use rand::RngExt;

/// Small transformers of any kind; some blocks have no heads or no neurons.
fn drawn(seed: Seed) -> GptConfig {
    let mut rng = seed.rng();
    let blocks = (0..rng.random_range(1..4)).map(|_| TransformerBlock {
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
        norm: [TransformerNorm::Rms, TransformerNorm::Layer][rng.random_range(0..2)],
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

/// A pass over so many drawn sequences, in which every token has another to foretell.
fn foretelling(
    config: &GptConfig,
    sequences: usize,
    seed: Seed,
) -> impl Fn(&Gpt, &mut dyn Probe) -> Pass<Tensor<3>> + use<> {
    let [input, target] = ["input", "target"].map(|what| tokens([sequences, 6], config.vocabulary, seed.fold(what)));
    move |network, probe| {
        let output = network.forward_probed(input.clone(), probe);
        Pass { loss: NextToken.loss(&output, &target), output }
    }
}

/// Twenty times the initial weights, so that attention and norms matter.
fn trained<A: Architecture>(config: &A, seed: Seed) -> A::Network {
    struct Larger;
    impl ModuleMapper for Larger {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match D {
                2 => param.map(|weight| weight.mul_scalar(20.0).detach().require_grad()),
                _ => param,
            }
        }
    }
    config.init(seed, &device()).unwrap().map(&mut Larger)
}

/// Two heads and three neurons more in each block.
fn planned(network: &impl Growable, head: usize) -> Vec<Planned> {
    let count = |site: &str| if site.ends_with("heads") { 2 * head } else { 3 };
    network.sites().into_iter().map(|site| Planned { count: count(&site.name), site: site.name }).collect()
}

#[test]
fn every_site_of_drawn_transformers_grows_exactly() {
    for case in 0..200 {
        let seed = Seed::new(case);
        let config = drawn(seed.fold("architecture"));
        let network = trained(&config, seed.fold("weights"));
        let pass = foretelling(&config, 3, seed);
        let methods: [(Box<dyn GrowthMethod>, SidePolicy); 3] = [
            (Box::<GradMax>::default(), SidePolicy::Incoming),
            (Box::<GradMax>::default(), SidePolicy::Outgoing),
            (Box::<Random>::default(), SidePolicy::Incoming),
        ];
        for (method, zero_side) in methods {
            let grower = Grower::boxed(method).with_placement(Placement { zero_side, ..Placement::default() });
            let plan = planned(&network, config.head);
            let growth = grower.grow(&network, &SgdConfig::new().init(), &plan, &pass);
            let growth = growth.unwrap_or_else(|error| panic!("case {case}, {config:?}: {error}"));
            assert_eq!(growth.receipt.output_change, Some(0.0), "case {case}, {config:?}");
            for receipt in &growth.receipt.sites {
                let (received, predicted) = (receipt.gradient_norm.unwrap(), receipt.predicted_gradient_norm);
                assert!((received - predicted).abs() <= 1e-4 * predicted.max(received), "case {case}: {receipt:?}");
            }
        }
    }
}

/// Image classifiers of the same blocks, whose tokens look at all others.
#[test]
fn every_site_of_drawn_image_transformers_grows_exactly() {
    for case in 0..40 {
        let seed = Seed::new(case);
        let GptConfig { width, head, blocks, norm, activation, gated, .. } = drawn(seed.fold("architecture"));
        let (patch, classes) = (1 + case as usize % 3, 4);
        let input = [1 + case as usize % 2, 2 * patch, 3 * patch];
        let config = VitConfig { input, patch, classes, width, head, blocks, norm, activation, gated };
        let network = trained(&config, seed.fold("weights"));
        let mut rng = seed.fold("images").rng();
        let count = 5 * input.iter().product::<usize>();
        let images = (0..count).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
        let shape = [5, input[0], input[1], input[2]];
        let images = Tensor::<4>::from_data(TensorData::new(images, shape), &device().inner());
        let target = Target::classes((0..5).map(|image| image % 4), &device().inner());
        let pass = |network: &Vit, probe: &mut dyn Probe| {
            let output = network.forward_probed(images.clone(), probe);
            Pass { loss: Supervised::Classification.loss(&output, &target), output }
        };
        for zero_side in [SidePolicy::Incoming, SidePolicy::Outgoing] {
            let grower =
                Grower::new(GradMax::default()).with_placement(Placement { zero_side, ..Placement::default() });
            let plan = planned(&network, head);
            let growth = grower.grow(&network, &SgdConfig::new().init(), &plan, pass);
            let growth = growth.unwrap_or_else(|error| panic!("case {case}, {config:?}: {error}"));
            assert_eq!(growth.receipt.output_change, Some(0.0), "case {case}, {config:?}");
            for receipt in &growth.receipt.sites {
                let (received, predicted) = (receipt.gradient_norm.unwrap(), receipt.predicted_gradient_norm);
                assert!((received - predicted).abs() <= 1e-4 * predicted.max(received), "case {case}: {receipt:?}");
            }
        }
        let names = network.weights().into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>();
        let written = |site: &Site| names.contains(&network.written_by(&site.name).unwrap().0);
        assert!(network.sites().iter().all(written), "{names:?}");
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

/// Outgoing weights that are drawn, with the companions that GradMax has.
#[derive(Debug)]
struct DrawnOutgoing;

impl GrowthMethod for DrawnOutgoing {
    fn name(&self) -> &str {
        "drawn_outgoing"
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Operator]
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let mut rng = request.rng();
        let mut outgoing = Matrix::from_fn(request.fan_out, request.count, |_, _| rng.random_range(-1.0..1.0));
        // Orthonormal, as GradMax's are: copies of the best direction would receive more.
        for j in 0..request.count {
            for earlier in 0..j {
                let along = outgoing.col(earlier).transpose() * outgoing.col(j);
                (0..request.fan_out).for_each(|i| outgoing[(i, j)] -= along * outgoing[(i, earlier)]);
            }
            let norm = outgoing.col(j).norm_l2();
            (0..request.fan_out).for_each(|i| outgoing[(i, j)] /= norm);
        }
        let incoming = Matrix::zeros(request.count, request.fan_in);
        Ok(NewNeurons::new(incoming, outgoing, vec![0.0; request.count]))
    }
}

/// Of unit neurons none receives more than GradMax's with the same queries, keys and gates; and of other companions, as large,
/// few are better than those that are chosen.
#[test]
fn no_drawn_direction_and_few_companions_receive_a_larger_gradient() {
    for case in 0..4 {
        let seed = Seed::new(case);
        let blocks = vec![TransformerBlock { heads: 2, neurons: 5 }, TransformerBlock { heads: 1, neurons: 0 }];
        let config = GptConfig { gated: case % 2 == 1, blocks, width: 8, ..drawn(seed.fold("architecture")) };
        let network = trained(&config, seed.fold("weights"));
        let pass = foretelling(&config, 4, seed);
        let placement =
            Placement { zero_side: SidePolicy::Incoming, scale: Scale::Fixed, factor: 1.0, ..Placement::default() };
        let norms = |method: Box<dyn GrowthMethod>, draw: u64| {
            let grower = Grower::boxed(method).with_placement(placement).with_seed(Seed::new(draw));
            let plan = everywhere(&network, &config);
            let growth = grower.grow(&network, &SgdConfig::new().init(), &plan, &pass).unwrap();
            growth.receipt.sites.iter().map(|site| site.gradient_norm.unwrap()).collect::<Vec<_>>()
        };
        let mut better = vec![0; network.sites().len()];
        let chosen = norms(Box::<GradMax>::default(), 0);
        for draw in 0..50 {
            let best = norms(Box::<GradMax>::default(), draw);
            for (site, (best, drawn)) in best.iter().zip(norms(Box::new(DrawnOutgoing), draw)).enumerate() {
                assert!(*best >= drawn * (1.0 - 1e-5), "case {case}, site {site}: {best} against {drawn}");
            }
            let of_drawn = norms(Box::<Random>::default(), draw);
            better.iter_mut().zip(chosen.iter().zip(of_drawn)).for_each(|(better, (chosen, drawn))| {
                *better += usize::from(drawn > *chosen);
            });
        }
        assert!(better.iter().all(|better| *better <= 2), "case {case}: {better:?} of 50 drawn companions are better");
    }
}

/// One head, or one neuron, more at each site.
fn everywhere(network: &Gpt, config: &GptConfig) -> Vec<Planned> {
    let count = |site: &str| if site.ends_with("heads") { config.head } else { 1 };
    network.sites().into_iter().map(|site| Planned { count: count(&site.name), site: site.name }).collect()
}

/// A method of the registry either grows heads and gated neurons exactly, or says why it does not.
#[test]
fn every_method_grows_heads_and_gates_or_refuses() {
    let blocks = vec![TransformerBlock { heads: 2, neurons: 5 }];
    let config = GptConfig { gated: true, blocks, ..drawn(Seed::new(1)) };
    let network = trained(&config, Seed::new(2));
    let pass = foretelling(&config, 4, Seed::new(3));
    let mut refused = Vec::new();
    for named in METHODS {
        let method = named.with(&Options::new()).unwrap().0;
        let grower = Grower::boxed(method);
        match grower.grow(&network, &SgdConfig::new().init(), &planned(&network, config.head), &pass) {
            // Copies are pushed a little away from their originals.
            Ok(growth) if named.name() == "split" => assert!(growth.receipt.output_change.unwrap() < 0.1),
            Ok(growth) => assert_eq!(growth.receipt.output_change, Some(0.0), "{}", named.name()),
            Err(error) => {
                let said = error.to_string();
                // What splits neurons by what it sees of them, what leaves neither side zero, and what needs biases.
                let reasons = [
                    "methods that change or split neurons",
                    "leaves neither side zero",
                    "it needs biases",
                    "it copies whole blocks",
                    "it copies the nearest block in front",
                ];
                assert!(reasons.iter().any(|reason| said.contains(reason)), "{}: {said}", named.name());
                refused.push(named.name());
            }
        }
    }
    assert!(refused.len() < METHODS.len() / 2 + 1 && !refused.contains(&"gradmax"), "{refused:?}");
}

/// Weights of all parameters by the rest of their path, of one block.
fn block_weights(network: &Gpt, block: usize) -> BTreeMap<String, Vec<f32>> {
    struct OfBlock {
        block: usize,
        path: Vec<String>,
        found: BTreeMap<String, Vec<f32>>,
    }
    impl ModuleVisitor for OfBlock {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_string());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let prefix = format!("blocks.{}.", self.block);
            if let Some(rest) = self.path.join(".").strip_prefix(&prefix) {
                self.found.insert(rest.to_string(), param.val().into_data().try_to_vec().unwrap());
            }
        }
    }
    let mut of_block = OfBlock { block, path: Vec::new(), found: BTreeMap::new() };
    network.visit(&mut of_block);
    assert!(!of_block.found.is_empty());
    of_block.found
}

/// As [`trained`], with norms and biases that are not as they were at the start.
fn trained_all(config: &GptConfig, seed: Seed) -> Gpt {
    struct Moved(rand::rngs::ChaCha8Rng);
    impl ModuleMapper for Moved {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if D > 1 {
                return param;
            }
            param.map(|vector| {
                let vector = vector.inner();
                let count = vector.dims()[0];
                let entries = (0..count).map(|_| self.0.random_range(-0.5..0.5)).collect::<Vec<f32>>();
                let entries = Tensor::<1>::from_data(TensorData::new(entries, [count]), &vector.device());
                Tensor::from_inner(entries.reshape(vector.dims()) + vector).require_grad()
            })
        }
    }
    trained(config, seed).map(&mut Moved(seed.fold("vectors").rng()))
}

/// Blocks that are copied are the originals again, norms and biases included; with zeros at their outputs nothing changes,
/// and their gradients are as predicted. What cannot be copied is refused.
#[test]
fn blocks_are_copied_whole() {
    for case in 0..60 {
        let seed = Seed::new(case);
        let block = TransformerBlock { heads: 1 + case as usize % 3, neurons: 3 };
        let empty = TransformerBlock { heads: 0, neurons: 0 };
        let (mut blocks, interleaves) = (vec![block, block, empty, empty], case % 2 == 1);
        if interleaves {
            blocks.swap(1, 2);
        }
        let config = GptConfig { blocks, ..drawn(seed.fold("architecture")) };
        let network = trained_all(&config, seed.fold("weights"));
        let pass = foretelling(&config, 3, seed);
        let widths = config.site_widths();
        let counts = widths.iter().zip(Amount::Blocks(2).of(&widths)).filter(|(_, count)| *count > 0);
        let plan = counts.map(|(at, count)| Planned { site: at.site.clone(), count }).collect::<Vec<_>>();
        assert_eq!(plan.len(), 4);
        let grow = |outputs: Outputs| {
            let method: Box<dyn GrowthMethod> = match interleaves {
                true => Box::new(Interleave { outputs }),
                false => Box::new(Stack { outputs }),
            };
            let growth = Grower::boxed(method).grow(&network, &SgdConfig::new().init(), &plan, &pass);
            growth.unwrap_or_else(|error| panic!("case {case}, {config:?}: {error}"))
        };
        let (copies, silent) = (grow(Outputs::Copied), grow(Outputs::Zero));
        assert!(copies.receipt.output_change.unwrap() > 1e-3, "case {case}");
        assert_eq!(silent.receipt.output_change, Some(0.0), "case {case}, {config:?}");
        for (copy, original) in if interleaves { [(1, 0), (3, 2)] } else { [(2, 0), (3, 1)] } {
            let [copied, silent, original] = [(&copies.network, copy), (&silent.network, copy), (&network, original)]
                .map(|(network, block)| block_weights(network, block));
            assert_eq!(copied.keys().collect::<Vec<_>>(), original.keys().collect::<Vec<_>>());
            for (name, original) in original {
                let writes = name.starts_with("attention.output") || name.starts_with("down");
                let norm = |weights: &[f32]| weights.iter().map(|weight| weight * weight).sum::<f32>().sqrt();
                let apart = |weights: &[f32]| weights.iter().zip(&original).map(|(a, b)| a - b).collect::<Vec<_>>();
                // Shifts are differences, and so are exact to rounding.
                assert!(norm(&apart(&copied[&name])) <= 1e-6 * norm(&original), "case {case}: {name}");
                match writes {
                    true => assert!(!name.ends_with("weight") || norm(&silent[&name]) == 0.0, "case {case}: {name}"),
                    false => assert!(norm(&apart(&silent[&name])) <= 1e-6 * norm(&original), "case {case}: {name}"),
                }
            }
        }
        for receipt in &silent.receipt.sites {
            let (received, predicted) = (receipt.outgoing_gradient_norm.unwrap(), receipt.gradient_norm.unwrap());
            assert!(received > 0.0 && predicted == 0.0, "case {case}: {receipt:?}");
        }
        let part = [Planned { count: config.head * (block.heads + 1), ..plan[0].clone() }];
        let there = [Planned { site: "block1.neurons".into(), count: 3 }];
        for (plan, says) in [(part.as_slice(), "are planned"), (there.as_slice(), "grow by `blocks`")] {
            let refused = Grower::new(Interleave::default()).grow(&network, &SgdConfig::new().init(), plan, &pass);
            let said = refused.err().unwrap().to_string();
            assert!(said.contains(says) && said.contains("interleave"), "{said}");
        }
    }
}

/// Heads and gated neurons are split in two, queries, keys and gates included.
#[test]
fn heads_and_gated_neurons_are_split() {
    for case in 0..40 {
        let seed = Seed::new(case);
        let blocks = vec![TransformerBlock { heads: 2, neurons: 5 }; 2];
        let config = GptConfig { blocks, ..drawn(seed.fold("architecture")) };
        let network = trained_all(&config, seed.fold("weights"));
        let pass = foretelling(&config, 3, seed);
        let plan = planned(&network, config.head);
        let grower = Grower::new(Net2Wider { noise: 0.0 }).with_seed(seed);
        let growth = grower.grow(&network, &SgdConfig::new().init(), &plan, &pass);
        let growth = growth.unwrap_or_else(|error| panic!("case {case}, {config:?}: {error}"));
        assert!(growth.receipt.output_change.unwrap() < 1e-5, "case {case}: {:?}", growth.receipt.output_change);
        for receipt in &growth.receipt.sites {
            let (received, predicted) = (receipt.gradient_norm.unwrap(), receipt.predicted_gradient_norm);
            assert!(received > 0.0 && (received - predicted).abs() <= 1e-3 * received, "case {case}: {receipt:?}");
        }
    }
}

/// Units that nothing reads are removed, heads whole with their queries and keys, and nothing changes.
#[test]
fn units_that_do_nothing_are_removed() {
    for case in 0..6 {
        let seed = Seed::new(case);
        let blocks = vec![TransformerBlock { heads: 3, neurons: 6 }, TransformerBlock { heads: 2, neurons: 4 }];
        // Of a rectifier, others may be silent too.
        let (gated, activation) = (case % 2 == 0, Activation::Gelu);
        let config = GptConfig { blocks, gated, activation, ..drawn(seed.fold("architecture")) };
        let (head, examples) = (config.head, data(&config));
        // Two heads in the middle and at the end, and two neurons of each block, have no outgoing weights.
        let silenced = |path: &str, inputs: usize| match path {
            "blocks.0.attention.output.weight" => (0..inputs).map(|input| input / head == 1).collect(),
            "blocks.1.attention.output.weight" => (0..inputs).map(|input| input / head == 1).collect(),
            "blocks.0.down.weight" | "blocks.1.down.weight" => {
                (0..inputs).map(|input| [1, 3].contains(&input)).collect::<Vec<bool>>()
            }
            _ => Vec::new(),
        };
        let network = trained_all(&config, seed.fold("weights")).map(&mut Silencing { path: Vec::new(), silenced });
        let trainer = Trainer::new(Settings { batch_size: Some(8), ..Settings::new(1, 0.1) }, NextToken, &examples);
        // As many as there are: two heads and four neurons of five and ten.
        let (shrunk, _) = trainer.shrunk(&network, Shrink::Share(0.4), 24).unwrap();
        let widths = shrunk.sites().iter().map(Site::width).collect::<Vec<_>>();
        assert_eq!(widths, [2 * head, 4, head, 2], "case {case}");
        let input = tokens([3, 6], config.vocabulary, seed.fold("input"));
        let [before, after] = [&network, &shrunk].map(|network| network.valid().forward(input.clone()));
        assert!((before - after).abs().max().into_scalar::<f64>() < 1e-4, "case {case}");
    }
}

/// Sets the weights to zero that lead out of some inputs of some layers.
struct Silencing<F> {
    path: Vec<String>,
    silenced: F,
}

impl<F: Fn(&str, usize) -> Vec<bool>> ModuleMapper for Silencing<F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let silenced = (self.silenced)(&self.path.join("."), param.val().dims()[0]);
        if silenced.is_empty() {
            return param;
        }
        param.map(|weight| {
            let weight = weight.inner();
            let kept = silenced.iter().map(|silenced| if *silenced { 0.0 } else { 1.0 }).collect::<Vec<f32>>();
            let kept = Tensor::<2>::from_data(TensorData::new(kept, [silenced.len(), 1]), &weight.device());
            let shape = weight.dims();
            let rows = weight.reshape([shape[0], shape[1..].iter().product::<usize>()]);
            Tensor::from_inner((rows * kept).reshape(shape)).require_grad()
        })
    }
}

/// What heads and gated neurons gain is told too, and whether evidence is kept or seen again makes no difference.
#[test]
fn transformers_grow_by_what_units_gain() {
    for gated in [false, true] {
        let blocks = vec![TransformerBlock { heads: 1, neurons: 3 }, TransformerBlock { heads: 0, neurons: 0 }];
        let config = GptConfig { gated, blocks, head: 4, width: 8, ..drawn(Seed::new(5)) };
        let examples = data(&config);
        let train = |memory: usize| {
            let policy = Marginal { tau: 0.0, every: 4, amount: Amount::Geometric(1.0), ..Marginal::default() };
            let growth = GrowthSettings {
                policy: Box::new(policy),
                grower: Grower::new(GradMax::default()).with_evidence_memory(memory),
                batch: GrowthBatch::Training,
                on_failure: OnFailure::Stop,
            };
            let settings = Settings { batch_size: Some(8), ..Settings::new(13, 0.05) };
            let run = Run::new(config.init(Seed::new(6), &device()).unwrap(), SgdConfig::new().init());
            let run = Trainer::new(settings, NextToken, &examples).with_growth(growth).train(run).unwrap().run;
            run.progress.sites.into_iter().map(|at| (at.width, at.seed)).collect::<Vec<_>>()
        };
        let kept = train(usize::MAX);
        assert!(kept.iter().any(|(width, seed)| width > seed), "gated {gated}: nothing has grown: {kept:?}");
        assert_eq!(kept, train(0), "gated {gated}");
    }
}

fn data(config: &GptConfig) -> InMemory<Tensor<2, Int>, Tensor<2, Int>> {
    let text = tokens([24, 7], config.vocabulary, Seed::new(8));
    InMemory::new(text.clone().narrow(1, 0, 6), text.narrow(1, 1, 6))
}

/// Trains with growth of heads, gated neurons and a block that is not there at first, or by copies of blocks, in one go
/// and resumed.
#[test]
fn transformers_that_grow_resume_bit_for_bit() {
    let blocks = vec![TransformerBlock { heads: 1, neurons: 3 }, TransformerBlock { heads: 0, neurons: 0 }];
    let wider = GptConfig { gated: true, blocks: blocks.clone(), head: 4, width: 8, ..drawn(Seed::new(5)) };
    // A head of 4 at a time, and two neurons of 3; where there were none, one unit.
    check_resuming("wider", &wider, || Box::<GradMax>::default(), Amount::Fraction(0.7), &[16, 9, 12, 3]);
    let deeper = GptConfig { blocks: [&blocks[..], &blocks[1..], &blocks[1..]].concat(), ..wider };
    let copied = [4, 3].repeat(4);
    check_resuming("stacked", &deeper, || Box::<Stack>::default(), Amount::Blocks(1), &copied);
    let silent = || Box::new(Interleave { outputs: Outputs::Zero }) as Box<dyn GrowthMethod>;
    check_resuming("interleaved", &deeper, silent, Amount::Blocks(1), &copied);
    check_resuming("new", &deeper, || Box::<GradMax>::default(), Amount::Blocks(1), &copied);
}

fn check_resuming(
    what: &str,
    config: &GptConfig,
    method: impl Fn() -> Box<dyn GrowthMethod>,
    amount: Amount,
    widths: &[usize],
) {
    let examples = data(config);
    let sgd = || {
        let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: true };
        SgdConfig::new().with_momentum(Some(momentum)).init()
    };
    let muon = || {
        let (matrices, others) = (MuonConfig::new().build(), AdamConfig::new().build());
        matrix_optimizer_on(matrices, others, &["tokens", "positions"], &device())
    };
    let optimizers: [(&str, &dyn Fn() -> ModuleOptimizer); 4] = [
        ("sgd", &sgd),
        ("adam", &|| AdamConfig::new().init()),
        ("adamw", &|| AdamWConfig::new().init()),
        ("muon", &muon),
    ];
    for (name, optimizer) in optimizers {
        let train = |run: Run<Gpt>, (folder, stop): (Option<PathBuf>, Option<usize>)| {
            let (flag, mut seen) = (AtomicBool::new(false), Seen::default());
            let policy = Periodic { start: 4, every: 4, times: 3, order: PolicyOrder::AllAtOnce, amount, stretch: 1.0 };
            let growth = GrowthSettings {
                policy: Box::new(policy),
                grower: Grower::boxed(method()).with_seed(Seed::new(8)),
                batch: GrowthBatch::Training,
                on_failure: OnFailure::Stop,
            };
            let settings = Settings { batch_size: Some(8), average: Some(0.9), ..Settings::new(20, 0.01) };
            let trainer = Trainer::new(settings, NextToken, &examples)
                .with_growth(growth)
                .with_observer(Keep { seen: &mut seen, folder, stop: stop.map(|at| (at, &flag)) })
                .with_stop(&flag);
            (trainer.train(run).unwrap().run, seen.receipts.len())
        };
        let start = || Run::new(config.init(Seed::new(6), &device()).unwrap(), optimizer());
        let (whole, events) = train(start(), (None, None));
        let grown = whole.network.sites().iter().map(|site| site.width()).collect::<Vec<_>>();
        assert_eq!((events, grown.as_slice()), (3, widths), "{what}, {name}");
        for stop in [3, 4, 5, 11, 13] {
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("transformers");
            let folder = folder.join(format!("{what}-{name}{stop}"));
            train(start(), (Some(folder.clone()), Some(stop)));
            let network =
                |sites: &[SiteWidth]| config.with_site_widths(&widths_of(sites)).init(Seed::new(9), &device());
            let resumed = checkpoint::load(&folder, network, optimizer()).unwrap();
            let (resumed, _) = train(resumed, (None, None));
            assert!(weights(&resumed.network) == weights(&whole.network), "{what}, {name} stopped at {stop}");
        }
    }
}

#[test]
fn neurons_of_several_writers_have_no_companions() {
    let dense = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device());
    let (first, second, output, gate) = (dense(4, 3), dense(5, 3), dense(3, 2), dense(4, 3));
    let gate = Gate { layer: gate, activation: Activation::Silu };
    let one = Site::new("hidden", &first, (), &output).seeing_through(gate.clone());
    assert!(one.check().is_ok());
    let several = Site::written_by("stream", &first).plus(&second).and((), &output).seeing_through(gate);
    assert!(matches!(several.check(), Err(Error::CompanionsOfSeveral { .. })));
    let narrow = Gate { layer: dense(4, 2), activation: Activation::Silu };
    let wrong = Site::new("hidden", &first, (), &output).seeing_through(narrow).check();
    assert!(matches!(wrong, Err(Error::SiteMismatch { reads: 2, offered: 3, .. })), "{wrong:?}");
}
