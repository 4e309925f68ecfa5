//! The program `gradmax`: trains, grows, compares and reports.

mod args;
mod bench;
mod command;
mod comparison;
mod config;
mod crew;
mod data;
mod device;
mod experiment;
mod failure;
mod folder;
#[cfg(test)]
mod fuzz;
mod identity;
mod method;
mod network;
mod optimizer;
mod output;
mod policy;
mod progress;
mod report;
mod reproduce;
mod statistics;
mod table;

use std::process::ExitCode;

use clap::Parser;
use flexconv::{keep_freed_memory, with_threads};

use crate::args::{Arguments, Command};

fn main() -> ExitCode {
    keep_freed_memory();
    let arguments = Arguments::parse();
    failure::say_nothing_of_panics();
    match failure::caught(|| with_threads(0, || run(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::say(&format!("gradmax: {}", failure::sentence(&error)));
            failure::exit_code(&error)
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Train(train) => command::train::train(train),
        Command::Compare(compare) => command::compare::compare(compare),
        Command::Resume(resume) => command::resume::resume(resume),
        Command::Inspect(inspect) => command::inspect::inspect(inspect),
        Command::Report(report) => command::report::report(report),
        Command::Reproduce(reproduce) => command::reproduce::reproduce(reproduce),
        Command::Data(data) => command::data::data(data),
    }
}
