//! What makes a run another run: which changes of its configuration it can go on with, and which not.

use std::collections::BTreeSet;

use anyhow::Result;
use toml::{Table, Value};

use crate::config::Experiment;
use crate::edits::keys;

/// A value of a configuration that was changed after its run had started.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The key, with dots.
    pub key: String,
    /// What it was; none if it was not there.
    pub was: Option<Value>,
    /// What it is.
    pub is: Option<Value>,
}

impl Change {
    /// Whether the run can go on with it. How long a run is, its rates, its intervals and where it is computed may
    /// change; its method, seed, data, network, growth and kind of optimizer, and the order of its examples, may not.
    pub fn is_allowed(&self) -> bool {
        let key = self.key.as_str();
        let within = |section: &str| key.starts_with(section) && key[section.len()..].starts_with('.');
        match key {
            "training.batch_size" | "optimizer.name" => false,
            "device" | "data.dir" | "data.skip_damaged" => true,
            "growth.verify" | "growth.tolerance" | "growth.on_failure" => true,
            _ => within("training") || within("optimizer") || within("compare"),
        }
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |value: &Option<Value>| value.as_ref().map_or("left out".into(), ToString::to_string);
        write!(f, "`{}` is {} (it was {})", self.key, shown(&self.is), shown(&self.was))
    }
}

/// All changes from one configuration to another of the same run, options of other methods aside.
pub fn changes(started: &Experiment, now: &Experiment) -> Result<Vec<Change>> {
    let flat = |experiment: &Experiment| {
        let mut experiment = experiment.clone();
        let own = experiment.method.clone();
        experiment.methods.retain(|method, _| *method == own);
        Ok::<_, anyhow::Error>(keys(&Table::try_from(&experiment)?))
    };
    let (was, is) = (flat(started)?, flat(now)?);
    let all = was.keys().chain(is.keys()).cloned().collect::<BTreeSet<_>>();
    let changed = all.into_iter().filter(|key| was.get(key) != is.get(key));
    Ok(changed.map(|key| Change { was: was.get(&key).cloned(), is: is.get(&key).cloned(), key }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(changes: &[&str]) -> Experiment {
        let text = include_str!("../../../configs/digits_mlp.toml");
        let changes = changes.iter().map(ToString::to_string).collect::<Vec<_>>();
        Experiment::parse(text, "digits_mlp", &changes).unwrap()
    }

    #[test]
    fn what_a_run_is_stays_and_how_it_is_run_may_change() {
        let allowed = |change: &str| {
            let changes = changes(&experiment(&[]), &experiment(&[change])).unwrap();
            assert!(!changes.is_empty(), "{change} changes nothing");
            changes.iter().all(Change::is_allowed)
        };
        for change in [
            "training.epochs=50",
            "training.log_every=3",
            "training.checkpoint_every=7",
            "training.evaluate_every=7",
            "training.decay=\"linear\"",
            "training.clip_gradients=1.0",
            "optimizer.learning_rate=0.01",
            "optimizer.momentum=0.5",
            "growth.verify=\"off\"",
            "growth.tolerance=1e-3",
            "growth.on_failure=\"skip\"",
            "device=\"vulkan\"",
            "compare.seeds=9",
        ] {
            assert!(allowed(change), "{change}");
        }
        for change in [
            "method=\"small\"",
            "seed=5",
            "data.examples=100",
            "data={ name = \"fashion_mnist\" }",
            "network.hidden=[7]",
            "network.activation=\"tanh\"",
            "growth.start=1",
            "growth.times=1",
            "growth.scale=\"fixed\"",
            "optimizer={ name = \"adam\", learning_rate = 0.05 }",
            "training.batch_size=16",
        ] {
            assert!(!allowed(change), "{change}");
        }
    }

    #[test]
    fn options_count_for_their_own_method_only() {
        let of = |method: &str, change: &str| {
            let method = format!("method={method:?}");
            changes(&experiment(&[&method]), &experiment(&[&method, change])).unwrap()
        };
        assert!(of("gradmax", "methods.split.noise=0.5").is_empty());
        let own = of("split", "methods.split.noise=0.5");
        assert_eq!(own.len(), 1);
        assert!(!own[0].is_allowed());
        assert_eq!(own[0].to_string(), "`methods.split.noise` is 0.5 (it was 0.01)");
    }
}
