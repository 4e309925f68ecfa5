//! The network of a run without the neurons that it can do without, as a run of its own.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use burn::module::Module;
use gradmax::site::Growable;
use gradmax::training::{Cohorts, Run, Shrink, ShrinkReceipt, SiteShrinkage, Validated, checkpoint, evaluate};

use crate::bench;
use crate::config::Experiment;
use crate::device;
use crate::experiment;
use crate::folder::{RunFolder, write_whole};
use crate::report::{Bar, BarChart, BarSeries, BarShape, Chart};
use crate::table::{grouped, markdown, significant};
use crate::trained;

/// Removes what the network that a run keeps can do without, told on so many training examples, and writes what is left as
/// a run in another folder: its checkpoint, all that was recorded so far, and the receipt. The optimizer starts anew.
///
/// # Errors
/// If the folder holds no run with a checkpoint, or the other one holds a run.
pub fn write(
    from: &RunFolder,
    (experiment, shrink, examples): (&Experiment, Shrink, usize),
    to: &RunFolder,
) -> Result<ShrinkReceipt> {
    to.check_free()?;
    let device = device::named(&experiment.device)?;
    let run = trained::run_of(from, experiment)?;
    let data = experiment.data.load(experiment.seed, &device)?;
    let settings = bench::settings(experiment, &data);
    let (network, _) = run.kept();
    let network = network.clone().train();
    let trainer = bench::trainer(experiment, &settings, &data);
    let (network, receipt) = trainer.shrunk(&network, shrink, examples)?;

    to.create(experiment)?;
    let recorded = [RunFolder::metrics, RunFolder::receipts, RunFolder::undone];
    for (own, other) in recorded.map(|file| (file(from), file(to))) {
        if own.exists() {
            fs::copy(&own, &other).with_context(|| format!("cannot write {}", other.display()))?;
        }
    }
    let mut progress = run.progress.clone();
    let step = progress.validated.as_ref().map_or(progress.step, |validated| validated.step);
    for (at, site) in progress.sites.iter_mut().zip(network.sites()) {
        at.width = site.width();
    }
    // Which weights came when is no longer known by where they are.
    (progress.best, progress.cohorts) = (None, Cohorts::default());
    if let Some(validation) = &data.validation {
        let task = experiment::task(experiment, &data);
        let evaluation = evaluate(&network, &task, &**validation, settings.evaluation_batch)?;
        let (sites, parameters) = (progress.sites.clone(), receipt.parameters[1]);
        progress.validated = Some(Validated { step, evaluation, sites, parameters });
    }
    let run = Run { progress, ..Run::new(network, experiment.optimizer.init(&device)) };
    checkpoint::save(&run, &to.checkpoint())?;
    write_whole(&to.path().join("shrink.json"), &serde_json::to_vec_pretty(&receipt)?)?;
    Ok(receipt)
}

/// What was removed, in a sentence.
pub fn sentence(receipt: &ShrinkReceipt) -> String {
    let removed = receipt.removed();
    if removed == 0 {
        return "No neuron can go without a larger rise of the loss.".into();
    }
    let rise = 100.0 * (receipt.loss_after / receipt.loss_before - 1.0);
    let neurons = if removed == 1 { "1 neuron".into() } else { format!("{} neurons", grouped(removed as u64)) };
    format!(
        "{neurons} removed: {} -> {} parameters, {} -> {} FLOPs an example; the loss on {} training examples goes from {} to {} \
         ({rise:+.2} %).",
        grouped(receipt.parameters[0] as u64),
        grouped(receipt.parameters[1] as u64),
        grouped(receipt.flops[0]),
        grouped(receipt.flops[1]),
        grouped(receipt.examples as u64),
        significant(receipt.loss_before),
        significant(receipt.loss_after)
    )
}

/// A row for each site that lost neurons.
pub fn table(receipt: &ShrinkReceipt) -> String {
    let row = |site: &SiteShrinkage| {
        let lost = 100.0 * (site.before - site.after) as f64 / site.before as f64;
        vec![site.site.clone(), site.before.to_string(), site.after.to_string(), format!("{lost:.0} %")]
    };
    markdown(&["site", "before", "after", "removed"], &receipt.sites.iter().map(row).collect::<Vec<_>>())
}

/// The page of a receipt.
///
/// # Errors
/// If the chart cannot be drawn.
pub fn page(receipt: &ShrinkReceipt, folder: &Path) -> Result<String> {
    let bars = |name: &str, width: fn(&SiteShrinkage) -> usize| {
        let bar = |site: &SiteShrinkage| Some(Bar::exact(width(site) as f64));
        BarSeries { method: name.into(), bars: receipt.sites.iter().map(bar).collect() }
    };
    let chart = Chart::Bars(BarChart {
        x_label: "site".into(),
        y_label: "neurons".into(),
        groups: receipt.sites.iter().map(|site| site.site.clone()).collect(),
        series: vec![bars("before", |site| site.before), bars("after", |site| site.after)],
        shape: BarShape::Bar,
    });
    let title = format!("What is left in {}", folder.display());
    let caption = "Neurons go by importance, the Fisher information of a factor on their output, a tenth of all at a time; how \
                   far is told by the loss itself, in evaluation mode.";
    let note = "Neurons of each site before and after.".to_string();
    crate::report::look_page(&title, &sentence(receipt), &table(receipt), caption, vec![("Widths", note, chart)])
}
