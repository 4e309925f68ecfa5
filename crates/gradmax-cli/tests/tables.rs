//! From a table to a network in use: trained on a CSV file, scored, and asked about rows of another one.

mod common;

use std::fs;
use std::path::Path;

use common::{folder, gradmax, succeed, text};

/// Flowers of two kinds, with a colour that some rows lack, and what each weighs.
fn flowers(target: impl Fn(u32) -> String) -> String {
    let row = |i: u32| {
        let colour = ["white", "yellow", ""][i as usize % 3];
        format!("{}.5,{colour},{}\n", i % 10 + 3 * (i % 2), target(i))
    };
    "length,colour,kind\n".to_string() + &(0..90).map(row).collect::<String>()
}

fn config(folder: &Path, table: &str) -> String {
    fs::write(folder.join("flowers.csv"), table).unwrap();
    let file = folder.join("flowers.toml");
    let text = "[data]\nname = \"csv\"\nfile = \"flowers.csv\"\n\n[network]\nname = \"mlp\"\nhidden = [2]\n\n\
                [optimizer]\nname = \"adam\"\nlearning_rate = 0.02\n\n[training]\nsteps = 300\n\n\
                [growth]\nstart = 100\nevery = 100\ntimes = 2\ncount = 2\n";
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().into()
}

fn trained(name: &str, table: &str) -> (std::path::PathBuf, String) {
    let folder = folder(name);
    let run = folder.join("run").to_str().unwrap().to_string();
    succeed(&["train", &config(&folder, table), "--out", &run, "--quiet"]);
    (folder, run)
}

