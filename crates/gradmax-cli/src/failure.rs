//! What can go wrong, as an exit code and one sentence.

use std::path::Path;
use std::process::ExitCode;

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
        anyhow::Error::new(Self(format!("gradmax resume {}", folder.display())))
    }
}

/// The exit code for an error.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let misused = error.chain().any(|cause| cause.is::<Misuse>() || cause.downcast_ref().is_some_and(is_misuse));
    match error.is::<Interrupted>() {
        true => ExitCode::from(130),
        false if misused => ExitCode::from(2),
        false => ExitCode::FAILURE,
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
            | Initializer { .. }
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
