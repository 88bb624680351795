//! Causal attention with grouped query heads over packed sequences of different lengths.
//!
//! The forward pass keeps only the log-sum-exp of every row of scores; the backward pass computes
//! the probabilities again. Short sequences use a kernel that holds a sequence's keys in registers
//! and L1; long ones use matrix products on blocks of queries.

pub(crate) mod cache;
mod long;
mod short;
#[cfg(test)]
mod tests;

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use crate::cpu::{is_worth_it, map_blocks, zeros};
use crate::ops::storage::{tensor, values};
use crate::{config::DecoderConfig, error::Result};

/// Number of segments per task of the short kernel.
const SHORT_TASK: usize = 16;

/// Number and width of heads.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Number of query heads.
    pub query: usize,
    /// Number of key and value heads.
    pub key: usize,
    /// Number of values of one head.
    pub width: usize,
}

impl Heads {
    /// Returns the heads of a model.
    pub fn of(config: &DecoderConfig) -> Self {
        Self {
            query: config.num_attention_heads,
            key: config.num_key_value_heads,
            width: config.head_dim,
        }
    }

    /// Returns the number of query heads that share a key head.
    pub(crate) fn group(self) -> usize {
        self.query / self.key
    }

    /// Returns the factor of the scores, 1/√width.
    pub fn scale(self) -> f32 {
        (1.0 / (self.width as f64).sqrt()) as f32
    }
}

/// Rows of q and of k, v that belong to one sequence.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Rows of q that belong to the sequence.
    pub queries: Range<usize>,
    /// Rows of k and v of the sequence that it continues, the keys of an earlier segment; empty if it
    /// continues none.
    pub before: Range<usize>,
    /// Rows of k and v that belong to the sequence.
    pub keys: Range<usize>,
}

impl Segment {
    /// Returns the number of keys, with those before.
    pub fn key_count(&self) -> usize {
        self.before.len() + self.keys.len()
    }
}

/// Keys that each query attends to.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// Sequences, covering the rows of q and of k in order.
    pub segments: Vec<Segment>,
    /// Number of keys that each row of q sees, counted from the first before its sequence; ascending
    /// within a segment.
    pub visible: Vec<u32>,
}

/// Results of the attention's forward pass.
#[derive(Clone)]
pub(crate) struct Attended {
    /// Output, `[queries, heads·width]`.
    pub(crate) out: Tensor,
    /// Log-sum-exp of the scaled scores, `[queries, heads]`.
    pub(crate) lse: Vec<f32>,
}

/// Gradients of q, k and v.
pub(crate) struct Backward {
    pub(crate) dq: Tensor,
    pub(crate) dk: Tensor,
    pub(crate) dv: Tensor,
}

/// Inputs of one segment.
struct Inputs<'a> {
    heads: Heads,
    /// Queries, `[queries, query heads · width]`.
    q: &'a [f32],
    /// Keys, `[keys, key heads · width]`; `v` has the same shape.
    k: &'a [f32],
    v: &'a [f32],
    visible: &'a [u32],
}

/// Forward results and output gradient of one segment, for its backward pass.
struct Outputs<'a> {
    dout: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
}

