//! One block of a site, and the arithmetic of new neurons there: the producer's, what lies between, the consumer's.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};
use faer::{Mat, MatMut};

use crate::error::Error;
use crate::matrix::{Matrix, from_tensor, to_tensor};
use crate::operator::work::Work;
use crate::site::between::Gained;
use crate::site::companion::Companions;
use crate::site::declaration::Site;
use crate::site::probe::Passage;
use crate::site::signal::{Input, Signal, SignalShape};
use crate::surgery::addition::{gains_between, leaves_of};
use crate::surgery::new_neurons::NewNeurons;

/// One group of the producer's inputs and of the consumers' outputs; a site without groups is a single block.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) site: Site,
    /// Its number among the site's blocks.
    index: usize,
    /// The site's number of the block's first neuron.
    pub(crate) first: usize,
    /// What counts its operations.
    pub(crate) work: Work,
}

/// A passage of silent neurons: what the network does with them is linear.
#[derive(Debug, Clone)]
pub(crate) struct LinearPassage {
    pub(crate) passage: Passage,
    /// What lies between, if it is one factor for all entries.
    factor: Option<f64>,
    /// The slopes of what lies between.
    slopes: Vec<f64>,
}

/// Neurons at a time, where there is one for each weight: their responses at all positions must not fill the memory.
pub(crate) const AT_ONCE: usize = 64;

impl Block {
    pub(crate) fn of(site: &Site, index: usize, work: &Work) -> Self {
        Self { site: site.clone(), index, first: index * (site.width() / site.blocks()), work: work.clone() }
    }

    /// The same block of another site in the same place.
    pub(crate) fn of_site(self, site: &Site) -> Self {
        Self { site: site.clone(), ..self }
    }

    /// The part of a passage that belongs to the block.
    pub(crate) fn part_of(&self, passage: &Passage) -> Passage {
        let blocks = self.site.blocks();
        let group = |signal: &Signal, groups: usize| {
            let width = signal.width() / groups;
            signal.clone().narrow(self.index * groups / blocks * width, width)
        };
        let inputs = passage.inputs.iter().zip(&self.site.writers).map(|(input, writer)| match input {
            Some(Input::Signal(signal)) => Some(Input::Signal(group(signal, writer.groups()))),
            other => other.clone(),
        });
        let inputs = inputs.map(|input| match input {
            Some(Input::Signal(signal)) => Some(Input::Signal(self.seen(self.site.behind_front(signal)))),
            other => other,
        });
        let consumer = &self.site.paths[passage.consumer].consumer;
        Passage { inputs: inputs.collect(), delta: group(&passage.delta, consumer.groups()), ..*passage }
    }

    /// What new neurons see of what the writer reads, if all see the same.
    fn seen(&self, read: Signal) -> Signal {
        match &self.site.companions {
            Some(companions) if !companions.are_several() => companions.seen_through(0, read),
            _ => read,
        }
    }

    /// Whether each new unit sees something of its own.
    pub(crate) fn sees_each(&self) -> bool {
        self.site.companions.as_ref().is_some_and(Companions::are_several)
    }

    /// A passage as it is where each unit sees something of its own, as units see it that all see the same.
    pub(crate) fn seen_alike(&self, passage: &Passage) -> Passage {
        let seen = |input: &Option<Input>| match input {
            Some(Input::Signal(signal)) => Some(Input::Signal(self.seen(signal.clone()))),
            other => other.clone(),
        };
        Passage { inputs: passage.inputs.iter().map(seen).collect(), ..passage.clone() }
    }

    /// The neurons among `count` that see the same of what the writer reads, and what they see: one after another, since all
    /// at once can be much.
    fn by_sight<'b>(&'b self, input: &'b Input, count: usize) -> Box<dyn Iterator<Item = (Range<usize>, Input)> + 'b> {
        let several = self.site.companions.as_ref().filter(|companions| companions.are_several());
        match (several, input) {
            (Some(companions), Input::Signal(read)) => {
                let unit = companions.companion.unit();
                Box::new((0..count / unit).map(move |at| {
                    let seen = companions.seen_through(at, read.clone());
                    (at * unit..(at + 1) * unit, Input::Signal(seen))
                }))
            }
            _ => Box::new(std::iter::once((0..count, input.clone()))),
        }
    }

