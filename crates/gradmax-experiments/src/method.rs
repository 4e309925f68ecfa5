//! The methods that configurations can name: the baselines, the growth methods, and variants of these with other
//! options.

use std::collections::BTreeMap;

use anyhow::Result;
use gradmax::methods::{GrowthMethod, METHODS};
use gradmax::{Error, Options};
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

/// The baselines.
const BASELINES: [(&str, &str, Method); 2] = [
    ("small", "the seed network, never grown: a baseline", Method::Small),
    ("big", "the target network from the start: a baseline", Method::Big),
];

/// The key by which a variant says which method it is one of.
const IS: &str = "is";

/// Options as growth methods and policies read them.
pub fn to_options(table: &Table) -> Options {
    match serde_json::to_value(table) {
        Ok(serde_json::Value::Object(options)) => options,
        _ => Options::new(),
    }
}

/// Options as a configuration writes them; what is not set is left out.
pub fn from_options(options: Options) -> Table {
    let set = options.into_iter().filter(|(_, value)| !value.is_null());
    set.filter_map(|(key, value)| Some((key, Value::try_from(value).ok()?))).collect()
}

/// Every method with what it is, in order: baselines, then growth methods.
pub fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    let baselines = BASELINES.iter().map(|(name, about, _)| (*name, *about));
    baselines.chain(METHODS.iter().map(|method| (method.name(), method.about())))
}

/// The names of all methods, in order: baselines, then growth methods.
fn all() -> impl Iterator<Item = &'static str> {
    list().map(|(name, _)| name)
}

/// The names of all methods, in one line.
pub fn names() -> String {
    all().collect::<Vec<_>>().join(", ")
}

/// The place of a method among all; variants come after the methods.
pub fn rank(name: &str) -> usize {
    all().position(|known| known == name).unwrap_or_else(|| all().count())
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
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.chars().all(plain) {
        return Err(misuse(format!(
            "`{name}` cannot be the name of a method, since a folder is named after it; use letters, digits and `_`"
        )));
    }
    let wrong = |error: String| misuse(format!("the options of the method `{name}`: {error}"));
    let baseline = BASELINES.into_iter().find(|(known, ..)| *known == is).map(|(.., method)| method);
    let (method, mut full) = match (baseline, METHODS.iter().find(|method| method.name() == is)) {
        (Some(baseline), _) => match own.keys().next() {
            Some(key) => return Err(wrong(format!("unknown field `{key}`, a baseline has no options"))),
            None => (baseline, Table::new()),
        },
        (None, Some(method)) => match method.with(&to_options(&own)) {
            Ok((method, full)) => (Method::Grow(method), from_options(full)),
            Err(Error::Options { reason, .. }) => return Err(wrong(reason)),
            Err(error) => return Err(wrong(error.to_string())),
        },
        (None, None) => return Err(misuse(format!("there is no method `{is}`; the methods are: {}", names()))),
    };
    if is != name {
        full.insert(IS.into(), Value::String(is));
    }
    Ok((method, full))
}
