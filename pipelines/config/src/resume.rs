//! Which settings a run may change when it goes on, and in which a follower may differ from it.

use std::path::Path;

use crate::{
    error::{Change, ConfigError},
    key::Key,
};
use vintage_settings::RunConfig;

/// Settings that change nothing about what was trained so far, nor about what its plans mean.
/// A whole section is named by its own key.
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
    // A topic may grow; how many partitions it has is read from it.
    "topics.partitions",
];

/// Settings in which a learner may differ from the run whose rollouts it reads: how it trains and
/// what it keeps. All others say what the rollouts are and where they lie.
const OF_LEARNER: [&str; 7] = [
    "seed",
    "algorithm",
    "m2po",
    "grpo",
    "learner",
    "evaluation",
    "metrics",
];

/// Whether a learner with these settings may join the run in `folder`, which has `run`'s.
///
/// # Errors
/// Names every setting that differs and may not, with both values.
pub fn check_joins(config: &RunConfig, run: &RunConfig, folder: &Path) -> Result<(), ConfigError> {
    let changes = changes(config, run, &OF_LEARNER);
    if changes.is_empty() {
        return Ok(());
    }
    Err(ConfigError::OtherRun {
        folder: folder.to_owned(),
        changes,
    })
}

/// Whether the run in `folder`, started with `old`, may go on with these settings.
///
/// # Errors
/// Names every setting that differs and is not safe to change, with both values.
pub fn check_resumable(
    config: &RunConfig,
    old: &RunConfig,
    folder: &Path,
) -> Result<(), ConfigError> {
    let changes = changes(config, old, &SAFE);
    if changes.is_empty() {
        return Ok(());
    }
    Err(ConfigError::NotResumable {
        folder: folder.to_owned(),
        changes,
    })
}

/// What differs, `free` settings and sections apart.
fn changes(config: &RunConfig, old: &RunConfig, free: &[&str]) -> Vec<Change> {
    let (old, new) = (leaves(old), leaves(config));
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
