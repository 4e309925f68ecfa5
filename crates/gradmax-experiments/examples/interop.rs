//! Networks of every kind, at irregular widths and with drawn weights, for other programs and back: what
//! `interop/run.sh` runs.
//!
//! `interop export FOLDER` writes each as an ONNX model and as safetensors, with inputs and the outputs that it gives;
//! `interop import FOLDER` reads what PyTorch has saved of them, compares the outputs, and grows each by half.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::SgdConfig;
use burn::tensor::{Device, Tensor, TensorData};
use gradmax::Seed;
use gradmax::event::{Grower, Pass, Planned};
use gradmax::methods::GradMax;
use gradmax::modules::NormKind;
use gradmax::networks::{
    Architecture, ConvNetConfig, Described, Downsampling, GptConfig, HiddenPath, MlpConfig, MobileNetV1Config,
    Positions, Stage, Strides, TransformerBlock, TransformerNorm, VggConfig, VitConfig, WideResNetConfig,
};
use gradmax::site::{Activation, Growable, Site};
use gradmax_experiments::network::{Network, Shape};
use gradmax_experiments::onnx;
use gradmax_experiments::pytorch;
use gradmax_experiments::reading::Reading;
use gradmax_experiments::weights::{Renames, Weights};
use rand::RngExt;

/// Examples of each network.
const EXAMPLES: usize = 100;
/// The largest difference that is rounding, relative to the largest output.
const TOLERANCE: f32 = 1e-5;

fn main() -> Result<()> {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let [what, folder] = &arguments[..] else { bail!("usage: interop export|import FOLDER") };
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder)?;
    for (name, shape, input) in networks()? {
        match what.as_str() {
            "export" => export(&folder, name, &shape, input)?,
            "import" => import(&folder, name, &shape, input)?,
            other => bail!("{other}: it is export or import"),
        }
    }
    Ok(())
}

/// The same inputs whenever they are asked for; what they are called in files, and their bytes.
fn inputs(name: &str, shape: &Shape, [channels, height, width]: [usize; 3]) -> (&'static str, Vec<u8>, Reading) {
    let mut rng = Seed::new(0).fold(name).rng();
    if let Shape::Gpt(shape) = shape {
        let count = EXAMPLES * shape.context;
        let tokens = (0..count).map(|_| rng.random_range(0..shape.vocabulary as i32)).collect::<Vec<_>>();
        let bytes = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        let data = TensorData::new(tokens, [EXAMPLES, shape.context]);
        return ("tokens", bytes, Reading::Tokens(Tensor::from_data(data, &Device::flex())));
    }
    let values = (0..EXAMPLES * channels * height * width).map(|_| rng.random_range(-1.0_f32..1.0)).collect::<Vec<_>>();
    let data = TensorData::new(values.clone(), [EXAMPLES, channels, height, width]);
    ("inputs", to_bytes(&values), Reading::Maps(Tensor::from_data(data, &Device::flex())))
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn outputs(network: &Network, inputs: Reading) -> Result<Vec<f32>> {
    Ok(network.valid().forward(inputs).into_data().try_to_vec::<f32>()?)
}

fn export(folder: &Path, name: &str, shape: &Shape, input: [usize; 3]) -> Result<()> {
    let network = drawn(shape)?;
    let (what, bytes, inputs) = inputs(name, shape, input);
    let write = |what: &str, bytes: &[u8]| std::fs::write(folder.join(format!("{name}.{what}")), bytes);
    write(what, &bytes)?;
    write("outputs", &to_bytes(&outputs(&network, inputs)?))?;
    if let Some(graph) = network.graph() {
        write("onnx", &onnx::model(&graph, None, &[]))?;
    }
    if let Ok((weights, config)) = pytorch::hugging_face(&network) {
        let folder = folder.join(format!("{name}.huggingface"));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("model.safetensors"), weights)?;
        std::fs::write(folder.join("config.json"), config.to_string())?;
    }
    write("safetensors", &pytorch::exported(&network, &[]))?;
    write("py", pytorch::python(&network, &format!("{name}.safetensors"), name, name).as_bytes())?;
    Ok(())
}