    /// Runs the branch on one example: what it adds must have the shape of what the consumer computes.
    pub(crate) fn check_shapes(&self, example: &Passage) -> Result<(), Error> {
        let path = &self.site.paths[example.consumer];
        let mismatch = |branch: Vec<usize>, consumer: Vec<usize>| {
            Err(Error::BranchMismatch { site: self.site.name.clone(), branch, consumer })
        };
        // The fewest neurons that all layers between accept: group norm, for one, takes whole groups.
        let count = self.site.growth_unit() / self.site.blocks();
        let written =
            self.inputs(example).map(|(writer, input)| self.site.writers[writer].produced_shape(input, count));
        let written = written.collect::<Vec<_>>();
        let Some(first) = written.first() else {
            return mismatch(Vec::new(), example.delta.shape().axes());
        };
        if let Some(other) = written.iter().find(|shape| *shape != first) {
            return mismatch(first.axes(), other.axes());
        }
        self.site.check_path(path, Some(first.positions.len()))?;
        let neurons = NewNeurons::zeros(count, self.site.fan_in(), self.site.fan_out());
        let gained = leaves_of(&gains_between(&self.site), &neurons, self.first, &example.delta.device());
        let (branch, consumer) = (self.added(example, &gained, &neurons).shape(), example.delta.shape());
        match branch == consumer {
            true => Ok(()),
            false => mismatch(branch.axes(), consumer.axes()),
        }
    }

