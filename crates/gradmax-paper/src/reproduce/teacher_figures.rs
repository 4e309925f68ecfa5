//! The figures of students and their teachers: 1 to 3 and 7 to 13.

use anyhow::Result;

use super::costs::Costs;
use super::curves::{Claim, CurvePanel, Curves, Line, Measure, Quantity};
use super::growth_figure::{GrowthFigure, GrowthPart};
use super::growths::{GrownBy, Growths};
use super::schematic::Schematic;
use super::study::Study;
use super::teachers::{self, Student};
use super::verdict::Relation;
use super::{Reproduction, Setting};

/// The paper's confidence level for experiments with teachers.
const TEACHERS_CONFIDENCE: f64 = 0.8;

pub fn figure_1(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    let changes = [
        "data.inputs=5",
        "data.hidden=6",
        "data.outputs=4",
        "network.hidden=[3]",
        "growth.count=2",
        "growth.times=1",
        "training.steps=500",
    ];
    let changes = changes.map(String::from);
    Ok(Box::new(Schematic {
        study: Study::new(setting, "schematic", "teacher_student", &changes, &["gradmax"], 1)?,
        setting: "A 5:6:4 teacher, a student that grows from 5:3:4.".into(),
    }))
}

/// How networks are grown at checkpoints of a random run.
fn growths(setting: &Setting, student: Student) -> Result<Growths> {
    let study = student.study(setting, &format!("{}-growths", student.name()), &[], &["random"])?;
    let growth = study.experiment.growth.as_ref().expect("the students grow").periodic()?;
    let at = (0..growth.times).map(|event| growth.start + event * growth.every).collect();
    let grown = |method, repeats, train| GrownBy { method, repeats, train };
    let mut methods = vec![
        grown("random_positive", 10, true),
        grown("random", 10, true),
        grown("gradmax_opt_authors", 10, false),
        grown("gradmax_opt", 10, false),
        grown("gradmax", 1, true),
    ];
    if setting.authors {
        methods.retain(|grown| !["random", "gradmax_opt"].contains(&grown.method));
    }
    Ok(Growths { study, at, methods, ungrown: false, marks: (1..=50).map(|tenth| 10 * tenth).collect() })
}

/// Random growing as it is compared with: signed, and as the paper's code draws it.
fn randoms(setting: &Setting) -> Vec<&'static str> {
    if setting.authors { vec!["random_positive"] } else { vec!["random", "random_positive"] }
}

fn growth_figure(
    setting: &Setting,
    student: Student,
    parts: Vec<GrowthPart>,
    curves: Option<Curves>,
) -> Result<Box<dyn Reproduction>> {
    Ok(Box::new(GrowthFigure {
        growths: growths(setting, student)?,
        parts,
        curves,
        confidence: TEACHERS_CONFIDENCE,
        setting: format!(
            "{} Networks of a run with `random`, each grown by one neuron; the mean of 10 draws where a method draws.",
            student.described(setting)
        ),
    }))
}

pub fn growth_norms(setting: &Setting, student: Student) -> Result<Box<dyn Reproduction>> {
    growth_figure(setting, student, vec![GrowthPart::Norms], None)
}

fn differences(setting: &Setting) -> Vec<GrowthPart> {
    randoms(setting).into_iter().map(|random| GrowthPart::Differences(random, "gradmax")).collect()
}

pub fn figure_2c(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    growth_figure(setting, Student::Dense, differences(setting), None)
}

pub fn growth_panels(setting: &Setting, student: Student) -> Result<Box<dyn Reproduction>> {
    let parts = [vec![GrowthPart::Norms], differences(setting)].concat();
    growth_figure(setting, student, parts, Some(gradient_norms(setting, student)?))
}

/// Gradient norms through training.
fn gradient_norms(setting: &Setting, student: Student) -> Result<Curves> {
    let methods = [randoms(setting), vec!["gradmax"]].concat();
    let says = |random| format!("After growing, gradient norm over loss is larger with `gradmax` than with `{random}`");
    let claims = randoms(setting).into_iter().map(|random| Claim {
        says: says(random),
        relation: Relation::More,
        measure: Measure::AdjustedGradientNorm,
        lines: [(0, "gradmax"), (0, random)],
    });
    Ok(Curves {
        studies: vec![student.runs(setting, &methods)?],
        panels: vec![CurvePanel {
            title: "Gradient norm of all parameters".into(),
            quantity: Quantity::AdjustedGradientNorm,
            lines: Line::of(0, &methods),
        }],
        claims: claims.collect(),
        confidence: TEACHERS_CONFIDENCE,
        graded: false,
        setting: student.described(setting),
    })
}

