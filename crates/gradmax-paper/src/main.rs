//! The program `gradmax-paper`: the figures and tables of the GradMax paper, done again. `gradmax reproduce` hands over
//! to it.

mod args;
mod command;
mod reproduce;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = args::Reproduce::parse();
    gradmax_experiments::program::run(|| command::reproduce(arguments))
}
