//! The processes that train one network together: one, or as many as MPI has started.

#[cfg(feature = "mpi")]
mod mpi;

use std::sync::Arc;

use anyhow::{Result, anyhow};
use gradmax::{Alone, Sums};

#[cfg(not(feature = "mpi"))]
use crate::failure::misuse;

/// This process, among those that train one network together.
#[derive(Clone)]
pub struct Ranks {
    sums: Arc<dyn Sums>,
    #[cfg(feature = "mpi")]
    mpi: Option<Arc<mpi::Shared>>,
}

impl Ranks {
    /// One process.
    pub fn alone() -> Self {
        Self {
            sums: Arc::new(Alone),
            #[cfg(feature = "mpi")]
            mpi: None,
        }
    }

    /// Whether this process is the one that writes run folders, and says what all have to say.
    pub fn is_first(&self) -> bool {
        self.sums.rank() == 0
    }

    /// Number of processes.
    pub fn count(&self) -> usize {
        self.sums.size()
    }

    /// This process's number.
    pub fn rank(&self) -> usize {
        self.sums.rank()
    }

    /// What sums over examples go through.
    pub fn sums(&self) -> Arc<dyn Sums> {
        self.sums.clone()
    }

    /// Seconds that this process has spent so far on what goes between processes, waiting for the others included.
    pub fn seconds(&self) -> f64 {
        #[cfg(feature = "mpi")]
        if let Some(shared) = &self.mpi {
            return shared.seconds();
        }
        0.0
    }

    /// Waits for all processes, however long they take.
    pub fn wait(&self) {
        #[cfg(feature = "mpi")]
        if let Some(shared) = &self.mpi {
            shared.wait();
        }
    }

    /// Checks that all processes have the same: of configurations, versions, data.
    ///
    /// # Errors
    /// If one has another, on all of them.
    pub fn agree(&self, what: &str, own: &[u8]) -> Result<()> {
        let all = self.gathered(&md5_of(own));
        let differs = |rank: &usize| all[*rank] != all[0];
        let others = (0..self.count()).filter(differs).map(|rank| rank.to_string()).collect::<Vec<_>>();
        match others.is_empty() {
            true => Ok(()),
            false => Err(anyhow!(
                "{what} on rank {} is not that of rank 0; start all of them with the same program, configuration and data",
                others.join(", ")
            )),
        }
    }

    /// What all processes have to say, in the order of ranks.
    pub fn all_say(&self, own: &str) -> Vec<String> {
        self.gathered(own.as_bytes()).iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// The bytes of all processes, in the order of ranks: few, as each costs a number in double precision.
    fn gathered(&self, own: &[u8]) -> Vec<Vec<u8>> {
        let mut lengths = vec![0.0; self.count()];
        lengths[self.rank()] = own.len() as f64;
        self.sums.sum(&mut lengths);
        let ends = lengths.iter().scan(0, |end, length| {
            *end += *length as usize;
            Some(*end)
        });
        let ends = ends.collect::<Vec<_>>();
        let starts = [&[0], &ends[..ends.len() - 1]].concat();
        // Each fills its own place among zeros.
        let mut all = vec![0.0; ends[ends.len() - 1]];
        let place = all[starts[self.rank()]..ends[self.rank()]].iter_mut();
        place.zip(own).for_each(|(entry, byte)| *entry = f64::from(*byte));
        self.sums.sum(&mut all);
        let part = |(start, end): (&usize, &usize)| all[*start..*end].iter().map(|entry| *entry as u8).collect();
        starts.iter().zip(&ends).map(part).collect()
    }
}

/// A checksum.
fn md5_of(bytes: &[u8]) -> Vec<u8> {
    use md5::{Digest, Md5};
    Md5::digest(bytes).to_vec()
}

/// Does work together with the other processes that MPI has started, if there are any. What goes wrong in one of them,
/// a panic too, ends all: the others would wait for it for ever.
///
/// # Errors
/// Those of the work; if MPI has started several processes, and the program does not know MPI.
pub fn together<T>(work: impl FnOnce(&Ranks) -> Result<T>) -> Result<T> {
    match started_by_mpi() {
        None => work(&Ranks::alone()),
        #[cfg(feature = "mpi")]
        Some(_) => mpi::together(work),
        #[cfg(not(feature = "mpi"))]
        Some(size) => Err(misuse(format!(
            "MPI has started {size} processes, and this program does not know MPI: each would do the same; build it \
             with `--features mpi`, or start it once"
        ))),
    }
}

/// The number of processes, if MPI has started several.
fn started_by_mpi() -> Option<usize> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<usize>().ok());
    // Open MPI, MPICH and its kin, and Slurm's own starter with PMIx.
    let size = number("OMPI_COMM_WORLD_SIZE").or_else(|| number("PMI_SIZE"));
    let size = size.or_else(|| number("PMIX_RANK").and_then(|_| number("SLURM_STEP_NUM_TASKS")));
    size.filter(|size| *size > 1)
}
