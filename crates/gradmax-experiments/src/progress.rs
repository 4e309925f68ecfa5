//! Progress bars.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gradmax::event::Receipt;
use gradmax::site::Growable;
use gradmax::training::{Observer, ObserverError, Row, Split};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output;

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
        self.bar(name, "{prefix:28} {bar:24} {pos}/{len} steps, {eta} left  {msg}")
    }

    /// A bar for everything, of so much work; its message says what is done.
    pub fn all(&self, work: u64) -> ProgressBar {
        let bar = self.bar("all", "{prefix:28} {bar:24} {msg}, {elapsed} so far, {eta} left");
        bar.set_length(work);
        bar
    }

    /// A bar for a number of things.
    pub fn counted(&self, name: &str, count: u64) -> ProgressBar {
        let bar = self.bar(name, "{prefix:28} {bar:24} {pos}/{len}, {elapsed} so far, {eta} left");
        bar.set_length(count);
        bar
    }

    fn bar(&self, name: &str, template: &str) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let bar = match &self.teller {
            Some(teller) => teller.tells_of(ProgressBar::hidden()),
            None => self.all.add(ProgressBar::no_length()),
        };
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        bar.set_style(style);
        bar.set_prefix(name.to_string());
        bar
    }
}

/// Time until the first line about a run, and between two further ones.
const FIRST_LINE: Duration = Duration::from_secs(10);
const NEXT_LINES: Duration = Duration::from_secs(60);

/// Says from time to time how far every bar is; ends when it is dropped.
struct Teller {
    bars: Arc<Mutex<Vec<ProgressBar>>>,
    _until: Sender<()>,
}

impl Teller {
    fn start(first: Duration, next: Duration, say: impl Fn(&str) + Send + 'static) -> Self {
        let (until, ended) = channel::<()>();
        let bars = Arc::<Mutex<Vec<ProgressBar>>>::default();
        let told = bars.clone();
        std::thread::spawn(move || {
            let mut wait = first;
            // The sender is never used: it disconnects when the teller is dropped.
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = next;
                let mut bars = told.lock().unwrap_or_else(PoisonError::into_inner);
                bars.retain(|bar| !bar.is_finished());
                bars.iter().for_each(|bar| say(&line(bar)));
            }
        });
        Self { bars, _until: until }
    }

    fn tells_of(&self, bar: ProgressBar) -> ProgressBar {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).push(bar.clone());
        bar
    }
}

/// How far a bar is, in a line.
fn line(bar: &ProgressBar) -> String {
    let share = bar.length().filter(|length| *length > 0).map(|length| 100 * bar.position() / length);
    let parts = [share.map(|share| format!("{share} %")), Some(bar.message()).filter(|message| !message.is_empty())];
    let said = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    format!("{}: {}", bar.prefix(), if said.is_empty() { "started" } else { &said })
}

/// Moves a bar with the steps of a run.
pub struct Steps {
    bar: ProgressBar,
    loss: f64,
    parameters: usize,
}

impl Steps {
    /// An observer that moves a bar.
    pub fn new(bar: ProgressBar) -> Self {
        Self { bar, loss: f64::NAN, parameters: 0 }
    }

    fn show(&self) {
        self.bar.set_message(format!("loss {:.4}, {} parameters", self.loss, self.parameters));
    }
}

impl<N: Growable> Observer<N> for Steps {
    fn stepped(&mut self, step: usize) -> Result<(), ObserverError> {
        self.bar.set_position(step as u64);
        Ok(())
    }

    fn logged(&mut self, row: &Row) -> Result<(), ObserverError> {
        if row.split == Split::Train {
            (self.loss, self.parameters) = (row.loss, row.parameters);
            self.show();
        }
        Ok(())
    }

    fn grown(&mut self, receipt: &Receipt) -> Result<(), ObserverError> {
        self.parameters = receipt.parameters[1];
        self.show();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn without_a_terminal_lines_say_how_far_runs_are() {
        let said = Arc::<Mutex<Vec<String>>>::default();
        let keep = said.clone();
        let short = Duration::from_millis(10);
        let teller = Teller::start(short, short, move |text| keep.lock().unwrap().push(text.into()));
        let bar = teller.tells_of(ProgressBar::hidden());
        bar.set_prefix("gradmax seed 0");
        bar.set_length(200);
        bar.set_position(50);
        bar.set_message("loss 0.5000, 96 parameters");
        let waited = Instant::now();
        while !said.lock().unwrap().iter().any(|line| line == "gradmax seed 0: 25 %, loss 0.5000, 96 parameters") {
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
