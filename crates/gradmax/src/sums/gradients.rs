//! The gradients of all parameters, summed over machines: in rows of many at a time, after a backward pass or during it.

use std::panic::resume_unwind;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
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
        module.visit(&mut Gathering { gradients: &gradients, rows: &mut rows, next: 0 });
        rows.entries.iter_mut().for_each(|row| self.sum_f32(row));
        spread(module, &rows.places, &rows.entries)
    }

    /// Takes a forward and a backward pass, and sums the gradients while the backward pass goes on: those of the last
    /// layers are on their way before those of the first ones are computed. The pass takes a module of the same values,
    /// whose gradients are not for it to see.
    ///
    /// None, and no pass, where that brings nothing: there is one row only, or the device does not show gradients early.
    /// Nothing else may be summed in the pass.
    pub(crate) fn gradients_of_pass<M: Module, T>(
        &self,
        module: &M,
        weight: f64,
        pass: impl FnOnce(&M) -> Result<T, Error>,
    ) -> Option<Result<(T, GradientsParams), Error>> {
        let rows = Rows::of(module, weight);
        if self.is_alone() || rows.entries.len() < 2 {
            return None;
        }
        let (places, (sender, receiver)) = (rows.places.clone(), channel());
        let sending = Sending(Arc::new(Mutex::new(Filling { rows, next: 0, sender: Some(sender) })));
        let mut watching = Watching { sending: &sending, next: 0, sees: true };
        let watched = module.clone().map(&mut watching);
        if !watching.sees {
            return None;
        }
        Some(thread::scope(|scope| {
            let summed = |mut row: Vec<f32>| {
                self.sum_f32(&mut row);
                row
            };
            let summing = scope.spawn(move || receiver.into_iter().map(summed).collect::<Vec<_>>());
            let passed = {
                let _last = SendsTheRest(&sending);
                pass(&watched)
            };
            let sums = summing.join().unwrap_or_else(|panic| resume_unwind(panic));
            passed.map(|output| (output, spread(module, &places, &sums)))
        }))
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
    /// The last row ends with an entry for each parameter: whether it has a gradient, on how many machines.
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
        sizes[last] += places.len();
        Self { places, entries: sizes.into_iter().map(|size| vec![0.0; size]).collect(), missing, weight }
    }

    /// Takes the gradient of a parameter, by its number.
    fn fill(&mut self, number: usize, gradient: &[f32]) {
        let Place { row, start, length } = self.places[number];
        let weighted = |entry: &f32| (f64::from(*entry) * self.weight) as f32;
        let to = self.entries[row][start..start + length].iter_mut();
        to.zip(gradient).for_each(|(to, entry)| *to = weighted(entry));
        self.missing[row] -= 1;
        let last = self.entries.len() - 1;
        let flags = self.entries[last].len() - self.places.len();
        self.entries[last][flags + number] = 1.0;
    }
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

struct Gathering<'a> {
    gradients: &'a GradientsParams,
    rows: &'a mut Rows,
    next: usize,
}

impl ModuleVisitor for Gathering<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let mut entries = Vec::new();
            append(&mut entries, gradient);
            self.rows.fill(self.next, &entries);
        }
        self.next += 1;
    }
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
        let (Place { row, start, length }, last) = (self.places[self.next], &self.rows[self.rows.len() - 1]);
        if last[last.len() - self.places.len() + self.next] > 0.0 {
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
    next: usize,
    sender: Option<Sender<Vec<f32>>>,
}

impl Filling {
    fn fill(&mut self, number: usize, gradient: &[f32]) {
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
        self.sender.as_ref().map(|sender| sender.send(row));
    }

    /// Sends what is left, with zeros for gradients that are not there.
    fn end(&mut self) {
        while self.next < self.rows.entries.len() {
            self.send();
        }
        self.sender = None;
    }
}

#[derive(Clone)]
struct Sending(Arc<Mutex<Filling>>);

impl Sending {
    fn filling(&self) -> MutexGuard<'_, Filling> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the rest at the end of a pass, or when it panics: the thread that sums would wait for it.
struct SendsTheRest<'a>(&'a Sending);

impl Drop for SendsTheRest<'_> {
    fn drop(&mut self) {
        self.0.filling().end();
    }
}

/// Has every trained parameter's gradient filled in when a backward pass comes to it.
struct Watching<'a> {
    sending: &'a Sending,
    next: usize,
    /// Whether the device shows gradients early.
    sees: bool,
}

impl ModuleMapper for Watching<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_require_grad() || !self.sees {
            return param;
        }
        let (number, sending) = (self.next, self.sending.clone());
        self.next += 1;
        let see = Arc::new(move |gradient: &[f32]| sending.filling().fill(number, gradient));
        match flexconv::when_gradient(&param.val(), see) {
            Some(watched) => Param::initialized(param.id, watched),
            None => {
                self.sees = false;
                param
            }
        }
    }
}
