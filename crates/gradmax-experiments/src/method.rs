//! The methods that configurations can name: the baselines, the growth methods, and variants of these with other
//! options.

use std::collections::BTreeMap;

use anyhow::Result;
use gradmax::methods::{GrowthMethod, METHODS};
use gradmax::site::SiteWidth;
use gradmax::{Error, Options};
use toml::{Table, Value};

use crate::failure::misuse;

/// What a run does about its size.
pub enum Method {
    /// The seed network, never grown.
    Small,
    /// The target network from the start.
    Big,
    /// The seed network with other widths from the start, never grown.
    Static(Widths),
    /// The seed network, grown with a growth method.
    Grow(Box<dyn GrowthMethod>),
}

impl Method {
    /// Whether it starts with the network that the configuration describes.
    pub fn starts_with_seed(&self) -> bool {
        matches!(self, Self::Small | Self::Grow(_))
    }
}

/// The widths of a network that does not grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Widths {
    /// So many neurons at every site.
    Equal(usize),
    /// So many times the width that each site has in the seed network.
    Times(f64),
}

impl Widths {
    /// `32`, or `1.5x`.
    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('x') {
            None => text.parse().ok().filter(|width| *width > 0).map(Self::Equal),
            Some(times) => times.parse().ok().filter(|times: &f64| *times > 0.0 && times.is_finite()).map(Self::Times),
        }
    }

    /// The width of a site.
    pub fn of(self, site: &SiteWidth) -> usize {
        match self {
            Self::Equal(width) => width,
            Self::Times(times) => ((site.seed as f64 * times).round() as usize).max(1),
        }
    }
}

/// What a run is compared with: networks that do not grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Baseline {
    /// The seed network.
    Small,
    /// The target network.
    Big,
    /// The target network, for as many operations as the reference of the comparison takes.
    BigShort,
    /// The target network, for as many seconds as the reference takes.
    BigSeconds,
    /// The seed network with other widths, for as many operations as the reference takes.
    Static(Widths),
}

/// What a run takes as much of as the reference's run of the same seed, in a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// Operations, growth included.
    Flops,
    /// Seconds.
    Seconds,
}

impl Within {
    fn named(name: &str) -> Option<Self> {
        match name {
            "flops" => Some(Self::Flops),
            "seconds" => Some(Self::Seconds),
            _ => None,
        }
    }

    /// What a method takes as much of as the reference of a comparison: as its options say, or as its baseline does.
    pub fn of(method: &str, options: &MethodOptions) -> Option<Self> {
        let own = options.get(method).and_then(|own| own.get(WITHIN)).and_then(Value::as_str);
        own.and_then(Self::named).or_else(|| Baseline::of(method, options)?.within())
    }
}

impl Baseline {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "small" => Self::Small,
            "big" => Self::Big,
            "big_short" => Self::BigShort,
            "big_seconds" => Self::BigSeconds,
            other => Self::Static(Widths::parse(other.strip_prefix(STATIC)?)?),
        })
    }

    /// The baseline that a method is, or is a variant of.
    pub fn of(method: &str, options: &MethodOptions) -> Option<Self> {
        let is = options.get(method).and_then(|own| own.get(IS)).and_then(Value::as_str);
        Self::named(is.unwrap_or(method))
    }

    /// What it takes as much of as the reference, unless its options say something else.
    fn within(self) -> Option<Within> {
        match self {
            Self::Small | Self::Big => None,
            Self::BigShort | Self::Static(_) => Some(Within::Flops),
            Self::BigSeconds => Some(Within::Seconds),
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Small => Method::Small,
            Self::Big | Self::BigShort | Self::BigSeconds => Method::Big,
            Self::Static(widths) => Method::Static(widths),
        }
    }
}

/// The options of methods, by their names, as `[methods.NAME]` gives them. A name that is no method's is a variant of
/// one: `is` says of which. `with` changes other parts of the configuration, for this method alone, and `within` makes its
/// runs in comparisons take as much as the reference's.
pub type MethodOptions = BTreeMap<String, Table>;

