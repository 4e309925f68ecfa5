//! Where a network can grow, and what is seen there.

pub(crate) mod activation;
pub(crate) mod between;
pub(crate) mod companion;
pub(crate) mod declaration;
pub(crate) mod extension;
pub(crate) mod front_norm;
pub(crate) mod growable;
pub(crate) mod layer;
pub(crate) mod layers;
pub(crate) mod output;
pub(crate) mod probe;
pub(crate) mod shown;
pub(crate) mod side;
pub(crate) mod signal;
pub(crate) mod width;

pub use self::activation::Activation;
pub use self::between::{
    AtZero, Between, BetweenLayer, Gain, Gained, IntoBetween, OutputChange, Positions, Role, Traits,
};
pub use self::companion::{Companion, CompanionWeights, Companions, UnitTensors};
pub use self::declaration::{Path, Site};
pub use self::extension::Extension;
pub use self::front_norm::{Front, FrontNorm};
pub use self::growable::{Growable, trainable_parameters, training_flops};
pub use self::layer::{Consumer, EntriesOf, Layer, Producer};
pub use self::layers::{Beside, ChangingLayerNorm, Elementwise, Flatten, Gate, GlobalAverage, global_average};
pub use self::output::Output;
pub use self::probe::{Evidence, Probe, Recorder};
pub use self::shown::{Showable, Shown, Tap};
pub use self::side::Side;
pub use self::signal::{Indices, Input, Layout, Signal, SignalShape};
pub use self::width::SiteWidth;
