//! The program `gradmax`: trains, grows, compares and reports.

mod args;
mod command;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};
use gradmax_experiments::ranks::together;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    gradmax_experiments::program::run(|| run(arguments))
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Init(init) => command::init::init(&init),
        Command::Train(train) => together(|ranks| command::train::train(train, ranks)),
        Command::Compare(compare) => together(|ranks| command::compare::compare(compare, ranks)),
        Command::Resume(resume) => together(|ranks| command::resume::resume(resume, ranks)),
        Command::Inspect(inspect) => command::inspect::inspect(inspect),
        Command::Look(look) => command::look::look(&look),
        Command::Shrink(shrink) => together(|ranks| command::shrink::shrink(&shrink, ranks)),
        Command::Report(report) => command::report::report(report),
        Command::Watch(watch) => command::watch::watch(watch),
        Command::Evaluate(evaluate) => command::evaluate::evaluate(evaluate),
        Command::Predict(predict) => command::predict::predict(predict),
        Command::Export(export) => command::export::export(&export),
        Command::Reproduce(reproduce) => command::reproduce::reproduce(&reproduce),
        Command::Data(data) => command::data::data(data),
        Command::List => command::list::list(),
    }
}