/// The baselines.
const BASELINES: [(&str, &str); 5] = [
    ("small", "the seed network, never grown: a baseline"),
    ("big", "the target network from the start: a baseline"),
    ("big_short", "in comparisons: `big`, for as many operations as the reference takes"),
    ("big_seconds", "in comparisons: `big`, for as many seconds as the reference takes"),
    (
        "static_W",
        "the seed network with W neurons at every site (`static_32`), or W times as many (`static_2x`), never grown; in \
         comparisons for as many operations as the reference takes",
    ),
];

/// What the names of baselines of given widths begin with.
const STATIC: &str = "static_";

/// The key by which a variant says which method it is one of.
const IS: &str = "is";

/// The key of what a method changes in the rest of the configuration.
pub const WITH: &str = "with";

/// The name of the folder of the runs by which the methods of a comparison are tuned, beside those of methods.
pub const TUNING: &str = "tuning";

/// The key of what a method takes as much of as the reference of a comparison: `"flops"` or `"seconds"`.
const WITHIN: &str = "within";

/// The sections of a configuration in which methods may differ.
const SECTIONS: [&str; 5] = ["growth", "network", "optimizer", "policies", "training"];

/// The name of the baseline with these widths, `32` or `2x`.
pub fn of_widths(widths: &str) -> String {
    format!("{STATIC}{widths}")
}

/// Whether methods may differ in the value of this key.
pub fn may_differ_in(key: &str) -> bool {
    key.split_once('.').is_some_and(|(section, _)| SECTIONS.contains(&section))
}

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
    BASELINES.into_iter().chain(METHODS.iter().map(|method| (method.name(), method.about())))
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
    let name = if matches!(Baseline::named(name), Some(Baseline::Static(_))) { "static_W" } else { name };
    all().position(|known| known == name).unwrap_or_else(|| all().count())
}

/// The method of that name, with the options that are given for it.
pub fn named(name: &str, options: &MethodOptions) -> Result<Method> {
    resolved(name, options).map(|(method, _)| method)
}

/// What the method of that name changes in the rest of the configuration.
pub fn with<'o>(name: &str, options: &'o MethodOptions) -> Option<&'o Table> {
    options.get(name)?.get(WITH)?.as_table()
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
    let (with, within) = (own.remove(WITH), own.remove(WITHIN));
    if name == TUNING {
        return Err(misuse(format!("`{name}` cannot be the name of a method: it is that of a folder in comparisons")));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let baseline = Baseline::named(&is);
    if Baseline::named(name).is_none() && !name.chars().all(plain) {
        return Err(misuse(format!(
            "`{name}` cannot be the name of a method, since a folder is named after it; use letters, digits and `_`"
        )));
    }
    let wrong = |error: String| misuse(format!("the options of the method `{name}`: {error}"));
    match &with {
        None => {}
        Some(Value::Table(with)) => {
            if let Some(section) = with.keys().find(|section| !SECTIONS.contains(&section.as_str())) {
                let sections = SECTIONS.join("`, `");
                return Err(wrong(format!("`with` changes `{section}`; methods may differ in `{sections}`")));
            }
        }
        Some(other) => return Err(wrong(format!("`with` is {other}; it must be a table, like the configuration"))),
    }
    if let Some(other) = within.as_ref().filter(|within| within.as_str().and_then(Within::named).is_none()) {
        return Err(wrong(format!("`within` is {other}; it must be `flops` or `seconds`")));
    }
    let (method, mut full) = match (baseline, METHODS.iter().find(|method| method.name() == is)) {
        (Some(baseline), _) => match own.keys().next() {
            Some(key) => return Err(wrong(format!("unknown field `{key}`, a baseline has no options"))),
            None => (baseline.method(), Table::new()),
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
    let further = [(WITH, with), (WITHIN, within)];
    full.extend(further.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))));
    Ok((method, full))
}
