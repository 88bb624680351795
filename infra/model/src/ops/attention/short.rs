//! Attention kernel for sequences of at most [`MAX_KEYS`] keys. Keys are transposed so that a
//! register holds one dimension of 16 keys; values are padded so that a register holds 16
//! dimensions of one key.

use super::{Inputs, Outputs};
use crate::cpu::multiversion;
use crate::cpu::vector::{self, Block, LANES, fma};

/// Number of keys of the longest sequence that this kernel accepts.
pub(super) const MAX_KEYS: usize = 64;
/// Width of the widest head that this kernel accepts.
pub(super) const MAX_WIDTH: usize = 128;

const KEY_BLOCKS: usize = MAX_KEYS / LANES;

/// Buffers of one thread, reused from segment to segment.
#[derive(Default)]
pub(super) struct Scratch {
    keys_t: Vec<Block>,
    values_t: Vec<Block>,
    /// Probabilities, one row of [`KEY_BLOCKS`] per query and head of a group.
    p: Vec<[Block; KEY_BLOCKS]>,
    /// Gradients of the scores, laid out like `p`.
    ds: Vec<[Block; KEY_BLOCKS]>,
}

multiversion! {
    /// Writes `out [queries, heads·width]` and `lse [queries, heads]`.
    pub(super) fn forward(inputs: &Inputs<'_>, scratch: &mut Scratch, out: &mut [f32], lse: &mut [f32]) {
        match inputs.heads.width.div_ceil(LANES) {
            1 => forward_blocks::<1>(inputs, scratch, out, lse),
            2 => forward_blocks::<2>(inputs, scratch, out, lse),
            3 | 4 => forward_blocks::<4>(inputs, scratch, out, lse),
            _ => forward_blocks::<8>(inputs, scratch, out, lse),
        }
    }
}

multiversion! {
    /// Writes the gradients `[dq, dk, dv]`.
    pub(super) fn backward(
        inputs: &Inputs<'_>,
        outputs: &Outputs<'_>,
        scratch: &mut Scratch,
        gradients: &mut [&mut [f32]; 3],
    ) {
        match inputs.heads.width.div_ceil(LANES) {
            1 => backward_blocks::<1>(inputs, outputs, scratch, gradients),
            2 => backward_blocks::<2>(inputs, outputs, scratch, gradients),
            3 | 4 => backward_blocks::<4>(inputs, outputs, scratch, gradients),
            _ => backward_blocks::<8>(inputs, outputs, scratch, gradients),
        }
    }
}

/// Transposes one head of `rows` (a `[keys, heads·width]` matrix) in blocks of 16 keys. Lanes after
/// the last key hold arbitrary values.
#[inline(always)]
fn transpose(rows: &[f32], stride: usize, head: usize, width: usize, out: &mut Vec<Block>) {
    let len = (rows.len() / stride).div_ceil(LANES) * width;
    out.resize(len.max(out.len()), [0.0; LANES]);
    let out = out.as_mut_slice();
    for (key, row) in rows.chunks_exact(stride).enumerate() {
        let at = key / LANES * width;
        let row = &row[head * width..(head + 1) * width];
        for (block, value) in out[at..at + width].iter_mut().zip(row) {
            block[key % LANES] = *value;
        }
    }
}

/// Appends one head of every row in blocks of 16 dimensions, padded with zeros.
#[inline(always)]
fn pad_rows<const BLOCKS: usize>(
    rows: &[f32],
    stride: usize,
    head: usize,
    width: usize,
    out: &mut Vec<[Block; BLOCKS]>,
) {
    for row in rows.chunks_exact(stride) {
        let mut padded = [[0.0; LANES]; BLOCKS];
        padded.as_flattened_mut()[..width].copy_from_slice(&row[head * width..(head + 1) * width]);
        out.push(padded);
    }
}

/// Returns `Σ_d row[d]·transposed[d]` for one block of keys, in four chains so that the latency of
/// the multiply-adds overlaps.
#[inline(always)]
pub(super) fn scores(row: &[f32], transposed: &[Block]) -> Block {
    let mut sums = [[0.0; LANES]; 4];
    let (rows, row_rest) = row.as_chunks::<4>();
    let (blocks, block_rest) = transposed.as_chunks::<4>();
    for (row, blocks) in rows.iter().zip(blocks) {
        for chain in 0..4 {
            sums[chain] = fma([row[chain]; LANES], blocks[chain], sums[chain]);
        }
    }
    for (value, block) in row_rest.iter().zip(block_rest) {
        sums[0] = fma([*value; LANES], *block, sums[0]);
    }
    let mut total = [0.0; LANES];
    for l in 0..LANES {
        total[l] = (sums[0][l] + sums[1][l]) + (sums[2][l] + sums[3][l]);
    }
    total
}

