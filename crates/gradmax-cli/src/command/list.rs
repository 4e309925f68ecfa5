//! `gradmax list`: what there is to be named on the command line and in configurations.

use anyhow::Result;
use gradmax_experiments::output::print;
use gradmax_experiments::shipped::SHIPPED;
use gradmax_experiments::{data, method, network, policy};

pub fn list() -> Result<()> {
    let shipped = SHIPPED.iter().map(|shipped| (shipped.name, shipped.about())).collect::<Vec<_>>();
    let sections = [
        ("experiments, for example `gradmax compare teacher_student`", shipped),
        ("methods (`method`, --methods)", named(method::list())),
        ("policies (`growth.policy`)", named(policy::list())),
        ("networks (`network.name`)", named(network::LIST.into_iter())),
        ("data sets (`data.name`, `gradmax data check NAME`)", named(data::list())),
    ];
    let section = |(title, entries): &(&str, Vec<(&str, String)>)| {
        let width = entries.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let line = |(name, about): &(&str, String)| format!("  {name:width$}  {about}\n");
        format!("{title}\n{}", entries.iter().map(line).collect::<String>())
    };
    print(&sections.iter().map(section).collect::<Vec<_>>().join("\n"))
}

fn named(entries: impl Iterator<Item = (&'static str, &'static str)>) -> Vec<(&'static str, String)> {
    entries.map(|(name, about)| (name, about.to_string())).collect()
}
