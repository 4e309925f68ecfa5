//! The branch that new neurons add to a network, on the growth batch.

use std::collections::BTreeMap;

use burn::module::ParamId;
use burn::tensor::{Device, Tensor};
use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, MatRef, Side as Triangle};

use crate::error::Error;
use crate::matrix::{Matrix, from_tensor, to_tensor, values};
use crate::operator::block::{AT_ONCE, Block};
use crate::operator::seen::{Again, Seen, Source};
use crate::site::between::Role;
use crate::site::companion::Companions;
use crate::site::declaration::Site;
use crate::site::probe::Passage;
use crate::site::signal::{Input, Signal, SignalShape};
use crate::sums::SharedSums;
use crate::surgery::addition::{BlockValues, GainAt, gains_between, leaves_of};
use crate::surgery::new_neurons::NewNeurons;

/// Bounds on the solution of least-squares problems: iterations, and the share of the squared gradient that may remain.
const LEAST_SQUARES_STEPS: usize = 30;
const LEAST_SQUARES_REMAINDER: f64 = 1e-8;
/// What is added to the diagonal of the matrix that speeds it up, as a share of its mean.
const RIDGE: f64 = 1e-6;

/// The part of the sizes of what is summed below which a gradient is rounding.
pub(crate) const ROUNDING: f64 = 1e-6;

/// The branch of one block of a site on the growth batch: `<delta, branch(h, w_in, w_out)>` for weights of your choice,
/// where `h` is the producer's input and `delta` the gradient of the loss at the consumer's output.
#[derive(Clone)]
pub struct Branch<'a> {
    pub(crate) block: Block,
    pub(crate) device: Device,
    /// The consumer whose passages show every producer input once.
    shows_inputs: usize,
    passages: Passages<'a>,
    pub(crate) sums: SharedSums,
}

#[derive(Clone)]
enum Passages<'a> {
    Kept(Vec<Passage>),
    /// Seen again each time, less what these neurons of the block add to the consumers' outputs; the branch is that of
    /// another block in the same place if its neurons have other companions.
    Again {
        again: &'a dyn Again,
        less: Vec<NewNeurons>,
        of: Box<Block>,
    },
}

impl<'a> Branch<'a> {
    /// The branch of the block with this index, which must fit what the network shows.
    pub(crate) fn new(site: &Site, index: usize, seen: Seen<'a>) -> Result<Self, Error> {
        site.check()?;
        let (block, known) = known(site, index, seen)?;
        known.iter().try_for_each(|passage| block.check_shapes(&passage.first_example()))?;
        Ok(Self::of_known(block, known, seen))
    }

    /// As [`new`](Self::new), of a site that is known to fit.
    pub(crate) fn of_checked(site: &Site, index: usize, seen: Seen<'a>) -> Result<Self, Error> {
        let (block, known) = known(site, index, seen)?;
        Ok(Self::of_known(block, known, seen))
    }

    fn of_known(block: Block, known: Vec<Passage>, seen: Seen<'a>) -> Self {
        // The reader behind the most writers sees all inputs; of several, the first, so that no input counts twice.
        let shows = known.iter().max_by_key(|passage| (passage.inputs.len(), std::cmp::Reverse(passage.consumer)));
        let (device, shows_inputs) = (known[0].delta.device(), shows.map_or(0, |passage| passage.consumer));
        let passages = match seen.source {
            Source::Kept(_) => Passages::Kept(known),
            Source::Again(again) => Passages::Again { again, less: Vec::new(), of: Box::new(block.clone()) },
        };
        Self { block, device, shows_inputs, passages, sums: seen.sums.clone() }
    }

