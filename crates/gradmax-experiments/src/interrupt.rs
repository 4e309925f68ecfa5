//! Interrupts: runs stop after their current step, with a checkpoint.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// Set by the first Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// Makes Ctrl-C (and a polite kill) stop runs after a checkpoint; the second one ends the program at once.
pub fn stop_on_interrupt() -> Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("cannot listen for interrupts")?;
    Ok(&STOP)
}
