//! A layer of one's own that computes and reads neurons: a transposed convolution, which upsamples maps.
//!
//! The library does not know it. The layer says where its weights lie and what it computes with other weights; the
//! derivatives that growth needs come from automatic differentiation.
//!
//! `cargo run --release -p gradmax --example own_layer`

use burn::module::{Module, Param, ParamId};
use burn::nn::conv::{ConvTranspose2d, ConvTranspose2dConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::module::conv_transpose2d;
use burn::tensor::ops::ConvTransposeOptions;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use gradmax::Matrix;
use gradmax::prelude::*;
use gradmax::site::{Consumer, EntriesOf, Extension, Input, Layer, Layout, Producer, Signal};

/// Maps of twice the size: a transposed convolution with a 2x2 kernel and a stride of 2, weight `[inputs, outputs, 2,
/// 2]`.
#[derive(Module, Debug)]
struct Upsample {
    conv: ConvTranspose2d,
}

const KERNEL: [usize; 2] = [2, 2];
const TAPS: usize = 4;

impl Upsample {
    fn new(channels: [usize; 2], device: &Device) -> Self {
        Self { conv: ConvTranspose2dConfig::new(channels, KERNEL).with_stride([2, 2]).init(device) }
    }

    fn forward(&self, maps: Tensor<4>) -> Tensor<4> {
        self.conv.forward(maps)
    }

    /// The layer's arithmetic with another weight, and without a bias.
    fn with_weight(maps: Signal, weight: Tensor<4>) -> Signal {
        let options = ConvTransposeOptions::new([2, 2], [0, 0], [0, 0], [1, 1], 1);
        Signal::of_channels(conv_transpose2d(maps.channels::<4>(), weight, None, options))
    }
}

impl Layer for Upsample {
    fn inputs(&self) -> usize {
        self.conv.weight.lazy_shape()[0]
    }

    fn outputs(&self) -> usize {
        self.conv.weight.lazy_shape()[1]
    }

    fn weight(&self) -> ParamId {
        self.conv.weight.id
    }

    fn bias(&self) -> Option<&Param<Tensor<1>>> {
        self.conv.bias.as_ref()
    }

    fn layout(&self) -> Layout {
        Layout::Second(2)
    }
}

impl Producer for Upsample {
    fn fan_in(&self) -> usize {
        self.inputs() * TAPS
    }

    fn incoming(&self, entries: EntriesOf<'_>) -> Option<Tensor<2>> {
        let shape = [self.outputs(), self.fan_in()];
        entries.get(&self.conv.weight).map(|weight| weight.swap_dims(0, 1).reshape(shape))
    }

    fn extend_outputs(&self, at: usize, incoming: &Matrix) -> Extension {
        let (inputs, count) = (self.inputs(), incoming.nrows());
        let entry = |input: usize, neuron: usize, tap: usize| incoming[(neuron, input * TAPS + tap)] as f32;
        let weight = |input| (0..count).flat_map(move |neuron| (0..TAPS).map(move |tap| entry(input, neuron, tap)));
        let values = TensorData::new((0..inputs).flat_map(weight).collect(), [inputs, count, KERNEL[0], KERNEL[1]]);
        Extension { parameter: self.weight(), axis: 1, length: self.outputs(), at, values, copies: Vec::new() }
    }

    fn produce(&self, input: &Input, incoming: Tensor<2>) -> Signal {
        let [count, _] = incoming.dims();
        let weight = incoming.reshape([count, self.inputs(), KERNEL[0], KERNEL[1]]).swap_dims(0, 1);
        Self::with_weight(input.signal().clone(), weight)
    }

    fn produced_positions(&self, positions: &[usize]) -> Vec<usize> {
        positions.iter().map(|length| 2 * length).collect()
    }
}

impl Consumer for Upsample {
    fn fan_out(&self) -> usize {
        self.outputs() * TAPS
    }

    fn outgoing(&self, entries: EntriesOf<'_>) -> Option<Tensor<2>> {
        entries.get(&self.conv.weight).map(|weight| weight.reshape([self.inputs(), self.fan_out()]))
    }

    fn extend_inputs(&self, at: usize, outgoing: &[&Matrix], _features: usize) -> Extension {
        let (outgoing, count) = (outgoing[0], outgoing[0].ncols());
        let entries = (0..count).flat_map(|neuron| outgoing.col(neuron).iter().map(|entry| *entry as f32));
        let values = TensorData::new(entries.collect(), [count, self.outputs(), KERNEL[0], KERNEL[1]]);
        Extension { parameter: self.weight(), axis: 0, length: self.inputs(), at, values, copies: Vec::new() }
    }

    fn consume(&self, read: Signal, outgoing: Tensor<2>) -> Signal {
        let [_, count] = outgoing.dims();
        let weight = outgoing.transpose().reshape([count, self.outputs(), KERNEL[0], KERNEL[1]]);
        Self::with_weight(read, weight)
    }
}

/// A decoder: maps of 3x3 to images of 12x12.
#[derive(Module, Debug)]
struct Decoder {
    first: Upsample,
    second: Upsample,
}

impl Growable for Decoder {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        vec![Site::new("first", &self.first, [Activation::Relu], &self.second)]
    }

    fn forward_probed(&self, maps: Tensor<4>, probe: &mut dyn Probe) -> Tensor<2> {
        let neurons = Activation::Relu.apply(self.first.forward(maps.clone()));
        probe.site("first", &maps, self.second.forward(neurons)).flatten(1, 3)
    }
}

fn main() -> Result<(), gradmax::Error> {
    let device = Device::flex();
    let maps = Tensor::<4>::random([64, 4, 3, 3], Distribution::Normal(0.0, 1.0), &device);
    // Images to learn: the product of two channels, every pixel of it four by four pixels large.
    let product = maps.clone().narrow(1, 0, 1) * maps.clone().narrow(1, 1, 1);
    let large = product.reshape([64, 3, 1, 3, 1]).expand([64, 3, 4, 3, 4]).reshape([64, 12 * 12]);
    let pass = |network: &Decoder, probe: &mut dyn Probe| {
        let output = network.forward_probed(maps.clone(), probe);
        Pass { loss: Regression.loss(&output, &large), output }
    };

    let device = device.autodiff();
    let mut network = Decoder { first: Upsample::new([4, 2], &device), second: Upsample::new([2, 1], &device) };
    let mut optimizer = SgdConfig::new().init();
    let grower = Grower::new(GradMax::default());
    for step in 0..1000 {
        if step % 250 == 100 {
            let plan = [Planned { site: "first".into(), count: 2 }];
            let growth = grower.grow(&network, &optimizer, &plan, pass)?;
            let site = &growth.receipt.sites[0];
            println!(
                "step {step}: loss {:.4}, {} channels; gradient of the new weights {:.5} foretold, {:.5} measured",
                growth.receipt.loss_before,
                site.width,
                site.predicted_gradient_norm,
                site.gradient_norm.unwrap_or(f64::NAN)
            );
            (network, optimizer) = (growth.network, growth.optimizer);
        }
        let gradients = GradientsParams::from_grads(pass(&network, &mut ()).loss.backward(), &network);
        network = optimizer.step(0.2, network, gradients);
    }
    println!("at the end: loss {:.4}", pass(&network, &mut ()).loss.into_scalar::<f64>());
    Ok(())
}
