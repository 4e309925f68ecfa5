//! The growth receipts of a report.

use gradmax::event::Receipt;
use gradmax::training::{SiteShrinkage, Undone};

use super::page::escaped;
use super::series::MethodRuns;
use crate::statistics::median;
use crate::table::{grouped, significant};

/// A table a method, with what all its receipts say together.
pub fn receipts(groups: &[MethodRuns<'_>]) -> String {
    let mut html = String::new();
    for group in groups.iter().filter(|group| group.runs.iter().any(|run| !run.receipts.is_empty())) {
        let all = group.runs.iter().flat_map(|run| &run.receipts).collect::<Vec<_>>();
        let first = group.runs.iter().find(|run| !run.receipts.is_empty()).expect("some run of the group grew");
        let rows = first.receipts.iter().flat_map(receipt_rows).collect::<String>();
        html += &format!(
            "<details{}><summary><b>{}</b>: {}</summary><div class=\"scroll\"><table><caption>Receipts of seed {}</caption><thead><tr>\
             <th>step</th><th>site</th><th>width</th><th>gradient norm of new weights</th><th>predicted</th>\
             <th>output change</th><th>loss</th><th>parameters</th><th>cost, ms</th><th>cost, steps</th></tr></thead><tbody>{rows}</tbody></table></div></details>\n",
            if groups.len() == 1 { " open" } else { "" },
            escaped(&group.method),
            escaped(&verdict(&all)),
            first.experiment.seed,
        );
    }
    match html.is_empty() {
        true => html,
        false => format!("<h2>Growth receipts</h2>\n{html}"),
    }
}

/// A table a method, with what was taken back of its growth.
pub fn undone(groups: &[MethodRuns<'_>]) -> String {
    let mut html = String::new();
    for group in groups {
        let Some(first) = group.runs.iter().find(|run| !run.undone.is_empty()) else {
            continue;
        };
        let removed = group.runs.iter().flat_map(|run| &run.undone).map(|undone| undone.shrinkage.removed());
        let events = group.runs.iter().flat_map(|run| &run.receipts);
        let came = events.flat_map(|receipt| &receipt.sites).map(|site| site.added);
        let rows = first.undone.iter().flat_map(undone_rows).collect::<String>();
        html += &format!(
            "<details{}><summary><b>{}</b>: {} of {} neurons that came were taken back</summary><div class=\"scroll\"><table>\
             <caption>What was taken back of growth in the run of seed {}</caption><thead><tr><th>step</th><th>came at step</th>\
             <th>site</th><th>width</th><th>loss on training examples</th><th>parameters</th></tr></thead><tbody>{rows}</tbody></table></div></details>\n",
            if groups.len() == 1 { " open" } else { "" },
            escaped(&group.method),
            removed.sum::<usize>(),
            came.sum::<usize>(),
            first.experiment.seed,
        );
    }
    match html.is_empty() {
        true => html,
        false => format!("<h2>Growth taken back</h2>\n{html}"),
    }
}

fn undone_rows(undone: &Undone) -> Vec<String> {
    let Undone { step, grown, shrinkage } = undone;
    let row = |SiteShrinkage { site, before, after }: &SiteShrinkage| {
        format!(
            "<tr><td>{step}</td><td>{grown}</td><td>{}</td><td>{before} → {after}</td><td>{} → {}</td><td>{}</td></tr>",
            escaped(site),
            significant(shrinkage.loss_before),
            significant(shrinkage.loss_after),
            grouped(shrinkage.parameters[1] as u64),
        )
    };
    if shrinkage.sites.is_empty() {
        let parameters = grouped(shrinkage.parameters[1] as u64);
        return vec![format!(
            "<tr><td>{step}</td><td>{grown}</td><td colspan=\"3\">all of them are needed</td><td>{parameters}</td></tr>"
        )];
    }
    shrinkage.sites.iter().map(row).collect()
}

/// What all receipts of a method say together.
fn verdict(receipts: &[&Receipt]) -> String {
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let change = largest(&mut receipts.iter().filter_map(|receipt| receipt.output_change));
    let sites = || receipts.iter().flat_map(|receipt| &receipt.sites);
    let off = largest(&mut sites().filter_map(|site| {
        let (predicted, measured) = (site.predicted_gradient_norm, site.gradient_norm?);
        (measured > 0.0).then(|| (predicted - measured).abs() / measured)
    }));
    let costs = receipts.iter().filter_map(|receipt| receipt.timing.growth_in_steps).collect::<Vec<_>>();
    let cost = median(&costs).map_or(String::new(), |cost| format!(", median cost {cost:.2} training steps"));
    let mut events = if receipts.len() == 1 { "1 event".into() } else { format!("{} events", receipts.len()) };
    let mut count = |count: usize, what: &str| {
        if count > 0 {
            events += &format!(", {count} {what}");
        }
    };
    count(receipts.iter().filter(|receipt| receipt.refused.is_some()).count(), "of them refused");
    count(sites().filter(|site| site.without_gradient).count(), "times a site that no gradient arrives at");
    format!(
        "{events}; largest relative output change {}, gradient norms within {} of their prediction{cost}",
        tiny(change),
        tiny(off)
    )
}

fn receipt_rows(receipt: &Receipt) -> Vec<String> {
    let optional = |value: Option<f64>| value.map_or("-".into(), significant);
    let row = |site: &gradmax::event::SiteReceipt| {
        format!(
            "<tr><td>{}</td><td>{}</td><td>{} → {}</td><td>{}</td><td>{}</td><td>{}</td><td>{} → {}</td><td>{}</td><td>{:.2}</td><td>{}</td></tr>",
            receipt.step,
            escaped(&site.site),
            site.width - site.added,
            site.width,
            match site.without_gradient {
                true => "none arrives".into(),
                false => optional(site.gradient_norm),
            },
            significant(site.predicted_gradient_norm),
            receipt.output_change.map_or("-".into(), tiny),
            significant(receipt.loss_before),
            optional(receipt.loss_after),
            grouped(receipt.parameters[1] as u64),
            receipt.timing.growth,
            receipt.timing.growth_in_steps.map_or("-".into(), |steps| format!("{steps:.2}")),
        )
    };
    if let Some(reason) = &receipt.refused {
        return vec![format!(
            "<tr><td>{}</td><td colspan=\"9\">refused, and passed over: {}</td></tr>",
            receipt.step,
            escaped(reason)
        )];
    }
    receipt.sites.iter().map(row).collect()
}

/// The size of an error: 0, or its order of magnitude.
fn tiny(error: f64) -> String {
    if error == 0.0 { "0".into() } else { format!("{error:.1e}") }
}
