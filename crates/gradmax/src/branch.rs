//! The branch that a new neuron adds to a network: the producer's arithmetic, what lies between, the consumer's
//! arithmetic.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use faer::{Mat, MatRef};

use crate::addition::{BlockValues, FreshAt, fresh_between, fresh_leaves};
use crate::between::{Between, FreshLeaves, Role};
use crate::error::Error;
use crate::matrix::{Matrix, from_tensor, to_tensor};
use crate::new_neurons::NewNeurons;
use crate::probe::{Evidence, Passage};
use crate::signal::{Signal, map_tensor};
use crate::site::Site;

/// Bounds on the solution of least-squares problems: iterations, and the share of the squared gradient that may remain.
const LEAST_SQUARES_STEPS: usize = 30;
const LEAST_SQUARES_REMAINDER: f64 = 1e-8;

/// The branch of one block of a site on the growth batch: `<delta, branch(h, w_in, w_out)>` for weights of your choice,
/// where `h` is the producer's input and `delta` the gradient of the loss at the consumer's output.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    pub(crate) site: Site,
    /// The site's number of the block's first neuron.
    first: usize,
    pub(crate) passages: Vec<Passage>,
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

impl Branch {
    /// The branch of the block with this index.
    pub(crate) fn new(site: &Site, block: usize, evidence: &Evidence) -> Result<Self, Error> {
        site.check()?;
        let passages = evidence.passages(site)?.into_iter().map(|passage| of_block(site, block, passage)).collect();
        let first = block * (site.width() / site.blocks());
        let branch = Self { site: site.clone(), first, passages };
        branch.check_shapes()?;
        Ok(branch)
    }

    /// Runs the branch on one example: what it adds must have the shape of what the consumer computes.
    fn check_shapes(&self) -> Result<(), Error> {
        let count = self.site.growth_unit() / self.site.blocks();
        let between = fresh_between(&self.site);
        for passage in &self.passages {
            let first = |signal: &Signal| map_tensor!(signal.clone(), tensor => tensor.narrow(0, 0, 1));
            let (input, delta) = (first(&passage.input), first(&passage.delta));
            let device = input.device();
            let neurons =
                NewNeurons::unbiased(Mat::zeros(count, self.site.fan_in()), Mat::zeros(self.site.fan_out(), count));
            let passage = Passage { consumer: passage.consumer, input, delta: delta.clone() };
            let fresh = fresh_leaves(&between, &neurons, self.first, &device);
            let (branch, consumer) = (self.added(&passage, &fresh, &neurons).shape(), delta.shape());
            if branch != consumer {
                return Err(Error::BranchMismatch { site: self.site.name.clone(), branch, consumer });
            }
        }
        Ok(())
    }

    /// The branch of silent neurons, whose activations have these slopes.
    pub(crate) fn linearised(&self, slopes: &[Vec<f64>]) -> Vec<LinearPassage> {
        self.passages.iter().map(|passage| self.linear_passage(passage, &slopes[passage.consumer])).collect()
    }

    /// Where the producer treats every position alike, so does all that lies between, channel by channel: it can be
    /// applied to the producer's input instead, once for all neurons. If the consumer is pointwise too, their positions
    /// become vectors.
    fn linear_passage(&self, passage: &Passage, slopes: &[f64]) -> LinearPassage {
        let (path, producer) = (&self.site.paths[passage.consumer], &self.site.producer);
        let factor = path.factor(slopes);
        let as_it_is = || LinearPassage { passage: passage.clone(), factor, slopes: slopes.to_vec() };
        if !producer.is_pointwise() || path.between.iter().any(|between| matches!(between, Between::Flatten)) {
            return as_it_is();
        }
        let read = match factor {
            Some(_) => passage.input.clone(),
            None => path.linearised(passage.input.clone(), slopes),
        };
        let (input, delta) = match path.consumer.is_pointwise() {
            true => (read.by_position(), passage.delta.clone().by_position()),
            false => (read, passage.delta.clone()),
        };
        let factor = factor.or(Some(1.0));
        LinearPassage { passage: Passage { input, delta, ..*passage }, factor, slopes: slopes.to_vec() }
    }

