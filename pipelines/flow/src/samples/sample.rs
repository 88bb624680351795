//! One archived rollout.

use std::collections::BTreeMap;

use serde::Serialize;
use vintage_archive::ArchivedMessage;
use vintage_control::PolicyVersion;
use vintage_trajectory::Rows;

use super::fate::Fate;

/// Archived rollout, with what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Decision of the learner about the rollout's group.
    #[serde(flatten)]
    pub fate: Fate,
    /// Reward of the completion.
    pub reward: f32,
    /// Parts of the reward, as the reward command named them.
    pub reward_parts: BTreeMap<String, f32>,
    /// End of the completion: `stop`, `length`, or the engine's own word.
    pub finish_reason: String,
    /// Number of completion tokens.
    pub tokens: u64,
    /// Oldest version that sampled a token; `None` without tokens.
    pub oldest_version: Option<PolicyVersion>,
    /// Newest version that sampled a token; `None` without tokens.
    pub newest_version: Option<PolicyVersion>,
    /// Id of the prompt in its prompt set.
    pub prompt_id: String,
    /// Prompt.
    pub prompt: SampledText,
    /// Known answer of the prompt, if it has one.
    pub answer: Option<String>,
    /// Completion.
    pub completion: SampledText,
    /// Engine that sampled.
    pub engine: String,
    /// Producer process.
    pub producer: Option<String>,
    /// Number of the group within the producer process.
    pub producer_seq: Option<u64>,
    /// Number of the rollout within its group.
    pub sample_index: u16,
    /// Group id, 32 hexadecimal digits.
    pub group: String,
    /// Policy that sampled.
    pub policy: String,
    /// Time of sampling, microseconds UTC.
    pub created_at_us: i64,
}

/// Text of a prompt or completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SampledText {
    /// Text, as it was recorded.
    Text(String),
    /// Token ids, of a rollout that was published without its text.
    Tokens(Vec<i32>),
}

impl Sample {
    /// Reads a row of an archived message. Its fate is not known yet.
    pub(super) fn of(message: &ArchivedMessage, rows: &Rows, row: usize) -> Self {
        let versions = || rows.policy_spans(row).map(|span| span.version);
        let text = |text: Option<&str>, tokens: &[i32]| {
            text.map_or_else(
                || SampledText::Tokens(tokens.to_vec()),
                |text| SampledText::Text(text.to_owned()),
            )
        };
        let parts = rows.reward_parts(row).into_iter().flatten();
        Self {
            fate: Fate::Pending,
            reward: rows.reward(row),
            reward_parts: parts.map(|(name, part)| (name.to_owned(), part)).collect(),
            finish_reason: rows.finish_reason(row).to_owned(),
            tokens: rows.completion_tokens(row).len() as u64,
            oldest_version: versions().min(),
            newest_version: versions().max(),
            prompt_id: rows.prompt_id(row).to_owned(),
            prompt: text(rows.prompt_text(row), rows.prompt_tokens(row)),
            answer: rows.reference_answer(row).map(str::to_owned),
            completion: text(rows.completion_text(row), rows.completion_tokens(row)),
            engine: rows.engine(row).to_owned(),
            producer: message.identity.producer.clone(),
            producer_seq: message.identity.producer_seq,
            sample_index: rows.sample_index(row),
            group: rows.group_id(row).to_string(),
            policy: rows.policy(row).to_owned(),
            created_at_us: rows.created_at_us(row),
        }
    }
}
