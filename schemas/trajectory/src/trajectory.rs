use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::Serialize;
use vintage_control::PolicyVersion;

use crate::id::{GroupId, TrajectoryId};

/// Key of [`Trajectory::metadata`] that holds the prompt's known answer, so that an archive can be
/// read and judged again without the prompts.
pub const REFERENCE_ANSWER: &str = "reference_answer";

/// Distribution that the log-probs of a completion are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogprobMode {
    /// Log-softmax over the whole vocabulary at the sampling temperature.
    Full,
    /// Renormalized over the top-p / top-k support.
    Truncated,
    /// Log-softmax at temperature 1, whatever the sampling temperature was.
    Raw,
}

impl LogprobMode {
    /// Returns the name on the wire.
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

/// Error for a text that is not the name of a [`LogprobMode`].
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

/// Span of completion tokens sampled by one policy version; weights may change mid-completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct PolicySpan {
    /// Index of the span's first completion token.
    pub start: i32,
    /// Version that sampled the tokens from `start` up to the next span.
    pub version: PolicyVersion,
}

/// One sampled completion as a producer holds it: one row of a message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trajectory {
    /// Id of the group, which is one attempt at a prompt.
    pub group_id: GroupId,
    /// Number of completions of the whole group, over all its parts.
    pub group_size: u16,
    /// Index of this completion within the whole group, from 0.
    pub sample_index: u16,
    /// Policy that sampled the completion.
    pub policy: String,
    /// Update that the completion was sampled for; −1 = any.
    pub batch: i64,
    /// Id of the prompt in its prompt set.
    pub prompt_id: String,
    /// Token ids of the prompt given to the policy.
    pub prompt_tokens: Vec<i32>,
    /// Token ids that the policy sampled, including the stop token.
    pub completion_tokens: Vec<i32>,
    /// Log-prob of each completion token under the policy that sampled it, in nats; 0 and unchecked
    /// where `loss_mask` is false.
    pub behavior_logprobs: Vec<f32>,
    /// Mask of completion tokens that train; `None` = all.
    pub loss_mask: Option<Vec<bool>>,
    /// Policy version of each span of tokens. Starts ascend from 0, versions never descend.
    pub policy_spans: Vec<PolicySpan>,
    /// Reward that training uses.
    pub reward: f32,
    /// Named parts of the reward, for people to read.
    pub reward_parts: Option<BTreeMap<String, f32>>,
    /// Reason for which sampling ended: `stop`, `length` or the engine's own word.
    pub finish_reason: String,
    /// Sampling temperature.
    pub temperature: f32,
    /// Nucleus mass kept in sampling (top-p); 1 = all.
    pub top_p: f32,
    /// Number of likeliest tokens kept in sampling; 0 or −1 = all.
    pub top_k: i32,
    /// Distribution that `behavior_logprobs` are taken over.
    pub logprob_mode: LogprobMode,
    /// Name of the inference engine that sampled the completion.
    pub engine: String,
    /// Time of creation, in microseconds since the epoch, UTC.
    pub created_at_us: i64,
    /// Duration of sampling in seconds; 0 if it was not measured.
    pub generation_seconds: f32,
    /// Prompt as text, if known.
    pub prompt_text: Option<String>,
    /// Completion as text, if known.
    pub completion_text: Option<String>,
    /// Additional entries that a producer wants kept, among them [`REFERENCE_ANSWER`].
    pub metadata: Option<BTreeMap<String, String>>,
}

impl Trajectory {
    /// Returns the id derived from group id and sample index.
    pub fn trajectory_id(&self) -> TrajectoryId {
        self.group_id.trajectory(self.sample_index)
    }
}
