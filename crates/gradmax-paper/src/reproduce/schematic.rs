//! The paper's schematic (figure 1), drawn from a real run: a network before it grows, right after, and later.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, ensure};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use gradmax::event::Receipt;
use gradmax::training::Trainer;
use indicatif::ProgressBar;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::{Deserialize, Serialize};

use super::figure::{Content, Figure, Panel};
use super::kept;
use super::study::Study;
use super::verdict::Check;
use super::{Finding, Reproduction};
use gradmax_experiments::bench::{Bench, settings, train_to};
use gradmax_experiments::crew::{Done, Job, SharedData};
use gradmax_experiments::experiment;
use gradmax_experiments::network::Network;
use gradmax_experiments::report;
use gradmax_experiments::table::{csv, significant};

/// Steps after growth at which the network is drawn again.
const LATER: usize = 200;

/// The schematic of one growth.
pub struct Schematic {
    /// The run; its method and the step of its first growth count.
    pub study: Study,
    pub setting: String,
}

/// A network of one hidden layer, to be drawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Drawing {
    /// `[inputs][hidden]` and `[hidden][outputs]`.
    incoming: Vec<Vec<f64>>,
    outgoing: Vec<Vec<f64>>,
    /// The last so many hidden neurons are new.
    new: usize,
    below: String,
}

/// What the run gave.
#[derive(Serialize, Deserialize)]
struct Drawn {
    drawings: Vec<Drawing>,
    receipt: Receipt,
}

/// A weight, in the CSV.
#[derive(Serialize)]
struct Weight {
    panel: usize,
    side: &'static str,
    from: usize,
    to: usize,
    weight: f64,
}

struct Measurement {
    study: Study,
    file: PathBuf,
}

/// Collects the matrices of a network.
#[derive(Default)]
struct Matrices(Vec<Vec<Vec<f64>>>);

impl ModuleVisitor for Matrices {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        if let [rows, columns] = tensor.dims()[..] {
            let values = tensor.into_data().convert::<f64>().try_to_vec::<f64>().expect("weights are numbers");
            self.0.push((0..rows).map(|row| values[row * columns..(row + 1) * columns].to_vec()).collect());
        }
    }
}

impl Drawing {
    fn of(network: &Network, new: usize, below: String) -> Result<Self> {
        let mut matrices = Matrices::default();
        network.visit(&mut matrices);
        ensure!(matrices.0.len() == 2, "the schematic is of a network with one hidden layer");
        let outgoing = matrices.0.pop().expect("there are two");
        let incoming = matrices.0.pop().expect("there are two");
        Ok(Self { incoming, outgoing, new, below })
    }

    /// Draws the network onto an area: lines for weights, their width for the size and their colour for the sign.
    pub fn draw(&self, area: &report::Area<'_>, ink: RGBColor, soft: RGBColor) -> report::Drawn {
        let (width, height) = area.dim_in_pixel();
        let hidden = self.outgoing.len();
        let widths = [self.incoming.len(), hidden, self.outgoing[0].len()];
        let place = |layer: usize, index: usize| {
            let x = [0.17, 0.5, 0.83][layer] * f64::from(width);
            let room = f64::from(height) - 90.0;
            let y = 14.0 + room * (index as f64 + 0.5) / widths[layer] as f64;
            (x as i32, y as i32)
        };
        let all = || self.incoming.iter().chain(&self.outgoing).flatten();
        let largest = all().map(|weight| weight.abs()).fold(f64::MIN_POSITIVE, f64::max);
        let is_new = |neuron: usize| neuron + self.new >= hidden;
        let (positive, negative) = (RGBColor(213, 94, 0), RGBColor(0, 114, 178));
        let edge = |from: (i32, i32), to: (i32, i32), weight: f64, new: bool| -> report::Drawn {
            let line = [from, to];
            if weight == 0.0 {
                let dotted = DashedPathElement::new(line, 2, 5, soft.mix(0.8).stroke_width(1));
                return Ok(area.draw(&dotted)?);
            }
            let color = if weight > 0.0 { positive } else { negative };
            let share = weight.abs() / largest;
            let style = color.mix(if new { 0.95 } else { 0.3 }).stroke_width(1 + (4.0 * share) as u32);
            Ok(area.draw(&PathElement::new(line, style))?)
        };
        for (input, row) in self.incoming.iter().enumerate() {
            for (neuron, weight) in row.iter().enumerate() {
                edge(place(0, input), place(1, neuron), *weight, is_new(neuron))?;
            }
        }
        for (neuron, row) in self.outgoing.iter().enumerate() {
            for (output, weight) in row.iter().enumerate() {
                edge(place(1, neuron), place(2, output), *weight, is_new(neuron))?;
            }
        }
        for (layer, width) in widths.into_iter().enumerate() {
            for index in 0..width {
                let new = layer == 1 && is_new(index);
                let (x, y) = place(layer, index);
                area.draw(&Circle::new((x, y), 11, WHITE.filled()))?;
                let rim = if new { positive.stroke_width(4) } else { ink.stroke_width(2) };
                area.draw(&Circle::new((x, y), 11, rim))?;
            }
        }
        let centred = |size| report::text(size, ink).pos(Pos::new(HPos::Center, VPos::Top));
        for (layer, name) in ["inputs", "hidden", "outputs"].into_iter().enumerate() {
            let (x, _) = place(layer, 0);
            area.draw(&Text::new(name, (x, height as i32 - 66), centred(15)))?;
        }
        let text = report::text(14, soft).pos(Pos::new(HPos::Center, VPos::Top));
        area.draw(&Text::new(self.below.clone(), (width as i32 / 2, height as i32 - 38), text))?;
        Ok(())
    }
}

