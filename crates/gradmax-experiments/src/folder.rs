//! Run folders: the files of a run, written as it goes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use gradmax::event::Receipt;
use gradmax::site::Growable;
use gradmax::training::{Observer, ObserverError, Row, Run, Undone, checkpoint};
use serde::{Deserialize, Serialize};

use crate::config::Experiment;
use crate::failure::{misuse, quoted};
use crate::identity::{self, Change};
use crate::method;
use crate::output;

/// The file that makes a folder a comparison: its configuration.
pub fn comparison_file(folder: &Path) -> PathBuf {
    folder.join("comparison.toml")
}

/// The folder of the runs by which the methods of a comparison are tuned.
pub fn tuning_folder(comparison: &Path) -> PathBuf {
    comparison.join(method::TUNING)
}

/// Checks that a folder holds no comparison, whose report would be overwritten.
pub fn refuse_comparison(folder: &Path) -> Result<()> {
    refuse(comparison_file(folder).exists(), folder, "comparison")
}

/// Checks that a folder holds no run, whose report would be overwritten.
pub fn refuse_run(folder: &Path) -> Result<()> {
    refuse(RunFolder::at(folder).config().exists(), folder, "run")
}

fn refuse(is_there: bool, folder: &Path, what: &str) -> Result<()> {
    match is_there {
        true => Err(misuse(format!(
            "{} holds a {what}, whose report would be overwritten; choose another folder with --out",
            folder.display()
        ))),
        false => Ok(()),
    }
}

/// The folder of one run.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
}

/// The last word on a run, as `summary.json` holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The method.
    pub method: String,
    /// The seed.
    pub seed: u64,
    /// Gradient steps.
    pub steps: usize,
    /// The step that the network is of which was kept: this and what follows says what it does.
    #[serde(default)]
    pub kept_step: usize,
    /// Mean loss over all training examples at the end.
    pub final_train_loss: f64,
    /// Mean loss over all validation examples, if there are any.
    #[serde(default)]
    pub final_validation_loss: Option<f64>,
    /// Share of correct answers on them, where the task has a score.
    #[serde(default)]
    pub final_validation_score: Option<f64>,
    /// Mean loss over all test examples at the end.
    pub final_test_loss: Option<f64>,
    /// Share of correct answers on them, where the task has a score.
    pub final_test_score: Option<f64>,
    /// Whether it predicts the bytes of a text, whose loss is compared in place of the share that is right.
    #[serde(default, skip_serializing_if = "is_false")]
    pub of_text: bool,
    /// Trainable parameters at the end.
    pub parameters: usize,
    /// Neurons of every site at the end.
    pub widths: serde_json::Map<String, serde_json::Value>,
    /// Floating-point operations spent on training steps.
    pub train_flops: u64,
    /// Seconds spent.
    pub seconds: f64,
    /// Median seconds of a training step.
    pub step_seconds_median: f64,
    /// Of these, seconds spent on growth, verification included.
    pub growth_seconds: f64,
    /// Processes that trained it together.
    #[serde(default = "one")]
    pub ranks: usize,
    /// Of the seconds since it was last started, those that rank 0 spent on what goes between processes.
    #[serde(default)]
    pub sums_seconds: f64,
}

fn one() -> usize {
    1
}

fn is_false(value: &bool) -> bool {
    !value
}

impl RunSummary {
    /// The test loss in bits a byte, of networks on text.
    pub fn bits_per_byte(&self) -> Option<f64> {
        self.final_test_loss.filter(|_| self.of_text).map(|loss| loss / std::f64::consts::LN_2)
    }
}

impl RunFolder {
    /// A folder that may hold a run, or not.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder of one run of a comparison.
    pub fn in_comparison(comparison: &Path, method: &str, seed: u64) -> Self {
        Self::at(comparison.join(method).join(format!("seed{seed}")))
    }

