//! Progress bars.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gradmax::event::Receipt;
use gradmax::policies::Budget;
use gradmax::site::Growable;
use gradmax::training::{Observer, ObserverError, Progress, Row, Split, Undone};
use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::output;
use crate::report::{growth_sentence, undone_sentence};

/// All bars of the program. Nothing is shown when asked to be quiet; where there is no terminal, a line now and then
/// takes the place of bars.
pub struct Bars {
    all: MultiProgress,
    quiet: bool,
    teller: Option<Teller>,
}

impl Bars {
    /// Where progress is shown; nowhere if asked to be quiet.
    pub fn new(quiet: bool) -> Self {
        let teller =
            (!quiet && !std::io::stderr().is_terminal()).then(|| Teller::start(FIRST_LINE, NEXT_LINES, output::say));
        Self { all: MultiProgress::new(), quiet, teller }
    }

    /// Says something between bars.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            output::say(text);
        }
    }

    /// A bar for one run.
    pub fn run(&self, name: &str) -> ProgressBar {
        self.bar(name, "{prefix:28} {bar:24} {pos}/{len} steps, {speed}, {left} left  {msg}", Pace::OfLately)
    }

    /// The bar of the only run, which tells of its growth events as well.
    pub fn only_run(&self, name: &str) -> RunBar {
        let tells: fn(&ProgressBar, &str) = match &self.teller {
            Some(_) => |_, text| output::say(text),
            None => |bar, text| bar.println(text),
        };
        RunBar { bar: self.run(name), tells: (!self.quiet).then_some(tells) }
    }

    /// A bar for everything, of so much work, of which so much was done before; its message says what is done.
    pub fn all(&self, work: u64, before: u64) -> ProgressBar {
        let pace = Pace::OfAll { before };
        let bar = self.bar("all", "{prefix:28} {bar:24} {msg}, {elapsed} so far, {left} left", pace);
        bar.set_length(work);
        bar.set_position(before);
        bar
    }

    /// A bar for a number of things.
    pub fn counted(&self, name: &str, count: u64) -> ProgressBar {
        let pace = Pace::OfAll { before: 0 };
        let bar = self.bar(name, "{prefix:28} {bar:24} {pos}/{len}, {elapsed} so far, {left} left", pace);
        bar.set_length(count);
        bar
    }

    fn bar(&self, name: &str, template: &str, pace: Pace) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let bar = match &self.teller {
            Some(teller) => teller.tells_of(ProgressBar::hidden(), pace),
            None => self.all.add(ProgressBar::no_length()),
        };
        let speed = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            let _ = write!(text, "{:.*} a second", usize::from(state.per_sec() < 10.0), state.per_sec());
        };
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        let left = move |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            let left = pace.left(state.pos(), state.len(), state.elapsed(), state.eta());
            let _ = match left {
                Some(left) => write!(text, "{:#}", HumanDuration(left)),
                None => write!(text, "-"),
            };
        };
        let style = style.with_key("speed", speed).with_key("left", left);
        bar.set_style(style);
        bar.set_prefix(name.to_string());
        bar
    }
}

/// By what speed the time that is left is told.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pace {
    /// That of the last steps: a run slows down as its network grows.
    OfLately,
    /// That since the bar's start, when so much had been done before: jobs end in bursts.
    OfAll { before: u64 },
}

/// What takes longer is not worth telling: so far off are estimates after a pause.
const LONGEST: Duration = Duration::from_secs(100 * 24 * 60 * 60);

impl Pace {
    /// The time left at a position, some time after the start, where it is so long at the speed of lately.
    fn left(self, position: u64, length: Option<u64>, elapsed: Duration, of_lately: Duration) -> Option<Duration> {
        let left = match self {
            Self::OfLately => of_lately,
            Self::OfAll { before } => {
                let done = position.checked_sub(before).filter(|done| *done > 0)?;
                let seconds = elapsed.as_secs_f64() * length?.saturating_sub(position) as f64 / done as f64;
                Duration::try_from_secs_f64(seconds).ok()?
            }
        };
        (left.as_secs() > 0 && left < LONGEST).then_some(left)
    }
}

