//! The gradients of all parameters, summed over machines: in rows of many at a time, after a backward pass or during it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

use crate::error::Error;
use crate::sums::{Sums, append};

/// Entries of a row, about. A message for each tensor would cost more than what is in most of them; a single row of all
/// could only start when the last gradient is there.
const ROW: usize = 1 << 18;

impl dyn Sums + '_ {
    /// The sums of all gradients of a module, of which this machine's count with a weight: its share of the examples.
    pub(crate) fn gradients<M: Module>(&self, module: &M, gradients: GradientsParams, weight: f64) -> GradientsParams {
        if self.is_alone() {
            return gradients;
        }
        let mut rows = Rows::of(module, weight);
        gather(module, &gradients, |number, gradient| rows.fill(number, gradient));
        rows.entries.iter_mut().for_each(|row| self.sum_f32(row));
        spread(module, &rows.places, &rows.entries)
    }

    /// Takes a forward and a backward pass, and sums the gradients while the backward pass goes on: those of the last
    /// layers are on their way before those of the first ones are computed.
    ///
    /// None, and no pass, where that brings nothing: there is one row only, or the device does not show gradients early.
    /// Nothing else may be summed in the pass.
    pub(crate) fn gradients_of_pass<M: Module, T>(
        &self,
        module: &M,
        weight: f64,
        pass: impl FnOnce() -> Result<(T, GradientsParams), Error>,
    ) -> Option<Result<(T, GradientsParams), Error>> {
        let rows = Rows::of(module, weight);
        if self.is_alone() || rows.entries.len() < 2 {
            return None;
        }
        let (places, mut keys) = (rows.places.clone(), Keys(Vec::new()));
        module.visit(&mut keys);
        let numbers = keys.0.into_iter().enumerate().map(|(number, key)| Some((key?, number)));
        let numbers = numbers.collect::<Option<HashMap<_, _>>>()?;
        let (sender, receiver) = channel();
        Some(thread::scope(|scope| {
            let summed = |mut row: Vec<f32>| {
                self.sum_f32(&mut row);
                row
            };
            let summing = scope.spawn(move || receiver.into_iter().map(summed).collect::<Vec<_>>());
            // In here, so that a pass that panics drops the sender: the other thread would wait for more.
            let filling =
                Rc::new(RefCell::new(Filling { shown: vec![Shown::default(); places.len()], rows, next: 0, sender }));
            let see = {
                let filling = filling.clone();
                Rc::new(move |key: u64, entries: &[f32]| {
                    numbers.get(&key).into_iter().for_each(|number| filling.borrow_mut().fill(*number, entries));
                })
            };
            let passed = flexconv::with_gradients_seen(see, pass);
            if let Ok((_, gradients)) = &passed {
                filling.borrow_mut().end(module, gradients);
            }
            drop(filling);
            let mut sums = summing.join().unwrap_or_else(|panic| resume_unwind(panic));
            let (output, gradients) = passed?;
            self.mend(module, &gradients, &places, &mut sums, weight);
            Ok((output, spread(module, &places, &sums)))
        }))
    }
}

impl dyn Sums + '_ {
    /// Sums anew what any machine sent too early: gradients to which an operation of Burn's has added a part.
    fn mend<M: Module>(
        &self,
        module: &M,
        gradients: &GradientsParams,
        places: &[Place],
        sums: &mut [Vec<f32>],
        weight: f64,
    ) {
        let wrong = flags(sums, places.len(), 1).iter().map(|count| *count > 0.0).collect::<Vec<_>>();
        if !wrong.contains(&true) {
            return;
        }
        let mut again = Rows::of(module, weight);
        gather(module, gradients, |number, gradient| again.fill(number, gradient));
        for (place, _) in places.iter().zip(wrong).filter(|(_, wrong)| *wrong) {
            let range = place.start..place.start + place.length;
            let own = &mut again.entries[place.row][range.clone()];
            self.sum_f32(own);
            sums[place.row][range].copy_from_slice(own);
        }
    }
}

/// Where the gradient of a parameter lies.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    start: usize,
    length: usize,
}

/// Rows that the gradients of all trained parameters lie in.
struct Rows {
    /// Of the parameters, as a module visits them.
    places: Vec<Place>,
    /// The last row ends with two entries for each parameter: on how many machines it has a gradient, and on how many it
    /// was sent before that was complete.
    entries: Vec<Vec<f32>>,
    /// Parameters of each row that have not been filled in.
    missing: Vec<usize>,
    weight: f64,
}

impl Rows {
    fn of<M: Module>(module: &M, weight: f64) -> Self {
        let mut lengths = Lengths(Vec::new());
        module.visit(&mut lengths);
        // A backward pass comes to the last parameters first.
        let (mut sizes, mut missing) = (vec![0], vec![0]);
        let place = |length: &usize| {
            if sizes[sizes.len() - 1] >= ROW {
                sizes.push(0);
                missing.push(0);
            }
            let row = sizes.len() - 1;
            let place = Place { row, start: sizes[row], length: *length };
            sizes[row] += length;
            missing[row] += 1;
            place
        };
        let mut places = lengths.0.iter().rev().map(place).collect::<Vec<_>>();
        places.reverse();
        let last = sizes.len() - 1;
        sizes[last] += 2 * places.len();
        Self { places, entries: sizes.into_iter().map(|size| vec![0.0; size]).collect(), missing, weight }
    }