pub fn figure_2b(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    Ok(Box::new(gradient_norms(setting, Student::Dense)?))
}

pub fn figure_3(setting: &Setting, student: Student) -> Result<Box<dyn Reproduction>> {
    let rivals = [randoms(setting), vec!["gradmax_opt_authors"]].concat();
    let methods = [vec!["small", "big"], rivals.clone(), vec!["gradmax"]].concat();
    let ends = |rival| format!("`gradmax` ends at a lower training loss than `{rival}`");
    let mut claims =
        rivals.into_iter().map(|rival| Claim::lower_loss(ends(rival), (0, "gradmax"), (0, rival))).collect::<Vec<_>>();
    claims.push(match student {
        Student::LargeDense => Claim {
            relation: Relation::NotMore,
            ..Claim::lower_loss("`gradmax` ends at no higher training loss than `big`", (0, "gradmax"), (0, "big"))
        },
        _ => Claim::lower_loss("`big` ends at a lower training loss than `gradmax`", (0, "big"), (0, "gradmax")),
    });
    Ok(Box::new(Curves {
        studies: vec![student.runs(setting, &methods)?],
        panels: vec![CurvePanel {
            title: student.title().into(),
            quantity: Quantity::Loss,
            lines: Line::of(0, &methods),
        }],
        claims,
        confidence: TEACHERS_CONFIDENCE,
        graded: false,
        setting: student.described(setting),
    }))
}

pub fn figure_3c(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    let methods = [randoms(setting), vec!["gradmax_opt_authors", "gradmax"]].concat();
    let students = [Student::Dense, Student::LargeDense];
    Ok(Box::new(Costs {
        studies: students.map(|student| student.runs(setting, &methods)).into_iter().collect::<Result<_>>()?,
        names: students.map(|student| student.title()).to_vec(),
        methods,
        setting: "Other runs may share the machine: ratios are what counts.".into(),
    }))
}

