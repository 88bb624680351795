//! Completions that are sampled together, a token of each at a time. They join and leave between
//! two steps (continuous batching).

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::pass::{Attend, Pass};
use super::pick::{Scratch, pick};
use super::weights::Weights;
use super::{Completion, FinishReason, PREFILL_TOKENS, SamplingParams};
use crate::config::DecoderConfig;
use crate::cpu::is_worth_it;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::ops::attention::Heads;
use crate::ops::attention::cache::{Cache, Reader};
use crate::ops::rope;
use crate::packed::Packed;
use crate::view::View;

/// Completion to sample.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Tokens to complete, one at least.
    pub prompt: Vec<u32>,
    /// Parameters of sampling.
    pub params: Arc<SamplingParams>,
    /// Seed of the generator that the completion draws from, and nothing else does.
    pub seed: u64,
}

/// Continuous batch over one decoder: completions join it at any time, and what is finished makes
/// room. The tokens and log-probs of a completion are a function of weights, prompt, parameters and
/// seed, bit for bit, whatever is sampled beside it and on any number of threads. Every completion
/// carries a `K`, by which its owner knows it again.
///
/// ```
/// use std::sync::Arc;
/// use vintage_model::{Ask, Batch, Decoder, DecoderConfig, ParamSet, SamplingParams};
///
/// let config = DecoderConfig::tiny(12);
/// let decoder = Decoder::new(config.clone(), ParamSet::init(&config, 1)?)?;
/// let params = Arc::new(SamplingParams { max_tokens: 4, ..SamplingParams::default() });
/// let ask = |seed| Ask { prompt: vec![1, 2, 3], params: Arc::clone(&params), seed };
/// let mut batch = Batch::new(&decoder)?;
/// batch.admit(vec![("first", ask(0))])?;
/// batch.step()?;
/// batch.admit(vec![("second", ask(1))])?;
/// let mut order = Vec::new();
/// while !batch.is_empty() {
///     batch.step()?;
///     order.extend(batch.finished().into_iter().map(|(name, _)| name));
/// }
/// assert_eq!(order, ["first", "second"]);
/// # Ok::<(), vintage_model::Error>(())
/// ```
pub struct Batch<'a, K> {
    pass: Pass<'a>,
    /// Keys and values, one cache per layer.
    caches: Vec<Cache>,
    /// Completions that are being sampled, in the order in which they came.
    rows: Vec<Row<K>>,
    /// Rows of the caches that nobody uses.
    free: Vec<usize>,
    finished: Vec<(K, Completion)>,
}

/// Completion that is being sampled.
struct Row<K> {
    key: K,
    params: Arc<SamplingParams>,
    rng: ChaCha8Rng,
    /// Row of the caches.
    place: usize,
    /// Number of tokens in the caches.
    len: usize,
    /// Largest number of tokens of the completion.
    limit: usize,
    /// True until the completion is finished.
    going: bool,
    completion: Completion,
}

impl<'a, K: Send> Batch<'a, K> {
    /// Creates an empty batch.
    ///
    /// # Errors
    /// The decoder's weights are on a device.
    pub fn new(decoder: &'a Decoder) -> Result<Self> {
        let heads = Heads::of(&decoder.config);
        let layers = decoder.index.layers.iter();
        Ok(Self {
            pass: Pass {
                decoder,
                weights: Weights::new(decoder)?,
                rope: rope::Table::new(&decoder.frequencies, 0),
            },
            caches: layers.map(|_| Cache::new(heads)).collect(),
            rows: Vec::new(),
            free: Vec::new(),
            finished: Vec::new(),
        })
    }