/// Turns scores into e^(scale·score − top) for the first `visible` lanes and 0 for the others.
/// Returns top, which is the largest scaled score, and the sum.
#[inline(always)]
pub(super) fn exponentials(p: &mut [Block], visible: usize, scale: f32) -> (f32, f32) {
    let mut top = f32::NEG_INFINITY;
    for (b, p) in p.iter_mut().enumerate() {
        for (l, p) in p.iter_mut().enumerate() {
            let shown = b * LANES + l < visible;
            *p = if shown { *p * scale } else { f32::NEG_INFINITY };
        }
        let block_top = vector::reduce_max(*p);
        top = if block_top > top { block_top } else { top };
    }
    let mut sums = [0.0; LANES];
    for (b, p) in p.iter_mut().enumerate() {
        for l in 0..LANES {
            let shown = b * LANES + l < visible;
            p[l] = if shown { vector::exp(p[l] - top) } else { 0.0 };
            sums[l] += p[l];
        }
    }
    (top, vector::reduce(sums))
}

/// Returns `sum + Σ_j factors[j·stride]·rows[j]`.
#[inline(always)]
fn weighted_sum<const BLOCKS: usize>(
    sum: [Block; BLOCKS],
    factors: &[f32],
    stride: usize,
    rows: &[[Block; BLOCKS]],
) -> [Block; BLOCKS] {
    // Two chains, so that the latency of the multiply-adds overlaps.
    let mut even = sum;
    let mut odd = [[0.0; LANES]; BLOCKS];
    let (pairs, rest) = rows.as_chunks::<2>();
    for (pair, [first, second]) in pairs.iter().enumerate() {
        for b in 0..BLOCKS {
            even[b] = fma([factors[2 * pair * stride]; LANES], first[b], even[b]);
            odd[b] = fma([factors[(2 * pair + 1) * stride]; LANES], second[b], odd[b]);
        }
    }
    if let [row] = rest {
        for b in 0..BLOCKS {
            even[b] = fma([factors[2 * pairs.len() * stride]; LANES], row[b], even[b]);
        }
    }
    for b in 0..BLOCKS {
        for l in 0..LANES {
            even[b][l] += odd[b][l];
        }
    }
    even
}

#[inline(always)]
fn forward_blocks<const BLOCKS: usize>(
    inputs: &Inputs<'_>,
    scratch: &mut Scratch,
    out: &mut [f32],
    lse: &mut [f32],
) {
    let heads = inputs.heads;
    let (width, scale) = (heads.width, heads.scale());
    let (q_stride, k_stride) = (heads.query * width, heads.key * width);
    let mut values = Vec::with_capacity(inputs.v.len() / k_stride);
    for key_head in 0..heads.key {
        transpose(inputs.k, k_stride, key_head, width, &mut scratch.keys_t);
        values.clear();
        pad_rows::<BLOCKS>(inputs.v, k_stride, key_head, width, &mut values);
        for (i, &visible) in inputs.visible.iter().enumerate() {
            let visible = visible as usize;
            for head in key_head * heads.group()..(key_head + 1) * heads.group() {
                let at = i * q_stride + head * width;
                let q = &inputs.q[at..at + width];
                let mut p = [[0.0; LANES]; KEY_BLOCKS];
                let used = visible.div_ceil(LANES);
                for (p, keys) in p[..used].iter_mut().zip(scratch.keys_t.chunks_exact(width)) {
                    *p = scores(q, keys);
                }
                let (top, sum) = exponentials(&mut p[..used], visible, scale);
                lse[i * heads.query + head] = top + sum.ln();
                let zero = [[0.0; LANES]; BLOCKS];
                let mixed = weighted_sum(zero, p.as_flattened(), 1, &values[..visible]);
                let mixed = &mixed.as_flattened()[..width];
                for (out, mixed) in out[at..at + width].iter_mut().zip(mixed) {
                    *out = mixed / sum;
                }
            }
        }
    }
}

