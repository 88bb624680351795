use async_trait::async_trait;
use vintage_control::PolicyVersion;
use vintage_settings::RolloutConfig;
use vintage_trajectory::{GroupId, LogprobMode, PolicySpan};

use crate::select::row_seed;

/// Whatever turns prompts into completions with log-probs: an in-process decoder, or a client of
/// an inference server.
#[async_trait]
pub trait Engine: Send {
    /// Name and version of the engine; goes into every trajectory.
    fn name(&self) -> &str;

    /// Version whose weights it holds.
    fn version(&self) -> PolicyVersion;

    /// Prompt and completion tokens it can hold in one sequence.
    fn context_len(&self) -> usize;

    /// Tokens of a text, as `sample` would use them. A `rendered` chat holds the special tokens it
    /// needs; to other texts the model's own are added.
    fn encode(&self, text: &str, rendered: bool) -> Result<Vec<i32>, EngineError>;

    /// The text of a chat up to where the model is to answer. The chat is a JSON list of messages,
    /// or an object with that list as `messages` and what else its template is given.
    fn render(&self, chat: &str) -> Result<String, EngineError>;

    /// Swaps to `version`, whose weights it verifies first. On an error it keeps the old ones.
    async fn load(&mut self, version: PolicyVersion) -> Result<(), EngineError>;

    /// Samples every request, in order; one completion per sample index.
    async fn sample(
        &mut self,
        requests: Vec<SampleRequest>,
    ) -> Result<Vec<Vec<Sample>>, EngineError>;
}

/// One group to be sampled.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRequest {
    /// What to complete.
    pub prompt_text: String,
    /// Whether it is a rendered chat; see [`Engine::encode`].
    pub rendered: bool,
    /// The group it becomes; for tracing only, the content does not depend on it.
    pub group: GroupId,
    /// Completions wanted.
    pub samples: u16,
    /// Seed of the group; see [`SampleRequest::row_seed`].
    pub seed: u64,
    /// How to sample.
    pub sampling: Sampling,
}

impl SampleRequest {
    /// Seed of one completion. Engines that can be seeded must draw from it alone, so that
    /// another attempt at the slot samples the same tokens from the same weights.
    pub fn row_seed(&self, sample_index: u16) -> u64 {
        row_seed(self.seed, sample_index)
    }
}

/// How to sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Longest completion, in tokens.
    pub max_tokens: usize,
    /// Above 0.
    pub temperature: f32,
    /// In (0, 1]; 1 is off.
    pub top_p: f32,
    /// 0 is off.
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
    /// Log-prob of each sampled token, in nats; same length.
    pub logprobs: Vec<f32>,
    /// What the log-probs are normalised over.
    pub logprob_mode: LogprobMode,
    /// The completion as text, without stop and other special tokens.
    pub completion_text: String,
    /// `stop` or `length`.
    pub finish_reason: String,
    /// Which version sampled which tokens: ascending, the first at 0.
    pub spans: Vec<PolicySpan>,
    /// Time it took; a share of the call where samples ran together.
    pub seconds: f32,
}

/// Why an engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The version was published, but its weights are pruned by now.
    #[error(
        "version {version} is no longer in the store; keep more versions, or let the producer \
         start with a newer one"
    )]
    VersionGone {
        /// Which.
        version: PolicyVersion,
    },
    /// The request is at fault, such as a text outside the vocabulary.
    #[error("{0}")]
    BadRequest(String),
    /// Anything else; the source says what was attempted, and why it failed.
    #[error("{0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
