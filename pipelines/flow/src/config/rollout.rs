use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vintage_rollout::RewardConfig;

/// `[prompts]`: JSONL files with `prompt` or `messages` and `answer`, or GSM8K's `question` and
/// `answer`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptsConfig {
    /// Prompts to train on; unset = the built-in running sums.
    pub train: Option<PathBuf>,
    /// Prompts to evaluate on, none of which is trained on; unset = the built-in ones, or, with
    /// a `train` file of your own, no evaluation.
    pub heldout: Option<PathBuf>,
    /// Whether plain prompts are asked as what the user of a chat says, through the model's chat
    /// template; rows with `messages` always are.
    pub chat: bool,
}

/// `[rollout]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Completions a prompt, G.
    pub group_size: u16,
    /// Longest completion, in tokens.
    pub max_tokens: usize,
    /// Sampling temperature, above 0.
    pub temperature: f64,
    /// Nucleus sampling, in (0, 1]; 1 is off.
    pub top_p: f64,
    /// Sample from the k likeliest tokens; 0 is off.
    pub top_k: i32,
    /// Groups sampled together, at most.
    pub concurrent_groups: usize,
    /// `[rollout.reward]`: what a completion is worth.
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

/// `[gate]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Updates' worth of staleness to admit, paced by waiting.
    pub max_staleness: u64,
    /// If set, the batch of update b is sampled by version max(0, b − exact) instead.
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
