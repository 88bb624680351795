use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use vintage_control::Name;
use vintage_verify::AnswerKind;

use crate::{Error, engine::Sampling, gate::GateRule};

/// Settings of a rollout producer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Prefix of the producer's id; a fresh UUID is appended in every producer process.
    pub producer: Name,
    /// Source of the prompts.
    pub prompts: PromptsConfig,
    /// Completions per prompt, G.
    pub group_size: u16,
    /// Longest completion, in tokens.
    pub max_tokens: usize,
    /// Sampling temperature, above 0.
    pub temperature: f32,
    /// Nucleus sampling probability, in (0, 1]; 1 is off.
    pub top_p: f32,
    /// Number of likeliest tokens to sample from (top-k); 0 is off.
    pub top_k: i32,
    /// Maximum number of groups sampled in one call of the engine.
    pub concurrent_groups: usize,
    /// Limit on how far producers run ahead of the learner.
    pub gate: GateConfig,
    /// Reward settings: built-in verifier or command.
    pub reward: RewardConfig,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            producer: "local".parse().expect("a valid name"),
            prompts: PromptsConfig::default(),
            group_size: 8,
            max_tokens: 32,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            concurrent_groups: 16,
            gate: GateConfig::default(),
            reward: RewardConfig::default(),
        }
    }
}

impl RolloutConfig {
    /// Refuses values that no producer can work with.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |key, value: String, must| Err(Error::Config { key, value, must });
        if self.group_size == 0 {
            return refuse("group_size", "0".into(), "be at least 1");
        }
        if self.max_tokens == 0 {
            return refuse("max_tokens", "0".into(), "be at least 1");
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            let must = "be above 0: greedy samples have no distribution to learn from";
            return refuse("temperature", self.temperature.to_string(), must);
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse(
                "top_p",
                self.top_p.to_string(),
                "be above 0 and at most 1 (off)",
            );
        }
        if self.top_k < 0 {
            return refuse("top_k", self.top_k.to_string(), "be 0 (off) or more");
        }
        if self.concurrent_groups == 0 {
            return refuse("concurrent_groups", "0".into(), "be at least 1");
        }
        self.reward.check()
    }

    /// Sampling settings passed to the engine.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
        }
    }
}

/// Source of the prompts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptsConfig {
    /// JSONL file of prompts; see [`crate::PromptSet`].
    pub path: PathBuf,
}

/// Limit on how far producers run ahead of the learner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Maximum staleness in updates; producers wait rather than exceed it.
    pub max_staleness: u64,
    /// Exact staleness in updates, if set: batch b is sampled by version max(0, b − exact), and
    /// `max_staleness` is not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<u64>,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            max_staleness: 16,
            exact: None,
        }
    }
}

impl GateConfig {
    /// Gate rule that these settings describe.
    pub fn rule(&self) -> GateRule {
        match self.exact {
            Some(k) => GateRule::Exact { k },
            None => GateRule::Wait {
                max_staleness: self.max_staleness,
            },
        }
    }
}

/// Reward settings: built-in verifier or command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardConfig {
    /// Built-in verifier, which gives reward 1 for a right answer and 0 otherwise. Not used if
    /// `command` is set.
    pub kind: AnswerKind,
    /// Program and arguments of a reward command, which speaks JSON lines; see
    /// [`crate::CommandReward`]. Empty uses the built-in verifier.
    pub command: Vec<String>,
    /// Directory in which the command runs, so that a script named by a relative path is still
    /// found when the run is continued from another directory; unset is the working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Seconds that the command may take for its next answer while it owes one.
    pub timeout_seconds: f64,
    /// Maximum restarts of the command in a row, without an answer in between.
    pub max_restarts: u32,
    /// Number of groups whose reward may fail before `max_failed_share` applies.
    pub max_failed_groups: u64,
    /// Share of groups whose reward may fail before the run stops, between 0 and 1.
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
    fn check(&self) -> Result<(), Error> {
        let refuse = |key, value: String, must| Err(Error::Config { key, value, must });
        let seconds = Duration::try_from_secs_f64(self.timeout_seconds);
        if self.timeout_seconds <= 0.0 || seconds.is_err() {
            let value = self.timeout_seconds.to_string();
            return refuse(
                "reward.timeout_seconds",
                value,
                "be a positive number of seconds",
            );
        }
        if !(0.0..=1.0).contains(&self.max_failed_share) {
            let value = self.max_failed_share.to_string();
            return refuse("reward.max_failed_share", value, "be between 0 and 1");
        }
        if self.command.first().is_some_and(String::is_empty) {
            return refuse(
                "reward.command",
                format!("{:?}", self.command),
                "begin with a program",
            );
        }
        Ok(())
    }
}
