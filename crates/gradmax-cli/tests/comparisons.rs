//! Comparisons whose methods differ in more than how neurons are chosen: networks of fixed widths for as much as growing
//! takes, values that are tuned, and methods with a configuration of their own.

mod common;

use std::fs;
use std::path::Path;

use common::{folder, gradmax, succeed, text, write_config};
use serde_json::Value;

fn summary(out: &Path, method: &str, seed: u64) -> Value {
    let path = out.join(method).join(format!("seed{seed}/summary.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn configuration(out: &Path, method: &str, seed: u64) -> toml::Table {
    fs::read_to_string(out.join(method).join(format!("seed{seed}/config.toml"))).unwrap().parse().unwrap()
}

#[test]
fn fixed_widths_take_as_many_operations_as_growing() {
    let folder = folder("fixed_widths");
    let config = write_config(&folder, &[]);
    let out = folder.join("out");
    let out_path = out.to_str().unwrap();
    let methods = ["--methods", "big,big_short,big_seconds,gradmax", "--widths", "4,2x"];
    let rest = ["--seeds", "2", "--out", out_path, "--quiet"];
    let printed = succeed(&[&["compare", &config][..], &methods, &rest].concat());
    for seed in [0, 1] {
        let of = |method: &str, key: &str| summary(&out, method, seed)[key].as_u64().unwrap();
        let reference = of("gradmax", "train_flops");
        for (method, width) in [("big_short", 10), ("static_4", 4), ("static_2x", 12)] {
            assert_eq!(summary(&out, method, seed)["widths"]["hidden1"], width, "{method}");
            let (flops, steps) = (of(method, "train_flops"), of(method, "steps"));
            // It ends with the step that uses them up.
            let a_step = flops / steps;
            assert!((reference..reference + a_step).contains(&flops), "{method}: {flops} of {reference}");
        }
        assert!(of("big", "steps") == 60 && of("big_short", "steps") < 60 && of("static_4", "steps") > 60);
        let seconds = summary(&out, "gradmax", seed)["seconds"].as_f64().unwrap();
        assert!(summary(&out, "big_seconds", seed)["seconds"].as_f64().unwrap() >= seconds);
    }
    let verdict = printed.lines().find(|line| line.starts_with("Did growing pay? ")).expect("a verdict");
    for part in ["points of test score", "than `big` ", "than `big_short` ", "the best of 2 widths by what is reported"]
    {
        assert!(verdict.contains(part), "{verdict}");
    }
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(
        page.contains("Did growing pay?") && page.contains("6 methods, 2 seeds, 12 runs"),
        "all runs are one experiment"
    );

    // Nothing is done again, and the run of such a method can be repeated from its configuration.
    let before = summary(&out, "big_short", 0);
    assert_eq!(succeed(&["resume", out_path, "--quiet"]), printed);
    assert_eq!(summary(&out, "big_short", 0), before);
    let again = folder.join("again");
    let config = out.join("big_short/seed0/config.toml");
    succeed(&["train", config.to_str().unwrap(), "--out", again.to_str().unwrap(), "--quiet"]);
    let again: Value = serde_json::from_str(&fs::read_to_string(again.join("summary.json")).unwrap()).unwrap();
    assert_eq!(again["final_train_loss"], before["final_train_loss"]);
}

#[test]
fn every_method_is_tuned_on_seeds_that_are_not_reported() {
    let folder = folder("tuned");
    // By this policy it depends on the rate how far a network grows, and so what it costs.
    let marginal = ("start = 20\nevery = 20\ntimes = 2\ncount = 2", "policy = \"marginal\"\nevery = 2\ntimes = 20");
    let validation = ("name = \"digits\"", "name = \"digits\"\nvalidation = 0.2");
    let config = write_config(&folder, &[marginal, validation, ("steps = 60", "steps = 150")]);
    let out = folder.join("out");
    let out_path = out.to_str().unwrap();
    let methods =
        ["--methods", "small,gradmax", "--widths", "8", "--tune", "learning_rate=1e-5,0.05", "--tune-seeds", "2"];
    let rest = ["--seeds", "2", "--out", out_path, "--quiet"];
    let printed = succeed(&[&["compare", &config][..], &methods, &rest].concat());
    for method in ["small", "static_8", "gradmax"] {
        for seed in [0, 1] {
            let rate = configuration(&out, method, seed)["optimizer"]["learning_rate"].as_float();
            assert_eq!(rate, Some(0.05), "{method}: the lower rate learns nothing");
        }
        let row = printed.lines().rfind(|line| line.starts_with(&format!("| {method} "))).unwrap();
        assert!(row.contains("0.05, the end of the list"), "{row}");
        for value in ["0.00001", "0.05"] {
            let tried = out.join("tuning").join(value);
            let seeds = fs::read_dir(tried.join(method)).unwrap().map(|entry| entry.unwrap().file_name());
            let mut seeds = seeds.map(|name| name.into_string().unwrap()).collect::<Vec<_>>();
            seeds.sort();
            assert_eq!(seeds, ["seed1000000", "seed1000001"], "{method} {value}");
        }
    }
    // The budget of a run that tunes is that of the reference with its own rate, on the same seed.
    let tuning = out.join("tuning");
    let of =
        |value: &str, method: &str| summary(&tuning.join(value), method, 1_000_001)["train_flops"].as_u64().unwrap();
    let reference = of("0.05", "gradmax");
    assert!(reference.abs_diff(of("0.00001", "gradmax")) > reference / 20, "the budget depends on the rate");
    let is_within = |value: &str| (reference..reference + reference / 20).contains(&of(value, "static_8"));
    assert!(is_within("0.00001") && is_within("0.05"));
    // Runs that tune are not reported, and methods with other rates are still one experiment.
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("3 methods, 2 seeds, 6 runs") && page.contains("<h2>Tuning</h2>"));

    // A comparison that was stopped in the middle of its tuning ends in the same.
    for unfinished in ["0.05/gradmax/seed1000001", "0.05/static_8", "0.00001/static_8"] {
        fs::remove_dir_all(tuning.join(unfinished)).unwrap();
    }
    fs::remove_dir_all(out.join("static_8")).unwrap();
    let again = succeed(&["resume", out_path, "--quiet"]);
    assert!(is_within("0.00001") && is_within("0.05"));
    let chosen = |text: &str| text.split("chosen by").nth(1).unwrap().to_string();
    assert_eq!(chosen(&again), chosen(&printed));
}

#[test]
fn values_that_fail_are_not_chosen() {
    let folder = folder("tuned_failing");
    let config = write_config(&folder, &[("name = \"digits\"", "name = \"digits\"\nvalidation = 0.2")]);
    let out = folder.join("out");
    let tune = ["--tune", "learning_rate=1e30,0.05", "--tune-seeds", "1", "--methods", "small,big_short,gradmax"];
    let rest = ["--seeds", "1", "--out", out.to_str().unwrap(), "--quiet"];
    let output = gradmax(&[&["compare", &config][..], &tune, &rest].concat());
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(configuration(&out, "gradmax", 0)["optimizer"]["learning_rate"].as_float(), Some(0.05));
    assert!(printed.contains("1 failed"), "{printed}");

    // Where all fail, there is nothing to report, and that is said.
    let out = folder.join("none");
    let tune = ["--tune", "learning_rate=1e30", "--tune-seeds", "1", "--methods", "small,big_short,gradmax"];
    let rest = ["--seeds", "1", "--out", out.to_str().unwrap(), "--quiet"];
    let output = gradmax(&[&["compare", &config][..], &tune, &rest].concat());
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(
        error.contains("every value that was tried has failed") && error.contains("lower the learning rate"),
        "{error}"
    );
}

#[test]
fn methods_may_change_the_rest_of_the_configuration() {
    let folder = folder("with");
    let variants = "count = 2\n\n[methods.waiting]\nis = \"random\"\n\
                    with = { growth = { policy = \"plateau\", start = 10, every = 10, geometric = 0.5 } }\n\n\
                    [methods.adam]\nis = \"gradmax\"\n\
                    with = { optimizer = { name = \"adam\" }, training = { decay = { wsd = { last = 0.5 } } } }\n";
    let config = write_config(&folder, &[("count = 2\n", variants)]);
    let out = folder.join("out");
    let rest = ["--methods", "gradmax,waiting,adam", "--seeds", "1", "--out", out.to_str().unwrap(), "--quiet"];
    succeed(&[&["compare", &config][..], &rest].concat());
    let waiting = configuration(&out, "waiting", 0);
    let growth = waiting["growth"].as_table().unwrap();
    assert!(growth["policy"].as_str() == Some("plateau") && growth["geometric"].as_float() == Some(0.5));
    assert!(["count", "times", "order"].iter().all(|key| !growth.contains_key(*key)), "{growth}");
    let adam = configuration(&out, "adam", 0);
    assert!(adam["optimizer"]["name"].as_str() == Some("adam") && adam["optimizer"].get("momentum").is_none());
    assert!(adam["training"]["decay"].get("wsd").is_some() && adam["growth"]["count"].as_integer() == Some(2));
    let plain = configuration(&out, "gradmax", 0);
    assert!(
        plain["optimizer"]["name"].as_str() == Some("sgd") && plain["growth"]["policy"].as_str() == Some("periodic")
    );
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("3 methods, 1 seed, 3 runs"), "all runs are one experiment");

    // One run of such a method is the same on its own.
    let alone = folder.join("alone");
    succeed(&["train", &config, "--set", "method=waiting", "--out", alone.to_str().unwrap(), "--quiet"]);
    let alone: Value = serde_json::from_str(&fs::read_to_string(alone.join("summary.json")).unwrap()).unwrap();
    assert_eq!(alone["final_train_loss"], summary(&out, "waiting", 0)["final_train_loss"]);
}

