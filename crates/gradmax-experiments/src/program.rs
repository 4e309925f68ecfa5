//! What every program of experiments does around its work.

use std::process::ExitCode;

use anyhow::Result;
use flexconv::{keep_freed_memory, with_threads};

use crate::{failure, output};

/// Does a program's work on all cores, and says in one sentence what went wrong.
pub fn run(work: impl FnOnce() -> Result<()> + Send) -> ExitCode {
    keep_freed_memory();
    failure::say_nothing_of_panics();
    match failure::caught(|| with_threads(0, work)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<failure::Said>() => failure::exit_code(&error),
        Err(error) => {
            output::say(&format!("gradmax: {}", failure::sentence(&error)));
            failure::exit_code(&error)
        }
    }
}
