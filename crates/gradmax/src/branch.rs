//! The branch that a new neuron adds to a network: the producer's arithmetic, what lies between, the consumer's arithmetic.

use burn::tensor::Tensor;
use faer::Mat;

use crate::error::Error;
use crate::initializer::NewNeurons;
use crate::matrix::{from_tensor, to_tensor};
use crate::probe::{Evidence, Passage};
use crate::site::Site;

/// A site's branch on the growth batch: `<delta, branch(h, w_in, w_out)>` for weights of your choice, where `h` is the
/// producer's input and `delta` the gradient of the loss at the consumer's output.
#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) site: Site,
    pub(crate) passages: Vec<Passage>,
}

/// What happens between producer and consumer.
#[derive(Clone, Copy)]
pub(crate) enum Response {
    /// Multiplication by this slope at zero: the form is then bilinear.
    Linear(f64),
    /// The functions themselves: what a neuron with these weights really does.
    Actual,
}

impl Branch {
    pub(crate) fn new(site: &Site, evidence: &Evidence) -> Result<Self, Error> {
        site.check_widths()?;
        Ok(Self { site: site.clone(), passages: evidence.passages(site)?.to_vec() })
    }

    /// The form on one passage, summed over a block of neurons: `incoming` `[n, fan_in]`, `outgoing` `[fan_out, n]`, `bias` `[1, n]`.
    pub(crate) fn form(
        &self,
        passage: &Passage,
        response: Response,
        [incoming, outgoing]: [&Tensor<2>; 2],
        bias: Option<&Tensor<2>>,
    ) -> Tensor<1> {
        let produced = self.site.producer.produce(passage.input.clone(), incoming.clone());
        let produced = match bias {
            Some(bias) => produced + bias.clone(),
            None => produced,
        };
        let neurons = match response {
            Response::Linear(1.0) => produced,
            Response::Linear(slope) => produced.mul_scalar(slope),
            Response::Actual => self.site.apply_between(produced),
        };
        let added = self.site.consumer.consume(neurons, outgoing.clone());
        (added * passage.delta.clone()).sum()
    }

    /// The gradients that new neurons with these weights will receive: weights, and bias, of the same shapes.
    ///
    /// Exact where the neurons leave the output unchanged, since `delta` is then unchanged too.
    pub(crate) fn gradients(&self, neurons: &NewNeurons) -> NewNeurons {
        let (count, fan_in) = neurons.incoming.shape();
        let bias = Mat::from_fn(1, count, |_, j| neurons.bias[j]);
        let weights = [neurons.incoming.as_ref(), neurons.outgoing.as_ref(), bias.as_ref()];
        let mut totals = [Mat::zeros(count, fan_in), Mat::zeros(neurons.outgoing.nrows(), count), Mat::zeros(1, count)];
        for passage in &self.passages {
            let device = passage.input.device();
            let leaves = weights.map(|matrix| to_tensor(matrix, &device).autodiff().require_grad());
            let [incoming, outgoing, bias] = &leaves;
            let gradients = self.form(passage, Response::Actual, [incoming, outgoing], Some(bias)).backward();
            for (leaf, total) in leaves.iter().zip(&mut totals) {
                *total += from_tensor(leaf.grad(&gradients).expect("every weight of the branch is part of the form"));
            }
        }
        let [incoming, outgoing, bias] = totals;
        let bias = (0..count).map(|j| bias[(0, j)]).collect();
        NewNeurons { incoming, outgoing, bias, singular_values: Vec::new() }
    }
}