    /// Checks that a new run can have the folder.
    pub fn check_free(&self) -> Result<()> {
        match self.config().exists() {
            true => Err(misuse(format!(
                "{} already holds a run; go on with `gradmax resume {}`, or choose another folder with --out",
                self.path.display(),
                quoted(&self.path)
            ))),
            false => refuse_comparison(&self.path),
        }
    }

    /// Makes the folder for a new run and writes its configuration.
    pub fn create(&self, experiment: &Experiment) -> Result<()> {
        self.check_free()?;
        fs::create_dir_all(&self.path).with_context(|| format!("cannot make the folder {}", self.path.display()))?;
        let text = experiment.to_toml()?;
        if let Some(kept) = experiment.data.kept()? {
            write_whole(&self.data(), &serde_json::to_vec_pretty(&kept)?)?;
        }
        write_whole(&self.started(), text.as_bytes())?;
        write_whole(&self.config(), text.as_bytes())
    }

    /// The configuration that the run was last started or resumed with, whatever its user has written since.
    fn started(&self) -> PathBuf {
        self.path.join(".started.toml")
    }

    /// Checks that a configuration is of the run that this folder holds, and says what is changed about it.
    pub fn admit(&self, experiment: &Experiment) -> Result<()> {
        if self.started().exists() {
            let changes = identity::changes(&Experiment::read(&self.started(), &[])?, experiment)?;
            let listed = |changes: Vec<&Change>| changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let (allowed, refused) = changes.iter().partition::<Vec<_>, _>(|change| change.is_allowed());
            if !refused.is_empty() {
                return Err(misuse(format!(
                    "{} was changed in a way that makes it another run: {}; change it back, or start a new run with --out",
                    self.config().display(),
                    listed(refused)
                )));
            }
            if allowed.is_empty() {
                return Ok(());
            }
            output::say(&format!("going on with a changed configuration: {}", listed(allowed)));
        }
        write_whole(&self.started(), experiment.to_toml()?.as_bytes())
    }

    /// Takes up a run again with a changed configuration, after its end too.
    ///
    /// # Errors
    /// If it is another run then, or longer already than it is to become.
    pub fn reopen(&self, experiment: &Experiment) -> Result<()> {
        let steps = experiment.training.steps(|| experiment.data.examples());
        if self.has_checkpoint() {
            let taken = checkpoint::load_progress(&self.checkpoint())?.step;
            if taken > steps {
                return Err(misuse(format!(
                    "the run has taken {taken} steps already, and would have {steps}; make it longer than that"
                )));
            }
        }
        self.admit(experiment)?;
        write_whole(&self.config(), experiment.to_toml()?.as_bytes())?;
        match self.is_finished() {
            true => {
                fs::remove_file(self.summary()).with_context(|| format!("cannot remove {}", self.summary().display()))
            }
            false => Ok(()),
        }
    }