    /// Whether its passages are in memory.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self.passages, Passages::Kept(_))
    }

    /// Sees every passage that counts.
    fn each(&self, mut see: impl FnMut(&Passage)) -> Result<(), Error> {
        each_of(&[self], |_, passage| see(passage))
    }

    /// The second moments of what the producer reads, times `incoming` `[n, fan_in]`: the sums over examples and
    /// positions of a neuron's response times that of each incoming weight, `[n, fan_in]`.
    pub(crate) fn input_moments(&self, incoming: MatRef<'_, f64>) -> Result<Matrix, Error> {
        let block = &self.block;
        let mut total = Mat::<f64>::zeros(incoming.nrows(), incoming.ncols());
        self.each(|passage| {
            if passage.consumer != self.shows_inputs {
                return;
            }
            for first in (0..incoming.nrows()).step_by(AT_ONCE) {
                let count = AT_ONCE.min(incoming.nrows() - first);
                let incoming = to_tensor(incoming.subrows(first, count), &self.device);
                let responses = block.produce(passage, &incoming);
                block.add_incoming_gradient(passage, responses, total.subrows_mut(first, count));
            }
        })?;
        self.sums.matrix(&mut total);
        Ok(total)
    }

    /// The branch with the part of `delta` taken off that changes of these neurons' outgoing weights explain, by least
    /// squares.
    ///
    /// # Errors
    /// [`Error::Examples`], if the growth batch is read again and cannot be.
    pub fn beyond(&self, neurons: &NewNeurons) -> Result<Self, Error> {
        self.beyond_by(neurons, LEAST_SQUARES_STEPS)
    }

    /// As [`beyond`](Self::beyond), in at most so many steps of conjugate gradients on the normal equations (Hestenes and
    /// Stiefel 1952), preconditioned. One step is exact, but for rounding, where a dense layer reads the neurons.
    pub(crate) fn beyond_by(&self, neurons: &NewNeurons, steps: usize) -> Result<Self, Error> {
        let mut unexplained = Unexplained::of(self, neurons);
        let inverse = unexplained.near_inverse()?;
        let start = unexplained.gradient().squared_norm_l2();
        let product =
            |a: &Matrix, b: &Matrix| a.col_iter().zip(b.col_iter()).map(|(a, b)| a.transpose() * b).sum::<f64>();
        let mut last: Option<(Matrix, f64)> = None;
        for _ in 0..steps {
            let gradient = unexplained.gradient();
            if gradient.squared_norm_l2() <= LEAST_SQUARES_REMAINDER * start {
                break;
            }
            let inverted = inverse.times(gradient);
            let along = product(gradient, &inverted);
            let direction = match last {
                Some((direction, before)) => inverted + direction * faer::Scale(along / before),
                None => inverted,
            };
            if !unexplained.explain(&direction, along)? {
                break;
            }
            last = Some((direction, along));
        }
        Ok(unexplained.branch())
    }

    /// The branch with the least-squares share of `delta` taken off that this neuron can explain.
    ///
    /// # Errors
    /// [`Error::Examples`], if the growth batch is read again and cannot be.
    pub fn without(&self, neuron: &NewNeurons) -> Result<Self, Error> {
        let between = gains_between(&self.block.site);
        let product = |a: &Signal, b: &Signal| a.clone().inner_product(b.clone()).into_scalar::<f64>();
        let (mut along, mut squared) = (0.0, 0.0);
        self.each(|passage| {
            let gained = leaves_of(&between, neuron, self.block.first, &self.device);
            let added = self.block.added(passage, &gained, neuron).inner();
            along += product(&passage.delta, &added);
            squared += product(&added, &added);
        })?;
        let [along, squared] = [along, squared].map(|part| self.sums.number(part));
        // The least-squares coefficient of one vector.
        let share = if squared > 0.0 { along / squared } else { 0.0 };
        Ok(self.less(NewNeurons { outgoing: &neuron.outgoing * faer::Scale(share), ..neuron.clone() }))
    }

    /// The branch with what these neurons add to the consumers' outputs taken off `delta`.
    fn less(&self, neurons: NewNeurons) -> Self {
        let passages = match &self.passages {
            Passages::Kept(passages) => {
                Passages::Kept(passages.iter().map(|passage| less(&self.block, passage, &neurons)).collect())
            }
            Passages::Again { again, less, of } => {
                Passages::Again { again: *again, less: [less.as_slice(), &[neurons]].concat(), of: of.clone() }
            }
        };
        Self { passages, ..self.clone() }
    }

    /// The branch of neurons in the same place that all have the companions which this site chooses, where each of the branch's
    /// own has some of its own.
    pub(crate) fn seen_alike(self, site: &Site) -> Self {
        let block = self.block.of_site(site);
        let passages = match self.passages {
            Passages::Kept(passages) => {
                Passages::Kept(passages.iter().map(|passage| block.seen_alike(passage)).collect())
            }
            again => again,
        };
        Self { block, passages, ..self }
    }

    /// The gradients of the form at a site's companions, a matrix for each of their layers, with these neurons; this is the
    /// branch of the site without companions, whose neurons are read as they are.
    pub(crate) fn companion_gradients(
        &self,
        companions: &Companions,
        incoming: &Matrix,
        outgoing: &Matrix,
    ) -> Result<Vec<Matrix>, Error> {
        let mut total: Vec<Matrix> = Vec::new();
        let incoming = to_tensor(incoming.as_ref(), &self.device);
        self.each(|passage| {
            let [Some(Input::Signal(read))] = passage.inputs.as_slice() else {
                return;
            };
            let (first, rows) = (self.block.first_row(passage.consumer), self.block.rows(passage.consumer));
            let shape = SignalShape { neurons: incoming.dims()[0], ..read.shape() };
            let outgoing = to_tensor(outgoing.subrows(first, rows), &self.device);
            let at_neurons = self.block.read_gradient(passage, &shape, outgoing);
            let at_seen = at_neurons.rows().matmul(incoming.clone());
            let at_seen = Signal::of_rows(at_seen, read.examples(), read.positions().to_vec());
            let of_passage = companions.gradients(read.clone(), at_seen);
            match total.is_empty() {
                true => total = of_passage,
                false => total.iter_mut().zip(of_passage).for_each(|(total, of_passage)| *total += of_passage),
            }
        })?;
        total.iter_mut().for_each(|of_layer| self.sums.matrix(of_layer));
        Ok(total)
    }

    /// How much each unit of so many of these neurons matters, which are the block's own: the sum over examples of the square
    /// of what it gives its readers times the loss's gradient there. That is the Fisher information of a factor on its output,
    /// which says by how much the loss would rise without it near a minimum, where the gradient itself says nothing (Theis et
    /// al. 2018, Molchanov et al. 2019).
    pub(crate) fn importance(&self, neurons: &NewNeurons, unit: usize) -> Result<Vec<f64>, Error> {
        let (block, count) = (&self.block, neurons.count() / unit);
        let between = gains_between(&block.site);
        let mut importance = vec![0.0; count];
        self.each(|passage| {
            let gained = leaves_of(&between, neurons, block.first, &self.device);
            let read = block.read(passage, &gained, neurons).inner();
            let (first, rows) = (block.first_row(passage.consumer), block.rows(passage.consumer));
            let outgoing = to_tensor(neurons.outgoing.subrows(first, rows), &self.device);
            let gradient = block.read_gradient(passage, &read.shape(), outgoing);
            let of_features = (read.entries() * gradient.entries()).sum_dim(2);
            let [examples, features, _] = of_features.dims();
            // A reader of flattened maps has several features of each neuron, and a unit several neurons.
            let of_neurons = of_features.reshape([examples, count, features / count]).sum_dim(2);
            let squares = values(&of_neurons.square().sum_dim(0).into_data());
            importance.iter_mut().zip(squares).for_each(|(total, square)| *total += square);
        })?;
        self.sums.sum(&mut importance);
        Ok(importance)
    }

    /// What gradients of new weights are sums of, in size: the product of the norms of `h`, `delta`, the neurons'
    /// weights and the factors of norms. Gradients far below it are what cancellation leaves of them.
    pub(crate) fn magnitude(&self, neurons: &NewNeurons) -> Result<f64, Error> {
        Ok(magnitudes_of(&[(self, neurons)])?[0])
    }

    /// The gradients at these neurons' outgoing weights alone, `[fan_out, n]`: less work than all of
    /// [`gradients`](Self::gradients).
    ///
    /// # Errors
    /// [`Error::Examples`], if the growth batch is read again and cannot be.
    pub fn outgoing_gradients(&self, neurons: &NewNeurons) -> Result<Matrix, Error> {
        let (block, between) = (&self.block, gains_between(&self.block.site));
        let mut total = Mat::zeros(block.site.fan_out(), neurons.count());
        self.each(|passage| {
            let read = block.read(passage, &leaves_of(&between, neurons, block.first, &self.device), neurons).inner();
            add_outgoing_gradient((block, passage.consumer), read, passage.delta.clone(), &mut total);
        })?;
        self.sums.matrix(&mut total);
        Ok(total)
    }

    /// The gradients that new neurons with these weights will receive, of the same shapes.
    ///
    /// Exact where the neurons leave the output unchanged, since `delta` is then unchanged too.
    ///
    /// # Errors
    /// [`Error::Examples`], if the growth batch is read again and cannot be.
    pub fn gradients(&self, neurons: &NewNeurons) -> Result<NewNeurons, Error> {
        Ok(gradients_of(&[(self, neurons)])?.remove(0).neurons)
    }
}

