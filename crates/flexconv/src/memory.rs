//! What a program does once, so that steps are fast: memory and threads.

/// Makes the allocator keep freed memory for later instead of returning it to the system, where that can be chosen (glibc).
///
/// A training step allocates and frees the same tensors as the one before. Memory that went back to the system in between comes
/// again page by page, each zeroed by the kernel, which costs up to a third of a step. Call it once, at the start of a program;
/// elsewhere than on Linux with glibc it does nothing.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // Blocks of any size from the heap, which is trimmed only when this much lies free at its end.
        const ALL: libc::c_int = 1 << 30;
        // SAFETY: `mallopt` only sets the allocator's numbers.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, ALL);
            libc::mallopt(libc::M_TRIM_THRESHOLD, ALL);
        }
    }
}

/// Runs work, usually a whole training, on a thread of a pool of its own with so many threads (0 for one a core).
///
/// Operations divide their work among the threads of the pool that they are called in. Called from outside of any, as from `main`,
/// each of them hands its work to the pool, sleeps and is woken, which costs more than a small operation itself.
///
/// # Panics
/// If the system gives no threads.
pub fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "flex")]
    {
        // As much as the main thread has.
        const STACK: usize = 8 << 20;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK).build();
        pool.expect("the system has threads to give").install(work)
    }
    #[cfg(not(feature = "flex"))]
    {
        let _ = threads;
        work()
    }
}
