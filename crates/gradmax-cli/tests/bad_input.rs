//! Bad input: one clear sentence, the right exit code, and nothing lost.

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;

use common::{folder, gradmax, succeed, text, write_config};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Runs the program, expects this exit code and one line on standard error that contains all of these.
fn refused(arguments: &[&str], code: i32, says: &[&str]) {
    let output = gradmax(arguments);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{arguments:?}: {error}");
    assert!(error.starts_with("gradmax: ") && !error.contains("panicked"), "{error}");
    for part in says {
        assert!(error.contains(part), "{arguments:?} does not say `{part}`: {error}");
    }
}

#[test]
fn configurations() {
    let folder = folder("bad_configurations");
    let out = folder.join("run").display().to_string();
    // What is changed in a good configuration, the exit code, and what the message must say.
    let table: &[(&str, &str, i32, &[&str])] = &[
        ("batch_size = 32", "batchsize = 32", 2, &["config.toml", "batchsize", "batch_size"]),
        ("steps = 60", "steps = \"many\"", 2, &["config.toml", "many"]),
        ("hidden = [6]", "hidden = [-6]", 2, &["config.toml", "-6"]),
        ("hidden = [6]", "hidden = []", 2, &["hidden", "nothing to grow"]),
        ("hidden = [6]", "hidden = [0]", 2, &["hidden", "at least one neuron"]),
        ("[training]", "[training", 2, &["config.toml", "line"]),
        ("name = \"digits\"", "name = \"digit\"", 2, &["digit", "fashion_mnist"]),
        ("name = \"sgd\"", "name = \"sdg\"", 2, &["sdg", "adam"]),
        ("activation = \"relu\"", "activation = \"sigmoid\"", 2, &["hidden1", "sigmoid", "0.5 at 0", "relu"]),
        ("activation = \"relu\"", "activation = \"softplus\"", 2, &["hidden1", "softplus"]),
        ("count = 2", "count = 0", 2, &["count", "at least one neuron"]),
        ("count = 2", "count = 2\nfraction = 0.5", 2, &["count", "fraction", "not both"]),
        ("count = 2", "fraction = -0.5", 2, &["fraction", "-0.5", "positive"]),
        ("every = 20", "every = 0", 2, &["every", "at least one step"]),
        ("times = 2\n", "times = 2\nfactor = 0\n", 2, &["factor", "positive"]),
        ("times = 2\n", "times = 2\nepsilon = -1.0\n", 2, &["epsilon"]),
        ("batch_size = 32", "batch_size = 32\nlabel_smoothing = 1.0", 2, &["label_smoothing", "below 1"]),
        ("batch_size = 32", "batch_size = 32\nclip_gradients = 0.0", 2, &["clip_gradients", "positive"]),
        ("batch_size = 32", "batch_size = 32\nevaluation_batch = 0", 2, &["evaluation_batch", "at least 1"]),
        ("batch_size = 32", "batch_size = 32\nwarm_up_steps = 3\nwarm_up_epochs = 1.0", 2, &["warm_up", "not both"]),
        (
            "batch_size = 32",
            "batch_size = 32\ndecay = { step = { at = [3.0], factor = 0.1 } }",
            2,
            &["at", "between 0 and 1"],
        ),
        ("times = 2\n", "times = 2\nbatch = { examples = 0 }\n", 2, &["growth.batch", "at least one example"]),
        ("batch_size = 32", "batch_size = 0", 2, &["batch_size", "at least 1"]),
        ("steps = 60\n", "steps = 60\nepochs = 2\n", 2, &["steps", "epochs", "not both"]),
        ("learning_rate = 0.05", "learning_rate = -1.0", 2, &["learning_rate", "positive"]),
        ("learning_rate = 0.05", "learning_rate = 1e30", 1, &["became", "not a number by step 6", "learning rate"]),
        ("momentum = 0.9", "momentum = 1.5", 2, &["momentum", "below 1"]),
    ];
    for (from, to, code, says) in table {
        let config = write_config(&folder, &[(from, to)]);
        let _ = fs::remove_dir_all(&out);
        refused(&["train", &config, "--out", &out, "--quiet"], *code, says);
    }
}

