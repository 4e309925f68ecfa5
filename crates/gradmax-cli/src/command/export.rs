//! `gradmax export`: a run's network for other programs.

use anyhow::{Context, Result};
use serde_json::json;

use crate::args::{Export, Format};
use gradmax_experiments::data::Answers;
use gradmax_experiments::onnx;
use gradmax_experiments::output::print_line;
use gradmax_experiments::trained::Trained;

pub fn export(arguments: &Export) -> Result<()> {
    let (trained, experiment) = Trained::of(&arguments.folder, &[])?;
    let (contents, name) = match arguments.format {
        Format::Onnx => (onnx::model(&trained.graph(), &properties(&trained, &experiment.method)), "network.onnx"),
    };
    let out = arguments.out.clone().unwrap_or_else(|| arguments.folder.join(name));
    std::fs::write(&out, contents).with_context(|| format!("cannot write {}", out.display()))?;
    let widths = trained.widths().iter().map(|(site, width)| format!("{site} {width}")).collect::<Vec<_>>();
    print_line(&format!(
        "{}: ONNX with the operators of version {}; grown to {}",
        out.display(),
        onnx::OPSET,
        widths.join(", ")
    ))
}

/// What a user of the file has to know, and the file itself does not say.
fn properties(trained: &Trained, method: &str) -> Vec<(&'static str, String)> {
    let outputs = match trained.answers() {
        Answers::Classes(classes) => json!({ "classes": classes, "outputs": "log-odds, up to a constant" }),
        Answers::Values { names, mean, deviation } => json!({ "values": names, "mean": mean, "deviation": deviation }),
    };
    let widths = serde_json::Map::from_iter(trained.widths().iter().map(|(site, width)| (site.clone(), json!(width))));
    vec![("outputs", outputs.to_string()), ("widths", json!(widths).to_string()), ("method", method.to_string())]
}
