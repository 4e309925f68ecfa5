//! Measurements in files, each with what was asked for: a file that answers something else is written anew.

use std::path::Path;

use anyhow::{Context, Result};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use gradmax_experiments::folder::write_whole;

#[derive(Serialize, Deserialize)]
struct Kept<T> {
    asked: String,
    found: T,
}

/// Whether the file answers what is asked.
pub fn answers(file: &Path, asked: &str) -> bool {
    open::<IgnoredAny>(file).is_ok_and(|kept| kept.asked == asked)
}

/// What the file holds.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    Ok(open(file)?.found)
}

/// Keeps what was found.
pub fn write<T: Serialize>(file: &Path, asked: &str, found: T) -> Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    write_whole(file, &serde_json::to_vec(&Kept { asked: asked.to_string(), found })?)
}

fn open<T: DeserializeOwned>(file: &Path) -> Result<Kept<T>> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is damaged; delete it and try again", file.display()))
}