/// Time until the first line about a run, and between two further ones.
const FIRST_LINE: Duration = Duration::from_secs(10);
const NEXT_LINES: Duration = Duration::from_secs(30);

/// Says from time to time how far every bar is; ends when it is dropped.
struct Teller {
    bars: Arc<Mutex<Vec<(ProgressBar, Pace)>>>,
    _until: Sender<()>,
}

impl Teller {
    fn start(first: Duration, next: Duration, say: impl Fn(&str) + Send + 'static) -> Self {
        let (until, ended) = channel::<()>();
        let bars = Arc::<Mutex<Vec<(ProgressBar, Pace)>>>::default();
        let told = bars.clone();
        std::thread::spawn(move || {
            let mut wait = first;
            // The sender is never used: it disconnects when the teller is dropped.
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = next;
                let mut bars = told.lock().unwrap_or_else(PoisonError::into_inner);
                bars.retain(|(bar, _)| !bar.is_finished());
                bars.iter().for_each(|(bar, pace)| say(&line(bar, *pace)));
            }
        });
        Self { bars, _until: until }
    }

    fn tells_of(&self, bar: ProgressBar, pace: Pace) -> ProgressBar {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).push((bar.clone(), pace));
        bar
    }
}

/// How far a bar is, in a line.
fn line(bar: &ProgressBar, pace: Pace) -> String {
    let share = bar.length().filter(|length| *length > 0).map(|length| 100 * bar.position() / length);
    // A run that has just gone on after a pause has no speed yet.
    let speed = Some(bar.per_sec()).filter(|speed| pace == Pace::OfLately && *speed >= 0.05);
    let speed = speed.map(|speed| format!("{speed:.1} steps a second"));
    let left = pace.left(bar.position(), bar.length(), bar.elapsed(), bar.eta());
    let left = left.map(|left| format!("{} left", HumanDuration(left)));
    let message = Some(bar.message()).filter(|message| !message.is_empty());
    let parts = [share.map(|share| format!("{share} %")), message, speed.filter(|_| bar.length().is_some()), left];
    let said = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    format!("{}: {}", bar.prefix(), if said.is_empty() { "started" } else { &said })
}

/// The bar of a run, and whether its growth events are told too.
pub struct RunBar {
    bar: ProgressBar,
    tells: Option<fn(&ProgressBar, &str)>,
}

impl RunBar {
    /// One of many that are shown: its growth events would be too much to read.
    pub fn one_of_many(bar: ProgressBar) -> Self {
        Self { bar, tells: None }
    }

    /// The bar itself.
    pub fn bar(&self) -> &ProgressBar {
        &self.bar
    }
}

/// Moves a bar with the steps of a run.
pub struct Steps {
    bar: RunBar,
    /// Its steps at most, and what can end it before.
    steps: usize,
    budget: Budget,
    loss: Option<f64>,
    /// The last score, on validation or test examples where these have one.
    score: Option<f64>,
    /// The width of every site.
    widths: Vec<(String, usize)>,
}

/// Sites whose widths are shown one by one.
const SITES: usize = 4;

impl Steps {
    /// An observer that moves a bar, for a run of so many steps at most that is at this point.
    pub fn new(bar: RunBar, steps: usize, budget: Budget, progress: &Progress) -> Self {
        bar.bar.set_length(steps as u64);
        bar.bar.set_position(progress.step as u64);
        // Speed and time left are those of the steps from here on.
        bar.bar.reset_eta();
        let widths = progress.sites.iter().map(|site| (site.site.clone(), site.width)).collect();
        Self { bar, steps, budget, loss: None, score: None, widths }
    }

