//! `gradmax inspect`: what a network is made of, and where growth leads.

use anyhow::Result;
use gradmax::{Growable, MlpConfig, Seed, checkpoint};
use serde::Serialize;

use crate::args::Inspect;
use crate::config::Experiment;
use crate::device;
use crate::experiment::Networks;
use crate::folder::RunFolder;
use crate::method::{self, Method};
use crate::table::{grouped, markdown};

/// A network in numbers.
#[derive(Debug, Serialize)]
struct Anatomy {
    layers: Vec<LayerRow>,
    parameters: usize,
    /// Floating-point operations of an example's forward pass.
    flops: u64,
}

#[derive(Debug, Serialize)]
struct LayerRow {
    layer: String,
    inputs: usize,
    outputs: usize,
    parameters: usize,
    flops: u64,
    /// The site that the layer's neurons belong to.
    site: Option<String>,
    activation: Option<String>,
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
    let method = method::named(&experiment.method)?;
    let progress = match folder.filter(RunFolder::has_checkpoint) {
        Some(folder) => Some(checkpoint::load_progress(&folder.checkpoint())?),
        None => None,
    };
    let now = match &progress {
        Some(progress) => seed.with_hidden(progress.sites.iter().map(|site| site.width).collect()),
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

fn anatomy(config: &MlpConfig, device: &str) -> Result<Anatomy> {
    let network = config.init(Seed::new(0), &device::named(device)?)?;
    let sites = network.sites();
    let widths = [&[config.inputs], config.hidden.as_slice(), &[config.outputs]].concat();
    let layers = widths.windows(2).enumerate().map(|(index, sizes)| {
        let bias = if config.bias { sizes[1] } else { 0 };
        let site = sites.get(index);
        LayerRow {
            layer: format!("dense{}", index + 1),
            inputs: sizes[0],
            outputs: sizes[1],
            parameters: sizes[0] * sizes[1] + bias,
            flops: (2 * sizes[0] * sizes[1] + bias) as u64,
            site: site.map(|site| site.name.clone()),
            activation: site
                .map(|site| site.between.iter().map(|between| between.name()).collect::<Vec<_>>().join(", ")),
        }
    });
    let parameters = burn::module::Module::num_params(&network);
    Ok(Anatomy { layers: layers.collect(), parameters, flops: network.flops() })
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
    let rows = network.layers.iter().enumerate().map(|(index, layer)| {
        let width = match target.map(|target| target.layers[index].outputs) {
            Some(width) if width != layer.outputs => format!("{} -> {width}", layer.outputs),
            _ => layer.outputs.to_string(),
        };
        vec![
            layer.layer.clone(),
            layer.site.clone().unwrap_or_else(|| "-".into()),
            layer.activation.clone().unwrap_or_else(|| "-".into()),
            layer.inputs.to_string(),
            width,
            grouped(layer.parameters as u64),
            grouped(layer.flops),
        ]
    });
    let total = |name: &str, parameters: usize, flops: u64| {
        let dash = || "-".to_string();
        vec![name.to_string(), dash(), dash(), dash(), dash(), grouped(parameters as u64), grouped(flops)]
    };
    let rows = rows.chain([total("all", network.parameters, network.flops)]).collect::<Vec<_>>();
    markdown(&["layer", "site", "between", "inputs", "width", "parameters", "FLOPs"], &rows)
}