impl Schematic {
    fn file(&self) -> PathBuf {
        self.study.folder().join("schematic.json")
    }
}

impl Job for Measurement {
    fn name(&self) -> String {
        self.study.name.clone()
    }

    fn is_done(&self) -> bool {
        self.study.experiment.to_toml().is_ok_and(|asked| kept::answers(&self.file, &asked))
    }

    fn work(&self) -> u64 {
        1
    }

    fn run(&self, data: &SharedData, _: ProgressBar, _: &AtomicBool) -> Result<Done> {
        let experiment = &self.study.experiment;
        let growth = experiment.growth.as_ref().context("the schematic needs a schedule of growth")?.periodic()?;
        let data = data.of(experiment)?;
        let settings = settings(experiment, &data);
        let trainer = || Trainer::new(settings.clone(), experiment::task(experiment, &data), &*data.train);
        let run = train_to(trainer(), experiment::beginning(experiment)?, growth.start)?;
        let bench = Bench::new(experiment, &data, run)?;
        let new = bench.plan.iter().map(|planned| planned.count).sum();
        let loss = |network: &Network| Ok::<_, anyhow::Error>(format!("loss {}", significant(bench.loss(network)?)));
        let before = bench.start().network;
        let (grown, receipt) = bench.grow(&experiment.method, 0, 1, None)?;
        let mut drawings = vec![
            Drawing::of(&before, 0, loss(&before)?)?,
            Drawing::of(&grown.network, new, format!("{}; new incoming weights are zero", loss(&grown.network)?))?,
        ];
        let later = train_to(trainer(), grown, growth.start + LATER)?;
        drawings.push(Drawing::of(&later.network, new, loss(&later.network)?)?);
        kept::write(&self.file, &self.study.experiment.to_toml()?, Drawn { drawings, receipt })?;
        Ok(Done::Finished)
    }
}

impl Reproduction for Schematic {
    fn studies(&self) -> &[Study] {
        &[]
    }

    fn configurations(&self) -> Vec<&Study> {
        vec![&self.study]
    }

    fn measurements(&self) -> Result<Vec<Box<dyn Job>>> {
        Ok(vec![Box::new(Measurement { study: self.study.clone(), file: self.file() })])
    }

    fn finding(&self) -> Result<Finding> {
        let Drawn { drawings, receipt } = kept::read(&self.file())?;
        let start = receipt.step;
        let titles = ["Before growing".to_string(), "Grown".into(), format!("{LATER} steps later")];
        let mut weights = Vec::new();
        for (panel, drawing) in drawings.iter().enumerate() {
            for (side, matrix) in [("incoming", &drawing.incoming), ("outgoing", &drawing.outgoing)] {
                for (from, row) in matrix.iter().enumerate() {
                    weights.extend(row.iter().enumerate().map(|(to, weight)| Weight {
                        panel,
                        side,
                        from,
                        to,
                        weight: *weight,
                    }));
                }
            }
        }
        let site = receipt.sites.first().context("the schematic grows one site")?;
        let (change, norm) = (receipt.output_change.unwrap_or(f64::NAN), site.gradient_norm.unwrap_or(f64::NAN));
        let predicted = site.predicted_gradient_norm;
        let new = |drawing: &Drawing| {
            let hidden = drawing.outgoing.len();
            drawing.incoming.iter().flat_map(|row| row[hidden - drawing.new..].to_vec()).collect::<Vec<_>>()
        };
        let zero = new(&drawings[1]).iter().all(|weight| *weight == 0.0);
        let checks = vec![
            Check::fact(
                "New incoming weights are zero and the network computes what it did",
                format!("Largest relative change of an output: {change:.0e}"),
                zero && change < 1e-5,
            ),
            Check::fact(
                "The gradient of the new incoming weights has the norm that the singular values promise",
                format!(
                    "Singular values {}; norm promised {}, measured {}",
                    site.singular_values.iter().map(|value| significant(*value)).collect::<Vec<_>>().join(", "),
                    significant(predicted),
                    significant(norm)
                ),
                (predicted - norm).abs() <= 1e-3 * norm,
            ),
            Check::fact(
                "Training moves them at once",
                format!(
                    "Largest new incoming weight {LATER} steps later: {}",
                    significant(new(&drawings[2]).iter().fold(0.0, |largest: f64, weight| largest.max(weight.abs())))
                ),
                new(&drawings[2]).iter().any(|weight| *weight != 0.0),
            ),
        ];
        let setting = format!(
            "A real run, grown by {} neurons at step {start}. Lines are weights: orange positive, blue negative, the wider the larger, \
             dotted if zero; new neurons have orange rims. {}",
            site.added, self.setting
        );
        let panels = titles.into_iter().zip(drawings);
        let panels = panels.map(|(title, drawing)| Panel { title, content: Content::Network(drawing) }).collect();
        Ok(Finding {
            figure: Figure { panels, note: setting.clone(), graded: false, size: (360, 340) },
            numbers: vec![("weights.csv".into(), csv(&weights)?)],
            checks,
            details: String::new(),
            setting,
        })
    }
}
