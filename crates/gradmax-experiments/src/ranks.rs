//! The processes that train one network together: one, or as many as MPI has started.

#[cfg(feature = "mpi")]
mod mpi;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use gradmax::{Alone, Sums};

#[cfg(feature = "mpi")]
use crate::failure::code;
#[cfg(not(feature = "mpi"))]
use crate::failure::misuse;
use crate::failure::{Interrupted, caught, sentence};
use crate::output;

/// The time that the first process has to say what is wrong with all.
const FIRST_WORD: Duration = Duration::from_millis(500);

/// This process, among those that train one network together.
pub struct Ranks {
    sums: Arc<dyn Sums>,
    host: String,
    #[cfg(feature = "mpi")]
    mpi: Option<mpi::World>,
}

impl Ranks {
    /// One process.
    pub fn alone() -> Self {
        Self {
            sums: Arc::new(Alone),
            host: String::new(),
            #[cfg(feature = "mpi")]
            mpi: None,
        }
    }

    /// Joins the others, if MPI has started several.
    fn join() -> Result<Self> {
        match started_by_mpi() {
            None => Ok(Self::alone()),
            #[cfg(feature = "mpi")]
            Some(_) => {
                let world = mpi::World::join()?;
                Ok(Self { sums: world.sums(), host: world.host(), mpi: Some(world) })
            }
            #[cfg(not(feature = "mpi"))]
            Some(size) => Err(misuse(format!(
                "MPI has started {size} processes, and this program does not know MPI: each would do the same; build it \
                 with `--features mpi`, or start it once"
            ))),
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

    /// Waits for all processes, however long they take.
    pub fn wait(&self) {
        #[cfg(feature = "mpi")]
        if let Some(world) = &self.mpi {
            world.wait();
        }
    }

    /// Checks that all processes have the same: of configurations, versions, data.
    ///
    /// # Errors
    /// If one has another, on all of them.
    pub fn agree(&self, what: &str, own: &[u8]) -> Result<()> {
        if self.count() == 1 {
            return Ok(());
        }
        // Halves of a hash, which numbers in double precision hold exactly; each process fills its own place.
        let hash = md5_of(own);
        let mut halves = vec![0.0; 2 * self.count()];
        halves[2 * self.rank()] = f64::from(hash[0]);
        halves[2 * self.rank() + 1] = f64::from(hash[1]);
        self.sums.sum(&mut halves);
        let differs = |rank: &usize| halves[2 * rank..2 * rank + 2] != halves[..2];
        let others = (0..self.count()).filter(differs).map(|rank| rank.to_string()).collect::<Vec<_>>();
        match others.is_empty() {
            true => Ok(()),
            false => Err(anyhow!(
                "{what} on rank {} is not that of rank 0; start all of them with the same program, configuration and data",
                others.join(", ")
            )),
        }
    }

    /// Ends all processes after an error of this one.
    fn abort(&self, error: &anyhow::Error) {
        if self.count() == 1 {
            return;
        }
        if !self.is_first() {
            // What is wrong everywhere is said once, by the first, which ends the others meanwhile.
            std::thread::sleep(FIRST_WORD);
        }
        output::say(&format!("gradmax: rank {} on {}: {}", self.rank(), self.host, sentence(error)));
        #[cfg(feature = "mpi")]
        if let Some(world) = &self.mpi {
            world.abort(code(error).into());
        }
    }
}

/// Two parts of a checksum.
fn md5_of(bytes: &[u8]) -> [u32; 2] {
    use md5::{Digest, Md5};
    let hash = Md5::digest(bytes);
    [0, 4].map(|at| u32::from_le_bytes([hash[at], hash[at + 1], hash[at + 2], hash[at + 3]]))
}

/// Does work together with the other processes that MPI has started, if there are any. What goes wrong in one of them,
/// a panic too, ends all: the others would wait for it for ever.
///
/// # Errors
/// Those of the work; if MPI has started several processes, and the program does not know MPI.
pub fn together<T>(work: impl FnOnce(&Ranks) -> Result<T>) -> Result<T> {
    let ranks = Ranks::join()?;
    caught(|| work(&ranks)).inspect_err(|error| {
        // All stop at the same step.
        if !error.is::<Interrupted>() {
            ranks.abort(error);
        }
    })
}

/// The number of processes, if MPI has started several.
fn started_by_mpi() -> Option<usize> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<usize>().ok());
    // Open MPI, MPICH and its kin, and Slurm's own starter with PMIx.
    let size = number("OMPI_COMM_WORLD_SIZE").or_else(|| number("PMI_SIZE"));
    let size = size.or_else(|| number("PMIX_RANK").and_then(|_| number("SLURM_STEP_NUM_TASKS")));
    size.filter(|size| *size > 1)
}
