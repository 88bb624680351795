//! Which settings a run may change when it goes on.

use std::path::Path;

use super::{Change, ConfigError, Key, RunConfig};

/// Settings that change nothing about what was trained so far, nor about what its plans mean.
/// A whole section is named by its own key.
const SAFE: [&str; 8] = [
    "learner.steps",
    "learner.keep_versions",
    "learner.keep_checkpoints",
    "learner.checkpoint_every",
    "archive",
    "evaluation",
    "metrics",
    "rollout.reward.timeout_seconds",
];

impl RunConfig {
    /// Whether the run in `folder`, started with `old`, may go on with these settings.
    ///
    /// # Errors
    /// Names every setting that differs and is not safe to change, with both values.
    pub fn check_resumable(&self, old: &Self, folder: &Path) -> Result<(), ConfigError> {
        let (old, new) = (leaves(old), leaves(self));
        let mut keys: Vec<_> = old.iter().chain(&new).map(|(key, _)| key.clone()).collect();
        keys.sort();
        keys.dedup();
        let value = |leaves: &[(Key, String)], key: &Key| {
            let found = leaves.iter().find(|(name, _)| name == key);
            found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
        };
        let changes: Vec<_> = keys
            .into_iter()
            .filter(|key| !is_safe(key))
            .map(|key| Change {
                old: value(&old, &key),
                new: value(&new, &key),
                key,
            })
            .filter(|change| change.old != change.new)
            .collect();
        if changes.is_empty() {
            return Ok(());
        }
        Err(ConfigError::NotResumable {
            folder: folder.to_owned(),
            changes,
        })
    }
}

fn is_safe(key: &Key) -> bool {
    SAFE.iter().any(|safe| {
        let safe = Key::new(safe.split('.'));
        key.prefix(safe.parts().len()) == safe
    })
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
