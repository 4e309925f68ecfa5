//! `gradmax inspect`: what a network is made of, and where growth leads.

use anyhow::Result;
use gradmax::Seed;
use gradmax::networks::{Architecture, Described, LayerSummary};
use gradmax::site::{Growable, trainable_parameters};
use gradmax::training::checkpoint;
use serde::Serialize;

use crate::args::Inspect;
use gradmax_experiments::config::Experiment;
use gradmax_experiments::device;
use gradmax_experiments::experiment::{Networks, located, never_grows, widened};
use gradmax_experiments::folder::RunFolder;
use gradmax_experiments::method::{self, Method};
use gradmax_experiments::network::Shape;
use gradmax_experiments::output::print_line;
use gradmax_experiments::table::{grouped, markdown};

/// A network in numbers.
#[derive(Debug, Serialize)]
struct Anatomy {
    layers: Vec<LayerSummary>,
    /// Trainable parameters.
    parameters: usize,
    /// Running statistics of norms, which the paper's authors count as parameters too.
    running_statistics: usize,
    /// Floating-point operations of an example's forward pass: two for each multiply-add, one for each bias.
    flops: u64,
}

#[derive(Debug, Serialize)]
struct Inspection {
    /// The network that the configuration starts with, or that a run has now.
    network: Anatomy,
    /// The network that growth leads to, if it grows.
    target: Option<Anatomy>,
    /// Gradient steps taken, for the folder of a run.
    step: Option<usize>,
    /// What else has to be known about the numbers.
    notes: Vec<String>,
}

pub fn inspect(arguments: Inspect) -> Result<()> {
    let folder = arguments.subject.is_dir().then(|| RunFolder::at(&arguments.subject));
    let experiment = match &folder {
        Some(folder) => folder.read_experiment()?,
        None => {
            let experiment = located(Experiment::read(&arguments.subject, &arguments.set)?)?;
            experiment.of_method(&experiment.method, &[])?
        }
    };
    let networks = Networks::of(&experiment)?;
    let target = networks.target.clone();
    let method = method::named(&experiment.method, &experiment.methods)?;
    let progress = match folder.filter(RunFolder::has_checkpoint) {
        Some(folder) => Some(checkpoint::load_progress(&folder.checkpoint())?),
        None => None,
    };
    let now = match &progress {
        Some(progress) => widened(&networks.seed, &progress.sites, &arguments.subject)?,
        None => networks.start(&method)?,
    };
    let target = target.filter(|target| matches!(method, Method::Grow(_)) && now != *target);
    let inspection = Inspection {
        network: anatomy(&now, &experiment.device)?,
        target: target.map(|target| anatomy(&target, &experiment.device)).transpose()?,
        step: progress.map(|progress| progress.step),
        notes: [experiment.data.assumption(), never_grows(&experiment)?].into_iter().flatten().collect(),
    };
    match arguments.json {
        true => print_line(&serde_json::to_string_pretty(&inspection)?),
        false => print_line(&in_words(&inspection)),
    }
}

fn anatomy(shape: &Shape, device: &str) -> Result<Anatomy> {
    let network = shape.init(Seed::new(0), &device::named(device)?)?;
    let layers = network.layers();
    let running_statistics = layers.iter().map(|layer| layer.running_statistics).sum();
    Ok(Anatomy { layers, parameters: trainable_parameters(&network), running_statistics, flops: network.flops() })
}

fn in_words(inspection: &Inspection) -> String {
    let Inspection { network, target, step, notes } = inspection;
    let mut text = step.map_or(String::new(), |step| format!("after {step} steps:\n\n"));
    text += &described(network, target.as_ref());
    text += "\n\nFLOPs are of an example's forward pass: two for each multiply-add, one for each bias.";
    if network.running_statistics > 0 {
        let all = network.parameters + network.running_statistics;
        text += &format!(
            "\nParameters are the trainable ones; with running statistics, as the paper counts, there are {}.",
            grouped(all as u64)
        );
    }
    if let Some(target) = target {
        text += &format!(
            "\ngrowth leads from {} to {} parameters, and from {} to {} FLOPs an example",
            grouped(network.parameters as u64),
            grouped(target.parameters as u64),
            grouped(network.flops),
            grouped(target.flops)
        );
    }
    notes.iter().for_each(|note| text += &format!("\n{note}"));
    text
}

fn described(network: &Anatomy, target: Option<&Anatomy>) -> String {
    let dash = || "-".to_string();
    let rows = network.layers.iter().enumerate().map(|(index, layer)| {
        // With the output's first number, its neurons, as growth will have it.
        let output = match target.map(|target| target.layers[index].output[0]) {
            Some(width) if width != layer.output[0] => {
                format!("{} -> {width}{}", layer.output[0], positions(&layer.output))
            }
            _ => sizes(&layer.output),
        };
        vec![
            layer.layer.clone(),
            layer.kind.clone(),
            layer.site.clone().unwrap_or_else(dash),
            if layer.between.is_empty() { dash() } else { layer.between.join(", ") },
            sizes(&layer.input),
            output,
            grouped(layer.parameters as u64),
            grouped(layer.flops),
        ]
    });
    let all = vec![
        "all".into(),
        dash(),
        dash(),
        dash(),
        dash(),
        dash(),
        grouped(network.parameters as u64),
        grouped(network.flops),
    ];
    let rows = rows.chain([all]).collect::<Vec<_>>();
    markdown(&["layer", "kind", "site", "between", "input", "output", "parameters", "FLOPs"], &rows)
}

/// A shape as its sizes: `16x32x32`.
fn sizes(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

/// What follows the neurons in a shape: `x32x32`.
fn positions(shape: &[usize]) -> String {
    shape[1..].iter().map(|size| format!("x{size}")).collect()
}
