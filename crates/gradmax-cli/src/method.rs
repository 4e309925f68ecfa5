//! The methods that configurations can name: the baselines, and the initializers.

use anyhow::Result;
use gradmax::{GradMax, GradMaxRectified, Initializer, Random, RandomPositive};

use crate::failure::misuse;

/// What a run does about its size.
pub enum Method {
    /// The seed network, never grown.
    Small,
    /// The target network from the start.
    Big,
    /// The seed network, grown with an initializer.
    Grow(Box<dyn Initializer>),
}

/// A method's name, and how to make it.
type Entry = (&'static str, fn() -> Method);

/// Every method's name, and the method. To add an initializer, add a line.
pub const METHODS: [Entry; 6] = [
    ("small", || Method::Small),
    ("big", || Method::Big),
    ("random", || Method::Grow(Box::new(Random))),
    ("random_positive", || Method::Grow(Box::new(RandomPositive))),
    ("gradmax", || Method::Grow(Box::new(GradMax))),
    ("gradmax_rectified", || Method::Grow(Box::new(GradMaxRectified))),
];

/// The method of that name.
pub fn named(name: &str) -> Result<Method> {
    match METHODS.iter().find(|(known, _)| *known == name) {
        Some((_, method)) => Ok(method()),
        None => {
            let known = METHODS.map(|(known, _)| known).join(", ");
            Err(misuse(format!("there is no method `{name}`; the methods are: {known}")))
        }
    }
}

/// Checks that there is a method of that name.
pub fn check(name: &str) -> Result<()> {
    named(name).map(|_| ())
}
