//! Batched sampling with a key-value cache.

mod pick;

use std::collections::BTreeMap;

use candle_core::Tensor;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::pick::pick;
use crate::layer::Pass;
use crate::ops::attention::Heads;
use crate::ops::attention::cache::{Cache, Reader};
use crate::ops::storage::values;
use crate::ops::{embedding, rope};
use crate::view::View;
use crate::{
    decoder::Decoder,
    error::{Error, Result},
    pace::Computed,
    packed::Packed,
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
    /// Samples one completion per prompt. Row i draws from a generator seeded with `seeds[i]` only;
    /// other rows can change no more than the last bits of its logits. Equal prompts are run once.
    /// No gradients or activations are kept.
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
        let mut sampler = Sampler::new(self, prompts, params, seeds);
        let mut logits = sampler.prefill(prompts)?;
        loop {
            sampler.sample(&logits)?;
            if sampler.active.is_empty() {
                break;
            }
            logits = sampler.step()?;
        }
        Ok(sampler.rows.into_iter().map(|row| row.completion).collect())
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

struct Row {
    rng: ChaCha8Rng,
    /// Number of tokens in the cache.
    len: usize,
    /// Maximum number of tokens of the completion.
    limit: usize,
    completion: Completion,
}

struct Sampler<'a> {
    decoder: &'a Decoder,
    params: &'a SamplingParams,
    rope: rope::Table,
    caches: Vec<Cache>,
    rows: Vec<Row>,
    /// Rows that are not finished, ascending. Row i of the logits belongs to `active[i]`.
    active: Vec<usize>,
    weights: Vec<f32>,
}

impl<'a> Sampler<'a> {
    fn new(
        decoder: &'a Decoder,
        prompts: &[Vec<u32>],
        params: &'a SamplingParams,
        seeds: &[u64],
    ) -> Self {
        let config = &decoder.config;
        let rows: Vec<_> = prompts
            .iter()
            .zip(seeds)
            .map(|(prompt, &seed)| Row {
                rng: ChaCha8Rng::seed_from_u64(seed),
                len: prompt.len(),
                limit: params
                    .max_tokens
                    .min(config.max_position_embeddings - prompt.len()),
                completion: Completion {
                    tokens: Vec::new(),
                    logprobs: Vec::new(),
                    finish_reason: FinishReason::Length,
                },
            })
            .collect();
        // The last token drawn is never run through the model.
        let capacities: Vec<_> = rows.iter().map(|row| row.len + row.limit - 1).collect();
        let longest = capacities.iter().copied().max().unwrap_or(0);
        let heads = Heads::of(config);
        Self {
            decoder,
            params,
            rope: rope::Table::new(&decoder.frequencies, longest),
            caches: decoder
                .index
                .layers
                .iter()
                .map(|_| Cache::new(heads, &capacities))
                .collect(),
            active: (0..rows.len()).collect(),
            rows,
            weights: Vec::new(),
        }
    }

