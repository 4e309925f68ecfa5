//! What the program prints on standard output, where somebody may stop reading at any moment.

use std::io::{self, Write};

use anyhow::Result;

/// Prints text and a line break.
///
/// # Errors
/// If it cannot be written; [`reader_is_gone`] tells whether only because nobody reads on.
pub fn print_line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Prints text as it is.
///
/// # Errors
/// As [`print_line`].
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Says something on standard error, if anybody listens.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether an error is only that the reader of a pipe has closed it, as `head` does: nothing is wrong then.
pub fn reader_is_gone(error: &anyhow::Error) -> bool {
    let closed = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(closed))
}
