//! What a layer between a producer and a consumer has to tell.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::ops::Deref;
use std::sync::Arc;

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor};

use crate::site::signal::Signal;

/// Something between a producer and a consumer: an activation, a norm, a pool.
///
/// A new neuron with zero incoming weights is zero everywhere, so only what a layer does near zero matters to growth:
/// its *linearisation* there.
pub trait Between: Debug + Send + Sync {
    /// The name to use in messages.
    fn name(&self) -> &str;

    /// What it does with new neurons, in training mode, given the entries it has for them.
    fn applied(&self, neurons: Signal, gained: &Gained) -> Signal;

    /// Its linearisation at zero, for new neurons; `slope` is that of [`at_zero`](Self::at_zero), else 1.
    fn linearised(&self, neurons: Signal, _slope: f64) -> Signal {
        self.applied(neurons, &Gained::default())
    }

    /// Value and slope at zero, if it is a function of each entry by itself.
    fn at_zero(&self, _device: &Device) -> Option<AtZero> {
        None
    }

    /// The entries that it gains for each feature of a new neuron.
    fn gains(&self) -> Vec<Gain> {
        Vec::new()
    }

    /// What it is and does, as far as that decides how a site can grow.
    fn traits(&self) -> Traits {
        Traits::default()
    }
}

/// What a layer between is and does, as far as that decides how a site can grow.
#[derive(Debug, Clone)]
pub struct Traits {
    /// Number of features that it is made for, if it has parameters.
    pub features: Option<usize>,
    /// Whether it linearises to one factor for all entries.
    pub is_factor: bool,
    /// For norms, what they multiply by where the variance is 0: neurons are divided by their own spread, which is 0
    /// for those with zero incoming weights.
    pub norm_gain: Option<f64>,
    /// Neurons that share statistics, so that new ones come in multiples of this.
    pub group_size: usize,
    /// Whether new neurons that are zero change what becomes of others, and whether that is accepted.
    pub output_change: Option<OutputChange>,
    /// Whether it draws at random in training.
    pub is_random: bool,
    /// What it needs and leaves of the axes of positions.
    pub positions: Positions,
    /// Channels of others that lie before and after the neurons from here on.
    pub beside: [usize; 2],
}

impl Default for Traits {
    /// Those of a function of each entry by itself, but for [`is_factor`](Self::is_factor).
    fn default() -> Self {
        Self {
            features: None,
            is_factor: false,
            norm_gain: None,
            group_size: 1,
            output_change: None,
            is_random: false,
            positions: Positions::Any,
            beside: [0, 0],
        }
    }
}

/// What a layer between needs and leaves of the axes of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// It takes any number of axes, and keeps them.
    Any,
    /// It takes so many axes, and keeps them.
    Axes(usize),
    /// It takes the mean over all.
    Averaged,
    /// It lays the positions of a neuron side by side, as features.
    Flattened,
}

/// Whether growth may change the output of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputChange {
    /// It may not: the site is refused.
    Refused,
    /// It may; the receipt states by how much.
    Accepted,
}

/// A function's value and slope at zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AtZero {
    /// `f(0)`.
    pub value: f64,
    /// `f'(0)`, as automatic differentiation gives it.
    pub slope: f64,
}

impl AtZero {
    /// Those of a function, measured by running it: nothing about it is taken on trust.
    pub fn of(function: impl FnOnce(Tensor<1>) -> Tensor<1>, device: &Device) -> Self {
        // Automatic differentiation rather than a difference quotient: at a kink it is what training will use.
        let zero = Tensor::<1>::zeros([1], &device.clone().inner()).autodiff().require_grad();
        let value = function(zero.clone());
        let slope = match value.is_tracked() {
            true => zero.grad(&value.clone().sum().backward()).map_or(0.0, |slope| slope.into_scalar::<f64>()),
            false => 0.0,
        };
        Self { value: value.inner().into_scalar::<f64>(), slope }
    }
}

