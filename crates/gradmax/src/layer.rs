//! A layer that produces or consumes neurons: where its weights lie, and its own arithmetic with other weights.

use burn::module::ParamId;
use burn::nn::Linear;
use burn::tensor::{Tensor, TensorData};
use faer::MatRef;

use crate::extension::Extension;
use crate::matrix::to_data;

/// A layer at one end of a site, held by value: its parameter ids say which parameters of the network are meant.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Layer {
    /// A dense layer; a neuron is a unit.
    Dense(Linear),
}

impl From<&Linear> for Layer {
    fn from(linear: &Linear) -> Self {
        Self::Dense(linear.clone())
    }
}

impl Layer {
    /// Number of neurons that the layer reads.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Dense(linear) => linear.weight.lazy_shape()[0],
        }
    }

    /// Number of neurons that the layer computes.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Dense(linear) => linear.weight.lazy_shape()[1],
        }
    }

    /// Incoming weights of one neuron of this layer, as a producer (bias not counted).
    pub fn fan_in(&self) -> usize {
        match self {
            Self::Dense(_) => self.inputs(),
        }
    }

    /// Outgoing weights of one neuron that this layer reads, as a consumer.
    pub fn fan_out(&self) -> usize {
        match self {
            Self::Dense(_) => self.outputs(),
        }
    }

    /// The id of the weight.
    pub fn weight(&self) -> ParamId {
        match self {
            Self::Dense(linear) => linear.weight.id,
        }
    }

    /// The id of the bias, if the layer has one.
    pub fn bias(&self) -> Option<ParamId> {
        match self {
            Self::Dense(linear) => linear.bias.as_ref().map(|bias| bias.id),
        }
    }

    /// The axis of the weight along which this layer's own neurons lie.
    pub fn producer_axis(&self) -> usize {
        match self {
            Self::Dense(_) => 1,
        }
    }

    /// The axis of the weight along which the neurons that it reads lie.
    pub fn consumer_axis(&self) -> usize {
        match self {
            Self::Dense(_) => 0,
        }
    }

    /// Mean L2 norm of the incoming weights of the existing neurons, as a producer.
    pub fn mean_incoming_norm(&self) -> f64 {
        match self {
            Self::Dense(linear) => mean_norm(linear.weight.val(), self.producer_axis()),
        }
    }

    /// Mean L2 norm of the outgoing weights of the existing neurons, as a consumer.
    pub fn mean_outgoing_norm(&self) -> f64 {
        match self {
            Self::Dense(linear) => mean_norm(linear.weight.val(), self.consumer_axis()),
        }
    }

    /// Extensions that give this producer new neurons: `incoming` `[count, fan_in]` and a bias each.
    pub(crate) fn extend_as_producer(&self, incoming: MatRef<'_, f64>, bias: &[f64]) -> Vec<Extension> {
        let at = self.outputs();
        let weight = match self {
            Self::Dense(_) => Extension {
                parameter: self.weight(),
                axis: self.producer_axis(),
                at,
                values: to_data(incoming.transpose()),
            },
        };
        let bias = self.bias().map(|parameter| Extension {
            parameter,
            axis: 0,
            at,
            values: TensorData::new(bias.iter().map(|b| *b as f32).collect(), [bias.len()]),
        });
        std::iter::once(weight).chain(bias).collect()
    }

    /// The extension that makes this consumer read new neurons: `outgoing` `[fan_out, count]`.
    pub(crate) fn extend_as_consumer(&self, outgoing: MatRef<'_, f64>) -> Extension {
        match self {
            Self::Dense(_) => Extension {
                parameter: self.weight(),
                axis: self.consumer_axis(),
                at: self.inputs(),
                values: to_data(outgoing.transpose()),
            },
        }
    }

    /// The layer's arithmetic as a producer with other weights: `[batch, inputs]` and `[count, fan_in]` to `[batch, count]`.
    pub(crate) fn produce(&self, input: Tensor<2>, incoming: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(_) => input.matmul(incoming.transpose()),
        }
    }

    /// The layer's arithmetic as a consumer with other weights: `[batch, count]` and `[fan_out, count]` to `[batch, outputs]`.
    pub(crate) fn consume(&self, input: Tensor<2>, outgoing: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(_) => input.matmul(outgoing.transpose()),
        }
    }
}

/// Mean L2 norm of a weight's slices along the neurons' axis; 0 where there are none.
fn mean_norm(weight: Tensor<2>, axis: usize) -> f64 {
    if weight.dims()[axis] == 0 {
        return 0.0;
    }
    weight.inner().square().sum_dim(1 - axis).sqrt().mean().into_scalar::<f64>()
}
