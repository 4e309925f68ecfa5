//! `gradmax evaluate`: how well a run's network does on data.

use anyhow::Result;

use gradmax::training::Split;

use crate::args::{Evaluate, Examples};
use gradmax_experiments::data::{Answers, Quantity};
use gradmax_experiments::output::print_line;
use gradmax_experiments::table::{grouped, markdown, significant};
use gradmax_experiments::trained::{Scores, ScoresOf, Trained};

pub fn evaluate(arguments: Evaluate) -> Result<()> {
    let (trained, experiment) = Trained::of(&arguments.folder, &arguments.set)?;
    let scores = match &arguments.data {
        Some(path) => trained.evaluate(&experiment.data.other(path, trained.device())?)?,
        None => {
            let data = experiment.data.load(experiment.seed, trained.device())?;
            trained.evaluate(data.split(arguments.split.into())?)?
        }
    };
    let which = match (&arguments.data, arguments.split) {
        (Some(_), _) => "",
        (None, Examples::Train) => "training ",
        (None, Examples::Validation) => "validation ",
        (None, Examples::Test) => "test ",
    };
    match arguments.json {
        true => print_line(&serde_json::to_string_pretty(&scores)?),
        false => print_line(&in_words(&scores, trained.answers(), which)),
    }
}

impl From<Examples> for Split {
    fn from(examples: Examples) -> Self {
        match examples {
            Examples::Train => Self::Train,
            Examples::Validation => Self::Validation,
            Examples::Test => Self::Test,
        }
    }
}

fn in_words(scores: &Scores, answers: &Answers, which: &str) -> String {
    let Scores { examples, loss, of } = scores;
    let counted = format!("{} {which}examples, loss {}", grouped(*examples as u64), significant(*loss));
    match of {
        ScoresOf::Classes { accuracy, classes, confusion } => {
            format!("{counted}, accuracy {:.2} %\n\n{}", 100.0 * accuracy, class_tables(classes, confusion))
        }
        ScoresOf::Text { accuracy, bits_per_byte, perplexity } => format!(
            "{} {which}bytes, loss {} nats a byte, {bits_per_byte:.3} bits a byte, perplexity {perplexity:.2}, {:.2} % right",
            grouped(*examples as u64),
            significant(*loss),
            100.0 * accuracy
        ),
        ScoresOf::Values { root_mean_squared_error, explained_variance } => {
            let Answers::Values(quantities) = answers else {
                return counted;
            };
            let row = |(of, (error, explained)): (&Quantity, (&f64, &Option<f64>))| {
                let explained = explained.map_or("-".into(), |share| format!("{:.2} %", 100.0 * share));
                vec![of.name.clone(), significant(*error), explained]
            };
            let rows = quantities.iter().zip(root_mean_squared_error.iter().zip(explained_variance)).map(row);
            let header = ["output", "root mean squared error", "variance explained"];
            format!("{counted}\n\n{}", markdown(&header, &rows.collect::<Vec<_>>()))
        }
    }
}

/// Classes up to which the confusion table is shown.
const MOST_CLASSES: usize = 20;

/// For each class how many examples are found, and how many that are said to be of it are; then what is taken for what.
fn class_tables(classes: &[String], confusion: &[Vec<usize>]) -> String {
    let share = |part: usize, all: usize| match all {
        0 => "-".into(),
        _ => format!("{:.1}", 100.0 * part as f64 / all as f64),
    };
    let row = |(class, name): (usize, &String)| {
        let (right, examples) = (confusion[class][class], confusion[class].iter().sum::<usize>());
        let said = confusion.iter().map(|row| row[class]).sum::<usize>();
        vec![name.clone(), examples.to_string(), share(right, examples), share(right, said)]
    };
    let rows = classes.iter().enumerate().map(row).collect::<Vec<_>>();
    let by_class = markdown(&["class", "examples", "recall, %", "precision, %"], &rows);
    if classes.len() > MOST_CLASSES {
        return by_class;
    }
    let header = std::iter::once("is, taken for").chain(classes.iter().map(String::as_str)).collect::<Vec<_>>();
    let counts = |(name, row): (&String, &Vec<usize>)| {
        std::iter::once(name.clone()).chain(row.iter().map(usize::to_string)).collect::<Vec<_>>()
    };
    let rows = classes.iter().zip(confusion).map(counts).collect::<Vec<_>>();
    format!("{by_class}\n\n{}", markdown(&header, &rows))
}
