//! The command line, as it was typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use gradmax_experiments::{config, data, method};

/// Neural networks that grow while they train.
#[derive(Debug, Parser)]
#[command(name = "gradmax", version, about, propagate_version = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a configuration for your own data, after a look at it
    Init(Init),
    /// Train one network, growing it as the configuration says
    Train(Train),
    /// Train with several methods on the same data and seeds, and compare them
    Compare(Compare),
    /// Go on with a run or a comparison that was stopped, or with a run after its end
    Resume(Resume),
    /// Show layers, sites, widths, parameters and operations, and where growth leads
    Inspect(Inspect),
    /// Say what would grow in a run's network now, and why; nothing is changed
    Look(Look),
    /// Remove the neurons that a run's network can do without, into a new run's folder
    Shrink(Shrink),
    /// Write report.html from finished or running runs
    Report(Report),
    /// Show the report of runs in a browser while they go on
    Watch(Watch),
    /// Score a run's network on the data it was held out from, or on other data
    Evaluate(Evaluate),
    /// Say what a run's network answers on the rows of tables, or on images
    Predict(Predict),
    /// Write a run's network for other programs
    Export(Export),
    /// Do the paper's experiments again: its figures and tables, each with a verdict
    Reproduce(Reproduce),
    /// Look for data sets and check them
    Data(Data),
    /// Say which experiments come with the program, and which methods, policies, networks and data sets there are
    List,
}

/// Where an experiment is described, and what to change in it.
#[derive(Debug, Args)]
pub struct Configured {
    /// The configuration: a TOML file, or the name of an experiment that comes with the program (`gradmax list`)
    #[arg(value_name = "CONFIG")]
    pub config: PathBuf,
    /// Change a value of the configuration, for example --set growth.times=3
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The device to compute on: flex (CPU), cuda:0, vulkan, webgpu, wgpu, rocm:0, metal
    #[arg(long)]
    pub device: Option<String>,
    /// Write event files for TensorBoard, into the folder `tensorboard` of each run
    #[arg(long)]
    pub tensorboard: bool,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct Init {
    /// A CSV file, or a folder of images with train/CLASS/*.jpg and test/CLASS/*.jpg
    #[arg(value_name = "DATA")]
    pub data: PathBuf,
    /// The column of a table that is to be learned [default: the last one]
    #[arg(long, value_name = "COLUMN")]
    pub target: Option<String>,
    /// The file to write [default: the data's name with .toml, in the current folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Train {
    #[command(flatten)]
    pub configured: Configured,
    /// The folder for the run [default: runs/CONFIG/METHOD-seedN]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The seed of everything that is drawn
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Compare {
    #[command(flatten)]
    pub configured: Configured,
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        help = format!("The methods, separated by commas: {}, or variants of the configuration", method::names())
    )]
    pub methods: Option<Vec<String>>,
    /// Compare with networks of these widths that do not grow, for as many operations as the reference takes: 32 neurons
    /// at every site, or 2x as many as the configuration's network has
    #[arg(long, value_delimiter = ',', value_name = "LIST", conflicts_with = "at")]
    pub widths: Option<Vec<String>>,
    /// Give every method its own value of a key, the one with which it does best on validation examples, on seeds that
    /// are not reported: --tune learning_rate=0.02,0.05,0.1
    #[arg(long, value_name = "KEY=VALUES", conflicts_with = "at")]
    pub tune: Option<String>,
    /// With --tune: the number of seeds that each value is tried on
    #[arg(long, value_name = "N", default_value_t = config::default_tuning_seeds(), requires = "tune")]
    pub tune_seeds: u64,
    /// The number of seeds; each is a run of every method
    #[arg(long, value_name = "N")]
    pub seeds: Option<u64>,
    /// Runs at a time [default: one for each core]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Grow one checkpoint, that of a run's folder, with each method, and compare the growths instead
    #[arg(long, value_name = "CHECKPOINT", conflicts_with_all = ["seeds", "jobs"])]
    pub at: Option<PathBuf>,
    /// With --at: how often a method that draws at random is repeated
    #[arg(long, value_name = "N", default_value_t = 10, requires = "at")]
    pub repeats: u64,
    /// Under MPI: what the processes share, the runs of the comparison or the batches of each run
    #[arg(long, value_enum, default_value = "runs", conflicts_with = "at")]
    pub split: Split,
    /// The folder for the comparison [default: runs/CONFIG, with --at runs/CONFIG-at-STEP]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What several processes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// Each does its part of the runs
    Runs,
    /// All do every run together, each with its part of every batch
    Batch,
}

