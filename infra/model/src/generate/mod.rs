//! Batched sampling with a key-value cache.

mod pass;
mod pick;
mod sampler;
mod weights;

use self::sampler::Sampler;
use crate::{
    decoder::Decoder,
    error::{Error, Result},
};

/// Number of prompt tokens that go through the layers at once, which bounds the memory of their
/// activations.
pub(crate) const PREFILL_TOKENS: usize = 16_384;

/// Parameters of sampling.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Softmax temperature; 0 always takes the likeliest token.
    pub temperature: f32,
    /// Probability mass of the likeliest tokens to draw from; 1 is off.
    pub top_p: f32,
    /// Number of likeliest tokens to draw from; 0 is off.
    pub top_k: i32,
    /// Maximum length of a completion, in tokens.
    pub max_tokens: usize,
    /// Token ids that end a completion and are included in it.
    pub stop: Vec<u32>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            max_tokens: 256,
            stop: Vec::new(),
        }
    }
}

/// Reason for which a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token was sampled.
    Stop,
    /// The completion reached `max_tokens` or the end of the model's context.
    Length,
}

impl FinishReason {
    /// Returns `stop` or `length`, as serving engines spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// One sampled completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Token ids, including a stop token.
    pub tokens: Vec<u32>,
    /// Log-prob of each token in nats, under the softmax over the whole vocabulary at the sampling
    /// temperature (at 1 if that is 0), regardless of top-p and top-k.
    pub logprobs: Vec<f32>,
    /// Reason for which the completion ended.
    pub finish_reason: FinishReason,
}

impl Decoder {
    /// Samples one completion per prompt. Row i draws from a generator seeded with `seeds[i]` only,
    /// and its tokens and log-probs are the same bit for bit alone, among other rows and at any
    /// number of threads. Equal prompts are run once. No gradients or activations are kept.
    ///
    /// # Errors
    /// A prompt is empty, fills the whole context or has an unknown token; a setting is out of
    /// range; or logits are not finite.
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        params: &SamplingParams,
        seeds: &[u64],
    ) -> Result<Vec<Completion>> {
        self.check_request(prompts, params, seeds)?;
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        if params.max_tokens == 0 {
            let empty = || Completion {
                tokens: Vec::new(),
                logprobs: Vec::new(),
                finish_reason: FinishReason::Length,
            };
            return Ok(prompts.iter().map(|_| empty()).collect());
        }
        Sampler::new(self, prompts, params, seeds)?.run()
    }

    fn check_request(
        &self,
        prompts: &[Vec<u32>],
        params: &SamplingParams,
        seeds: &[u64],
    ) -> Result<()> {
        let refuse = |problem: String| Err(Error::Input(format!("sampling: {problem}")));
        if seeds.len() != prompts.len() {
            return refuse(format!(
                "{} prompts and {} seeds; give one seed per prompt",
                prompts.len(),
                seeds.len()
            ));
        }
        if !(params.temperature >= 0.0 && params.temperature.is_finite()) {
            return refuse(format!(
                "temperature {} is not a number from 0 up",
                params.temperature
            ));
        }
        if !(params.top_p > 0.0 && params.top_p <= 1.0) {
            return refuse(format!(
                "top_p {} is not above 0 and at most 1",
                params.top_p
            ));
        }
        if params.top_k < 0 {
            return refuse(format!("top_k {} is below 0; 0 turns it off", params.top_k));
        }
        let context = self.config.max_position_embeddings;
        for (row, prompt) in prompts.iter().enumerate() {
            if prompt.is_empty() {
                return refuse(format!("prompt {row} has no token"));
            }
            if prompt.len() >= context {
                return refuse(format!(
                    "prompt {row} has {} tokens, which leaves no room in the model's context of \
                     {context}; shorten it",
                    prompt.len()
                ));
            }
            if let Some(token) = prompt
                .iter()
                .find(|&&token| token as usize >= self.config.vocab_size)
            {
                return refuse(format!(
                    "prompt {row} has token {token}, outside the model's vocabulary of {}",
                    self.config.vocab_size
                ));
            }
        }
        Ok(())
    }
}
