//! A growth event: look, choose weights, widen, and verify.

use std::sync::Arc;

use burn::optim::ModuleOptimizer;
use burn::tensor::Device;

use crate::error::Error;
use crate::event::change::{Change, is_within};
use crate::event::checks::{check_names, check_sites};
use crate::event::choose::{Choosing, PlannedSite, zero_side_of};
use crate::event::chosen::{Chosen, Grown, magnitudes};
use crate::event::context::EventContext;
use crate::event::first_step::FirstStep;
use crate::event::look::{Before, Clock, EVIDENCE_MEMORY, Look, Looked, Taken, independent};
use crate::event::pass::{Part, Pass, TrainingPass};
use crate::event::plan::Planned;
use crate::event::receipt::{Receipt, SiteReceipt, Timing};
use crate::event::verify::{Verification, Verified, verify};
use crate::methods::method::{GrowthMethod, Series};
use crate::methods::placement::Placement;
use crate::operator::work::Work;
use crate::seed::Seed;
use crate::site::declaration::{Site, site_named};
use crate::site::extension::Extension;
use crate::site::growable::device_of;
use crate::site::growable::{Growable, trainable_parameters};
use crate::site::output::Output as _;
use crate::site::probe::Probe;
use crate::site::side::Side;
use crate::sums::{SharedSums, Sums, alone};
use crate::surgery::addition::{Addition, gains_between};
use crate::surgery::carry::{Carried, SecondMoments, carry_by, paths_of};
use crate::surgery::index_map::IndexMaps;
use crate::surgery::rescale::Rescaling;
use crate::surgery::widen::{Widening, shift, widen_by, widen_gradients};

/// Grows networks with one growth method.
pub struct Grower {
    method: Box<dyn GrowthMethod>,
    name: Option<String>,
    placement: Placement,
    second_moments: SecondMoments,
    verification: Verification,
    tolerance: f64,
    evidence_memory: usize,
    rescale: bool,
    pub(super) first_step: FirstStep,
    seed: Seed,
    sums: SharedSums,
}

/// By how much rescaling may change the largest output: a batch norm's epsilon counts for more where weights are smaller.
const RESCALING_TOLERANCE: f64 = 1e-2;

/// A grown network, with everything that training goes on with.
pub struct Growth<N: Growable> {
    /// The widened network.
    pub network: N,
    /// The optimizer, its state carried.
    pub optimizer: ModuleOptimizer,
    /// The pass over the growth batch, as the grown network would have given it: growth leaves output, loss and the old
    /// gradients as they are, and the new ones are the branch's own derivatives. A training step can go on from it.
    /// None unless the growth batch is [the training step's](EventContext::batch_is_training_step), in one part, the
    /// function is preserved, and no site has [unseen](Site::unseen) layers.
    pub training_pass: Option<TrainingPass<N::Output>>,
    /// What was done.
    pub receipt: Receipt,
    /// What was done to the parameters, for averages of them.
    pub widening: Widening,
    /// What was computed beyond the probed pass and the verification.
    pub(crate) work: Work,
}

impl Grower {
    /// A grower with the default placement, full verification, and carried optimizer state.
    pub fn new(method: impl GrowthMethod + 'static) -> Self {
        Self::boxed(Box::new(method))
    }

    /// As [`new`](Self::new), for a growth method chosen at run time.
    pub fn boxed(method: Box<dyn GrowthMethod>) -> Self {
        Self {
            method,
            name: None,
            placement: Placement::default(),
            second_moments: SecondMoments::default(),
            verification: Verification::default(),
            tolerance: 1e-5,
            evidence_memory: EVIDENCE_MEMORY,
            rescale: false,
            first_step: FirstStep::default(),
            seed: Seed::new(0),
            sums: alone(),
        }
    }

    /// Sets zero side, scale and epsilon.
    #[must_use]
    pub fn with_placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Sets what new entries of second moments start with.
    #[must_use]
    pub fn with_second_moments(mut self, second_moments: SecondMoments) -> Self {
        self.second_moments = second_moments;
        self
    }

    /// Sets how much of each event is verified.
    #[must_use]
    pub fn with_verification(mut self, verification: Verification) -> Self {
        self.verification = verification;
        self
    }

    /// Sets the largest relative output change that a function-preserving method may cause (default 1e-5: rounding).
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Sets how many bytes of evidence of a growth batch in several parts are kept (default [`EVIDENCE_MEMORY`]). Where
    /// there is more, growth matrices are summed part by part, and methods that look at neurons again pass over the
    /// batch again: slower, with results that are the same to rounding.
    #[must_use]
    pub fn with_evidence_memory(mut self, bytes: usize) -> Self {
        self.evidence_memory = bytes;
        self
    }

