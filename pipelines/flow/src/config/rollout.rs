use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vintage_rollout::RewardConfig;

/// Section `[prompts]`: JSONL files with `prompt` or `messages` and `answer`, or GSM8K's `question`
/// and `answer`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptsConfig {
    /// File of prompts to train on; unset = the built-in running sums.
    pub train: Option<PathBuf>,
    /// File of prompts to evaluate on, none of which is trained on; unset = the built-in ones, or,
    /// with a `train` file of your own, no evaluation.
    pub heldout: Option<PathBuf>,
    /// True to ask plain prompts as the user's message of a chat, through the model's chat
    /// template; rows with `messages` always use it.
    pub chat: bool,
}

/// Section `[rollout]`: sampling and rewards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Number of completions per prompt, G.
    pub group_size: u16,
    /// Maximum length of a completion in tokens.
    pub max_tokens: usize,
    /// Sampling temperature, above 0.
    pub temperature: f64,
    /// Probability mass of nucleus sampling, in (0, 1]; 1 is off.
    pub top_p: f64,
    /// Number of most likely tokens to sample from; 0 is off.
    pub top_k: i32,
    /// Maximum number of groups sampled together.
    pub concurrent_groups: usize,
    /// Section `[rollout.reward]`: scoring of completions.
    pub reward: RewardConfig,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            group_size: 8,
            max_tokens: 8,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            concurrent_groups: 16,
            reward: RewardConfig::default(),
        }
    }
}

/// Section `[gate]`: limits on how far producers run ahead of the learner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Maximum staleness in updates that producers aim for, by waiting before they sample.
    pub max_staleness: u64,
    /// Exact staleness in updates: if set, the batch of update b is sampled by version max(0, b −
    /// exact).
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
