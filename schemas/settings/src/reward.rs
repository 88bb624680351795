use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    answer::AnswerKind,
    problems::{Problems, seconds, share},
};

/// Section `[rollout.reward]`: way in which completions are scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardConfig {
    /// Built-in verifier: reward 1 for a right answer, else 0. Not used where `command` or
    /// `rollout.environment.command` is set.
    pub kind: AnswerKind,
    /// Program and arguments of a reward command, which speaks JSON lines; see
    /// `docs/guide.md`.
    pub command: Vec<String>,
    /// Folder in which the command runs; unset = the working directory. A relative path to a script
    /// then stays valid if the run is resumed from another directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Longest wait for the command's next answer, in seconds.
    pub timeout_seconds: f64,
    /// Maximum number of consecutive restarts of the command without an answer in between.
    pub max_restarts: u32,
    /// Number of groups whose reward may fail before `max_failed_share` applies.
    pub max_failed_groups: u64,
    /// Fraction of groups, from 0 to 1, whose reward may fail before the run stops.
    pub max_failed_share: f64,
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self {
            kind: AnswerKind::Exact,
            command: Vec::new(),
            directory: None,
            timeout_seconds: 30.0,
            max_restarts: 3,
            max_failed_groups: 8,
            max_failed_share: 0.05,
        }
    }
}

impl RewardConfig {
    pub(crate) fn check(&self, problems: &mut Problems) {
        problems.require(
            self.timeout_seconds > 0.0 && seconds(self.timeout_seconds),
            "rollout.reward.timeout_seconds",
            "must be above 0 seconds, and no longer than a clock can count",
        );
        problems.require(
            share(self.max_failed_share),
            "rollout.reward.max_failed_share",
            "is a share, from 0 to 1",
        );
        problems.require(
            self.command
                .first()
                .is_none_or(|program| !program.is_empty()),
            "rollout.reward.command",
            "must begin with a program",
        );
    }
}