    /// Sets whether layers that are to read more are rescaled first, where a batch norm follows: weights with `d` inputs
    /// that get `d'` are multiplied by `sqrt(d / d')`, and the norm's running statistics fitted (Yuan et al. 2023). It
    /// takes a look of its own, and one more pass to verify it.
    #[must_use]
    pub fn with_rescaling(mut self, rescale: bool) -> Self {
        self.rescale = rescale;
        self
    }

    /// Sets how the optimizer's first step with new weights follows from their gradient: policies ask what neurons gain by it.
    #[must_use]
    pub fn with_first_step(mut self, first_step: FirstStep) -> Self {
        self.first_step = first_step;
        self
    }

    /// Sets the seed of what growth methods draw; events and sites fold it.
    #[must_use]
    pub fn with_seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Sets what sums over examples go through, where several machines look at a part of the growth batch each.
    #[must_use]
    pub fn with_sums(mut self, sums: Arc<dyn Sums>) -> Self {
        self.sums = sums;
        self
    }

    /// Sets the name that receipts and messages call the method by; the growth method's own if not set.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The method's name.
    pub fn method(&self) -> &str {
        self.name.as_deref().unwrap_or(self.method.name())
    }

    /// Checks, before any training, that the network can be grown by this grower.
    ///
    /// # Errors
    /// Those of [`Site::check`] and, with zero incoming weights, [`Site::slopes_at_zero`]; [`Error::RepeatedSite`],
    /// [`Error::SharedProducer`], [`Error::SharedParameter`] and [`Error::FloatType`]; [`Error::BadOption`].
    pub fn check<N: Growable>(&self, network: &N) -> Result<(), Error> {
        self.placement.check()?;
        self.method.check()?;
        let (sites, device) = (network.sites(), device_of(network));
        check_sites(network, &sites)?;
        sites.iter().try_for_each(|site| self.check_site(site, &device))?;
        // What is to be copied is there already.
        let missing = || sites.iter().filter(|site| site.series.is_some() && site.width() == 0);
        let plan = missing().map(|site| Planned { site: site.name.clone(), count: 1 }).collect::<Vec<_>>();
        missing().try_for_each(|site| self.template_of(site, &plan, &sites).map(|_| ()))
    }

    fn check_site(&self, site: &Site, device: &Device) -> Result<(), Error> {
        site.check()?;
        self.method.check_site(site)?;
        match zero_side_of(&*self.method, self.placement, site) {
            Some(Side::Incoming) => site.slopes_at_zero(device).map(|_| ()),
            Some(Side::Outgoing) | None => Ok(()),
        }
    }

    /// Grows a network on one growth batch; `pass` computes output and mean loss, showing the sites to the probe.
    ///
    /// # Errors
    /// Any [`Error`] of the sites, the growth method or the verification. The network and the optimizer are only read,
    /// so a failed event loses nothing.
    pub fn grow<N: Growable>(
        &self,
        network: &N,
        optimizer: &ModuleOptimizer,
        plan: &[Planned],
        pass: impl Fn(&N, &mut dyn Probe) -> Pass<N::Output>,
    ) -> Result<Growth<N>, Error> {
        let parts = [Part::whole(pass)];
        self.grow_on(network, optimizer, plan, &parts, EventContext::default())
    }

