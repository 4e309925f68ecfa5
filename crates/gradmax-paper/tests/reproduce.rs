//! `gradmax reproduce`: folders with everything in them, and nothing done twice.

#[path = "../../gradmax-cli/tests/common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;

use common::{folder, gradmax, succeed, text};

/// What every folder of a figure holds.
fn assert_complete(folder: &Path, says: &str) {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_else(|_| panic!("{name} is missing"));
    assert!(read("figure.svg").starts_with("<svg"), "{}", folder.display());
    assert!(fs::read(folder.join("figure.png")).unwrap().starts_with(b"\x89PNG"), "{}", folder.display());
    assert!(fs::read_dir(folder.join("configurations")).unwrap().count() > 0, "{}", folder.display());
    let verdict = read("verdict.md");
    assert!(verdict.contains("The paper: ") && verdict.contains(says), "{verdict}");
}

#[test]
fn folders_hold_picture_numbers_configuration_and_verdict_and_runs_are_not_repeated() {
    let out = folder("reproduce").join("paper");
    let again = |names: &[&str]| {
        let options = ["--seeds", "2", "--quiet", "--out", out.to_str().unwrap()];
        succeed(&[names, &options].concat())
    };
    let printed = again(&["1", "2b", "13b"]);
    assert!(printed.contains("Figure 1 ") && printed.contains("Figure 13b"), "{printed}");
    assert_complete(&out.join("1"), "**holds**: New incoming weights are zero");
    assert_complete(&out.join("2b"), "n = 2, mean difference");
    assert_complete(&out.join("13b"), "gradmax reproduce 13b --preset quick --seeds 2");
    let numbers = fs::read_to_string(out.join("2b/figure.csv")).unwrap();
    for line in ["gradmax", "random", "random_positive"] {
        assert!(numbers.lines().any(|row| row.contains(line)), "{numbers}");
    }
    let page = fs::read_to_string(out.with_extension("md")).unwrap();
    assert!(page.contains("(paper/2b/figure.svg)") && page.contains("## Figure 13b"), "{page}");

    // What is there is taken as it is, also by figures that share it.
    let summary = out.join("runs/quick/dense/gradmax/seed0/summary.json");
    let written = fs::metadata(&summary).unwrap().modified().unwrap();
    again(&["2b", "3a"]);
    assert_eq!(fs::metadata(&summary).unwrap().modified().unwrap(), written);
    assert_complete(&out.join("3a"), "`big` ends at a lower training loss than `gradmax`");
}

#[test]
fn growths_at_checkpoints_are_measured_once() {
    let out = folder("reproduce_growths").join("paper");
    let arguments = ["2a", "2c", "8-top", "--seeds", "1", "--quiet", "--out", out.to_str().unwrap()];
    succeed(&arguments);
    assert_complete(
        &out.join("2a"),
        "Gradients after growing with `random` are smaller than 99 % of those with `gradmax`",
    );
    assert_complete(&out.join("2c"), "500 steps after growing");
    assert_complete(&out.join("8-top"), "`1st` is lower than with `5th`");
    // One seed says how large a difference is, and nothing about chance.
    assert!(fs::read_to_string(out.join("2a/verdict.md")).unwrap().contains("too little to tell"));
    let kept = out.join("runs/quick/dense-growths/growths-seed0.json");
    let written = fs::metadata(&kept).unwrap().modified().unwrap();
    succeed(&arguments);
    assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), written);
}

#[test]
fn the_list_names_everything_and_other_names_are_refused() {
    let list = succeed(&["list"]);
    for id in ["1", "2a", "3c", "5-left", "8-bottom", "13d", "table-2"] {
        assert!(list.lines().any(|line| line.starts_with(&format!("{id} "))), "{id} is not in {list}");
    }
    for (arguments, says) in [
        (&["14"][..], "no figure or table `14`"),
        (&["2a", "--seeds", "0"], "--seeds 0"),
        (&["2a", "--jobs", "0"], "--jobs 0"),
    ] {
        let output = gradmax(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
}
