//! What the command-line tests share: running the binary in a folder of its own.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program of the crate that is tested: these helpers serve the paper's program too.
pub const GRADMAX: &str = match (option_env!("CARGO_BIN_EXE_gradmax"), option_env!("CARGO_BIN_EXE_gradmax-paper")) {
    (Some(program), _) | (None, Some(program)) => program,
    (None, None) => panic!("the crate that is tested has neither program"),
};

/// An empty folder for one test.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A configuration of the repository.
pub fn config(name: &str) -> String {
    format!("{}/../../configs/{name}.toml", env!("CARGO_MANIFEST_DIR"))
}

pub fn gradmax(arguments: &[&str]) -> Output {
    Command::new(GRADMAX).args(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the program and expects it to succeed; returns what it printed.
pub fn succeed(arguments: &[&str]) -> String {
    let output = gradmax(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The file's lines without the column of that name, or (for JSON lines) without the object `timing`.
pub fn without_times(path: &Path) -> Vec<String> {
    let contents = fs::read_to_string(path).unwrap();
    let untimed = |line: &str| match line.split_once(",\"timing\":") {
        Some((before, _)) => before.to_string(),
        None => line.rsplit_once(',').unwrap().0.to_string(),
    };
    contents.lines().map(untimed).collect()
}

/// A small classification experiment in a file: `changes` replaces lines of it.
pub fn write_config(folder: &Path, changes: &[(&str, &str)]) -> String {
    let mut text = String::from(
        "[data]\nname = \"digits\"\n\n[network]\nname = \"mlp\"\nhidden = [6]\nactivation = \"relu\"\n\n\
         [optimizer]\nname = \"sgd\"\nlearning_rate = 0.05\nmomentum = 0.9\n\n\
         [training]\nsteps = 60\nbatch_size = 32\n\n\
         [growth]\nstart = 20\nevery = 20\ntimes = 2\ncount = 2\n",
    );
    for (from, to) in changes {
        assert!(text.contains(from), "the configuration has no `{from}`");
        text = text.replace(from, to);
    }
    let path = folder.join("config.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}
