//! Neural networks that grow while they train, on the Burn framework.
//!
//! A network starts small; during training, neurons are added where they raise the gradient most, with weights from a
//! singular value decomposition, without changing what the network already computes (Evci et al., *GradMax: Growing
//! Neural Networks using Gradient Information*, ICLR 2022).
//!
//! - Make a network [`Growable`](site::Growable): list its [`Site`](site::Site)s, and show each to the
//!   [`Probe`](site::Probe) in its forward pass; or take an [`Mlp`](networks::Mlp).
//! - Grow it with a [`Grower`](event::Grower), which asks a [`GrowthMethod`](methods::GrowthMethod)
//!   ([`GradMax`](methods::GradMax), [`GradMaxRectified`](methods::GradMaxRectified), one of many others, or your own) for
//!   weights, widens the module, carries the optimizer's state, verifies the event and returns a
//!   [`Receipt`](event::Receipt).
//! - Or let a [`Trainer`](training::Trainer) do it all, with a [`Policy`](policies::Policy), observers and
//!   [checkpoints](training::checkpoint).
//!
//! # Example
//! ```
//! use burn::optim::SgdConfig;
//! use burn::tensor::{Device, Tensor};
//! use gradmax::networks::MlpConfig;
//! use gradmax::prelude::*;
//!
//! let device = Device::flex();
//! let (input, target) = (Tensor::<2>::ones([4, 3], &device), Tensor::<2>::ones([4, 2], &device));
//! let config = MlpConfig::new(3, &[5], 2, Activation::Tanh);
//! let network = config.init(Seed::new(0), &device.autodiff())?;
//!
//! let plan = [Planned { site: "hidden1".into(), count: 2 }];
//! let growth = Grower::new(GradMax::default()).grow(&network, &SgdConfig::new().init(), &plan, |network, probe| {
//!     let output = network.forward_probed(input.clone(), probe);
//!     Pass { loss: Regression.loss(&output, &target), output }
//! })?;
//! assert_eq!(growth.network.sites()[0].width(), 7);
//! assert_eq!(growth.receipt.output_change, Some(0.0));
//! # Ok::<(), gradmax::Error>(())
//! ```

mod across;
mod draws;
mod error;
pub mod event;
mod matrix;
pub mod methods;
pub mod modules;
pub mod networks;
pub mod operator;
mod panics;
pub mod policies;
mod registry;
mod seed;
pub mod site;
mod sums;
pub mod surgery;
pub mod training;

pub use error::Error;
pub use matrix::Matrix;
pub use registry::{Named, Options};
pub use seed::Seed;
pub use sums::{Alone, Sums};

/// What most programs that grow a network need.
pub mod prelude {
    pub use crate::Seed;
    pub use crate::event::{Grower, Pass, Planned};
    pub use crate::methods::GradMax;
    pub use crate::networks::Architecture;
    pub use crate::site::{Activation, Growable, Probe, Site};
    pub use crate::training::{Regression, Run, Settings, Task, Trainer};
}

/// The code of docs/library.md is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
struct Library;
