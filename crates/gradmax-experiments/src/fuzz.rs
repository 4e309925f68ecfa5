//! Random damage to everything that is read from outside: no reader may panic, hang or take all memory.
//!
//! Each target starts from good inputs and damages them for a second, or as long as `GRADMAX_FUZZ_SECONDS` says:
//! `GRADMAX_FUZZ_SECONDS=600 cargo test --release -p gradmax-experiments fuzz -- --nocapture --test-threads 2`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use gradmax::Seed;
use gradmax::networks::{Architecture, MlpConfig};
use gradmax::site::Activation;
use gradmax::training::{Run, checkpoint};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::config::Experiment;
use crate::data::fuzzed;
use crate::folder::RunFolder;
use crate::weights::{Renames, Weights};

/// Runs a reader on damaged inputs, and says how many there were.
fn fuzz(name: &str, good: &[Vec<u8>], read: impl Fn(&[u8])) {
    let seconds = std::env::var("GRADMAX_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(1.0);
    let (until, mut inputs) = (Instant::now() + Duration::from_secs_f64(seconds), 0_u64);
    let seed = Seed::new(std::env::var("GRADMAX_FUZZ_SEED").map_or(0, |seed| seed.parse().unwrap())).fold(name);
    while Instant::now() < until {
        let input = damaged(good, &mut seed.at(inputs).rng());
        let started = Instant::now();
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(&input)));
        let slow = started.elapsed() > Duration::from_secs(20);
        if read.is_err() || slow {
            let kept = std::env::temp_dir().join(format!("gradmax-fuzz-{name}-{inputs}"));
            std::fs::write(&kept, &input).unwrap();
            panic!(
                "{name}, input {inputs}: {}; it is kept in {}",
                if slow { "too slow" } else { "a panic" },
                kept.display()
            );
        }
        inputs += 1;
    }
    println!("fuzz {name}: {inputs} inputs in {seconds} s, no panic");
}

/// A good input with some damage: bytes turned, left out, put in, doubled, cut, exchanged with those of another one.
fn damaged(good: &[Vec<u8>], rng: &mut ChaCha8Rng) -> Vec<u8> {
    const NUMBERS: [&str; 14] = [
        "0",
        "-1",
        "1e308",
        "nan",
        "inf",
        "-inf",
        "18446744073709551615",
        "9223372036854775807",
        "1e-320",
        "0.5",
        "null",
        "true",
        "[]",
        "{}",
    ];
    let mut input = good[rng.random_range(0..good.len())].clone();
    for _ in 0..rng.random_range(1..8) {
        let length = input.len();
        let at = rng.random_range(0..=length);
        match rng.random_range(0..9) {
            0 if at < length => input[at] ^= 1 << rng.random_range(0..8),
            1 if at < length => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', b'='][rng.random_range(0..8)],
            2 => input.truncate(at),
            3 if at < length => drop(input.drain(at..(at + rng.random_range(1..20)).min(length))),
            4 => input.insert(at, rng.random()),
            5 if at < length => {
                let part = input[at..(at + rng.random_range(1..40)).min(length)].to_vec();
                input.splice(at..at, part);
            }
            6 => {
                let other = &good[rng.random_range(0..good.len())];
                let from = rng.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            7 if at + 4 <= length => {
                let value = [0_u32, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x0001_0000][rng.random_range(0..6)];
                let bytes = if rng.random::<bool>() { value.to_be_bytes() } else { value.to_le_bytes() };
                input[at..at + 4].copy_from_slice(&bytes);
            }
            _ => {
                // A number in text, by another one.
                let digit = (at..length).find(|at| input[*at].is_ascii_digit());
                if let Some(from) = digit {
                    let to = (from..length).find(|at| !input[*at].is_ascii_digit()).unwrap_or(length);
                    input.splice(from..to, NUMBERS[rng.random_range(0..NUMBERS.len())].bytes());
                }
            }
        }
    }
    input
}

/// A folder in which one file at a time is damaged.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("gradmax-fuzz-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn configs() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn fuzz_configurations() {
    fuzz("configuration", &configs(), |input| {
        let text = String::from_utf8_lossy(input);
        for changes in [Vec::new(), vec!["growth.times=3".to_string(), "training.steps=5".to_string()]] {
            if let Ok(experiment) = Experiment::parse(&text, "fuzz", &changes) {
                let written = experiment.to_toml().unwrap();
                let read = Experiment::parse(&written, "written", &[]).unwrap_or_else(|error| panic!("{error:#}"));
                assert_eq!(read.to_toml().unwrap(), written);
            }
        }
    });
}

#[test]
fn fuzz_idx_files() {
    fuzz("idx", &fuzzed::idx_files(), fuzzed::read_idx);
}

#[test]
fn fuzz_cifar_archives() {
    fuzz("cifar", &fuzzed::cifar_files(), fuzzed::read_cifar);
}

#[test]
fn fuzz_tables() {
    let file = folder("table").join("table.csv");
    fuzz("table", &fuzzed::tables(), |input| fuzzed::read_table(&file, input));
}

#[test]
fn fuzz_arrays() {
    let file = folder("arrays").join("arrays.npz");
    fuzz("arrays", &fuzzed::archives(), |input| fuzzed::read_archive(&file, input));
}