/// What changes of some neurons' outgoing weights have not yet explained of a branch's `delta`.
struct Unexplained<'b, 'a> {
    branch: &'b Branch<'a>,
    neurons: &'b NewNeurons,
    between: Vec<GainAt>,
    /// In memory with the branch's passages: those that count with what is left of their `delta`, and what their consumers
    /// read. Both are computed anew each time where passages are seen again.
    kept: Option<Vec<(Passage, Signal)>>,
    /// The changes so far, `[fan_out, n]`.
    outgoing: Matrix,
    /// What was left of the gradient at the outgoing weights before the last step.
    gradient: Matrix,
    /// The last step's length, and what a step of length 1 would have made of each kept passage, as long as the gradient
    /// does not count it.
    last: Option<(f64, Vec<Signal>)>,
}

impl<'b, 'a> Unexplained<'b, 'a> {
    fn of(branch: &'b Branch<'a>, neurons: &'b NewNeurons) -> Self {
        let between = gains_between(&branch.block.site);
        let outgoing = Mat::zeros(branch.block.site.fan_out(), neurons.count());
        let gradient = outgoing.clone();
        let mut unexplained = Self { branch, neurons, between, kept: None, outgoing, gradient, last: None };
        if let Passages::Kept(passages) = &branch.passages {
            let counting = passages.iter().filter(|passage| passage.counts);
            let kept = counting.map(|passage| (passage.clone(), unexplained.read(passage))).collect();
            unexplained.kept = Some(kept);
        }
        unexplained
    }

