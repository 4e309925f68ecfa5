//! The policies that configurations can name.

use std::collections::BTreeMap;

use anyhow::Result;
use gradmax::policies::{POLICIES, Policy};
use toml::{Table, Value};

use crate::config::GrowthConfig;
use crate::failure::misuse;
use crate::method::{from_options, to_options};

/// The policy if a configuration names none.
pub const PERIODIC: &str = "periodic";

/// The options of policies, by their names, as `[policies.NAME]` gives them.
pub type PolicyOptions = BTreeMap<String, Table>;

/// Every policy with what it is.
pub fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    POLICIES.iter().map(|policy| (policy.name(), policy.about()))
}

/// The names of all policies, in one line.
pub fn names() -> String {
    POLICIES.iter().map(|policy| policy.name()).collect::<Vec<_>>().join(", ")
}

/// Checks that these are names of policies.
pub fn check_names<'n>(mut named: impl Iterator<Item = &'n String>) -> Result<()> {
    match named.find(|name| POLICIES.iter().all(|policy| policy.name() != name.as_str())) {
        Some(unknown) => Err(misuse(format!("there is no policy `{unknown}`; the policies are: {}", names()))),
        None => Ok(()),
    }
}

/// The policy that `[growth]` names, with its options.
pub fn named(growth: &GrowthConfig, options: &PolicyOptions) -> Result<Box<dyn Policy>> {
    resolved(growth, options).map(|(policy, _)| policy)
}

/// All options of the policy that `[growth]` names, without those that `[growth]` itself holds.
pub fn full_options(growth: &GrowthConfig, options: &PolicyOptions) -> Result<Table> {
    let (_, mut full) = resolved(growth, options)?;
    growth.pace()?.keys().for_each(|key| drop(full.remove(key)));
    Ok(full)
}

fn resolved(growth: &GrowthConfig, options: &PolicyOptions) -> Result<(Box<dyn Policy>, Table)> {
    let name = growth.policy.as_str();
    let Some(policy) = POLICIES.iter().find(|policy| policy.name() == name) else {
        return Err(misuse(format!("there is no policy `{name}`; the policies are: {}", names())));
    };
    let mut all = growth.pace()?;
    let given = [("start", growth.start), ("every", growth.every), ("times", growth.times)];
    if let Some((missing, _)) = given.into_iter().find(|(_, value)| name == PERIODIC && value.is_none()) {
        return Err(misuse(format!("`growth` lacks `{missing}`, which the policy `{PERIODIC}` needs")));
    }
    for (key, value) in options.get(name).into_iter().flatten() {
        if all.insert(key.clone(), value.clone()).is_some() {
            return Err(misuse(format!("`{key}` is given in `growth` and in `policies.{name}`; give it once")));
        }
    }
    let (policy, full) = policy.with(&to_options(&all)).map_err(|error| misuse(error.to_string()))?;
    policy.check().map_err(|error| misuse(error.to_string()))?;
    Ok((policy, from_options(full)))
}

impl GrowthConfig {
    /// What `[growth]` says of when growth comes and by how much: options of its policy.
    fn pace(&self) -> Result<Table> {
        let number = |value: usize| Value::Integer(value.try_into().unwrap_or(i64::MAX));
        let mut pace = Table::new();
        let numbers = [("start", self.start), ("every", self.every), ("times", self.times)];
        pace.extend(numbers.into_iter().filter_map(|(key, value)| Some((key.to_string(), number(value?)))));
        if let Some(order) = self.order {
            pace.insert("order".into(), Value::try_from(order)?);
        }
        let amounts =
            [self.fraction, self.geometric].iter().any(Option::is_some) || self.count.or(self.blocks).is_some();
        if amounts || self.policy == PERIODIC {
            pace.insert("amount".into(), Value::try_from(self.amount()?)?);
        }
        Ok(pace)
    }
}