/// Two panels of training losses, with splitting.
pub fn small_and_large(setting: &Setting, students: [Student; 2]) -> Result<Box<dyn Reproduction>> {
    let rivals = [randoms(setting), vec!["split"]].concat();
    let methods = [vec!["small", "big"], rivals.clone(), vec!["gradmax"]].concat();
    let mut studies = Vec::new();
    let (mut panels, mut claims) = (Vec::new(), Vec::new());
    for student in students {
        let study = studies.len();
        studies.push(student.runs(setting, &methods)?);
        let mut lines = Line::of(study, &methods);
        let mut claim = |says: String, pair: [(usize, &'static str); 2]| {
            let says = format!("{}: {says}", student.title());
            claims.push(Claim::lower_loss(says, pair[0], pair[1]));
        };
        for rival in &rivals {
            claim(
                format!("`gradmax` ends at a lower training loss than `{rival}`"),
                [(study, "gradmax"), (study, rival)],
            );
        }
        if student.has_norm() {
            // What appendix C advises where a norm follows the new neurons.
            let inverse = studies.len();
            studies.push(student.inverse(setting, &["random", "gradmax"])?);
            lines.push(Line::new("gradmax, outgoing zero", inverse, "gradmax"));
            lines.push(Line::new("random, outgoing zero", inverse, "random"));
            claim(
                "with zero outgoing weights, `gradmax` ends at a lower training loss than `random`".into(),
                [(inverse, "gradmax"), (inverse, "random")],
            );
            claim(
                "`gradmax` ends at a lower training loss with zero outgoing weights than with zero incoming ones"
                    .into(),
                [(inverse, "gradmax"), (study, "gradmax")],
            );
        }
        panels.push(CurvePanel { title: student.title().into(), quantity: Quantity::Loss, lines });
    }
    Ok(Box::new(Curves {
        studies,
        panels,
        claims,
        confidence: TEACHERS_CONFIDENCE,
        graded: false,
        setting: students.map(|student| student.described(setting)).join(" "),
    }))
}

pub fn figure_7(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    const RATES: [&str; 5] = ["0.01", "0.02", "0.05", "0.1", "0.2"];
    let seeds = setting.seeds(3, 3);
    let mut figure = Curves {
        studies: Vec::new(),
        panels: Vec::new(),
        claims: Vec::new(),
        confidence: TEACHERS_CONFIDENCE,
        graded: true,
        setting: teachers::described_with(setting, seeds, "Students grown with `gradmax`."),
    };
    for student in [Student::Dense, Student::LargeDense] {
        let first = figure.studies.len();
        let mut lines = Vec::new();
        for rate in RATES {
            let changes = [format!("optimizer.learning_rate={rate}")];
            let name = format!("{}-rate{rate}", student.name());
            lines.push(Line::new(format!("rate {rate}"), figure.studies.len(), "gradmax"));
            figure.studies.push(student.study_of(setting, &name, &changes, &["gradmax"], seeds)?);
        }
        let best = first + 3;
        for (index, rate) in RATES.iter().enumerate().filter(|(index, _)| first + index != best) {
            let says = format!("{}: a rate of 0.1 ends at a lower training loss than {rate}", student.title());
            figure.claims.push(Claim::lower_loss(says, (best, "gradmax"), (first + index, "gradmax")));
        }
        figure.panels.push(CurvePanel { title: student.title().into(), quantity: Quantity::Loss, lines });
    }
    Ok(Box::new(figure))
}

pub fn figure_8(setting: &Setting, part: GrowthPart) -> Result<Box<dyn Reproduction>> {
    const DIRECTIONS: [&str; 5] = ["1st", "2nd", "3rd", "4th", "5th"];
    let variant = |(skip, name): (usize, &&str)| format!("methods.{name}={{ is = \"gradmax\", skip = {skip} }}");
    let changes = DIRECTIONS.iter().enumerate().map(variant).collect::<Vec<_>>();
    let study = Student::Dense.study(setting, "dense-directions", &changes, &["small"])?;
    let methods = DIRECTIONS.map(|method| GrownBy { method, repeats: 1, train: true }).to_vec();
    let growths = Growths {
        study,
        at: vec![20, 50, 100, 500, 1000],
        methods,
        ungrown: true,
        marks: (1..=100).map(|tenth| 10 * tenth).collect(),
    };
    Ok(Box::new(GrowthFigure {
        growths,
        parts: vec![part],
        curves: None,
        confidence: TEACHERS_CONFIDENCE,
        setting: format!(
            "{} Grown once by one neuron, along one of the five leading singular directions.",
            Student::Dense.described(setting)
        ),
    }))
}

pub fn figure_13a(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    let methods = [randoms(setting), vec!["unit_bias", "gradmax"]].concat();
    let study = Student::Dense.study(setting, "dense-biases", &["network.bias=true".into()], &methods)?;
    Ok(Box::new(Curves {
        studies: vec![study],
        panels: vec![CurvePanel {
            title: "Students with biases".into(),
            quantity: Quantity::Loss,
            lines: Line::of(0, &methods),
        }],
        claims: vec![Claim::lower_loss(
            "`gradmax` ends at a lower training loss than `unit_bias`",
            (0, "gradmax"),
            (0, "unit_bias"),
        )],
        confidence: TEACHERS_CONFIDENCE,
        graded: false,
        setting: Student::Dense.described(setting),
    }))
}

/// Neurons times steps of the run of figure 3a: training FLOPs are proportional to it.
const NEURON_STEPS: usize = 200 * (5 + 6 + 7 + 8 + 9) + 500 * 10;

/// The steps of a run that grows from a width by one neuron every 200 steps, from a step on, to width 10, and then
/// trains on until it has cost as much as that of figure 3a.
fn steps_at_equal_cost(width: usize, start: usize) -> usize {
    let growing = (width + 1..10).map(|width| 200 * width).sum::<usize>() + width * start;
    start + 200 * (9 - width) + (NEURON_STEPS - growing) / 10
}

pub fn figure_13b(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    const STARTS: [usize; 6] = [0, 200, 400, 600, 800, 1000];
    let (mut studies, mut lines) = (Vec::new(), Vec::new());
    for start in STARTS {
        let steps = steps_at_equal_cost(5, start);
        let changes = [format!("growth.start={start}"), format!("training.steps={steps}")];
        lines.push(Line::new(format!("from step {start}"), studies.len(), "gradmax"));
        studies.push(Student::Dense.study(setting, &format!("dense-start{start}"), &changes, &["gradmax"])?);
    }
    let later = STARTS.iter().enumerate().skip(1);
    let claims = later.map(|(index, start)| {
        let says = format!("Growing from step 0 ends at a lower training loss than from step {start}");
        Claim::lower_loss(says, (0, "gradmax"), (index, "gradmax"))
    });
    Ok(Box::new(Curves {
        claims: claims.collect(),
        studies,
        panels: vec![CurvePanel { title: "First growth".into(), quantity: Quantity::Loss, lines }],
        confidence: TEACHERS_CONFIDENCE,
        graded: true,
        setting: format!(
            "{} Five neurons, one every 200 steps, and all runs at the training FLOPs of figure 3a.",
            Student::Dense.described(setting)
        ),
    }))
}

pub fn figure_13c(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    const WIDTHS: [usize; 4] = [2, 4, 6, 8];
    let random = if setting.authors { "random_positive" } else { "random" };
    let (mut studies, mut lines) = (Vec::new(), [Vec::new(), Vec::new()]);
    for width in WIDTHS {
        let changes = [
            format!("network.hidden=[{width}]"),
            "growth.start=0".into(),
            format!("growth.times={}", 10 - width),
            format!("training.steps={}", steps_at_equal_cost(width, 0)),
        ];
        for (lines, method) in lines.iter_mut().zip(["gradmax", random]) {
            lines.push(Line::new(format!("from {width} neurons"), studies.len(), method));
        }
        let methods = ["gradmax", random];
        studies.push(Student::Dense.study(setting, &format!("dense-width{width}"), &changes, &methods)?);
    }
    let mut claims = Vec::new();
    for (index, width) in WIDTHS.iter().enumerate() {
        let says = format!("From {width} neurons, `gradmax` ends at a lower training loss than `{random}`");
        claims.push(Claim::lower_loss(says, (index, "gradmax"), (index, random)));
    }
    for method in ["gradmax", random] {
        let says = format!("`{method}` ends at a lower training loss from 8 neurons than from 2");
        claims.push(Claim::lower_loss(says, (WIDTHS.len() - 1, method), (0, method)));
    }
    let panels = lines.into_iter().zip(["gradmax", random]).map(|(lines, method)| CurvePanel {
        title: method.into(),
        quantity: Quantity::Loss,
        lines,
    });
    Ok(Box::new(Curves {
        panels: panels.collect(),
        claims,
        studies,
        confidence: TEACHERS_CONFIDENCE,
        graded: true,
        setting: format!(
            "{} One neuron every 200 steps from the first step on, and all runs at the training FLOPs of figure 3a.",
            Student::Dense.described(setting)
        ),
    }))
}

pub fn figure_13d(setting: &Setting) -> Result<Box<dyn Reproduction>> {
    const WIDTHS: [usize; 4] = [10, 12, 15, 20];
    let (mut studies, mut lines, mut claims) = (Vec::new(), Vec::new(), Vec::new());
    for width in WIDTHS {
        let times = width - 5;
        let steps = 200 * times + 500;
        let changes = [format!("growth.times={times}"), format!("training.steps={steps}")];
        let grown = studies.len();
        lines.push(Line::new(format!("grown to {width}"), grown, "gradmax"));
        studies.push(Student::Dense.study(setting, &format!("dense-to{width}"), &changes, &["gradmax"])?);
        // The teacher's width from the start, for as many steps.
        let big = studies.len();
        studies.push(Student::Dense.study(setting, &format!("dense-big{steps}"), &changes[1..], &["big"])?);
        let says =
            format!("Grown to {width} neurons, the student ends at a lower training loss than `big` (10 neurons)");
        if width >= 15 {
            claims.push(Claim::lower_loss(format!("{says} after 1500 steps"), (grown, "gradmax"), (1, "big")));
            claims.push(Claim::lower_loss(format!("{says} after {steps} steps"), (grown, "gradmax"), (big, "big")));
        }
        if width == WIDTHS[WIDTHS.len() - 1] {
            lines.push(Line::new("big", big, "big"));
        }
    }
    Ok(Box::new(Curves {
        studies,
        panels: vec![CurvePanel { title: "Beyond the teacher's 10 neurons".into(), quantity: Quantity::Loss, lines }],
        claims,
        confidence: TEACHERS_CONFIDENCE,
        graded: true,
        setting: format!("{} One neuron every 200 steps, 500 steps after the last.", Student::Dense.described(setting)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_at_equal_cost_cost_the_same() {
        let neuron_steps = |mut width: usize, start: usize| {
            let mut total = 0;
            for step in 0..steps_at_equal_cost(width, start) {
                if step >= start && step % 200 == 0 && width < 10 {
                    width += 1;
                }
                total += width;
            }
            total
        };
        assert_eq!(steps_at_equal_cost(5, 200), 1500);
        for (width, start) in [(5, 0), (5, 200), (5, 1000), (2, 0), (8, 0)] {
            assert_eq!(neuron_steps(width, start), NEURON_STEPS, "{width} from {start}");
        }
    }
}