    fn pass(&self) -> Pass<'_> {
        self.decoder.pass(&self.rope)
    }

    /// Runs every distinct prompt once; returns the logits `[rows, vocab]` after the last token of
    /// each prompt.
    fn prefill(&mut self, prompts: &[Vec<u32>]) -> Result<Vec<f32>> {
        let mut owners: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
        for (row, prompt) in prompts.iter().enumerate() {
            owners.entry(prompt).or_default().push(row);
        }
        let mut different: Vec<_> = owners.into_iter().collect();
        different.sort_by_key(|(_, rows)| rows[0]);
        let vocab = self.decoder.config.vocab_size;
        let mut logits = vec![0.0; prompts.len() * vocab];
        let mut from = 0;
        while from < different.len() {
            let mut to = from + 1;
            let mut tokens = different[from].0.len();
            while to < different.len() && tokens + different[to].0.len() <= PREFILL_TOKENS {
                tokens += different[to].0.len();
                to += 1;
            }
            let part = &different[from..to];
            let part_logits = self.prefill_part(part)?;
            let part_logits = values(&part_logits)?;
            for ((_, rows), part) in part.iter().zip(part_logits.chunks_exact(vocab)) {
                for row in rows {
                    logits[row * vocab..(row + 1) * vocab].copy_from_slice(part);
                }
            }
            from = to;
        }
        Ok(logits)
    }

    fn prefill_part(&mut self, part: &[(&[u32], Vec<usize>)]) -> Result<Tensor> {
        let packed = Packed::new(part.iter().map(|(prompt, _)| prompt));
        let lasts = packed.starts[1..]
            .iter()
            .map(|&end| end as u32 - 1)
            .collect();
        let (all, last) = (View::all(&packed.starts), View::only(&packed.starts, lasts));
        let decoder = self.decoder;
        let (width, key_width) = (decoder.config.hidden_size, decoder.config.key_width());
        let table = decoder.params.tensor(decoder.index.embedding);
        let mut x = embedding::forward(table, &packed.tokens, width)?;
        for (number, layer) in decoder.index.layers.iter().enumerate() {
            let view = if number + 1 == decoder.index.layers.len() {
                &last
            } else {
                &all
            };
            Computed::count_sampled();
            let (y, tape) = self.pass().layer_forward(layer, x, view)?;
            let (k, v) = tape.keys_and_values();
            let (k, v) = (values(k)?, values(v)?);
            for ((_, rows), bounds) in part.iter().zip(packed.starts.windows(2)) {
                let range = bounds[0] * key_width..bounds[1] * key_width;
                for &row in rows {
                    self.caches[number].store(row, 0, &k[range.clone()], &v[range.clone()]);
                }
            }
            x = y;
        }
        self.logits(&x)
    }

    /// Draws one token for every active row, and removes finished rows from `active`.
    fn sample(&mut self, logits: &[f32]) -> Result<()> {
        let vocab = self.decoder.config.vocab_size;
        let rows = &mut self.rows;
        let mut going = Vec::with_capacity(self.active.len());
        for (&row, logits) in self.active.iter().zip(logits.chunks_exact(vocab)) {
            let Row {
                rng,
                len,
                limit,
                completion,
            } = &mut rows[row];
            let Some((token, logprob)) = pick(logits, self.params, rng, &mut self.weights) else {
                return Err(Error::Input(format!(
                    "sampling: the logits of row {row} after {len} tokens are not finite; the \
                     weights are broken"
                )));
            };
            completion.tokens.push(token);
            completion.logprobs.push(logprob);
            if self.params.stop.contains(&token) {
                completion.finish_reason = FinishReason::Stop;
            } else if completion.tokens.len() < *limit {
                going.push(row);
            }
        }
        self.active = going;
        Ok(())
    }

    /// Runs the last token of every active row; returns the logits `[active, vocab]`.
    fn step(&mut self) -> Result<Vec<f32>> {
        let decoder = self.decoder;
        let mut tokens = Vec::with_capacity(self.active.len());
        let mut readers = Vec::with_capacity(self.active.len());
        let mut positions = Vec::with_capacity(self.active.len());
        for &row in &self.active {
            let state = &mut self.rows[row];
            tokens.extend(state.completion.tokens.last());
            positions.push(state.len as u32);
            state.len += 1;
            readers.push(Reader {
                row,
                visible: state.len,
            });
        }
        let table = decoder.params.tensor(decoder.index.embedding);
        let mut x = embedding::forward(table, &tokens, decoder.config.hidden_size)?;
        let mut caches = std::mem::take(&mut self.caches);
        for (layer, cache) in decoder.index.layers.iter().zip(&mut caches) {
            Computed::count_sampled();
            x = self
                .pass()
                .layer_step(layer, &x, &positions, &readers, cache)?;
        }
        self.caches = caches;
        Ok(values(&self.logits(&x)?)?.to_vec())
    }

    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let (normed, _) = self.decoder.final_norm(x)?;
        self.decoder.head_logits(&normed)
    }
}
