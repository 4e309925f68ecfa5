//! Checkpoints: a run between two steps, on disk, complete or not there at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Tensor};

use crate::error::Error;
use crate::matrix::values;
use crate::panics::caught;
use crate::site::growable::Growable;
use crate::site::width::SiteWidth;
use crate::surgery::carry::is_finite;
use crate::training::run::{Progress, Run};

const PROGRESS: &str = "progress.json";
const NETWORK: &str = "network.bpk";
const AVERAGE: &str = "average.bpk";
const BEST: &str = "best.bpk";
const OPTIMIZER: &str = "optimizer.bpk";

/// Writes a run to a folder: under a temporary name, synced, then renamed. A folder that was there is replaced only
/// then.
///
/// # Errors
/// [`Error::Checkpoint`]; [`Error::WeightsNotFinite`], since a run cannot go on from such weights. The checkpoint that
/// was there before is still there, or beside it under `<name>.old`, where [`load`] finds it.
pub fn save<N: Growable>(run: &Run<N>, folder: &Path) -> Result<(), Error> {
    let step = run.progress.step;
    if [Some(&run.network), run.average.as_ref()].into_iter().flatten().any(|network| !weights_are_finite(network)) {
        return Err(Error::WeightsNotFinite { what: "weights or running statistics", step });
    }
    let failed = |reason: String| Error::Checkpoint { path: folder.to_path_buf(), reason };
    // Running statistics hold back their last update until a network is taken to evaluation mode.
    let recorded = |network: &N| network.valid().into_record().into_bytes().map_err(|error| failed(error.to_string()));
    let network = recorded(&run.network)?;
    let others = [(AVERAGE, &run.average), (BEST, &run.best)];
    let others = others.iter().filter_map(|(name, network)| Some((*name, network.as_ref()?)));
    let others = others.map(|(name, network)| Ok((name, recorded(network)?))).collect::<Result<Vec<_>, Error>>()?;
    let optimizer = run.optimizer.into_bytes().map_err(|error| failed(error.to_string()))?;
    if !is_finite(optimizer.clone())? {
        return Err(Error::WeightsNotFinite { what: "the optimizer's state", step });
    }
    let progress = serde_json::to_vec_pretty(&run.progress).map_err(|error| failed(error.to_string()))?;
    let mut files: Vec<(&str, &[u8])> = vec![(PROGRESS, &progress), (NETWORK, &network), (OPTIMIZER, &optimizer)];
    files.extend(others.iter().map(|(name, bytes)| (*name, &**bytes)));
    replace(folder, &files).map_err(|error| failed(format!("cannot be written: {error}; the one before is kept")))
}

/// Whether no weight or running statistic is infinite or not a number.
fn weights_are_finite<M: Module>(module: &M) -> bool {
    struct Finite(bool);
    impl ModuleVisitor for Finite {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 = self.0 && values(&param.val().into_data()).iter().all(|entry| entry.is_finite());
        }
    }
    let mut finite = Finite(true);
    module.valid().visit(&mut finite);
    finite.0
}

/// Whether there is a checkpoint that [`load`] would read.
pub fn exists(folder: &Path) -> bool {
    complete(folder).exists()
}

/// Whether a folder is a checkpoint.
pub fn is_one(folder: &Path) -> bool {
    folder.join(PROGRESS).exists()
}

/// Reads how far a checkpoint is, for the widths that its network has to be built with.
///
/// # Errors
/// [`Error::Checkpoint`].
pub fn load_progress(folder: &Path) -> Result<Progress, Error> {
    let path = complete(folder).join(PROGRESS);
    let text = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::Checkpoint { path, reason: format!("is damaged or cut short: {error}") })
}

