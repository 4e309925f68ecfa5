//! Residual streams grow exactly: at all their writers and all their readers.

mod common;

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::Tensor;
use common::{Batch, Images, all_gradients, check_growth, device, everywhere, normal, weights};
use gradmax::event::{EventContext, Grower, Look, Part, Pass, Planned};
use gradmax::methods::{GradMax, GrowthMethod, Need, Net2Wider, Placement, Random, Request, SidePolicy};
use gradmax::modules::NormKind;
use gradmax::networks::{Architecture, HiddenPath, MlpConfig, WideResNet, WideResNetConfig};
use gradmax::operator::LinearOperator;
use gradmax::site::{Activation, EntriesOf, Growable, Probe, Site, trainable_parameters};
use gradmax::surgery::NewNeurons;
use gradmax::{Error, Matrix, Seed};

/// A residual stream of dense layers with batch norm: a stem and two blocks write it, the blocks and the output read
/// it.
#[derive(Module, Debug)]
struct Residual {
    stem: Linear,
    blocks: Vec<Block>,
    norm: BatchNorm,
    output: Linear,
}

#[derive(Module, Debug)]
struct Block {
    norm: BatchNorm,
    first: Linear,
    second: Linear,
}

impl Residual {
    fn new(width: usize) -> Self {
        let dense = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device());
        let norm = || BatchNormConfig::new(width).init(&device());
        let block = |inside| Block { norm: norm(), first: dense(width, inside), second: dense(inside, width) };
        Self { stem: dense(5, width), blocks: vec![block(3), block(6)], norm: norm(), output: dense(width, 2) }
    }
}

impl Growable for Residual {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        let stream = Site::written_by("stream", &self.stem);
        let stream = self.blocks.iter().fold(stream, |stream, block| {
            stream.and((&block.norm, Activation::Relu), &block.first).plus(&block.second)
        });
        let inside =
            self.blocks.iter().enumerate().map(|(index, block)| {
                Site::new(format!("block{index}"), &block.first, [Activation::Tanh], &block.second)
            });
        inside.chain([stream.and((&self.norm, Activation::Relu), &self.output)]).collect()
    }

    fn forward_probed(&self, input: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
        probe.write("stream", 0, &input);
        let mut stream = self.stem.forward(input);
        for (index, block) in self.blocks.iter().enumerate() {
            let read = Activation::Relu.apply(block.norm.forward(stream.clone()));
            let neurons = Activation::Tanh.apply(probe.read("stream", index, block.first.forward(read.clone())));
            probe.write("stream", 1 + index, &neurons);
            stream = stream + probe.site(&format!("block{index}"), &read, block.second.forward(neurons));
        }
        let read = Activation::Relu.apply(self.norm.forward(stream));
        probe.read("stream", self.blocks.len(), self.output.forward(read))
    }
}

/// The gradients that a training step goes on with after growth are those of the grown network.
fn check_training_pass<N: Growable<Output = Tensor<2>>>(network: &N, pass: impl Fn(&N, &mut dyn Probe) -> Pass) {
    for zero_side in [SidePolicy::Incoming, SidePolicy::Outgoing] {
        let grower = Grower::new(Random {}).with_placement(Placement { zero_side, ..Placement::default() });
        let context = EventContext { batch_is_training_step: true, ..EventContext::default() };
        let (optimizer, plan) = (SgdConfig::new().init(), everywhere(network, 2));
        let growth = grower.grow_on(network, &optimizer, &plan, &[Part::whole(&pass)], context).unwrap();
        assert!(growth.receipt.output_change.unwrap() <= 1e-6, "{:?}", growth.receipt);
        let copy = growth.network.valid().train();
        let own = all_gradients(&copy, &GradientsParams::from_grads(pass(&copy, &mut ()).loss.backward(), &copy));
        let reused = all_gradients(&growth.network, &growth.training_pass.unwrap().gradients);
        assert_eq!(own.len(), reused.len());
        let scale = own.iter().flat_map(|(_, own)| own).fold(0.0_f32, |largest, x| largest.max(x.abs()));
        for ((id, own), (reused_id, reused)) in own.iter().zip(&reused) {
            assert_eq!((id, own.len()), (reused_id, reused.len()));
            let near = own.iter().zip(reused).all(|(a, b)| (a - b).abs() <= 1e-5 * scale);
            assert!(near, "{zero_side:?} {own:?} {reused:?}");
        }
    }
}

