//! The gradient norm that new weights receive at each growth event.

use gradmax::event::Receipt;

use super::{Charted, Shown};
use crate::report::chart::{Bar, BarChart, BarSeries, BarShape, Chart};
use crate::statistics::Mean;

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let steps = shown.event_steps();
    let chart = Chart::Bars(BarChart {
        x_label: "growth step".into(),
        y_label: "gradient norm of new weights".into(),
        groups: steps.iter().map(usize::to_string).collect(),
        series: by_event(shown, &steps, Receipt::gradient_norm),
        shape: BarShape::Bar,
    });
    let note = format!("The norm of the gradients of all new weights, right after growing. {}", shown.intervals());
    Some(Charted { title: "Gradient norm by growth step", note, chart })
}

/// A value of the receipts, averaged over the seeds of each method, event by event; methods without such values are
/// left out.
fn by_event(shown: &Shown<'_>, steps: &[usize], of: impl Fn(&Receipt) -> Option<f64>) -> Vec<BarSeries> {
    let series = shown.groups.iter().map(|group| {
        let bar = |step: &usize| {
            let receipts = group.runs.iter().flat_map(|run| &run.receipts).filter(|receipt| receipt.step == *step);
            Some(Bar::of(&Mean::of(&receipts.filter_map(&of).collect::<Vec<_>>())?, shown.compare.confidence))
        };
        BarSeries { method: group.method.clone(), bars: steps.iter().map(bar).collect() }
    });
    series.filter(|series| series.bars.iter().any(Option::is_some)).collect()
}
