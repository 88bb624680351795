use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, stream::BoxStream};
use vintage_control::PolicyVersion;
use vintage_settings::RolloutConfig;
use vintage_trajectory::{GroupId, LogprobMode, PolicySpan};

use crate::{
    error::Error,
    prompts::prompt::Prompt,
    reward::{RewardFailure, RewardScore},
    select::row_seed,
};

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

    /// Returns what samples, and holds the texts of the model, apart from the engine itself:
    /// conversations ask it for one turn after the other while the engine may load other weights.
    fn turns(&self) -> Arc<dyn TurnSampler>;

    /// Samples all requests, each with one completion per sample index. Groups come as they finish;
    /// each comes once. Dropping the stream cancels what is not finished.
    fn sample(&mut self, requests: Vec<SampleRequest>) -> Groups {
        self.turns().sample(requests)
    }

    /// Returns what the engine can take while groups are being sampled.
    fn overlap(&self) -> Overlap {
        Overlap::Nothing
    }
}

/// Work that an engine can take while groups are being sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Nothing: it computes one call at a time.
    Nothing,
    /// Sample more groups with the weights it holds.
    SameVersion,
    /// Sample more groups, and load weights.
    Versions,
}

/// Sampler of an engine, with the texts of its model.
pub trait TurnSampler: Send + Sync {
    /// Samples as [`Engine::sample`] does, with the weights that the engine held when this sampler
    /// was taken, or with newer ones.
    fn sample(&self, requests: Vec<SampleRequest>) -> Groups;

    /// Encodes a text as [`Engine::encode`] does.
    fn encode(&self, text: &str, rendered: bool) -> Result<Vec<i32>, EngineError>;

    /// Decodes tokens with special tokens spelled out.
    fn spell(&self, tokens: &[i32]) -> Result<String, EngineError>;

    /// Returns the tokens that follow the completion which is message number `completion` of a
    /// chat, from 0: those that the chat template writes from its end to where the model is to
    /// answer again. `stop` is the stop token that ended it, if one did; it is not repeated.
    fn following(
        &self,
        chat: &str,
        completion: usize,
        stop: Option<i32>,
    ) -> Result<Following, EngineError>;
}

/// Tokens that continue a conversation. Those before are never tokenized again, so a later turn is
/// sampled from exactly what was sampled before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Following {
    /// Tokens after the completion and its stop token.
    pub tokens: Vec<i32>,
    /// Way in which the chat template renders what came before otherwise than it was sampled.
    pub rewriting: Option<String>,
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

/// Request to sample one group, or one turn of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRequest {
    /// Prompt to complete.
    pub prompt: Arc<Prompt>,
    /// Turn to sample; `None` completes the prompt.
    pub turn: Option<Turn>,
    /// Id of the group to be sampled; for tracing only, the content must not depend on it.
    pub group: GroupId,
    /// Number of completions; 1 for a turn.
    pub samples: u16,
    /// Seed of the group; see [`SampleRequest::row_seed`].
    pub seed: u64,
    /// Sampling settings.
    pub sampling: Sampling,
}

/// Turn of one conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Tokens to complete, in place of the prompt's text.
    pub tokens: Vec<i32>,
    /// Seed of the completion.
    pub seed: u64,
    /// Version of the turn before; an older one must not sample.
    pub at_least: PolicyVersion,
}

impl SampleRequest {
    /// Seed of one completion. An engine that can be seeded must draw from this seed alone, so that
    /// another attempt at the slot samples the same tokens from the same weights.
    pub fn row_seed(&self, sample_index: u16) -> u64 {
        match &self.turn {
            Some(turn) => turn.seed,
            None => row_seed(self.seed, sample_index),
        }
    }

    /// Oldest version that may sample.
    pub fn at_least(&self) -> PolicyVersion {
        let before = self.turn.as_ref().map(|turn| turn.at_least);
        before.unwrap_or_default()
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
    /// Facts of the conversation, if the completion is one: its tokens are then everything after
    /// the prompt.
    pub episode: Option<Episode>,
    /// Score that came with the completion, such as an environment's; `None` if the reward is to
    /// give one.
    pub score: Option<RewardScore>,
}

impl Sample {
    /// Number of tokens that the model sampled.
    pub fn sampled_tokens(&self) -> usize {
        match &self.episode {
            Some(episode) => episode.sampled.iter().filter(|sampled| **sampled).count(),
            None => self.completion_tokens.len(),
        }
    }
}

/// Conversation with an environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// Mask of completion tokens: true for those that were sampled, false for those of the
    /// environment's messages, which have the log-prob 0.
    pub sampled: Vec<bool>,
    /// Number of completions.
    pub turns: u32,
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
    /// Group that was not sampled because its sampler ends: its lease is given back.
    #[error("it was given back without a sample")]
    GivenBack,
    /// Group of which an episode failed. It is given up, and counted among the groups without a
    /// reward.
    #[error("{0}")]
    EpisodeFailed(RewardFailure),
    /// Environment that can answer no more.
    #[error("{0}")]
    Environment(#[source] Box<Error>),
    /// Any other failure; the source says what was attempted and why it failed.
    #[error("{0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
