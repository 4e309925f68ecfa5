//! Reports: which runs belong together, each of them once; and files that are damaged.

mod common;

use std::fs;
use std::path::Path;

use common::{folder, gradmax, succeed, text, write_config};

fn train(config: &str, out: &Path, changes: &[&str]) {
    let mut arguments = vec!["train", config, "--out", out.to_str().unwrap(), "--quiet"];
    changes.iter().for_each(|change| arguments.extend(["--set", change]));
    succeed(&arguments);
}

fn report(folders: &[&Path], out: &Path) -> String {
    let mut arguments = vec!["report"];
    arguments.extend(folders.iter().map(|folder| folder.to_str().unwrap()));
    arguments.extend(["--out", out.to_str().unwrap()]);
    succeed(&arguments);
    fs::read_to_string(out).unwrap()
}

#[test]
fn runs_of_different_experiments_are_not_averaged() {
    let folder = folder("experiments");
    let config = write_config(&folder, &[]);
    let runs = folder.join("runs");
    train(&config, &runs.join("six").join("a"), &[]);
    train(&config, &runs.join("six").join("b"), &["seed=1"]);
    train(&config, &runs.join("many").join("a"), &["network.hidden=[16]"]);
    let teacher =
        "data={ name = \"teacher_student\", inputs = 5, hidden = 4, outputs = 3, examples = 50, test_examples = 50 }";
    train(&config, &runs.join("teacher").join("a"), &[teacher]);
    let page = report(&[&runs], &folder.join("report.html"));
    assert!(page.contains("3 experiments; runs are compared within each of them only"), "no parts");
    for (index, name) in ["many", "six", "teacher"].into_iter().enumerate() {
        assert!(page.contains(&format!("<a href=\"#experiment{index}\">{name}</a>")), "{name}");
        assert!(page.contains(&format!("<section id=\"experiment{index}\">")));
    }
    let part = |index: usize| page.split("<section id=").nth(index + 1).unwrap();
    assert!(
        part(1).contains("1 method, 2 seeds, 2 runs") && part(1).contains("hidden = [6]"),
        "the configuration is the part's"
    );
    assert!(part(0).contains("1 method, 1 seed, 1 run") && part(0).contains("hidden = [16]"));
    assert!(part(2).contains("teacher_student") && !part(0).contains("teacher_student"));

    // One experiment stays one page, whatever its methods and seeds.
    let page = report(&[&runs.join("six")], &folder.join("six.html"));
    assert!(!page.contains("experiments; runs are compared") && page.contains("2 seeds"));
    // A method with other options is another experiment.
    let split = runs.join("splits");
    train(&config, &split.join("a"), &["method=split"]);
    train(&config, &split.join("b"), &["method=split", "methods.split.noise=0.3", "seed=1"]);
    assert!(report(&[&split], &folder.join("splits.html")).contains("2 experiments"));
}

#[test]
fn a_run_counts_once_however_it_is_reached() {
    let folder = folder("once");
    let config = write_config(&folder, &[]);
    let runs = folder.join("runs");
    let comparison = runs.join("exp");
    let out = comparison.to_str().unwrap();
    succeed(&["compare", &config, "--methods", "small,gradmax", "--seeds", "2", "--out", out, "--quiet"]);
    let alone = report(&[&comparison], &folder.join("alone.html"));
    let within = comparison.join("gradmax");
    let round = runs.join("..").join("runs").join("exp");
    let again = report(&[&comparison, &runs, &within, &round], &folder.join("again.html"));
    assert!(alone.contains("2 methods, 2 seeds, 4 runs") && again.contains("2 methods, 2 seeds, 4 runs"));
    let table = |page: &str| {
        page.split("<h2>Charts</h2>").next().unwrap().split("<h2>Results</h2>").nth(1).unwrap().to_string()
    };
    assert_eq!(table(&alone), table(&again));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&comparison, runs.join("link")).unwrap();
        assert_eq!(table(&report(&[&runs], &folder.join("links.html"))), table(&alone));
    }
    // The same method and seed in a folder of its own is a repetition, not a further sample.
    train(&config, &runs.join("more").join("a"), &[]);
    let page = report(&[&comparison, &runs.join("more")], &folder.join("more.html"));
    assert!(page.contains("1 run repeats a method and seed of another folder"), "it is said");
    assert!(page.contains("2 methods, 2 seeds, 4 runs"));
}

