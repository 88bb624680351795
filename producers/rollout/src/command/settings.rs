//! Settings that reward command and environment command share.

use std::{fmt, path::PathBuf, time::Duration};

use vintage_settings::{EnvironmentConfig, RewardConfig, RolloutConfig};

/// Purpose of a command, as messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandRole {
    /// Scores completions.
    Reward,
    /// Answers completions with messages, and scores episodes.
    Environment,
}

impl CommandRole {
    /// Section of the settings that describe the command.
    pub fn section(self) -> &'static str {
        match self {
            Self::Reward => "rollout.reward",
            Self::Environment => "rollout.environment",
        }
    }
}

impl fmt::Display for CommandRole {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Reward => "reward command",
            Self::Environment => "environment command",
        })
    }
}

/// Command that a producer starts, and how much is borne of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandSettings {
    /// Purpose of the command.
    pub role: CommandRole,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Folder in which the command runs; `None` is the working directory.
    pub directory: Option<PathBuf>,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Maximum number of restarts in a row without an answer in between.
    pub max_restarts: u32,
}

/// Wait if the settings were not checked.
const TIMEOUT: Duration = Duration::from_secs(30);

impl CommandSettings {
    /// Returns the command that scores rollouts: the environment's, the reward's, or none, where a
    /// verifier is built in.
    pub fn of(rollout: &RolloutConfig) -> Option<Self> {
        if rollout.environment.is_set() {
            Some(Self::from(&rollout.environment))
        } else {
            let reward = &rollout.reward;
            (!reward.command.is_empty()).then(|| Self::from(reward))
        }
    }

    /// Command line, joined by spaces.
    pub fn line(&self) -> String {
        self.argv.join(" ")
    }
}

impl From<&RewardConfig> for CommandSettings {
    fn from(config: &RewardConfig) -> Self {
        Self {
            role: CommandRole::Reward,
            argv: config.command.clone(),
            directory: config.directory.clone(),
            timeout: Duration::try_from_secs_f64(config.timeout_seconds).unwrap_or(TIMEOUT),
            max_restarts: config.max_restarts,
        }
    }
}

impl From<&EnvironmentConfig> for CommandSettings {
    fn from(config: &EnvironmentConfig) -> Self {
        Self {
            role: CommandRole::Environment,
            argv: config.command.clone(),
            directory: config.directory.clone(),
            timeout: Duration::try_from_secs_f64(config.timeout_seconds).unwrap_or(TIMEOUT),
            max_restarts: config.max_restarts,
        }
    }
}
