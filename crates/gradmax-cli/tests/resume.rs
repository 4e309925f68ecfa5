//! A killed run resumes to the same end, bit for bit.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use common::{GRADMAX, config, folder, gradmax, succeed, text, without_times, write_config};

/// The run's end: weights, metrics, receipts without times, and what was taken back of growth.
fn end(run: &Path) -> (Vec<u8>, Vec<String>, Vec<String>, String) {
    let weights = tensors(&run.join("checkpoint/network.bpk"));
    let undone = fs::read_to_string(run.join("undone.jsonl")).unwrap_or_default();
    (weights, without_times(&run.join("metrics.csv")), without_times(&run.join("growth.jsonl")), undone)
}

/// The weights of a checkpoint in the order of their names: parameter ids are drawn anew by every run.
fn tensors(path: &Path) -> Vec<u8> {
    let reader = burn_pack::Reader::from_file(path).unwrap();
    let mut tensors = reader.into_tensors().unwrap();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors.iter().flat_map(|tensor| tensor.to_bytes().unwrap().to_vec()).collect()
}

fn start(arguments: &[&str]) -> std::process::Child {
    Command::new(GRADMAX).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_run_killed_at_any_moment_resumes_bit_identically() {
    let folder = folder("killed");
    let digits = config("digits_mlp");
    let train = |out: &str| {
        // Checkpoints between growth events and right at them; growth every 90 steps, judged 60 steps later.
        let arguments = ["train", &digits, "--out", out, "--quiet", "--set", "training.checkpoint_every=45"];
        let undo = ["--set", "growth.undo_after=60", "--set", "growth.undo_rise=0.02"];
        arguments.into_iter().chain(undo).map(String::from).collect::<Vec<_>>()
    };
    let whole = folder.join("whole");
    let arguments = train(whole.to_str().unwrap());
    let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    let started = Instant::now();
    succeed(&arguments);
    let takes = started.elapsed();
    assert!(end(&whole).3.contains("\"after\""), "some growth is taken back");

    for kill in 0..10 {
        let run = folder.join(format!("killed{kill}"));
        let arguments = train(run.to_str().unwrap());
        let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
        let mut child = start(&arguments);
        // Spread over the run, from before the first checkpoint to after the last growth.
        sleep(takes.mul_f64(0.05 + 0.09 * f64::from(kill)));
        child.kill().unwrap();
        child.wait().unwrap();
        if kill % 3 == 0 && run.join("config.toml").exists() && !run.join("summary.json").exists() {
            // Killed again while it resumes.
            let mut again = start(&["resume", run.to_str().unwrap(), "--quiet"]);
            sleep(takes.mul_f64(0.2));
            again.kill().unwrap();
            again.wait().unwrap();
        }
        if !run.join("config.toml").exists() {
            succeed(&arguments);
        } else {
            succeed(&["resume", run.to_str().unwrap(), "--quiet"]);
        }
        assert!(end(&run) == end(&whole), "killed {kill}: the resumed run ended differently");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_checkpoints_and_exits_with_130() {
    let folder = folder("interrupted");
    let config = write_config(&folder, &[("steps = 60", "steps = 200000")]);
    let run = folder.join("run");
    let arguments = ["train", &config, "--out", run.to_str().unwrap(), "--quiet"];
    let mut child = start(&arguments);
    let waited = Instant::now();
    while fs::read_to_string(run.join("metrics.csv")).unwrap_or_default().lines().count() < 5 {
        assert!(waited.elapsed() < Duration::from_secs(60), "the run never started");
        sleep(Duration::from_millis(20));
    }
    let second = gradmax(&["resume", run.to_str().unwrap(), "--quiet"]);
    assert_eq!(second.status.code(), Some(2));
    assert!(text(&second.stderr).contains("another program is at work in"), "{}", text(&second.stderr));
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(run.join("checkpoint/progress.json").exists());
    assert!(!run.join("summary.json").exists());

    let inspected = succeed(&["inspect", run.to_str().unwrap()]);
    assert!(inspected.starts_with("after "), "{inspected}");
    succeed(&["report", run.to_str().unwrap()]);
    assert!(fs::read_to_string(run.join("report.html")).unwrap().contains("0 finished so far"));
}

#[test]
fn growth_batches_of_every_kind_can_be_configured() {
    let folder = folder("growth_batches");
    let config = write_config(&folder, &[]);
    for (index, batch) in ["\"training\"", "\"all\"", "{ examples = 100 }"].into_iter().enumerate() {
        let run = folder.join(format!("run{index}"));
        let set = format!("growth.batch={batch}");
        succeed(&["train", &config, "--set", &set, "--out", run.to_str().unwrap(), "--quiet"]);
        let receipts = fs::read_to_string(run.join("growth.jsonl")).unwrap();
        assert_eq!(receipts.lines().count(), 2);
        assert_eq!(receipts.contains("\"probe_is_training_step\":true"), index == 0, "{receipts}");
        // The configuration that is written repeats the run.
        let again = folder.join(format!("again{index}"));
        let written = run.join("config.toml").display().to_string();
        succeed(&["train", &written, "--out", again.to_str().unwrap(), "--quiet"]);
        assert!(end(&again) == end(&run));
    }
}

#[test]
fn a_comparison_keeps_what_is_finished() {
    let folder = folder("comparison");
    let config = write_config(&folder, &[]);
    let out = folder.join("out");
    let compare = |seeds: &str| {
        succeed(&[
            "compare",
            &config,
            "--methods",
            "small,gradmax",
            "--seeds",
            seeds,
            "--out",
            out.to_str().unwrap(),
            "--quiet",
        ])
    };
    compare("1");
    let kept = out.join("gradmax/seed0/summary.json");
    let before = fs::metadata(&kept).unwrap().modified().unwrap();
    let printed = compare("2");
    assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), before, "a finished run was run again");
    assert!(printed.contains("gradmax") && printed.contains("difference to gradmax"), "{printed}");
    let rows = fs::read_to_string(out.join("summary.csv")).unwrap();
    assert_eq!(rows.lines().count(), 1 + 4);
    assert!(out.join("summary.md").exists() && out.join("report.html").exists());

    // Paired: before the first growth, every method has seen the same.
    let first = |method: &str| without_times(&out.join(method).join("seed1/metrics.csv"))[..3].to_vec();
    assert_eq!(first("small"), first("gradmax"));

    // A run that was cut off goes on with `resume` on the comparison.
    let run = out.join("small/seed1");
    let before = without_times(&run.join("metrics.csv"));
    fs::remove_file(run.join("summary.json")).unwrap();
    succeed(&["resume", out.to_str().unwrap(), "--quiet"]);
    assert!(run.join("summary.json").exists());
    assert_eq!(without_times(&run.join("metrics.csv")), before);

    // Another configuration does not mix with it.
    let other = write_config(&folder, &[("learning_rate = 0.05", "learning_rate = 0.02")]);
    let refused = gradmax(&["compare", &other, "--methods", "small", "--seeds", "1", "--out", out.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("another configuration"), "{}", text(&refused.stderr));
}

/// Everything that a resumed run has to take up where it was: growth, running statistics, dropout's draws, augmented
/// images, the optimizer's state.
const KILLED: &str = r#"
[data]
name = "digits"
augment = { crop = 1, flip = true }

[network]
name = "conv_net"
norm = "batch"
stages = [
  { kind = "conv", channels = 6 },
  { kind = "dropout", rate = 0.2 },
  { kind = "conv", channels = 8, stride = 2 },
]
last = "flatten"

[optimizer]
name = "NAME"
learning_rate = 0.02

[training]
steps = 1200
batch_size = 64
checkpoint_every = 70

[growth]
start = 150
every = 200
times = 4
fraction = 0.25
"#;

/// 100 kills at random moments. Takes minutes:
/// `cargo test --release -p gradmax-cli --test resume -- --ignored --nocapture`
#[ignore = "takes minutes"]
#[test]
fn runs_killed_a_hundred_times_end_bit_identically() {
    const KILLS: usize = 100;
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    println!("moments drawn from seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let folder = folder("hundred_kills");
    let mut wholes = Vec::new();
    for optimizer in ["sgd", "adamw"] {
        let config = folder.join(format!("{optimizer}.toml"));
        fs::write(&config, KILLED.replace("NAME", optimizer)).unwrap();
        let whole = folder.join(optimizer);
        let started = Instant::now();
        succeed(&["train", config.to_str().unwrap(), "--out", whole.to_str().unwrap(), "--quiet"]);
        wholes.push((config, whole, started.elapsed()));
    }
    let (mut kills, mut runs) = (0, 0);
    while kills < KILLS {
        let (config, whole, takes) = &wholes[runs % wholes.len()];
        let run = folder.join(format!("killed{runs}"));
        let (config, path) = (config.to_str().unwrap(), run.to_str().unwrap());
        loop {
            let exists = run.join("config.toml").exists();
            let arguments = match exists {
                true => vec!["resume", path, "--quiet"],
                false => vec!["train", config, "--out", path, "--quiet"],
            };
            let mut child = start(&arguments);
            sleep(takes.mul_f64(rng.random_range(0.0..1.1)));
            // A run that has ended by itself is none that was killed.
            let status = match child.try_wait().unwrap() {
                Some(status) => status,
                None => {
                    child.kill().unwrap();
                    child.wait().unwrap()
                }
            };
            match status.code() {
                Some(0) => break,
                Some(code) => panic!("{arguments:?} ended with {code}: {}", text(&gradmax(&arguments).stderr)),
                None => kills += 1,
            }
        }
        assert!(end(&run) == end(whole), "{path} ended differently from {}", whole.display());
        runs += 1;
    }
    println!("{kills} kills over {runs} runs: all ended bit-identically");
}
