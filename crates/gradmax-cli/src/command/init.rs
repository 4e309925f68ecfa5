//! `gradmax init`: a first configuration for one's own data.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, Result};

use crate::args::Init;
use gradmax_experiments::failure::{misuse, quoted};
use gradmax_experiments::output::print_line;
use gradmax_experiments::starter::starter;

pub fn init(arguments: &Init) -> Result<()> {
    let out = arguments.out.clone().unwrap_or_else(|| {
        PathBuf::from(arguments.data.file_stem().unwrap_or_else(|| "data".as_ref())).with_added_extension("toml")
    });
    // A configuration elsewhere finds the data by its whole path: paths in it are meant from its folder on.
    let beside = out.parent().is_none_or(|folder| folder == Path::new(""));
    let data = if beside { arguments.data.clone() } else { absolute(&arguments.data)? };
    let text = starter(&data, arguments.target.as_deref(), &out)?;
    let file = OpenOptions::new().write(true).create_new(true).open(&out);
    let mut file = file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            misuse(format!("{} is there already; remove it, or choose another file with --out", out.display()))
        }
        _ => anyhow::Error::new(error).context(format!("cannot write {}", out.display())),
    })?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", out.display()))?;
    print_line(&format!("{}: look at it, then `gradmax train {}`", out.display(), quoted(&out)))
}