#[derive(Debug, Args)]
pub struct Resume {
    /// The folder of a run or a comparison
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Change a value of the run's configuration: --set training.epochs=20 goes on after the end
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Runs at a time, for a comparison [default: one for each core]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Under MPI, for a comparison: what the processes share, its runs or the batches of each run
    #[arg(long, value_enum, default_value = "runs")]
    pub split: Split,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// A configuration, the name of an experiment that comes with the program, or the folder of a run
    #[arg(value_name = "CONFIG|DIR")]
    pub subject: PathBuf,
    /// Change a value of the configuration
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Look {
    /// The folder of a run
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Change a value of the run's configuration, for example --set growth.policy=marginal
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The training examples to look at [default: 2048, or 128 sequences of text]
    #[arg(long, value_name = "N")]
    pub examples: Option<usize>,
    /// The further neurons of each site to ask about
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub count: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The page to write [default: look.html in the run's folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Shrink {
    /// The folder of a run
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// The share by which the loss on training examples may rise
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, conflicts_with = "share")]
    pub rise: f64,
    /// Remove this share of all neurons instead, whatever the loss becomes
    #[arg(long, value_name = "SHARE")]
    pub share: Option<f64>,
    /// The training examples that the loss is measured on
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub examples: usize,
    /// The folder for the smaller network's run [default: DIR-shrunk]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Report {
    /// Folders of runs or comparisons
    #[arg(value_name = "DIR", required = true)]
    pub folders: Vec<PathBuf>,
    /// The file to write [default: report.html in the first folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Watch {
    /// Folders of runs or comparisons
    #[arg(value_name = "DIR", required = true)]
    pub folders: Vec<PathBuf>,
    /// The port to serve on, for browsers of this machine only; 0 for any that is free
    #[arg(long, value_name = "N", default_value_t = 8017)]
    pub port: u16,
}

#[derive(Debug, Args)]
pub struct Evaluate {
    /// The folder of a run, or of a checkpoint in it
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Change a value of the run's configuration, for example --set data.test=other.csv
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Which of the run's examples to score
    #[arg(long, value_enum, default_value_t = Examples::Test)]
    pub split: Examples,
    /// Score the examples of another table or folder, for which the run's own data is not needed
    #[arg(long, value_name = "PATH", conflicts_with = "split")]
    pub data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The examples of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Examples {
    /// Training examples
    Train,
    /// Validation examples, if some are held out
    Validation,
    /// Test examples
    Test,
}

#[derive(Debug, Args)]
pub struct Predict {
    /// The folder of a run, or of a checkpoint in it
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Tables with the columns that the network reads, images, or text whose end is gone on from
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Text: what is gone on from; may be given more than once
    #[arg(long, value_name = "TEXT")]
    pub prompt: Vec<String>,
    /// Text: the number of bytes that follow
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub tokens: usize,
    /// Text: below 1 for more probable bytes, above for less; 0 always takes the most probable one
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub temperature: f64,
    /// Text: draw from so many of the most probable bytes only
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Text: the seed of what is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Print a JSON object for each example, with the probabilities of all classes, instead of CSV; or for each beginning
    #[arg(long)]
    pub json: bool,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Export {
    /// The folder of a run, or of a checkpoint in it
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// What to write
    #[arg(long, value_enum)]
    pub format: Format,
    /// The file to write [default: network.onnx, .safetensors or .bpk in the run's folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// ONNX: put the data's treatment in, so that the model reads numbers and pixels as they are, and gives probabilities
    /// or values in their own units
    #[arg(long)]
    pub with_data: bool,
}

/// A format that networks can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// An ONNX model
    Onnx,
    /// Weights with PyTorch's names and layouts, and the Python that rebuilds the network
    Safetensors,
    /// Transformers: a folder with weights and config.json, as Hugging Face's transformers save pretrained models
    Huggingface,
    /// A record of Burn's
    Burn,
}

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Reproduce {
    /// Figures and tables, and options: `gradmax reproduce --help` says which
    #[arg(value_name = "ARGUMENTS", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Data {
    #[command(subcommand)]
    pub command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Read a data set whole and say what is in it
    Check(DataSet),
    /// Print the folder that a data set is read from
    Path(DataSet),
}

#[derive(Debug, Args)]
pub struct DataSet {
    #[arg(help = format!("A CSV file, or a data set: {}", data::names()))]
    pub name: String,
    /// The folder to look in
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