#[test]
fn fuzz_weights() {
    let network = || MlpConfig::new(4, &[3], 2, Activation::Relu).init(Seed::new(0), &Device::flex()).unwrap();
    let safetensors = crate::pytorch::exported(&crate::network::Network::Mlp(network()), &[]);
    for (ending, good) in [("safetensors", safetensors), ("pt", include_bytes!("../assets/tiny.pt").to_vec())] {
        let file = folder("weights").join(format!("weights.{ending}"));
        std::fs::write(&file, &good).unwrap();
        Weights::read(&file, &Renames::new()).unwrap().fill(network()).unwrap();
        fuzz(&format!("weights.{ending}"), &[good], |input| {
            std::fs::write(&file, input).unwrap();
            if let Ok(weights) = Weights::read(&file, &Renames::new()) {
                let _ = weights.fill(network());
            }
        });
    }
}

#[test]
fn fuzz_images() {
    fuzz("image", &fuzzed::images(), fuzzed::read_image);
}

fn rows() -> &'static str {
    "step,epoch,split,loss,score,learning_rate,parameters,flops,gradient_norm,seconds\n\
     0,0.0,test,2.4,0.1,0.05,496,0,,0.01\n0,0.0,train,2.5,0.09,0.05,496,0,1.5,0.02\n10,0.2,train,NaN,,0.05,496,99,,0.03\n"
}

#[test]
fn fuzz_metrics() {
    let run = RunFolder::at(folder("metrics"));
    fuzz("metrics.csv", &[rows().into(), rows().replace("NaN", "1e-300").into()], |input| {
        std::fs::write(run.metrics(), input).unwrap();
        let _ = run.read_rows();
        let _ = run.rewind(2, 0, 0);
    });
}

fn receipts() -> Vec<u8> {
    let site = r#"{"site":"hidden1","added":2,"width":8,"singular_values":[0.5,0.25],"predicted_gradient_norm":0.1,"without_gradient":false,"gradient_norm":0.1,"outgoing_gradient_norm":null}"#;
    let timing = r#"{"probe":1.0,"probe_is_training_step":true,"initialize":1.0,"widen":0.1,"carry":0.1,"verify":1.0,"growth":1.2,"training_step":null,"growth_in_steps":null}"#;
    let receipt = format!(
        r#"{{"step":20,"event":0,"method":"gradmax","loss_before":2.1,"loss_after":2.1,"output_change":0.0,"tolerance":1e-5,"sites":[{site}],"parameters":[496,646],"flops":[972,1272],"optimizer_reset":[],"timing":{timing}}}"#
    );
    format!("{receipt}\n{}\n", receipt.replace("2.1,\"loss_after\":2.1", "null,\"loss_after\":null")).into_bytes()
}

#[test]
fn fuzz_receipts() {
    let run = RunFolder::at(folder("receipts"));
    std::fs::write(run.receipts(), receipts()).unwrap();
    assert_eq!(run.read_receipts().unwrap().len(), 2, "the good input is good");
    fuzz("growth.jsonl", &[receipts()], |input| {
        std::fs::write(run.receipts(), input).unwrap();
        let _ = run.read_receipts();
        let _ = run.rewind(0, 1, 0);
    });
}

#[test]
fn fuzz_undone() {
    let run = RunFolder::at(folder("undone"));
    let undone: &[u8] = br#"{"step":300,"grown":200,"shrinkage":{"examples":64,"loss_before":0.5,"loss_after":0.504,"parameters":[646,596],"flops":[1272,1172],"sites":[{"site":"hidden1","before":8,"after":7}]}}
"#;
    std::fs::write(run.undone(), undone).unwrap();
    assert_eq!(run.read_undone().unwrap().len(), 1, "the good input is good");
    fuzz("undone.jsonl", &[undone.to_vec()], |input| {
        std::fs::write(run.undone(), input).unwrap();
        let _ = run.read_undone();
        let _ = run.rewind(0, 0, 1);
    });
}

#[test]
fn fuzz_checkpoints() {
    let device = burn::tensor::Device::flex().autodiff();
    let network = || MlpConfig::new(3, &[2], 2, Activation::Relu).init(Seed::new(0), &device).unwrap();
    let optimizer = || gradmax::surgery::optimizer_on(burn::optim::AdamConfig::new().build(), &device);
    let (mut trained, mut of_trained) = (network(), optimizer());
    let loss = gradmax::site::Growable::forward(&trained, burn::tensor::Tensor::<2>::ones([1, 3], &device)).sum();
    let gradients = burn::optim::GradientsParams::from_grads(loss.backward(), &trained);
    trained = of_trained.step(0.1, trained, gradients);
    let folder = folder("checkpoint").join("checkpoint");
    checkpoint::save(&Run::new(trained, of_trained), &folder).unwrap();
    let names = ["progress.json", "network.bpk", "optimizer.bpk"];
    let good = names.map(|name| std::fs::read(folder.join(name)).unwrap());
    // The first byte says which file is damaged.
    let inputs =
        good.iter().enumerate().map(|(which, file)| [&[which as u8], file.as_slice()].concat()).collect::<Vec<_>>();
    fuzz("checkpoint", &inputs, |input| {
        let Some((which, contents)) = input.split_first() else { return };
        let which = usize::from(*which) % 3;
        std::fs::write(folder.join(names[which]), contents).unwrap();
        let _ = checkpoint::load(&folder, |_| Ok::<_, gradmax::Error>(network()), optimizer());
        std::fs::write(folder.join(names[which]), &good[which]).unwrap();
    });
}
