//! Seconds of a training step, or of a single layer's pass, network by network.
//!
//! `cargo bench -p gradmax-experiments --bench training_step` prints a table; `-- NAME...` only these, and
//! `--device cuda:0` on another device that was built in. With `-- serve NAME` it waits for lines on standard input,
//! each a number of steps, and answers with the seconds of each step on a line: `benches/vs_pytorch/run.sh` takes turns
//! with PyTorch that way. `RAYON_NUM_THREADS` sets the number of threads.

use std::io::BufRead;
use std::time::Instant;

use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Int, Tensor, TensorData};
use flexconv::Joined;
use gradmax::Seed;
use gradmax::modules::NormKind;
use gradmax::networks::{
    Architecture, GptConfig, MlpConfig, MobileNetV1Config, Positions, Strides, TransformerBlock, TransformerNorm,
    VggConfig, WideResNetConfig,
};
use gradmax::site::{Activation, Growable};
use gradmax::training::{NextToken, Supervised, Target, Task};
use gradmax_experiments::device;
use rand::RngExt;

/// What is timed: one step at a call.
type Step = Box<dyn FnMut()>;

const NAMES: [&str; 26] = [
    "wrn28_0.25",
    "wrn28_0.5",
    "wrn28_1.0",
    "wrn28_bn_0.25",
    "wrn28_bn_1.0",
    "vgg11_0.25",
    "vgg11_1.0",
    "vgg11_bn_0.25",
    "vgg11_bn_1.0",
    "mobilenet_32",
    "mobilenet_224",
    "mlp_20_10_10",
    "mlp_100_50_10",
    "mlp_784_128_128_10",
    "gpt_128_4",
    "gpt_256_6",
    "layer_16x32_forward",
    "layer_16x32_input",
    "layer_16x32_weight",
    "layer_32x16_forward",
    "layer_32x16_input",
    "layer_32x16_weight",
    "layer_64x8_forward",
    "layer_64x8_input",
    "layer_64x8_weight",
    "fma_peak",
];

/// Rounds of multiply-adds in registers: some milliseconds.
const PEAK_ROUNDS: usize = 1_000_000;

/// Images of a batch.
const BATCH: usize = 128;

fn main() {
    flexconv::keep_freed_memory();
    flexconv::with_threads(0, run);
}

fn run() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench").collect::<Vec<_>>();
    let device = match arguments.iter().position(|argument| argument == "--device") {
        Some(at) => arguments.drain(at..=at + 1).next_back().expect("a device's name follows"),
        None => "flex".to_owned(),
    };
    let device = device::named(&device).expect("the device is one of this binary's").inner();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", name] => serve(step_of(name, &device)),
        [] => NAMES.iter().for_each(|name| report(name, &device)),
        names => names.iter().for_each(|name| report(name, &device)),
    }
}

fn serve(mut step: Step) {
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let steps = line.expect("standard input is readable").trim().parse().expect("a number of steps");
        let seconds = (0..steps).map(|_| seconds(&mut step).to_string()).collect::<Vec<_>>();
        println!("{}", seconds.join(" "));
    }
}

fn report(name: &str, device: &Device) {
    let mut step = step_of(name, device);
    // The first has kernels to compile on some devices.
    let first = seconds(&mut step);
    let repeats = ((2.0 / seconds(&mut step)) as usize).clamp(5, 200);
    let mut all = (0..repeats).map(|_| seconds(&mut step)).collect::<Vec<_>>();
    all.sort_by(f64::total_cmp);
    let (least, median) = (all[0], all[all.len() / 2]);
    let rate = |seconds: f64| operations(name).map(|count| format!("{:.1} GFLOP/s", count / seconds / 1e9));
    let rates = [median, least].map(|seconds| rate(seconds).unwrap_or_default());
    let [first, median, least] = [first, median, least].map(|seconds| seconds * 1e3);
    println!(
        "{name:<22} median {median:>10.3} ms {}  least {least:>10.3} ms {}  first {first:>10.1} ms",
        rates[0], rates[1]
    );
}

