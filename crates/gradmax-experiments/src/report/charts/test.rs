//! The score on validation examples, or test examples if there are none; the loss where there is no score.

use gradmax::training::{Row, Split};

use super::{Charted, Shown, step};

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let note = shown.marked(&shown.band());
    let has = |is: &dyn Fn(&Row) -> bool| shown.runs.iter().flat_map(|run| &run.rows).any(is);
    let (split, titles, labels) = match has(&|row| row.split == Split::Validation) {
        true => {
            (Split::Validation, ["Validation score", "Validation loss"], ["validation score, %", "validation loss"])
        }
        false => (Split::Test, ["Test score", "Test loss"], ["test score, %", "test loss"]),
    };
    match has(&|row| row.split == split && row.score.is_some()) {
        true => {
            let series = shown.lines(split, step, |row| row.score.map(|score| 100.0 * score));
            Some(Charted { title: titles[0], note, chart: shown.over_steps(labels[0], series, false) })
        }
        false => {
            let series = shown.lines(split, step, |row| Some(row.loss));
            Some(Charted { title: titles[1], note, chart: shown.over_steps(labels[1], series, true) })
        }
    }
}
