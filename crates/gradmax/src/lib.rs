//! Neural networks that grow while they train, on the Burn framework.
#![warn(missing_docs)]

mod activation;
mod branch;
mod carry;
pub mod checkpoint;
mod data;
mod directions;
mod error;
mod extension;
mod growable;
mod grower;
mod initializer;
mod layer;
mod matrix;
mod network;
mod observer;
mod operator;
mod placement;
mod probe;
mod receipt;
mod schedule;
mod seed;
mod site;
mod task;
mod trainer;
mod verify;

pub use activation::Activation;
pub use carry::{Carried, SecondMoments, carry};
pub use data::{Batch, Examples, InMemory};
pub use directions::{Directions, Solver, leading_directions, leading_directions_by};
pub use error::Error;
pub use extension::{Extension, widen};
pub use growable::{Growable, training_flops};
pub use grower::{EventContext, Grower, Growth, Part, Pass};
pub use initializer::{GradMax, Initializer, Needs, NewNeurons, Random, RandomPositive, Request};
pub use layer::Layer;
pub use matrix::Matrix;
pub use network::{Mlp, MlpConfig};
pub use observer::{Observer, ObserverError, Row, Split};
pub use operator::{GrowthOperator, LinearOperator};
pub use placement::{Placement, Scale, ZeroSide};
pub use probe::{Evidence, Probe, Recorder};
pub use receipt::{Receipt, SiteReceipt, Timing};
pub use schedule::{Amount, Observed, Order, Periodic, Planned, Schedule, SiteWidth, target_widths};
pub use seed::Seed;
pub use site::{AtZero, Between, Site};
pub use task::{Target, Task};
pub use trainer::{
    Evaluation, GrowthBatch, GrowthPolicy, Outcome, Progress, Run, Settings, Summary, Trainer, evaluate,
};
pub use verify::Verification;
