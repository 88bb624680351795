//! Sequences of at most [`MAX_KEYS`] keys: keys transposed so that a register holds one
//! dimension of 16 keys, values padded so that a register holds 16 dimensions of one key.

use super::{Inputs, Outputs};
use crate::cpu::multiversion;
use crate::cpu::vector::{self, Block, LANES, fma};

/// Longest sequence this kernel takes.
pub(super) const MAX_KEYS: usize = 64;
/// Widest head this kernel takes.
pub(super) const MAX_WIDTH: usize = 128;

const KEY_BLOCKS: usize = MAX_KEYS / LANES;

/// Buffers of one thread, reused from head to head.
#[derive(Default)]
pub(super) struct Scratch {
    keys_t: Vec<Block>,
    values_t: Vec<Block>,
    keys: Vec<Block>,
    values: Vec<Block>,
    dkeys: Vec<Block>,
    dvalues: Vec<Block>,
}

multiversion! {
    /// `out [queries, heads·width]`, `lse [queries, heads]`.
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
    /// Writes `[dq, dk, dv]`.
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

/// One head of `rows` (a `[keys, heads·width]` matrix), transposed in blocks of 16 keys.
#[inline(always)]
fn transpose(rows: &[f32], stride: usize, head: usize, width: usize, out: &mut Vec<Block>) {
    let blocks = (rows.len() / stride).div_ceil(LANES);
    out.clear();
    out.resize(blocks * width, [0.0; LANES]);
    for (key, row) in rows.chunks_exact(stride).enumerate() {
        let at = key / LANES * width;
        for (d, value) in row[head * width..(head + 1) * width].iter().enumerate() {
            out[at + d][key % LANES] = *value;
        }
    }
}

/// A row of one head in blocks of 16 dimensions, padded with zeros.
#[inline(always)]
fn padded<const BLOCKS: usize>(row: &[f32]) -> [Block; BLOCKS] {
    let mut out = [[0.0; LANES]; BLOCKS];
    out.as_flattened_mut()[..row.len()].copy_from_slice(row);
    out
}

#[inline(always)]
fn pad_rows<const BLOCKS: usize>(rows: &[f32], stride: usize, head: usize, width: usize, out: &mut Vec<Block>) {
    out.clear();
    for row in rows.chunks_exact(stride) {
        out.extend_from_slice(&padded::<BLOCKS>(&row[head * width..(head + 1) * width]));
    }
}

/// Σ_d row[d]·transposed[d] for one block of keys, in four chains so that the latency of the
/// multiply-adds overlaps.
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

/// Σ_j factors[j]·rows[j], rows of `BLOCKS` blocks.
#[inline(always)]
fn weighted_sum<const BLOCKS: usize>(factors: &[f32], rows: &[Block]) -> [Block; BLOCKS] {
    let mut even = [[0.0; LANES]; BLOCKS];
    let mut odd = [[0.0; LANES]; BLOCKS];
    let (rows, _) = rows.as_chunks::<BLOCKS>();
    let (pairs, rest) = factors.as_chunks::<2>();
    for (factors, rows) in pairs.iter().zip(rows.chunks_exact(2)) {
        for b in 0..BLOCKS {
            even[b] = fma([factors[0]; LANES], rows[0][b], even[b]);
            odd[b] = fma([factors[1]; LANES], rows[1][b], odd[b]);
        }
    }
    if let [factor] = rest {
        for b in 0..BLOCKS {
            even[b] = fma([*factor; LANES], rows[factors.len() - 1][b], even[b]);
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
    for key_head in 0..heads.key {
        transpose(inputs.k, k_stride, key_head, width, &mut scratch.keys_t);
        pad_rows::<BLOCKS>(inputs.v, k_stride, key_head, width, &mut scratch.values);
        for (i, &visible) in inputs.visible.iter().enumerate() {
            let visible = visible as usize;
            for head in key_head * heads.group()..(key_head + 1) * heads.group() {
                let at = i * q_stride + head * width;
                let q = &inputs.q[at..at + width];
                let mut p = [[0.0; LANES]; KEY_BLOCKS];
                let used = visible.div_ceil(LANES);
                let mut top = f32::NEG_INFINITY;
                for b in 0..used {
                    let s = scores(q, &scratch.keys_t[b * width..(b + 1) * width]);
                    for l in 0..LANES {
                        let shown = b * LANES + l < visible;
                        p[b][l] = if shown { s[l] * scale } else { f32::NEG_INFINITY };
                    }
                    let block_top = vector::reduce_max(p[b]);
                    top = if block_top > top { block_top } else { top };
                }
                let mut sums = [0.0; LANES];
                for b in 0..used {
                    for l in 0..LANES {
                        let shown = b * LANES + l < visible;
                        p[b][l] = if shown { vector::exp(p[b][l] - top) } else { 0.0 };
                        sums[l] += p[b][l];
                    }
                }
                let sum = vector::reduce(sums);
                lse[i * heads.query + head] = top + sum.ln();
                let mixed = weighted_sum::<BLOCKS>(&p.as_flattened()[..visible], &scratch.values);
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
    let (width, scale) = (heads.width, heads.scale());
    let (q_stride, k_stride) = (heads.query * width, heads.key * width);
    let keys = inputs.k.len() / k_stride;
    for key_head in 0..heads.key {
        transpose(inputs.k, k_stride, key_head, width, &mut scratch.keys_t);
        transpose(inputs.v, k_stride, key_head, width, &mut scratch.values_t);
        pad_rows::<BLOCKS>(inputs.k, k_stride, key_head, width, &mut scratch.keys);
        for sums in [&mut scratch.dkeys, &mut scratch.dvalues] {
            sums.clear();
            sums.resize(keys * BLOCKS, [0.0; LANES]);
        }
        for (i, &visible) in inputs.visible.iter().enumerate() {
            let visible = visible as usize;
            for head in key_head * heads.group()..(key_head + 1) * heads.group() {
                let at = i * q_stride + head * width;
                let q = &inputs.q[at..at + width];
                let dout = &outputs.dout[at..at + width];
                let delta = vector::dot(dout, &outputs.out[at..at + width]);
                let lse = outputs.lse[i * heads.query + head];
                let mut p = [[0.0; LANES]; KEY_BLOCKS];
                let mut ds = [[0.0; LANES]; KEY_BLOCKS];
                for b in 0..visible.div_ceil(LANES) {
                    let s = scores(q, &scratch.keys_t[b * width..(b + 1) * width]);
                    let dp = scores(dout, &scratch.values_t[b * width..(b + 1) * width]);
                    for l in 0..LANES {
                        let shown = b * LANES + l < visible;
                        p[b][l] = if shown { vector::exp(s[l] * scale - lse) } else { 0.0 };
                        ds[b][l] = p[b][l] * (dp[l] - delta) * scale;
                    }
                }
                let (p, ds) = (&p.as_flattened()[..visible], &ds.as_flattened()[..visible]);
                let row = weighted_sum::<BLOCKS>(ds, &scratch.keys);
                dq[at..at + width].copy_from_slice(&row.as_flattened()[..width]);
                let (q, dout) = (padded::<BLOCKS>(q), padded::<BLOCKS>(dout));
                let (dkeys, _) = scratch.dkeys.as_chunks_mut::<BLOCKS>();
                let (dvalues, _) = scratch.dvalues.as_chunks_mut::<BLOCKS>();
                for (((p, ds), dk), dv) in p.iter().zip(ds).zip(dkeys).zip(dvalues) {
                    for b in 0..BLOCKS {
                        dk[b] = fma([*ds; LANES], q[b], dk[b]);
                        dv[b] = fma([*p; LANES], dout[b], dv[b]);
                    }
                }
            }
        }
        for (sums, out) in [(&scratch.dkeys, &mut *dk), (&scratch.dvalues, &mut *dv)] {
            let (sums, _) = sums.as_chunks::<BLOCKS>();
            for (sums, out) in sums.iter().zip(out.chunks_exact_mut(k_stride)) {
                out[key_head * width..(key_head + 1) * width]
                    .copy_from_slice(&sums.as_flattened()[..width]);
            }
        }
    }
}
