//! `gradmax look`: what would grow in a run's network now.

use anyhow::Result;

use crate::args::Look;
use gradmax_experiments::failure::misuse;
use gradmax_experiments::folder::{RunFolder, write_whole};
use gradmax_experiments::outlook;
use gradmax_experiments::output::print_line;

pub fn look(arguments: &Look) -> Result<()> {
    if arguments.count == 0 {
        return Err(misuse("--count 0: name the number of neurons to ask about"));
    }
    let folder = RunFolder::at(&arguments.folder);
    let (experiment, outlook) = outlook::of_run(&folder, &arguments.set, arguments.examples, arguments.count)?;
    let policy = experiment.growth.as_ref().map_or("", |growth| growth.policy.as_str());
    let page = arguments.out.clone().unwrap_or_else(|| arguments.folder.join("look.html"));
    write_whole(&page, outlook::page(&outlook, policy, &arguments.folder)?.as_bytes())?;
    match arguments.json {
        true => print_line(&serde_json::to_string_pretty(&outlook)?),
        false => print_line(&format!(
            "{}\n\n{}\n\n{}\n\npage: {}",
            outlook::sentence(&outlook, policy),
            outlook::table(&outlook),
            outlook::CAPTION,
            page.display()
        )),
    }
}
