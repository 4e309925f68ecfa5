//! Experiments with networks that grow: configurations, data, networks by name, run folders, statistics and reports.
//!
//! What the programs `gradmax` and `gradmax-paper` are made of; it knows nothing of command lines.

pub mod bench;
pub mod comparison;
pub mod config;
pub mod crew;
pub mod data;
pub mod device;
pub mod edits;
pub mod experiment;
pub mod failure;
pub mod folder;
#[cfg(test)]
mod fuzz;
pub mod identity;
pub mod interrupt;
pub mod method;
pub mod network;
pub mod onnx;
pub mod optimizer;
pub mod outlook;
pub mod output;
pub mod policy;
pub mod program;
pub mod progress;
pub mod pytorch;
pub mod ranks;
pub mod reading;
pub mod report;

pub mod seed_network;
pub mod shipped;
pub mod shrunk;
pub mod starter;
pub mod statistics;
pub mod table;
pub mod tensorboard;
pub mod trained;
pub mod watch;
pub mod weights;
