use serde::{Deserialize, Serialize};
use vintage_control::{Name, OptimizerSettings};

use super::run::name;

/// `[learner]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LearnerConfig {
    /// Its name: of its plans, results and checkpoints.
    pub name: Name,
    /// The lineage it trains and publishes.
    pub policy: Name,
    /// Updates in all.
    pub steps: u64,
    /// Prompt groups an update consumes.
    pub prompts_per_update: usize,
    /// Prompt and completion tokens that go through the model together.
    pub micro_batch_tokens: usize,
    /// Updates between checkpoints.
    pub checkpoint_every: u64,
    /// Updates between published versions.
    pub publish_every: u64,
    /// Newest versions kept in the store; version 0 and a checkpoint's base always are.
    pub keep_versions: u64,
    /// Groups older than this many updates are refused; unset = train on any age.
    pub max_age: Option<u64>,
    /// AdamW.
    pub optimizer: OptimizerSettings,
}

impl Default for LearnerConfig {
    fn default() -> Self {
        Self {
            name: name("lead"),
            policy: name("lead"),
            steps: 400,
            prompts_per_update: 16,
            micro_batch_tokens: 8192,
            checkpoint_every: 25,
            publish_every: 1,
            keep_versions: 4,
            max_age: None,
            optimizer: OptimizerSettings {
                lr: 1e-4,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.01,
                decay_vectors: true,
                grad_clip: 1.0,
            },
        }
    }
}
