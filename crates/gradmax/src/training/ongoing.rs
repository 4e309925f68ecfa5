//! A run while it is in the trainer's hands, with what is timed along the way.

use std::time::Instant;

use crate::error::Error;
use crate::event::context::EventContext;
use crate::event::grower::Growth;
use crate::event::pass::TrainingPass;
use crate::event::receipt::Receipt;
use crate::operator::work::Work;
use crate::site::growable::{Growable, trainable_parameters};
use crate::training::cohorts::CohortSteps;
use crate::training::run::Run;

/// A run, and what is known about it since it was started or resumed.
pub(crate) struct Ongoing<N: Growable> {
    pub(crate) run: Run<N>,
    pub(crate) started: Instant,
    step_seconds: Vec<f64>,
    /// Of these, the seconds of forward and backward passes.
    pass_seconds: Vec<f64>,
    steps_since_growth: usize,
    pub(crate) cohort_steps: CohortSteps,
}

/// The receipt of an event, the pass that a training step can go on from, and what was computed.
pub(crate) type Grew<N> = (Receipt, Option<TrainingPass<<N as Growable>::Output>>, Work);

/// Steps that the median of a training step's time is taken over.
const RECENT_STEPS: usize = 100;

impl<N: Growable> Ongoing<N> {
    pub(crate) fn new(run: Run<N>) -> Self {
        Self {
            run,
            started: Instant::now(),
            step_seconds: Vec::new(),
            pass_seconds: Vec::new(),
            steps_since_growth: 0,
            cohort_steps: CohortSteps::default(),
        }
    }

    /// Counts a whole step that took until now, of which its forward and backward pass took so many seconds.
    pub(crate) fn took(&mut self, started: Instant, pass_seconds: f64) {
        self.step_seconds.push(started.elapsed().as_secs_f64());
        self.pass_seconds.push(pass_seconds);
        self.steps_since_growth += 1;
    }

    /// What a growth event at the next step is told about the run.
    pub(crate) fn event_context(&self, batch_is_training_step: bool) -> EventContext {
        EventContext {
            step: self.run.progress.step,
            event: self.run.progress.events,
            batch_is_training_step,
            training_step: self.recent_milliseconds(&self.step_seconds),
            training_pass: self.recent_milliseconds(&self.pass_seconds),
        }
    }

    /// Goes on with the grown network; returns the receipt, and the pass that a training step can go on from.
    pub(crate) fn grew(&mut self, grown: Growth<N>, started: Instant) -> Result<Grew<N>, Error> {
        let Growth { network, optimizer, training_pass, receipt, widening, work } = grown;
        self.run.progress.cohorts.grow(&self.run.network, &widening, self.run.progress.step);
        self.run.average = self.run.average.take().map(|average| widening.apply(average)).transpose()?;
        (self.run.network, self.run.optimizer, self.steps_since_growth) = (network, optimizer, 0);
        let progress = &mut self.run.progress;
        progress.events += 1;
        for site in &receipt.sites {
            progress.sites.iter_mut().filter(|at| at.site == site.site).for_each(|at| at.width = site.width);
        }
        progress.growth_seconds += started.elapsed().as_secs_f64();
        Ok((receipt, training_pass, work))
    }

    /// The network has lost neurons: steps take another time from here on, and cohorts other weights.
    pub(crate) fn changed_widths(&mut self) {
        (self.steps_since_growth, self.cohort_steps) = (0, CohortSteps::default());
    }

    /// Adds the time since the last call to the run's.
    pub(crate) fn count_seconds(&mut self) {
        self.run.progress.seconds += self.started.elapsed().as_secs_f64();
        self.started = Instant::now();
    }

    /// Median milliseconds of the last steps of the network as it is.
    fn recent_milliseconds(&self, seconds: &[f64]) -> Option<f64> {
        let recent = self.steps_since_growth.min(RECENT_STEPS).min(seconds.len());
        median(&seconds[seconds.len() - recent..]).map(|seconds| seconds * 1e3)
    }

    /// Goes on without a growth event that failed; returns its receipt.
    pub(crate) fn passed_over_growth(&mut self, context: EventContext, method: &str, error: &Error) -> Receipt {
        let Run { network, progress, .. } = &mut self.run;
        progress.events += 1;
        let size = [trainable_parameters(network) as u64, network.flops()];
        Receipt::of_refused(context, method, error.to_string(), size)
    }

    /// Median seconds of all steps since the run was started or resumed.
    pub(crate) fn step_seconds_median(&self) -> f64 {
        median(&self.step_seconds).unwrap_or(0.0)
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        even if even % 2 == 0 => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        _ => Some(sorted[middle]),
    }
}