    /// Takes the gradient of a parameter, by its number.
    fn fill(&mut self, number: usize, gradient: &[f32]) {
        let Place { row, start, length } = self.places[number];
        let weighted = |entry: &f32| (f64::from(*entry) * self.weight) as f32;
        let to = self.entries[row][start..start + length].iter_mut();
        to.zip(gradient).for_each(|(to, entry)| *to = weighted(entry));
        self.missing[row] = self.missing[row].saturating_sub(1);
        *self.flag(0, number) = 1.0;
    }

    /// Says that the gradient of a parameter was sent before it was complete.
    fn mark(&mut self, number: usize) {
        *self.flag(1, number) = 1.0;
    }

    fn flag(&mut self, which: usize, number: usize) -> &mut f32 {
        let (count, last) = (self.places.len(), self.entries.len() - 1);
        let flags = &mut self.entries[last];
        let at = flags.len() - (2 - which) * count + number;
        &mut flags[at]
    }
}

/// One of the two entries that the last row ends with for each parameter.
fn flags(rows: &[Vec<f32>], count: usize, which: usize) -> &[f32] {
    let last = &rows[rows.len() - 1];
    &last[last.len() - (2 - which) * count..][..count]
}

/// The gradients that lie in these rows: of all parameters that have one on any machine, as on one machine.
fn spread<M: Module>(module: &M, places: &[Place], rows: &[Vec<f32>]) -> GradientsParams {
    let mut spreading = Spreading { places, rows, gradients: GradientsParams::new(), next: 0 };
    module.visit(&mut spreading);
    spreading.gradients
}

struct Lengths(Vec<usize>);

impl ModuleVisitor for Lengths {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.0.push(param.lazy_shape().num_elements());
        }
    }
}

/// Shows the gradient of every trained parameter that has one, with the parameter's number.
struct Gathering<'a, F> {
    gradients: &'a GradientsParams,
    see: F,
    next: usize,
}

impl<F: FnMut(usize, &[f32])> ModuleVisitor for Gathering<'_, F> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let mut entries = Vec::new();
            append(&mut entries, gradient);
            (self.see)(self.next, &entries);
        }
        self.next += 1;
    }
}

fn gather<M: Module>(module: &M, gradients: &GradientsParams, see: impl FnMut(usize, &[f32])) {
    module.visit(&mut Gathering { gradients, see, next: 0 });
}

struct Spreading<'a> {
    places: &'a [Place],
    rows: &'a [Vec<f32>],
    gradients: GradientsParams,
    next: usize,
}

impl ModuleVisitor for Spreading<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let Place { row, start, length } = self.places[self.next];
        if flags(self.rows, self.places.len(), 0)[self.next] > 0.0 {
            let value = param.val().inner();
            let entries = self.rows[row][start..start + length].to_vec();
            let place = (&value.device(), value.dtype());
            let gradient = Tensor::<D>::from_data(TensorData::new(entries, value.dims()), place);
            self.gradients.register(param.id, gradient);
        }
        self.next += 1;
    }
}

/// Rows that are sent away one after another, each as soon as it is full: in the same order on all machines.
struct Filling {
    rows: Rows,
    /// Of each parameter, what was shown of its gradient.
    shown: Vec<Shown>,
    next: usize,
    sender: Sender<Vec<f32>>,
}

/// What was shown of a gradient.
#[derive(Clone, Copy, Default)]
struct Shown {
    times: usize,
    checksum: u64,
}

impl Filling {
    fn fill(&mut self, number: usize, gradient: &[f32]) {
        self.shown[number].times += 1;
        if self.shown[number].times > 1 {
            return;
        }
        self.shown[number].checksum = checksum(gradient);
        self.rows.fill(number, gradient);
        // The last one says which gradients there are, and so waits for the end.
        while self.next + 1 < self.rows.entries.len() && self.rows.missing[self.next] == 0 {
            self.send();
        }
    }

    fn send(&mut self) {
        let row = std::mem::take(&mut self.rows.entries[self.next]);
        self.next += 1;
        // A receiver that is gone has panicked, which is seen when its thread is joined.
        let _ = self.sender.send(row);
    }

    /// Sends what is left, now that all gradients are known: those that were not shown too. What had been sent before a
    /// gradient was complete is marked.
    fn end<M: Module>(&mut self, module: &M, gradients: &GradientsParams) {
        gather(module, gradients, |number, gradient| {
            let Shown { times, checksum: sum } = self.shown[number];
            match self.rows.places[number].row < self.next {
                true if times == 1 && sum == checksum(gradient) => {}
                true => self.rows.mark(number),
                false => self.rows.fill(number, gradient),
            }
        });
        while self.next < self.rows.entries.len() {
            self.send();
        }
    }
}

/// A sum in which every entry counts.
fn checksum(entries: &[f32]) -> u64 {
    entries.iter().fold(0, |sum, entry| sum.wrapping_add(entry.to_bits().into()))
}

/// The keys that gradients are shown with.
struct Keys(Vec<Option<u64>>);

impl ModuleVisitor for Keys {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.0.push(flexconv::gradient_key(&param.val()));
        }
    }
}
