//! `gradmax reproduce`: hands over to the program of the paper's figures and tables.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, anyhow};

use crate::args::Reproduce;

/// The program of the paper's figures and tables.
const PAPER: &str = "gradmax-paper";

pub fn reproduce(arguments: &Reproduce) -> Result<()> {
    let program = beside_this().unwrap_or_else(|| PAPER.into());
    let mut command = Command::new(&program);
    command.args(&arguments.arguments);
    let error = handed_over(&mut command);
    match error.kind() {
        std::io::ErrorKind::NotFound => Err(anyhow!(
            "the paper's figures and tables are a program of their own, `{PAPER}`, which is not here; install it with `cargo \
             install --path crates/gradmax-paper`, or run it with `cargo run --release -p gradmax-paper --`"
        )),
        _ => Err(anyhow!("cannot run {}: {error}", program.display())),
    }
}

/// The program in the folder of this one, if it is there.
fn beside_this() -> Option<PathBuf> {
    let name = format!("{PAPER}{}", std::env::consts::EXE_SUFFIX);
    Some(std::env::current_exe().ok()?.with_file_name(name)).filter(|path| path.is_file())
}

/// Becomes the other program, so that interrupts and exit codes are its own; returns only if it cannot be run.
#[cfg(unix)]
fn handed_over(command: &mut Command) -> std::io::Error {
    use std::os::unix::process::CommandExt;
    command.exec()
}

/// Runs the other program and ends with its exit code; returns only if it cannot be run.
#[cfg(not(unix))]
fn handed_over(command: &mut Command) -> std::io::Error {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}