#[test]
fn a_network_for_classes_is_used_after_its_table_is_gone() {
    let (folder, run) = trained("table-classes", &flowers(|i| if i % 2 == 0 { "lily" } else { "rose" }.into()));
    let scores = succeed(&["evaluate", &run, "--json"]);
    let scores: serde_json::Value = serde_json::from_str(&scores).unwrap();
    let confusion = scores["confusion"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
    assert_eq!(confusion.map(|count| count.as_u64().unwrap()).sum::<u64>(), scores["examples"].as_u64().unwrap());
    assert!(succeed(&["evaluate", &run]).contains("| lily "));

    fs::rename(folder.join("flowers.csv"), folder.join("moved.csv")).unwrap();
    let new = folder.join("new.csv");
    // Other columns, in another order, are no obstacle.
    fs::write(&new, "remark,colour,length\nx,white,3.5\ny,,4.5\n").unwrap();
    let new = new.to_str().unwrap();
    let printed = succeed(&["predict", &run, new]);
    let lines = printed.lines().collect::<Vec<_>>();
    assert_eq!((lines[0], lines.len()), ("file,row,class,probability", 3));
    for line in succeed(&["predict", &run, new, "--json"]).lines() {
        let answer: serde_json::Value = serde_json::from_str(line).unwrap();
        let of = |class: &str| answer["probabilities"][class].as_f64().unwrap();
        assert!((of("lily") + of("rose") - 1.0).abs() < 1e-6, "{line}");
        assert_eq!(answer["probability"].as_f64().unwrap(), of("lily").max(of("rose")));
    }
    assert!(succeed(&["inspect", &run]).contains("hidden1"));
    // The data is needed to score, and is found where it is now.
    let gone = gradmax(&["evaluate", &run]);
    assert!(text(&gone.stderr).contains("flowers.csv") && gone.status.code() == Some(1));
    let moved = format!("data.file={}", folder.join("moved.csv").display());
    let again: serde_json::Value =
        serde_json::from_str(&succeed(&["evaluate", &run, "--json", "--set", &moved])).unwrap();
    assert_eq!(again, scores);
}

#[test]
fn a_network_for_values_answers_in_their_units() {
    let (folder, run) = trained("table-values", &flowers(|i| format!("{}.5", 1000 + 100 * (i % 10 + 3 * (i % 2)))));
    let out = folder.join("answers.csv");
    let table = folder.join("flowers.csv");
    succeed(&["predict", &run, table.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    let mut answers = csv::Reader::from_path(out).unwrap();
    assert_eq!(answers.headers().unwrap().iter().collect::<Vec<_>>(), ["file", "row", "kind"]);
    let values = answers.records().map(|row| row.unwrap()[2].parse::<f64>().unwrap()).collect::<Vec<_>>();
    assert!(values.len() == 90 && values.iter().all(|value| (700.0..2500.0).contains(value)), "{values:?}");
    assert!(succeed(&["evaluate", &run]).contains("variance explained"));
}

#[test]
fn a_table_is_checked_and_what_does_not_fit_is_told() {
    let (folder, run) = trained("table-check", &flowers(|i| if i % 2 == 0 { "lily" } else { "rose" }.into()));
    let table = folder.join("flowers.csv");
    let said = succeed(&["data", "check", table.to_str().unwrap()]);
    assert!(
        said.contains("1 columns of numbers and 1 of categories") && said.contains("2 classes of `kind`"),
        "{said}"
    );
    let other = folder.join("other.csv");
    fs::write(&other, "length\n1.5\nlong\n").unwrap();
    let other = other.to_str().unwrap();
    let refused = gradmax(&["predict", &run, other]);
    assert!(text(&refused.stderr).contains("no column `colour`") && refused.status.code() == Some(2));
    fs::write(other, "length,colour\n1.5,white\nlong,white\n").unwrap();
    let wrong = gradmax(&["predict", &run, other]);
    assert!(text(&wrong.stderr).contains("line 3, column `length`: `long`") && wrong.status.code() == Some(1));
}

#[test]
fn a_first_configuration_trains_and_is_not_overwritten() {
    let folder = folder("table-first");
    let table = folder.join("flowers.csv");
    fs::write(&table, flowers(|i| if i % 2 == 0 { "lily" } else { "rose" }.into())).unwrap();
    let (table, out) = (table.to_str().unwrap(), folder.join("first.toml"));
    let init = ["init", table, "--target", "kind", "--out", out.to_str().unwrap()];
    succeed(&init);
    let written = fs::read_to_string(&out).unwrap();
    let again = gradmax(&init);
    assert!(text(&again.stderr).contains("is there already") && again.status.code() == Some(2));
    assert_eq!(fs::read_to_string(&out).unwrap(), written);
    let run = folder.join("run").to_str().unwrap().to_string();
    succeed(&["train", out.to_str().unwrap(), "--out", &run, "--quiet"]);
    assert_eq!(fs::read_to_string(folder.join("run/growth.jsonl")).unwrap().lines().count(), 5);
}

#[test]
fn a_run_goes_by_validation_rows_keeps_the_best_network_and_goes_on_after_its_end() {
    let (folder, run) = {
        let folder = folder("table-validation");
        let config = config(&folder, &flowers(|i| if i % 7 < 3 { "lily" } else { "rose" }.into()));
        let run = folder.join("run").to_str().unwrap().to_string();
        let options =
            ["data.validation=0.3", "training.keep=best", "training.evaluate_every=20", "training.average=0.9"];
        let set = options.iter().flat_map(|option| ["--set", option]).collect::<Vec<_>>();
        succeed(&[&["train", &config, "--out", &run, "--quiet"], &set[..]].concat());
        (folder, run)
    };
    let summary = || -> serde_json::Value {
        serde_json::from_slice(&fs::read(Path::new(&run).join("summary.json")).unwrap()).unwrap()
    };
    let scores = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&succeed(&[&["evaluate", &run, "--json"], arguments].concat())).unwrap()
    };
    let near = |a: &serde_json::Value, b: &serde_json::Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-6;
    let first = summary();
    for (split, loss) in
        [("validation", "final_validation_loss"), ("test", "final_test_loss"), ("train", "final_train_loss")]
    {
        assert!(near(&scores(&["--split", split])["loss"], &first[loss]), "{split}: {first}");
    }
    let metrics = fs::read_to_string(Path::new(&run).join("metrics.csv")).unwrap();
    assert_eq!(metrics.lines().filter(|line| line.contains(",test,")).count(), 1, "the test rows are looked at once");
    assert!(fs::read_to_string(Path::new(&run).join("report.html")).unwrap().contains("Validation score"));

    assert!(succeed(&["resume", &run]).contains("already finished"));
    let shorter = gradmax(&["resume", &run, "--set", "training.steps=100"]);
    assert!(text(&shorter.stderr).contains("300 steps already") && shorter.status.code() == Some(2));
    let another = gradmax(&["resume", &run, "--quiet", "--set", "data.validation=0.1"]);
    assert!(text(&another.stderr).contains("another run") && another.status.code() == Some(2));
    assert_eq!(summary(), first, "what is refused changes nothing");
    succeed(&["resume", &run, "--quiet", "--set", "training.steps=400"]);
    assert_eq!(summary()["steps"], 400);
    assert!(fs::read_to_string(Path::new(&run).join("config.toml")).unwrap().contains("steps = 400"));

    // Another table is scored where the run's own is gone; a checkpoint that was copied is used as the run's own.
    fs::rename(folder.join("flowers.csv"), folder.join("moved.csv")).unwrap();
    let moved = folder.join("moved.csv");
    assert_eq!(scores(&["--data", moved.to_str().unwrap()])["examples"], 90);
    let copy = Path::new(&run).join("kept");
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(Path::new(&run).join("checkpoint")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let predict = |of: &str| succeed(&["predict", of, moved.to_str().unwrap()]);
    assert_eq!(predict(copy.to_str().unwrap()), predict(&run));
}

#[test]
fn options_that_go_by_validation_rows_ask_for_some() {
    let folder = folder("table-no-validation");
    let config = config(&folder, &flowers(|i| if i % 2 == 0 { "lily" } else { "rose" }.into()));
    for (option, says) in [
        ("training.keep=best", "data.validation"),
        ("training.patience=3", "data.validation"),
        ("training.patience=0", "training.patience"),
        ("training.accumulate=0", "training.accumulate"),
        ("training.average=1", "training.average"),
        ("data.validation=1.5", "data.validation"),
        ("data.validation=true", "validation"),
        ("data.validation=nowhere.csv", "nowhere.csv"),
        ("data.validation=0.001", "some of both"),
    ] {
        let refused =
            gradmax(&["train", &config, "--out", folder.join("run").to_str().unwrap(), "--quiet", "--set", option]);
        assert!(
            !refused.status.success() && text(&refused.stderr).contains(says),
            "{option}: {}",
            text(&refused.stderr)
        );
        let _ = fs::remove_dir_all(folder.join("run"));
    }
}

#[test]
fn a_network_is_taken_away_and_grown_further_from_its_weights() {
    let (folder, run) = trained("table-weights", &flowers(|i| if i % 2 == 0 { "lily" } else { "rose" }.into()));
    let weights = folder.join("network.safetensors");
    let printed = succeed(&["export", &run, "--format", "safetensors", "--out", weights.to_str().unwrap()]);
    assert!(printed.contains("network.py") && printed.contains("hidden1 6"), "{printed}");
    let python = fs::read_to_string(folder.join("network.py")).unwrap();
    assert!(python.lines().count() <= 60 && python.contains("grown to hidden1 6"), "{python}");
    for format in ["onnx", "burn"] {
        succeed(&["export", &run, "--format", format]);
    }
    succeed(&["export", &run, "--format", "onnx", "--with-data", "--out", folder.join("whole.onnx").to_str().unwrap()]);
    let refused = gradmax(&["export", &run, "--format", "burn", "--with-data"]);
    assert!(text(&refused.stderr).contains("--with-data is for ONNX"));

    // Two hidden neurons in the configuration, six in the file: the file's count, and the run keeps them without it.
    let config = folder.join("flowers.toml").to_str().unwrap().to_string();
    let from = format!("network.from={}", weights.display());
    let further = folder.join("further").to_str().unwrap().to_string();
    succeed(&["train", &config, "--set", &from, "--out", &further, "--quiet"]);
    fs::remove_file(&weights).unwrap();
    assert!(succeed(&["inspect", &further]).contains("10"));
    let kept = fs::read_to_string(Path::new(&further).join("config.toml")).unwrap();
    assert!(kept.contains("widths = [6]"), "{kept}");
    succeed(&["evaluate", &further]);
    succeed(&["resume", &further, "--quiet", "--set", "training.steps=310"]);

    let gone = gradmax(&["train", &config, "--set", &from, "--out", folder.join("gone").to_str().unwrap()]);
    assert!(text(&gone.stderr).contains("network.safetensors") && !gone.status.success());
    for (option, says) in [
        ("network.from=weights.h5", "safetensors"),
        ("network.widths=[1,2]", "1 sites: hidden1"),
        ("network.widths=wide", "widths"),
    ] {
        let refused = gradmax(&["inspect", &config, "--set", option]);
        let trained = gradmax(&["train", &config, "--out", folder.join("no").to_str().unwrap(), "--set", option]);
        assert!(
            !trained.status.success() && text(&trained.stderr).contains(says),
            "{option}: {}",
            text(&trained.stderr)
        );
        assert!(!text(&refused.stderr).contains("panicked"));
    }
}