fn seconds(step: &mut Step) -> f64 {
    let started = Instant::now();
    step();
    started.elapsed().as_secs_f64()
}

/// A step, whose end waits for the device.
fn step_of(name: &str, device: &Device) -> Step {
    let mut step = unawaited(name, device);
    let device = device.clone();
    Box::new(move || {
        step();
        device.sync().expect("the device finishes its work");
    })
}

fn unawaited(name: &str, device: &Device) -> Step {
    let parts = name.split('_').collect::<Vec<_>>();
    let fraction = || parts.last().and_then(|last| last.parse().ok()).unwrap_or_else(|| unknown(name));
    let norm = if parts.contains(&"bn") { NormKind::Batch } else { NormKind::None };
    match parts[0] {
        "wrn28" => {
            let config = WideResNetConfig { norm, ..WideResNetConfig::new(28, 1, fraction()) };
            images(config, [3, 32, 32], 10, BATCH, device)
        }
        "vgg11" => {
            let downsampling = gradmax::networks::Downsampling::Stride;
            let config =
                VggConfig { depth: 11, fraction: fraction(), norm, downsampling, input: [3, 32, 32], classes: 10 };
            images(config.stack().expect("there is a VGG11"), [3, 32, 32], 10, BATCH, device)
        }
        "mobilenet" => {
            let size = parts[1].parse().unwrap_or_else(|_| unknown(name));
            // The large images in smaller batches, so that the benchmark fits in memory.
            let (classes, batch) = if size > 100 { (1000, 16) } else { (10, BATCH) };
            let input = [3, size, size];
            let config = MobileNetV1Config { fraction: 1.0, norm, strides: Strides::Depthwise, input, classes };
            images(config.stack(), input, classes, batch, device)
        }
        "mlp" => {
            let widths = parts[1..].iter().map(|width| width.parse().unwrap_or_else(|_| unknown(name)));
            mlp(&widths.collect::<Vec<usize>>(), device)
        }
        "gpt" => {
            let [width, blocks] = [1, 2].map(|at| parts.get(at).and_then(|part| part.parse().ok()));
            gpt(width.unwrap_or_else(|| unknown(name)), blocks.unwrap_or_else(|| unknown(name)), device)
        }
        "layer" => layer(parts[1], parts[2], device).unwrap_or_else(|| unknown(name)),
        "fma" => Box::new(|| {
            flexconv::run_peak(PEAK_ROUNDS);
        }),
        _ => unknown(name),
    }
}

fn unknown(name: &str) -> ! {
    panic!("there is no benchmark {name}; there are {}", NAMES.join(", "))
}

fn numbers<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let mut rng = Seed::new(0).fold("numbers").rng();
    let values = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn images<A: Architecture>(config: A, input: [usize; 3], classes: usize, batch: usize, device: &Device) -> Step
where
    A::Network: Growable<Input = Tensor<4>, Output = Tensor<2>> + 'static,
{
    let input = numbers([batch, input[0], input[1], input[2]], device);
    let target = Target::classes((0..batch).map(|image| (image % classes) as u32), device);
    let network = config.init(Seed::new(0), &device.clone().autodiff()).expect("the configuration is right");
    let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: true };
    let optimizer = SgdConfig::new().with_momentum(Some(momentum)).init();
    training_step(network, optimizer, input, target, Supervised::Classification)
}

/// Teacher-student and image classifiers: the first by plain gradient descent on 1000 examples, the second with
/// momentum.
fn mlp(widths: &[usize], device: &Device) -> Step {
    let [inputs, hidden @ .., outputs] = widths else { panic!("an MLP has two widths at least") };
    let mut config = MlpConfig::new(*inputs, hidden, *outputs, Activation::Relu);
    config.bias = hidden.len() > 1;
    let network = config.init(Seed::new(0), &device.clone().autodiff()).expect("the configuration is right");
    let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: true };
    if hidden.len() > 1 {
        let target = Target::classes((0..BATCH).map(|example| (example % outputs) as u32), device);
        let optimizer = SgdConfig::new().with_momentum(Some(momentum)).init();
        return training_step(
            network,
            optimizer,
            numbers([BATCH, *inputs], device),
            target,
            Supervised::Classification,
        );
    }
    let target = Target::Values(numbers([1000, *outputs], device));
    training_step(network, SgdConfig::new().init(), numbers([1000, *inputs], device), target, Supervised::Regression)
}