#[test]
fn command_lines() {
    let folder = folder("bad_command_lines");
    let config = write_config(&folder, &[]);
    let out = folder.join("run").display().to_string();
    refused(&["train", "nowhere.toml"], 2, &["nowhere.toml", "cannot read"]);
    refused(&["train", &config, "--set", "growth.times"], 2, &["key=value"]);
    refused(&["train", &config, "--set", "growth.time=3"], 2, &["time", "times"]);
    refused(&["train", &config, "--set", "method=gardmax"], 2, &["gardmax", "gradmax", "random"]);
    refused(&["train", &config, "--device", "abacus"], 2, &["abacus", "flex"]);
    refused(&["train", &config, "--device", "cuda:0"], 2, &["without `cuda`", "--features cuda"]);
    refused(&["compare", &config, "--methods", "small,magic"], 2, &["magic"]);
    refused(&["compare", &config, "--methods", "small,random,small"], 2, &["`small`", "twice"]);
    refused(&["compare", &config, "--seeds", "0"], 2, &["nothing to compare"]);
    refused(&["compare", &config, "--jobs", "0"], 2, &["--jobs 0"]);
    refused(&["resume", &out], 2, &["no folder"]);
    refused(&["resume", folder.join("..").to_str().unwrap()], 2, &["holds no run"]);
    refused(&["report", &out], 2, &["no folder"]);
    refused(&["data", "check", "imagenet21k"], 2, &["imagenet21k", "digits"]);
    assert_eq!(gradmax(&["train"]).status.code(), Some(2));
    assert_eq!(gradmax(&["grow"]).status.code(), Some(2));
}

#[test]
fn networks_and_data_that_do_not_exist() {
    let folder = folder("bad_networks");
    let config = write_config(&folder, &[]);
    let out = folder.join("run").display().to_string();
    // What is set in a good configuration, the exit code, and what the message must say.
    let table: &[(&str, i32, &[&str])] = &[
        ("network={name='wide_resnet',depth=11}", 2, &["depth", "11", "6n + 4"]),
        ("network={name='wide_resnet',depth=10,fraction=0.0}", 2, &["fraction", "positive"]),
        ("network={name='wide_resnet',depth=10,norm={group=7}}", 2, &["number of 16", "multiples of 7"]),
        ("network={name='vgg',depth=12}", 2, &["depth", "12", "11, 13, 16 or 19"]),
        ("network={name='vgg',depth=11,downsampling='max_pool'}", 2, &["stage", "maps of 1x1", "2x2"]),
        ("network={name='conv_net',stages=[{kind='dense',units=3}]}", 2, &["stage 1", "flatten"]),
        ("network={name='conv_net',stages=[{kind='conv',channels=3,kernel=11,padding=0}]}", 2, &["stage 1", "8x8"]),
        ("network={name='conv_net',stages=[{kind='conv',channels=4,groups=2}]}", 2, &["stage 1", "2 groups"]),
        // 4 channels in two groups grow by 1: the target network would have 5 or 6.
        (
            "network={name='conv_net',stages=[{kind='conv',channels=4},{kind='conv',channels=5,groups=2}]}",
            2,
            &["stage", "2 groups"],
        ),
        ("network={name='mlp',hidden=[6],paths=[{from=1,to=1}]}", 2, &["paths", "from 1 to 1"]),
        ("data={name='cifar10'}", 1, &["cifar10", "cifar-10-binary.tar.gz", "data.dir"]),
        ("data={name='cifar100',dir='nowhere'}", 1, &["cifar100", "nowhere"]),
        ("data={name='image_folder',dir='nowhere'}", 1, &["nowhere", "train"]),
        ("data={name='image_folder',dir='nowhere',size=0}", 2, &["data.size", "at least one pixel"]),
        ("data={name='digits',dir='here'}", 2, &["digits", "data.dir"]),
        ("data={name='digits',as='imagenet'}", 2, &["imagenet", "cifar"]),
        ("data={name='digits',examples=0}", 2, &["data.examples", "1 to 1438"]),
        ("data={name='digits',augment={crop=1,turn=true}}", 2, &["turn", "crop"]),
    ];
    for (set, code, says) in table {
        let _ = fs::remove_dir_all(&out);
        refused(&["train", &config, "--out", &out, "--quiet", "--set", set], *code, says);
    }
}

