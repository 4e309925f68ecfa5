//! The command line, as it was typed.

use std::path::PathBuf;

use clap::Parser;

use crate::reproduce::Preset;

/// Do the paper's experiments again: its figures and tables, each with a verdict
#[derive(Debug, Parser)]
#[command(name = "gradmax reproduce", version, arg_required_else_help = true)]
pub struct Reproduce {
    /// Figures and tables: 2a, 3, table-1, ...; `all`; or `list`, which says what there is
    #[arg(value_name = "ID", required = true)]
    pub names: Vec<String>,
    /// The size of the experiments
    #[arg(long, value_enum, default_value_t = Preset::Quick)]
    pub preset: Preset,
    /// Do as the paper's code does, where it differs from the paper's text
    #[arg(long)]
    pub authors: bool,
    /// Repetitions of each experiment [default: the preset's]
    #[arg(long, value_name = "N")]
    pub seeds: Option<u64>,
    /// Runs at a time [default: one for each core]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// The device to compute on
    #[arg(long)]
    pub device: Option<String>,
    /// The folder for runs, figures and verdicts; the page of all verdicts is DIR.md
    #[arg(long, value_name = "DIR", default_value = "runs/reproduction")]
    pub out: PathBuf,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
}
