//! Networks that go on with text: trained, grown, evaluated, asked, and written for other programs.

mod common;

use std::fs;
use std::path::PathBuf;

use common::{folder, gradmax, succeed, text};

/// A run on a text that repeats itself, with a block that is not there at first.
fn trained(name: &str, method: &str) -> (PathBuf, String) {
    let folder = folder(name);
    let lines = (0..400).map(|line| format!("line {} of the text that repeats itself\n", line % 7));
    fs::write(folder.join("lines.txt"), lines.collect::<String>()).unwrap();
    let config = folder.join("config.toml");
    let of = "method = \"METHOD\"\n[data]\nname = \"text\"\npath = \"lines.txt\"\ncontext = 16\n\
         [network]\nname = \"gpt\"\nwidth = 16\nhead = 8\nblocks = [{ heads = 2, neurons = 32 }, { heads = 0, neurons = 0 }]\n\
         [optimizer]\nname = \"adamw\"\nlearning_rate = 0.01\n[training]\nsteps = 60\nbatch_size = 16\nevaluate_train = 40\n\
         [growth]\nstart = 30\nevery = 30\ntimes = 1\nblocks = 1\n";
    fs::write(&config, of.replace("METHOD", method)).unwrap();
    let run = folder.join("run").display().to_string();
    succeed(&["train", config.to_str().unwrap(), "--out", &run, "--quiet"]);
    (folder, run)
}

#[test]
fn text_is_evaluated_in_bits_and_gone_on_with() {
    let (folder, run) = trained("text", "interleave");
    let scores: serde_json::Value = serde_json::from_str(&succeed(&["evaluate", &run, "--json"])).unwrap();
    let [loss, bits, perplexity, accuracy] =
        ["loss", "bits_per_byte", "perplexity", "accuracy"].map(|key| scores[key].as_f64().unwrap());
    assert!((bits - loss / 2.0_f64.ln()).abs() < 1e-9 && (perplexity - loss.exp()).abs() < 1e-9, "{scores}");
    assert!(accuracy > 0.5 && bits < 3.0, "it learns: {scores}");
    // The share of right bytes that the run itself has counted.
    let summary: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(format!("{run}/summary.json")).unwrap()).unwrap();
    let own = summary["final_test_score"].as_f64().unwrap();
    assert!((own - accuracy).abs() < 1e-6, "{own} {accuracy}");
    let report = fs::read_to_string(format!("{run}/report.html")).unwrap();
    for shown in ["<th>bits a byte</th>", "Bits a byte, on test examples", "Heads", "Blocks"] {
        assert!(report.contains(shown), "{shown}");
    }

    let ask = |options: &[&str]| succeed(&[&["predict", &run, "--prompt", "line 3 of"], options].concat());
    let likely = ask(&["--tokens", "20", "--temperature", "0"]);
    assert!(likely.starts_with("line 3 of") && likely.len() > 20, "{likely}");
    assert_eq!(
        likely,
        ask(&["--tokens", "20", "--top-k", "1", "--seed", "7"]),
        "the most probable one is drawn for sure"
    );
    let drawn = ask(&["--temperature", "2", "--seed", "1"]);
    assert_eq!(drawn, ask(&["--temperature", "2", "--seed", "1"]));
    assert_ne!(drawn, ask(&["--temperature", "2", "--seed", "2"]));
    let file = folder.join("lines.txt").display().to_string();
    let object: serde_json::Value =
        serde_json::from_str(&succeed(&["predict", &run, &file, "--json", "--tokens", "3"])).unwrap();
    assert_eq!(object["follows"].as_str().unwrap().len(), 3);
    for (options, says) in [
        ([].as_slice(), "nothing to go on from"),
        (&["--prompt", ""], "at least"),
        (&["--prompt", "a", "--top-k", "0"], "--top-k is 0"),
        (&["--prompt", "a", "--temperature=-1"], "--temperature is -1"),
    ] {
        let refused = gradmax(&[&["predict", &run], options].concat());
        assert!(text(&refused.stderr).contains(says), "{options:?}: {}", text(&refused.stderr));
        assert_eq!(refused.status.code(), Some(2), "{options:?}");
    }
}

/// What is written comes back with the widths that were grown, and the same losses.
#[test]
fn what_was_grown_is_written_for_other_programs_and_read_back() {
    let (folder, run) = trained("text-export", "gradmax");
    let weights = folder.join("weights.safetensors").display().to_string();
    succeed(&["export", &run, "--format", "safetensors", "--out", &weights]);
    let config = folder.join("config.toml").display().to_string();
    let again = folder.join("again").display().to_string();
    let from = format!("network.from={weights}");
    let options = ["--set", &from, "--set", "method=small", "--set", "optimizer.learning_rate=1e-9", "--quiet"];
    succeed(&[&["train", &config, "--out", &again], options.as_slice()].concat());
    let loss = |run: &str| {
        let scores: serde_json::Value = serde_json::from_str(&succeed(&["evaluate", run, "--json"])).unwrap();
        scores["loss"].as_f64().unwrap()
    };
    assert!((loss(&run) - loss(&again)).abs() < 1e-4 * loss(&run));
    for (format, says) in [("onnx", "transformers are not written as ONNX"), ("huggingface", "neither GPT-2")] {
        let refused = gradmax(&["export", &run, "--format", format]);
        assert!(text(&refused.stderr).contains(says), "{}", text(&refused.stderr));
    }
}
