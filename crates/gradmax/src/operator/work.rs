//! What looking and growing compute, counted: floating-point operations, in the measure of
//! [`Growable::flops`](crate::site::Growable::flops).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count that everything that belongs to one look shares. Whole numbers are added, so it does not depend on the order
/// in which threads come by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    flops: AtomicU64,
    passes: AtomicU64,
}

/// Parts of a pass that are told apart.
const PARTS: f64 = 1e6;

impl Work {
    /// Counts a matrix product `[rows, inner] x [inner, columns]`.
    pub(crate) fn product(&self, rows: usize, inner: usize, columns: usize) {
        self.0.flops.fetch_add(2 * (rows * inner * columns) as u64, Ordering::Relaxed);
    }

    /// Counts a pass through the network, forward and backward, over this share of the growth batch.
    pub(crate) fn pass(&self, share: f64) {
        self.0.passes.fetch_add((share * PARTS).round() as u64, Ordering::Relaxed);
    }

    /// Counts what was counted elsewhere.
    pub(crate) fn add(&self, other: &Self) {
        self.0.flops.fetch_add(other.0.flops.load(Ordering::Relaxed), Ordering::Relaxed);
        self.0.passes.fetch_add(other.0.passes.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// What was counted until now, as a count of its own.
    pub(crate) fn so_far(&self) -> Self {
        let [flops, passes] = [&self.0.flops, &self.0.passes].map(|count| count.load(Ordering::Relaxed).into());
        Self(Arc::new(Counts { flops, passes }))
    }

    /// Operations of products.
    pub(crate) fn flops(&self) -> u64 {
        self.0.flops.load(Ordering::Relaxed)
    }

    /// Passes over the growth batch.
    pub(crate) fn passes(&self) -> f64 {
        self.0.passes.load(Ordering::Relaxed) as f64 / PARTS
    }
}
