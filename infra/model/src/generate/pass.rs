//! Forward pass of the sampler: over whole prompts, and over one new token of every row.
//!
//! What a row gives depends on its own tokens only. Products are cut into blocks of rows and
//! columns, and every value of a product has its own sum ([`dots`](crate::cpu::dots)).

use std::cell::RefCell;
use std::ops::Range;

use super::weights::{Input, Layer, Linear, Weights};
use crate::cpu::{Blocks, each_piece};
use crate::decoder::Decoder;
use crate::error::Result;
use crate::ops::attention::cache::{Cache, Reader};
use crate::ops::attention::{self, Heads};
use crate::ops::storage::{tensor, values};
use crate::ops::{rmsnorm, rope, swiglu};
use crate::pace::Computed;
use crate::precision::Rounding as _;
use crate::view::View;

/// Number of rows of a block: with 576 columns they fill a tenth of a 2 MB L2 cache, and they are
/// whole tiles of the kernel.
const BLOCK_ROWS: usize = 96;
/// Number of columns of a block.
const BLOCK_COLUMNS: usize = 32;
/// Number of multiply-adds from which a product goes to the thread pool: about 60 µs of one core.
/// The tiny model's products are below it up to 64 rows, because a second thread gains it nothing.
const PARALLEL_WORK: usize = 1 << 21;
/// Number of weights from which a product goes to the thread pool whatever the rows: 1 MB, which
/// takes one core 100 µs to read from memory.
const PARALLEL_WEIGHTS: usize = 1 << 18;

/// Returns true if products of `weights` values with an input of `rows` rows go to the thread pool.
fn is_for_many(weights: usize, rows: usize) -> bool {
    weights >= PARALLEL_WEIGHTS || weights * rows >= PARALLEL_WORK
}

/// Weights and constants of a pass.
pub(super) struct Pass<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) weights: Weights<'a>,
    pub(super) rope: rope::Table,
}

/// Function that gets a layer's number, its keys and its values.
pub(super) type Keep<'a> = dyn FnMut(usize, &[f32], &[f32]) + Send + 'a;

/// Attention of a pass.
pub(super) enum Attend<'a> {
    /// One new token per row, against the rows' caches, one cache per layer.
    Step {
        caches: &'a mut [Cache],
        readers: &'a [Reader],
    },
    /// Whole prompts. Of the last layer, only the rows of `last` are computed. `keep` gets every
    /// layer's keys and values.
    Prompts {
        all: &'a View,
        last: &'a View,
        keep: &'a mut Keep<'a>,
    },
}

thread_local! {
    /// Blocks of products of this thread.
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Product to compute, and where to.
struct Job<'a> {
    linear: &'a Linear<'a>,
    input: &'a Input<'a>,
    out: Blocks<'a>,
    /// True if the product is added to what is there.
    onto: bool,
}

impl<'a> Job<'a> {
    fn new(linear: &'a Linear<'_>, input: &'a Input<'_>, out: &'a mut [f32], onto: bool) -> Self {
        let out = Blocks::new(out, linear.output);
        Self {
            linear,
            input,
            out,
            onto,
        }
    }

    fn run(&self, rows: &Range<usize>, columns: &Range<usize>) {
        SCRATCH.with_borrow_mut(|[block, _]| {
            self.linear.block(self.input, rows, columns, block);
            #[expect(unsafe_code, reason = "each piece of a job is another block")]
            // SAFETY: `products` gives every block of a job to one piece.
            unsafe {
                self.out.each_row(rows, columns, |row, out| {
                    let block = &block[row * columns.len()..][..columns.len()];
                    if self.onto {
                        out.iter_mut().zip(block).for_each(|(out, y)| *out += y);
                    } else {
                        out.copy_from_slice(block);
                    }
                });
            }
        });
    }
}

/// Blocks into which a product of these rows and columns is cut.
struct Cut {
    rows: usize,
    columns: usize,
}

impl Cut {
    fn across(&self) -> usize {
        self.columns.div_ceil(BLOCK_COLUMNS)
    }

    fn count(&self) -> usize {
        self.rows.div_ceil(BLOCK_ROWS) * self.across()
    }

    fn block(&self, piece: usize) -> (Range<usize>, Range<usize>) {
        let (row, column) = (piece / self.across(), piece % self.across());
        let range = |at: usize, size: usize, end: usize| at * size..((at + 1) * size).min(end);
        (
            range(row, BLOCK_ROWS, self.rows),
            range(column, BLOCK_COLUMNS, self.columns),
        )
    }
}