    /// What the writers of a passage read, with their numbers.
    pub(crate) fn inputs<'p>(&self, passage: &'p Passage) -> impl Iterator<Item = (usize, &'p Input)> {
        passage.inputs.iter().enumerate().filter_map(|(writer, input)| Some((writer, input.as_ref()?)))
    }

    /// The sum of what the writers compute with these incoming weights, `[n, fan_in]`.
    pub(crate) fn produce(&self, passage: &Passage, incoming: &Tensor<2>) -> Signal {
        let of_writer = |(writer, input)| {
            let columns = self.site.columns(writer);
            let [count, _] = incoming.dims();
            let shape = self.site.writers[writer].produced_shape(input, count);
            self.work.product(shape.entries(), columns.len(), 1);
            let incoming = match columns.len() == self.site.fan_in() {
                true => incoming.clone(),
                false => incoming.clone().narrow(1, columns.start, columns.len()),
            };
            let of_part = |(part, seen): (Range<usize>, Input)| {
                self.site.writers[writer].produce(&seen, incoming.clone().narrow(0, part.start, part.len()))
            };
            Signal::side_by_side(self.by_sight(input, count).map(of_part).collect())
        };
        self.inputs(passage).map(of_writer).reduce(Signal::plus).expect("a passage shows what its writers read")
    }

    /// The shape of what [`produce`](Self::produce) gives for `count` neurons.
    pub(crate) fn produced_shape(&self, passage: &Passage, count: usize) -> SignalShape {
        let (writer, input) = self.inputs(passage).next().expect("a passage shows what its writers read");
        self.site.writers[writer].produced_shape(input, count)
    }

    /// Adds the gradients of the incoming weights, `[n, fan_in]`, from that of the neurons.
    pub(crate) fn add_incoming_gradient(&self, passage: &Passage, at_neurons: Signal, mut total: MatMut<'_, f64>) {
        let entries = at_neurons.shape().entries();
        for (writer, input) in self.inputs(passage) {
            self.work.product(entries, self.site.columns(writer).len(), 1);
            let columns = self.site.columns(writer);
            for (part, seen) in self.by_sight(input, at_neurons.width()) {
                let at_part = at_neurons.clone().narrow(part.start, part.len());
                let gradient = self.site.writers[writer].incoming_gradient(&seen, at_part);
                let rows = total.as_mut().subrows_mut(part.start, part.len());
                let mut entries = rows.subcols_mut(columns.start, columns.len());
                entries += from_tensor(gradient);
            }
        }
    }

    /// Where the only writer treats every position alike, so does all that lies between, channel by channel: it can be
    /// applied to the writer's input instead, once for all neurons. If the consumer is pointwise too, their positions
    /// become examples.
    pub(crate) fn linear_passage(&self, passage: &Passage, slopes: &[f64]) -> LinearPassage {
        let path = &self.site.paths[passage.consumer];
        let factor = path.factor(slopes);
        let as_it_is = || LinearPassage { passage: passage.clone(), factor, slopes: slopes.to_vec() };
        let [Some(Input::Signal(input))] = passage.inputs.as_slice() else {
            return as_it_is();
        };
        if !self.site.producer().is_pointwise() || path.flattens() {
            return as_it_is();
        }
        let read = match factor {
            Some(_) => input.clone(),
            None => path.linearised(input.clone(), slopes),
        };
        let (input, delta) = match path.consumer.is_pointwise() {
            true => (read.by_position(), passage.delta.clone().by_position()),
            false => (read, passage.delta.clone()),
        };
        let (inputs, factor) = (vec![Some(Input::Signal(input))], factor.or(Some(1.0)));
        LinearPassage { passage: Passage { inputs, delta, ..*passage }, factor, slopes: slopes.to_vec() }
    }

    /// Adds the bilinear form's gradient at the incoming weights, on one passage: `[n, fan_in]`, for `outgoing`
    /// `[fan_out, n]`.
    ///
    /// The form is linear in the incoming weights, so no pass forward is needed: the consumer's adjoint, that of what
    /// lies between, and the writers'.
    pub(crate) fn add_incoming_derivative(&self, linear: &LinearPassage, outgoing: &Tensor<2>, total: MatMut<'_, f64>) {
        let LinearPassage { passage, factor, slopes } = linear;
        let path = &self.site.paths[passage.consumer];
        let [_, count] = outgoing.dims();
        let outgoing = outgoing.clone().narrow(0, self.first_row(passage.consumer), self.rows(passage.consumer));
        let shape = self.produced_shape(passage, count);
        if let Some(factor) = factor {
            let gradient = self.read_gradient(passage, &shape, outgoing);
            return self.add_incoming_gradient(passage, gradient.scaled(*factor), total);
        }
        // The linearisation of what lies between has no adjoint written out. Automatic differentiation gives it,
        // exactly, since the map is linear: the point at which it is taken does not matter.
        let silent = shape.zeros(&passage.delta.device()).leaf();
        let read = path.linearised(silent.clone(), slopes);
        let gradient = self.read_gradient(passage, &read.shape(), outgoing);
        let gradients = read.inner_product(gradient.untracked()).backward();
        self.add_incoming_gradient(passage, silent.gradient(&gradients), total);
    }

    /// The bilinear form's gradient at the outgoing weights that the passage's consumer reads, for `incoming` `[n,
    /// fan_in]`: `[rows, n]`.
    pub(crate) fn outgoing_derivative(&self, linear: &LinearPassage, incoming: &Tensor<2>) -> Tensor<2> {
        let LinearPassage { passage, factor, slopes } = linear;
        let path = &self.site.paths[passage.consumer];
        let [count, _] = incoming.dims();
        let produced = self.produce(passage, incoming);
        let neurons = match factor {
            Some(factor) => produced.scaled(*factor),
            None => path.linearised(produced, slopes),
        };
        self.outgoing_gradient(passage.consumer, neurons, count, passage.delta.clone())
    }

    /// The form's gradient at what a passage's consumer reads, with these outgoing weights of its own, `[rows, n]`.
    pub(crate) fn read_gradient(&self, passage: &Passage, read: &SignalShape, outgoing: Tensor<2>) -> Signal {
        self.count_consumer(passage.consumer, &passage.delta, outgoing.dims()[1]);
        self.site.paths[passage.consumer].consumer.read_gradient(read, outgoing, passage.delta.clone())
    }

    /// The gradient at a consumer's outgoing weights, `[rows, n]`, from what it reads of `count` neurons and the gradient
    /// at its output.
    pub(crate) fn outgoing_gradient(&self, consumer: usize, read: Signal, count: usize, delta: Signal) -> Tensor<2> {
        self.count_consumer(consumer, &delta, count);
        self.site.paths[consumer].consumer.outgoing_gradient(read, count, delta)
    }

    /// What a consumer computes of what it reads, with these outgoing weights of its own, `[rows, n]`.
    pub(crate) fn consume(&self, consumer: usize, read: Signal, outgoing: Tensor<2>) -> Signal {
        let [_, count] = outgoing.dims();
        let consumed = self.site.paths[consumer].consumer.consume(read, outgoing);
        self.count_consumer(consumer, &consumed, count);
        consumed
    }

    /// Counts a product of a consumer's weights of `count` neurons with something in the shape of its output.
    fn count_consumer(&self, consumer: usize, output: &Signal, count: usize) {
        let positions = output.shape().entries() / output.width().max(1);
        self.work.product(positions, self.rows(consumer), count);
    }

    /// Adds the form's matrix on one passage, `[fan_out, fan_in]`: its gradient at one side for each weight of the
    /// other.
    pub(crate) fn add_matrix(&self, linear: &LinearPassage, total: &mut Matrix) {
        let device = linear.passage.delta.device();
        let (first_row, rows, fan_in) =
            (self.first_row(linear.passage.consumer), self.rows(linear.passage.consumer), self.site.fan_in());
        for first in (0..rows.min(fan_in)).step_by(AT_ONCE) {
            let count = AT_ONCE.min(rows.min(fan_in) - first);
            let unit =
                |size: usize, from: usize| Mat::from_fn(count, size, |i, j| if from + i == j { 1.0 } else { 0.0 });
            // As many products as the smaller side has entries.
            match rows <= fan_in {
                true => {
                    let outgoing = unit(self.site.fan_out(), first_row + first);
                    let outgoing = to_tensor(outgoing.transpose(), &device);
                    self.add_incoming_derivative(linear, &outgoing, total.subrows_mut(first_row + first, count));
                }
                false => {
                    let incoming = to_tensor(unit(fan_in, first).as_ref(), &device);
                    let mut part = total.submatrix_mut(first_row, first, rows, count);
                    part += from_tensor(self.outgoing_derivative(linear, &incoming));
                }
            }
        }
    }

    /// The first of a consumer's rows among the outgoing weights.
    pub(crate) fn first_row(&self, consumer: usize) -> usize {
        (0..consumer).map(|consumer| self.rows(consumer)).sum()
    }

    /// A consumer's rows among the outgoing weights.
    pub(crate) fn rows(&self, consumer: usize) -> usize {
        self.site.paths[consumer].fan_out(self.site.width())
    }

    /// What the consumer reads of neurons with these weights.
    pub(crate) fn read(&self, passage: &Passage, gained: &Gained, neurons: &NewNeurons) -> Signal {
        let incoming = to_tensor(neurons.incoming.as_ref(), &passage.delta.device());
        let produced = self.biased(passage, self.produce(passage, &incoming), neurons);
        self.site.paths[passage.consumer].applied(produced, gained)
    }

    /// What neurons with these weights add to the consumer's output.
    pub(crate) fn added(&self, passage: &Passage, gained: &Gained, neurons: &NewNeurons) -> Signal {
        self.added_by(passage, self.read(passage, gained, neurons), &neurons.outgoing)
    }

    /// What neurons add to the consumer's output, by what it reads of them, and the outgoing weights to all consumers.
    pub(crate) fn added_by(&self, passage: &Passage, read: Signal, outgoing: &Matrix) -> Signal {
        let (first, rows) = (self.first_row(passage.consumer), self.rows(passage.consumer));
        let outgoing = to_tensor(outgoing.subrows(first, rows), &passage.delta.device());
        self.consume(passage.consumer, read, outgoing)
    }

    /// What the writers compute, with the neurons' biases added, which one writer has.
    pub(crate) fn biased(&self, passage: &Passage, produced: Signal, neurons: &NewNeurons) -> Signal {
        // A reader of a residual stream sees the writers before it only, and so perhaps not the one with the bias.
        let has_bias = self.site.biased_writer().is_none_or(|writer| writer < passage.inputs.len());
        if !has_bias || neurons.bias.iter().all(|bias| *bias == 0.0) {
            return produced;
        }
        let bias = TensorData::new(neurons.bias.iter().map(|b| *b as f32).collect(), [neurons.count()]);
        let bias = Tensor::<1>::from_data(bias, &produced.device());
        produced.plus_each(bias)
    }

    /// What gradients of new weights are sums of on one passage, in size, for neurons with weights of norm 1: the
    /// product of the norms of `h`, `delta` and the factors of norms.
    pub(crate) fn size(&self, passage: &Passage) -> f64 {
        let between = self.site.paths[passage.consumer].between.iter();
        let gain = between.filter_map(|between| between.traits().norm_gain).product::<f64>();
        let inputs = self.inputs(passage).map(|(_, input)| input.norm().powi(2)).sum::<f64>().sqrt();
        // By Cauchy and Schwarz no entry of a gradient is larger, so this is what rounding errors are relative to.
        gain * inputs * passage.delta.norm()
    }
}
