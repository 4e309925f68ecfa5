//! What a program does once, so that steps are fast: memory and threads.

#[cfg(feature = "flex")]
use burn::backend::DispatchDevice;
use burn::tensor::Device;
#[cfg(feature = "flex")]
use rayon::prelude::*;

/// Makes the allocator keep freed memory for later instead of returning it to the system, where that can be chosen
/// (glibc).
///
/// A training step allocates and frees the same tensors as the one before. Memory that went back to the system in
/// between comes again page by page, each zeroed by the kernel, which costs up to a third of a step. Call it once, at
/// the start of a program; elsewhere than on Linux with glibc it does nothing.
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
/// Operations divide their work among the threads of the pool that they are called in. Called from outside of any, as
/// from `main`, each of them hands its work to the pool, sleeps and is woken, which costs more than a small operation
/// itself.
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

/// Maps independent pieces of work, in the order given, side by side on the threads of the pool that this is called in.
///
/// Operations of the `flex` device may be part of them (see [`computes_on_threads`]): what each leaves of the threads
/// between its loops then serves the others. Results are the same as one by one.
pub fn map_side_by_side<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
    #[cfg(feature = "flex")]
    return items.into_par_iter().with_max_len(1).map(work).collect();
    #[cfg(not(feature = "flex"))]
    items.into_iter().map(work).collect()
}

/// Whether operations on this device are computed by the threads that call them.
pub fn computes_on_threads(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    return matches!(device.clone().inner().as_dispatch(), DispatchDevice::Flex(_));
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}
