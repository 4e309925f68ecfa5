//! The methods that configurations can name: the baselines, the growth methods, and variants of these with other options.

use std::collections::BTreeMap;

use anyhow::Result;
use gradmax::methods::{
    Firefly, FireflyOpt, GradMax, GradMaxOpt, GradMaxRectified, GrowthMethod, Nest, Net2Wider, North, Random,
    RandomPositive, Sign, SplittingSteepestDescent, Tiny, UnitBias, VarianceTransfer,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::failure::misuse;

/// What a run does about its size.
pub enum Method {
    /// The seed network, never grown.
    Small,
    /// The target network from the start.
    Big,
    /// The seed network, grown with a growth method.
    Grow(Box<dyn GrowthMethod>),
}

/// The options of methods, by their names, as `[methods.NAME]` gives them. A name that is no method's is a variant of
/// one: `is` says of which.
pub type MethodOptions = BTreeMap<String, Table>;

/// A method's name, and how to make it with some of its options changed; its options come back in full.
type Entry = (&'static str, fn(&Table) -> Result<(Method, Table), toml::de::Error>);

/// Every method's name, and the method. To add a growth method, add a line.
const METHODS: [Entry; 19] = [
    ("small", |options| baseline(Method::Small, options)),
    ("big", |options| baseline(Method::Big, options)),
    ("random", |options| growing(Random {}, options)),
    ("random_positive", |options| growing(RandomPositive {}, options)),
    ("gradmax", |options| growing(GradMax::default(), options)),
    ("gradmax_one_sided", |options| growing(GradMax { sign: Sign::OneSided, ..GradMax::default() }, options)),
    ("gradmax_rectified", |options| growing(GradMaxRectified {}, options)),
    ("gradmax_opt", |options| growing(GradMaxOpt::default(), options)),
    ("gradmax_opt_authors", |options| growing(GradMaxOpt::authors(), options)),
    ("tiny", |options| growing(Tiny::default(), options)),
    ("north", |options| growing(North {}, options)),
    ("nest", |options| growing(Nest::default(), options)),
    ("firefly", |options| growing(Firefly::default(), options)),
    ("firefly_opt", |options| growing(FireflyOpt::default(), options)),
    ("split", |options| growing(Net2Wider::default(), options)),
    ("splitting_steepest_descent", |options| growing(SplittingSteepestDescent::default(), options)),
    ("signed_splitting_descent", |options| growing(SplittingSteepestDescent::signed(), options)),
    ("variance_transfer", |options| growing(VarianceTransfer {}, options)),
    ("unit_bias", |options| growing(UnitBias {}, options)),
];

/// The key by which a variant says which method it is one of.
const IS: &str = "is";

fn baseline(method: Method, options: &Table) -> Result<(Method, Table), toml::de::Error> {
    match options.keys().next() {
        Some(key) => Err(serde::de::Error::custom(format!("unknown field `{key}`, a baseline has no options"))),
        None => Ok((method, Table::new())),
    }
}

/// The growth method with some of its options changed.
fn growing<I: GrowthMethod + Serialize + DeserializeOwned + 'static>(
    method: I,
    options: &Table,
) -> Result<(Method, Table), toml::de::Error> {
    let mut all = Table::try_from(&method).expect("options are plain values");
    all.extend(options.iter().map(|(key, value)| (key.clone(), value.clone())));
    let method: I = all.clone().try_into()?;
    Ok((Method::Grow(Box::new(method)), all))
}

/// The names of all methods, in one line.
pub fn names() -> String {
    METHODS.map(|(name, _)| name).join(", ")
}

/// The place of a method among all; variants come after the methods.
pub fn rank(name: &str) -> usize {
    METHODS.iter().position(|(known, _)| *known == name).unwrap_or(METHODS.len())
}

/// The method of that name, with the options that are given for it.
pub fn named(name: &str, options: &MethodOptions) -> Result<Method> {
    resolved(name, options).map(|(method, _)| method)
}

/// All options of the method of that name, for methods that have any.
pub fn full_options(name: &str, options: &MethodOptions) -> Result<Option<Table>> {
    let (_, table) = resolved(name, options)?;
    Ok(Some(table).filter(|table| !table.is_empty()))
}

fn resolved(name: &str, options: &MethodOptions) -> Result<(Method, Table)> {
    let mut own = options.get(name).cloned().unwrap_or_default();
    let is = match own.remove(IS) {
        None => name.to_string(),
        Some(Value::String(is)) => is,
        Some(other) => return Err(misuse(format!("`methods.{name}.is` is {other}; it must be the name of a method"))),
    };
    let Some((_, method)) = METHODS.iter().find(|(known, _)| *known == is) else {
        return Err(misuse(format!("there is no method `{is}`; the methods are: {}", names())));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.chars().all(plain) {
        return Err(misuse(format!(
            "`{name}` cannot be the name of a method, since a folder is named after it; use letters, digits and `_`"
        )));
    }
    let (method, mut full) =
        method(&own).map_err(|error| misuse(format!("the options of the method `{name}`: {}", error.message())))?;
    if is != name {
        full.insert(IS.into(), Value::String(is));
    }
    Ok((method, full))
}
