use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::problems::{Problems, seconds};

/// Treatment of a chat template that does not continue a conversation as it was sampled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// Fails the episode, with the reason `rewritten_history`.
    #[default]
    Refuse,
    /// Keeps the tokens as they were sampled, and the template's new text follows them.
    Keep,
}

/// Treatment of an episode whose completion reached its longest length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Makes the completion the last one of its episode.
    #[default]
    End,
    /// Lets the environment continue the conversation.
    Continue,
}

/// Treatment of an episode that a limit ends before the environment does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unfinished {
    /// Fails it, with the reason `unfinished` or `too_long`.
    #[default]
    Fail,
    /// Publishes it with the rewards of its turns so far.
    Keep,
}

/// Section `[rollout.environment]`: conversations of several turns with an environment command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnvironmentConfig {
    /// Program and arguments of an environment command, which speaks JSON lines; see
    /// `docs/guide.md`. Takes the place of `rollout.reward.command`.
    pub command: Vec<String>,
    /// Folder in which the command runs; unset = the working directory. A relative path to a script
    /// then stays valid if the run is resumed from another directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Longest wait for the answer to the oldest question, in seconds.
    pub timeout_seconds: f64,
    /// Maximum number of consecutive restarts of the command without an answer in between.
    pub max_restarts: u32,
    /// Maximum number of completions of an episode.
    pub max_turns: u32,
    /// Maximum length of an episode with its prompt, in tokens; unset = the engine's context, and
    /// no more than `learner.micro_batch_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub episode_tokens: Option<usize>,
    /// Treatment of a chat template that renders earlier messages anew.
    pub history: History,
    /// Treatment of a completion that reached `rollout.max_tokens`.
    pub cut: Cut,
    /// Treatment of an episode that a limit ends before the environment does.
    pub unfinished: Unfinished,
}

impl Default for EnvironmentConfig {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            directory: None,
            timeout_seconds: 30.0,
            max_restarts: 3,
            max_turns: 8,
            episode_tokens: None,
            history: History::Refuse,
            cut: Cut::End,
            unfinished: Unfinished::Fail,
        }
    }
}

impl EnvironmentConfig {
    /// Returns true if rollouts are conversations with an environment.
    pub fn is_set(&self) -> bool {
        !self.command.is_empty()
    }

    pub(crate) fn check(&self, problems: &mut Problems) {
        problems.require(
            self.timeout_seconds > 0.0 && seconds(self.timeout_seconds),
            "rollout.environment.timeout_seconds",
            "must be above 0 seconds, and no longer than a clock can count",
        );
        problems.require(
            self.max_turns > 0,
            "rollout.environment.max_turns",
            "must be at least 1",
        );
        problems.require(
            self.episode_tokens.is_none_or(|tokens| tokens > 1),
            "rollout.environment.episode_tokens",
            "must be at least 2: a prompt and a completion",
        );
        problems.require(
            self.command
                .first()
                .is_none_or(|program| !program.is_empty()),
            "rollout.environment.command",
            "must begin with a program",
        );
    }
}
