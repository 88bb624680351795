use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use vintage_control::Precision;

use crate::{
    environment::EnvironmentConfig,
    problems::{Problems, Violation, seconds},
    reward::RewardConfig,
    server::{EngineKind, ServerConfig},
};

/// Range of sampling temperatures. Logits are divided by the temperature: outside of the range a
/// finite logit could give a log-prob that is not finite, and the update could not run.
pub const TEMPERATURES: RangeInclusive<f32> = 1e-3..=1e3;

/// Section `[rollout]`: sampling and rewards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Number of completions per prompt, G.
    pub group_size: u16,
    /// Maximum length of a completion, in tokens.
    pub max_tokens: usize,
    /// Sampling temperature, above 0.
    pub temperature: f64,
    /// Probability mass of nucleus sampling, in (0, 1]; 1 = off.
    pub top_p: f64,
    /// Number of likeliest tokens to sample from; 0 = all.
    pub top_k: i32,
    /// Precision to which log-probs are rounded before they are published: `f32` or `bf16`.
    pub logprob_precision: Precision,
    /// Maximum number of groups sampled together.
    pub concurrent_groups: usize,
    /// Time in seconds for which a producer waits for a store that is away before it gives up.
    pub patience_seconds: f64,
    /// Engine that samples.
    pub engine: EngineKind,
    /// Addresses of the inference servers, such as `http://gpu1:8000`; for every engine but `local`.
    pub endpoints: Vec<String>,
    /// Section `[rollout.server]`: inference servers.
    pub server: ServerConfig,
    /// Section `[rollout.reward]`: way in which completions are scored.
    pub reward: RewardConfig,
    /// Section `[rollout.environment]`: conversations of several turns.
    pub environment: EnvironmentConfig,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            group_size: 8,
            max_tokens: 8,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            logprob_precision: Precision::F32,
            concurrent_groups: 16,
            patience_seconds: 600.0,
            engine: EngineKind::Local,
            endpoints: Vec::new(),
            server: ServerConfig::default(),
            reward: RewardConfig::default(),
            environment: EnvironmentConfig::default(),
        }
    }
}

impl RolloutConfig {
    /// Returns true if a program of the user gives the rewards, which may then be any numbers.
    pub fn is_judged_by_program(&self) -> bool {
        !self.reward.command.is_empty() || self.environment.is_set()
    }

    /// Finds every value out of range.
    pub fn violations(&self) -> Vec<Violation> {
        let mut problems = Problems::default();
        self.check(&mut problems);
        problems.into_vec()
    }

    pub(crate) fn check(&self, problems: &mut Problems) {
        problems.require(
            self.group_size > 1,
            "rollout.group_size",
            "must be at least 2: an answer's advantage is over the others of its group",
        );
        problems.require(
            self.max_tokens > 0,
            "rollout.max_tokens",
            "must be at least 1",
        );
        problems.require(
            TEMPERATURES.contains(&(self.temperature as f32)),
            "rollout.temperature",
            "must be from 0.001 to 1000: greedy samples have no distribution to learn from",
        );
        problems.require(
            self.top_p > 0.0 && self.top_p <= 1.0,
            "rollout.top_p",
            "must be above 0 and at most 1 (off)",
        );
        problems.require(self.top_k >= 0, "rollout.top_k", "must be 0 (off) or more");
        problems.require(
            self.concurrent_groups > 0,
            "rollout.concurrent_groups",
            "must be at least 1",
        );
        problems.require(
            seconds(self.patience_seconds),
            "rollout.patience_seconds",
            "must be 0 or more, and no longer than a clock can count",
        );
        problems.require(
            (self.engine == EngineKind::Local) == self.endpoints.is_empty(),
            "rollout.endpoints",
            "must name the inference servers of rollout.engine, and none with \"local\"",
        );
        let is_address = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        problems.require(
            self.endpoints.iter().all(is_address),
            "rollout.endpoints",
            "must be addresses such as \"http://gpu1:8000\"",
        );
        self.server.check(problems);
        self.reward.check(problems);
        self.environment.check(problems);
        problems.require(
            self.reward.command.is_empty() || !self.environment.is_set(),
            "rollout.environment.command",
            "excludes rollout.reward.command: an environment gives the rewards of its episodes \
             itself; set one of the two",
        );
    }
}
