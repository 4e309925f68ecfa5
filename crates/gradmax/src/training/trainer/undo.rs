//! Taking growth back that did not pay.

use std::time::Instant;

use super::Trainer;
use super::shrink::Shrink;
use crate::error::Error;
use crate::site::growable::Growable;
use crate::surgery::carry::narrow;
use crate::training::ongoing::Ongoing;
use crate::training::run::Progress;
use crate::training::settings::GrowthBatch;
use crate::training::shrinkage::Undone;
use crate::training::task::Task;

impl<N: Growable, T: Task<Output = N::Output>> Trainer<'_, N, T> {
    /// Whether the neurons of a growth event have been trained for long enough to be judged before the next step.
    pub(super) fn judged_next(&self, progress: &Progress) -> Option<usize> {
        progress.cohorts.next_of_age(progress.judged, self.settings.undo?.after, progress.step)
    }

    /// Removes those neurons of a growth event that the network can do without by now. The optimizer keeps the state of
    /// all other weights.
    pub(super) fn undo(&mut self, ongoing: &mut Ongoing<N>, cohort: usize) -> Result<(), Error> {
        let Some(undo) = self.settings.undo else {
            return Ok(());
        };
        let started = Instant::now();
        let run = &mut ongoing.run;
        let step = run.progress.step;
        let indices = self.drawn(undo.examples, self.settings.seed.fold("undo").at(step as u64));
        let parts = self.growth_batch(GrowthBatch::Examples(indices.len()), &[], step, false)?;
        let cohorts = (&run.progress.cohorts, cohort);
        let shrunk =
            self.without_least(&run.network, Shrink::LossRise(undo.rise), (&indices, &parts), Some(cohorts))?;
        drop(parts);
        let narrowed = |optimizer, removal| Ok::<_, Error>(narrow(optimizer, removal)?.optimizer);
        let optimizer = shrunk.removals.iter().try_fold(run.optimizer.clone(), narrowed)?;
        for removal in &shrunk.removals {
            run.average = run.average.take().map(|average| removal.apply(average));
            run.progress.cohorts.shrink(removal);
        }
        (run.network, run.optimizer) = (shrunk.network, optimizer);
        let progress = &mut run.progress;
        for site in &shrunk.receipt.sites {
            progress.sites.iter_mut().filter(|at| at.site == site.site).for_each(|at| at.width = site.after);
        }
        progress.judged = cohort;
        progress.growth_flops += shrunk.flops;
        progress.growth_seconds += started.elapsed().as_secs_f64();
        let undone = Undone { step, grown: progress.cohorts.came(cohort), shrinkage: shrunk.receipt };
        ongoing.changed_widths();
        self.observers.iter_mut().try_for_each(|observer| observer.undone(&undone).map_err(Error::Observer))
    }
}