    /// The bilinear form's gradient at the incoming weights, on one passage: `[n, fan_in]`, for `outgoing` `[fan_out,
    /// n]`.
    ///
    /// The form is linear in the incoming weights, so no pass forward is needed: the consumer's adjoint, that of what
    /// lies between, and the producer's.
    pub(crate) fn incoming_derivative(&self, linear: &LinearPassage, outgoing: &Tensor<2>) -> Tensor<2> {
        let LinearPassage { passage, factor, slopes } = linear;
        let (path, producer) = (&self.site.paths[passage.consumer], &self.site.producer);
        let [_, count] = outgoing.dims();
        let outgoing = outgoing.clone().narrow(0, self.first_row(passage.consumer), self.rows(passage.consumer));
        if let Some(factor) = factor {
            let shape = producer.produced_shape(&passage.input, count);
            let gradient = path.consumer.consumer_input_gradient(&shape, outgoing, passage.delta.clone());
            return producer.producer_gradient(passage.input.clone(), gradient.scaled(*factor));
        }
        let silent = producer.produced_zeros(&passage.input, count).zero_leaf();
        let read = path.linearised(silent.clone(), slopes);
        let gradient = path.consumer.consumer_input_gradient(&read.shape(), outgoing, passage.delta.clone());
        let gradients = read.inner_product(map_tensor!(gradient, tensor => tensor.autodiff())).backward();
        let gradient = map_tensor!(silent, leaf => leaf.grad(&gradients).expect("the form depends on the neurons"));
        producer.producer_gradient(passage.input.clone(), gradient)
    }