    /// What a passage's consumer reads of the neurons.
    fn read(&self, passage: &Passage) -> Signal {
        let block = &self.branch.block;
        let gained = leaves_of(&self.between, self.neurons, block.first, &self.branch.device);
        block.read(passage, &gained, self.neurons).inner()
    }

    /// Sees every passage that counts, with what is left of its `delta`, and what its consumer reads.
    fn each(&self, mut see: impl FnMut(&Passage, &Signal)) -> Result<(), Error> {
        if let Some(kept) = &self.kept {
            kept.iter().for_each(|(passage, read)| see(passage, read));
            return Ok(());
        }
        self.branch.each(|passage| {
            let read = self.read(passage);
            see(&less_by(&self.branch.block, passage, read.clone(), &self.outgoing), &read);
        })
    }

    /// What is left of the gradient at the outgoing weights.
    fn gradient(&mut self) -> &Matrix {
        if let Some((step, images)) = self.last.take() {
            let mut normal = Mat::zeros(self.outgoing.nrows(), self.outgoing.ncols());
            for ((passage, read), image) in self.kept.iter().flatten().zip(&images) {
                self.add_gradient(passage, read, image, &mut normal);
            }
            self.branch.sums.matrix(&mut normal);
            self.gradient -= faer::Scale(step) * normal;
        }
        &self.gradient
    }

