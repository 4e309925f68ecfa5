//! Changes to a configuration, as a table: those of the command line, and those that methods make.

use anyhow::Result;
use toml::{Table, Value};

use crate::failure::misuse;
use crate::policy;

/// What `[growth]` says of when growth comes and by how much.
pub(crate) const PACE: [&str; 8] = ["start", "every", "times", "count", "fraction", "geometric", "blocks", "order"];

/// Keys of which a configuration has one at most.
const ALTERNATIVES: [&[&str]; 3] = [
    &["training.steps", "training.epochs"],
    &["training.warm_up_steps", "training.warm_up_epochs"],
    &["growth.count", "growth.fraction", "growth.geometric", "growth.blocks"],
];

/// A change of the form `key=value`: the dotted key, and the value in TOML syntax, or a string.
pub(crate) fn typed(change: &str) -> Result<(String, Value)> {
    let (key, value) = change
        .split_once('=')
        .ok_or_else(|| misuse(format!("--set {change}: write it as key=value, for example growth.times=3")))?;
    Ok((key.trim().into(), value_of(value)))
}

/// A value in TOML syntax, or a string.
pub fn value_of(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>().ok();
    parsed.and_then(|mut parsed| parsed.remove("value")).unwrap_or_else(|| Value::String(text.into()))
}

/// Whether a change of the form `key=value` sets this key, or the section that it is in.
pub(crate) fn is_about(change: &str, key: &str) -> bool {
    let changed = change.split('=').next().unwrap_or_default().trim();
    changed == key || key.strip_prefix(changed).is_some_and(|rest| rest.starts_with('.'))
}

/// Sets dotted keys of a table in place of what they had, and of what cannot stand beside them: alternatives, and options
/// of a policy, an optimizer or a network whose place another takes.
pub(crate) fn edit(table: &mut Table, changes: Vec<(String, Value)>) -> Result<()> {
    changes.iter().for_each(|(key, value)| forget_options(table, key, value));
    for (key, value) in changes {
        for other in alternatives(&key) {
            if let Some((section, name)) = other.split_once('.')
                && let Some(Value::Table(section)) = table.get_mut(section)
            {
                section.remove(name);
            }
        }
        insert(table, &key, value)?;
    }
    Ok(())
}

/// If this change puts another policy, optimizer or network in the place of one, leaves out what was said about that one;
/// a learning rate stays.
fn forget_options(table: &mut Table, key: &str, value: &Value) {
    let Some((section, name @ ("policy" | "name"))) = key.split_once('.') else {
        return;
    };
    let stays: fn(&str) -> bool = match (section, name) {
        ("growth", "policy") => |key| !PACE.contains(&key),
        ("optimizer", "name") => |key| key == "learning_rate",
        ("network", "name") => |_| false,
        _ => return,
    };
    let Some(Value::Table(options)) = table.get_mut(section) else {
        return;
    };
    let was = options.get(name).and_then(Value::as_str).unwrap_or(policy::PERIODIC);
    if value.as_str() != Some(was) {
        options.retain(|key, _| stays(key));
    }
}

/// The keys that cannot stand beside this one.
pub(crate) fn alternatives(key: &str) -> impl Iterator<Item = &'static str> {
    let of = ALTERNATIVES.into_iter().find(|keys| keys.contains(&key)).unwrap_or_default();
    of.iter().copied().filter(move |other| *other != key)
}

/// Sets one dotted key of a table, and makes the sections that it is in.
pub(crate) fn insert(table: &mut Table, key: &str, value: Value) -> Result<()> {
    let mut parts = key.split('.').collect::<Vec<_>>();
    let last = parts.pop().unwrap_or_default();
    let mut at = table;
    for part in parts {
        let entry = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at = entry.as_table_mut().ok_or_else(|| misuse(format!("{key}: `{part}` is a value, not a section")))?;
    }
    at.insert(last.into(), value);
    Ok(())
}

/// All values of a table and of those in it, by their dotted keys.
pub(crate) fn keys(table: &Table) -> Table {
    let mut found = Table::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                found.extend(keys(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            value => _ = found.insert(key.clone(), value.clone()),
        }
    }
    found
}

/// What a table of the configuration's sections changes: the dotted key of each option, with its value, which may be a
/// table itself.
pub(crate) fn options_of(sections: &Table) -> Vec<(String, Value)> {
    let inside = |prefix: &str, table: &Table| {
        table.iter().map(|(key, value)| (format!("{prefix}.{key}"), value.clone())).collect::<Vec<_>>()
    };
    let of_section = |(section, value): (&String, &Value)| match value {
        // Policies have sections of their own.
        Value::Table(table) if section == "policies" => inside(section, table)
            .into_iter()
            .flat_map(|(key, value)| match &value {
                Value::Table(options) => inside(&key, options),
                _ => vec![(key, value)],
            })
            .collect(),
        Value::Table(table) => inside(section, table),
        value => vec![(section.clone(), value.clone())],
    };
    sections.iter().flat_map(of_section).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, changes: &[&str]) -> Table {
        let mut table = text.parse::<Table>().unwrap();
        edit(&mut table, changes.iter().map(|change| typed(change).unwrap()).collect()).unwrap();
        table
    }

    const TEXT: &str = "[growth]\nstart = 1\nevery = 2\ncount = 3\nscale = \"mean\"\n[training]\nsteps = 5\n\
                        [optimizer]\nname = \"sgd\"\nlearning_rate = 0.1\nmomentum = 0.9\n";

    #[test]
    fn alternatives_take_each_others_place() {
        let table = edited(TEXT, &["training.epochs=2", "growth.fraction=0.5"]);
        assert_eq!(table["training"], "epochs = 2".parse::<Table>().unwrap().into());
        assert!(table["growth"].get("count").is_none() && table["growth"]["start"].as_integer() == Some(1));
    }

    #[test]
    fn another_policy_or_optimizer_does_not_have_the_options_of_the_old_one() {
        for changes in [["growth.policy=marginal", "growth.every=7"], ["growth.every=7", "growth.policy=marginal"]] {
            let growth = edited(TEXT, &changes)["growth"].clone();
            assert_eq!(growth, "scale = \"mean\"\npolicy = \"marginal\"\nevery = 7".parse::<Table>().unwrap().into());
        }
        let same = edited(TEXT, &["growth.policy=periodic", "optimizer.name=sgd"]);
        assert!(same["growth"].get("start").is_some() && same["optimizer"].get("momentum").is_some());
        let adam = edited(TEXT, &["optimizer.name=adam"])["optimizer"].clone();
        assert_eq!(adam, "name = \"adam\"\nlearning_rate = 0.1".parse::<Table>().unwrap().into());
    }
}
