//! `gradmax inspect`: what a network is made of, and where growth leads.

use anyhow::Result;
use gradmax::{Architecture, Described, Growable, LayerSummary, Seed, checkpoint};
use serde::Serialize;

use crate::args::Inspect;
use crate::config::Experiment;
use crate::device;
use crate::experiment::Networks;
use crate::folder::RunFolder;
use crate::method::{self, Method};
use crate::network::Shape;
use crate::table::{grouped, markdown};

/// A network in numbers.
#[derive(Debug, Serialize)]
struct Anatomy {
    layers: Vec<LayerSummary>,
    /// Parameters, running statistics included.
    parameters: usize,
    /// Floating-point operations of an example's forward pass.
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
}

pub fn inspect(arguments: Inspect) -> Result<()> {
    let folder = arguments.subject.is_dir().then(|| RunFolder::at(&arguments.subject));
    let experiment = match &folder {
        Some(folder) => folder.read_experiment()?,
        None => Experiment::read(&arguments.subject, &arguments.set)?,
    };
    let Networks { seed, target } = Networks::of(&experiment)?;
    let method = method::named(&experiment.method, &experiment.methods)?;
    let progress = match folder.filter(RunFolder::has_checkpoint) {
        Some(folder) => Some(checkpoint::load_progress(&folder.checkpoint())?),
        None => None,
    };
    let now = match &progress {
        Some(progress) => seed.with_site_widths(&progress.sites.iter().map(|site| site.width).collect::<Vec<_>>()),
        None if matches!(method, Method::Big) => target.clone(),
        None => seed,
    };
    let grows = matches!(method, Method::Grow(_)) && now != target;
    let inspection = Inspection {
        network: anatomy(&now, &experiment.device)?,
        target: grows.then(|| anatomy(&target, &experiment.device)).transpose()?,
        step: progress.map(|progress| progress.step),
    };
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&inspection)?),
        false => print(&inspection),
    }
    Ok(())
}

fn anatomy(shape: &Shape, device: &str) -> Result<Anatomy> {
    let network = shape.init(Seed::new(0), &device::named(device)?)?;
    let parameters = burn::module::Module::num_params(&network);
    Ok(Anatomy { layers: network.layers(), parameters, flops: network.flops() })
}

fn print(inspection: &Inspection) {
    if let Some(step) = inspection.step {
        println!("after {step} steps:\n");
    }
    println!("{}", described(&inspection.network, inspection.target.as_ref()));
    if let Some(target) = &inspection.target {
        println!(
            "\ngrowth leads from {} to {} parameters, and from {} to {} FLOPs an example",
            grouped(inspection.network.parameters as u64),
            grouped(target.parameters as u64),
            grouped(inspection.network.flops),
            grouped(target.flops)
        );
    }
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