/// Reads a checkpoint. `network` builds a network whose sites have these widths, in which the weights do not matter; the
/// optimizer is one of the same kind, best made by [`optimizer_on`](crate::surgery::optimizer_on).
///
/// # Errors
/// [`Error::Checkpoint`], if files are missing, damaged, or of another network; those of building a network.
pub fn load<N: Growable, E: From<Error>>(
    folder: &Path,
    network: impl Fn(&[SiteWidth]) -> Result<N, E>,
    optimizer: ModuleOptimizer,
) -> Result<Run<N>, E> {
    let progress = load_progress(folder)?;
    let folder = complete(folder);
    let read = |name: &str, sites: &[SiteWidth]| Ok::<_, E>(read_network(&folder.join(name), network(sites)?)?);
    let last = read(NETWORK, &progress.sites)?;
    let average = folder.join(AVERAGE).exists().then(|| read(AVERAGE, &progress.sites)).transpose()?;
    let best = match &progress.best {
        Some(best) if folder.join(BEST).exists() => Some(read(BEST, &best.sites)?),
        _ => None,
    };
    let optimizer = read_optimizer(&folder.join(OPTIMIZER), optimizer)?;
    // Neither of the others is trained.
    let [average, best] = [average, best].map(|network| network.map(|network| network.valid()));
    Ok(Run { network: last, average, best, optimizer, progress })
}

fn read_network<N: Growable>(path: &Path, network: N) -> Result<N, Error> {
    whole(path, |bytes| {
        let record = ModuleRecord::from_bytes(bytes).map_err(|error| damaged(path, error.to_string()))?;
        network.try_load_record(record).map_err(|error| Error::Checkpoint {
            path: path.to_path_buf(),
            reason: format!("is of another network than the configuration describes: {error}"),
        })
    })
}

fn read_optimizer(path: &Path, optimizer: ModuleOptimizer) -> Result<ModuleOptimizer, Error> {
    whole(path, |bytes| {
        let record = OptimizerRecord::from_bytes(bytes).map_err(|error| damaged(path, error.to_string()))?;
        Ok(optimizer.load_record(record))
    })
}

/// What a file holds. Burn checks most of a record, and panics over the rest.
fn whole<T>(path: &Path, parse: impl FnOnce(Bytes) -> Result<T, Error>) -> Result<T, Error> {
    let bytes = Bytes::from_bytes_vec(fs::read(path).map_err(|error| unreadable(path, &error))?);
    caught(|| parse(bytes)).unwrap_or_else(|said| Err(damaged(path, said)))
}

fn damaged(path: &Path, error: String) -> Error {
    Error::Checkpoint { path: path.to_path_buf(), reason: format!("is damaged or cut short: {error}") }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Checkpoint { path: path.to_path_buf(), reason: format!("cannot be read: {error}") }
}

/// The folder, or what was there before if writing was cut off between two renames.
fn complete(folder: &Path) -> PathBuf {
    let previous = beside(folder, "old");
    match !folder.exists() && previous.exists() {
        true => previous,
        false => folder.to_path_buf(),
    }
}

fn replace(folder: &Path, files: &[(&str, &[u8])]) -> io::Result<()> {
    // A folder that is not empty cannot be replaced by a rename, so there are two; `complete` knows the moment in
    // between.
    let (fresh, previous) = (beside(folder, "new"), beside(folder, "old"));
    remove_if_there(&fresh)?;
    fs::create_dir_all(&fresh)?;
    for (name, contents) in files {
        let mut file = File::create(fresh.join(name))?;
        file.write_all(contents)?;
        file.sync_all()?;
    }
    sync_folder(&fresh)?;
    if folder.exists() {
        remove_if_there(&previous)?;
        fs::rename(folder, &previous)?;
    }
    fs::rename(&fresh, folder)?;
    sync_folder(&folder.with_file_name("."))?;
    remove_if_there(&previous)
}

/// Makes new names in a folder last, where folders can be synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}

fn remove_if_there(folder: &Path) -> io::Result<()> {
    match folder.exists() {
        true => fs::remove_dir_all(folder),
        false => Ok(()),
    }
}

fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    folder.with_file_name(name)
}
