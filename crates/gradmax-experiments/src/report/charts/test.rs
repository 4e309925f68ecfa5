//! The score on test examples, or the loss where there is no score.

use gradmax::training::Split;

use super::{Charted, Shown, step};

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let note = shown.marked(&shown.band());
    let rows = shown.runs.iter().flat_map(|run| &run.rows);
    match rows.into_iter().any(|row| row.split == Split::Test && row.score.is_some()) {
        true => {
            let series = shown.lines(Split::Test, step, |row| row.score.map(|score| 100.0 * score));
            Some(Charted { title: "Test score", note, chart: shown.over_steps("test score, %", series, false) })
        }
        false => {
            let series = shown.lines(Split::Test, step, |row| Some(row.loss));
            Some(Charted { title: "Test loss", note, chart: shown.over_steps("test loss", series, true) })
        }
    }
}
