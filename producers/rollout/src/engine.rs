use async_trait::async_trait;
use futures::{StreamExt as _, stream::BoxStream};
use vintage_control::PolicyVersion;
use vintage_settings::RolloutConfig;
use vintage_trajectory::{GroupId, LogprobMode, PolicySpan};

use crate::select::row_seed;

/// Inference engine that turns prompts into completions with log-probs: an in-process decoder, or a
/// client of an inference server.
#[async_trait]
pub trait Engine: Send {
    /// Returns the engine's name and version, which every trajectory records.
    fn name(&self) -> &str;

    /// Returns the version whose weights the engine holds.
    fn version(&self) -> PolicyVersion;

    /// Returns the longest sequence that the engine can hold, prompt and completion together, in
    /// tokens.
    fn context_len(&self) -> usize;

    /// Returns the prompt tokens that `sample` would use for a text. A `rendered` chat already
    /// holds its special tokens, so none must be added; to any other text the model's own are
    /// added.
    fn encode(&self, text: &str, rendered: bool) -> Result<Vec<i32>, EngineError>;

    /// Returns a chat as text, up to the point where the model is to answer. The chat is a JSON
    /// list of messages, or an object with that list as `messages` and further inputs of the chat
    /// template.
    fn render(&self, chat: &str) -> Result<String, EngineError>;

    /// Swaps to the weights of `version` after verifying them. Must keep the old weights on an
    /// error. Groups that are being sampled meanwhile end with the version they began with, or with
    /// spans that say where it changed.
    async fn load(&mut self, version: PolicyVersion) -> Result<(), EngineError>;

    /// Samples all requests, each with one completion per sample index. Groups come as they finish;
    /// each comes once. Dropping the stream cancels what is not finished.
    fn sample(&mut self, requests: Vec<SampleRequest>) -> Groups;

    /// Returns true if groups may be requested, and weights loaded, while others are being sampled.
    /// An engine that computes one call at a time gains nothing from that.
    fn overlaps(&self) -> bool {
        false
    }
}

/// Groups of one call as they finish: the index of the request, and its completions.
pub type Groups = BoxStream<'static, (usize, Result<Vec<Sample>, EngineError>)>;

/// Waits for all groups of a call, and returns them in the order of their `requests`.
///
/// # Errors
/// The first failure of a group; a request that got no answer is one too.
pub async fn all_groups(
    mut groups: Groups,
    requests: usize,
) -> Result<Vec<Vec<Sample>>, EngineError> {
    let mut finished = vec![None; requests];
    while let Some((index, group)) = groups.next().await {
        if let Some(place) = finished.get_mut(index) {
            *place = Some(group?);
        }
    }
    let missing = || EngineError::BadRequest("the engine left a request without an answer".into());
    finished
        .into_iter()
        .map(|group| group.ok_or_else(missing))
        .collect()
}

/// Request to sample one group.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRequest {
    /// Text to complete.
    pub prompt_text: String,
    /// True if the text is a rendered chat; see [`Engine::encode`].
    pub rendered: bool,
    /// Id of the group to be sampled; for tracing only, the content must not depend on it.
    pub group: GroupId,
    /// Number of completions.
    pub samples: u16,
    /// Seed of the group; see [`SampleRequest::row_seed`].
    pub seed: u64,
    /// Sampling settings.
    pub sampling: Sampling,
}

impl SampleRequest {
    /// Seed of one completion. An engine that can be seeded must draw from this seed alone, so that
    /// another attempt at the slot samples the same tokens from the same weights.
    pub fn row_seed(&self, sample_index: u16) -> u64 {
        row_seed(self.seed, sample_index)
    }
}

/// Sampling settings of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Longest completion, in tokens.
    pub max_tokens: usize,
    /// Sampling temperature, above 0.
    pub temperature: f32,
    /// Nucleus sampling probability, in (0, 1]; 1 is off.
    pub top_p: f32,
    /// Number of likeliest tokens to sample from (top-k); 0 is off.
    pub top_k: i32,
}

impl From<&RolloutConfig> for Sampling {
    fn from(config: &RolloutConfig) -> Self {
        Self {
            max_tokens: config.max_tokens,
            temperature: config.temperature as f32,
            top_p: config.top_p as f32,
            top_k: config.top_k,
        }
    }
}

/// One completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Tokens of the prompt.
    pub prompt_tokens: Vec<i32>,
    /// Sampled tokens, the stop token included.
    pub completion_tokens: Vec<i32>,
    /// Log-prob of each sampled token in nats; same length as `completion_tokens`.
    pub logprobs: Vec<f32>,
    /// Distribution that the log-probs are normalised over.
    pub logprob_mode: LogprobMode,
    /// Text of the completion, without the stop token and other special tokens.
    pub completion_text: String,
    /// Reason the completion ended: `stop` or `length`.
    pub finish_reason: String,
    /// Versions that sampled the tokens, as spans in ascending order; the first starts at token 0.
    pub spans: Vec<PolicySpan>,
    /// Sampling time in seconds; an equal share of the call if samples ran together.
    pub seconds: f32,
}

/// Failure of an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Weights that are no longer in the store: the version was published and then pruned.
    #[error(
        "version {version} is no longer in the store; keep more versions, or let the producer \
         start with a newer one"
    )]
    VersionGone {
        /// Version that was requested.
        version: PolicyVersion,
    },
    /// Request that the engine cannot serve, such as a text outside the vocabulary.
    #[error("{0}")]
    BadRequest(String),
    /// Group that could not be sampled, though others can. It is given up, and counted under the
    /// reason.
    #[error("{detail}")]
    GroupFailed {
        /// Class of the failure, as metrics count it.
        reason: &'static str,
        /// Description of the failure.
        detail: String,
    },
    /// Any other failure; the source says what was attempted and why it failed.
    #[error("{0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
