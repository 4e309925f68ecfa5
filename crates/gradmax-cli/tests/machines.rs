//! Several processes, started by MPI, train and grow one network. With the feature `mpi` these tests need `mpirun`; without
//! it, the program says that it does not know MPI.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{GRADMAX, folder, text, without_times, write_config};

#[cfg(not(feature = "mpi"))]
#[test]
fn a_program_that_does_not_know_mpi_says_so_under_mpi() {
    let folder = folder("no-mpi");
    let config = write_config(&folder, &[]);
    let refused = Command::new(GRADMAX).args(["train", &config]).env("OMPI_COMM_WORLD_SIZE", "4").output().unwrap();
    assert!(text(&refused.stderr).contains("MPI has started 4 processes"), "{}", text(&refused.stderr));
    assert_eq!(refused.status.code(), Some(2));
}

/// Jobs of Open MPI that start at the same moment get into each other's way in the folder of their sockets.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn one_at_a_time() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Parts of a command line of `mpirun`, as many as there are kinds of processes: their number, and what they do.
fn mpirun(parts: &[(usize, &[&str])]) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "--bind-to", "none"]);
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    for (index, (ranks, arguments)) in parts.iter().enumerate() {
        command.args((index > 0).then_some(":")).args(["-n", &ranks.to_string(), GRADMAX]).args(*arguments);
    }
    command
}

fn run(ranks: usize, arguments: &[&str]) -> Output {
    mpirun(&[(ranks, arguments)]).output().unwrap()
}

/// Rows and receipts of a run, without times.
fn end(run: &Path) -> [Vec<String>; 2] {
    [without_times(&run.join("metrics.csv")), without_times(&run.join("growth.jsonl"))]
}

fn losses(run: &Path) -> Vec<f64> {
    let mut rows = csv::Reader::from_path(run.join("metrics.csv")).unwrap();
    rows.records().map(|row| row.unwrap()[3].parse().unwrap()).collect()
}