#[test]
fn growth_that_does_not_fall_into_groups_is_refused_before_training() {
    let folder = folder("bad_targets");
    let config = write_config(&folder, &[]);
    let out = folder.join("run").display().to_string();
    let network = "network={name='conv_net',stages=[{kind='conv',channels=4},{kind='conv',channels=4,groups=2}]}";
    let arguments = ["train", &config, "--out", &out, "--quiet", "--set", network, "--set", "growth.count=1"];
    refused(&arguments, 2, &["`conv1`", "number of 1", "multiples of 2"]);
    assert!(!folder.join("run").exists());
}

#[test]
fn a_folder_that_holds_a_run_is_not_overwritten() {
    let folder = folder("occupied");
    let config = write_config(&folder, &[]);
    let run = folder.join("run");
    let out = run.display().to_string();
    succeed(&["train", &config, "--out", &out, "--quiet"]);
    let before = fs::read(run.join("metrics.csv")).unwrap();
    refused(&["train", &config, "--out", &out, "--quiet"], 2, &["already holds a run", "gradmax resume"]);
    assert_eq!(fs::read(run.join("metrics.csv")).unwrap(), before);
    assert!(succeed(&["resume", &out]).starts_with("already finished"));
}

#[cfg(unix)]
#[test]
fn folders_that_cannot_be_written() {
    let folder = folder("unwritable");
    let config = write_config(&folder, &[]);
    fs::write(folder.join("file"), "").unwrap();
    let below_a_file = folder.join("file/run").display().to_string();
    refused(&["train", &config, "--out", &below_a_file, "--quiet"], 1, &["cannot make the folder", "file/run"]);

    // A file that cannot grow any further stands for a full disk: the run ends with one sentence, and goes on from its
    // last checkpoint once there is room.
    let config = write_config(&folder, &[("steps = 60", "steps = 600\nlog_every = 1\ncheckpoint_every = 50")]);
    let run = folder.join("full");
    let script =
        format!("trap '' XFSZ; ulimit -f 40; exec {} train {config} --out {} --quiet", common::GRADMAX, run.display());
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("cannot write") && error.contains("metrics.csv"), "{error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    assert!(run.join("checkpoint/progress.json").exists());
    succeed(&["resume", run.to_str().unwrap(), "--quiet"]);
    assert_eq!(
        fs::read_to_string(run.join("metrics.csv")).unwrap().lines().filter(|l| l.contains("train")).count(),
        601
    );
}

#[test]
fn damaged_runs() {
    let folder = folder("damaged_runs");
    let config = write_config(&folder, &[]);
    let run = folder.join("run");
    let out = run.display().to_string();
    let fresh = || {
        let _ = fs::remove_dir_all(&run);
        succeed(&["train", &config, "--out", &out, "--quiet"]);
        fs::remove_file(run.join("summary.json")).unwrap();
    };
    let cut = |name: &str| {
        let path = run.join(name);
        let contents = fs::read(&path).unwrap();
        fs::write(&path, &contents[..contents.len() / 2]).unwrap();
    };
    for file in ["checkpoint/network.bpk", "checkpoint/progress.json", "checkpoint/optimizer.bpk"] {
        fresh();
        cut(file);
        refused(&["resume", &out, "--quiet"], 1, &[file, "cut short"]);
        assert!(run.join("metrics.csv").exists());
    }
    fresh();
    cut("metrics.csv");
    refused(&["resume", &out, "--quiet"], 1, &["metrics.csv", "fewer than"]);

    // A checkpoint of another network.
    fresh();
    let other = write_config(&folder, &[("hidden = [6]", "hidden = [5, 4]")]);
    let foreign = folder.join("foreign");
    let _ = fs::remove_dir_all(&foreign);
    succeed(&["train", &other, "--out", foreign.to_str().unwrap(), "--quiet"]);
    for file in ["network.bpk", "optimizer.bpk"] {
        fs::copy(foreign.join("checkpoint").join(file), run.join("checkpoint").join(file)).unwrap();
    }
    refused(&["resume", &out, "--quiet"], 1, &["another network"]);
}

