//! `gradmax reproduce`: the paper's figures and tables.

use std::sync::atomic::Ordering;

use anyhow::{Result, anyhow};

use crate::args::Reproduce;
use crate::reproduce::{self, ALL, Artefact, Reproduction, Setting, wrapped};
use gradmax_experiments::crew::{self, Job, SharedData};
use gradmax_experiments::failure::{Interrupted, misuse, quoted, sentence};
use gradmax_experiments::interrupt::stop_on_interrupt;
use gradmax_experiments::output::{print_line, say};
use gradmax_experiments::progress::Bars;
use gradmax_experiments::table::markdown;

pub fn reproduce(arguments: Reproduce) -> Result<()> {
    if arguments.names.iter().any(|name| name == "list") {
        return print_line(&list());
    }
    if arguments.seeds == Some(0) {
        return Err(misuse("--seeds 0: at least one repetition is needed"));
    }
    let workers = crew::workers(arguments.jobs)?;
    let artefacts = reproduce::find(&arguments.names)?;
    let setting = Setting {
        preset: arguments.preset,
        authors: arguments.authors,
        seeds: arguments.seeds,
        device: arguments.device,
        root: arguments.out,
    };
    let asked_for_all = arguments.names.iter().any(|name| name == "all");
    let made = set_up(&artefacts, &setting, asked_for_all)?;
    std::fs::create_dir_all(&setting.root)?;

    let stop = stop_on_interrupt()?;
    let (bars, data) = (Bars::new(arguments.quiet), SharedData::default());
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for (artefact, reproduction) in made {
        let jobs = reproduce::jobs(reproduction.as_ref())?;
        let jobs = jobs.into_iter().filter(|job| !job.is_done()).collect::<Vec<Box<dyn Job>>>();
        bars.say(&format!("{}: {}", artefact.title, left(jobs.len())));
        failures.extend(crew::work(&jobs.iter().map(|job| &**job).collect::<Vec<_>>(), workers, &bars, &data, stop));
        if stop.load(Ordering::Relaxed) {
            let again = format!("{} --out {}", setting.command(&arguments.names.join(" ")), quoted(&setting.root));
            return Err(anyhow::Error::new(Interrupted(again)));
        }
        match reproduce::write(artefact, reproduction.as_ref(), &setting) {
            Ok(verdict) => {
                let folder = setting.root.join(artefact.id);
                rows.push(vec![artefact.title.into(), verdict.word().into(), folder.display().to_string()]);
            }
            Err(error) => failures.push(format!("{}: {}", artefact.title, sentence(&error))),
        }
        reproduce::write_page(&setting.root)?;
    }
    let table = markdown(&["", "verdict", "folder"], &rows);
    print_line(&format!("{table}\n\nall verdicts: {}", reproduce::page_of(&setting.root).display()))?;
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(anyhow!("{} runs failed, the first of them {first}", failures.len())),
    }
}

/// Everything that is asked for, set up before anything runs; of `all`, what the machine has the data for.
fn set_up<'a>(
    artefacts: &[&'a Artefact],
    setting: &Setting,
    skip: bool,
) -> Result<Vec<(&'a Artefact, Box<dyn Reproduction>)>> {
    let mut made = Vec::new();
    for artefact in artefacts {
        match (artefact.make)(setting) {
            Ok(reproduction) => made.push((*artefact, reproduction)),
            Err(error) if skip => say(&format!("left out: {}: {}", artefact.title, sentence(&error))),
            Err(error) => return Err(error.context(artefact.title)),
        }
    }
    Ok(made)
}

fn left(jobs: usize) -> String {
    match jobs {
        0 => "everything is there".into(),
        1 => "1 run to do".into(),
        count => format!("{count} runs to do"),
    }
}

/// What there is, what it needs and how long it takes.
fn list() -> String {
    let mut list = String::new();
    for artefact in &ALL {
        let [quick, paper] = artefact.takes;
        let about = format!("Needs {}. Takes {quick} (quick), {paper} (paper).", artefact.needs);
        let lines = [wrapped(artefact.claim, 100), vec![about]].concat();
        for (index, line) in lines.iter().enumerate() {
            list += &format!("{:10}{line}\n", if index == 0 { artefact.id } else { "" });
        }
    }
    list + "\nTimes are of two processor cores, those of weeks and months estimated. Figures share runs, and finished ones are not run again."
}
