//! Studies: training runs of several methods on the same seeds, which figures and tables share.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Setting;
use gradmax_experiments::comparison::{Comparison, comparison_folders};
use gradmax_experiments::config::Experiment;
use gradmax_experiments::crew::Job;
use gradmax_experiments::folder::RunSummary;
use gradmax_experiments::ranks::Ranks;
use gradmax_experiments::report::RecordedRun;

/// The configurations that everything starts from.
const BASES: [(&str, &str); 9] = [
    ("teacher_student", include_str!("../../../../configs/teacher_student.toml")),
    ("teacher_student_large", include_str!("../../../../configs/teacher_student_large.toml")),
    ("teacher_student_conv", include_str!("../../../../configs/teacher_student_conv.toml")),
    ("teacher_student_conv_bn", include_str!("../../../../configs/teacher_student_conv_bn.toml")),
    ("cifar10_wrn28", include_str!("../../../../configs/cifar10_wrn28.toml")),
    ("cifar10_wrn28_bn", include_str!("../../../../configs/cifar10_wrn28_bn.toml")),
    ("cifar10_vgg11", include_str!("../../../../configs/cifar10_vgg11.toml")),
    ("cifar100_wrn28", include_str!("../../../../configs/cifar100_wrn28.toml")),
    ("imagenet_mobilenet_v1", include_str!("../../../../configs/imagenet_mobilenet_v1.toml")),
];

/// Runs of several methods on the same seeds.
#[derive(Clone)]
pub struct Study {
    /// What it is called, unique among all that differ.
    pub name: String,
    pub experiment: Experiment,
    folder: PathBuf,
}

impl Study {
    /// A configuration of this program's with changes, for methods and seeds.
    pub fn new(
        setting: &Setting,
        name: impl Into<String>,
        base: &str,
        changes: &[String],
        methods: &[&str],
        seeds: u64,
    ) -> Result<Self> {
        let name = name.into();
        let (_, text) =
            BASES.iter().find(|(known, _)| *known == base).expect("studies start from known configurations");
        let mut experiment = Experiment::parse(text, base, changes)?;
        experiment.compare.methods = methods.iter().map(ToString::to_string).collect();
        experiment.compare.seeds = seeds;
        if let Some(device) = &setting.device {
            experiment.device = device.clone();
        }
        let experiment = experiment.checked().with_context(|| name.clone())?;
        let folder = setting.runs().join(&name);
        Ok(Self { name, experiment, folder })
    }

    /// The folder of its runs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The seeds of its runs.
    pub fn seeds(&self) -> Range<u64> {
        self.experiment.seeds()
    }

    pub fn jobs(&self) -> Result<Vec<Box<dyn Job>>> {
        let ranks = Ranks::alone();
        let stage = Comparison::new(&self.experiment, &self.folder, Some(&self.name), &ranks)?.ready()?;
        Ok(stage.map_or_else(Vec::new, |stage| stage.jobs))
    }

    /// The finished runs of a method, in order of their seeds.
    pub fn runs(&self, method: &str) -> Result<Vec<RecordedRun>> {
        let folders = comparison_folders(&self.experiment, &self.folder).filter(|(name, ..)| name == method);
        let finished = folders.filter(|(.., folder)| folder.is_finished());
        finished.map(|(.., folder)| RecordedRun::read(&folder)).collect()
    }

    /// What its runs came to, in order of methods and seeds.
    pub fn summaries(&self) -> Result<Vec<RunSummary>> {
        let summaries = comparison_folders(&self.experiment, &self.folder).map(|(.., folder)| folder.read_summary());
        summaries.filter_map(Result::transpose).collect()
    }

    /// Values of two methods' runs, of this study and another, seed by seed.
    pub fn pairs(
        &self,
        method: &str,
        other: (&Self, &str),
        of: impl Fn(&RecordedRun) -> Option<f64>,
    ) -> Result<Vec<(f64, f64)>> {
        let others = other.0.runs(other.1)?;
        let pair = |run: &RecordedRun| {
            let other = others.iter().find(|other| other.experiment.seed == run.experiment.seed)?;
            Some((of(run)?, of(other)?))
        };
        Ok(self.runs(method)?.iter().filter_map(pair).collect())
    }
}
