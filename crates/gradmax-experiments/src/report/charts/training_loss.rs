//! The training loss, step by step.

use gradmax::training::Split;

use super::{Charted, Shown, step};

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let series = shown.lines(Split::Train, step, |row| Some(row.loss));
    let note = shown.marked(&shown.band());
    Some(Charted { title: "Training loss", note, chart: shown.over_steps("training loss", series, true) })
}
