//! `gradmax export`: a run's network for other programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::args::{Export, Format};
use gradmax_experiments::data::Answers;
use gradmax_experiments::failure::misuse;
use gradmax_experiments::folder::write_whole;
use gradmax_experiments::onnx::{self, Ends};
use gradmax_experiments::output::print_line;
use gradmax_experiments::pytorch;
use gradmax_experiments::trained::Trained;

pub fn export(arguments: &Export) -> Result<()> {
    let (trained, experiment) = Trained::of(&arguments.folder, &[])?;
    if arguments.with_data && arguments.format != Format::Onnx {
        return Err(misuse("--with-data is for ONNX models; other formats hold weights, and no data's treatment"));
    }
    let properties = properties(&trained, &experiment.method, arguments.with_data);
    let named = |name: &str| arguments.out.clone().unwrap_or_else(|| arguments.folder.join(name));
    let (out, what) = match arguments.format {
        Format::Onnx => {
            let out = named("network.onnx");
            let scales = if arguments.with_data { experiment.data.input_scales()? } else { None };
            let ends = Ends { inputs: scales.as_deref().unwrap_or_default(), answers: trained.answers() };
            let ends = arguments.with_data.then_some(&ends);
            write_whole(&out, &onnx::model(&trained.graph()?, ends, &properties))?;
            (out, format!("ONNX with the operators of version {}", onnx::OPSET))
        }
        Format::Safetensors => {
            let out = named("network.safetensors");
            let python = write_pytorch(&trained, &out, &properties)?;
            (out, format!("safetensors with PyTorch's names; {} rebuilds the network", python.display()))
        }
        Format::Huggingface => {
            let (weights, config) = pytorch::hugging_face(trained.network())?;
            let out = named("huggingface");
            std::fs::create_dir_all(&out).with_context(|| format!("cannot make the folder {}", out.display()))?;
            write_whole(&out.join("model.safetensors"), &weights)?;
            write_whole(&out.join("config.json"), serde_json::to_string_pretty(&config)?.as_bytes())?;
            (out, "a folder that Hugging Face's transformers load as a pretrained model".into())
        }
        Format::Burn => {
            let out = named("network.bpk");
            write_whole(&out, &trained.record()?)?;
            (out, "a Burn record of the module".into())
        }
    };
    print_line(&format!("{}: {what}; grown to {}", out.display(), widths(&trained)))
}

/// Writes the weights, and beside them the Python that rebuilds the network, whose path comes back.
fn write_pytorch(trained: &Trained, out: &Path, properties: &[(&'static str, String)]) -> Result<PathBuf> {
    let python = out.with_extension("py");
    if python == *out {
        return Err(misuse(format!("{}: the Python beside the weights would have the same name", out.display())));
    }
    let (network, name) =
        (trained.network(), |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    let module = python.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let about = format!("A network that was grown to {}, in PyTorch. {}.", widths(trained), outputs(trained.answers()));
    let text = pytorch::python(network, &name(out).unwrap_or_default(), &module, &about);
    write_whole(out, &pytorch::exported(network, properties))?;
    write_whole(&python, text.as_bytes())?;
    Ok(python)
}

fn widths(trained: &Trained) -> String {
    trained.widths().iter().map(|(site, width)| format!("{site} {width}")).collect::<Vec<_>>().join(", ")
}

/// What the outputs are, in a sentence.
fn outputs(answers: &Answers) -> String {
    match answers {
        Answers::Bytes => "Outputs: log-odds, up to a constant, of the byte that follows each".into(),
        Answers::Classes(classes) => format!("Outputs: log-odds, up to a constant, of {} classes", classes.len()),
        Answers::Values(quantities) => {
            let one = |of: &gradmax_experiments::data::Quantity| {
                format!("{} = {} * output + {}", of.name, of.scale.deviation, of.scale.mean)
            };
            format!("Outputs: {}", quantities.iter().map(one).collect::<Vec<_>>().join("; "))
        }
    }
}

/// What a user of the file has to know, and the file itself does not say.
fn properties(trained: &Trained, method: &str, with_data: bool) -> Vec<(&'static str, String)> {
    let outputs = match trained.answers() {
        Answers::Bytes => json!({ "outputs": "log-odds, up to a constant, of the byte that follows each" }),
        Answers::Classes(classes) => {
            let outputs = if with_data { "probabilities" } else { "log-odds, up to a constant" };
            json!({ "classes": classes, "outputs": outputs })
        }
        Answers::Values(quantities) => {
            let names = quantities.iter().map(|of| &of.name).collect::<Vec<_>>();
            let scales = quantities.iter().map(|of| of.scale).collect::<Vec<_>>();
            if with_data { json!({ "values": names }) } else { json!({ "values": names, "scales": scales }) }
        }
    };
    let widths = serde_json::Map::from_iter(trained.widths().iter().map(|(site, width)| (site.clone(), json!(width))));
    vec![("outputs", outputs.to_string()), ("widths", json!(widths).to_string()), ("method", method.to_string())]
}