/// Computes products of the same pass together.
fn products<const N: usize>(jobs: &[Job<'_>; N]) {
    let cuts = jobs.each_ref().map(|job| Cut {
        rows: job.input.x.len() / job.linear.input,
        columns: job.linear.output,
    });
    let weights = jobs.iter().map(|job| job.linear.input * job.linear.output);
    let rows = cuts.iter().map(|cut| cut.rows).max().unwrap_or(0);
    let parallel = is_for_many(weights.sum(), rows);
    let count = cuts.iter().map(Cut::count).sum();
    each_piece(count, parallel, |mut piece| {
        for (job, cut) in jobs.iter().zip(&cuts) {
            if piece < cut.count() {
                let (rows, columns) = cut.block(piece);
                return job.run(&rows, &columns);
            }
            piece -= cut.count();
        }
    });
}

/// Computes silu(x·gate)·(x·up), block by block.
fn activated(gate: &Job<'_>, up: &Linear<'_>, of_up: &Input<'_>) {
    let cut = Cut {
        rows: gate.input.x.len() / gate.linear.input,
        columns: gate.linear.output,
    };
    let parallel = is_for_many(2 * gate.linear.input * cut.columns, cut.rows);
    each_piece(cut.count(), parallel, |piece| {
        let (rows, columns) = cut.block(piece);
        SCRATCH.with_borrow_mut(|[gates, ups]| {
            gate.linear.block(gate.input, &rows, &columns, gates);
            up.block(of_up, &rows, &columns, ups);
            #[expect(unsafe_code, reason = "each piece is another block")]
            // SAFETY: every piece has a block of its own.
            unsafe {
                gate.out.each_row(&rows, &columns, |row, out| {
                    let part = row * columns.len()..(row + 1) * columns.len();
                    swiglu::forward_rows(&gates[part.clone()], &ups[part], out);
                });
            }
        });
    });
}

impl Pass<'_> {
    /// Runs `tokens` at their `positions` through the model; returns the logits `[rows, vocab]` of
    /// every row that the last layer computes.
    pub(super) fn logits(
        &self,
        tokens: &[u32],
        positions: &[u32],
        attend: &mut Attend<'_>,
    ) -> Result<Vec<f32>> {
        let config = &self.decoder.config;
        let widest = 2 * config.hidden_size * config.intermediate_size;
        if !is_for_many(widest, tokens.len()) {
            return self.run(tokens, positions, attend);
        }
        // Inside the thread pool, its threads stay awake from one product to the next. A thread that
        // waits for another may take up any other job of the pool: where a learner computes beside,
        // its pass through a micro-batch.
        rayon::scope(|_| self.run(tokens, positions, attend))
    }

    fn run(&self, tokens: &[u32], positions: &[u32], attend: &mut Attend<'_>) -> Result<Vec<f32>> {
        let width = self.decoder.config.hidden_size;
        let mut x = Vec::with_capacity(tokens.len() * width);
        for &token in tokens {
            x.extend_from_slice(&self.weights.embedding[token as usize * width..][..width]);
        }
        for number in 0..self.weights.layers.len() {
            Computed::count_sampled();
            x = self.layer(number, x, positions, attend)?;
        }
        let normed = self.norm(&x, &self.weights.final_norm);
        let head = &self.weights.head;
        let mut logits = vec![0.0; normed.len() / width * head.output];
        let input = head.input(&normed, self.decoder);
        products(&[Job::new(head, &input, &mut logits, false)]);
        Ok(logits)
    }

    fn norm(&self, x: &[f32], weight: &[f32]) -> Vec<f32> {
        let eps = self.decoder.config.rms_norm_eps as f32;
        let mut y = rmsnorm::normed(x, weight, eps);
        self.decoder.compute.precision.round_slice(&mut y);
        y
    }

    /// Norms and rotates queries or keys.
    fn rotate(&self, mut x: Vec<f32>, norm: Option<&[f32]>, positions: &[u32]) -> Vec<f32> {
        if let Some(norm) = norm {
            let eps = self.decoder.config.rms_norm_eps as f32;
            x = rmsnorm::normed(&x, norm, eps);
        }
        if !positions.is_empty() {
            rope::rotate_rows(&mut x, positions, &self.rope, 1.0);
        }
        self.decoder.compute.precision.round_slice(&mut x);
        x
    }

    fn layer(
        &self,
        number: usize,
        mut x: Vec<f32>,
        positions: &[u32],
        attend: &mut Attend<'_>,
    ) -> Result<Vec<f32>> {
        let layer = &self.weights.layers[number];
        let precision = self.decoder.compute.precision;
        let width = self.decoder.config.hidden_size;
        let normed = self.norm(&x, &layer.input_norm);
        let rows = positions.len();
        let [mut k, mut v] = [&layer.k, &layer.v].map(|of| vec![0.0; rows * of.output]);
        // The last layer computes the rows that are read only.
        let view = match attend {
            Attend::Step { .. } => None,
            Attend::Prompts { all, last, .. } => {
                let is_last = number + 1 == self.weights.layers.len();
                Some(if is_last { *last } else { *all })
            }
        };
        let kept = view.and_then(|view| view.kept.as_deref());
        let queried = kept.map(|kept| gather(&normed, kept, width));
        if let Some(kept) = kept {
            x = gather(&x, kept, width);
        }
        let of_q = layer
            .q
            .input(queried.as_deref().unwrap_or(&normed), self.decoder);
        let mut q = vec![0.0; x.len() / width * layer.q.output];
        {
            let (of_k, of_v) = (
                layer.k.input(&normed, self.decoder),
                layer.v.input(&normed, self.decoder),
            );
            products(&[
                Job::new(&layer.q, &of_q, &mut q, false),
                Job::new(&layer.k, &of_k, &mut k, false),
                Job::new(&layer.v, &of_v, &mut v, false),
            ]);
        }
        let query_positions = view.map_or(positions, |view| &view.query_positions);
        let q = self.rotate(q, layer.q_norm.as_deref(), query_positions);
        let k = self.rotate(k, layer.k_norm.as_deref(), positions);
        precision.round_slice(&mut v);
        let mut attended = self.attended(number, (q, k, v), view, attend)?;
        precision.round_slice(&mut attended);
        let of_o = layer.o.input(&attended, self.decoder);
        products(&[Job::new(&layer.o, &of_o, &mut x, true)]);
        self.feed_forward(layer, &mut x);
        Ok(x)
    }

    fn attended(
        &self,
        number: usize,
        (q, k, v): (Vec<f32>, Vec<f32>, Vec<f32>),
        view: Option<&View>,
        attend: &mut Attend<'_>,
    ) -> Result<Vec<f32>> {
        match attend {
            Attend::Step { caches, readers } => {
                let width = self.decoder.config.key_width();
                let cache = &mut caches[number];
                let new = k.chunks_exact(width).zip(v.chunks_exact(width));
                for (reader, (k, v)) in readers.iter().zip(new) {
                    cache.store(reader.row, reader.visible - 1, k, v);
                }
                Ok(cache.attend(&q, readers))
            }
            Attend::Prompts { all, keep, .. } => {
                keep(number, &k, &v);
                let heads = Heads::of(&self.decoder.config);
                let view = view.unwrap_or(all);
                let [q, k, v] = [q, k, v].map(|x| {
                    let len = x.len();
                    tensor(x, &[len])
                });
                let out = attention::forward(&q?, &k?, &v?, heads, &view.pattern)?.out;
                Ok(values(&out)?.to_vec())
            }
        }
    }

    fn feed_forward(&self, layer: &Layer<'_>, x: &mut [f32]) {
        let normed = self.norm(x, &layer.post_norm);
        let rows = x.len() / self.decoder.config.hidden_size;
        let mut activation = vec![0.0; rows * layer.gate.output];
        let of_gate = layer.gate.input(&normed, self.decoder);
        let of_up = layer.up.input(&normed, self.decoder);
        let gate = Job::new(&layer.gate, &of_gate, &mut activation, false);
        activated(&gate, &layer.up, &of_up);
        self.decoder.compute.precision.round_slice(&mut activation);
        let of_down = layer.down.input(&activation, self.decoder);
        products(&[Job::new(&layer.down, &of_down, x, true)]);
    }
}

fn gather(x: &[f32], rows: &[u32], width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len() * width);
    for &row in rows {
        out.extend_from_slice(&x[row as usize * width..][..width]);
    }
    out
}
