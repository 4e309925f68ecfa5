//! Methods as configurations name them: options, variants, and growths compared at one checkpoint.

mod common;

use std::fs;

use common::{folder, gradmax, succeed, text, write_config};

#[test]
fn variants_of_a_method_run_under_their_own_names() {
    let folder = folder("variants");
    let variants = "count = 2\n\n[methods.careful]\nis = \"split\"\nnoise = 0.0\n\n[methods.tiny]\nproject = false\n";
    let config = write_config(&folder, &[("count = 2\n", variants)]);
    let out = folder.join("out");
    let (out_path, methods) = (out.to_str().unwrap(), "careful,split,tiny");
    let printed = succeed(&["compare", &config, "--methods", methods, "--seeds", "1", "--out", out_path, "--quiet"]);
    assert!(["careful", "split", "tiny"].iter().all(|method| printed.contains(method)), "{printed}");

    // The receipts say which is which, and only the careful one claims that the function stayed.
    let receipt = |method: &str| {
        let receipts = fs::read_to_string(out.join(method).join("seed0/growth.jsonl")).unwrap();
        serde_json::from_str::<serde_json::Value>(receipts.lines().next().unwrap()).unwrap()
    };
    assert_eq!(receipt("careful")["method"], "careful");
    assert!(receipt("careful")["tolerance"].is_number() && receipt("split")["tolerance"].is_null());
    // A run's configuration has all options of its method.
    let written = |method: &str| fs::read_to_string(out.join(method).join("seed0/config.toml")).unwrap();
    assert!(written("careful").contains("[methods.careful]") && written("careful").contains("is = \"split\""));
    assert!(written("split").contains("noise = 0.01") && written("tiny").contains("project = false"));
    let again = folder.join("again");
    let config = out.join("careful/seed0/config.toml");
    succeed(&["train", config.to_str().unwrap(), "--out", again.to_str().unwrap(), "--quiet"]);
    let weights = |run: &std::path::Path| fs::read(run.join("checkpoint/network.bpk")).unwrap().len();
    assert_eq!(weights(&again), weights(&out.join("careful/seed0")));
}

#[test]
fn methods_grow_one_checkpoint_on_one_look() {
    let folder = folder("at");
    let config = write_config(&folder, &[]);
    let (run, out) = (folder.join("run"), folder.join("out"));
    let (run, out_path) = (run.to_str().unwrap(), out.to_str().unwrap());
    succeed(&["train", &config, "--set", "method=small", "--out", run, "--quiet"]);
    let compare = ["compare", &config, "--set", "training.steps=180", "--at", run, "--repeats", "2", "--quiet"];
    let methods = ["--methods", "small,random,gradmax,firefly", "--out", out_path];
    let printed = succeed(&[&compare[..], &methods].concat());
    assert!(printed.contains("not grown") && printed.contains("that all methods share"), "{printed}");

    let csv = fs::read_to_string(out.join("growth.csv")).unwrap();
    let rows = csv.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>()).collect::<Vec<_>>();
    let counted = |method: &str| rows.iter().filter(|row| row[0] == method).count();
    // What draws nothing need not be repeated.
    assert_eq!(["not grown", "random", "gradmax", "firefly", "small"].map(counted), [1, 2, 1, 2, 0]);
    let value =
        |method: &str, column: usize| rows.iter().find(|row| row[0] == method).unwrap()[column].parse::<f64>().unwrap();
    let header = csv.lines().next().unwrap().split(',').collect::<Vec<_>>();
    let at = |name: &str| header.iter().position(|column| *column == name).unwrap();
    // GradMax's gradient is the largest, and the loss stays where the function does.
    assert!(value("gradmax", at("gradient_norm")) > value("random", at("gradient_norm")));
    for method in ["gradmax", "random"] {
        let (before, after) = (value(method, at("loss_before")), value(method, at("loss_after")));
        assert!((before - after).abs() <= 1e-5 * before, "{method}");
    }
    // 180 steps from step 60: 100 fit, 500 do not.
    assert!(rows.iter().all(|row| !row[at("loss_after_100")].is_empty() && row[at("loss_after_500")].is_empty()));
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("<svg"));
    assert!(out.join("summary.md").exists());
}

#[test]
fn what_cannot_be_compared_is_said_in_a_sentence() {
    let folder = folder("bad_methods");
    let config = write_config(&folder, &[]);
    let run = folder.join("run").display().to_string();
    succeed(&["train", &config, "--set", "method=small", "--out", &run, "--quiet"]);
    let table: &[(&[&str], &[&str])] = &[
        (&["compare", &config, "--at", &run, "--methods", "gradmax"], &["step 60 of 60", "training.steps"]),
        (&["compare", &config, "--at", &run, "--methods", "small,big"], &["none of the methods grows"]),
        (&["compare", &config, "--at", "nowhere", "--methods", "gradmax"], &["nowhere", "no checkpoint"]),
        (&["compare", &config, "--at", &run, "--repeats", "0"], &["--repeats 0"]),
        (&["compare", &config, "--at", &run, "--set", "network.hidden=[6,6]"], &["1 sites", "has 2"]),
        (&["train", &config, "--set", "methods.split.nose=1"], &["`split`", "nose", "noise"]),
        (&["train", &config, "--set", "methods.small.size=1"], &["`small`", "size", "no options"]),
        (&["train", &config, "--set", "methods.mine.is=magic"], &["no method `magic`", "gradmax_opt"]),
        (&["train", &config, "--set", "methods.mine.is=3"], &["methods.mine.is"]),
        (&["train", &config, "--set", "method=a/b", "--set", "methods.'a/b'.is=tiny"], &["a/b"]),
        (&["train", &config, "--set", "method=split", "--set", "methods.split.noise=-1.0"], &["noise", "-1"]),
        (
            &["train", &config, "--set", "method=unit_bias", "--set", "network.bias=false"],
            &["unit_bias", "hidden1", "biases"],
        ),
    ];
    for (arguments, says) in table {
        let output = gradmax(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{arguments:?}: {error}");
        says.iter().for_each(|part| assert!(error.contains(part), "{arguments:?} does not say `{part}`: {error}"));
    }
}
