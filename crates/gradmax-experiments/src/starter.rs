//! A first configuration for one's own data, after a look at it.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Device;
use toml::Value;

use crate::config::Experiment;
use crate::data::{Answers, DataConfig};
use crate::failure::{misuse, quoted};

/// Steps that a first run takes, about.
const STEPS: usize = 2000;
/// How to go by validation examples.
const VALIDATION: &str = "# A share of the training examples by which the best network is kept, with `keep = \"best\"` in [training].\n\
                          # validation = 0.1\n";
/// Growth events of a first run.
const EVENTS: usize = 5;

/// A configuration for a table in a file, or for a folder of images, to be written to `out`.
///
/// # Errors
/// If there is no such data, or it cannot be read.
pub fn starter(data: &Path, target: Option<&str>, out: &Path) -> Result<String> {
    let text = match (data.is_file(), data.is_dir()) {
        (true, _) if data.extension().is_some_and(|ending| ending == "npy" || ending == "npz") => {
            return Err(misuse(format!(
                "{}: name the arrays of inputs and of targets in a configuration of your own, as docs/data.md shows \
                 (`name = \"npy\"`); a first one is written for tables and folders of images",
                data.display()
            )));
        }
        (true, _) => for_table(data, target, out)?,
        (_, true) => for_images(data, out)?,
        _ => return Err(misuse(format!("there is no file or folder {}", data.display()))),
    };
    // What is written must be read.
    Experiment::parse(&text, &format!("the configuration for {}", data.display()), &[])?;
    Ok(text)
}

/// A string or a path as TOML writes it.
fn toml_string(text: impl AsRef<Path>) -> Result<String> {
    Ok(Value::try_from(text.as_ref())?.to_string())
}

fn for_table(file: &Path, target: Option<&str>, out: &Path) -> Result<String> {
    let file = toml_string(file)?;
    let target = target
        .map_or(Ok(String::new()), |target| Ok::<_, anyhow::Error>(format!("target = {}\n", toml_string(target)?)))?;
    let data = format!("name = \"csv\"\nfile = {file}\n{target}");
    let source = toml::from_str::<DataConfig>(&data)?;
    // A name of a column that goes over lines must not end the comment.
    let (about, answers) = (source.describe()?.replace(char::is_control, " "), source.answers()?);
    let task = match answers {
        Answers::Values(_) => "regression",
        Answers::Classes(_) | Answers::Bytes => "classification",
    };
    let train = source.examples();
    let batch = (train / 20).next_power_of_two().clamp(8, 128);
    let a_epoch = train.div_ceil(batch);
    let epochs = STEPS.div_ceil(a_epoch).clamp(2, 200);
    Ok(format!(
        "# {about}.\n\
         {}\n\
         [data]\n{data}\
         # What is learned of the target: \"classification\" or \"regression\".\ntask = \"{task}\"\n\
         # The share of rows that is held out for testing, or a file.\ntest = 0.2\n\
         # Columns that tell nothing, such as identifiers.\nignore = []\n\
         {VALIDATION}\n\
         [network]\nname = \"mlp\"\n# Neurons of each hidden layer at the start.\nhidden = [8]\n\n\
         [optimizer]\nname = \"adamw\"\nlearning_rate = 0.003\nweight_decay = 0.01\n\n\
         {}",
        commands(out),
        schedule(epochs, a_epoch, batch, 8)
    ))
}

fn for_images(dir: &Path, out: &Path) -> Result<String> {
    let data = format!("name = \"image_folder\"\ndir = {}\n", toml_string(dir)?);
    let source = toml::from_str::<DataConfig>(&data)?;
    let (shape, images) = (source.shape()?, source.load(0, &Device::default())?.train.count());
    let batch = 32;
    let a_epoch = images.div_ceil(batch);
    let epochs = STEPS.div_ceil(a_epoch).clamp(5, 100);
    Ok(format!(
        "# {images} training images of {} classes.\n\
         {}\n\
         [data]\n{data}# Height and width that images are brought to.\nsize = 64\n{VALIDATION}\n\
         [network]\nname = \"conv_net\"\nnorm = \"batch\"\nlast = \"global_average\"\n\
         # Channels of each layer at the start; a stride of 2 halves the maps.\nstages = [\n\
         {}]\n\n\
         [optimizer]\nname = \"sgd\"\nlearning_rate = 0.05\nmomentum = 0.9\nnesterov = true\nweight_decay = 5e-4\n\n\
         {}",
        shape.outputs,
        commands(out),
        [16, 16, 32, 32]
            .map(|channels| format!("  {{ kind = \"conv\", channels = {channels}, stride = 2 }},\n"))
            .concat(),
        schedule(epochs, a_epoch, batch, 8)
    ))
}

/// What to do with the configuration in the file `out`.
fn commands(out: &Path) -> String {
    let name = out.file_stem().unwrap_or_default().to_string_lossy();
    let (file, run) = (quoted(out), quoted(&Path::new("runs").join(&*name).join("gradmax-seed0")));
    format!(
        "#\n# gradmax train {file}\n#     one run, and its report in {run}\n\
         # gradmax compare {file}\n#     is growing worth it here? methods and seeds side by side\n\
         # gradmax evaluate {run}\n#     scores by class, or errors\n\
         # gradmax predict {run} FILE\n#     answers on new data\n"
    )
}

/// How long a run is, and when it grows.
fn schedule(epochs: usize, a_epoch: usize, batch: usize, count: usize) -> String {
    let every = (epochs * a_epoch / (2 * EVENTS)).max(1);
    format!(
        "[training]\nepochs = {epochs}\nbatch_size = {batch}\ndecay = \"cosine\"\n\n\
         # Growth in the first half of the run.\n[growth]\nstart = {every}\nevery = {every}\ntimes = {EVENTS}\n\
         # New neurons of each layer, each time.\ncount = {count}\n\n\
         [compare]\nmethods = [\"small\", \"big\", \"random\", \"gradmax\"]\nseeds = 5\nreference = \"gradmax\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_configuration_describes_networks_that_exist() {
        let file = std::env::temp_dir().join(format!("gradmax-starter-{}.csv", std::process::id()));
        let rows = (0..60).map(|i| format!("{i},{}\n", if i % 3 == 0 { "a" } else { "b" })).collect::<String>();
        std::fs::write(&file, format!("x \"inch\",kind\n{rows}")).unwrap();
        let out = Path::new("first try.toml");
        let text = starter(&file, Some("kind"), out).unwrap();
        assert!(text.contains("gradmax train 'first try.toml'"), "{text}");
        assert!(text.contains("2 classes of `kind`") && text.contains("task = \"classification\""), "{text}");
        let experiment = Experiment::parse(&text, "starter", &[]).unwrap();
        crate::experiment::check(&experiment).unwrap();
        assert_eq!(crate::experiment::never_grows(&experiment).unwrap(), None);
        assert!(starter(Path::new("nowhere"), None, out).is_err());
        assert!(starter(&file, Some("colour"), out).is_err());
    }
}
