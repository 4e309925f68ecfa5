//! What layers have to know of the other machines in a pass: which part of the batch this one has, and whether
//! statistics are taken over all of it.

use std::cell::RefCell;

use crate::sums::SharedSums;

/// A machine's part of a batch, as a pass sees it.
#[derive(Clone)]
pub(crate) struct Share {
    /// How many of the batch's examples are before this machine's.
    pub(crate) first: usize,
    /// What this machine's mean loss counts in that of all.
    pub(crate) weight: f64,
    /// What batch norm takes its statistics through, if they are those of all machines.
    pub(crate) statistics: Option<SharedSums>,
}

const WHOLE: Share = Share { first: 0, weight: 1.0, statistics: None };

thread_local! {
    static SHARE: RefCell<Share> = const { RefCell::new(WHOLE) };
}

/// The share that passes on this thread have.
pub(crate) fn share() -> Share {
    SHARE.with_borrow(Clone::clone)
}

/// Takes a pass over this machine's part of a batch.
pub(crate) fn with_part<T>(first: usize, weight: f64, pass: impl FnOnce() -> T) -> T {
    with(Share { first, weight, ..share() }, pass)
}

/// Runs something in which batch norm's statistics are those of all machines.
pub(crate) fn with_statistics<T>(sums: Option<SharedSums>, run: impl FnOnce() -> T) -> T {
    with(Share { statistics: sums, ..share() }, run)
}

fn with<T>(share: Share, run: impl FnOnce() -> T) -> T {
    /// Puts back what was, even if a pass panics.
    struct Back(Share);
    impl Drop for Back {
        fn drop(&mut self) {
            SHARE.replace(self.0.clone());
        }
    }
    let _back = Back(SHARE.replace(share));
    run()
}