/// Entries that a layer between gains for each feature of a new neuron.
#[derive(Debug, Clone)]
pub struct Gain {
    /// The parameter that gains them, along its axis 0.
    pub parameter: ParamId,
    /// The shape of one entry, behind the neurons' axis 0.
    pub entry_shape: Vec<usize>,
    /// One entry, of a neuron that is new.
    pub entry: Vec<f32>,
    /// The entries of the existing ones, flat.
    pub existing: Tensor<1>,
    /// What an entry does with the neuron.
    pub role: Role,
}

/// What an entry of a layer between does with the neuron.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is trained, and multiplies it.
    Factor,
    /// It is trained, and is added to it.
    Summand,
    /// It is a running statistic.
    Statistic,
}

impl Gain {
    /// One value for each feature.
    pub fn scalar(parameter: &Param<Tensor<1>>, value: f32, role: Role) -> Self {
        let existing = parameter.val().inner();
        Self { parameter: parameter.id, entry_shape: Vec::new(), entry: vec![value], existing, role }
    }

    pub(crate) fn is_trained(&self) -> bool {
        self.role != Role::Statistic
    }
}

/// The trained entries that layers between have for new neurons, as leaves of automatic differentiation.
#[derive(Debug, Clone, Default)]
pub struct Gained(pub(crate) BTreeMap<ParamId, Tensor<1>>);

impl Gained {
    /// Those of a parameter, flat: `[features]`, times the size of an entry.
    ///
    /// # Panics
    /// If the layer did not state the parameter in [`gains`](Between::gains), or as a statistic.
    pub fn of(&self, parameter: ParamId) -> Tensor<1> {
        self.0.get(&parameter).expect("a layer between uses what it gains").clone()
    }
}

/// A layer between, of whatever kind.
#[derive(Clone)]
pub struct BetweenLayer(Arc<dyn Between>);

impl Debug for BetweenLayer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl BetweenLayer {
    /// A layer between.
    pub fn new(between: impl Between + 'static) -> Self {
        Self(Arc::new(between))
    }
}

impl Deref for BetweenLayer {
    type Target = dyn Between;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl<B: Between + Clone + 'static> From<&B> for BetweenLayer {
    fn from(between: &B) -> Self {
        Self::new(between.clone())
    }
}

/// What lies between a producer and a consumer, in order: a tuple of up to six layers and activations, an array of one
/// kind, or a vector.
///
/// `(&norm, Activation::Relu)`, `[Activation::Relu]` and `vec![Flatten.into()]` are such.
pub trait IntoBetween {
    /// The layers in order.
    fn into_between(self) -> Vec<BetweenLayer>;
}

impl<B: Into<BetweenLayer>, const N: usize> IntoBetween for [B; N] {
    fn into_between(self) -> Vec<BetweenLayer> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<B: Into<BetweenLayer>> IntoBetween for Vec<B> {
    fn into_between(self) -> Vec<BetweenLayer> {
        self.into_iter().map(Into::into).collect()
    }
}

macro_rules! tuple_into_between {
    ($($layer:ident),+) => {
        impl<$($layer: Into<BetweenLayer>),+> IntoBetween for ($($layer,)+) {
            fn into_between(self) -> Vec<BetweenLayer> {
                #[allow(non_snake_case)]
                let ($($layer,)+) = self;
                vec![$($layer.into()),+]
            }
        }
    };
}

/// No layers: the neurons are read as they are.
impl IntoBetween for () {
    fn into_between(self) -> Vec<BetweenLayer> {
        Vec::new()
    }
}

tuple_into_between!(A);
tuple_into_between!(A, B);
tuple_into_between!(A, B, C);
tuple_into_between!(A, B, C, D);
tuple_into_between!(A, B, C, D, E);
tuple_into_between!(A, B, C, D, E, F);

/// Makes values of these types layers between, as references to them are.
macro_rules! between_by_value {
    ($($kind:ty),+) => {$(
        impl From<$kind> for $crate::site::between::BetweenLayer {
            fn from(between: $kind) -> Self {
                Self::new(between)
            }
        }
    )+};
}

pub(crate) use between_by_value;

/// What a norm with this epsilon multiplies by where the variance is 0.
pub(crate) fn gain_of(epsilon: f64) -> f64 {
    epsilon.sqrt().recip()
}
