//! `gradmax predict`: what a run's network answers on tables and images.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::args::Predict;
use gradmax_experiments::data::Answers;
use gradmax_experiments::failure::misuse;
use gradmax_experiments::output::print;
use gradmax_experiments::trained::{Answer, Sampling, Trained};

pub fn predict(arguments: Predict) -> Result<()> {
    let (trained, experiment) = Trained::of(&arguments.folder, &[])?;
    if matches!(trained.answers(), Answers::Bytes) {
        return go_on(&arguments, &trained);
    }
    if !arguments.prompt.is_empty() {
        return Err(misuse("--prompt is for networks that go on with text; give this one tables or images"));
    }
    if arguments.files.is_empty() {
        return Err(misuse("there is nothing to answer on; name tables or images"));
    }
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
    give(&arguments, lines.concat().as_bytes())
}

/// Beginnings of text, each with what follows.
fn go_on(arguments: &Predict, trained: &Trained) -> Result<()> {
    let Predict { tokens, temperature, top_k, seed, .. } = *arguments;
    let sampling = Sampling { count: tokens, temperature, most_probable: top_k, seed };
    sampling.check()?;
    let given = arguments.prompt.iter().map(|prompt| Ok(prompt.clone().into_bytes()));
    let read = |file: &PathBuf| std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    let beginnings = given.chain(arguments.files.iter().map(read)).collect::<Result<Vec<_>>>()?;
    if beginnings.is_empty() {
        return Err(misuse("there is nothing to go on from; give --prompt TEXT, or files whose ends are gone on from"));
    }
    let mut all = Vec::new();
    for beginning in beginnings {
        let follows = trained.continued(&beginning, &sampling)?;
        if arguments.json {
            let [beginning, follows] = [&beginning, &follows].map(|text| String::from_utf8_lossy(text));
            all.extend(format!("{}\n", json!({ "beginning": beginning, "follows": follows })).into_bytes());
        } else {
            all.extend([beginning, follows, b"\n".to_vec()].concat());
        }
    }
    give(arguments, &all)
}

fn give(arguments: &Predict, bytes: &[u8]) -> Result<()> {
    match &arguments.out {
        Some(out) => std::fs::write(out, bytes).with_context(|| format!("cannot write {}", out.display())),
        None => print(&String::from_utf8_lossy(bytes)),
    }
}

fn header(answers: &Answers) -> Vec<String> {
    let columns = match answers {
        Answers::Classes(_) => vec!["class".into(), "probability".into()],
        Answers::Values(quantities) => quantities.iter().map(|of| of.name.clone()).collect(),
        Answers::Bytes => Vec::new(),
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
        (Answer::Class { .. }, Answers::Values(_) | Answers::Bytes)
        | (Answer::Values { .. }, Answers::Classes(_) | Answers::Bytes) => {}
    }
    Value::Object(object)
}
