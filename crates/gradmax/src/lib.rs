//! Neural networks that grow while they train, on the Burn framework.
//!
//! A network starts small; during training, neurons are added where they raise the gradient most, with weights from a
//! singular value decomposition, without changing what the network already computes (Evci et al., *GradMax: Growing
//! Neural Networks using Gradient Information*, ICLR 2022).
//!
//! - Make a network [`Growable`]: list its [`Site`]s, and show each to the [`Probe`] in its forward pass; or take an [`Mlp`].
//! - Grow it with a [`Grower`], which asks an [`Initializer`] ([`GradMax`], [`GradMaxRectified`], [`Random`], one of many others, or your
//!   own) for weights, widens the module, carries the optimizer's state, verifies the event and returns a [`Receipt`].
//! - Or let a [`Trainer`] do it all, with a [`Schedule`], observers and [checkpoints](checkpoint).
//!
//! # Example
//! ```
//! use burn::optim::SgdConfig;
//! use burn::tensor::{Device, Tensor};
//! use gradmax::{Activation, Architecture, GradMax, Growable, Grower, MlpConfig, Pass, Planned, Seed, Target, Task};
//!
//! let device = Device::flex();
//! let (input, target) = (Tensor::<2>::ones([4, 3], &device), Target::Values(Tensor::ones([4, 2], &device)));
//! let config = MlpConfig::new(3, &[5], 2, Activation::Tanh);
//! let network = config.init(Seed::new(0), &device.autodiff())?;
//!
//! let plan = [Planned { site: "hidden1".into(), count: 2 }];
//! let growth = Grower::new(GradMax::default()).grow(&network, &SgdConfig::new().init(), &plan, |network, probe| {
//!     let output = network.forward_probed(input.clone(), probe);
//!     Pass { loss: Task::Regression.loss(output.clone(), &target), output }
//! })?;
//! assert_eq!(growth.network.sites()[0].width(), 7);
//! assert_eq!(growth.receipt.output_change, Some(0.0));
//! # Ok::<(), gradmax::Error>(())
//! ```

mod activation;
mod adam;
mod addition;
mod anatomy;
mod between;
mod block;
mod branch;
mod carry;
pub mod checkpoint;
mod chosen;
mod data;
mod directions;
mod draws;
mod error;
mod evaluation;
mod existing;
mod extension;
mod gradients;
mod growable;
mod grower;
mod growth_loss;
mod index_map;
mod initializer;
mod layer;
mod learning_rate;
mod look;
mod matrix;
mod modules;
mod network;
mod new_neurons;
mod observer;
mod ongoing;
mod operator;
mod order;
mod panics;
mod pass;
mod placement;
mod probe;
mod receipt;
mod run;
mod schedule;
mod seed;
mod seen;
mod settings;
mod signal;
mod site;
mod task;
mod trainer;
mod verify;

pub use activation::Activation;
pub use anatomy::{Described, LayerSummary};
pub use between::{AtZero, Between, IntoBetween, OutputChange, global_average};
pub use carry::{Carried, SecondMoments, carry, optimizer_on};
pub use data::{Batch, Examples, InMemory};
pub use directions::{Directions, Solver, alignment, leading_directions, leading_directions_by};
pub use draws::with_draws;
pub use error::Error;
pub use evaluation::{Evaluation, evaluate};
pub use existing::Existing;
pub use extension::{Extension, widen};
pub use gradients::{Decayed, WeightDecay};
pub use growable::{Growable, trainable_parameters, training_flops};
pub use grower::{EventContext, Grower, Growth};
pub use growth_loss::{GrowthLoss, LossAt};
pub use initializer::{
    Ascent, Firefly, FireflyOpt, GradMax, GradMaxOpt, GradMaxRectified, Initializer, Needs, Nest, Net2Wider, North,
    Random, RandomPositive, Request, Sign, SplittingSteepestDescent, Tiny, UnitBias, VarianceTransfer,
};
pub use layer::Layer;
pub use learning_rate::{Decay, LearningRate};
pub use look::{EVIDENCE_MEMORY, Look};
pub use matrix::Matrix;
pub use modules::{DepthwiseConv2d, Dropout, GroupNorm, Norm, NormKind};
pub use network::{
    Architecture, ConvNet, ConvNetConfig, Downsampling, HiddenPath, Mlp, MlpConfig, MobileNetV1Config, Stage, Strides,
    VggConfig, WideResNet, WideResNetConfig,
};
pub use new_neurons::{Changes, NewNeurons};
pub use observer::{Observer, ObserverError, Row, Split};
pub use operator::{GrowthOperator, LinearOperator};
pub use pass::{Part, Pass, TrainingPass};
pub use placement::{Placement, Scale, ZeroSide};
pub use probe::{Evidence, Probe, Recorder};
pub use receipt::{Receipt, SiteReceipt, Timing};
pub use run::{Outcome, Progress, Run, Summary};
pub use schedule::{Amount, Observed, Order, Periodic, Planned, Schedule, SiteWidth, target_widths};
pub use seed::Seed;
pub use settings::{GrowthBatch, GrowthPolicy, OnFailure, Settings};
pub use signal::{Activations, Signal};
pub use site::{Path, Site};
pub use task::{Target, Task};
pub use trainer::Trainer;
pub use verify::Verification;

/// The crates whose types appear in this one's, and the one that a program or network calls for speed: matrices,
/// kernels, and generators.
pub use {faer, flexconv, rand};

/// The README's code is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
