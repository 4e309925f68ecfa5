//! One block of a site, and the arithmetic of new neurons there: the producer's, what lies between, the consumer's.

use burn::tensor::{Tensor, TensorData};
use faer::Mat;

use crate::error::Error;
use crate::matrix::{Matrix, from_tensor, to_tensor};
use crate::site::between::{Between, FreshLeaves};
use crate::site::declaration::Site;
use crate::site::probe::Passage;
use crate::site::signal::{Signal, map_tensor};
use crate::surgery::addition::{fresh_between, fresh_leaves};
use crate::surgery::new_neurons::NewNeurons;

/// One group of the producer's inputs and of the consumers' outputs; a site without groups is a single block.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) site: Site,
    /// Its number among the site's blocks.
    index: usize,
    /// The site's number of the block's first neuron.
    pub(crate) first: usize,
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
    pub(crate) fn of(site: &Site, index: usize) -> Self {
        Self { site: site.clone(), index, first: index * (site.width() / site.blocks()) }
    }

    /// The part of a passage that belongs to the block.
    pub(crate) fn part_of(&self, passage: &Passage) -> Passage {
        let blocks = self.site.blocks();
        let group = |signal: Signal, groups: usize| {
            let width = signal.width() / groups;
            signal.narrow(self.index * groups / blocks * width, width)
        };
        let consumer = &self.site.paths[passage.consumer].consumer;
        Passage {
            consumer: passage.consumer,
            input: group(passage.input.clone(), self.site.producer.groups()),
            delta: group(passage.delta.clone(), consumer.groups()),
        }
    }

    /// Runs the branch on one example: what it adds must have the shape of what the consumer computes.
    pub(crate) fn check_shapes(&self, example: &Passage) -> Result<(), Error> {
        let count = self.site.growth_unit() / self.site.blocks();
        let neurons =
            NewNeurons::unbiased(Mat::zeros(count, self.site.fan_in()), Mat::zeros(self.site.fan_out(), count));
        let fresh = fresh_leaves(&fresh_between(&self.site), &neurons, self.first, &example.input.device());
        let (branch, consumer) = (self.added(example, &fresh, &neurons).shape(), example.delta.shape());
        match branch == consumer {
            true => Ok(()),
            false => Err(Error::BranchMismatch { site: self.site.name.clone(), branch, consumer }),
        }
    }

    /// Where the producer treats every position alike, so does all that lies between, channel by channel: it can be
    /// applied to the producer's input instead, once for all neurons. If the consumer is pointwise too, their positions
    /// become vectors.
    pub(crate) fn linear_passage(&self, passage: &Passage, slopes: &[f64]) -> LinearPassage {
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

    /// Adds the form's matrix on one passage, `[fan_out, fan_in]`: its gradient at one side for each weight of the other.
    pub(crate) fn add_matrix(&self, linear: &LinearPassage, total: &mut Matrix) {
        let device = linear.passage.input.device();
        let (first_row, rows, fan_in) =
            (self.first_row(linear.passage.consumer), self.rows(linear.passage.consumer), self.site.fan_in());
        for first in (0..rows.min(fan_in)).step_by(AT_ONCE) {
            let count = AT_ONCE.min(rows.min(fan_in) - first);
            let unit =
                |size: usize, from: usize| Mat::from_fn(count, size, |i, j| if from + i == j { 1.0 } else { 0.0 });
            match rows <= fan_in {
                true => {
                    let outgoing = unit(self.site.fan_out(), first_row + first);
                    let outgoing = to_tensor(outgoing.transpose(), &device);
                    let mut part = total.subrows_mut(first_row + first, count);
                    part += from_tensor(self.incoming_derivative(linear, &outgoing));
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
    pub(crate) fn read(&self, passage: &Passage, fresh: &FreshLeaves, neurons: &NewNeurons) -> Signal {
        let device = passage.input.device();
        let incoming = to_tensor(neurons.incoming.as_ref(), &device);
        let produced = biased(self.site.producer.produce(passage.input.clone(), incoming), neurons);
        self.site.paths[passage.consumer].applied(produced, fresh)
    }

    /// What neurons with these weights add to the consumer's output.
    pub(crate) fn added(&self, passage: &Passage, fresh: &FreshLeaves, neurons: &NewNeurons) -> Signal {
        let read = self.read(passage, fresh, neurons);
        let outgoing = to_tensor(neurons.outgoing.as_ref(), &passage.input.device());
        let (first, rows) = (self.first_row(passage.consumer), self.rows(passage.consumer));
        self.site.paths[passage.consumer].consumer.consume(read, outgoing.narrow(0, first, rows))
    }

    /// What gradients of new weights are sums of on one passage, in size, for neurons with weights of norm 1: the product of
    /// the norms of `h`, `delta` and the factors of norms.
    pub(crate) fn size(&self, passage: &Passage) -> f64 {
        let between = self.site.paths[passage.consumer].between.iter();
        let gain = between.filter_map(Between::norm_gain).product::<f64>();
        gain * passage.input.norm() * passage.delta.norm()
    }
}

/// With the neurons' biases added.
pub(crate) fn biased(produced: Signal, neurons: &NewNeurons) -> Signal {
    if neurons.bias.iter().all(|bias| *bias == 0.0) {
        return produced;
    }
    let bias = TensorData::new(neurons.bias.iter().map(|b| *b as f32).collect(), [neurons.count()]);
    let bias = Tensor::<1>::from_data(bias, &produced.device());
    produced.plus_bias(bias)
}