#[test]
fn a_training_step_goes_on_from_the_growth_of_a_residual_stream() {
    let batch = Batch::new(20, 5, 2);
    check_training_pass(&Residual::new(4), |network, probe| batch.pass(network, probe));
}

#[test]
fn what_paths_add_to_a_layer_of_a_perceptron_is_seen() {
    let paths = vec![HiddenPath { from: 0, to: 2, width: 3 }, HiddenPath { from: 1, to: 2, width: 0 }];
    let config = MlpConfig { paths, ..MlpConfig::new(5, &[4, 4], 2, Activation::Tanh) };
    let network = config.init(Seed::new(1), &device()).unwrap();
    assert_eq!(network.sites()[1].fan_in(), 4 + 3);
    let batch = Batch::new(20, 5, 2);
    check_training_pass(&network, |network, probe| batch.pass(network, probe));
}

#[test]
fn a_channel_of_a_residual_stream_can_be_split() {
    let (network, batch) = (Residual::new(4), Batch::new(20, 5, 2));
    let plan = [Planned { site: "stream".into(), count: 2 }];
    let grown = Grower::new(Net2Wider { noise: 0.0 })
        .grow(&network, &SgdConfig::new().init(), &plan, |n, p| batch.pass(n, p))
        .unwrap();
    assert!(grown.receipt.output_change.unwrap() <= 1e-5, "{:?}", grown.receipt);
}

#[test]
fn a_reader_that_is_shown_before_one_of_its_writers_is_refused() {
    #[derive(Module, Debug)]
    struct Early {
        inner: Residual,
    }
    impl Growable for Early {
        type Input = Tensor<2>;
        type Output = Tensor<2>;
        fn sites(&self) -> Vec<Site> {
            self.inner.sites()
        }
        fn forward_probed(&self, input: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
            let output = probe.read("stream", 2, Tensor::zeros([20, 2], &input.device()));
            self.inner.forward_probed(input, probe) + output
        }
    }
    let (network, input) = (Early { inner: Residual::new(4) }, normal([20, 5], 1));
    let plan = everywhere(&network, 1);
    let pass = |network: &Early, probe: &mut dyn Probe| {
        let output = network.forward_probed(input.clone(), probe);
        Pass { loss: output.clone().square().mean(), output }
    };
    let grown = Grower::new(GradMax::default()).grow(&network, &SgdConfig::new().init(), &plan, pass);
    let error = grown.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::WriterNotShown { writer: 0, consumer: 2, .. }), "{error}");
}

/// New neurons with zero incoming weights and these outgoing ones.
struct Given(Matrix);

impl GrowthMethod for Given {
    fn name(&self) -> &str {
        "given"
    }

    fn needs(&self) -> &'static [Need] {
        &[]
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        Ok(NewNeurons::unbiased(Matrix::zeros(request.count, request.fan_in), self.0.clone()))
    }
}

fn growing(depth: usize, width: usize, norm: NormKind) -> WideResNetConfig {
    WideResNetConfig { norm, input: [3, 8, 8], classes: 4, ..WideResNetConfig::new(depth, width, 0.25) }
        .with_growing_streams(0.25)
}

#[test]
fn residual_streams_of_a_wide_resnet_grow_exactly() {
    let images = Images::new(6, [3, 8, 8], 4, Seed::new(2));
    for (width, norm) in [(1, NormKind::None), (1, NormKind::Batch), (2, NormKind::None), (1, NormKind::Group(4))] {
        let network = growing(10, width, norm).init(Seed::new(1), &device()).unwrap();
        check_growth(&network, &images, &everywhere(&network, 4), &format!("{width} {norm:?}"));
        let zero_side = SidePolicy::Outgoing;
        let grower = Grower::new(GradMax::default()).with_placement(Placement { zero_side, ..Placement::default() });
        let growth = images.grow(&grower, &network, &everywhere(&network, 4)).unwrap();
        assert!(growth.receipt.output_change.unwrap() <= 1e-6, "{:?}", growth.receipt);
    }
    // A block that is not there yet reads the stream and writes it.
    let config = growing(10, 1, NormKind::Batch).with_new_blocks(1);
    let network = config.init(Seed::new(1), &device()).unwrap();
    let streams = everywhere(&network, 4).into_iter().filter(|planned| planned.site.starts_with("stream"));
    check_growth(&network, &images, &streams.collect::<Vec<_>>(), "new block");
}