    /// Keeps other programs from working in the folder for as long as the file is open.
    pub fn lock(&self) -> Result<File> {
        let path = self.path.join(".lock");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            // Some network drives have no locks; nothing can be told there.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(misuse(format!(
                "another program is at work in {}; wait for its end, or choose another folder with --out",
                self.path.display()
            ))),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration, every default written out.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// What was measured, a row for each measurement.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.csv")
    }

    /// The receipts of growth events, one a line.
    pub fn receipts(&self) -> PathBuf {
        self.path.join("growth.jsonl")
    }

    /// What was taken back of each growth event that was judged, one a line.
    pub fn undone(&self) -> PathBuf {
        self.path.join("undone.jsonl")
    }

    /// The checkpoint's folder.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// The folder of TensorBoard's event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// Whether a program is at work in the folder.
    pub fn is_running(&self) -> bool {
        let lock = File::open(self.path.join(".lock"));
        lock.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The report.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// Whether there is a checkpoint to resume from.
    pub fn has_checkpoint(&self) -> bool {
        checkpoint::exists(&self.checkpoint())
    }

    /// The run's configuration.
    pub fn read_experiment(&self) -> Result<Experiment> {
        self.read_experiment_with(&[])
    }

    /// The run's configuration, with changes of the form `key=value`.
    pub fn read_experiment_with(&self, changes: &[String]) -> Result<Experiment> {
        if !self.config().exists() {
            return Err(misuse(format!("{} holds no run: it has no config.toml", self.path.display())));
        }
        let mut experiment = Experiment::read(&self.config(), changes)?;
        if self.data().exists() {
            let wrong = || format!("{} is damaged; start a new run", self.data().display());
            let kept = fs::read(self.data()).with_context(wrong)?;
            experiment.data.restore(serde_json::from_slice(&kept).with_context(wrong)?).with_context(wrong)?;
        }
        Ok(experiment)
    }

    /// What was found in the data when the run began, and is needed to use its network.
    fn data(&self) -> PathBuf {
        self.path.join("data.json")
    }

    /// Whether the run is finished.
    pub fn is_finished(&self) -> bool {
        self.summary().exists()
    }

    /// The summary, if the run is finished.
    pub fn read_summary(&self) -> Result<Option<RunSummary>> {
        let path = self.summary();
        match fs::read(&path) {
            Ok(text) => {
                let summary = serde_json::from_slice(&text);
                Ok(Some(
                    summary.with_context(|| format!("{} is damaged; delete it and resume the run", path.display()))?,
                ))
            }
            Err(_) => Ok(None),
        }
    }

    /// Writes how the run ended.
    pub fn write_summary(&self, summary: &RunSummary) -> Result<()> {
        write_whole(&self.summary(), &serde_json::to_vec_pretty(summary)?)
    }

    /// The measurements so far; a last line that is being written is left out.
    pub fn read_rows(&self) -> Result<Vec<Row>> {
        let path = self.metrics();
        let lines = whole_lines(&path)?;
        let Some((header, lines)) = lines.split_first() else {
            return Ok(Vec::new());
        };
        let header = csv::StringRecord::from(header.split(',').collect::<Vec<_>>());
        parsed(&path, lines, 2, |line| {
            csv::StringRecord::from(line.split(',').collect::<Vec<_>>())
                .deserialize::<Row>(Some(&header))
                .map_err(Into::into)
        })
    }

    /// The receipts so far; a last line that is being written is left out.
    pub fn read_receipts(&self) -> Result<Vec<Receipt>> {
        let path = self.receipts();
        parsed(&path, &whole_lines(&path)?, 1, |line| Ok(serde_json::from_str(line)?))
    }

    /// What was taken back of growth so far; a last line that is being written is left out.
    pub fn read_undone(&self) -> Result<Vec<Undone>> {
        let path = self.undone();
        parsed(&path, &whole_lines(&path)?, 1, |line| Ok(serde_json::from_str(line)?))
    }

    /// Why the run failed when it was last tried.
    pub fn read_failure(&self) -> Option<String> {
        fs::read_to_string(self.failure()).ok()
    }

    /// Keeps why the run failed, for reports.
    pub fn keep_failure(&self, reason: &str) {
        // If that cannot be written either, the reason has been printed all the same.
        let _ = write_whole(&self.failure(), reason.as_bytes());
    }

    /// The run is tried again.
    pub fn forget_failure(&self) {
        let _ = fs::remove_file(self.failure());
    }

    fn failure(&self) -> PathBuf {
        self.path.join("failure.txt")
    }

    /// Cuts the files back to what a run had written when it was saved, so that it can go on from there.
    pub fn rewind(&self, rows: usize, receipts: usize, judged: usize) -> Result<()> {
        keep_lines(&self.metrics(), if rows == 0 { 0 } else { rows + 1 })?;
        keep_lines(&self.receipts(), receipts)?;
        match judged > 0 || self.undone().exists() {
            true => keep_lines(&self.undone(), judged),
            false => Ok(()),
        }
    }
}

