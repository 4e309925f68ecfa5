//! The training loss less that of the reference, seed by seed.

use super::{Charted, Shown};
use crate::report::series::difference;

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let reference = shown.groups.iter().find(|group| group.method == shown.compare.reference)?;
    let others = shown.groups.iter().filter(|group| group.method != shown.compare.reference);
    let series = others.map(|group| difference(group, reference, shown.compare.confidence));
    let series = series.filter(|series| !series.points.is_empty()).collect();
    let band = shown.band().replace("Mean over seeds", "Mean of these differences");
    let note = format!("Training loss less that of {}, seed by seed. {}", shown.compare.reference, shown.marked(&band));
    let chart = shown.over_steps("difference in training loss", series, false);
    Some(Charted { title: "Loss difference to a reference", note, chart })
}