    fn add_gradient(&self, passage: &Passage, read: &Signal, delta: &Signal, total: &mut Matrix) {
        add_outgoing_gradient((&self.branch.block, passage.consumer), read.clone(), delta.clone(), total);
    }

    /// What nearly inverts the normal matrix; the gradient is found on the way.
    fn near_inverse(&mut self) -> Result<NearInverse, Error> {
        let mut moments = ReadMoments::of(&self.branch.block, self.neurons.count());
        let mut gradient = Mat::zeros(self.outgoing.nrows(), self.outgoing.ncols());
        self.each(|passage, read| {
            moments.add(passage.consumer, read, &self.branch.block);
            self.add_gradient(passage, read, &passage.delta, &mut gradient);
        })?;
        self.branch.sums.matrix(&mut gradient);
        self.gradient = gradient;
        Ok(moments.inverse(&self.branch.sums))
    }

    /// Goes along a direction, whose product with the gradient is known, for as long as that explains more. False if the
    /// direction changes nothing that is read: what is left of the gradient is then rounding.
    fn explain(&mut self, direction: &Matrix, along: f64) -> Result<bool, Error> {
        let block = &self.branch.block;
        let (mut curvature, mut images) = (0.0, Vec::new());
        let mut normal = Mat::zeros(direction.nrows(), direction.ncols());
        self.each(|passage, read| {
            let image = block.added_by(passage, read.clone(), direction);
            curvature += image.norm().powi(2);
            match self.kept {
                Some(_) => images.push(image),
                // Another pass over the growth batch would cost more.
                None => self.add_gradient(passage, read, &image, &mut normal),
            }
        })?;
        let curvature = self.branch.sums.number(curvature);
        if curvature == 0.0 {
            return Ok(false);
        }
        let step = along / curvature;
        self.outgoing += faer::Scale(step) * direction;
        let Some(kept) = &mut self.kept else {
            self.branch.sums.matrix(&mut normal);
            self.gradient -= faer::Scale(step) * normal;
            return Ok(true);
        };
        for ((passage, _), image) in kept.iter_mut().zip(&images) {
            passage.delta = passage.delta.clone().plus(image.clone().scaled(-step));
        }
        // That costs a product, which nobody may need.
        self.last = Some((step, images));
        Ok(true)
    }

    /// The branch with what is left of `delta`.
    fn branch(self) -> Branch<'a> {
        match self.kept {
            Some(kept) => {
                let passages = Passages::Kept(kept.into_iter().map(|(passage, _)| passage).collect());
                Branch { passages, ..self.branch.clone() }
            }
            None => self.branch.less(NewNeurons { outgoing: self.outgoing, ..self.neurons.clone() }),
        }
    }
}

/// The second moments of what each of a block's readers reads of some neurons, `[n, n]`, summed over examples and
/// positions: the normal matrix of their outgoing weights, but for how a kernel's taps overlap.
struct ReadMoments {
    rows: Vec<usize>,
    moments: Vec<Matrix>,
}

impl ReadMoments {
    fn of(block: &Block, count: usize) -> Self {
        let rows = (0..block.site.paths.len()).map(|consumer| block.rows(consumer)).collect::<Vec<_>>();
        let moments = rows.iter().map(|_| Mat::zeros(count, count)).collect();
        Self { rows, moments }
    }

    fn add(&mut self, consumer: usize, read: &Signal, block: &Block) {
        // A reader of flattened maps has several features of each neuron: then the moments of all of them together
        // stand for it.
        let entries = read.clone().rows();
        let [rows, features] = entries.dims();
        let count = self.moments[consumer].nrows();
        let entries = match features == count {
            true => entries,
            false => entries.reshape([rows, count, features / count]).swap_dims(1, 2).reshape([-1, count as i32]),
        };
        block.work.product(count, rows * features / count, count);
        self.moments[consumer] += from_tensor(entries.clone().transpose().matmul(entries));
    }

