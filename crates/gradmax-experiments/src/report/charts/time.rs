//! The training loss against the time that it took.

use gradmax::training::Split;

use super::{Charted, Shown};
use crate::report::chart::{Chart, LineChart};

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let chart = Chart::Lines(LineChart {
        x_label: "seconds".into(),
        y_label: "training loss".into(),
        series: shown.lines(Split::Train, |row| row.seconds, |row| Some(row.loss)),
        marks: Vec::new(),
        logarithmic: true,
        whole_x: None,
    });
    let note = format!("{} Growth, evaluation and logging count; runs side by side share processors.", shown.band());
    Some(Charted { title: "Training loss against time", note, chart })
}
