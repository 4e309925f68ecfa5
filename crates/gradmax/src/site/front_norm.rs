//! The norm in front of a site: what a writer reads has gone through it.

use burn::module::Param;
use burn::nn::{LayerNorm, RmsNorm};
use burn::tensor::{Tensor, TensorData};

use crate::site::extension::Extension;
use crate::site::signal::Signal;

/// A norm over the features of each token or example, times a factor each, plus a summand each.
pub trait FrontNorm {
    /// `[features]`.
    fn factor(&self) -> &Param<Tensor<1>>;

    /// `[features]`, if there is one.
    fn summand(&self) -> Option<&Param<Tensor<1>>>;
}

impl FrontNorm for RmsNorm {
    fn factor(&self) -> &Param<Tensor<1>> {
        &self.gamma
    }

    fn summand(&self) -> Option<&Param<Tensor<1>>> {
        None
    }
}

impl FrontNorm for LayerNorm {
    fn factor(&self) -> &Param<Tensor<1>> {
        &self.gamma
    }

    fn summand(&self) -> Option<&Param<Tensor<1>>> {
        self.beta.as_ref()
    }
}

/// The factors and summands of a norm in front of a site, which nothing else reads.
#[derive(Debug, Clone)]
pub struct Front {
    factor: Param<Tensor<1>>,
    summand: Option<Param<Tensor<1>>>,
}

impl Front {
    pub(crate) fn of(norm: &impl FrontNorm) -> Self {
        Self { factor: norm.factor().clone(), summand: norm.summand().cloned() }
    }

    pub(crate) fn features(&self) -> usize {
        self.factor.lazy_shape()[0]
    }

    pub(crate) fn has_summand(&self) -> bool {
        self.summand.is_some()
    }

    /// What this norm gives, as another one gives it that has other factors and summands.
    pub(crate) fn read_as(&self, other: &Self, read: Signal) -> Signal {
        let own = |param: &Param<Tensor<1>>| param.val().inner();
        let read = match &self.summand {
            Some(summand) => read.plus_each(own(summand).neg()),
            None => read,
        };
        let read = read.times_each(own(&other.factor) / own(&self.factor));
        match &other.summand {
            Some(summand) => read.plus_each(own(summand)),
            None => read,
        }
    }

    /// What is to be added to the factors and summands so that they are another norm's.
    pub(crate) fn shifts_to(&self, other: &Self) -> Vec<Extension> {
        let factor = shift_to(&self.factor, &other.factor);
        let summand = self.summand.iter().zip(&other.summand).map(|(own, other)| shift_to(own, other));
        std::iter::once(factor).chain(summand).collect()
    }
}

/// What is to be added to a vector so that it is another one.
pub(crate) fn shift_to(own: &Param<Tensor<1>>, other: &Param<Tensor<1>>) -> Extension {
    let difference = other.val().inner() - own.val().inner();
    let entries = crate::matrix::values(&difference.into_data());
    let (length, entries) = (entries.len(), entries.into_iter().map(|entry| entry as f32).collect::<Vec<_>>());
    Extension {
        parameter: own.id,
        axis: 0,
        length,
        at: 0,
        values: TensorData::new(entries, [length]),
        copies: Vec::new(),
    }
}