/// Reads what PyTorch has saved into a network of other weights, and grows it.
fn import(folder: &Path, name: &str, shape: &Shape, input: [usize; 3]) -> Result<()> {
    let weights = Weights::read(&folder.join(format!("{name}.pt")), &Renames::new())?;
    // The widths are the file's, whatever the network is described with.
    let sites = shape.site_widths();
    let other = shape.with_site_widths(&sites.iter().map(|site| site.width.min(1)).collect::<Vec<_>>());
    let widths = match other.init(Seed::new(7), &Device::flex()) {
        Ok(other) => weights.widths(&other, &sites),
        // Groups of channels have a least width.
        Err(_) => weights.widths(&shape.init(Seed::new(7), &Device::flex())?, &sites),
    };
    let network = shape.with_site_widths(&widths).init(Seed::new(8), &Device::flex().autodiff())?;
    let network = weights.fill(network)?;
    let expected = std::fs::read(folder.join(format!("{name}.outputs")))?;
    let expected = expected.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let expected = expected.collect::<Vec<_>>();
    let (_, _, inputs) = inputs(name, shape, input);
    let imported = difference(&outputs(&network, inputs.clone())?, &expected);
    ensure!(imported <= TOLERANCE, "{name}: imported outputs differ by {imported:.1e}");

    let grower = Grower::new(GradMax::default());
    if let Err(refused) = grower.check(&network) {
        println!("{name:<22} imported, largest relative difference {imported:.1e}; not grown: {refused}");
        return Ok(());
    }
    let plan = network.sites().iter().map(by_half).collect::<Result<Vec<_>>>()?;
    let added = plan.iter().map(|planned| planned.count).sum::<usize>();
    let growth = grower.grow(&network, &SgdConfig::new().init(), &plan, |network, probe| {
        let output = network.forward_probed(inputs.clone(), probe);
        Pass { loss: output.clone().powi_scalar(2).mean(), output }
    })?;
    let grown = difference(&outputs(&growth.network, inputs)?, &expected);
    ensure!(grown <= TOLERANCE, "{name}: outputs differ by {grown:.1e} after growth");
    println!("{name:<22} imported, largest relative difference {imported:.1e}; {grown:.1e} with {added} more neurons");
    Ok(())
}

/// Half as many neurons again, or as many more than that as the site can take.
fn by_half(site: &Site) -> Result<Planned> {
    let half = site.width().div_ceil(2).max(1);
    let count = (half..=2 * half + 8).find(|count| site.check_growth(*count).is_ok());
    Ok(Planned { site: site.name.clone(), count: count.context("a site can grow")? })
}

fn difference(found: &[f32], expected: &[f32]) -> f32 {
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |most: f32, value| most.max(value.abs()));
    let far = largest(&mut found.iter().zip(expected).map(|(found, expected)| found - expected));
    far / largest(&mut expected.iter().copied())
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
    let block = |heads, neurons| TransformerBlock { heads, neurons };
    let gpt2 = GptConfig {
        vocabulary: 23,
        context: 12,
        width: 12,
        head: 4,
        blocks: vec![block(3, 10); 2],
        norm: TransformerNorm::Layer,
        positions: Positions::Learned,
        activation: Activation::Gelu,
        gated: false,
    };
    let (norm, positions, activation) = (TransformerNorm::Rms, Positions::Rotary, Activation::Silu);
    let llama = GptConfig { blocks: vec![block(2, 7); 3], norm, positions, activation, gated: true, ..gpt2.clone() };
    let blocks = vec![block(1, 9), block(0, 0), block(4, 0), block(0, 3)];
    let irregular = GptConfig { blocks, positions: Positions::Learned, activation: Activation::Tanh, ..llama.clone() };
    let vit = VitConfig {
        input: [3, 8, 12],
        patch: 4,
        classes: 5,
        width: 12,
        head: 4,
        blocks: vec![block(2, 7), block(0, 0), block(1, 3)],
        norm: TransformerNorm::Layer,
        activation: Activation::Gelu,
        gated: false,
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
        ("gpt2", Shape::Gpt(gpt2), [1, 1, 12]),
        ("llama", Shape::Gpt(llama), [1, 1, 12]),
        ("gpt_irregular", Shape::Gpt(irregular), [1, 1, 12]),
        ("vit", Shape::Vit(vit), [3, 8, 12]),
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
