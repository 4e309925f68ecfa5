//! Verdicts: what the paper claims, what was measured, and whether it holds here.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::catalog::Artefact;
use super::{Preset, Setting};
use gradmax_experiments::folder::write_whole;
use gradmax_experiments::statistics::Paired;
use gradmax_experiments::table::{decimals_of, significant};

/// Confidence of the intervals that verdicts rest on.
pub const CONFIDENCE: f64 = 0.95;

/// Whether something that the paper says was seen here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Holds,
    /// The data does not tell.
    Open,
    Fails,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Open => "cannot be told",
            Self::Fails => "does not hold",
        }
    }
}

/// One part of a claim, put to the test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub says: String,
    pub measured: String,
    pub outcome: Outcome,
}

/// How two things should compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Relation {
    /// The first is less than the second.
    Less,
    /// The first is more than the second.
    More,
    /// The first is not more than the second.
    NotMore,
    /// Both are the same, up to so much.
    Same { within: f64 },
}

impl Check {
    /// Puts a relation of paired values to the test, by the 95 % interval of the mean difference: it holds if the whole
    /// interval agrees with it, fails if none of it does, and is open otherwise.
    pub fn paired(says: impl Into<String>, relation: Relation, pairs: &[(f64, f64)]) -> Self {
        let says = says.into();
        let n = pairs.len();
        let Some(paired) = Paired::of(pairs, CONFIDENCE) else {
            let difference = pairs.first().map_or(f64::NAN, |(a, b)| a - b);
            let measured = format!("n = {n}, difference {}: too little to tell", significant(difference));
            return Self { says, measured, outcome: Outcome::Open };
        };
        let [low, high] = paired.interval;
        let (holds, fails) = match relation {
            Relation::Less => (high < 0.0, low >= 0.0),
            Relation::More => (low > 0.0, high <= 0.0),
            Relation::NotMore => (high <= 0.0, low > 0.0),
            Relation::Same { within } => (low >= -within && high <= within, low > within || high < -within),
        };
        let outcome = match (holds, fails) {
            (true, _) => Outcome::Holds,
            (false, true) => Outcome::Fails,
            (false, false) => Outcome::Open,
        };
        Self { says, measured: described(&paired, relation), outcome }
    }

    /// A check of a plain fact.
    pub fn fact(says: impl Into<String>, measured: impl Into<String>, holds: bool) -> Self {
        let outcome = if holds { Outcome::Holds } else { Outcome::Fails };
        Self { says: says.into(), measured: measured.into(), outcome }
    }
}

/// A paired comparison in a line, with how many pairs are as the relation has them.
fn described(paired: &Paired, relation: Relation) -> String {
    let scale = paired.interval.iter().map(|end| (end - paired.difference.mean).abs()).fold(0.0, f64::max);
    let decimals = if scale > 0.0 { decimals_of(scale) } else { 3 };
    let interval = |[low, high]: [f64; 2]| format!("[{low:+.decimals$}, {high:+.decimals$}]");
    let bootstrap = paired.bootstrap.map_or(String::new(), |ends| format!(", bootstrap {}", interval(ends)));
    let n = paired.difference.n;
    let p = if paired.p < 1e-3 { format!("p = {:.0e}", paired.p) } else { format!("p = {:.3}", paired.p) };
    let (sign, pairs) = match relation {
        Relation::More => ("positive", paired.positive),
        Relation::Less | Relation::NotMore | Relation::Same { .. } => ("negative", n - paired.positive),
    };
    let (mean, interval) = (paired.difference.mean, interval(paired.interval));
    format!("n = {n}, mean difference {mean:+.decimals$} {interval}{bootstrap}, {p}, {sign} in {pairs} of {n}")
}

/// The verdict on a figure or table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Verdict {
    pub id: String,
    pub title: String,
    pub claim: String,
    pub preset: Preset,
    /// How it was done here.
    pub setting: String,
    /// The command that does it again.
    pub command: String,
    pub checks: Vec<Check>,
    /// More to read, in Markdown.
    pub details: String,
}