    /// Number of completions that are being sampled.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns true if nothing is being sampled and nothing finished is left to be taken.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.finished.is_empty()
    }

    /// Takes what has finished since the last call, in the order in which it came.
    pub fn finished(&mut self) -> Vec<(K, Completion)> {
        std::mem::take(&mut self.finished)
    }

    /// Returns an error if a completion cannot be admitted: its prompt is empty, fills the whole
    /// context or has an unknown token, or a parameter is out of range.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, ask: &Ask) -> Result<()> {
        admissible(&self.pass.decoder.config, 0, ask)
    }

    /// Gives up the completions of which `is_wanted` is false.
    pub fn retain(&mut self, is_wanted: impl Fn(&K) -> bool) {
        for row in &mut self.rows {
            row.going = is_wanted(&row.key);
        }
        let _unwanted = self.leaving();
    }

    /// Adds completions, runs their prompts, equal ones once, and draws the first token of each.
    ///
    /// # Errors
    /// One of them is not what [`Batch::check`] accepts; nothing is added then. Or logits are not
    /// finite: the weights are broken, and so is the batch.
    pub fn admit(&mut self, asks: Vec<(K, Ask)>) -> Result<()> {
        let config = &self.pass.decoder.config;
        for (number, (_, ask)) in asks.iter().enumerate() {
            admissible(config, number, ask)?;
        }
        let mut prompts = Vec::with_capacity(asks.len());
        let first = self.rows.len();
        for (key, ask) in asks {
            let context = config.max_position_embeddings;
            let limit = ask.params.max_tokens.min(context - ask.prompt.len());
            let completion = Completion {
                tokens: Vec::new(),
                logprobs: Vec::new(),
                finish_reason: FinishReason::Length,
            };
            if limit == 0 {
                self.finished.push((key, completion));
                continue;
            }
            self.rows.push(Row {
                key,
                place: self.free.pop().unwrap_or(self.rows.len()),
                rng: ChaCha8Rng::seed_from_u64(ask.seed),
                len: ask.prompt.len(),
                limit,
                going: true,
                completion,
                params: ask.params,
            });
            prompts.push(ask.prompt);
        }
        // The last token drawn is never run through the model.
        for row in &self.rows[first..] {
            let keys = row.len + row.limit - 1;
            self.pass.rope.reach(&self.pass.decoder.frequencies, keys);
            self.caches
                .iter_mut()
                .for_each(|cache| cache.open(row.place, keys));
        }
        let (logits, places) = self.prefill(first, &prompts)?;
        self.draw(first, &logits, &places)
    }

    /// Draws one more token for every completion that is being sampled.
    ///
    /// # Errors
    /// Logits are not finite: the weights are broken, and so is the batch.
    pub fn step(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let count = self.rows.len();
        let mut tokens = Vec::with_capacity(count);
        let mut readers = Vec::with_capacity(count);
        let mut positions = Vec::with_capacity(count);
        for row in &mut self.rows {
            tokens.extend(row.completion.tokens.last());
            positions.push(row.len as u32);
            row.len += 1;
            readers.push(Reader {
                row: row.place,
                visible: row.len,
            });
        }
        let mut attend = Attend::Step {
            caches: &mut self.caches,
            readers: &readers,
        };
        let logits = self.pass.logits(&tokens, &positions, &mut attend)?;
        let places: Vec<_> = (0..count).collect();
        self.draw(0, &logits, &places)
    }

    /// Runs every different prompt of the rows from `first` on; returns the logits after the last
    /// token of each, and which of them belong to each row.
    fn prefill(&mut self, first: usize, prompts: &[Vec<u32>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let mut owners: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
        for (row, prompt) in prompts.iter().enumerate() {
            owners.entry(prompt).or_default().push(row);
        }
        let mut different: Vec<_> = owners.into_iter().collect();
        different.sort_by_key(|(_, rows)| rows[0]);
        let mut places = vec![0; prompts.len()];
        for (place, (_, rows)) in different.iter_mut().enumerate() {
            for row in rows {
                places[*row] = place;
                *row = self.rows[first + *row].place;
            }
        }
        let mut logits = Vec::new();
        let mut from = 0;
        while from < different.len() {
            let mut to = from + 1;
            let mut tokens = different[from].0.len();
            while to < different.len() && tokens + different[to].0.len() <= PREFILL_TOKENS {
                tokens += different[to].0.len();
                to += 1;
            }
            let part = self.prefill_part(&different[from..to])?;
            if logits.is_empty() {
                logits = part;
            } else {
                logits.extend(part);
            }
            from = to;
        }
        Ok((logits, places))
    }

    /// Runs prompts, and stores the keys and values of each in the rows of the caches that begin with
    /// it.
    fn prefill_part(&mut self, part: &[(&[u32], Vec<usize>)]) -> Result<Vec<f32>> {
        let packed = Packed::new(part.iter().map(|(prompt, _)| prompt));
        let ends = &packed.starts[1..];
        let lasts = ends.iter().map(|&end| end as u32 - 1).collect();
        let (all, last) = (View::all(&packed), View::only(&packed, lasts));
        let key_width = self.pass.decoder.config.key_width();
        let caches = &mut self.caches;
        let mut keep = |layer: usize, k: &[f32], v: &[f32]| {
            for ((_, rows), bounds) in part.iter().zip(packed.starts.windows(2)) {
                let range = bounds[0] * key_width..bounds[1] * key_width;
                for &row in rows {
                    caches[layer].store(row, 0, &k[range.clone()], &v[range.clone()]);
                }
            }
        };
        let mut attend = Attend::Prompts {
            all: &all,
            last: &last,
            keep: &mut keep,
        };
        self.pass
            .logits(&packed.tokens, &all.query_positions, &mut attend)
    }

    /// Draws a token for every row from `first` on, whose logits are at its place of `places`.
    fn draw(&mut self, first: usize, logits: &[f32], places: &[usize]) -> Result<()> {
        let vocab = self.pass.decoder.config.vocab_size;
        let rows = self.rows[first..].iter_mut().zip(places);
        let mut drawing: Vec<_> = rows
            .map(|(row, &place)| (row, &logits[place * vocab..(place + 1) * vocab]))
            .collect();
        let draw = |scratch: &mut Scratch, (row, logits): &mut (&mut Row<K>, &[f32])| {
            let Some((token, logprob)) = pick(logits, &row.params, &mut row.rng, scratch) else {
                return Err(Error::Input(format!(
                    "sampling: the logits after {} tokens are not finite; the weights are broken",
                    row.len
                )));
            };
            row.completion.tokens.push(token);
            row.completion.logprobs.push(logprob);
            if row.params.stop.contains(&token) {
                row.completion.finish_reason = FinishReason::Stop;
                row.going = false;
            } else {
                row.going = row.completion.tokens.len() < row.limit;
            }
            Ok(())
        };
        // Two exponentials cost about as much as sixteen values that are copied.
        if drawing.len() > 1 && is_worth_it(16 * drawing.len() * vocab) {
            let rows = drawing.par_iter_mut();
            rows.map_init(Scratch::default, draw)
                .collect::<Result<()>>()?;
        } else {
            let mut scratch = Scratch::default();
            drawing
                .iter_mut()
                .try_for_each(|row| draw(&mut scratch, row))?;
        }
        let done = self.leaving();
        self.finished
            .extend(done.into_iter().map(|row| (row.key, row.completion)));
        Ok(())
    }

    /// Removes the rows that do not go on, and frees their places.
    fn leaving(&mut self) -> Vec<Row<K>> {
        if self.rows.iter().all(|row| row.going) {
            return Vec::new();
        }
        let (going, leaving): (Vec<_>, Vec<_>) = std::mem::take(&mut self.rows)
            .into_iter()
            .partition(|row| row.going);
        self.rows = going;
        for row in &leaving {
            self.free.push(row.place);
            self.caches
                .iter_mut()
                .for_each(|cache| cache.close(row.place));
        }
        leaving
    }
}

