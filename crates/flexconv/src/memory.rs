//! Memory between steps.

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
