//! What a network lost, and what became of its loss.

use serde::{Deserialize, Serialize};

/// What was removed, and what became of the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShrinkReceipt {
    /// Examples on which the loss was measured, of the training set.
    pub examples: usize,
    /// Their mean loss before, in evaluation mode.
    pub loss_before: f64,
    /// And after.
    pub loss_after: f64,
    /// Trainable parameters before and after.
    pub parameters: [usize; 2],
    /// Floating-point operations of an example's forward pass, before and after.
    pub flops: [u64; 2],
    /// Every site that lost neurons.
    pub sites: Vec<SiteShrinkage>,
}

impl ShrinkReceipt {
    /// The neurons that were removed, of all sites.
    pub fn removed(&self) -> usize {
        self.sites.iter().map(|site| site.before - site.after).sum()
    }
}

/// What a site lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteShrinkage {
    /// The site's name.
    pub site: String,
    /// Its width before.
    pub before: usize,
    /// Its width after.
    pub after: usize,
}

/// What of a growth event was taken back; of nothing, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Undone {
    /// Gradient steps taken before.
    pub step: usize,
    /// The step before which the neurons came.
    pub grown: usize,
    /// What was removed.
    pub shrinkage: ShrinkReceipt,
}
