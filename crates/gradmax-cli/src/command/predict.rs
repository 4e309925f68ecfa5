//! `gradmax predict`: what a run's network answers on tables and images.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::args::Predict;
use gradmax_experiments::data::Answers;
use gradmax_experiments::output::print;
use gradmax_experiments::trained::{Answer, Trained};

pub fn predict(arguments: Predict) -> Result<()> {
    let (trained, experiment) = Trained::of(&arguments.folder, &[])?;
    let mut lines = Vec::new();
    if !arguments.json {
        lines.push(csv_line(header(trained.answers()))?);
    }
    for file in &arguments.files {
        let inputs = experiment.data.inputs(file, trained.device())?;
        for (row, answer) in inputs.names.iter().zip(trained.predict(&inputs)) {
            lines.push(match arguments.json {
                true => format!("{}\n", object(file, row, answer, trained.answers())),
                false => csv_line(fields(file, row, answer))?,
            });
        }
    }
    match &arguments.out {
        Some(out) => std::fs::write(out, lines.concat()).with_context(|| format!("cannot write {}", out.display())),
        None => print(&lines.concat()),
    }
}

fn header(answers: &Answers) -> Vec<String> {
    let columns = match answers {
        Answers::Classes(_) => vec!["class".into(), "probability".into()],
        Answers::Values(quantities) => quantities.iter().map(|of| of.name.clone()).collect(),
    };
    ["file".to_string(), "row".into()].into_iter().chain(columns).collect()
}

fn fields(file: &Path, row: &str, answer: Answer) -> Vec<String> {
    let answer = match answer {
        Answer::Class { class, probability, .. } => vec![class, format!("{probability:.6}")],
        Answer::Values { values } => values.iter().map(|value| (*value as f32).to_string()).collect(),
    };
    [file.display().to_string(), row.to_string()].into_iter().chain(answer).collect()
}

fn csv_line(fields: Vec<String>) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&fields)?;
    Ok(String::from_utf8(writer.into_inner()?)?)
}

fn object(file: &Path, row: &str, answer: Answer, answers: &Answers) -> Value {
    let named = |names: &[String], numbers: Vec<f64>| {
        names.iter().cloned().zip(numbers.into_iter().map(Value::from)).collect::<Map<_, _>>()
    };
    let mut object = Map::from_iter([
        ("file".to_string(), json!(file.display().to_string())),
        ("row".to_string(), json!(row.parse::<u64>().map_or(json!(row), Value::from))),
    ]);
    match (answer, answers) {
        (Answer::Class { class, probability, probabilities }, Answers::Classes(classes)) => {
            object.insert("class".into(), json!(class));
            object.insert("probability".into(), json!(probability));
            object.insert("probabilities".into(), Value::Object(named(classes, probabilities)));
        }
        (Answer::Values { values }, Answers::Values(quantities)) => {
            let names = quantities.iter().map(|of| of.name.clone()).collect::<Vec<_>>();
            object.insert("values".into(), Value::Object(named(&names, values)));
        }
        (Answer::Class { .. }, Answers::Values(_)) | (Answer::Values { .. }, Answers::Classes(_)) => {}
    }
    Value::Object(object)
}
