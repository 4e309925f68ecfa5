//! A run stays what it is: what may change when it is resumed, and what it says of failures on the way.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{GRADMAX, folder, gradmax, succeed, text, write_config};

/// A run that was stopped halfway, by asking for fewer steps first.
fn half(folder: &Path, changes: &[(&str, &str)]) -> String {
    let config = write_config(folder, changes);
    let run = folder.join("run").display().to_string();
    let _ = fs::remove_dir_all(&run);
    succeed(&["train", &config, "--out", &run, "--set", "training.steps=40", "--quiet"]);
    fs::remove_file(Path::new(&run).join("summary.json")).unwrap();
    edit(&run, "steps = 40", "steps = 40");
    run
}

/// Replaces text in the configuration of a run.
fn edit(run: &str, from: &str, to: &str) {
    let path = Path::new(run).join("config.toml");
    let old = fs::read_to_string(&path).unwrap();
    assert!(old.contains(from), "{old}");
    fs::write(path, old.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_changed_configuration_is_refused_or_said() {
    let folder = folder("identity");
    let table: &[(&str, &str, &str)] = &[
        ("method = \"gradmax\"", "method = \"small\"", "`method` is \"small\" (it was \"gradmax\")"),
        ("seed = 0", "seed = 5", "`seed` is 5 (it was 0)"),
        ("hidden = [6]", "hidden = [6, 6]", "network.hidden"),
        ("count = 2", "count = 3", "growth.count"),
        ("start = 20", "start = 10", "growth.start"),
        ("batch_size = 32", "batch_size = 16", "training.batch_size"),
        ("name = \"digits\"", "name = \"digits\"\nexamples = 500", "data.examples"),
        ("name = \"sgd\"", "name = \"sgd\"\nweight_decay = 0.1", ""),
    ];
    for (from, to, says) in table {
        let run = half(&folder, &[]);
        edit(&run, "steps = 40", "steps = 60");
        // Not every default can be replaced in place: the last one is allowed, and written twice.
        if says.is_empty() {
            edit(&run, "weight_decay = 0.0", "weight_decay = 0.1");
            let output = gradmax(&["resume", &run, "--quiet"]);
            let said = text(&output.stderr);
            assert!(output.status.success(), "{said}");
            assert!(
                said.contains("`training.steps` is 60 (it was 40)") && said.contains("optimizer.weight_decay"),
                "{said}"
            );
            let summary = fs::read_to_string(Path::new(&run).join("summary.json")).unwrap();
            assert!(summary.contains("\"steps\": 60"), "{summary}");
            continue;
        }
        edit(&run, from, to);
        let output = gradmax(&["resume", &run, "--quiet"]);
        assert_eq!(output.status.code(), Some(2), "{to}");
        let said = text(&output.stderr);
        assert!(said.contains(says) && said.contains("another run") && said.lines().count() == 1, "{to}: {said}");
        assert!(!Path::new(&run).join("summary.json").exists());
    }
}

#[test]
fn checkpoints_of_other_networks_are_refused_without_a_panic() {
    let folder = folder("other_network");
    let run = half(&folder, &[]);
    edit(&run, "hidden = [6]", "hidden = [6, 6]");
    // A folder of an earlier version of the program does not know what it was started with.
    fs::remove_file(Path::new(&run).join(".started.toml")).unwrap();
    for command in ["resume", "inspect"] {
        let output = gradmax(&[command, &run]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("with 1 sites (hidden1)") && said.contains("has 2 (hidden1, hidden2)"), "{said}");
    }
}

#[test]
fn failures_of_growth_are_saved_and_can_be_passed_over() {
    let folder = folder("growth_failures");
    let config = write_config(&folder, &[]);
    let run = folder.join("run").display().to_string();
    // An instance norm before the average leaves no gradient but rounding, which scale `joint` refuses to divide by.
    let network = "network={name='conv_net',stages=[{kind='conv',channels=4},{kind='conv',channels=4}],norm={group=1},activation='identity'}";
    let sets = ["--set", network, "--set", "growth.scale=joint"];
    let output = gradmax(&[&["train", &config, "--out", &run, "--quiet"][..], &sets].concat());
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("rounding, so scale `joint`"), "{said}");
    let step = || fs::read_to_string(Path::new(&run).join("checkpoint/progress.json")).unwrap();
    assert!(step().contains("\"step\": 20"), "it was saved right before the event");
    let again = gradmax(&["resume", &run, "--quiet"]);
    assert!(text(&again.stderr).contains("rounding, so scale `joint`"), "it fails again until something is changed");
    edit(&run, "on_failure = \"stop\"", "on_failure = \"skip\"");
    succeed(&["resume", &run, "--quiet"]);
    let receipts = fs::read_to_string(Path::new(&run).join("growth.jsonl")).unwrap();
    assert_eq!(receipts.matches("\"refused\":\"").count(), 2, "{receipts}");
    let page = fs::read_to_string(Path::new(&run).join("report.html")).unwrap();
    assert!(page.contains("refused, and passed over") && page.contains("2 of them refused"), "it is reported");
}

#[test]
fn weights_that_are_not_numbers_replace_no_checkpoint() {
    let folder = folder("diverged");
    let config = write_config(
        &folder,
        &[
            ("learning_rate = 0.05", "learning_rate = 0.05"),
            ("batch_size = 32", "batch_size = 32\ncheckpoint_every = 5\nlog_every = 1000\nevaluate_every = 1000"),
        ],
    );
    let run = folder.join("run").display().to_string();
    let decay = "training.decay={ step = { at = [0.3], factor = 1e35 } }";
    let output = gradmax(&["train", &config, "--out", &run, "--set", decay, "--quiet"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("not a number") || said.contains("not finite") || said.contains("loss became"), "{said}");
    // The checkpoint is the last good one, from which the run goes on at a sane rate.
    let progress = fs::read_to_string(Path::new(&run).join("checkpoint/progress.json")).unwrap();
    assert!(progress.contains("\"step\": 15"), "{progress}");
    let path = Path::new(&run).join("config.toml");
    let written = fs::read_to_string(&path).unwrap();
    // Of the two factors, the one of the learning rate.
    let sane =
        |line: &str| if line.starts_with("factor = 1000") { "factor = 0.1".to_string() } else { line.to_string() };
    fs::write(&path, written.lines().map(|line| sane(line) + "\n").collect::<String>()).unwrap();
    succeed(&["resume", &run, "--quiet"]);
}

#[test]
fn a_run_that_fails_does_not_take_down_a_comparison() {
    let folder = folder("one_fails");
    // A method whose learning rate diverges cannot be told by configuration; a damaged checkpoint can.
    let config = write_config(&folder, &[]);
    let out = folder.join("out");
    let compare = |expected: i32| {
        let arguments =
            ["compare", &config, "--methods", "small,gradmax", "--seeds", "2", "--out", out.to_str().unwrap()];
        let output = gradmax(&arguments);
        assert_eq!(output.status.code(), Some(expected), "{}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    compare(0);
    let run = out.join("small/seed1");
    fs::remove_file(run.join("summary.json")).unwrap();
    fs::remove_file(out.join("gradmax/seed1/summary.json")).unwrap();
    fs::write(run.join("checkpoint/network.bpk"), "torn").unwrap();
    let (printed, said) = compare(1);
    assert!(printed.contains("1 of 4 runs failed: small seed 1: ") && printed.contains("network.bpk"), "{printed}");
    assert!(said.contains("1 of 4 runs failed"), "{said}");
    assert!(out.join("gradmax/seed1/summary.json").exists(), "the others go on");
    let written = fs::read_to_string(out.join("summary.md")).unwrap();
    assert!(written.contains("1 of 4 runs failed"), "{written}");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("1 of 4 runs failed: small seed 1"), "the report says so too");
    // Mended, it goes on, and nothing is said any more.
    fs::remove_dir_all(&run).unwrap();
    let (printed, _) = compare(0);
    assert!(!printed.contains("failed"), "{printed}");
}

#[test]
fn readers_that_leave_early_are_no_failure() {
    let folder = folder("pipes");
    let config = write_config(&folder, &[]);
    let run = folder.join("run").display().to_string();
    succeed(&["train", &config, "--out", &run, "--quiet"]);
    let commands: [&[&str]; 5] = [
        &["inspect", &config],
        &["inspect", &config, "--json"],
        &["resume", &run],
        &["report", &run],
        &["data", "check", "digits"],
    ];
    for arguments in commands {
        let mut child =
            Command::new(GRADMAX).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert!(
            output.status.success() && !said.contains("panicked") && !said.contains("fault"),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn growth_that_never_comes_and_seeds_without_end_are_said() {
    let folder = folder("never");
    let config = write_config(&folder, &[]);
    let train = |name: &str, set: &str| {
        let out = folder.join(name).display().to_string();
        text(&gradmax(&["train", &config, "--set", set, "--out", &out, "--quiet"]).stderr)
    };
    assert!(train("late", "growth.start=1000").contains("the network never grows"));
    assert!(train("between", "growth.every=1000").contains("the network never grows"));
    assert_eq!(train("grows", "growth.start=20"), "");
    assert_eq!(train("small", "method=small"), "");
    assert!(succeed(&["inspect", &config, "--set", "growth.start=1000"]).contains("the network never grows"));
    let out = folder.join("seeds").display().to_string();
    let seed = format!("seed={}", i64::MAX);
    assert!(
        gradmax(&["compare", &config, "--set", &seed, "--seeds", "1", "--methods", "small", "--out", &out])
            .status
            .success()
    );
    let output =
        gradmax(&["compare", &config, "--seeds", "18446744073709551615", "--set", "seed=2", "--methods", "small"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("would pass the largest number"), "{}", text(&output.stderr));
}

/// Burn's default device, which is a GPU where one is compiled in, is never computed on. That can fail only in a binary
/// with two devices on a machine without a GPU: `cargo test -p gradmax-cli --features vulkan --test identity` there.
#[test]
fn nothing_depends_on_the_default_device() {
    let folder = folder("default_device");
    let config = write_config(&folder, &[("name = \"sgd\"", "name = \"adam\""), ("momentum = 0.9\n", "")]);
    let run = folder.join("run").display().to_string();
    let out = folder.join("out").display().to_string();
    let commands: [&[&str]; 5] = [
        &["train", &config, "--out", &run, "--set", "training.steps=40", "--quiet"],
        &["resume", &run, "--quiet"],
        &["compare", &config, "--seeds", "1", "--methods", "small,gradmax,firefly", "--out", &out, "--quiet"],
        &[
            "compare",
            &config,
            "--at",
            &run,
            "--set",
            "training.steps=90",
            "--methods",
            "gradmax",
            "--out",
            &format!("{out}-at"),
        ],
        &["data", "check", "digits"],
    ];
    for (index, arguments) in commands.into_iter().enumerate() {
        if index == 1 {
            edit(&run, "steps = 40", "steps = 60");
            fs::remove_file(Path::new(&run).join("summary.json")).unwrap();
        }
        let output = gradmax(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn data_is_found_from_any_folder() {
    let folder = folder("anywhere");
    let (configs, data) = (folder.join("configs"), folder.join("images"));
    fs::create_dir_all(&configs).unwrap();
    for (half, class) in ["train", "val"].into_iter().flat_map(|half| ["a", "b"].map(|class| (half, class))) {
        let class = data.join(half).join(class);
        fs::create_dir_all(&class).unwrap();
        // A PPM of 9x9 pixels.
        for index in 0..4_u8 {
            let pixels = (0..243).map(|at: usize| (at as u8).wrapping_mul(index + 1)).collect::<Vec<_>>();
            fs::write(class.join(format!("{index}.ppm")), [b"P6 9 9 255\n".as_slice(), &pixels].concat()).unwrap();
        }
    }
    let small = [
        ("name = \"digits\"", "name = \"image_folder\"\ndir = \"../images\"\nsize = 8"),
        ("batch_size = 32", "batch_size = 4"),
    ];
    let config = write_config(&configs, &small);
    let run = folder.join("run").display().to_string();
    // From the root of the file system: the folder is meant from the configuration on.
    let at_root = |arguments: &[&str]| {
        let output = Command::new(GRADMAX).args(arguments).current_dir("/").output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    at_root(&["train", &config, "--out", &run, "--set", "training.steps=40", "--quiet"]);
    assert!(fs::read_to_string(Path::new(&run).join("config.toml")).unwrap().contains(data.to_str().unwrap()));
    edit(&run, "steps = 40", "steps = 50");
    fs::remove_file(Path::new(&run).join("summary.json")).unwrap();
    at_root(&["resume", &run, "--quiet"]);
    // The data gone, the run's network still has two outputs.
    fs::rename(&data, folder.join("moved")).unwrap();
    let inspected: serde_json::Value = serde_json::from_str(&at_root(&["inspect", &run, "--json"])).unwrap();
    let layers = inspected["network"]["layers"].as_array().unwrap();
    assert_eq!(layers.last().unwrap()["output"], serde_json::json!([2]), "{inspected}");
    let of_config = at_root(&["inspect", &config]);
    assert!(of_config.contains("1000 classes, as ImageNet has them"), "{of_config}");
    // On the command line, it is meant from where that is typed.
    let set = format!("data.dir={}", "moved");
    let output = Command::new(GRADMAX).args(["inspect", &config, "--set", &set]).current_dir(&folder).output().unwrap();
    assert!(!text(&output.stdout).contains("1000 classes"), "{}", text(&output.stdout));
}
