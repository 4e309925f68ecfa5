//! The page of all verdicts, with their figures.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::catalog::ALL;
use super::page_of;
use super::verdict::{CONFIDENCE, Verdict};
use gradmax_experiments::folder::write_whole;

/// Writes the page of everything that was reproduced in a folder, beside it: `DIR.md` for the folder `DIR`.
pub fn write_page(root: &Path) -> Result<()> {
    // As seen from the page.
    let folder = root.file_name().map_or_else(|| ".".into(), |name| name.to_string_lossy().into_owned());
    let mut verdicts = Vec::new();
    for artefact in ALL {
        verdicts.extend(Verdict::read(&root.join(artefact.id))?);
    }
    let mut text = format!(
        "# The paper, reproduced\n\nEvci et al., *GradMax: Growing Neural Networks using Gradient Information*, ICLR 2022: what each \
         of its figures and tables claims, and what this program measured. Written by `gradmax reproduce`. A check *holds* or \
         *does not hold* if the {} % confidence interval of the mean paired difference (Student's t; beside it that of the BCa \
         bootstrap with 10 000 resamples, where there are at least 8 pairs) excludes zero, and *cannot be told* otherwise; that \
         two are the same holds if it lies within what the check allows. p is of the paired t-test. No correction is made for how \
         many checks there are.\n\n\
         | | claim of the paper | here | preset |\n| --- | --- | --- | --- |\n",
        CONFIDENCE * 100.0
    );
    for verdict in &verdicts {
        let preset = verdict.preset.name();
        let anchor = anchor(&verdict.title, verdict.word());
        let row = format!("| [{}](#{anchor}) | {} | {} | {preset} |", verdict.title, verdict.claim, verdict.word());
        let _ = writeln!(text, "{row}");
    }
    for verdict in &verdicts {
        let picture = format!("![{}]({folder}/{}/figure.svg)", verdict.title, verdict.id);
        let body = verdict.markdown(2);
        let (heading, rest) = body.split_once("\n\n").unwrap_or((&body, ""));
        let _ = write!(text, "\n{heading}\n\n{picture}\n\n{rest}");
    }
    write_whole(&page_of(root), text.as_bytes())
}

/// The anchor that Markdown gives a heading.
fn anchor(title: &str, word: &str) -> String {
    let heading = format!("{title}: {word}").to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
