//! The figures and tables of image classification: 4 to 6, and tables 1 and 2.

use anyhow::Result;

use super::accuracy::{Accuracies, AccuracyClaim, AccuracyRow, Cell};
use super::alignment::AlignmentFigure;
use super::curves::{Claim, CurvePanel, Curves, Line, Measure, Quantity};
use super::images::{self, Images};
use super::verdict::Relation;
use super::{Preset, Reproduction, Setting};

/// Points of accuracy that are no difference.
const SAME: f64 = 2.0;

fn columns(setting: &Setting) -> [&'static str; 5] {
    ["small", "big", images::random(setting), "firefly_opt", "gradmax"]
}

pub fn figure_4(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    let methods = columns(setting);
    let (mut studies, mut above, mut below, mut claims) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut notes = Vec::new();
    for images in Images::TASKS {
        let study = studies.len();
        let (set_up, label, note) = images.study(setting, &methods)?;
        studies.push(set_up);
        notes.push(note);
        let lines = Line::of(study, &methods);
        above.push(CurvePanel { title: label.clone(), quantity: Quantity::StepLoss, lines: lines.clone() });
        below.push(CurvePanel { title: String::new(), quantity: Quantity::Parameters, lines });
        for rival in &methods[2..4] {
            claims.push(Claim {
                says: format!(
                    "{label}: the training loss is lower with `gradmax` than with `{rival}`, averaged over all steps"
                ),
                relation: Relation::Less,
                measure: Measure::MeanLoss,
                lines: [(study, "gradmax"), (study, rival)],
            });
        }
    }
    above.extend(below);
    Ok(Box::new(Curves {
        studies,
        panels: above,
        claims,
        confidence: 0.95,
        graded: false,
        setting: images::joined(notes),
    }))
}

/// A cell of a table, with what the paper has there.
fn cell(column: &'static str, study: usize, method: &'static str, paper: (f64, f64)) -> Cell {
    Cell { column, study, method, paper: Some(paper) }
}