    /// What nearly inverts the normal matrix.
    fn inverse(mut self, sums: &SharedSums) -> NearInverse {
        let factor = |moments: &mut Matrix| {
            sums.matrix(moments);
            let count = moments.nrows();
            // Neurons that respond alike leave it singular; those that never respond have nothing to be scaled by.
            let mean = (0..count).map(|i| moments[(i, i)]).sum::<f64>() / count.max(1) as f64;
            (0..count).for_each(|i| moments[(i, i)] += RIDGE * mean);
            moments.llt(Triangle::Lower).ok().filter(|_| mean > 0.0)
        };
        let factors = self.moments.iter_mut().map(factor).collect();
        NearInverse { rows: self.rows, factors }
    }
}

/// What nearly inverts the normal matrix of outgoing weights, reader by reader.
struct NearInverse {
    rows: Vec<usize>,
    factors: Vec<Option<Llt<f64>>>,
}

impl NearInverse {
    /// Its product with outgoing weights, `[fan_out, n]`.
    fn times(&self, outgoing: &Matrix) -> Matrix {
        let mut product = outgoing.clone();
        let mut first = 0;
        for (rows, factor) in self.rows.iter().zip(&self.factors) {
            if let Some(factor) = factor {
                let solved = factor.solve(outgoing.subrows(first, *rows).transpose().to_owned());
                product.subrows_mut(first, *rows).copy_from(solved.transpose());
            }
            first += rows;
        }
        product
    }
}

/// A block of a site, and what is known of its passages: all of them, or one example of each consumer's.
fn known(site: &Site, index: usize, seen: Seen<'_>) -> Result<(Block, Vec<Passage>), Error> {
    let block = Block::of(site, index, seen.work);
    let passages = seen.sample().passages(site)?;
    let known = passages.iter().map(|passage| block.part_of(passage)).collect();
    Ok((block, known))
}

