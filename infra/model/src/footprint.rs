//! Memory of a pass, computed from the shapes alone.
//!
//! It follows the code line by line: what a layer keeps, and what lies beside it at the fullest
//! moment of its forward and backward pass. A change there that moves a peak belongs here too.

use crate::cpu::ROWS;
use crate::ops::head::VOCAB;
use vintage_control::{LoraSettings, Precision};

use crate::{Compute, ModelConfig, ParamSet, ParamSpec, lora};

/// Bytes of an f32.
const F32: usize = 4;

/// The largest micro-batch of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Positions that go through the model together.
    pub tokens: usize,
    /// Positions of them that predict a token of a completion.
    pub targets: usize,
    /// Longest sequence.
    pub longest: usize,
}

/// Completions that are sampled together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationShape {
    /// Different prompts.
    pub prompts: usize,
    /// Completions.
    pub rows: usize,
    /// Tokens of the longest prompt.
    pub prompt_tokens: usize,
    /// Tokens of the longest completion.
    pub completion_tokens: usize,
}

/// Bytes that a forward and backward pass needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// All parameters, as f32.
    pub parameters: usize,
    /// What is trained of them, or the adapters.
    pub trained: usize,
    /// Activations and their gradients when they are most.
    pub activations: usize,
    /// Logits of a block, and the block of the head's weight if that is rounded.
    pub head_blocks: usize,
    /// Copies rounded to bf16, where the precision asks for them.
    pub rounded: usize,
}

impl Footprint {
    /// Of one pass over `batch`.
    pub fn of(
        config: &ModelConfig,
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
            // Of a layer's largest product: the weight, and the gradient that flows on unrounded.
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

/// Values beside the parameters when they are most.
fn activations(config: &ModelConfig, recompute: bool, batch: BatchShape) -> usize {
    let layers = config.num_hidden_layers;
    let (all, last) = (
        Layer::new(config, batch.tokens, batch),
        Layer::new(config, batch.targets, batch),
    );
    let kept = if recompute { all.input() } else { all.tape() };
    let read = batch.targets * config.hidden_size;
    // Normalised hidden states, their gradient, and the residual stream's.
    let in_head =
        3 * read + (layers - 1) * kept + if recompute { last.input() } else { last.tape() };
    let in_last = (layers - 1) * kept + last.peak();
    let below = layers.saturating_sub(2) * kept + all.peak();
    let in_others = if layers > 1 { below } else { 0 };
    let rope = batch.longest * config.head_dim;
    rope + read + in_head.max(in_last).max(in_others)
}

/// One layer over `tokens` positions of which `rows` go on.
struct Layer<'a> {
    config: &'a ModelConfig,
    tokens: usize,
    rows: usize,
    longest: usize,
}

impl<'a> Layer<'a> {
    fn new(config: &'a ModelConfig, rows: usize, batch: BatchShape) -> Self {
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

    /// What the attention's backward pass needs, the layer's input among it.
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

    /// The tape and what lies beside it at the fullest moment.
    fn peak(&self) -> usize {
        let (hidden, queries, keys, inner) = self.widths();
        let (rows, tokens) = (self.rows, self.tokens);
        let forward = self.tape() + rows * (inner + hidden);
        // The activation's gradient, the activation again and the gradients of both its inputs;
        // then the gradients of the inputs and those of the norm's.
        let mlp = self.tape() + rows * (4 * inner + hidden).max(2 * inner + 3 * hidden);
        let flowing = rows * (hidden + 2 * queries) + 2 * tokens * keys;
        // Long sequences go head by head: a dq, dk and dv of each query head.
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
    /// Bytes beside the parameters that sampling needs: caches, logits, the prompts' pass.
    pub fn bytes(&self, config: &ModelConfig) -> usize {
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
