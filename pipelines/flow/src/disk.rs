//! Prediction of the disk that a run fills, compared with what is free before it starts.

use serde::Serialize;
use vintage_learner::MemoryUse;
use vintage_settings::RunConfig;

use crate::memory::Prediction;

/// Bytes of an archived rollout beside its tokens. Measured: 40 in files of 4,000 rollouts, 240 to 350
/// in files of 20 to 30, since a file has about 5 KB of its own.
const ROW: u64 = 350;
/// Bytes of an archived token. Measured: 4.9 with a vocabulary of 13, most of it the log-prob; id and
/// text take more with a large one.
const TOKEN: u64 = 9;
/// Bytes of an update's plan and result: a block of a file system each.
const UPDATE: u64 = 2 * 4096;

/// Predicted disk of a run when it has done its last update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Parts of the sum.
    pub items: Vec<MemoryUse>,
    /// Sum in bytes.
    pub bytes: u64,
    /// Number of versions of the weights that are kept.
    pub versions: u64,
}

impl Disk {
    /// Predicts for these settings. Versions that are stored as deltas count as whole ones, and every
    /// completion as the longest that is allowed.
    pub(crate) fn predict(config: &RunConfig, memory: &Prediction) -> Self {
        let learner = &config.learner;
        let of = |name: &str| {
            let mut items = memory.learner.items.iter();
            items
                .find(|item| item.name == name)
                .map_or(0, |item| item.bytes)
        };
        let published = learner.steps / learner.publish_every.max(1);
        let pinned = learner.steps / config.evaluation.every.max(1);
        let versions = (1 + pinned + learner.keep_versions).min(1 + published);
        // Adapters are trained beside weights that stay, so a checkpoint has them.
        let checkpoint = of("moments_file") + of("masters_file").max(of("adapters"));
        let checkpoints = (learner.steps / learner.checkpoint_every.max(1))
            .min(u64::try_from(learner.keep_checkpoints).unwrap_or(u64::MAX));
        // Of a run that trains adapters the first version is whole and the last.
        let adapts = learner.publish.adapters && learner.lora.rank.is_some();
        let stored = match versions.checked_sub(2) {
            Some(between) if adapts => {
                (2 * of("weights_file")).saturating_add(between.saturating_mul(of("adapters")))
            }
            _ => versions.saturating_mul(of("weights_file")),
        };
        let rows = learner
            .steps
            .saturating_mul(learner.live_groups() as u64)
            .saturating_mul(u64::from(config.rollout.group_size));
        let environment = &config.rollout.environment;
        let tokens = environment
            .episode_tokens
            .filter(|_| environment.is_set())
            .unwrap_or(config.rollout.max_tokens);
        let row = TOKEN.saturating_mul(tokens as u64).saturating_add(ROW);
        let amount = |name, bytes| MemoryUse { name, bytes };
        let items = vec![
            amount("versions", stored),
            amount("checkpoints", checkpoints.saturating_mul(checkpoint)),
            amount("rollouts", rows.saturating_mul(row)),
            amount("records", learner.steps.saturating_mul(UPDATE)),
        ];
        let sum = |sum: u64, item: &MemoryUse| sum.saturating_add(item.bytes);
        Self {
            bytes: items.iter().fold(0, sum),
            items,
            versions,
        }
    }
}

#[cfg(test)]
mod tests {
    use vintage_model::DecoderConfig;

    use super::*;

    fn predict(change: impl Fn(&mut RunConfig)) -> Disk {
        let mut config = RunConfig::default();
        change(&mut config);
        let memory = Prediction::new(&config, &DecoderConfig::tiny(13), None, None);
        Disk::predict(&config, &memory)
    }

    fn of(disk: &Disk, name: &str) -> u64 {
        let item = disk.items.iter().find(|item| item.name == name);
        item.expect("an item").bytes
    }

    #[test]
    fn versions_are_those_kept_and_those_of_evaluations() {
        let run = |steps| {
            predict(|config| {
                config.learner.steps = steps;
                config.learner.keep_versions = 4;
                config.evaluation.every = 25;
            })
        };
        assert_eq!(run(100).versions, 1 + 4 + 4);
        // Fewer were published than are kept.
        assert_eq!(run(3).versions, 1 + 3);
        let (short, long) = (run(1_000), run(100_000));
        assert_eq!(long.versions, 1 + 4_000 + 4);
        assert_eq!(of(&short, "checkpoints"), of(&long, "checkpoints"));
        assert_eq!(100 * of(&short, "rollouts"), of(&long, "rollouts"));
        assert_eq!(
            long.bytes,
            long.items.iter().map(|item| item.bytes).sum::<u64>()
        );
    }

    #[test]
    fn settings_beyond_any_disk_are_no_overflow() {
        let disk = predict(|config| {
            config.learner.steps = u64::MAX;
            config.rollout.max_tokens = usize::MAX;
        });
        assert_eq!(disk.bytes, u64::MAX);
    }
}