/// Refuses number `number` of the completions that are asked for if something is wrong with it.
fn admissible(config: &DecoderConfig, number: usize, ask: &Ask) -> Result<()> {
    check(config, number, ask).map_err(|problem| Error::Input(format!("sampling: {problem}")))
}

fn check(config: &DecoderConfig, number: usize, ask: &Ask) -> std::result::Result<(), String> {
    let Ask { prompt, params, .. } = ask;
    let SamplingParams {
        temperature,
        top_p,
        top_k,
        ..
    } = **params;
    if !(temperature >= 0.0 && temperature.is_finite()) {
        return Err(format!(
            "temperature {temperature} is not a number from 0 up"
        ));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err(format!("top_p {top_p} is not above 0 and at most 1"));
    }
    if top_k < 0 {
        return Err(format!("top_k {top_k} is below 0; 0 turns it off"));
    }
    let (context, vocabulary) = (config.max_position_embeddings, config.vocab_size);
    if prompt.is_empty() {
        return Err(format!("prompt {number} has no token"));
    }
    if prompt.len() >= context {
        return Err(format!(
            "prompt {number} has {} tokens, which leaves no room in the model's context of \
             {context}; shorten it",
            prompt.len()
        ));
    }
    match prompt.iter().find(|&&token| token as usize >= vocabulary) {
        Some(token) => Err(format!(
            "prompt {number} has token {token}, outside the model's vocabulary of {vocabulary}"
        )),
        None => Ok(()),
    }
}
