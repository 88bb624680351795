//! Batched sampling with a key-value cache.

mod batch;
mod pass;
mod pick;
mod weights;

use std::sync::Arc;

pub use self::batch::{Ask, Batch};
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
    /// Samples one completion per prompt, all in one [`Batch`]. Row i draws from a generator seeded
    /// with `seeds[i]` only, and its tokens and log-probs are the same bit for bit alone, among other
    /// rows and at any number of threads. Equal prompts are run once. No gradients or activations are
    /// kept.
    ///
    /// # Errors
    /// There is not one seed per prompt; or as [`Batch::admit`].
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        params: &SamplingParams,
        seeds: &[u64],
    ) -> Result<Vec<Completion>> {
        if seeds.len() != prompts.len() {
            return Err(Error::Input(format!(
                "sampling: {} prompts and {} seeds; give one seed per prompt",
                prompts.len(),
                seeds.len()
            )));
        }
        let params = Arc::new(params.clone());
        let asks = prompts.iter().zip(seeds).map(|(prompt, &seed)| Ask {
            prompt: prompt.clone(),
            params: Arc::clone(&params),
            seed,
        });
        let mut batch = Batch::new(self)?;
        batch.admit(asks.enumerate().collect())?;
        let mut finished = batch.finished();
        while !batch.is_empty() {
            batch.step()?;
            finished.extend(batch.finished());
        }
        finished.sort_by_key(|(row, _)| *row);
        Ok(finished.into_iter().map(|(_, row)| row).collect())
    }
}