/// Sees every passage of several branches of one network that counts, each with the index of its branch. Where evidence is not
/// kept, a single pass over the growth batch shows all of them.
pub(crate) fn each_of(branches: &[&Branch<'_>], mut see: impl FnMut(usize, &Passage)) -> Result<(), Error> {
    let mut seen_again = None;
    for (index, branch) in branches.iter().enumerate() {
        match &branch.passages {
            Passages::Kept(passages) => {
                passages.iter().filter(|passage| passage.counts).for_each(|passage| see(index, passage));
            }
            Passages::Again { again, .. } => seen_again = Some(again),
        }
    }
    let Some(again) = seen_again else {
        return Ok(());
    };
    again.each_part(&mut |evidence| {
        for (index, branch) in branches.iter().enumerate() {
            let Passages::Again { less: taken_off, of, .. } = &branch.passages else {
                continue;
            };
            let sees_other = of.sees_each() && !branch.block.sees_each();
            let passages = evidence.passages_with_examples(&branch.block.site)?;
            for passage in passages.into_iter().filter(|passage| passage.counts) {
                let part = of.part_of(&passage);
                let part = taken_off.iter().fold(part, |passage, neurons| less(of, &passage, neurons));
                see(index, &if sees_other { branch.block.seen_alike(&part) } else { part });
            }
        }
        Ok(())
    })
}

/// The passage with what these neurons add to the consumer's output taken off `delta`.
fn less(block: &Block, passage: &Passage, neurons: &NewNeurons) -> Passage {
    let gained = leaves_of(&gains_between(&block.site), neurons, block.first, &passage.delta.device());
    less_by(block, passage, block.read(passage, &gained, neurons).inner(), &neurons.outgoing)
}

/// As [`less`], by what the consumer reads of the neurons, and their outgoing weights.
fn less_by(block: &Block, passage: &Passage, read: Signal, outgoing: &Matrix) -> Passage {
    let added = block.added_by(passage, read, outgoing);
    Passage { delta: passage.delta.clone().plus(added.scaled(-1.0)), ..passage.clone() }
}

/// Adds the gradient at the outgoing weights of neurons that a consumer reads, by what it reads of them and the gradient at
/// its output.
fn add_outgoing_gradient((block, consumer): (&Block, usize), read: Signal, delta: Signal, total: &mut Matrix) {
    let count = total.ncols();
    let mut rows = total.subrows_mut(block.first_row(consumer), block.rows(consumer));
    rows += from_tensor(block.outgoing_gradient(consumer, read, count, delta));
}

/// The gradients that new neurons at several branches of one network will receive, and those of their entries between.
pub(crate) fn gradients_of(neurons: &[(&Branch<'_>, &NewNeurons)]) -> Result<Vec<BlockValues>, Error> {
    let mut sums = neurons.iter().map(|(branch, neurons)| GradientSums::of(&branch.block, neurons)).collect::<Vec<_>>();
    if sums.iter().any(|sums| !sums.are_known) {
        let branches = neurons.iter().map(|(branch, _)| *branch).collect::<Vec<_>>();
        each_of(&branches, |index, passage| {
            if !sums[index].are_known {
                sums[index].add(passage);
            }
        })?;
    }
    Ok(sums.into_iter().zip(neurons).map(|(sums, (branch, _))| sums.values(&branch.sums)).collect())
}

/// What the gradients of new neurons at several branches of one network are sums of, as [`Branch::magnitude`].
pub(crate) fn magnitudes_of(neurons: &[(&Branch<'_>, &NewNeurons)]) -> Result<Vec<f64>, Error> {
    let branches = neurons.iter().map(|(branch, _)| *branch).collect::<Vec<_>>();
    let mut sizes = vec![0.0; neurons.len()];
    each_of(&branches, |index, passage| sizes[index] += branches[index].block.size(passage))?;
    neurons.iter().zip(&mut sizes).for_each(|((branch, _), size)| *size = branch.sums.number(*size));
    // The gradient at the zero side is proportional to the other one, which is the larger.
    let norms = neurons.iter().map(|(_, neurons)| neurons.incoming.norm_l2().max(neurons.outgoing.norm_l2()));
    Ok(sizes.into_iter().zip(norms).map(|(size, norm)| size * norm).collect())
}

/// The gradients of new neurons, summed over passages.
struct GradientSums<'b> {
    block: &'b Block,
    neurons: &'b NewNeurons,
    between: Vec<GainAt>,
    /// Gradients of the incoming weights that the growth method knows.
    known: Option<&'b Matrix>,
    /// Whether nothing has to be summed.
    are_known: bool,
    incoming: Matrix,
    outgoing: Matrix,
    bias: Vec<f64>,
    /// Of entries between, and of the biases of further writers.
    further: BTreeMap<ParamId, Vec<f32>>,
}

impl<'b> GradientSums<'b> {
    fn of(block: &'b Block, neurons: &'b NewNeurons) -> Self {
        let (count, fan_in) = neurons.incoming.shape();
        let between = gains_between(&block.site);
        let known = neurons.incoming_gradient.as_ref();
        let known = known.filter(|_| neurons.are_silent() && block.site.neurons_are_independent());
        // Silent neurons give their consumers nothing, and nothing to what multiplies them.
        let are_known =
            known.is_some() && block.site.bias().is_none() && between.iter().all(|at| at.gain.role != Role::Summand);
        let factors = between.iter().filter(|at| at.gain.is_trained());
        let further = match are_known {
            true => factors.map(|at| (at.gain.parameter, vec![0.0; at.length(count)])).collect(),
            false => BTreeMap::new(),
        };
        Self {
            block,
            neurons,
            known,
            are_known,
            incoming: Mat::zeros(count, fan_in),
            outgoing: Mat::zeros(neurons.outgoing.nrows(), count),
            bias: vec![0.0; count],
            further,
            between,
        }
    }

    fn add(&mut self, passage: &Passage) {
        let Self { block, neurons, .. } = *self;
        let (device, count) = (passage.delta.device(), neurons.count());
        let weights = [&neurons.incoming, &neurons.outgoing];
        let [incoming, outgoing] = weights.map(|matrix| to_tensor(matrix.as_ref(), &device));
        let gained = leaves_of(&self.between, neurons, block.first, &device);

        let path = &block.site.paths[passage.consumer];
        // Zero weights compute zeros: the producer's product, the dearest part of the pass, can be left out.
        let silent = neurons.incoming.norm_l2() == 0.0;
        let produced = match silent {
            true => block.produced_shape(passage, count).zeros(&device),
            false => block.produce(passage, &incoming),
        };
        let produced = block.biased(passage, produced, neurons).leaf();
        let read = path.applied(produced.clone(), &gained);
        let (first, rows) = (block.first_row(passage.consumer), block.rows(passage.consumer));
        let outgoing = outgoing.narrow(0, first, rows);
        let upstream = block.read_gradient(passage, &read.shape(), outgoing);
        // The derivative of `<read, constant>` is the constant pulled back through what lies between, whatever that is.
        let gradients = read.clone().inner_product(upstream.untracked()).backward();
        let at_neurons = produced.gradient(&gradients);
        self.add_biases(passage, &at_neurons);
        if self.known.is_none() {
            block.add_incoming_gradient(passage, at_neurons, self.incoming.as_mut());
        }
        let read = read.inner();
        // Silent neurons give their consumers nothing.
        if read.norm() > 0.0 {
            add_outgoing_gradient((block, passage.consumer), read, passage.delta.clone(), &mut self.outgoing);
        }
        for (parameter, leaf) in &gained.0 {
            let gradient = leaf.grad(&gradients).unwrap_or_else(|| leaf.clone().inner().zeros_like());
            self.add_entries(*parameter, gradient);
        }
    }

    /// Adds the gradients of the writers' biases: the neurons' own, which one writer has, and those of the others.
    fn add_biases(&mut self, passage: &Passage, at_neurons: &Signal) {
        let site = &self.block.site;
        let sums = at_neurons.sum_by_neuron();
        for (writer, producer) in site.writers[..passage.inputs.len()].iter().enumerate() {
            match producer.bias() {
                None => {}
                Some(_) if site.biased_writer() == Some(writer) => {
                    let sums = values(&sums.clone().into_data());
                    self.bias.iter_mut().zip(sums).for_each(|(total, entry)| *total += entry);
                }
                Some(bias) => self.add_entries(bias.id, sums.clone()),
            }
        }
    }

    fn add_entries(&mut self, parameter: ParamId, gradient: Tensor<1>) {
        let entries = values(&gradient.into_data());
        let total = self.further.entry(parameter).or_insert_with(|| vec![0.0; entries.len()]);
        total.iter_mut().zip(entries).for_each(|(total, entry)| *total += entry as f32);
    }

    /// The sums over all machines.
    fn values(mut self, sums: &SharedSums) -> BlockValues {
        // What lies in front of a reader that is not there yet receives nothing.
        for at in self.between.iter().filter(|at| at.gain.is_trained()) {
            let length = at.length(self.neurons.count());
            self.further.entry(at.gain.parameter).or_insert_with(|| vec![0.0; length]);
        }
        if !self.are_known {
            [&mut self.incoming, &mut self.outgoing].into_iter().for_each(|matrix| sums.matrix(matrix));
            sums.sum(&mut self.bias);
            // Parameters have other ids on other machines, and so another order; layers have not.
            let between = self.between.iter().map(|at| at.gain.parameter);
            let biases = self.block.site.writers.iter().filter_map(|writer| writer.bias().map(|bias| bias.id));
            for parameter in between.chain(biases) {
                let Some(entries) = self.further.get_mut(&parameter) else {
                    continue;
                };
                let mut all = entries.iter().map(|entry| f64::from(*entry)).collect::<Vec<_>>();
                sums.sum(&mut all);
                entries.iter_mut().zip(all).for_each(|(entry, sum)| *entry = sum as f32);
            }
        }
        let incoming = self.known.cloned().unwrap_or(self.incoming);
        BlockValues::of_weights(incoming, self.outgoing, self.bias, self.further)
    }
}
