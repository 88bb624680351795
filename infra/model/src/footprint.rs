//! Memory of a pass, computed from the shapes alone.
//!
//! The formulas follow the code line by line: the tensors that a layer keeps, and the ones that
//! exist beside them at the peak of its forward and backward pass. A change of the code that moves
//! a peak requires a change here.

use crate::cpu::ROWS;
use crate::ops::head::VOCAB;
use vintage_control::{LoraSettings, Precision};

use crate::{
    config::DecoderConfig,
    lora,
    params::{ParamSet, spec::ParamSpec},
    precision::Compute,
};

/// Size of an f32 in bytes.
const F32: usize = 4;

/// Shape of the largest micro-batch of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Number of positions that go through the model together.
    pub tokens: usize,
    /// Number of positions that predict a token of a completion.
    pub targets: usize,
    /// Number of tokens of the longest sequence.
    pub longest: usize,
}

/// Shape of a batch of completions that are sampled together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationShape {
    /// Number of different prompts.
    pub prompts: usize,
    /// Number of completions.
    pub rows: usize,
    /// Number of tokens of the longest prompt.
    pub prompt_tokens: usize,
    /// Number of tokens of the longest completion.
    pub completion_tokens: usize,
}

/// Memory in bytes that a forward and backward pass needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of all parameters, as f32.
    pub parameters: usize,
    /// Bytes of the trained parameters, or of the adapters.
    pub trained: usize,
    /// Bytes of activations and their gradients at the peak.
    pub activations: usize,
    /// Bytes of the logits of a block, and of the block of the head's weight if that is rounded.
    pub head_blocks: usize,
    /// Bytes of copies rounded to bf16, if the precision is bf16.
    pub rounded: usize,
}

impl Footprint {
    /// Computes the memory of one pass over `batch`.
    pub fn of(
        config: &DecoderConfig,
        lora: Option<&LoraSettings>,
        compute: Compute,
        batch: BatchShape,
    ) -> Self {
        let specs = ParamSet::specs_of(config);
        let values = |specs: &[ParamSpec]| specs.iter().map(ParamSpec::len).sum::<usize>();
        let parameters = values(&specs);
        let trained = lora.map_or(parameters, |lora| values(&lora::specs(lora, &specs)));
        let rows = batch.targets.min(ROWS);
        let tokens = config.vocab_size.min(VOCAB);
        let is_rounded = compute.precision == Precision::Bf16;
        let (mut head_blocks, mut rounded) = (rows * tokens, 0);
        if is_rounded {
            head_blocks += tokens * config.hidden_size;
            // The weight of the layer's largest product, and the unrounded gradient that flows on.
            let widest = config.intermediate_size.max(config.query_width());
            rounded = (widest + batch.tokens) * config.hidden_size;
        }
        Self {
            parameters: F32 * parameters,
            trained: F32 * trained,
            activations: F32 * activations(config, compute.recompute, batch),
            head_blocks: F32 * head_blocks,
            rounded: F32 * rounded,
        }
    }
}

/// Returns the largest number of values that exist beside the parameters at one time.
fn activations(config: &DecoderConfig, recompute: bool, batch: BatchShape) -> usize {
    let layers = config.num_hidden_layers;
    let (all, last) = (
        Layer::new(config, batch.tokens, batch),
        Layer::new(config, batch.targets, batch),
    );
    let kept = if recompute { all.input() } else { all.tape() };
    let read = batch.targets * config.hidden_size;
    // Normalized hidden states, their gradient, and the gradient of the residual stream.
    let in_head =
        3 * read + (layers - 1) * kept + if recompute { last.input() } else { last.tape() };
    let in_last = (layers - 1) * kept + last.peak();
    let below = layers.saturating_sub(2) * kept + all.peak();
    let in_others = if layers > 1 { below } else { 0 };
    let rope = batch.longest * config.head_dim;
    rope + read + in_head.max(in_last).max(in_others)
}

/// One layer over `tokens` positions, of which `rows` continue after keys and values are computed.
struct Layer<'a> {
    config: &'a DecoderConfig,
    tokens: usize,
    rows: usize,
    longest: usize,
}

impl<'a> Layer<'a> {
    fn new(config: &'a DecoderConfig, rows: usize, batch: BatchShape) -> Self {
        Self {
            config,
            tokens: batch.tokens,
            rows,
            longest: batch.longest,
        }
    }

    fn widths(&self) -> (usize, usize, usize, usize) {
        let config = self.config;
        (
            config.hidden_size,
            config.query_width(),
            config.key_width(),
            config.intermediate_size,
        )
    }

    fn input(&self) -> usize {
        self.tokens * self.config.hidden_size
    }

    /// Returns the number of values that attention's backward pass needs, including the layer's
    /// input.
    fn attention_tape(&self) -> usize {
        let (hidden, queries, keys, _) = self.widths();
        let heads = self.config.num_attention_heads;
        let mut values = self.tokens * (hidden + 1 + 2 * keys) + self.rows * (2 * queries + heads);
        if self.config.qk_norm {
            values += self.rows * (queries + heads)
                + self.tokens * (keys + self.config.num_key_value_heads);
        }
        values
    }

    fn tape(&self) -> usize {
        let (hidden, _, _, inner) = self.widths();
        self.attention_tape() + self.rows * (hidden + 1 + 2 * inner)
    }

    /// Returns the number of values of the tape, and of the tensors beside it, at the peak.
    fn peak(&self) -> usize {
        let (hidden, queries, keys, inner) = self.widths();
        let (rows, tokens) = (self.rows, self.tokens);
        let forward = self.tape() + rows * (inner + hidden);
        // First the activation's gradient, the activation again and the gradients of both its
        // inputs; then the gradients of the inputs and those of the norm.
        let mlp = self.tape() + rows * (4 * inner + hidden).max(2 * inner + 3 * hidden);
        let flowing = rows * (hidden + 2 * queries) + 2 * tokens * keys;
        // Long sequences are processed head by head: one dq, dk and dv per query head.
        let heads = 3 * self.longest * queries;
        let norms = 2 * tokens * hidden
            + if rows < tokens {
                (2 * rows + tokens) * hidden
            } else {
                0
            };
        let attention = self.attention_tape() + flowing + heads.max(norms);
        forward.max(mlp).max(attention)
    }
}

impl GenerationShape {
    /// Returns the bytes that sampling needs beside the parameters: caches, logits, the pass over
    /// the prompts.
    pub fn bytes(&self, config: &DecoderConfig) -> usize {
        const LANES: usize = 16;
        let capacity = (self.prompt_tokens + self.completion_tokens).next_multiple_of(LANES);
        let width = config.num_key_value_heads
            * (config.head_dim + config.head_dim.next_multiple_of(LANES));
        let caches = config.num_hidden_layers * self.rows * capacity * width;
        let logits = (self.rows + self.prompts.max(self.rows)) * config.vocab_size;
        let batch = BatchShape {
            tokens: (self.prompts * self.prompt_tokens)
                .min(crate::generate::PREFILL_TOKENS.max(self.prompt_tokens)),
            targets: self.prompts,
            longest: self.prompt_tokens,
        };
        let layer = Layer::new(config, batch.tokens, batch);
        let prompts = layer.tape() + batch.tokens * (config.intermediate_size + config.hidden_size);
        F32 * (caches + logits.max(prompts))
    }
}
