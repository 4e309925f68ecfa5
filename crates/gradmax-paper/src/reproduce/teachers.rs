//! The teacher-student experiments: which students, and how large.

use anyhow::Result;

use super::Setting;
use super::study::Study;

/// A student, and its teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Student {
    /// From 20:5:10 to its teacher's 20:10:10.
    Dense,
    /// From 100:25:10 to 100:50:10.
    LargeDense,
    /// Two convolutions, from 5 channels to 10.
    Conv,
    /// From 10 channels to 20.
    LargeConv,
    /// [`Self::Conv`] with batch norm.
    ConvNorm,
    /// [`Self::LargeConv`] with batch norm.
    LargeConvNorm,
}

impl Student {
    /// The name that its studies begin with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::LargeDense => "dense-large",
            Self::Conv => "conv",
            Self::LargeConv => "conv-large",
            Self::ConvNorm => "conv-norm",
            Self::LargeConvNorm => "conv-norm-large",
        }
    }

    /// What a panel calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Dense => "20:10:10 teacher",
            Self::LargeDense => "100:50:10 teacher",
            Self::Conv => "10 channels",
            Self::LargeConv => "20 channels",
            Self::ConvNorm => "10 channels, batch norm",
            Self::LargeConvNorm => "20 channels, batch norm",
        }
    }

    pub fn has_norm(self) -> bool {
        matches!(self, Self::ConvNorm | Self::LargeConvNorm)
    }

    fn is_convolutional(self) -> bool {
        !matches!(self, Self::Dense | Self::LargeDense)
    }

    fn base(self) -> &'static str {
        match self {
            Self::Dense => "teacher_student",
            Self::LargeDense => "teacher_student_large",
            Self::Conv | Self::LargeConv => "teacher_student_conv",
            Self::ConvNorm | Self::LargeConvNorm => "teacher_student_conv_bn",
        }
    }

    /// Teachers: the paper has five runs of one.
    fn seeds(self, setting: &Setting) -> u64 {
        setting.seeds(if self.is_convolutional() { 3 } else { 5 }, 5)
    }

    /// What makes it of its configuration.
    fn changes(self, setting: &Setting) -> Vec<String> {
        let mut changes = Vec::new();
        if self == Self::Dense && setting.authors {
            changes.push("data.inputs=10".to_string());
        }
        if matches!(self, Self::LargeConv | Self::LargeConvNorm) {
            let stages = |channels: usize| format!("[{{ kind = \"conv\", channels = {channels}, padding = 0 }}]");
            changes.push(format!("data.teacher.stages={}", stages(20)));
            changes.push(format!("network.stages={}", stages(10)));
            changes.extend(
                ["training.steps=3500", "growth.start=500", "growth.every=500", "growth.count=2"].map(String::from),
            );
        }
        if self.is_convolutional() && !setting.is_paper() {
            changes.push("data.examples=250".into());
        }
        if self.has_norm() {
            // The paper's figures show the gradients of incoming weights: these are zero.
            changes.push("growth.zero_side=\"incoming\"".into());
        }
        changes
    }

    /// A study of it with further changes.
    pub fn study(self, setting: &Setting, name: &str, changes: &[String], methods: &[&str]) -> Result<Study> {
        self.study_of(setting, name, changes, methods, self.seeds(setting))
    }

    /// As [`study`](Self::study), with another number of teachers.
    pub fn study_of(
        self,
        setting: &Setting,
        name: &str,
        changes: &[String],
        methods: &[&str],
        seeds: u64,
    ) -> Result<Study> {
        Study::new(setting, name, self.base(), &[&self.changes(setting), changes].concat(), methods, seeds)
    }

    /// Its plain runs, which several figures share.
    pub fn runs(self, setting: &Setting, methods: &[&str]) -> Result<Study> {
        self.study(setting, self.name(), &[], methods)
    }

    /// Its runs with zero outgoing weights.
    pub fn inverse(self, setting: &Setting, methods: &[&str]) -> Result<Study> {
        self.study(setting, &format!("{}-inverse", self.name()), &["growth.zero_side=\"outgoing\"".into()], methods)
    }

    /// The experiment in a sentence.
    pub fn described(self, setting: &Setting) -> String {
        let inputs = if setting.authors { 10 } else { 20 };
        let sizes = match self {
            Self::Dense => format!("Student from {inputs}:5:10 to {inputs}:10:10"),
            Self::LargeDense => "Student from 100:25:10 to 100:50:10".into(),
            Self::Conv => "Two convolutions (3x3, then 4x4) on 3x6x6 inputs, from 5 channels to 10".into(),
            Self::LargeConv => "Two convolutions (3x3, then 4x4) on 3x6x6 inputs, from 10 channels to 20".into(),
            Self::ConvNorm => "Two convolutions with batch norm between on 3x6x6 inputs, from 5 channels to 10".into(),
            Self::LargeConvNorm => {
                "Two convolutions with batch norm between on 3x6x6 inputs, from 10 channels to 20".into()
            }
        };
        let examples = if self.is_convolutional() && !setting.is_paper() { 250 } else { 1000 };
        let n = self.seeds(setting);
        format!("{sizes}, {examples} examples; {n} runs, each with a teacher of its own.")
    }
}

/// What is common to students of several sizes.
pub fn described_with(setting: &Setting, seeds: u64, what: &str) -> String {
    let authors = if setting.authors { " As the paper's code does it." } else { "" };
    format!("{what} {seeds} runs, each with a teacher of its own.{authors}")
}