#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature `mpi`")]
#[test]
fn ranks_end_with_what_one_process_ends_with_and_repeat_bit_for_bit() {
    let (_alone, folder) = (one_at_a_time(), folder("mpi-train"));
    // 1437 training digits, 24 at a time: 2 and 3 ranks have the same share of every batch but the last of an epoch.
    let config = write_config(&folder, &[("batch_size = 32", "batch_size = 24")]);
    let train = |ranks: usize, name: &str| {
        let out = folder.join(name);
        let output = run(ranks, &["train", &config, "--out", out.to_str().unwrap(), "--quiet"]);
        assert!(output.status.success(), "{ranks}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout).matches("report: ").count(), 1, "one rank speaks: {}", text(&output.stdout));
        out
    };
    let alone = losses(&train(1, "one"));
    for ranks in [2, 3] {
        let out = train(ranks, &format!("ranks{ranks}"));
        assert_eq!(end(&out), end(&train(ranks, &format!("again{ranks}"))), "{ranks} ranks, twice");
        let together = losses(&out);
        assert_eq!(alone.len(), together.len());
        for (one, several) in alone.iter().zip(together) {
            assert!((one - several).abs() < 1e-4 * one, "{ranks}: {one} {several}");
        }
        assert_eq!(fs::read_to_string(out.join("growth.jsonl")).unwrap().lines().count(), 2);
    }
}

#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature `mpi`")]
#[test]
fn a_rank_that_is_killed_ends_all_and_the_run_resumes_bit_for_bit() {
    let (_alone, folder) = (one_at_a_time(), folder("mpi-killed"));
    let config =
        write_config(&folder, &[("steps = 60", "steps = 600\ncheckpoint_every = 20"), ("every = 20", "every = 100")]);
    let arguments = |out: &Path| ["train", &config, "--out", out.to_str().unwrap(), "--quiet"].map(String::from);
    let whole = folder.join("whole");
    let started = Instant::now();
    let output = run(2, &arguments(&whole).iter().map(String::as_str).collect::<Vec<_>>());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let takes = started.elapsed();
    let mut killed_midway = 0;
    for (at, share) in [0.4, 0.6, 0.8].into_iter().enumerate() {
        let out = folder.join(format!("killed{at}"));
        let own = arguments(&out);
        let mut child = mpirun(&[(2, &own.iter().map(String::as_str).collect::<Vec<_>>())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(takes.mul_f64(share));
        // One rank, the first or the last.
        let which = if at % 2 == 0 { "--newest" } else { "--oldest" };
        let _ = Command::new("pkill")
            .args(["-KILL", which, "-f", out.to_str().unwrap(), "--parent", &child.id().to_string()])
            .status();
        let killed = Instant::now();
        child.wait().unwrap();
        assert!(killed.elapsed() < Duration::from_secs(30), "the others end too");
        if out.join("config.toml").exists() && !out.join("summary.json").exists() {
            killed_midway += 1;
            let resumed = run(2, &["resume", out.to_str().unwrap(), "--quiet"]);
            assert!(resumed.status.success(), "{}", text(&resumed.stderr));
            assert_eq!(end(&out), end(&whole), "{at}");
        }
    }
    assert!(killed_midway > 0, "every run had started and none was finished when it was to be killed");
}

#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature `mpi`")]
#[test]
fn what_is_wrong_on_one_rank_ends_all_with_a_sentence() {
    let (_alone, folder) = (one_at_a_time(), folder("mpi-wrong"));
    let config = write_config(&folder, &[]);
    let out = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let ended = |parts: &[(usize, &[&str])], says: &[&str]| {
        let started = Instant::now();
        let output = mpirun(parts).output().unwrap();
        let said = text(&output.stderr);
        assert!(!output.status.success() && says.iter().all(|part| said.contains(part)), "{says:?}: {said}");
        assert!(started.elapsed() < Duration::from_secs(30), "{said}");
    };
    let own = ["train", &config, "--out", &out("rate"), "--quiet"];
    let other = ["train", &config, "--out", &out("rate"), "--quiet", "--set", "optimizer.learning_rate=0.01"];
    ended(&[(1, &own), (1, &other)], &["the configuration on rank 1 is not that of rank 0"]);
    let fewer = ["train", &config, "--out", &out("data"), "--quiet", "--set", "data.examples=100"];
    let own = ["train", &config, "--out", &out("data"), "--quiet"];
    ended(&[(1, &own), (1, &fewer)], &["on rank 1 is not that of rank 0"]);
    // Wrong everywhere: said by the first, with the exit code of a wrong configuration.
    ended(&[(2, &["train", "nowhere.toml"])], &["nowhere.toml", "rank 0 on"]);
    ended(&[(2, &["train", &config, "--out", &out("device"), "--device", "abacus"])], &["abacus"]);
    ended(&[(2, &["resume", &out("nothing")])], &["there is no folder"]);
    // Wrong on the last rank only.
    let good = ["train", &config, "--out", &out("gone"), "--quiet"];
    ended(&[(1, &good), (1, &["train", "gone.toml", "--quiet"])], &["rank 1 on", "gone.toml"]);
}

#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature `mpi`")]
#[test]
fn ranks_share_the_runs_of_a_comparison() {
    let (_alone, folder) = (one_at_a_time(), folder("mpi-compare"));
    let config = write_config(&folder, &[]);
    let out = folder.join("comparison");
    let output = run(
        2,
        &[
            "compare",
            &config,
            "--methods",
            "small,gradmax",
            "--seeds",
            "3",
            "--jobs",
            "1",
            "--out",
            out.to_str().unwrap(),
            "--quiet",
        ],
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(out.join("summary.csv")).unwrap().lines().count(), 1 + 6);
    assert_eq!(text(&output.stdout).matches("report: ").count(), 1);
}
