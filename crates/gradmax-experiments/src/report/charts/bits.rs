//! Of networks on text, the bits that a byte takes on validation examples, or test examples if there are none, against the
//! operations that it cost.

use gradmax::training::Split;

use super::{Charted, Shown};
use crate::report::chart::{Chart, LineChart};

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let on_text = |run: &crate::report::RecordedRun| run.experiment.data.shape().is_ok_and(|shape| shape.has_tokens);
    if !shown.runs.iter().all(on_text) {
        return None;
    }
    let validated = shown.runs.iter().flat_map(|run| &run.rows).any(|row| row.split == Split::Validation);
    let (split, title) = match validated {
        true => (Split::Validation, "Bits a byte, on validation examples"),
        false => (Split::Test, "Bits a byte, on test examples"),
    };
    let chart = Chart::Lines(LineChart {
        x_label: "training FLOPs".into(),
        y_label: "bits a byte".into(),
        series: shown.lines(split, |row| row.flops as f64, |row| Some(row.loss / std::f64::consts::LN_2)),
        marks: Vec::new(),
        logarithmic: false,
        whole_x: None,
    });
    let note = format!("{} A training step counts as three forward passes; looks and growth events count, too.", shown.band());
    Some(Charted { title, note, chart })
}