/// Computes softmax(q·kᵀ/√width)·v per head.
pub(crate) fn forward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    pattern: &Pattern,
) -> Result<Attended> {
    let (query_width, key_width) = (heads.query * heads.width, heads.key * heads.width);
    let (q_values, k, v) = (values(q)?, values(k)?, values(v)?);
    let joined = join(pattern, [&k, &v], key_width);
    let mut out = vec![0.0; q_values.len()];
    let mut lse = vec![0.0; pattern.visible.len() * heads.query];
    let mut tasks = Vec::with_capacity(pattern.segments.len());
    let (mut out_rest, mut lse_rest) = (out.as_mut_slice(), lse.as_mut_slice());
    for (segment, joined) in pattern.segments.iter().zip(&joined) {
        let queries = &segment.queries;
        let out = split_off(&mut out_rest, queries.len() * query_width);
        let lse = split_off(&mut lse_rest, queries.len() * heads.query);
        let [k, v] = keys_of(segment, joined.as_ref(), [&k, &v], key_width);
        let inputs = Inputs {
            heads,
            q: rows(&q_values, queries, query_width),
            k,
            v,
            visible: &pattern.visible[queries.clone()],
        };
        if !queries.is_empty() {
            tasks.push((inputs, out, lse));
        }
    }
    let (mut short, long): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| is_short(&task.0));
    let values = short.iter().map(|task| scores(&task.0)).sum();
    in_tasks(&mut short, values, |chunk| {
        let mut scratch = short::Scratch::default();
        for (inputs, out, lse) in chunk {
            short::forward(inputs, &mut scratch, out, lse);
        }
    });
    each_segment(
        long,
        |task| scores(&task.0),
        |(inputs, out, lse)| long::forward(&inputs, out, lse),
    );
    Ok(Attended {
        out: tensor(out, q.dims())?,
        lse,
    })
}

/// Computes the gradients of q, k and v from that of the output.
pub(crate) fn backward(
    dout: &Tensor,
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    attended: &Attended,
    heads: Heads,
    pattern: &Pattern,
) -> Result<Backward> {
    let (query_width, key_width) = (heads.query * heads.width, heads.key * heads.width);
    let (q_values, k_values, v) = (values(q)?, values(k)?, values(v)?);
    let (dout, out) = (values(dout)?, values(&attended.out)?);
    let joined = join(pattern, [&k_values, &v], key_width);
    // Sequences that continue one have a share of its keys' gradients, each in memory of its own.
    let mut shares: Vec<_> = joined
        .iter()
        .map(|joined| {
            joined
                .as_ref()
                .map(|of| of.each_ref().map(|of| zeros(of.len())))
        })
        .collect();
    let mut dq = vec![0.0; q_values.len()];
    let mut dk = vec![0.0; k_values.len()];
    let mut dv = vec![0.0; k_values.len()];
    let mut tasks = Vec::with_capacity(pattern.segments.len());
    let (mut dq_rest, mut dk_rest, mut dv_rest) =
        (dq.as_mut_slice(), dk.as_mut_slice(), dv.as_mut_slice());
    let given = pattern.segments.iter().zip(&joined).zip(&mut shares);
    for ((segment, joined), share) in given {
        let Segment { queries, keys, .. } = segment;
        let [k, v] = keys_of(segment, joined.as_ref(), [&k_values, &v], key_width);
        let inputs = Inputs {
            heads,
            q: rows(&q_values, queries, query_width),
            k,
            v,
            visible: &pattern.visible[queries.clone()],
        };
        let outputs = Outputs {
            dout: rows(&dout, queries, query_width),
            out: rows(&out, queries, query_width),
            lse: rows(&attended.lse, queries, heads.query),
        };
        let dq = split_off(&mut dq_rest, queries.len() * query_width);
        let dk = split_off(&mut dk_rest, keys.len() * key_width);
        let dv = split_off(&mut dv_rest, keys.len() * key_width);
        let gradients = match share {
            None => [dq, dk, dv],
            Some([dk, dv]) => [dq, dk, dv],
        };
        if !queries.is_empty() {
            tasks.push((inputs, outputs, gradients));
        }
    }
    let (mut short, long): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| is_short(&task.0));
    let values = short.iter().map(|task| scores(&task.0)).sum();
    in_tasks(&mut short, values, |chunk| {
        let mut scratch = short::Scratch::default();
        for (inputs, outputs, gradients) in chunk {
            short::backward(inputs, outputs, &mut scratch, gradients);
        }
    });
    each_segment(
        long,
        |task| scores(&task.0),
        |(inputs, outputs, gradients)| {
            long::backward(&inputs, &outputs, gradients);
        },
    );
    // In the order of the segments, so that every sum has one order.
    for (segment, share) in pattern.segments.iter().zip(shares) {
        for (all, share) in [&mut dk, &mut dv]
            .into_iter()
            .zip(share.into_iter().flatten())
        {
            let (before, own) = share.split_at(segment.before.len() * key_width);
            add(&mut all[span(&segment.before, key_width)], before);
            all[span(&segment.keys, key_width)].copy_from_slice(own);
        }
    }
    Ok(Backward {
        dq: tensor(dq, q.dims())?,
        dk: tensor(dk, k.dims())?,
        dv: tensor(dv, k.dims())?,
    })
}