    /// As [`grow`](Self::grow), with a growth batch in several parts.
    ///
    /// # Errors
    /// As [`grow`](Self::grow).
    pub fn grow_on<N: Growable>(
        &self,
        network: &N,
        optimizer: &ModuleOptimizer,
        plan: &[Planned],
        parts: &[Part<'_, N>],
        context: EventContext,
    ) -> Result<Growth<N>, Error> {
        self.grow_from(network, optimizer, plan, parts, context, None)
    }

    /// As [`grow_on`](Self::grow_on), from a probed pass over the parts if it was taken before.
    pub(crate) fn grow_from<N: Growable>(
        &self,
        network: &N,
        optimizer: &ModuleOptimizer,
        plan: &[Planned],
        parts: &[Part<'_, N>],
        context: EventContext,
        taken: Option<Taken<N>>,
    ) -> Result<Growth<N>, Error> {
        let device = device_of(network);
        // Before the costly part: a plan that cannot be carried out is refused at once.
        let planned = self.planned_sites(network, plan, &device)?;
        let rescaling = match self.rescale {
            true => Rescaling::of(&planned, &network.sites()),
            false => Rescaling::default(),
        };
        if !rescaling.is_empty() {
            let look_before = taken.map(|taken| taken.looked.work);
            let rescaled = rescaling.apply(independent(network));
            let taken = Taken::of(&rescaled, parts, self.evidence_memory, &self.sums)?;
            let change = self.rescaling_change((network, parts), &taken.looked, context)?;
            // The look at the network as it was does not count for the one that grows.
            let planned = self.planned_sites(&rescaled, plan, &device)?;
            let probe = taken.milliseconds;
            let mut growth = self.grow_after(&rescaled, optimizer, planned, parts, context, (&taken, probe))?;
            (growth.widening.rescaling, growth.receipt.rescaling_change) = (rescaling, change);
            if let Some(before) = look_before {
                growth.work.pass(1.0);
                growth.work.add(&before);
            }
            return Ok(growth);
        }
        let taken = match taken {
            Some(taken) => taken,
            None => Taken::of(network, parts, self.evidence_memory, &self.sums)?,
        };
        let probe = taken.milliseconds;
        self.grow_after(network, optimizer, planned, parts, context, (&taken, probe))
    }

    /// By how much rescaling changes the largest output, by a pass through the network as it was; none if nothing is
    /// verified.
    fn rescaling_change<N: Growable>(
        &self,
        (network, parts): (&N, &[Part<'_, N>]),
        rescaled: &Looked<N::Output>,
        context: EventContext,
    ) -> Result<Option<f64>, Error> {
        if self.verification == Verification::Off {
            return Ok(None);
        }
        let (before, mut change) = (independent(network), Change::default());
        for (part, output) in parts.iter().zip(&rescaled.outputs) {
            change.count(&part.run(&before, &mut ())?.output.inner(), output);
        }
        change.share(&self.sums);
        let change = change.relative();
        match is_within(change, RESCALING_TOLERANCE) {
            true => Ok(Some(change)),
            false => Err(Error::RescalingChanges { step: context.step, change, tolerance: RESCALING_TOLERANCE }),
        }
    }

    /// What sums over examples go through.
    pub(crate) fn sums(&self) -> &SharedSums {
        &self.sums
    }

    /// How many bytes of evidence are kept.
    pub(crate) fn evidence_memory(&self) -> usize {
        self.evidence_memory
    }

    /// As [`grow_on`](Self::grow_on), after a look that is shared with other events: several methods, or several draws
    /// of one, at the same network on the same growth batch. The receipt does not count the look, and no training step
    /// goes on from it.
    ///
    /// # Errors
    /// As [`grow`](Self::grow).
    pub fn grow_looked<N: Growable>(
        &self,
        network: &N,
        optimizer: &ModuleOptimizer,
        plan: &[Planned],
        context: EventContext,
        look: &Look<'_, N>,
    ) -> Result<Growth<N>, Error> {
        let context = EventContext { batch_is_training_step: false, ..context };
        let planned = self.planned_sites(network, plan, &device_of(network))?;
        self.grow_after(network, optimizer, planned, &look.parts, context, (&look.taken, 0.0))
    }

    /// Grows sites by so many neurons after a look, of which so many milliseconds are the event's own.
    fn grow_after<N: Growable>(
        &self,
        network: &N,
        optimizer: &ModuleOptimizer,
        planned: Vec<PlannedSite>,
        parts: &[Part<'_, N>],
        context: EventContext,
        (taken, probe): (&Taken<N>, f64),
    ) -> Result<Growth<N>, Error> {
        let device = device_of(network);
        let Taken { looking, looked, .. } = taken;
        if !looked.loss.is_finite() {
            return Err(Error::LossNotFinite { step: context.step, loss: looked.loss });
        }
        let mut clock = Clock::start(&device);
        // The copy that was looked at passes again, so that batch norm's statistics of the network itself stay as they
        // are.
        let replay = looked.replay(looking, parts);
        let chosen = self.choosing(context.event).choose(planned, network, parts, looked.seen(&replay))?;
        // A copy that counts no further: what comes now is the verification's.
        let work = looked.work.so_far();
        let initialize = clock.lap();

        let additions = chosen.iter().map(Chosen::addition).collect::<Vec<_>>();
        let extensions = additions.iter().flat_map(Addition::all).cloned().collect::<Vec<_>>();
        let maps = IndexMaps::of(&extensions);
        let shifts = chosen.iter().flat_map(Chosen::changes).collect::<Vec<_>>();
        let (grown, training_pass) = widened(network, taken, &chosen, (&shifts, &maps), context)?;
        let widen = clock.lap();

        let Carried { optimizer, reset, unknown_fields } = carry_by(optimizer.clone(), &maps, self.second_moments)?;
        let carry = clock.lap();

        let tolerance = chosen.iter().all(Chosen::preserves_function).then_some(self.tolerance);
        let before = Before { network, looked, sums: &self.sums };
        let magnitudes = magnitudes(&chosen, looked.seen(&replay))?;
        let what =
            Grown { step: context.step, chosen: &chosen, magnitudes: &magnitudes, additions: &additions, maps: &maps };
        let verified = verify(self.verification, &before, (&grown, &what), parts, tolerance)?;
        let laps = [probe, initialize, widen, carry, clock.lap()];

        let receipt = Receipt {
            method: self.method().to_string(),
            loss_before: looked.loss,
            optimizer_reset: paths_of(&grown, &reset),
            optimizer_unknown_fields: unknown_fields,
            timing: timing(laps, context, training_pass.is_some()),
            ..receipt(context.event, &what, &verified, [network, &grown])
        };
        drop(maps);
        let widening = Widening { rescaling: Rescaling::default(), shifts, extensions };
        Ok(Growth { network: grown, optimizer, training_pass, receipt, widening, work })
    }

    fn choosing(&self, event: usize) -> Choosing<'_> {
        self.choosing_by(&*self.method, event)
    }

    /// As [`choosing`](Self::choosing), with another growth method.
    pub(super) fn choosing_by<'a>(&'a self, method: &'a dyn GrowthMethod, event: usize) -> Choosing<'a> {
        Choosing {
            method,
            name: self.method(),
            placement: self.placement,
            seed: self.seed.at(event as u64),
            sums: &self.sums,
        }
    }

    fn refused(&self, site: &Site, reason: String) -> Error {
        Error::Method { method: self.method().to_string(), site: site.name.clone(), reason }
    }

    /// The site that the growth method copies where it grows this one, if it copies any.
    fn template_of<'s>(&self, site: &Site, plan: &[Planned], sites: &'s [Site]) -> Result<Option<&'s Site>, Error> {
        let is_of_series = |other: &&Site| match &site.series {
            Some(_) => other.series == site.series,
            None => other.name == site.name,
        };
        let all = sites.iter().filter(is_of_series).collect::<Vec<_>>();
        let grows = |place: &usize| plan.iter().any(|planned| planned.site == all[*place].name);
        let series = Series {
            widths: all.iter().map(|site| site.width()).collect(),
            growing: (0..all.len()).filter(grows).collect(),
            place: all.iter().position(|other| other.name == site.name).unwrap_or_default(),
        };
        let template = self.method.template(&series).map_err(|reason| self.refused(site, reason))?;
        Ok(template.map(|place| all[place]))
    }

    /// The plan's sites, each with the neurons it gains, all checked before anything is measured.
    fn planned_sites<N: Growable>(
        &self,
        network: &N,
        plan: &[Planned],
        device: &Device,
    ) -> Result<Vec<PlannedSite>, Error> {
        let sites = network.sites();
        check_sites(network, &sites)?;
        check_names(plan.iter().map(|planned| planned.site.as_str()))?;
        let find = |planned: &Planned| {
            if planned.count == 0 {
                return Err(Error::NothingToGrow { site: planned.site.clone() });
            }
            let site = site_named(&planned.site, &sites)?;
            self.check_site(site, device)?;
            site.check_growth(planned.count)?;
            let site = match self.template_of(site, plan, &sites)? {
                Some(template) => copied(site, template, planned.count).map_err(|reason| self.refused(site, reason))?,
                None => site.clone(),
            };
            Ok((site, planned.count))
        };
        plan.iter().map(find).collect()
    }
}

/// A site that is to gain so many neurons, as copies of another site's.
fn copied(site: &Site, template: &Site, count: usize) -> Result<Site, String> {
    let layout = |site: &Site| {
        let front = site.front.as_ref().map(|front| (front.features(), front.has_summand()));
        (site.fan_in(), site.fan_out(), site.unit(), site.writers.len(), site.paths.len(), site.blocks(), front)
    };
    match template {
        _ if template.width() != count => {
            Err(format!("it copies the {} neurons of `{}`, and {count} are planned", template.width(), template.name))
        }
        _ if layout(site) != layout(template) => {
            Err(format!("its layers are not of the same shapes as those of `{}`", template.name))
        }
        _ if site.blocks() > 1 || !gains_between(site).is_empty() => {
            Err("norms, kernels of single channels and groups between writer and readers are not copied".into())
        }
        _ => Ok(site.clone().copied_from(template)),
    }
}

/// A network with new neurons, and the pass over the growth batch that a training step can go on from.
type Widened<N> = (N, Option<TrainingPass<<N as Growable>::Output>>);

/// Widens the network by what was chosen.
fn widened<N: Growable>(
    network: &N,
    taken: &Taken<N>,
    chosen: &[Chosen],
    (shifts, maps): (&[Extension], &IndexMaps<'_>),
    context: EventContext,
) -> Result<Widened<N>, Error> {
    // A training step may go on from this pass only if the grown network's own pass would give the same gradients.
    let keeps_gradients = chosen.iter().all(Chosen::keeps_gradients) && !meet(chosen);
    let pass = match keeps_gradients && context.batch_is_training_step {
        true => taken.looked.pass.take(),
        false => None,
    };
    // A pass that training goes on from counts in the running statistics; any other does not.
    let counted = if pass.is_some() { &taken.looking } else { network };
    let grown = widen_by(shift(independent(counted), shifts), maps)?;
    let pass = pass.map(|pass| widen_pass(pass, &grown, chosen));
    Ok((grown, pass))
}

/// Whether new weights between the new neurons of one site and those of another receive a gradient: the ones are not
/// silent, and the others are read. They start as zeros, and belong to neither site's branch.
fn meet(chosen: &[Chosen]) -> bool {
    let reads = |reader: &Chosen, read: &Chosen| {
        let is_written = |weight| reader.site.writers.iter().any(|writer| writer.weight() == weight);
        read.site.paths.iter().any(|path| is_written(path.consumer.weight()))
    };
    let silent = |chosen: &Chosen| chosen.blocks.iter().all(|block| block.neurons.are_silent());
    let unread = |chosen: &Chosen| chosen.blocks.iter().all(|block| block.neurons.outgoing.norm_max() == 0.0);
    chosen.iter().any(|reader| !unread(reader) && chosen.iter().any(|read| !silent(read) && reads(reader, read)))
}

/// The pass at the network before growth, as it is at the grown one.
fn widen_pass<N: Growable>(pass: TrainingPass<N::Output>, grown: &N, chosen: &[Chosen]) -> TrainingPass<N::Output> {
    let new = chosen.iter().flat_map(|chosen| chosen.gradient_addition().all().cloned().collect::<Vec<_>>());
    TrainingPass { gradients: widen_gradients(grown, pass.gradients, &new.collect::<Vec<_>>()), ..pass }
}

/// The receipt of an event at the network before and after it, as far as these and the verification tell.
fn receipt<N: Growable>(event: usize, what: &Grown<'_>, verified: &Verified, networks: [&N; 2]) -> Receipt {
    Receipt {
        step: what.step,
        event,
        loss_after: verified.loss,
        output_change: verified.output_change,
        tolerance: verified.tolerance,
        sites: site_receipts(what.chosen, what.magnitudes, verified),
        parameters: networks.map(trainable_parameters),
        flops: networks.map(Growable::flops),
        ..Receipt::default()
    }
}

fn site_receipts(chosen: &[Chosen], magnitudes: &[f64], verified: &Verified) -> Vec<SiteReceipt> {
    let receipt = |(index, chosen): (usize, &Chosen)| SiteReceipt {
        site: chosen.site.name.clone(),
        added: chosen.count(),
        width: chosen.site.width() + chosen.count(),
        singular_values: chosen.blocks.iter().flat_map(|block| block.neurons.singular_values.clone()).collect(),
        predicted_gradient_norm: chosen.predicted_gradient_norm(),
        without_gradient: chosen.has_no_gradient(magnitudes[index]) || verified.only_rounding.get(index) == Some(&true),
        gradient_norm: verified.gradient_norms.get(index).map(|norms| norms.incoming),
        outgoing_gradient_norm: verified.gradient_norms.get(index).map(|norms| norms.outgoing),
    };
    chosen.iter().enumerate().map(receipt).collect()
}

/// What the laps mean: the probed pass is part of the growth's cost; where a training step goes on from it, only what
/// it takes beyond an ordinary one.
fn timing(laps: [f64; 5], context: EventContext, probe_is_training_step: bool) -> Timing {
    let [probe, initialize, widen, carry, verify] = laps;
    let ordinary = if probe_is_training_step { context.training_pass.unwrap_or(0.0) } else { 0.0 };
    let own_probe = (probe - ordinary).max(0.0);
    let growth = own_probe + initialize + widen + carry;
    let growth_in_steps = context.training_step.map(|step| growth / step);
    let training_step = context.training_step;
    Timing { probe, probe_is_training_step, initialize, widen, carry, verify, growth, training_step, growth_in_steps }
}
