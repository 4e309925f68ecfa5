//! Looking at a run's network, and making it smaller.

mod common;

use std::fs;
use std::path::Path;

use common::{folder, gradmax, succeed, text, write_config};
use serde_json::Value;

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The files of a folder and of those in it, with their contents.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.display().to_string(), fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

#[test]
fn a_look_says_what_would_grow_and_changes_nothing() {
    let folder = folder("look");
    let marginal = ("start = 20\nevery = 20\ntimes = 2\ncount = 2", "policy = \"marginal\"\nevery = 5\ntimes = 3");
    let config = write_config(&folder, &[marginal]);
    let run = folder.join("run");
    let run_path = run.to_str().unwrap();
    succeed(&["train", &config, "--out", run_path, "--quiet"]);
    let before = files(&run);
    let page = folder.join("look.html");
    let arguments = ["look", run_path, "--count", "3", "--examples", "400", "--out", page.to_str().unwrap()];
    let printed = succeed(&arguments);
    assert!(printed.starts_with("After step 60 the policy `marginal` would grow "), "{printed}");
    assert!(printed.contains("| hidden1") && printed.contains("| training"), "{printed}");
    assert_eq!(files(&run), before, "nothing is changed");

    let outlook: Value = serde_json::from_str(&succeed(&[&arguments[..], &["--json"]].concat())).unwrap();
    let site = &outlook["sites"][0];
    let width = json(&run.join("summary.json"))["widths"]["hidden1"].clone();
    assert_eq!((&site["site"], &site["width"], &site["unit"]), (&"hidden1".into(), &width, &1.into()));
    // Of a dense layer on 64 pixels with ten classes behind it: 64 weights, a bias and ten weights a neuron.
    assert_eq!(site["cost"]["parameters"], 75);
    let numbers = |list: &Value, key: Option<&str>| {
        let of = |entry: &Value| key.map_or(entry, |key| &entry[key]).as_f64().unwrap();
        list.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    let gains = numbers(&site["gains"], None);
    assert!(gains.len() == 3 && gains.is_sorted_by(|a, b| a >= b), "{gains:?}");
    let [values, errors, held_out] = ["value", "error", "held_out"].map(|key| numbers(&site["spectrum"], Some(key)));
    assert!(values.len() == 3 && values.is_sorted_by(|a, b| a >= b) && errors.iter().all(|error| *error > 0.0));
    // Half of the batch has less along the directions of the other half than along its own.
    assert!(held_out[0] < values[0] && held_out[0] > 0.0, "{held_out:?} of {values:?}");
    assert!(fs::read_to_string(&page).unwrap().matches("<svg").count() == 3);

    // What another policy would do can be asked for, and a baseline's network be looked at.
    let other = succeed(&["look", run_path, "--set", "growth.policy=spectrum", "--examples", "400"]);
    assert!(other.contains("the policy `spectrum` would grow hidden1 by ") && !other.contains("| training"), "{other}");
    let small = folder.join("small");
    succeed(&["train", &config, "--set", "method=small", "--out", small.to_str().unwrap(), "--quiet"]);
    assert!(succeed(&["look", small.to_str().unwrap(), "--examples", "400"]).contains("| hidden1 |     6 |"));
    for (arguments, part) in [(["--examples", "3"], "--examples"), (["--count", "0"], "--count 0")] {
        let output = gradmax(&[&["look", run_path][..], &arguments].concat());
        assert!(output.status.code() == Some(2) && text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
}

#[test]
fn a_network_is_made_smaller_as_far_as_the_loss_allows() {
    let folder = folder("shrink");
    let changes = [("hidden = [6]", "hidden = [48, 32]"), ("steps = 60", "steps = 200"), ("times = 2", "times = 1")];
    let validation = ("name = \"digits\"", "name = \"digits\"\nvalidation = 0.2");
    let config = write_config(&folder, &[&changes[..], &[validation]].concat());
    let run = folder.join("run");
    let run_path = run.to_str().unwrap();
    succeed(&["train", &config, "--out", run_path, "--quiet"]);
    let before = files(&run);
    let printed = succeed(&["shrink", run_path]);
    let small = folder.join("run-shrunk");
    let receipt = json(&small.join("shrink.json"));
    let number = |value: &Value| value.as_f64().unwrap();
    let (loss_before, loss_after) = (number(&receipt["loss_before"]), number(&receipt["loss_after"]));
    assert!(loss_after <= 1.01 * loss_before, "{loss_before} to {loss_after}");
    assert!(number(&receipt["parameters"][1]) < 0.9 * number(&receipt["parameters"][0]), "{printed}");
    assert_eq!(files(&run), before, "the run itself is left alone");

    // The summary is of the smaller network, measured anew.
    let (large, summary) = (json(&run.join("summary.json")), json(&small.join("summary.json")));
    assert_eq!(summary["parameters"], receipt["parameters"][1]);
    for site in receipt["sites"].as_array().unwrap() {
        assert_eq!(summary["widths"][site["site"].as_str().unwrap()], site["after"]);
        assert_eq!(large["widths"][site["site"].as_str().unwrap()], site["before"]);
    }
    // All training examples were looked at, so the losses are the same.
    assert!((number(&summary["final_train_loss"]) - loss_after).abs() < 1e-5 * loss_after);
    assert!((number(&large["final_train_loss"]) - loss_before).abs() < 1e-5 * loss_before);
    assert_ne!(summary["final_validation_loss"], large["final_validation_loss"]);

    // It can be used and trained on like any other.
    assert!(succeed(&["evaluate", small.to_str().unwrap(), "--json"]).contains("accuracy"));
    succeed(&["resume", small.to_str().unwrap(), "--set", "training.steps=260", "--quiet"]);
    assert_eq!(json(&small.join("summary.json"))["steps"], 260);

    // A share of all neurons, whatever the loss becomes; and never over another run.
    let half = folder.join("half");
    let out = ["--out", half.to_str().unwrap()];
    succeed(&[&["shrink", run_path, "--share", "0.5"][..], &out].concat());
    let widths = json(&half.join("summary.json"))["widths"].as_object().unwrap().values().map(number).sum::<f64>();
    assert_eq!(widths, (50.0 + 34.0) / 2.0);
    let again = gradmax(&[&["shrink", run_path][..], &out].concat());
    assert!(again.status.code() == Some(2) && text(&again.stderr).contains("already holds a run"));
    let wrong = gradmax(&["shrink", run_path, "--share", "1.5", "--out", folder.join("wrong").to_str().unwrap()]);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("share"), "{}", text(&wrong.stderr));
    assert!(!folder.join("wrong").exists());
}
