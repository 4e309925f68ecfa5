//! What can go wrong, as an exit code and one sentence.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, anyhow};

/// A wrong command line or configuration: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(pub String);

/// An [`anyhow::Error`] for a wrong command line or configuration.
pub fn misuse(sentence: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Misuse(sentence.into()))
}

/// Stopped by the user, after a checkpoint, with the command that goes on: exit code 130.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; go on with `{0}`")]
pub struct Interrupted(pub String);

impl Interrupted {
    /// Of a run or a comparison in a folder.
    pub fn in_folder(folder: &Path) -> anyhow::Error {
        anyhow::Error::new(Self(format!("gradmax resume {}", quoted(folder))))
    }
}

/// Something that another process says for all.
#[derive(Debug, thiserror::Error)]
#[error("said by rank 0")]
pub struct Said;

/// The exit code for an error.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(code(error))
}

/// The same as a number.
pub fn code(error: &anyhow::Error) -> u8 {
    let misused = error.chain().any(|cause| cause.is::<Misuse>() || cause.downcast_ref().is_some_and(is_misuse));
    match error.is::<Interrupted>() {
        true => 130,
        false if misused => 2,
        false => 1,
    }
}

/// Errors of the library that a different configuration avoids.
fn is_misuse(error: &gradmax::Error) -> bool {
    use gradmax::Error::*;
    matches!(
        error,
        BadOption { .. }
            | BadStage { .. }
            | UnevenGroups { .. }
            | ActivationNotZeroAtZero { .. }
            | ActivationFlatAtZero { .. }
            | Method { .. }
    )
}

/// The sentence for an error: its causes, joined, without repetition.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if !parts.iter().any(|part| part.contains(&cause)) {
            parts.push(cause);
        }
    }
    parts.join(": ")
}

/// A path as a word of a command line.
pub fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:=@%~".contains(c);
    match !path.is_empty() && !path.starts_with('~') && path.chars().all(plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}

thread_local! {
    /// Where the last panic of this thread came from.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps where panics come from, in place of printing them as they happen: [`caught`] makes errors of them.
pub fn say_nothing_of_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        PLACE.with(|last| last.replace(place));
    }));
}

/// Does something in which a fault of the program must not take down everything else: a panic becomes an error.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(fault(panic.as_ref())))
}

fn fault(panic: &(dyn Any + Send)) -> anyhow::Error {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let said = said.unwrap_or("no message").lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let place = PLACE.with(|last| last.take());
    anyhow!(
        "a fault of this program or of a library: {said}{place}; please report it with the command and configuration"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_command_lines_are_quoted_where_they_need_it() {
        let of = |path: &str| quoted(Path::new(path));
        assert_eq!(of("runs/a-b_1.2/seed0"), "runs/a-b_1.2/seed0");
        assert_eq!(of("my runs/x"), "'my runs/x'");
        assert_eq!(of("it's"), "'it'\\''s'");
        assert_eq!([of(""), of("~x"), of("a$b")], ["''", "'~x'", "'a$b'"]);
    }

    #[test]
    fn panics_become_errors_with_what_they_said() {
        let error = caught::<()>(|| panic!("mid > {}", "len")).unwrap_err().to_string();
        assert!(error.contains("mid > len") && error.contains("please report"), "{error}");
        assert_eq!(caught(|| Ok(3)).unwrap(), 3);
    }
}
