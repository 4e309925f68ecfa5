//! Progress bars.

use gradmax::{Growable, Observer, ObserverError, Receipt, Row, Split};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// All bars of the program; hidden when asked to be quiet, or where there is no terminal.
pub struct Bars {
    all: MultiProgress,
    quiet: bool,
}

impl Bars {
    pub fn new(quiet: bool) -> Self {
        Self { all: MultiProgress::new(), quiet }
    }

    /// Says something between bars.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
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
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        let bar = self.all.add(ProgressBar::no_length());
        bar.set_style(style);
        bar.set_prefix(name.to_string());
        bar
    }
}

/// Moves a bar with the steps of a run.
pub struct Steps {
    bar: ProgressBar,
    loss: f64,
    parameters: usize,
}

impl Steps {
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
