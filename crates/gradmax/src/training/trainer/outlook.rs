//! What growth would do to a network now, and why: a look that changes nothing.

use serde::Serialize;

use super::Trainer;
use crate::error::Error;
use crate::event::plan::Planned;
use crate::policies::look::{Cost, LazyLook, PolicyLook, SingularValue};
use crate::site::growable::Growable;
use crate::site::width::SiteWidth;
use crate::training::run::Run;
use crate::training::settings::GrowthBatch;
use crate::training::task::Task;

/// What growth would do to a network now, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outlook {
    /// Gradient steps that the network has been trained for.
    pub step: usize,
    /// The mean loss on the growth batch.
    pub loss: f64,
    /// The network as it is.
    pub size: Cost,
    /// What the policy would grow, were it due.
    pub plan: Vec<Planned>,
    /// What training gains without growth, if the policy [compares](crate::policies::Policy::training_gain) that.
    pub training_gain: Option<f64>,
    /// Every site.
    pub sites: Vec<SiteOutlook>,
}

/// What growth would give at a site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteOutlook {
    /// The site's name.
    pub site: String,
    /// Its neurons.
    pub width: usize,
    /// New neurons come in multiples of this.
    pub unit: usize,
    /// What each further unit gains: by how much the loss falls per unit of the learning rate with its first step, beyond
    /// what the neurons that are there can do ([`PolicyLook::gains`]).
    pub gains: Vec<f64>,
    /// What a unit adds to the network.
    pub cost: Cost,
    /// The leading singular values of the growth operator.
    pub spectrum: Vec<SingularValue>,
}

impl<N: Growable, T: Task<Output = N::Output>> Trainer<'_, N, T> {
    /// What growth would do to a run's network now, on a growth batch of so many examples (all, if there are not as many),
    /// which is seen in parts of the evaluation's size, two at least. Nothing is changed.
    ///
    /// `units` is the number of further growth units of each site that are asked about. None of a trainer without growth.
    ///
    /// # Errors
    /// [`Error::Examples`], if examples cannot be read; those of
    /// [`GrowthOperator::new`](crate::operator::GrowthOperator::new).
    pub fn outlook(&self, run: &Run<N>, examples: usize, units: usize) -> Result<Option<Outlook>, Error> {
        let Some(growth) = &self.growth else {
            return Ok(None);
        };
        let progress = &run.progress;
        let parts = self.growth_batch(GrowthBatch::Examples(examples), &[], progress.step, true)?;
        let look = LazyLook::in_parts(&run.network, &parts, &growth.grower);
        let observed = self.observed(progress);
        let plan = growth.policy.plan(&observed, &look, &mut progress.policy.clone())?;
        let plan = self.settings.budget.trimmed(plan, &look)?;
        let asked = progress.sites.iter().map(|at| {
            let count = units * look.growth_unit(&at.site)?;
            Ok(Planned { site: at.site.clone(), count })
        });
        let gains = look.gains(&asked.collect::<Result<Vec<_>, Error>>()?)?;
        let of_site = |(at, gains): (&SiteWidth, Vec<f64>)| {
            let unit = look.growth_unit(&at.site)?;
            let (cost, spectrum) = (look.cost(&at.site, unit)?, look.singular_values(&at.site, units)?);
            Ok::<_, Error>(SiteOutlook { site: at.site.clone(), width: at.width, unit, gains, cost, spectrum })
        };
        Ok(Some(Outlook {
            step: progress.step,
            loss: look.loss()?,
            size: look.size(),
            plan,
            training_gain: growth.policy.training_gain(&observed, &progress.policy),
            sites: progress.sites.iter().zip(gains).map(of_site).collect::<Result<_, _>>()?,
        }))
    }
}