    fn show(&self) {
        let loss = self.loss.map(|loss| format!("loss {loss:.4}"));
        let score = self.score.map(|score| format!("score {:.1} %", 100.0 * score));
        let widths = match self.widths.len() {
            0 => None,
            count if count > SITES => {
                let neurons = self.widths.iter().map(|(_, width)| width).sum::<usize>();
                Some(format!("{neurons} neurons at {count} sites"))
            }
            _ => Some(self.widths.iter().map(|(site, width)| format!("{site} {width}")).collect::<Vec<_>>().join(" ")),
        };
        self.bar.bar.set_message([loss, score, widths].into_iter().flatten().collect::<Vec<_>>().join(", "));
    }

    fn tell(&self, sentence: &str) {
        if let Some(tell) = self.bar.tells {
            tell(&self.bar.bar, sentence);
        }
    }
}

impl<N: Growable> Observer<N> for Steps {
    fn stepped(&mut self, step: usize) -> Result<(), ObserverError> {
        self.bar.bar.set_position(step as u64);
        Ok(())
    }

    fn logged(&mut self, row: &Row) -> Result<(), ObserverError> {
        let spent = self.budget.spent(row.flops, row.seconds);
        if row.step > 0 && spent > 0.0 {
            // As many steps as there will be if they go on spending as much.
            let by_budget = (row.step as f64 / spent).ceil() as usize;
            self.bar.bar.set_length(by_budget.clamp(row.step, self.steps.max(row.step)) as u64);
        }
        match row.split {
            Split::Train => self.loss = Some(row.loss),
            Split::Validation | Split::Test => self.score = row.score,
        }
        self.show();
        Ok(())
    }

    fn grown(&mut self, receipt: &Receipt) -> Result<(), ObserverError> {
        for grown in &receipt.sites {
            self.widths.iter_mut().filter(|(site, _)| *site == grown.site).for_each(|(_, width)| *width = grown.width);
        }
        self.show();
        self.tell(&growth_sentence(receipt));
        Ok(())
    }

    fn undone(&mut self, undone: &Undone) -> Result<(), ObserverError> {
        for narrower in &undone.shrinkage.sites {
            let of_site = self.widths.iter_mut().filter(|(site, _)| *site == narrower.site);
            of_site.for_each(|(_, width)| *width = narrower.after);
        }
        self.show();
        self.tell(&undone_sentence(undone));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_time_left_of_many_jobs_is_that_of_what_was_done_since_the_start() {
        let seconds = Duration::from_secs;
        // 30 of 40 were done before, 2 more in a minute: 8 take four minutes, whatever the last burst looks like.
        let pace = Pace::OfAll { before: 30 };
        assert_eq!(pace.left(32, Some(40), seconds(60), seconds(9_999)), Some(seconds(240)));
        assert_eq!(pace.left(30, Some(40), seconds(60), seconds(9_999)), None, "nothing has been done yet");
        assert_eq!(Pace::OfLately.left(30, Some(40), seconds(60), seconds(20)), Some(seconds(20)));
        // What a paused run is thought to take.
        assert_eq!(Pace::OfLately.left(30, Some(40), seconds(60), Duration::MAX), None);
    }

    #[test]
    fn without_a_terminal_lines_say_how_far_runs_are() {
        let said = Arc::<Mutex<Vec<String>>>::default();
        let keep = said.clone();
        let short = Duration::from_millis(10);
        let teller = Teller::start(short, short, move |text| keep.lock().unwrap().push(text.into()));
        let bar = teller.tells_of(ProgressBar::hidden(), Pace::OfLately);
        bar.set_prefix("gradmax seed 0");
        bar.set_length(200);
        bar.set_position(50);
        bar.set_message("loss 0.5000, 96 parameters");
        let waited = Instant::now();
        while !said
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.starts_with("gradmax seed 0: 25 %, loss 0.5000, 96 parameters"))
        {
            assert!(waited.elapsed() < Duration::from_secs(20), "{said:?}");
            std::thread::sleep(short);
        }
        bar.finish_and_clear();
        std::thread::sleep(5 * short);
        let count = said.lock().unwrap().len();
        std::thread::sleep(5 * short);
        assert_eq!(said.lock().unwrap().len(), count, "a finished run is told of no more");
    }
}