/// Returns, for every segment that continues a sequence, copies of the keys and values before it and
/// of its own, end to end: kernels read the keys of a segment as one slice.
fn join(pattern: &Pattern, keys: [&[f32]; 2], width: usize) -> Vec<Option<[Vec<f32>; 2]>> {
    let segments = &pattern.segments;
    let continuing = segments.iter().filter(|segment| !segment.before.is_empty());
    let values = continuing
        .map(|segment| 2 * segment.key_count() * width)
        .sum();
    map_blocks(segments.len(), values, |number| {
        let segment = &segments[number];
        (!segment.before.is_empty()).then(|| {
            keys.map(|all| {
                [
                    rows(all, &segment.before, width),
                    rows(all, &segment.keys, width),
                ]
                .concat()
            })
        })
    })
}

/// Returns the keys and values that a segment reads, `joined` if there are any.
fn keys_of<'a>(
    segment: &Segment,
    joined: Option<&'a [Vec<f32>; 2]>,
    keys: [&'a [f32]; 2],
    width: usize,
) -> [&'a [f32]; 2] {
    match joined {
        None => keys.map(|all| rows(all, &segment.keys, width)),
        Some(joined) => joined.each_ref().map(Vec::as_slice),
    }
}

fn add(sum: &mut [f32], part: &[f32]) {
    sum.iter_mut()
        .zip(part)
        .for_each(|(sum, part)| *sum += part);
}

fn is_short(inputs: &Inputs<'_>) -> bool {
    inputs
        .visible
        .last()
        .is_none_or(|&visible| visible as usize <= short::MAX_KEYS)
        && inputs.heads.width <= short::MAX_WIDTH
}

/// Returns the work in units of [`is_worth_it`]: two multiply-adds of a register per 16 scores and
/// dimension.
fn scores(inputs: &Inputs<'_>) -> usize {
    inputs.q.len() * inputs.visible.len() / 8
}

fn in_tasks<T: Send>(tasks: &mut [T], values: usize, job: impl Fn(&mut [T]) + Sync + Send) {
    if is_worth_it(values) {
        tasks.par_chunks_mut(SHORT_TASK).for_each(job);
    } else {
        job(tasks);
    }
}

/// Runs `job` for every long segment, of which each is cut by heads too if it is worth that alone.
fn each_segment<T: Send>(
    tasks: Vec<T>,
    values: impl Fn(&T) -> usize,
    job: impl Fn(T) + Sync + Send,
) {
    if is_worth_it(tasks.iter().map(values).sum()) {
        tasks.into_par_iter().for_each(job);
    } else {
        tasks.into_iter().for_each(job);
    }
}

fn rows<'a>(data: &'a [f32], rows: &Range<usize>, width: usize) -> &'a [f32] {
    &data[span(rows, width)]
}

fn span(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}

/// Splits the first `len` values off `rest`.
#[expect(clippy::mut_mut, reason = "the slice that is left must be put back")]
fn split_off<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (first, others) = std::mem::take(rest).split_at_mut(len);
    *rest = others;
    first
}

/// Returns the results of `job(head)` for every query head, in order.
fn per_head<T: Send>(inputs: &Inputs<'_>, job: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    map_blocks(inputs.heads.query, scores(inputs), job)
}