impl Verdict {
    pub fn new(artefact: &Artefact, setting: &Setting, how: String, checks: Vec<Check>, details: String) -> Self {
        Self {
            id: artefact.id.into(),
            title: artefact.title.into(),
            claim: artefact.claim.into(),
            preset: setting.preset,
            setting: how,
            command: setting.command(artefact.id),
            checks,
            details,
        }
    }

    /// All checks in a word.
    pub fn word(&self) -> &'static str {
        let all = |outcome: Outcome| self.checks.iter().all(|check| check.outcome == outcome);
        let any = |outcome: Outcome| self.checks.iter().any(|check| check.outcome == outcome);
        match () {
            _ if all(Outcome::Holds) => Outcome::Holds.word(),
            _ if any(Outcome::Holds) => "holds in part",
            _ if any(Outcome::Fails) => Outcome::Fails.word(),
            _ => Outcome::Open.word(),
        }
    }

    /// The verdict as Markdown, below a heading of that level.
    pub fn markdown(&self, level: usize) -> String {
        let mut text = format!("{} {}: {}\n\n", "#".repeat(level), self.title, self.word());
        let _ = writeln!(text, "The paper: {}\n\n{}\n", self.claim, self.setting);
        for check in &self.checks {
            let _ = writeln!(text, "- **{}**: {}. {}", check.outcome.word(), check.says, check.measured);
        }
        if !self.details.is_empty() {
            let _ = write!(text, "\n{}\n", self.details.trim_end());
        }
        let _ = write!(text, "\n`{}`\n", self.command);
        text
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        write_whole(&folder.join("verdict.md"), self.markdown(1).as_bytes())?;
        write_whole(&folder.join("verdict.json"), &serde_json::to_vec_pretty(self)?)
    }

    /// The verdict in a folder, if there is one.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("verdict.json");
        match std::fs::read(&path) {
            Ok(text) => Ok(Some(
                serde_json::from_slice(&text)
                    .with_context(|| format!("{} is damaged; reproduce it anew", path.display()))?,
            )),
            Err(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(differences: &[f64]) -> Vec<(f64, f64)> {
        differences.iter().map(|difference| (1.0 + difference, 1.0)).collect()
    }

    #[test]
    fn outcomes_follow_the_interval() {
        let outcome = |relation, differences: &[f64]| Check::paired("", relation, &pairs(differences)).outcome;
        let (below, above, around) = ([-0.3, -0.2, -0.4, -0.3], [0.3, 0.2, 0.4, 0.3], [-0.3, 0.2, -0.1, 0.3]);
        assert_eq!(outcome(Relation::Less, &below), Outcome::Holds);
        assert_eq!(outcome(Relation::Less, &above), Outcome::Fails);
        assert_eq!(outcome(Relation::More, &above), Outcome::Holds);
        assert_eq!(outcome(Relation::More, &below), Outcome::Fails);
        assert_eq!(outcome(Relation::More, &around), Outcome::Open);
        assert_eq!(outcome(Relation::Less, &around), Outcome::Open);
        // That nothing was seen is no evidence.
        assert_eq!(outcome(Relation::NotMore, &around), Outcome::Open);
        assert_eq!(outcome(Relation::NotMore, &below), Outcome::Holds);
        assert_eq!(outcome(Relation::NotMore, &above), Outcome::Fails);
        assert_eq!(outcome(Relation::Same { within: 0.5 }, &around), Outcome::Holds);
        assert_eq!(outcome(Relation::Same { within: 0.5 }, &below), Outcome::Holds);
        assert_eq!(outcome(Relation::Same { within: 0.1 }, &around), Outcome::Open);
        assert_eq!(outcome(Relation::Same { within: 0.1 }, &below), Outcome::Fails);
        // An interval that reaches over the bound says neither.
        assert_eq!(outcome(Relation::Same { within: 0.3 }, &below), Outcome::Open);
        assert_eq!(outcome(Relation::Same { within: 0.3 }, &above), Outcome::Open);
        assert_eq!(outcome(Relation::Less, &below[..1]), Outcome::Open);
    }

    #[test]
    fn measurements_say_all_that_is_needed() {
        let check = Check::paired("", Relation::Less, &pairs(&[-0.3, -0.2, -0.4, -0.3]));
        assert_eq!(check.measured, "n = 4, mean difference -0.30 [-0.43, -0.17], p = 0.005, negative in 4 of 4");
    }
}
