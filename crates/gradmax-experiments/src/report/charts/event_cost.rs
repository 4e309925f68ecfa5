//! What a growth event costs, in training steps.

use super::{Charted, Shown};
use crate::report::chart::{Bar, BarChart, BarSeries, BarShape, Chart};
use crate::statistics::median;

pub fn chart(shown: &Shown<'_>) -> Option<Charted> {
    let costs = shown.groups.iter().filter_map(|group| {
        let receipts = group.runs.iter().flat_map(|run| &run.receipts);
        let costs = receipts.filter_map(|receipt| receipt.timing.growth_in_steps).collect::<Vec<_>>();
        Some(BarSeries { method: group.method.clone(), bars: vec![Some(Bar::exact(median(&costs)?))] })
    });
    let chart = Chart::Bars(BarChart {
        x_label: String::new(),
        y_label: "training steps".into(),
        groups: vec![String::new()],
        series: costs.collect(),
        shape: BarShape::Bar,
    });
    let note = "The median growth event, in training steps of the network before it; verification not counted.".into();
    Some(Charted { title: "Cost of a growth event", note, chart })
}
