//! Sums over the processes of an MPI job.
//!
//! MPI's own sums depend on the algorithm that its library picks. Here every process adds up its share of the entries, in
//! the order of ranks, and gives the result to all: the same bits on all ranks, on every repeat, with any library.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ferrompi::{Communicator, Mpi, MpiDatatype, Request, ThreadLevel};
use gradmax::Sums;

use super::Ranks;
use crate::failure::{Interrupted, Said, caught, code, sentence};
use crate::output;

/// Seconds that a process waits for the others, unless `GRADMAX_MPI_TIMEOUT` says otherwise.
const PATIENCE: u64 = 300;

/// Values that are summed at once: a bound on the memory that sums need beside their own.
const AT_ONCE: usize = 1 << 22;

/// How long a message is waited for without sleeping, and how long are the naps from then on.
const AWAKE: Duration = Duration::from_micros(100);
const NAP: Duration = Duration::from_micros(50);

/// The time that the first process has to say what is wrong with all.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// Joins the other processes, and does work together with them.
pub fn together<T>(work: impl FnOnce(&Ranks) -> Result<T>) -> Result<T> {
    // Dropping it leaves MPI, for which it waits until all do.
    let mpi = Mpi::init_thread(ThreadLevel::Serialized)?;
    if mpi.thread_level() < ThreadLevel::Serialized {
        bail!("this MPI library lets only its first thread speak; use one with MPI_THREAD_SERIALIZED");
    }
    let shared = Arc::new(Shared {
        world: mpi.world(),
        since: AtomicU64::new(0),
        speaks: Mutex::default(),
        spent: AtomicU64::new(0),
        started: Instant::now(),
    });
    watch(&shared);
    let ranks = Ranks { sums: shared.clone(), mpi: Some(shared.clone()) };
    caught(|| work(&ranks)).map_err(|error| match error.is::<Interrupted>() {
        // All stop at the same step.
        true if ranks.is_first() => error,
        true => error.context(Said),
        false => shared.abort(&error),
    })
}

/// What the thread that computes and the one that watches it share.
pub struct Shared {
    world: Communicator,
    /// Milliseconds from `started` to the beginning of the call that is waited for, plus one; 0 if there is none.
    since: AtomicU64,
    /// One thread speaks at a time.
    speaks: Mutex<()>,
    /// Microseconds of all calls so far.
    spent: AtomicU64,
    started: Instant,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.size())
    }
}

/// Waits for a message without keeping a core busy: sums go on beside a backward pass, which needs it.
fn waited_for(mut request: Request<'_>) -> ferrompi::Result<()> {
    let started = Instant::now();
    while request.test()?.is_none() {
        match started.elapsed() < AWAKE {
            true => std::thread::yield_now(),
            false => std::thread::sleep(NAP),
        }
    }
    Ok(())
}

/// A number on the wire.
trait Number: MpiDatatype + Default {
    fn exact(self) -> f64;
    fn rounded(exact: f64) -> Self;
}

impl Number for f64 {
    fn exact(self) -> f64 {
        self
    }

    fn rounded(exact: f64) -> Self {
        exact
    }
}

impl Number for f32 {
    fn exact(self) -> f64 {
        self.into()
    }

    fn rounded(exact: f64) -> Self {
        exact as Self
    }
}

/// Ends the job when the other processes have not answered for too long: one of them hangs, or its machine is gone.
fn watch(shared: &Arc<Shared>) {
    let patience =
        std::env::var("GRADMAX_MPI_TIMEOUT").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(PATIENCE);
    let (shared, rank, host) = (Arc::downgrade(shared), shared.rank(), shared.host());
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let Some(shared) = shared.upgrade() else { return };
            let since = shared.since.load(Ordering::Relaxed);
            let waited = (shared.started.elapsed().as_millis() as u64 + 1).saturating_sub(since);
            if since > 0 && waited > 1000 * patience {
                output::say(&format!(
                    "gradmax: rank {rank} on {host}: the other ranks have not answered for {patience} seconds; one of them \
                     hangs, or its machine is gone. `gradmax resume` goes on from the last checkpoint"
                ));
                // Not by MPI, which this thread must not call while the other does: the starter ends the others.
                std::process::exit(1);
            }
        }
    });
}

impl Shared {
    fn host(&self) -> String {
        self.world.processor_name().unwrap_or_else(|_| "an unknown host".into())
    }

    /// Seconds spent in calls so far.
    pub fn seconds(&self) -> f64 {
        self.spent.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// Waits for all processes, without an end to its patience.
    pub fn wait(&self) {
        if let Err(error) = self.world.barrier() {
            panic!("MPI could not wait for all ranks: {error}");
        }
    }

    /// Ends all processes after an error of this one.
    fn abort(&self, error: &anyhow::Error) -> ! {
        if self.rank() > 0 {
            // What is wrong everywhere is said once, by the first, which ends the others meanwhile.
            std::thread::sleep(FIRST_WORD);
        }
        output::say(&format!("gradmax: rank {} on {}: {}", self.rank(), self.host(), sentence(error)));
        self.world.abort(code(error).into())
    }

    /// Calls MPI, under the eyes of the watch.
    ///
    /// # Panics
    /// If MPI fails: `together` ends the job then.
    fn called<T>(&self, what: &str, call: impl FnOnce(&Communicator) -> ferrompi::Result<T>) -> T {
        let _speaks = self.speaks.lock().unwrap_or_else(PoisonError::into_inner);
        let began = self.started.elapsed();
        self.since.store(began.as_millis() as u64 + 1, Ordering::Relaxed);
        let called = call(&self.world);
        self.since.store(0, Ordering::Relaxed);
        self.spent.fetch_add((self.started.elapsed() - began).as_micros() as u64, Ordering::Relaxed);
        called.unwrap_or_else(|error| panic!("MPI could not {what}: {error}"))
    }

    /// Folds all ranks' values, in the order of ranks and in double precision: each rank its share of the entries.
    fn fold<T: Number>(&self, values: &mut [T], of: impl Fn(f64, f64) -> f64) {
        let size = self.size();
        for values in values.chunks_mut(AT_ONCE) {
            let share = values.len().div_ceil(size);
            let mut padded = values.to_vec();
            padded.resize(size * share, T::default());
            // Of every rank, the entries that this one folds.
            let mut own = vec![T::default(); size * share];
            self.called("give parts to all ranks", |world| {
                ferrompi::scope(|scope| waited_for(world.ialltoall(scope, &padded, &mut own)?))
            });
            let entry = |rank: usize, at: usize| own[rank * share + at].exact();
            let folded = (0..share).map(|at| (1..size).fold(entry(0, at), |sum, rank| of(sum, entry(rank, at))));
            let folded = folded.map(T::rounded).collect::<Vec<_>>();
            self.called("gather the sums of all ranks", |world| {
                ferrompi::scope(|scope| waited_for(world.iallgather(scope, &folded, &mut padded)?))
            });
            values.copy_from_slice(&padded[..values.len()]);
        }
    }
}

impl Sums for Shared {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn sum(&self, values: &mut [f64]) {
        self.fold(values, |sum, value| sum + value);
    }

    fn sum_f32(&self, values: &mut [f32]) {
        self.fold(values, |sum, value| sum + value);
    }

    fn largest(&self, values: &mut [f64]) {
        // NaN counts as larger than everything.
        self.fold(values, |most, value| if most.is_nan() || value <= most { most } else { value });
    }

    fn barrier(&self) {
        self.called("wait for all ranks", Communicator::barrier);
    }
}
