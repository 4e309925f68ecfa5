//! Writes networks of every kind, at irregular widths and with drawn weights, as ONNX models, each with inputs and the
//! outputs that it gives: what `interop/run.sh` compares with other programs.

use std::path::PathBuf;

use anyhow::{Context, Result};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use gradmax::Seed;
use gradmax::modules::NormKind;
use gradmax::networks::{
    Architecture, ConvNetConfig, Described, Downsampling, HiddenPath, MlpConfig, MobileNetV1Config, Stage, Strides,
    VggConfig, WideResNetConfig,
};
use gradmax::site::{Activation, Growable};
use gradmax_experiments::network::{Network, Shape};
use gradmax_experiments::onnx;
use rand::RngExt;

/// Examples of each network.
const EXAMPLES: usize = 100;

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).context("usage: interop FOLDER")?);
    std::fs::create_dir_all(&folder)?;
    for (name, shape, input) in networks()? {
        let network = drawn(&shape)?;
        let count = EXAMPLES * input.iter().product::<usize>();
        let mut rng = Seed::new(0).fold(name).rng();
        let values = (0..count).map(|_| rng.random_range(-1.0_f32..1.0)).collect::<Vec<_>>();
        let shape = [EXAMPLES, input[0], input[1], input[2]];
        let inputs = Tensor::from_data(TensorData::new(values.clone(), shape), &Device::flex());
        let outputs = network.forward(inputs).into_data().try_to_vec::<f32>()?;
        let write = |what: &str, values: &[f32]| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
            std::fs::write(folder.join(format!("{name}.{what}")), bytes)
        };
        write("inputs", &values)?;
        write("outputs", &outputs)?;
        std::fs::write(folder.join(format!("{name}.onnx")), onnx::model(&network.graph(), &[]))?;
    }
    Ok(())
}

/// Every kind of network, each with channels, height and width of its input.
fn networks() -> Result<Vec<(&'static str, Shape, [usize; 3])>> {
    let mlp = |activation| MlpConfig::new(7, &[5, 9], 3, activation);
    let path = |from, to, width| HiddenPath { from, to, width };
    let with_paths = MlpConfig { paths: vec![path(0, 2, 3), path(1, 3, 4), path(0, 3, 0)], ..mlp(Activation::Silu) };
    let conv = |channels, groups, dilation, bias| {
        let (kernel, stride, padding) = (3, 1, None);
        Stage::Conv { channels, kernel, stride, padding, dilation, groups, bias }
    };
    let act = |function| Stage::Activation { function };
    let everything = ConvNetConfig {
        input: [3, 13, 11],
        stages: vec![
            conv(6, 1, 1, true),
            Stage::Norm { norm: NormKind::Batch },
            act(Activation::Gelu),
            Stage::Depthwise { kernel: 3, stride: 2 },
            conv(9, 3, 2, false),
            Stage::Norm { norm: NormKind::Group(3) },
            act(Activation::Elu),
            Stage::MaxPool { size: 2 },
            Stage::Dropout { rate: 0.3 },
            conv(7, 1, 1, false),
            act(Activation::LeakyRelu),
            Stage::AveragePool { size: 2 },
            Stage::Flatten,
            Stage::Dense { units: 8, bias: true },
            Stage::Norm { norm: NormKind::Batch },
            act(Activation::Softplus),
            Stage::Dense { units: 4, bias: true },
        ],
    };
    let wide = |norm| WideResNetConfig { norm, ..WideResNetConfig::new(10, 2, 0.3) };
    let streams = wide(NormKind::Batch).with_new_blocks(1).with_growing_streams(0.4);
    let vgg = VggConfig {
        depth: 11,
        fraction: 0.17,
        norm: NormKind::Batch,
        downsampling: Downsampling::MaxPool,
        input: [3, 32, 32],
        classes: 10,
    };
    let mobile = MobileNetV1Config {
        fraction: 0.13,
        norm: NormKind::Batch,
        strides: Strides::Depthwise,
        input: [3, 64, 64],
        classes: 10,
    };
    let images = [3, 32, 32];
    Ok(vec![
        ("mlp_relu", Shape::Mlp(mlp(Activation::Relu)), [7, 1, 1]),
        ("mlp_tanh", Shape::Mlp(mlp(Activation::Tanh)), [7, 1, 1]),
        ("mlp_sigmoid", Shape::Mlp(mlp(Activation::Sigmoid)), [7, 1, 1]),
        ("mlp_identity", Shape::Mlp(mlp(Activation::Identity)), [7, 1, 1]),
        ("mlp_paths_silu", Shape::Mlp(with_paths), [7, 1, 1]),
        ("conv_net", Shape::Stack(everything), [3, 13, 11]),
        ("wide_resnet", Shape::WideResNet(wide(NormKind::None)), images),
        ("wide_resnet_streams", Shape::WideResNet(streams), images),
        ("vgg11", Shape::Stack(vgg.stack()?), images),
        ("vgg11_stride", Shape::Stack(VggConfig { downsampling: Downsampling::Stride, ..vgg }.stack()?), images),
        ("mobilenet", Shape::Stack(mobile.stack()), [3, 64, 64]),
    ])
}

/// A network of this shape whose norms have factors, summands and statistics that are not those of a new one.
fn drawn(shape: &Shape) -> Result<Network> {
    struct Drawing(rand::rngs::ChaCha8Rng);
    impl ModuleMapper for Drawing {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if D > 1 {
                return param;
            }
            param.map(|old| {
                let count = old.dims().iter().product::<usize>();
                let values = (0..count).map(|_| self.0.random_range(0.5_f32..1.5)).collect::<Vec<_>>();
                Tensor::from_data(TensorData::new(values, old.dims()), &old.device())
            })
        }
    }
    let network = shape.init(Seed::new(1), &Device::flex())?;
    Ok(network.map(&mut Drawing(Seed::new(2).rng())))
}
