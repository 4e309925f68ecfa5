//! The norm of the gradient, relative to the loss.

use gradmax::training::Split;

use super::{Charted, Shown, step};

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let series = shown.lines(Split::Train, step, |row| Some(row.gradient_norm? / row.loss));
    let note = shown.marked(&shown.band());
    Some(Charted {
        title: "Gradient norm over loss",
        note,
        chart: shown.over_steps("gradient norm / loss", series, true),
    })
}