pub fn table_1(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    const PAPER: [[(f64, f64); 5]; 4] = [
        [(89.9, 0.3), (92.9, 0.2), (90.6, 0.2), (90.8, 0.3), (91.1, 0.1)],
        [(84.1, 0.1), (86.6, 0.3), (83.8, 0.6), (84.0, 0.2), (84.4, 0.4)],
        [(63.7, 0.0), (69.3, 0.1), (66.7, 0.4), (66.5, 0.1), (66.8, 0.2)],
        [(55.0, 0.0), (70.8, 0.0), (66.9, 0.3), (66.4, 0.1), (68.6, 0.2)],
    ];
    let methods = columns(setting);
    let (mut studies, mut rows, mut claims, mut notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (images, paper) in Images::TASKS.into_iter().zip(PAPER) {
        let study = studies.len();
        let (set_up, label, note) = images.study(setting, &methods)?;
        studies.push(set_up);
        notes.push(note);
        let cells = methods.iter().zip(paper).map(|(method, paper)| cell(method, study, method, paper));
        for (higher, lower) in [("gradmax", methods[2]), ("gradmax", methods[3]), ("big", "gradmax")] {
            claims.push(AccuracyClaim {
                says: format!("{label}: `{higher}` is more accurate than `{lower}`"),
                higher: (study, higher),
                lower: (study, lower),
                relation: Relation::More,
            });
        }
        rows.push(AccuracyRow { cells: cells.collect(), label });
    }
    Ok(Box::new(Accuracies { studies, title: "Table 1".into(), rows, claims, setting: images::joined(notes) }))
}

pub fn table_2(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    const LABELS: [&str; 4] = ["no norm", "no norm, inverse", "batch norm", "batch norm, inverse"];
    const BASELINES: [[(f64, f64); 2]; 2] = [[(89.9, 0.3), (92.9, 0.2)], [(90.2, 0.3), (93.4, 0.1)]];
    const GROWN: [[(f64, f64); 3]; 4] = [
        [(90.6, 0.2), (90.8, 0.3), (91.1, 0.1)],
        [(92.1, 0.2), (92.2, 0.2), (92.4, 0.1)],
        [(92.9, 0.1), (92.9, 0.1), (93.0, 0.1)],
        [(92.8, 0.1), (92.8, 0.2), (92.9, 0.2)],
    ];
    let random = images::random(setting);
    let methods = columns(setting);
    let inverse = [random, "firefly_opt", "gradmax_opt"];
    let (mut studies, mut notes) = (Vec::new(), Vec::new());
    let networks =
        [Images::WideResNet, Images::WideResNetInverse, Images::WideResNetNorm, Images::WideResNetNormInverse];
    for (index, network) in networks.into_iter().enumerate() {
        let methods = if index % 2 == 0 { &methods[..] } else { &inverse[..] };
        let (study, _, note) = network.study(setting, methods)?;
        studies.push(study);
        notes.push(note);
    }
    let row = |(index, label): (usize, &&str)| {
        let last = if index % 2 == 0 { "gradmax" } else { "gradmax_opt" };
        let grown = [(random, random), ("firefly_opt", "firefly_opt"), ("gradmax(_opt)", last)];
        let mut cells = Vec::new();
        if index % 2 == 0 {
            let baselines = ["small", "big"].into_iter().zip(BASELINES[index / 2]);
            cells.extend(baselines.map(|(method, paper)| cell(method, index, method, paper)));
        }
        let grown = grown.into_iter().zip(GROWN[index]);
        cells.extend(grown.map(|((column, method), paper)| cell(column, index, method, paper)));
        AccuracyRow { label: label.to_string(), cells }
    };
    let mut claims = Vec::new();
    for (index, label) in LABELS.iter().enumerate() {
        for rival in [random, "firefly_opt"] {
            claims.push(AccuracyClaim {
                says: format!("{label}: GradMax(Opt) is more accurate than `{rival}`"),
                higher: (index, "gradmax(_opt)"),
                lower: (index, rival),
                relation: Relation::More,
            });
        }
    }
    for column in [random, "firefly_opt", "gradmax(_opt)"] {
        claims.push(AccuracyClaim {
            says: format!(
                "Without norm, zero outgoing weights are more accurate than zero incoming ones with {column}"
            ),
            higher: (1, column),
            lower: (0, column),
            relation: Relation::More,
        });
    }
    for column in [random, "firefly_opt", "gradmax(_opt)"] {
        claims.push(AccuracyClaim {
            says: format!("With batch norm, it makes no difference with {column}, up to {SAME} points"),
            higher: (3, column),
            lower: (2, column),
            relation: Relation::Same { within: SAME },
        });
    }
    Ok(Box::new(Accuracies {
        rows: LABELS.iter().enumerate().map(row).collect(),
        studies,
        title: "Table 2: batch norm, and zero outgoing weights (inverse)".into(),
        claims,
        setting: images::joined(notes),
    }))
}

/// MobileNets under changed settings, in a row: for each column, the name of its study and the changes.
type ChangedRow = (String, Vec<(&'static str, String, Vec<String>)>);

/// Accuracies of MobileNet-v1 grown with GradMax under changed settings.
fn mobilenets(
    setting: &Setting,
    title: &str,
    rows: Vec<ChangedRow>,
    claims: Vec<AccuracyClaim>,
) -> Result<Box<dyn Reproduction>> {
    let (mut studies, mut all, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    let (unchanged, ..) = Images::MobileNet.study(setting, &["gradmax"])?;
    for (label, columns) in rows {
        let mut cells = Vec::new();
        for (column, name, changes) in columns {
            let (changed, _, note) = Images::MobileNet.changed(setting, &name, &changes, &["gradmax"])?;
            // What is as usual shares the runs of table 1.
            let study = if changed.experiment == unchanged.experiment { unchanged.clone() } else { changed };
            cells.push(Cell { column, study: studies.len(), method: "gradmax", paper: None });
            studies.push(study);
            notes.push(note);
        }
        all.push(AccuracyRow { label, cells });
    }
    Ok(Box::new(Accuracies { studies, title: title.into(), rows: all, claims, setting: images::joined(notes) }))
}

fn accuracy_claim(
    says: impl Into<String>,
    higher: (usize, &'static str),
    lower: (usize, &'static str),
) -> AccuracyClaim {
    AccuracyClaim { says: says.into(), higher, lower, relation: Relation::More }
}

pub fn figure_5_left(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    const EVERY: [(&str, usize); 3] = [("every 2500", 2500), ("every 5000", 5000), ("every 10000", 10_000)];
    let row = |start: usize| {
        let column = |(column, every): (&'static str, usize)| {
            let (start, every) = (images::scaled(setting, start), images::scaled(setting, every));
            // A multiple of the interval, so that growth starts there.
            let start = start.next_multiple_of(every);
            let changes = vec![format!("growth.start={start}"), format!("growth.every={every}")];
            (column, format!("mobilenet-from{start}-every{every}"), changes)
        };
        (format!("from step {start}"), EVERY.into_iter().map(column).collect())
    };
    let claims = vec![
        accuracy_claim(
            "Every 5000 steps, growing from 10000 is more accurate than from 50000",
            (0, "every 5000"),
            (1, "every 5000"),
        ),
        accuracy_claim(
            "From 10000, growing every 5000 steps is more accurate than every 2500",
            (0, "every 5000"),
            (0, "every 2500"),
        ),
        accuracy_claim(
            "From 10000, growing every 5000 steps is more accurate than every 10000",
            (0, "every 5000"),
            (0, "every 10000"),
        ),
    ];
    mobilenets(setting, "Schedules (steps of the paper's 225 000)", vec![row(10_000), row(50_000)], claims)
}

pub fn figure_5_centre(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    const EPSILONS: [&str; 4] = ["0", "0.0001", "0.01", "1"];
    let row = |epsilon: &str| {
        let changes = vec![format!("growth.epsilon={epsilon}")];
        (format!("epsilon {epsilon}"), vec![("gradmax", format!("mobilenet-epsilon{epsilon}"), changes)])
    };
    let claims = vec![
        accuracy_claim("An epsilon of 1 is less accurate than 0.0001", (1, "gradmax"), (3, "gradmax")),
        accuracy_claim("An epsilon of 1 is less accurate than 0", (0, "gradmax"), (3, "gradmax")),
    ];
    mobilenets(setting, "Epsilon", EPSILONS.map(row).into(), claims)
}

pub fn figure_5_right(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    const FACTORS: [&str; 4] = ["0.1", "0.5", "1", "2"];
    let row = |factor: &str| {
        let column = |scale: &'static str| {
            let changes = vec![format!("growth.factor={factor}"), format!("growth.scale=\"{scale}\"")];
            (scale, format!("mobilenet-{scale}{factor}"), changes)
        };
        (format!("scale {factor}"), vec![column("mean"), column("fixed")])
    };
    let mut claims = Vec::new();
    for (index, factor) in FACTORS.iter().enumerate().skip(1) {
        claims.push(AccuracyClaim {
            relation: Relation::Same { within: SAME },
            ..accuracy_claim(
                format!("At scale {factor}, relative and fixed scales are equally accurate, up to {SAME} points"),
                (index, "mean"),
                (index, "fixed"),
            )
        });
    }
    mobilenets(setting, "Scale", FACTORS.map(row).into(), claims)
}

pub fn figure_6(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    let (study, note) = images::for_alignment(setting)?;
    let steps = study.experiment.training.steps(|| study.experiment.data.examples());
    let batches =
        if setting.preset == Preset::Paper { vec![32, 128, 512, 2048, 8192] } else { vec![32, 128, 512, 2048] };
    Ok(Box::new(AlignmentFigure {
        study,
        phases: vec![(0, "beginning"), (steps / 2, "halfway"), (steps - 1, "end")],
        batches,
        count: 4,
        draws: if setting.preset == Preset::Paper { 1 } else { 3 },
        setting: note,
    }))
}