/// The lines of a file that are whole: a last one without an end is still being written, or was cut off. None if there
/// is no such file.
fn whole_lines(path: &Path) -> Result<Vec<String>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole.lines().map(String::from).collect())
}

/// What the lines say, the first of which has this number in its file.
fn parsed<T>(path: &Path, lines: &[String], first: usize, parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    let with_place = |(index, line): (usize, &String)| {
        let place = || format!("{}, line {}, is damaged; restore it, or delete the run", path.display(), first + index);
        parse(line).with_context(place)
    };
    lines.iter().enumerate().map(with_place).collect()
}

/// Keeps the first lines of a file, which may be missing if none are to be kept.
fn keep_lines(path: &Path, count: usize) -> Result<()> {
    let kept = match File::open(path) {
        Ok(file) => BufReader::new(file).lines().take(count).collect::<std::io::Result<Vec<_>>>()?,
        Err(_) => Vec::new(),
    };
    if kept.len() < count {
        bail!(
            "{} has {} lines, fewer than the {count} of its checkpoint; it was changed or cut short",
            path.display(),
            kept.len()
        );
    }
    let text = kept.into_iter().map(|line| line + "\n").collect::<String>();
    write_whole(path, text.as_bytes())
}

/// Writes a file under a temporary name and renames it, so that it is never seen half-written.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Appends a run's measurements, receipts and checkpoints to its folder.
pub struct Recording {
    folder: RunFolder,
    metrics: csv::Writer<File>,
    receipts: File,
    /// Once there is something to write.
    undone: Option<File>,
}

impl Recording {
    /// An observer that records a run in its folder, after what is there already.
    pub fn new(folder: &RunFolder) -> Result<Self> {
        let open = |path: PathBuf| appending(&path).with_context(|| format!("cannot write {}", path.display()));
        let metrics = open(folder.metrics())?;
        let fresh = metrics.metadata().map(|about| about.len() == 0).unwrap_or(true);
        let metrics = csv::WriterBuilder::new().has_headers(fresh).from_writer(metrics);
        Ok(Self { folder: folder.clone(), metrics, receipts: open(folder.receipts())?, undone: None })
    }

    fn append_undone(&mut self, undone: &Undone) -> std::io::Result<()> {
        let file = match self.undone.take() {
            Some(file) => file,
            None => appending(&self.folder.undone())?,
        };
        append(self.undone.insert(file), undone)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.metrics.flush()?;
        self.metrics.get_ref().sync_data()?;
        self.receipts.sync_data()?;
        self.undone.as_ref().map_or(Ok(()), File::sync_data)
    }
}

fn appending(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Appends a line.
fn append(file: &mut File, what: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_string(what)?;
    line.push('\n');
    file.write_all(line.as_bytes())
}

fn cannot_write(path: PathBuf) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> ObserverError {
    move |error| format!("cannot write {}: {error}", path.display()).into()
}

impl<N: Growable> Observer<N> for Recording {
    fn logged(&mut self, row: &Row) -> Result<(), ObserverError> {
        let written = self.metrics.serialize(row).map_err(Into::into);
        let written = written.and_then(|()| self.metrics.flush().map_err(Into::into));
        written.map_err(cannot_write(self.folder.metrics()))
    }

    fn grown(&mut self, receipt: &Receipt) -> Result<(), ObserverError> {
        append(&mut self.receipts, receipt).map_err(Into::into).map_err(cannot_write(self.folder.receipts()))
    }

    fn undone(&mut self, undone: &Undone) -> Result<(), ObserverError> {
        self.append_undone(undone).map_err(Into::into).map_err(cannot_write(self.folder.undone()))
    }

    fn checkpoint(&mut self, run: &Run<N>) -> Result<(), ObserverError> {
        self.sync().map_err(Into::into).map_err(cannot_write(self.folder.metrics()))?;
        Ok(checkpoint::save(run, &self.folder.checkpoint())?)
    }
}
