//! Panics of code that is not ours, as errors.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does something that may panic; what the panic said, in a line, if it did.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        said.unwrap_or("a panic").lines().map(str::trim).collect::<Vec<_>>().join(" ")
    })
}
