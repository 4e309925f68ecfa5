//! The training loss against the operations that it cost.

use gradmax::training::Split;

use super::{Charted, Shown};
use crate::report::chart::{Chart, LineChart};

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let chart = Chart::Lines(LineChart {
        x_label: "training FLOPs".into(),
        y_label: "training loss".into(),
        series: shown.lines(Split::Train, |row| row.flops as f64, |row| Some(row.loss)),
        marks: Vec::new(),
        logarithmic: true,
        whole_x: None,
    });
    let note = format!("{} A training step counts as three forward passes; looks and growth events count, too.", shown.band());
    Some(Charted { title: "Training loss against what it cost", note, chart })
}
