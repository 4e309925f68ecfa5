//! The commands, one a file.

pub mod compare;
mod compare_at;
pub mod data;
pub mod evaluate;
pub mod export;
pub mod init;
pub mod inspect;
pub mod list;
pub mod look;
pub mod predict;
pub mod report;
pub mod reproduce;
pub mod resume;
pub mod shrink;
pub mod train;
pub mod watch;

use std::path::Path;

use anyhow::Result;
use gradmax_experiments::config::Experiment;
use gradmax_experiments::experiment::located;

use crate::args::Configured;

/// The experiment that the command line describes.
fn configured(arguments: &Configured) -> Result<Experiment> {
    let mut experiment = Experiment::read(&arguments.config, &arguments.set)?;
    if let Some(device) = &arguments.device {
        experiment.device = device.clone();
    }
    experiment.training.tensorboard |= arguments.tensorboard;
    // A run's configuration says where its data is, so that it can be resumed from any folder.
    located(experiment)
}

/// The configuration's name, for folders.
fn stem(config: &Path) -> String {
    config.file_stem().map_or_else(|| "run".into(), |stem| stem.to_string_lossy().into_owned())
}
