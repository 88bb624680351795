use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::Serialize;
use vintage_control::PolicyVersion;

use crate::{GroupId, TrajectoryId};

/// What the log-probs of a completion are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogprobMode {
    /// Log-softmax over the whole vocabulary at the sampling temperature.
    Full,
    /// Renormalised over the top-p / top-k support.
    Truncated,
    /// Log-softmax at temperature 1, whatever the sampling temperature was.
    Raw,
}

impl LogprobMode {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Truncated => "truncated",
            Self::Raw => "raw",
        }
    }
}

impl fmt::Display for LogprobMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no [`LogprobMode`].
#[derive(Debug, thiserror::Error)]
#[error("unknown logprob_mode {0:?}: use full, truncated or raw")]
pub struct BadLogprobMode(String);

impl FromStr for LogprobMode {
    type Err = BadLogprobMode;

    fn from_str(text: &str) -> Result<Self, BadLogprobMode> {
        match text {
            "full" => Ok(Self::Full),
            "truncated" => Ok(Self::Truncated),
            "raw" => Ok(Self::Raw),
            _ => Err(BadLogprobMode(text.chars().take(80).collect())),
        }
    }
}

/// From completion token `start` on, `version` sampled: weights may change mid-completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct PolicySpan {
    /// Index of the span's first completion token.
    pub start: i32,
    /// The version that sampled it and the tokens after it, up to the next span.
    pub version: PolicyVersion,
}

/// One sampled completion, as a producer holds it: one row of a message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trajectory {
    /// The attempt at a prompt this completion belongs to.
    pub group_id: GroupId,
    /// Completions of the whole group, over all its parts.
    pub group_size: u16,
    /// Which of them this one is, from 0.
    pub sample_index: u16,
    /// The lineage that sampled it.
    pub policy: String,
    /// Which update it was sampled for; −1 = any.
    pub batch: i64,
    /// The prompt's id in its prompt set.
    pub prompt_id: String,
    /// Token ids the policy was given.
    pub prompt_tokens: Vec<i32>,
    /// Token ids it sampled, the stop token included.
    pub completion_tokens: Vec<i32>,
    /// Log-prob of each completion token under the policy that sampled it, nats; 0 and unchecked
    /// where `loss_mask` is false.
    pub behavior_logprobs: Vec<f32>,
    /// Which completion tokens train; `None` = all.
    pub loss_mask: Option<Vec<bool>>,
    /// Which version sampled which tokens: starts ascend from 0, versions never descend.
    pub policy_spans: Vec<PolicySpan>,
    /// The reward training uses.
    pub reward: f32,
    /// What it is made of, for people.
    pub reward_parts: Option<BTreeMap<String, f32>>,
    /// Why sampling ended: `stop`, `length` or the engine's own word.
    pub finish_reason: String,
    /// Sampling temperature.
    pub temperature: f32,
    /// Nucleus mass kept; 1 = all.
    pub top_p: f32,
    /// Likeliest tokens kept; 0 = all.
    pub top_k: i32,
    /// What `behavior_logprobs` are taken over.
    pub logprob_mode: LogprobMode,
    /// The engine that sampled.
    pub engine: String,
    /// When, in microseconds since the epoch, UTC.
    pub created_at_us: i64,
    /// How long sampling took, seconds.
    pub generation_seconds: f32,
    /// The prompt as text.
    pub prompt_text: Option<String>,
    /// The completion as text.
    pub completion_text: Option<String>,
    /// Anything else a producer wants kept.
    pub metadata: Option<BTreeMap<String, String>>,
}

impl Trajectory {
    /// The id derived from group and sample index.
    pub fn trajectory_id(&self) -> TrajectoryId {
        self.group_id.trajectory(self.sample_index)
    }
}
