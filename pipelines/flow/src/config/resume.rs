//! Settings that may change when a run is resumed, and those in which a follower may differ.

use std::path::Path;

use super::{Change, ConfigError, Key, RunConfig};

/// Settings that may change when a run is resumed: they affect neither what was trained so far nor
/// what its plans mean. A whole section is named by its own key.
const SAFE: [&str; 11] = [
    "learner.steps",
    "learner.recompute",
    "learner.keep_versions",
    "learner.keep_checkpoints",
    "learner.checkpoint_every",
    "archive",
    "evaluation",
    "metrics",
    "rollout.reward.directory",
    "rollout.reward.timeout_seconds",
    // A topic may grow; its number of partitions is read from the broker.
    "topics.partitions",
];

/// Settings in which a follower may differ from the run whose rollouts it reads: how it trains and
/// what it keeps. All others define the rollouts and where they are stored.
const OF_LEARNER: [&str; 7] = [
    "seed",
    "algorithm",
    "m2po",
    "grpo",
    "learner",
    "evaluation",
    "metrics",
];

impl RunConfig {
    /// Checks that a learner with these settings may join the run in `folder` with settings `run`.
    ///
    /// # Errors
    /// [`ConfigError::OtherRun`] with every setting that differs and may not, and both values.
    pub fn check_joins(&self, run: &Self, folder: &Path) -> Result<(), ConfigError> {
        let changes = self.changes(run, &OF_LEARNER);
        if changes.is_empty() {
            return Ok(());
        }
        Err(ConfigError::OtherRun {
            folder: folder.to_owned(),
            changes,
        })
    }

    /// Checks that the run in `folder`, started with `old`, may be resumed with these settings.
    ///
    /// # Errors
    /// [`ConfigError::NotResumable`] with every setting that differs and may not, and both values.
    pub fn check_resumable(&self, old: &Self, folder: &Path) -> Result<(), ConfigError> {
        let changes = self.changes(old, &SAFE);
        if changes.is_empty() {
            return Ok(());
        }
        Err(ConfigError::NotResumable {
            folder: folder.to_owned(),
            changes,
        })
    }

    /// Returns the settings that differ, without the settings and sections in `free`.
    fn changes(&self, old: &Self, free: &[&str]) -> Vec<Change> {
        let (old, new) = (leaves(old), leaves(self));
        let mut keys: Vec<_> = old.iter().chain(&new).map(|(key, _)| key.clone()).collect();
        keys.sort();
        keys.dedup();
        let value = |leaves: &[(Key, String)], key: &Key| {
            let found = leaves.iter().find(|(name, _)| name == key);
            found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
        };
        let is_free = |key: &Key| {
            free.iter().any(|free| {
                let free = Key::new(free.split('.'));
                key.prefix(free.parts().len()) == free
            })
        };
        keys.into_iter()
            .filter(|key| !is_free(key))
            .map(|key| Change {
                old: value(&old, &key),
                new: value(&new, &key),
                key,
            })
            .filter(|change| change.old != change.new)
            .collect()
    }
}

fn leaves(config: &RunConfig) -> Vec<(Key, String)> {
    fn walk(value: &toml::Value, at: &Key, out: &mut Vec<(Key, String)>) {
        match value {
            toml::Value::Table(table) => {
                for (name, value) in table {
                    walk(value, &at.child(name), out);
                }
            }
            leaf => out.push((at.clone(), leaf.to_string())),
        }
    }
    let mut out = Vec::new();
    if let Ok(tree) = toml::Value::try_from(config) {
        walk(&tree, &Key::root(), &mut out);
    }
    out
}