#[test]
fn a_key_that_is_set_takes_the_place_of_its_alternatives() {
    let folder = folder("alternatives");
    let config = write_config(&folder, &[]);
    let out = folder.join("out");
    let set = ["--set", "training.epochs=1", "--set", "growth.fraction=0.5", "--quiet", "--out", out.to_str().unwrap()];
    succeed(&[&["train", &config][..], &set].concat());
    let written: toml::Table = fs::read_to_string(out.join("config.toml")).unwrap().parse().unwrap();
    assert!(written["training"].get("steps").is_none() && written["training"]["epochs"].as_integer() == Some(1));
    assert!(written["growth"].get("count").is_none() && written["growth"]["fraction"].as_float() == Some(0.5));
}

#[test]
fn comparisons_that_make_no_sense_are_refused() {
    let folder = folder("senseless");
    let config = write_config(&folder, &[]);
    let refused = |arguments: &[&str], parts: &[&str]| {
        let output = gradmax(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        parts.iter().for_each(|part| assert!(error.contains(part), "{arguments:?}: {error}"));
    };
    let compare =
        |more: &[&str], parts: &[&str]| refused(&[&["compare", &config, "--quiet"][..], more].concat(), parts);
    compare(&["--methods", "small,big_short"], &["big_short", "reference", "does not grow"]);
    compare(&["--methods", "gradmax", "--widths", "0"], &["static_0", "the methods are"]);
    compare(&["--methods", "gradmax", "--widths", "x"], &["static_x"]);
    compare(&["--methods", "gradmax", "--widths", "4,4"], &["static_4", "twice"]);
    compare(&["--tune", "learning_rate=0.1"], &["validation", "data.validation"]);
    compare(&["--tune", "learning_rate", "--set", "data.validation=0.2"], &["--tune", "KEY=VALUES"]);
    compare(&["--tune", "seed.x=1", "--set", "data.validation=0.2"], &["seed.x", "optimizer.learning_rate"]);
    compare(&["--tune", "momentun=0.1", "--set", "data.validation=0.2"], &["momentun"]);
    let with = "methods.mine={ is = \"gradmax\", with = { data = { name = \"digits\" } } }";
    compare(&["--set", with, "--methods", "mine"], &["mine", "`data`", "`growth`"]);
    compare(&["--set", "methods.mine={ is = \"gradmax\", with = 3 }"], &["mine", "`with` is 3"]);
    compare(
        &["--set", "methods.mine={ is = \"gradmax\", with = { growth = { count = 0 } } }", "--methods", "mine"],
        &["mine"],
    );
    compare(&["--set", "methods.tuning={ is = \"gradmax\" }"], &["tuning", "folder"]);
    compare(&["--set", "policies.margnal={ tau = 2.0 }"], &["margnal", "the policies are"]);
    refused(&["train", &config, "--set", "method=big_short", "--quiet"], &["big_short", "comparison"]);
}
