use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use vintage_control::Name;
use vintage_verify::AnswerKind;

use crate::{Error, engine::Sampling, gate::GateRule};

/// Settings of a rollout producer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// First part of the producer's id; its second part is new in every life.
    pub producer: Name,
    /// Where prompts come from.
    pub prompts: PromptsConfig,
    /// Completions per prompt, G.
    pub group_size: u16,
    /// Longest completion, in tokens.
    pub max_tokens: usize,
    /// Sampling temperature, above 0.
    pub temperature: f32,
    /// Nucleus sampling, in (0, 1]; 1 is off.
    pub top_p: f32,
    /// Sample from the k likeliest tokens; 0 is off.
    pub top_k: i32,
    /// Groups sampled in one call of the engine, at most.
    pub concurrent_groups: usize,
    /// How far to run ahead of the learner.
    pub gate: GateConfig,
    /// What a completion is worth.
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
    /// Refuses values no producer can work with.
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

    /// What the engine is asked for.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
        }
    }
}

/// Where prompts come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptsConfig {
    /// A JSONL file; see [`crate::PromptSet`].
    pub path: PathBuf,
}

/// How far producers run ahead of the learner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Updates' worth of staleness to admit, paced by waiting.
    pub max_staleness: u64,
    /// If set, batch b is sampled by version max(0, b − exact) instead.
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
    /// The rule these settings describe.
    pub fn rule(&self) -> GateRule {
        match self.exact {
            Some(k) => GateRule::Exact { k },
            None => GateRule::Wait {
                max_staleness: self.max_staleness,
            },
        }
    }
}

/// What a completion is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardConfig {
    /// Built-in verifier: reward 1 for a right answer, else 0. Not used where `command` is set.
    pub kind: AnswerKind,
    /// Program and arguments of a reward command, which speaks JSON lines; see
    /// [`crate::CommandReward`].
    pub command: Vec<String>,
    /// Folder in which the command runs, so that a script it names by a relative path is found
    /// again by whoever goes on from elsewhere; unset = the working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// How long the command may go without answering while it owes an answer.
    pub timeout_seconds: f64,
    /// Restarts of the command in a row, without one answer in between, before giving up.
    pub max_restarts: u32,
    /// Groups whose reward may fail before the share below is looked at.
    pub max_failed_groups: u64,
    /// Share of groups whose reward may fail before the run stops.
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