/// A transformer on sequences of 64 bytes, as large as the one that `gpt_bytes.toml` grows to, or another, by AdamW.
fn gpt(width: usize, blocks: usize, device: &Device) -> Step {
    const HEAD: usize = 32;
    const CONTEXT: usize = 64;
    const SEQUENCES: usize = 32;
    let block = TransformerBlock { heads: width / HEAD, neurons: 4 * width };
    let config = GptConfig {
        vocabulary: 256,
        context: CONTEXT,
        width,
        head: HEAD,
        blocks: vec![block; blocks],
        norm: TransformerNorm::Rms,
        positions: Positions::Learned,
        activation: Activation::Gelu,
        gated: false,
    };
    let network = config.init(Seed::new(0), &device.clone().autodiff()).expect("the configuration is right");
    let tokens = |first: usize| {
        let tokens = (0..SEQUENCES * CONTEXT).map(|at| ((first + at) * 7 % 256) as i32).collect::<Vec<_>>();
        Tensor::<2, Int>::from_data(TensorData::new(tokens, [SEQUENCES, CONTEXT]), device)
    };
    let optimizer = AdamWConfig::new().with_weight_decay(0.1).with_beta_2(0.95).init();
    training_step(network, optimizer, tokens(0), tokens(1), NextToken)
}

fn training_step<N: Growable + 'static, T: Task<Output = N::Output> + 'static>(
    network: N,
    mut optimizer: ModuleOptimizer,
    input: N::Input,
    target: T::Target,
    task: T,
) -> Step
where
    T::Target: 'static,
{
    let mut network = Some(network);
    Box::new(move || {
        let before = network.take().expect("every step leaves a network");
        let loss = task.loss(&before.forward(input.clone()), &target);
        let gradients = GradientsParams::from_grads(loss.backward(), &before);
        network = Some(optimizer.step(1e-3, before, gradients));
    })
}

/// One pass of a 3x3 convolution on a batch: `16x32` is 16 channels on maps of 32x32.
fn layer(sizes: &str, pass: &str, device: &Device) -> Option<Step> {
    let (channels, size) = sizes.split_once('x')?;
    let (channels, size) = (channels.parse().ok()?, size.parse().ok()?);
    let input = numbers([BATCH, channels, size, size], device);
    let weight = numbers([channels, channels, 3, 3], device);
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    if pass == "forward" {
        return Some(Box::new(move || {
            flexconv::conv2d(input.clone(), weight.clone(), None, options.clone(), Joined::default());
        }));
    }
    let gradient = numbers([BATCH, channels, size, size], device).mul_scalar(0.5);
    Some(match pass {
        "input" => Box::new(move || {
            flexconv::conv2d_input_gradient(gradient.clone(), weight.clone(), input.dims(), options.clone());
        }),
        "weight" => Box::new(move || {
            flexconv::conv2d_weight_gradient(gradient.clone(), input.clone(), weight.dims(), options.clone());
        }),
        _ => return None,
    })
}

/// Operations of a layer's pass.
fn operations(name: &str) -> Option<f64> {
    if name == "fma_peak" {
        return Some(flexconv::run_peak(PEAK_ROUNDS) as f64);
    }
    let sizes = name.strip_prefix("layer_")?.split('_').next()?;
    let (channels, size) = sizes.split_once('x')?;
    let (channels, size) = (channels.parse::<f64>().ok()?, size.parse::<f64>().ok()?);
    Some(2.0 * BATCH as f64 * channels * channels * 9.0 * size * size)
}
