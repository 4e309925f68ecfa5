//! When, where and how much to grow: pure functions of what was observed, so that a run can be replayed.

use crate::event::plan::Planned;
use crate::site::width::SiteWidth;

/// Decides when, where and by how many neurons a network grows.
///
/// A schedule has no state of its own: everything it may depend on is in [`Observed`].
pub trait Schedule: Send + Sync {
    /// The growth that is due before the gradient step `observed.step`; empty if none is.
    fn plan(&self, observed: &Observed<'_>) -> Vec<Planned>;
}

/// What a schedule may look at.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Observed<'a> {
    /// Gradient steps taken so far.
    pub step: usize,
    /// Growth events so far.
    pub events: usize,
    /// Every site of the network, in order.
    pub sites: &'a [SiteWidth],
}

impl<'a> Observed<'a> {
    /// What is known before gradient step `step`, after `events` growth events.
    pub fn new(step: usize, events: usize, sites: &'a [SiteWidth]) -> Self {
        Self { step, events, sites }
    }
}

/// The sites' widths after a run of `steps` steps under a schedule that depends on steps and events only.
pub fn target_widths(schedule: &dyn Schedule, seed: &[SiteWidth], steps: usize) -> Vec<SiteWidth> {
    let mut sites = seed.to_vec();
    let mut events = 0;
    for step in 0..steps {
        let plan = schedule.plan(&Observed::new(step, events, &sites));
        events += usize::from(!plan.is_empty());
        for Planned { site, count } in plan {
            sites.iter_mut().filter(|at| at.site == site).for_each(|at| at.width += count);
        }
    }
    sites
}
