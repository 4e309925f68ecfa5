//! The paper's figures and tables, from runs of this program.

mod accuracy;
mod alignment;
mod catalog;
mod costs;
mod curves;
mod figure;
mod growth_figure;
mod growths;
mod image_figures;
mod images;
mod kept;
mod page;
mod schematic;
mod study;
mod teacher_figures;
mod teachers;
mod verdict;

pub use self::catalog::{ALL, Artefact, find};
pub use self::figure::wrapped;
pub use self::page::write_page;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use self::figure::Figure;
use self::study::Study;
use self::verdict::{Check, Verdict};
use gradmax_experiments::crew::Job;
use gradmax_experiments::folder::write_whole;

/// How large an experiment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Sized for two processor cores
    Quick,
    /// The paper's own settings
    Paper,
}

impl Preset {
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Paper => "paper",
        }
    }
}

/// How to reproduce.
#[derive(Debug, Clone)]
pub struct Setting {
    pub preset: Preset,
    /// Whether to do as the paper's code does where it differs from the text.
    pub authors: bool,
    /// Repetitions, if not the preset's.
    pub seeds: Option<u64>,
    pub device: Option<String>,
    /// The folder of everything.
    pub root: PathBuf,
}

impl Setting {
    /// The folder that holds the runs of this setting, which several figures share.
    fn runs(&self) -> PathBuf {
        let authors = if self.authors { "-authors" } else { "" };
        self.root.join("runs").join(format!("{}{authors}", self.preset.name()))
    }

    /// The command that reproduces these figures and tables so.
    pub fn command(&self, names: &str) -> String {
        let seeds = self.seeds.map_or(String::new(), |seeds| format!(" --seeds {seeds}"));
        let authors = if self.authors { " --authors" } else { "" };
        format!("gradmax reproduce {names} --preset {}{seeds}{authors}", self.preset.name())
    }

    fn is_paper(&self) -> bool {
        self.preset == Preset::Paper
    }

    /// Repetitions: those asked for, or the preset's.
    fn seeds(&self, quick: u64, paper: u64) -> u64 {
        self.seeds.unwrap_or(if self.is_paper() { paper } else { quick })
    }
}

/// One figure or table, set up.
pub trait Reproduction {
    /// What it trains.
    fn studies(&self) -> &[Study];

    /// The studies whose configurations are worth keeping with the result.
    fn configurations(&self) -> Vec<&Study> {
        self.studies().iter().collect()
    }

    /// What it measures besides, after or without training runs.
    fn measurements(&self) -> Result<Vec<Box<dyn Job>>> {
        Ok(Vec::new())
    }

    /// What came of it, once all of that is done.
    fn finding(&self) -> Result<Finding>;
}

/// What a figure or table shows.
pub struct Finding {
    pub figure: Figure,
    /// Numbers behind those that are drawn, by file name.
    pub numbers: Vec<(String, Vec<u8>)>,
    pub checks: Vec<Check>,
    /// More to read, in Markdown.
    pub details: String,
    /// How it was done here, in a sentence.
    pub setting: String,
}

/// All jobs of a reproduction.
pub fn jobs(reproduction: &dyn Reproduction) -> Result<Vec<Box<dyn Job>>> {
    let mut jobs = Vec::new();
    for study in reproduction.studies() {
        jobs.extend(study.jobs()?);
    }
    jobs.extend(reproduction.measurements()?);
    Ok(jobs)
}

/// Writes the folder of a figure or table: picture, numbers, configurations and verdict; returns the verdict.
pub fn write(artefact: &Artefact, reproduction: &dyn Reproduction, setting: &Setting) -> Result<Verdict> {
    let Finding { mut figure, numbers, checks, details, setting: mut how } = reproduction.finding()?;
    if let Some(missing) = missing(reproduction)? {
        for text in [&mut figure.note, &mut how] {
            text.push(' ');
            text.push_str(&missing);
        }
    }
    let folder = setting.root.join(artefact.id);
    let configurations = folder.join("configurations");
    std::fs::create_dir_all(&configurations)
        .with_context(|| format!("cannot make the folder {}", configurations.display()))?;
    let svg = figure.svg()?;
    write_whole(&folder.join("figure.svg"), svg.as_bytes())?;
    write_whole(&folder.join("figure.png"), &figure::png(&svg)?)?;
    write_whole(&folder.join("figure.csv"), &figure.csv()?)?;
    for (name, contents) in numbers {
        write_whole(&folder.join(name), &contents)?;
    }
    for study in reproduction.configurations() {
        write_whole(&configurations.join(format!("{}.toml", study.name)), study.experiment.to_toml()?.as_bytes())?;
    }
    let verdict = Verdict::new(artefact, setting, how, checks, details);
    verdict.write(&folder)?;
    Ok(verdict)
}

/// Which runs are not there, as those that failed, in a sentence.
fn missing(reproduction: &dyn Reproduction) -> Result<Option<String>> {
    let missing = jobs(reproduction)?.iter().filter(|job| !job.is_done()).map(|job| job.name()).collect::<Vec<_>>();
    Ok((!missing.is_empty()).then(|| format!("Without runs that did not finish: {}.", missing.join(", "))))
}

/// The page that shows everything in a folder: beside it, or inside where it has no name of its own, as `.`.
pub fn page_of(root: &Path) -> PathBuf {
    match root.file_name() {
        Some(name) => root.with_file_name(format!("{}.md", name.to_string_lossy())),
        None => root.join("reproduction.md"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use anyhow::bail;
    use indicatif::ProgressBar;

    use super::*;
    use gradmax_experiments::crew::{Done, SharedData};

    struct Half;

    struct Measuring(bool);

    impl Job for Measuring {
        fn name(&self) -> String {
            "gradmax seed 1".into()
        }

        fn is_done(&self) -> bool {
            self.0
        }

        fn work(&self) -> u64 {
            1
        }

        fn run(&self, _: &SharedData, _: ProgressBar, _: &AtomicBool) -> Result<Done> {
            bail!("it fails")
        }
    }

    impl Reproduction for Half {
        fn studies(&self) -> &[Study] {
            &[]
        }

        fn measurements(&self) -> Result<Vec<Box<dyn Job>>> {
            Ok(vec![Box::new(Measuring(true)), Box::new(Measuring(false))])
        }

        fn finding(&self) -> Result<Finding> {
            let figure = Figure { panels: Vec::new(), note: "Means.".into(), graded: false, size: Figure::PANEL };
            let (numbers, checks) = (Vec::new(), Vec::new());
            Ok(Finding { figure, numbers, checks, details: String::new(), setting: "Means.".into() })
        }
    }

    #[test]
    fn figures_say_which_runs_are_missing() {
        let root = std::env::temp_dir().join(format!("gradmax-missing-{}", std::process::id()));
        let setting = Setting { preset: Preset::Quick, authors: false, seeds: None, device: None, root: root.clone() };
        write(&ALL[0], &Half, &setting).unwrap();
        let read = |name: &str| std::fs::read_to_string(root.join(ALL[0].id).join(name)).unwrap();
        let said = "Means. Without runs that did not finish: gradmax seed 1.";
        assert!(read("verdict.md").contains(said), "{}", read("verdict.md"));
        assert!(read("figure.svg").contains("did not finish"));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn pages_stand_beside_folders_of_any_name() {
        let page = |root: &str| page_of(Path::new(root)).display().to_string();
        assert_eq!(page("docs/reproduction"), "docs/reproduction.md");
        assert_eq!(page("results/v0.1/"), "results/v0.1.md");
        assert_eq!((page("."), page("..")), ("./reproduction.md".into(), "../reproduction.md".into()));
    }
}
