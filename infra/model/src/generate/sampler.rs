//! Rows of one call of the sampler, from their prompts to their completions.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::pass::{Attend, Pass};
use super::pick::{Scratch, pick};
use super::weights::Weights;
use super::{Completion, FinishReason, PREFILL_TOKENS, SamplingParams};
use crate::cpu::is_worth_it;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::ops::attention::Heads;
use crate::ops::attention::cache::{Cache, Reader};
use crate::ops::rope;
use crate::packed::Packed;
use crate::view::View;

struct Row {
    rng: ChaCha8Rng,
    /// Number of tokens in the cache.
    len: usize,
    /// Maximum number of tokens of the completion.
    limit: usize,
    /// True until the completion is finished.
    going: bool,
    completion: Completion,
}

/// Logits `[n, vocab]`, and which row of them each active row draws from. The rows of a group draw
/// their first token from one.
struct Logits {
    values: Vec<f32>,
    places: Vec<usize>,
}

pub(super) struct Sampler<'a> {
    pass: Pass<'a>,
    prompts: &'a [Vec<u32>],
    params: &'a SamplingParams,
    caches: Vec<Cache>,
    rows: Vec<Row>,
}

/// Prompt with the rows that begin with it.
type Shared<'a> = (&'a [u32], Vec<usize>);

impl<'a> Sampler<'a> {
    pub(super) fn new(
        decoder: &'a Decoder,
        prompts: &'a [Vec<u32>],
        params: &'a SamplingParams,
        seeds: &[u64],
    ) -> Result<Self> {
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
                going: true,
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
        Ok(Self {
            pass: Pass {
                decoder,
                weights: Weights::new(decoder)?,
                rope: rope::Table::new(&decoder.frequencies, longest),
            },
            prompts,
            params,
            caches: decoder
                .index
                .layers
                .iter()
                .map(|_| Cache::new(heads, &capacities))
                .collect(),
            rows,
        })
    }

    /// Samples until every completion is finished.
    pub(super) fn run(mut self) -> Result<Vec<Completion>> {
        let mut logits = self.prefill()?;
        loop {
            self.sample(&logits)?;
            if !self.rows.iter().any(|row| row.going) {
                break;
            }
            logits = self.step()?;
        }
        Ok(self.rows.into_iter().map(|row| row.completion).collect())
    }

    /// Runs every different prompt once; returns the logits after its last token.
    fn prefill(&mut self) -> Result<Logits> {
        let mut owners: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
        for (row, prompt) in self.prompts.iter().enumerate() {
            owners.entry(prompt).or_default().push(row);
        }
        let mut different: Vec<Shared<'_>> = owners.into_iter().collect();
        different.sort_by_key(|(_, rows)| rows[0]);
        let mut logits = Logits {
            values: Vec::new(),
            places: vec![0; self.prompts.len()],
        };
        for (place, (_, rows)) in different.iter().enumerate() {
            for &row in rows {
                logits.places[row] = place;
            }
        }
        let mut from = 0;
        while from < different.len() {
            let mut to = from + 1;
            let mut tokens = different[from].0.len();
            while to < different.len() && tokens + different[to].0.len() <= PREFILL_TOKENS {
                tokens += different[to].0.len();
                to += 1;
            }
            let part = self.prefill_part(&different[from..to])?;
            if logits.values.is_empty() {
                logits.values = part;
            } else {
                logits.values.extend(part);
            }
            from = to;
        }
        Ok(logits)
    }

    fn prefill_part(&mut self, part: &[Shared<'_>]) -> Result<Vec<f32>> {
        let packed = Packed::new(part.iter().map(|(prompt, _)| prompt));
        let ends = &packed.starts[1..];
        let lasts = ends.iter().map(|&end| end as u32 - 1).collect();
        let (all, last) = (View::all(&packed.starts), View::only(&packed.starts, lasts));
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

    /// Draws one token for every active row.
    fn sample(&mut self, logits: &Logits) -> Result<()> {
        let vocab = self.pass.decoder.config.vocab_size;
        let params = self.params;
        let active = self
            .rows
            .iter_mut()
            .enumerate()
            .filter(|(_, row)| row.going);
        let mut drawing: Vec<_> = active
            .zip(&logits.places)
            .map(|(row, &place)| (row, &logits.values[place * vocab..(place + 1) * vocab]))
            .collect();
        let draw = |scratch: &mut Scratch,
                    ((number, row), logits): &mut ((usize, &mut Row), &[f32])| {
            let Some((token, logprob)) = pick(logits, params, &mut row.rng, scratch) else {
                return Err(Error::Input(format!(
                    "sampling: the logits of row {number} after {} tokens are not finite; the \
                     weights are broken",
                    row.len
                )));
            };
            row.completion.tokens.push(token);
            row.completion.logprobs.push(logprob);
            if params.stop.contains(&token) {
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
            rows.map_init(Scratch::default, draw).collect()
        } else {
            let mut scratch = Scratch::default();
            drawing
                .iter_mut()
                .try_for_each(|row| draw(&mut scratch, row))
        }
    }

    /// Runs the last token of every active row; returns the logits after it.
    fn step(&mut self) -> Result<Logits> {
        let active = self.rows.iter().filter(|row| row.going).count();
        let mut tokens = Vec::with_capacity(active);
        let mut readers = Vec::with_capacity(active);
        let mut positions = Vec::with_capacity(active);
        for (number, row) in self.rows.iter_mut().enumerate() {
            if !row.going {
                continue;
            }
            tokens.extend(row.completion.tokens.last());
            positions.push(row.len as u32);
            row.len += 1;
            readers.push(Reader {
                row: number,
                visible: row.len,
            });
        }
        let mut attend = Attend::Step {
            caches: &mut self.caches,
            readers: &readers,
        };
        Ok(Logits {
            values: self.pass.logits(&tokens, &positions, &mut attend)?,
            places: (0..active).collect(),
        })
    }
}
