//! A convolutional network of your own, with a residual block and batch norm: what it takes to let it grow.
//!
//! `cargo run --release -p gradmax --example own_conv_network`

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::AdamConfig;
use burn::tensor::{Device, Distribution, Tensor};
use gradmax::Error;
use gradmax::event::Grower;
use gradmax::methods::GradMax;
use gradmax::policies::{Amount, Order, Periodic};
use gradmax::site::{Activation, Growable, Probe, Site, global_average};
use gradmax::training::{GrowthBatch, GrowthSettings, InMemory, OnFailure, Run, Settings, Supervised, Target, Trainer};

#[derive(Module, Debug)]
struct Network {
    stem: Conv2d,
    conv1: Conv2d,
    norm: BatchNorm,
    conv2: Conv2d,
    output: Linear,
}

impl Network {
    fn new(device: &Device) -> Self {
        let conv = |channels| {
            let same = PaddingConfig2d::Explicit(1, 1, 1, 1);
            Conv2dConfig::new(channels, [3, 3]).with_padding(same).init(device)
        };
        Self {
            stem: conv([1, 8]),
            conv1: conv([8, 2]),
            norm: BatchNormConfig::new(2).init(device),
            conv2: conv([2, 8]),
            output: LinearConfig::new(8, 2).init(device),
        }
    }
}

impl Growable for Network {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    // One line for the channels inside the block: who computes them, what lies between, who reads them.
    fn sites(&self) -> Vec<Site> {
        vec![Site::new("block", &self.conv1, (&self.norm, Activation::Relu), &self.conv2)]
    }

    fn forward_probed(&self, images: Tensor<4>, probe: &mut dyn Probe) -> Tensor<2> {
        let maps = Activation::Relu.apply(self.stem.forward(images));
        let inside = Activation::Relu.apply(self.norm.forward(self.conv1.forward(maps.clone())));
        // And one line here: what the first layer read, and what the second gives.
        let residual = probe.site("block", &maps, self.conv2.forward(inside));
        self.output.forward(global_average(Activation::Relu.apply(maps + residual)))
    }
}

fn main() -> Result<(), Error> {
    let device = Device::flex();
    device.seed(1);
    // Which of two textures: horizontal differences, or vertical ones.
    let noise = Tensor::<4>::random([400, 1, 9, 9], Distribution::Normal(0.0, 1.0), &device);
    let smooth = |axis| noise.clone().narrow(axis, 0, 8) + noise.clone().narrow(axis, 1, 8);
    let (rows, columns) = (smooth(2).narrow(3, 0, 8), smooth(3).narrow(2, 0, 8));
    let images = Tensor::cat(vec![rows.narrow(0, 0, 200), columns.narrow(0, 200, 200)], 0);
    let data = InMemory::<Tensor<4>>::new(images, Target::classes((0..400).map(|index| index / 200), &device));

    let schedule =
        Periodic { start: 40, every: 40, times: 3, order: Order::AllAtOnce, amount: Amount::Count(2), stretch: 1.0 };
    let growth = GrowthSettings {
        policy: Box::new(schedule),
        grower: Grower::new(GradMax::default()),
        batch: GrowthBatch::Training,
        on_failure: OnFailure::Stop,
    };
    let settings = Settings { batch_size: Some(50), ..Settings::new(200, 0.01) };
    let run = Run::new(Network::new(&device.autodiff()), AdamConfig::new().init());
    let outcome = Trainer::new(settings, Supervised::Classification, &data).with_growth(growth).train(run)?;

    let train = outcome.finished.expect("nothing stopped it").train;
    println!("{} channels inside the block, loss {:.4}", outcome.run.progress.sites[0].width, train.loss);
    assert_eq!(outcome.run.progress.sites[0].width, 8);
    Ok(())
}