#[test]
fn only_an_incomplete_last_line_is_passed_over() {
    let folder = folder("lines");
    let config = write_config(&folder, &[]);
    let run = folder.join("run");
    train(&config, &run, &[]);
    let [metrics, receipts] = ["metrics.csv", "growth.jsonl"].map(|name| run.join(name));
    let [rows, events] = [&metrics, &receipts].map(|path| fs::read_to_string(path).unwrap());
    let page = |name: &str| report(&[&run], &folder.join(name));
    let points = |page: &str| page.matches("<polyline").count() + page.matches("<path").count();
    let whole = page("whole.html");

    // A number that is none, in the middle: everything after it is still there.
    let mut lines = rows.lines().map(String::from).collect::<Vec<_>>();
    let fields = lines[3].split(',').map(String::from).collect::<Vec<_>>();
    lines[3] = [&fields[..3], &["NaN".to_string()], &fields[4..]].concat().join(",");
    fs::write(&metrics, lines.join("\n") + "\n").unwrap();
    let first = events.lines().next().unwrap();
    let norm = first.split("\"predicted_gradient_norm\":").nth(1).unwrap().split(',').next().unwrap();
    fs::write(&receipts, events.replacen(norm, "null", 1)).unwrap();
    let with_nan = page("nan.html");
    assert!(points(&with_nan) > 0 && with_nan.contains("2 events"), "both events are there");

    // A last line that was cut off.
    fs::write(&metrics, format!("{rows}70,1.5,tra")).unwrap();
    fs::write(&receipts, format!("{events}{{\"step\":60,\"ev")).unwrap();
    let charts = |page: &str| page.split("<h2>Charts</h2>").nth(1).unwrap().to_string();
    assert_eq!(charts(&page("cut.html")), charts(&whole));

    // A whole line that is damaged.
    for (path, contents, line) in [
        (&metrics, rows.replacen("train", "trian", 1), "metrics.csv, line 3"),
        (&receipts, events.replacen("\"event\":0", "\"event\":zero", 1), "growth.jsonl, line 1"),
    ] {
        fs::write(&metrics, &rows).unwrap();
        fs::write(&receipts, &events).unwrap();
        fs::write(path, contents).unwrap();
        let output = gradmax(&["report", run.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(line), "{}", text(&output.stderr));
    }
}

#[test]
fn reports_of_others_are_not_overwritten() {
    let folder = folder("overwritten");
    let config = write_config(&folder, &[]);
    let (run, comparison) = (folder.join("run"), folder.join("comparison"));
    train(&config, &run, &[]);
    let [run, comparison] = [&run, &comparison].map(|path| path.to_str().unwrap());
    succeed(&["compare", &config, "--methods", "small", "--seeds", "1", "--out", comparison, "--quiet"]);
    let before = fs::read(Path::new(comparison).join("report.html")).unwrap();
    let refused = |arguments: &[&str], says: &str| {
        let output = gradmax(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(says), "{arguments:?}: {}", text(&output.stderr));
    };
    refused(&["train", &config, "--out", comparison], "holds a comparison");
    refused(&["compare", &config, "--out", run], "holds a run");
    let at = ["compare", &config, "--at", run, "--methods", "gradmax", "--set", "training.steps=90"];
    refused(&[&at[..], &["--out", comparison]].concat(), "holds a comparison");
    refused(&[&at[..], &["--out", run]].concat(), "holds a run");
    assert_eq!(fs::read(Path::new(comparison).join("report.html")).unwrap(), before);
}