const TRAIN: usize = 30;

/// A folder of IDX files: `change` may alter the name and the bytes of each.
fn idx(folder: &Path, change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> String {
    let _ = fs::remove_dir_all(folder.join("idx"));
    fs::create_dir_all(folder.join("idx")).unwrap();
    let words = |values: &[u32]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>();
    for (half, count) in [("train", TRAIN), ("t10k", 10)] {
        let mut images = words(&[0x803, count as u32, 28, 28]);
        images.extend((0..count * 784).map(|index| (index % 251) as u8));
        let mut labels = words(&[0x801, count as u32]);
        labels.extend((0..count).map(|index| (index % 10) as u8));
        for (kind, contents) in [("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)] {
            let name = format!("{half}-{kind}.gz");
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&change(&format!("{half}-{kind}"), contents)).unwrap();
            fs::write(folder.join("idx").join(name), encoder.finish().unwrap()).unwrap();
        }
    }
    folder.join("idx").display().to_string()
}

#[test]
fn data_sets() {
    let folder = folder("bad_data");
    let check = |dir: &str, says: &[&str]| refused(&["data", "check", "mnist", "--dir", dir], 1, says);
    let good = idx(&folder, |_, contents| contents);
    let printed = succeed(&["data", "check", "mnist", "--dir", &good]);
    assert!(printed.contains("30 training and 10 test images"), "{printed}");
    assert_eq!(succeed(&["data", "path", "mnist", "--dir", &good]).trim(), good);

    // Plain files are read too.
    let plain = folder.join("plain");
    fs::create_dir_all(&plain).unwrap();
    for entry in fs::read_dir(&good).unwrap() {
        let path = entry.unwrap().path();
        let mut contents = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(fs::File::open(&path).unwrap()), &mut contents)
            .unwrap();
        fs::write(plain.join(path.file_stem().unwrap()), contents).unwrap();
    }
    succeed(&["data", "check", "mnist", "--dir", plain.to_str().unwrap()]);

    check(folder.to_str().unwrap(), &["was not found", "train-images", "--dir"]);
    let only = |target: &'static str, change: fn(Vec<u8>) -> Vec<u8>| {
        idx(&folder, move |name, contents| if name.starts_with(target) { change(contents) } else { contents })
    };
    check(
        &only("train-images", |c| [&[0, 0, 9, 3], &c[4..]].concat()),
        &["train-images", "wrong magic number 0x00000903"],
    );
    check(&only("train-images", |c| c[..c.len() - 1].to_vec()), &["train-images", "promises", "cut short"]);
    check(&only("train-images", |c| c[..7].to_vec()), &["train-images", "too short"]);
    check(
        &only("train-labels", |mut c| {
            c[10] = 10;
            c
        }),
        &["train-labels", "label 10 of image 2", "0 to 9"],
    );
    check(&only("train-labels", |c| [&c[..4], &[0, 0, 0, 29], &c[8..37]].concat()), &["30 images", "29 labels"]);
    check(
        &only("t10k-images", |c| [&c[..8], &[0, 0, 0, 14, 0, 0, 0, 14], &c[16..16 + 1960]].concat()),
        &["14x14, not 28x28"],
    );

    let dir = idx(&folder, |_, contents| contents);
    let path = folder.join("idx/train-images-idx3-ubyte.gz");
    let contents = fs::read(&path).unwrap();
    fs::write(&path, &contents[..contents.len() / 2]).unwrap();
    check(&dir, &["train-images", "damaged or cut short"]);
    fs::remove_file(folder.join("idx/t10k-labels-idx1-ubyte.gz")).unwrap();
    fs::write(&path, contents).unwrap();
    check(&dir, &["neither t10k-labels"]);
}
