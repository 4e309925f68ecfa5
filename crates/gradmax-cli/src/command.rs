//! The commands, one a file.

pub mod compare;
mod compare_at;
pub mod data;
pub mod inspect;
pub mod report;
pub mod reproduce;
pub mod resume;
pub mod train;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::args::Configured;
use crate::config::Experiment;

/// Set by the first Ctrl-C: every run stops after its current step, with a checkpoint.
static STOP: AtomicBool = AtomicBool::new(false);

/// Makes Ctrl-C (and a polite kill) stop runs after a checkpoint; the second one ends the program at once.
fn stop_on_interrupt() -> Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("cannot listen for interrupts")?;
    Ok(&STOP)
}

/// The experiment that the command line describes.
fn configured(arguments: &Configured) -> Result<Experiment> {
    let mut experiment = Experiment::read(&arguments.config, &arguments.set)?;
    if let Some(device) = &arguments.device {
        experiment.device = device.clone();
    }
    // A run's configuration says where its data is, so that it can be resumed from any folder.
    experiment.data.locate()?;
    Ok(experiment)
}

/// The configuration's name, for folders.
fn stem(config: &Path) -> String {
    config.file_stem().map_or_else(|| "run".into(), |stem| stem.to_string_lossy().into_owned())
}
