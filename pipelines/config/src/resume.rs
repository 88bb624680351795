//! Checks of settings that change when a run is resumed, or differ when a learner joins it.

use std::{collections::BTreeMap, path::Path};

use crate::{
    error::{Change, ConfigError},
    key::Key,
};
use vintage_settings::RunConfig;

/// Settings that a resumed run may change: they affect neither past updates nor the meaning of
/// their plans. The key of a section means all its settings.
const SAFE: [&str; 23] = [
    "learner.steps",
    "learner.recompute",
    // Plans record what was refused.
    "learner.mismatch",
    "learner.keep_versions",
    "learner.keep_checkpoints",
    "learner.patience_seconds",
    "learner.checkpoint_every",
    // How a version is stored is nothing that its weights depend on.
    "learner.publish.full_every",
    "learner.publish.adapters",
    "archive",
    "evaluation",
    "metrics",
    // Who samples may change: every token says which version sampled it.
    "rollout.engine",
    "rollout.endpoints",
    "rollout.server",
    "rollout.patience_seconds",
    // Every message holds the log-probs that count.
    "rollout.logprob_precision",
    // A sample is a function of weights, prompt and seed, whatever is sampled beside it.
    "rollout.concurrent_groups",
    "rollout.reward.directory",
    "rollout.reward.timeout_seconds",
    "rollout.environment.directory",
    "rollout.environment.timeout_seconds",
    // A topic may grow; the number of its partitions is read from the broker.
    "topics.partitions",
];

/// Settings in which a learner may differ from the run whose rollouts it reads: those of training
/// and of what it keeps. All other settings say what the rollouts are and where they are stored.
const OF_LEARNER: [&str; 8] = [
    "seed",
    "algorithm",
    "m2po",
    "grpo",
    "loss",
    "learner",
    "evaluation",
    "metrics",
];

/// Settings that decide what is sampled at a slot and how it is rewarded.
const SAMPLED: [&str; 20] = [
    "seed",
    "prompts.chat",
    "prompts.columns.prompt",
    "prompts.columns.answer",
    "prompts.columns.solution",
    "prompts.columns.id",
    "prompts.columns.metadata",
    "rollout.group_size",
    "rollout.max_tokens",
    "rollout.temperature",
    "rollout.top_p",
    "rollout.top_k",
    "rollout.reward.kind",
    "rollout.reward.command",
    "rollout.environment.command",
    "rollout.environment.max_turns",
    "rollout.environment.episode_tokens",
    "rollout.environment.history",
    "rollout.environment.cut",
    "rollout.environment.unfinished",
];

/// Returns the settings that decide what is sampled and how it is rewarded, with their values in TOML;
/// `none` for one that is not set. Settings without effect are left out: those of an environment
/// where there is none, and the kind of reward where a command gives it. Words of commands are
/// without their folders, which differ from machine to machine.
pub fn sampling(config: &RunConfig) -> BTreeMap<String, String> {
    let mut config = config.clone();
    for command in [
        &mut config.rollout.reward.command,
        &mut config.rollout.environment.command,
    ] {
        for word in command {
            *word = without_folder(word);
        }
    }
    let rollout = &mut config.rollout;
    if rollout.environment.is_set() {
        let most = config.learner.micro_batch_tokens;
        rollout.environment.episode_tokens.get_or_insert(most);
    }
    let by_command = rollout.environment.is_set() || !rollout.reward.command.is_empty();
    let counts = |key: &str| match key {
        "rollout.reward.kind" => !by_command,
        "rollout.environment.command" => true,
        key => config.rollout.environment.is_set() || !key.starts_with("rollout.environment."),
    };
    let leaves = leaves(&config);
    let value = |sampled: &str| {
        let key = Key::new(sampled.split('.'));
        let found = leaves.iter().find(|(leaf, _)| *leaf == key);
        found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
    };
    let counted = SAMPLED.into_iter().filter(|key| counts(key));
    counted.map(|key| (key.to_owned(), value(key))).collect()
}

/// Returns a word of a command without the folder of a file in it, also in `--rules=a/FILE`. A word
/// with spaces is a script or a text, and stays.
fn without_folder(word: &str) -> String {
    let (option, value) = match word.split_once('=') {
        Some((option, value)) => (format!("{option}="), value),
        None => (String::new(), word),
    };
    match value.rsplit_once('/') {
        Some((_, name)) if !name.is_empty() && !word.contains(char::is_whitespace) => {
            format!("{option}{name}")
        }
        _ => word.to_owned(),
    }
}

/// Checks that a learner with the settings `config` may join the run in `folder`, whose settings
/// are `run`.
///
/// # Errors
/// [`ConfigError::OtherRun`], with both values of every setting that must not differ and does.
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

/// Checks that the run in `folder`, started with the settings `old`, may be resumed with `config`.
///
/// # Errors
/// [`ConfigError::NotResumable`], with both values of every setting that must not change and did.
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

/// Returns the settings that differ, except those in `free` or in a section named there.
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

#[cfg(test)]
mod tests {
    use super::without_folder;

    #[test]
    fn a_commands_words_are_compared_without_the_folders_of_one_machine() {
        for (word, expected) in [
            ("/usr/bin/python3", "python3"),
            ("judge.py", "judge.py"),
            ("--rules=a/rules.json", "--rules=rules.json"),
            ("cat a/b", "cat a/b"),
            ("/", "/"),
        ] {
            assert_eq!(without_folder(word), expected);
        }
    }
}