#[test]
fn every_block_of_a_streams_operator_is_the_gradient_that_a_writer_receives_through_a_reader() {
    let images = Images::new(6, [3, 8, 8], 4, Seed::new(2));
    let network = growing(10, 1, NormKind::Batch).init(Seed::new(1), &device()).unwrap();
    let parts = || vec![Part::whole(|network: &WideResNet, probe: &mut dyn Probe| images.pass(network, probe))];
    let names = ["stream1", "stream2", "stream3"];
    let operators = Look::of(&network, parts()).unwrap().operators(&names).unwrap();
    let mut blocks = 0;
    for (name, operator) in names.iter().zip(&operators) {
        let site = network.sites().into_iter().find(|site| site.name == *name).unwrap();
        let mut first_row = 0;
        for path in &site.paths {
            let rows = first_row..first_row + path.consumer.fan_out();
            first_row = rows.end;
            let outgoing = Matrix::from_fn(site.fan_out(), 1, |row, _| match rows.contains(&row) {
                true => (row as f64).sin() / 10.0,
                false => 0.0,
            });
            let predicted = operator.apply(outgoing.as_ref());
            let plan = [Planned { site: (*name).into(), count: 1 }];
            let grown = images.grow(&Grower::new(Given(outgoing)), &network, &plan).unwrap().network;
            let grown = grown.valid().train();
            let gradients = GradientsParams::from_grads(images.pass(&grown, &mut ()).loss.backward(), &grown);
            let grown = grown.sites().into_iter().find(|site| site.name == *name).unwrap();
            let mut column = 0;
            for (writer, layer) in grown.writers.iter().enumerate() {
                let received = layer.incoming(EntriesOf::Gradients(&gradients)).unwrap();
                let received = common::values(received.narrow(0, site.width(), 1));
                let expected = (column..column + layer.fan_in()).map(|column| predicted[(0, column)]);
                let (mut squared, mut difference) = (0.0_f64, 0.0_f64);
                for (received, expected) in received.iter().zip(expected) {
                    squared += expected.powi(2);
                    difference += (f64::from(*received) - expected).powi(2);
                }
                column += layer.fan_in();
                // A reader does not read what writers after it write.
                assert_eq!(squared > 0.0, writer < path.writers, "{name} {writer}");
                assert!(difference.sqrt() <= 1e-4 * squared.sqrt(), "{name} {writer}: {difference} of {squared}");
                blocks += usize::from(squared > 0.0);
            }
        }
    }
    // Of two writers each; the first reader of the first stream sees one of them.
    assert_eq!(blocks, (1 + 2 + 2) + (2 + 2) + 2);
}

#[test]
fn a_wide_resnet_reaches_the_target_from_a_quarter_of_all_its_channels() {
    let target =
        WideResNetConfig { norm: NormKind::Batch, input: [3, 8, 8], classes: 4, ..WideResNetConfig::new(16, 1, 1.0) };
    let images = Images::new(6, [3, 8, 8], 4, Seed::new(2));
    let mut network = growing(16, 1, NormKind::Batch).init(Seed::new(1), &device()).unwrap();
    let (seed, mut optimizer) = (network.sites(), SgdConfig::new().init());
    for _ in 0..3 {
        network = images.step(network, &mut optimizer, 1e-3);
        let plan = seed.iter().map(|site| Planned { site: site.name.clone(), count: site.width() });
        let plan = plan.collect::<Vec<_>>();
        let growth = images.grow(&Grower::new(GradMax::default()), &network, &plan).unwrap();
        assert!(growth.receipt.output_change.unwrap() <= 1e-5, "{:?}", growth.receipt);
        (network, optimizer) = (growth.network, growth.optimizer);
    }
    let whole = target.init(Seed::new(1), &device()).unwrap();
    assert_eq!(trainable_parameters(&network), trainable_parameters(&whole));
    assert_eq!(weights(&network).len(), weights(&whole).len());
}