    /// The bilinear form's gradient at the outgoing weights that the passage's consumer reads, for `incoming` `[n,
    /// fan_in]`: `[rows, n]`.
    pub(crate) fn outgoing_derivative(&self, linear: &LinearPassage, incoming: &Tensor<2>) -> Tensor<2> {
        let LinearPassage { passage, factor, slopes } = linear;
        let path = &self.site.paths[passage.consumer];
        let [count, _] = incoming.dims();
        let produced = self.site.producer.produce(passage.input.clone(), incoming.clone());
        let neurons = match factor {
            Some(factor) => produced.scaled(*factor),
            None => path.linearised(produced, slopes),
        };
        path.consumer.consumer_gradient(neurons, count, passage.delta.clone())
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
    fn read(&self, passage: &Passage, fresh: &FreshLeaves, neurons: &NewNeurons) -> Signal {
        let device = passage.input.device();
        let incoming = to_tensor(neurons.incoming.as_ref(), &device);
        let produced = biased(self.site.producer.produce(passage.input.clone(), incoming), neurons);
        self.site.paths[passage.consumer].applied(produced, fresh)
    }

    /// What neurons with these weights add to the consumer's output.
    fn added(&self, passage: &Passage, fresh: &FreshLeaves, neurons: &NewNeurons) -> Signal {
        let read = self.read(passage, fresh, neurons);
        let outgoing = to_tensor(neurons.outgoing.as_ref(), &passage.input.device());
        let (first, rows) = (self.first_row(passage.consumer), self.rows(passage.consumer));
        self.site.paths[passage.consumer].consumer.consume(read, outgoing.narrow(0, first, rows))
    }

    /// The second moments of what the producer reads, times `incoming` `[n, fan_in]`: the sums over examples and
    /// positions of a neuron's response times that of each incoming weight, `[n, fan_in]`.
    pub(crate) fn input_moments(&self, incoming: MatRef<'_, f64>) -> Matrix {
        let producer = &self.site.producer;
        let mut total = Mat::zeros(incoming.nrows(), incoming.ncols());
        // Every consumer has seen the same inputs.
        for passage in self.passages.iter().filter(|passage| passage.consumer == self.passages[0].consumer) {
            let incoming = to_tensor(incoming, &passage.input.device());
            let responses = producer.produce(passage.input.clone(), incoming);
            total += from_tensor(producer.producer_gradient(passage.input.clone(), responses));
        }
        total
    }

    /// The branch with the part of `delta` taken off that changes of these neurons' outgoing weights explain, by least
    /// squares.
    pub(crate) fn beyond(&self, neurons: &NewNeurons) -> Self {
        let between = fresh_between(&self.site);
        let read = |passage: &Passage| {
            let fresh = fresh_leaves(&between, neurons, self.first, &passage.input.device());
            self.read(passage, &fresh, neurons).inner()
        };
        let read = self.passages.iter().map(read).collect::<Vec<_>>();
        let consumed = |passage: &Passage, read: &Signal, outgoing: &Matrix| {
            let (first, rows) = (self.first_row(passage.consumer), self.rows(passage.consumer));
            let outgoing = to_tensor(outgoing.as_ref(), &passage.input.device()).narrow(0, first, rows);
            self.site.paths[passage.consumer].consumer.consume(read.clone(), outgoing)
        };
        let gradient = |deltas: &[Signal]| {
            let mut total = Mat::zeros(self.site.fan_out(), neurons.count());
            for ((passage, read), delta) in self.passages.iter().zip(&read).zip(deltas) {
                let consumer = &self.site.paths[passage.consumer].consumer;
                let (first, rows) = (self.first_row(passage.consumer), self.rows(passage.consumer));
                let mut rows = total.subrows_mut(first, rows);
                rows += from_tensor(consumer.consumer_gradient(read.clone(), neurons.count(), delta.clone()));
            }
            total
        };
        // Conjugate gradients on the normal equations (Hestenes and Stiefel 1952).
        let mut left = self.passages.iter().map(|passage| passage.delta.clone()).collect::<Vec<_>>();
        let mut residual = gradient(&left);
        let (mut direction, start) = (residual.clone(), residual.squared_norm_l2());
        let mut squared = start;
        for _ in 0..LEAST_SQUARES_STEPS {
            if squared <= LEAST_SQUARES_REMAINDER * start {
                break;
            }
            let images = self.passages.iter().zip(&read).map(|(passage, read)| consumed(passage, read, &direction));
            let images = images.collect::<Vec<_>>();
            let curvature = images.iter().map(|image| image.norm().powi(2)).sum::<f64>();
            if curvature == 0.0 {
                break;
            }
            let step = squared / curvature;
            left = left.into_iter().zip(images).map(|(left, image)| left.plus(image.scaled(-step))).collect();
            residual = gradient(&left);
            let next = residual.squared_norm_l2();
            direction = &residual + direction * faer::Scale(next / squared);
            squared = next;
        }
        let passages = self.passages.iter().zip(left);
        let passages = passages.map(|(passage, delta)| Passage { delta, ..passage.clone() }).collect();
        Self { passages, ..self.clone() }
    }

    /// The branch with the least-squares share of `delta` taken off that this neuron can explain.
    pub(crate) fn without(&self, neuron: &NewNeurons) -> Self {
        let between = fresh_between(&self.site);
        let explained = self.passages.iter().map(|passage| {
            let fresh = fresh_leaves(&between, neuron, self.first, &passage.input.device());
            self.added(passage, &fresh, neuron).inner()
        });
        let explained = explained.collect::<Vec<_>>();
        let product = |a: &Signal, b: &Signal| a.clone().inner_product(b.clone()).into_scalar::<f64>();
        let along =
            self.passages.iter().zip(&explained).map(|(passage, added)| product(&passage.delta, added)).sum::<f64>();
        let squared = explained.iter().map(|added| product(added, added)).sum::<f64>();
        let share = if squared > 0.0 { along / squared } else { 0.0 };
        let passages = self.passages.iter().zip(explained).map(|(passage, added)| {
            let delta = passage.delta.clone().plus(added.scaled(-share));
            Passage { delta, ..passage.clone() }
        });
        Self { passages: passages.collect(), ..self.clone() }
    }

    /// What gradients of new weights are sums of, in size: the product of the norms of `h`, `delta`, the neurons'
    /// weights and the factors of norms. Gradients far below it are what cancellation leaves of them.
    pub(crate) fn magnitude(&self, neurons: &NewNeurons) -> f64 {
        let weights = neurons.incoming.norm_l2().max(neurons.outgoing.norm_l2());
        let of = |passage: &Passage| {
            let between = self.site.paths[passage.consumer].between.iter();
            let gain = between.filter_map(Between::norm_gain).product::<f64>();
            gain * passage.input.norm() * passage.delta.norm()
        };
        weights * self.passages.iter().map(of).sum::<f64>()
    }

    /// The gradients that new neurons with these weights will receive, of the same shapes, and those of their entries
    /// between.
    ///
    /// Exact where the neurons leave the output unchanged, since `delta` is then unchanged too.
    pub(crate) fn gradients(&self, neurons: &NewNeurons) -> BlockValues {
        let known = neurons.incoming_gradient.as_ref();
        let known = known.filter(|_| neurons.are_silent() && self.site.neurons_are_independent());
        let between: Vec<FreshAt> = fresh_between(&self.site);
        let (count, fan_in) = neurons.incoming.shape();
        if let Some(incoming) = known
            && self.site.producer.bias().is_none()
            && between.iter().all(|at| at.fresh.role != Role::Summand)
        {
            // Silent neurons give their consumers nothing, and nothing to what multiplies them.
            let outgoing = Mat::zeros(neurons.outgoing.nrows(), count);
            let factors = between.iter().filter(|at| at.fresh.is_trained());
            let fresh = factors.map(|at| (at.fresh.parameter, vec![0.0; at.length(count)])).collect();
            return BlockValues::of_weights(incoming.clone(), outgoing, vec![0.0; count], fresh);
        }
        let mut totals = [Mat::zeros(count, fan_in), Mat::zeros(neurons.outgoing.nrows(), count)];
        let mut bias_total = vec![0.0; count];
        let mut fresh_totals: BTreeMap<_, Vec<f32>> = BTreeMap::new();
        for passage in &self.passages {
            let device = passage.input.device();
            let weights = [&neurons.incoming, &neurons.outgoing];
            let [incoming, outgoing] = weights.map(|matrix| to_tensor(matrix.as_ref(), &device));
            let fresh = fresh_leaves(&between, neurons, self.first, &device);

            let (path, producer) = (&self.site.paths[passage.consumer], &self.site.producer);
            let silent = neurons.incoming.norm_l2() == 0.0;
            let produced = match silent {
                true => producer.produced_zeros(&passage.input, count),
                false => producer.produce(passage.input.clone(), incoming),
            };
            let produced = map_tensor!(biased(produced, neurons), tensor => tensor.autodiff().require_grad());
            let read = path.applied(produced.clone(), &fresh);
            let (first, rows) = (self.first_row(passage.consumer), self.rows(passage.consumer));
            let outgoing = outgoing.narrow(0, first, rows);
            let upstream = path.consumer.consumer_input_gradient(&read.shape(), outgoing, passage.delta.clone());
            let form = read.clone().inner_product(map_tensor!(upstream, tensor => tensor.autodiff()));
            let gradients = form.backward();
            let at_neurons =
                map_tensor!(produced, leaf => leaf.grad(&gradients).expect("the form depends on the neurons"));
            let entries = |tensor: Tensor<1>| crate::matrix::values(&tensor.into_data());
            bias_total.iter_mut().zip(entries(at_neurons.sum_by_neuron())).for_each(|(total, entry)| *total += entry);
            if known.is_none() {
                totals[0] += from_tensor(producer.producer_gradient(passage.input.clone(), at_neurons));
            }
            let read = read.inner();
            // Silent neurons give their consumers nothing.
            if read.norm() > 0.0 {
                let derivative = path.consumer.consumer_gradient(read, count, passage.delta.clone());
                let mut rows = totals[1].subrows_mut(first, rows);
                rows += from_tensor(derivative);
            }
            for (parameter, leaf) in &fresh {
                let gradient = leaf.grad(&gradients).unwrap_or_else(|| leaf.clone().inner().zeros_like());
                let entries = entries(gradient);
                let total = fresh_totals.entry(*parameter).or_insert_with(|| vec![0.0; entries.len()]);
                total.iter_mut().zip(entries).for_each(|(total, entry)| *total += entry as f32);
            }
        }
        let [incoming, outgoing] = totals;
        BlockValues::of_weights(known.cloned().unwrap_or(incoming), outgoing, bias_total, fresh_totals)
    }
}

/// With the neurons' biases added.
fn biased(produced: Signal, neurons: &NewNeurons) -> Signal {
    if neurons.bias.iter().all(|bias| *bias == 0.0) {
        return produced;
    }
    let bias = TensorData::new(neurons.bias.iter().map(|b| *b as f32).collect(), [neurons.count()]);
    let bias = Tensor::<1>::from_data(bias, &produced.device());
    produced.plus_bias(bias)
}

/// The part of a passage that belongs to one block: one group of the producer's inputs and one of the consumer's
/// outputs.
fn of_block(site: &Site, block: usize, passage: &Passage) -> Passage {
    let blocks = site.blocks();
    let group = |signal: Signal, groups: usize| {
        let width = signal.width() / groups;
        signal.narrow(block * groups / blocks * width, width)
    };
    let consumer = &site.paths[passage.consumer].consumer;
    Passage {
        consumer: passage.consumer,
        input: group(passage.input.clone(), site.producer.groups()),
        delta: group(passage.delta.clone(), consumer.groups()),
    }
}
