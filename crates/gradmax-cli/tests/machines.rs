//! Several processes, started by MPI, train and grow one network. With the feature `mpi` these tests need `mpirun`; without
//! it, the program says that it does not know MPI.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{GRADMAX, folder, gradmax, text, without_times, write_config};

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
    let output = run(2, &arguments(&whole).iter().map(String::as_str).collect::<Vec<_>>());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = |run: &Path| fs::read_to_string(run.join("metrics.csv")).unwrap_or_default().lines().count();
    let all_rows = rows(&whole);
    let mut killed_midway = 0;
    for (at, tenths) in [1, 4, 7].into_iter().enumerate() {
        let out = folder.join(format!("killed{at}"));
        let own = arguments(&out);
        let mut child = mpirun(&[(2, &own.iter().map(String::as_str).collect::<Vec<_>>())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // What the run has written says how far it is, however fast the machine is at the moment.
        let waited = Instant::now();
        while 10 * rows(&out) < tenths * all_rows {
            assert!(waited.elapsed() < Duration::from_secs(120), "the run never got there");
            std::thread::sleep(Duration::from_millis(2));
        }
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
    assert!(killed_midway > 0, "every run had ended before it could be killed");
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

/// A small convolutional network with batch norm on images.
const IMAGES: [(&str, &str); 4] = [
    (
        "name = \"mlp\"\nhidden = [6]\nactivation = \"relu\"",
        "name = \"conv_net\"\nstages = [{ kind = \"conv\", channels = 4 }, { kind = \"conv\", channels = 4 }]\n\
         norm = \"batch\"\nlast = \"flatten\"",
    ),
    ("steps = 60", "steps = 60\ncheckpoint_every = 20"),
    ("batch_size = 32", "batch_size = 24"),
    ("learning_rate = 0.05", "learning_rate = 0.01"),
];

#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature `mpi`")]
#[test]
fn batch_norm_is_that_of_one_process_where_it_is_synchronised() {
    let (_alone, folder) = (one_at_a_time(), folder("mpi-norm"));
    let config = write_config(&folder, &IMAGES);
    let train = |ranks: usize, statistics: &str| {
        let out = folder.join(format!("{statistics}{ranks}"));
        let set = format!("training.batch_norm={statistics}");
        let output = run(ranks, &["train", &config, "--out", out.to_str().unwrap(), "--quiet", "--set", &set]);
        assert!(output.status.success(), "{ranks} {statistics}: {}", text(&output.stderr));
        losses(&out)
    };
    let alone = train(1, "local");
    let apart = |several: Vec<f64>| {
        alone.iter().zip(several).map(|(one, several)| (one - several).abs() / one).fold(0.0, f64::max)
    };
    let [local, synchronised] = ["local", "synchronised"].map(|statistics| apart(train(2, statistics)));
    assert!(synchronised < 1e-4 && local > 1e-3, "{synchronised} {local}");
}

#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature `mpi`")]
#[test]
fn a_stopped_run_goes_on_and_says_if_it_is_on_another_number_of_ranks() {
    let (_alone, folder) = (one_at_a_time(), folder("mpi-resumed"));
    let config = write_config(&folder, &IMAGES);
    let train = |name: &str, steps: usize| {
        let (out, set) = (folder.join(name), format!("training.steps={steps}"));
        let output = run(2, &["train", &config, "--out", out.to_str().unwrap(), "--quiet", "--set", &set]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        out
    };
    let go_on = |ranks: usize, out: &Path| {
        let output = run(ranks, &["resume", out.to_str().unwrap(), "--quiet", "--set", "training.steps=60"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    // Batch norm's statistics for evaluation are the same on all ranks, and so go on after a checkpoint.
    let (whole, [shorter, other]) = (train("whole", 60), ["shorter", "other"].map(|name| train(name, 40)));
    assert!(!go_on(2, &shorter).contains("ranks"));
    let without_ends = |run: &Path| {
        // The shorter run was evaluated at its own end too.
        let rows = end(run)[0].iter().filter(|row| !row.starts_with("40,")).cloned().collect::<Vec<_>>();
        (rows, end(run)[1].clone())
    };
    assert_eq!(without_ends(&shorter), without_ends(&whole));
    assert!(go_on(3, &other).contains("on 2 ranks, and the next are on 3"));
    let summary = fs::read_to_string(other.join("summary.json")).unwrap();
    assert!(summary.contains("\"ranks\": 3"), "{summary}");
}

#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature `mpi`")]
#[test]
fn ranks_with_other_weights_do_not_go_on_together() {
    let (_alone, folder) = (one_at_a_time(), folder("mpi-weights"));
    let config = write_config(&folder, &[]);
    let train = |name: &str, rate: &str| {
        let out = folder.join(name);
        let output = gradmax(&["train", &config, "--out", out.to_str().unwrap(), "--quiet", "--set", rate]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        out
    };
    let [own, other] = [("own", "0.05"), ("other", "0.04")]
        .map(|(name, rate)| train(name, &format!("optimizer.learning_rate={rate}")));
    fs::copy(own.join("config.toml"), other.join("config.toml")).unwrap();
    let resume = |out: &Path| ["resume", out.to_str().unwrap(), "--set", "training.steps=80"].map(String::from);
    let parts = [resume(&own), resume(&other)];
    let parts = parts.each_ref().map(|part| part.each_ref().map(String::as_str));
    let output = mpirun(&[(1, &parts[0]), (1, &parts[1])]).output().unwrap();
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("the run's network on rank 1 is not that of rank 0"), "{said}");
}

/// A picture of one colour, 8 x 8, as a BMP file.
fn picture(colour: u8) -> Vec<u8> {
    let numbers = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
    let (pixels, header) =
        (vec![colour; 8 * 8 * 3], numbers(&[54 + 192, 0, 54, 40, 8, 8, 1 + (24 << 16), 0, 192, 0, 0, 0, 0]));
    [b"BM".as_slice(), &header, &pixels].concat()
}

#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature `mpi`")]
#[test]
fn an_image_that_one_rank_cannot_read_ends_all() {
    let (_alone, folder) = (one_at_a_time(), folder("mpi-image"));
    for (class, colour) in [("dark", 40), ("light", 200)] {
        for (split, count) in [("train", 24), ("test", 2)] {
            let images = folder.join("images").join(split).join(class);
            fs::create_dir_all(&images).unwrap();
            (0..count).for_each(|at| fs::write(images.join(format!("{at}.bmp")), picture(colour + at)).unwrap());
        }
    }
    let damaged = folder.join("images/train/dark/7.bmp");
    fs::write(&damaged, &picture(47)[..100]).unwrap();
    let data = format!("name = \"image_folder\"\ndir = {:?}\nsize = 8", folder.join("images"));
    let changes = [IMAGES.as_slice(), &[("name = \"digits\"", &data), ("start = 20", "start = 40")]].concat();
    let config = write_config(&folder, &changes);
    let out = folder.join("out");
    let started = Instant::now();
    let output = run(2, &["train", &config, "--out", out.to_str().unwrap(), "--quiet"]);
    let said = text(&output.stderr);
    assert!(said.contains("cannot read the image") && said.contains("7.bmp"), "{said}");
    assert!(!output.status.success() && started.elapsed() < Duration::from_secs(30), "{said}");
}

#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature `mpi`")]
#[test]
fn ranks_share_the_runs_of_a_comparison() {
    let (_alone, folder) = (one_at_a_time(), folder("mpi-compare"));
    let config = write_config(&folder, &[]);
    let compare = |name: &str, split: &str| {
        let out = folder.join(name);
        let arguments = ["compare", &config, "--methods", "small,gradmax", "--seeds", "3", "--jobs", "1", "--quiet"];
        let output = run(2, &[arguments.as_slice(), &["--out", out.to_str().unwrap(), "--split", split]].concat());
        (out, output)
    };
    for split in ["runs", "batch"] {
        let (out, output) = compare(split, split);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(fs::read_to_string(out.join("summary.csv")).unwrap().lines().count(), 1 + 6);
        assert_eq!(text(&output.stdout).matches("report: ").count(), 1);
        let summary = fs::read_to_string(out.join("gradmax/seed2/summary.json")).unwrap();
        assert!(summary.contains(if split == "batch" { "\"ranks\": 2" } else { "\"ranks\": 1" }), "{summary}");
    }
    // A run that fails on any rank is in the table of all.
    let broken = folder.join("broken/gradmax/seed1");
    fs::create_dir_all(&broken).unwrap();
    // Where the folder of checkpoints belongs.
    fs::write(broken.join("checkpoint"), "").unwrap();
    let (out, output) = compare("broken", "runs");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("1 of 6 runs failed"), "{}", text(&output.stderr));
    assert!(fs::read_to_string(out.join("summary.md")).unwrap().contains("1 of 6 runs failed: gradmax seed 1"));
}

/// Two network namespaces, each a host to MPI, with a cable between them. They need root and `ip`.
struct TwoHosts {
    folder: std::path::PathBuf,
}

impl TwoHosts {
    fn new(folder: &Path) -> Option<Self> {
        let hosts = Self { folder: folder.to_path_buf() };
        let made = hosts.ip(&["netns add gradmax1", "netns add gradmax2"])
            && hosts.ip(&["link add gradmax1 netns gradmax1 type veth peer name gradmax2 netns gradmax2"])
            && [1, 2].iter().all(|host| {
                let address = format!("-n gradmax{host} addr add 10.213.47.{host}/24 dev gradmax{host}");
                let [link, own] = [format!("gradmax{host}"), "lo".into()];
                let up = |link: String| format!("-n gradmax{host} link set {link} up");
                hosts.ip(&[&address, &up(link), &up(own)])
            });
        // In place of a remote shell.
        let agent = "#!/bin/bash\nhost=${1##*.}; shift\n\
                     exec ip netns exec gradmax$host unshare --uts bash -c \"hostname host$host; $*\"\n";
        fs::write(folder.join("agent.sh"), agent).unwrap();
        let names = ["netns", "exec", "gradmax1", "unshare", "--uts", "hostname", "host1"];
        let named = Command::new("ip").args(names).status().is_ok_and(|status| status.success());
        (made && named).then_some(hosts)
    }

    fn ip(&self, calls: &[&str]) -> bool {
        calls.iter().all(|call| {
            let output = Command::new("ip").args(call.split(' ')).output();
            output.is_ok_and(|output| output.status.success())
        })
    }

    /// Starts a rank on each.
    fn mpirun(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            "gradmax1",
            "unshare",
            "--uts",
            "bash",
            "-c",
            "hostname host1; exec \"$@\"",
            "-",
        ]);
        let agent = format!("bash {}", self.folder.join("agent.sh").display());
        command.args(["mpirun", "--bind-to", "none", "--mca", "plm_rsh_agent", &agent, "--mca", "btl", "tcp,self"]);
        command.args([
            "--mca",
            "btl_tcp_if_include",
            "10.213.47.0/24",
            "--mca",
            "oob_tcp_if_include",
            "10.213.47.0/24",
        ]);
        command.args(["-x", "GRADMAX_MPI_TIMEOUT=5", "-n", "2", "--host", "10.213.47.1,10.213.47.2", GRADMAX]);
        command.args(arguments);
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command
    }
}

impl Drop for TwoHosts {
    fn drop(&mut self) {
        for host in [1, 2] {
            // What a broken cable has left there.
            let left = Command::new("ip").args(["netns", "pids", &format!("gradmax{host}")]).output();
            let left = left.map(|output| text(&output.stdout)).unwrap_or_default();
            left.split_whitespace().for_each(|process| {
                let _ = Command::new("kill").args(["-KILL", process]).status();
            });
            self.ip(&[&format!("netns del gradmax{host}")]);
        }
    }
}

#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature `mpi`")]
#[test]
fn two_hosts_train_together_until_the_cable_between_them_is_cut() {
    let (_alone, folder) = (one_at_a_time(), folder("mpi-hosts"));
    let Some(hosts) = TwoHosts::new(&folder) else {
        eprintln!("no network namespaces here: two hosts were not tried");
        return;
    };
    let config = write_config(&folder, &[("batch_size = 32", "batch_size = 24")]);
    let [one, two, cut] = ["one", "two", "cut"].map(|name| folder.join(name));
    let train = |out: &Path, steps: &'static str| {
        ["train", &config, "--out", out.to_str().unwrap(), "--quiet", "--set", steps].map(String::from)
    };
    let own = train(&one, "training.steps=60");
    assert!(gradmax(&own.each_ref().map(String::as_str)).status.success());
    let own = train(&two, "training.steps=60");
    let output = hosts.mpirun(&own.each_ref().map(String::as_str)).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    for (one, two) in losses(&one).iter().zip(losses(&two)) {
        assert!((one - two).abs() < 1e-4 * one, "{one} {two}");
    }

    let own = train(&cut, "training.steps=1000000");
    // Not a pipe, which the starter's helper on the other host would keep open for as long as TCP tries.
    let errors = folder.join("errors");
    let mut job = hosts.mpirun(&own.each_ref().map(String::as_str));
    let mut job = job.stdout(Stdio::null()).stderr(fs::File::create(&errors).unwrap()).spawn().unwrap();
    let started = Instant::now();
    while !cut.join("metrics.csv").exists() && started.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(hosts.ip(&["-n gradmax2 link set gradmax2 down"]));
    // The ranks end. `mpirun` waits for the other host as long as TCP does, which is minutes.
    let (cable, out) = (Instant::now(), cut.display().to_string());
    let ranks = || {
        let found = Command::new("pgrep").args(["-a", "-x", "gradmax"]).output().unwrap();
        text(&found.stdout).lines().filter(|line| line.contains(&out)).count()
    };
    while ranks() > 0 && cable.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(ranks(), 0, "a rank waits for ever");
    job.kill().unwrap();
    job.wait().unwrap();
    let said = fs::read_to_string(errors).unwrap();
    assert!(said.contains("the other ranks have not answered for 5 seconds"), "{said}");
    assert!(cut.join("config.toml").exists());
}