#[inline(always)]
fn backward_blocks<const BLOCKS: usize>(
    inputs: &Inputs<'_>,
    outputs: &Outputs<'_>,
    scratch: &mut Scratch,
    [dq, dk, dv]: &mut [&mut [f32]; 3],
) {
    let heads = inputs.heads;
    let width = heads.width;
    let (q_stride, k_stride) = (heads.query * width, heads.key * width);
    let queries = inputs.visible.len();
    let rows = queries * heads.group();
    scratch
        .p
        .resize(rows.max(scratch.p.len()), [[0.0; LANES]; KEY_BLOCKS]);
    scratch
        .ds
        .resize(rows.max(scratch.ds.len()), [[0.0; LANES]; KEY_BLOCKS]);
    let mut keys = Vec::with_capacity(inputs.k.len() / k_stride);
    // Row g·queries + i is query i of the group's head g, as in the scratch buffers.
    let mut padded_q = Vec::with_capacity(rows);
    let mut padded_dout = Vec::with_capacity(rows);
    for key_head in 0..heads.key {
        transpose(inputs.k, k_stride, key_head, width, &mut scratch.keys_t);
        transpose(inputs.v, k_stride, key_head, width, &mut scratch.values_t);
        keys.clear();
        pad_rows::<BLOCKS>(inputs.k, k_stride, key_head, width, &mut keys);
        padded_q.clear();
        padded_dout.clear();
        for g in 0..heads.group() {
            let head = key_head * heads.group() + g;
            pad_rows::<BLOCKS>(inputs.q, q_stride, head, width, &mut padded_q);
            pad_rows::<BLOCKS>(outputs.dout, q_stride, head, width, &mut padded_dout);
            score_gradients(inputs, outputs, scratch, head, g * queries);
            for (i, &visible) in inputs.visible.iter().enumerate() {
                let ds = scratch.ds[g * queries + i].as_flattened();
                let zero = [[0.0; LANES]; BLOCKS];
                let row = weighted_sum(zero, ds, 1, &keys[..visible as usize]);
                let at = i * q_stride + head * width;
                dq[at..at + width].copy_from_slice(&row.as_flattened()[..width]);
            }
        }
        let p = scratch.p.as_flattened().as_flattened();
        let ds = scratch.ds.as_flattened().as_flattened();
        for key in 0..keys.len() {
            let first = inputs
                .visible
                .partition_point(|&visible| visible as usize <= key);
            let mut dkey = [[0.0; LANES]; BLOCKS];
            let mut dvalue = [[0.0; LANES]; BLOCKS];
            // Queries before `first` do not see the key.
            for g in 0..heads.group() {
                let seeing = g * queries + first..(g + 1) * queries;
                let at = (seeing.start * MAX_KEYS + key).min(p.len());
                dkey = weighted_sum(dkey, &ds[at..], MAX_KEYS, &padded_q[seeing.clone()]);
                dvalue = weighted_sum(dvalue, &p[at..], MAX_KEYS, &padded_dout[seeing]);
            }
            let at = key * k_stride + key_head * width;
            dk[at..at + width].copy_from_slice(&dkey.as_flattened()[..width]);
            dv[at..at + width].copy_from_slice(&dvalue.as_flattened()[..width]);
        }
    }
}

/// Fills rows `first_row..` of `scratch.p` and `scratch.ds` for one query head.
#[inline(always)]
fn score_gradients(
    inputs: &Inputs<'_>,
    outputs: &Outputs<'_>,
    scratch: &mut Scratch,
    head: usize,
    first_row: usize,
) {
    let heads = inputs.heads;
    let (width, scale, stride) = (heads.width, heads.scale(), heads.query * heads.width);
    for (i, &visible) in inputs.visible.iter().enumerate() {
        let at = i * stride + head * width;
        let q = &inputs.q[at..at + width];
        let dout = &outputs.dout[at..at + width];
        let delta = vector::dot(dout, &outputs.out[at..at + width]);
        let lse = outputs.lse[i * heads.query + head];
        let (p, ds) = (
            &mut scratch.p[first_row + i],
            &mut scratch.ds[first_row + i],
        );
        for b in 0..(visible as usize).div_ceil(LANES) {
            let s = scores(q, &scratch.keys_t[b * width..(b + 1) * width]);
            let dp = scores(dout, &scratch.values_t[b * width..(b + 1) * width]);
            for l in 0..LANES {
                // Lanes after `visible` are never read.
                p[b][l] = vector::exp(s[l] * scale - lse);
                ds[b][l] = p[b][l] * (dp[l] - delta) * scale;
            }
        }
    }
}
