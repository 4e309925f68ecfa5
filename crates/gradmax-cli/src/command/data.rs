//! `gradmax data`: finds and checks data sets.

use anyhow::Result;

use crate::args::{Data, DataCommand};
use gradmax_experiments::data;
use gradmax_experiments::output::print_line;

pub fn data(arguments: Data) -> Result<()> {
    let line = match arguments.command {
        DataCommand::Check(set) => data::check(&set.name, set.dir.as_deref())?,
        DataCommand::Path(set) => data::path(&set.name, set.dir.as_deref())?,
    };
    print_line(&line)
}
