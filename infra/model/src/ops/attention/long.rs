//! Attention kernel for long sequences: matrix products on blocks of queries, one query head at a
//! time.

use super::{Inputs, Outputs, per_head};
use crate::cpu::vector::{self, LANES};
use crate::cpu::{Mat, MatMut, matmul, multiversion};

/// Number of queries of a block. The scores of a block against 4096 keys fill half of a 2 MB L2
/// cache.
const BLOCK: usize = 64;

/// Writes `out [queries, heads·width]` and `lse [queries, heads]`.
pub(super) fn forward(inputs: &Inputs<'_>, out: &mut [f32], lse: &mut [f32]) {
    let heads = inputs.heads;
    let (width, q_stride) = (heads.width, heads.query * heads.width);
    let results = per_head(inputs, |head| forward_head(inputs, head));
    for (head, (head_out, head_lse)) in results.into_iter().enumerate() {
        let rows = out
            .chunks_exact_mut(q_stride)
            .zip(head_out.chunks_exact(width));
        for (out, row) in rows {
            out[head * width..(head + 1) * width].copy_from_slice(row);
        }
        for (lse, value) in lse.chunks_exact_mut(heads.query).zip(head_lse) {
            lse[head] = value;
        }
    }
}

fn forward_head(inputs: &Inputs<'_>, head: usize) -> (Vec<f32>, Vec<f32>) {
    let (width, queries) = (inputs.heads.width, inputs.visible.len());
    let view = HeadView::new(inputs, head);
    let mut out = vec![0.0; queries * width];
    let mut lse = vec![0.0; queries];
    let mut scores = Vec::new();
    for from in (0..queries).step_by(BLOCK) {
        let to = (from + BLOCK).min(queries);
        let (rows, keys) = (to - from, inputs.visible[to - 1] as usize);
        scores.resize(rows * keys, 0.0);
        let q = view.q(from, rows);
        matmul(
            MatMut::rows(&mut scores, rows, keys),
            q,
            view.k(keys).t(),
            false,
        );
        softmax(
            &mut scores,
            &inputs.visible[from..to],
            inputs.heads.scale(),
            &mut lse[from..to],
        );
        let out = MatMut::rows(&mut out[from * width..to * width], rows, width);
        matmul(out, Mat::rows(&scores, rows, keys), view.v(keys), false);
    }
    (out, lse)
}

/// Adds the gradients to `[dq, dk, dv]`, which are zero.
pub(super) fn backward(inputs: &Inputs<'_>, outputs: &Outputs<'_>, gradients: [&mut [f32]; 3]) {
    let heads = inputs.heads;
    let [dq, dk, dv] = gradients;
    let results = per_head(inputs, |head| backward_head(inputs, outputs, head));
    for (head, [head_dq, head_dk, head_dv]) in results.into_iter().enumerate() {
        add_columns(dq, &head_dq, heads.query, head, heads.width);
        add_columns(dk, &head_dk, heads.key, head / heads.group(), heads.width);
        add_columns(dv, &head_dv, heads.key, head / heads.group(), heads.width);
    }
}

fn add_columns(out: &mut [f32], part: &[f32], heads: usize, head: usize, width: usize) {
    for (out, part) in out
        .chunks_exact_mut(heads * width)
        .zip(part.chunks_exact(width))
    {
        let out = &mut out[head * width..(head + 1) * width];
        out.iter_mut()
            .zip(part)
            .for_each(|(out, part)| *out += part);
    }
}

fn backward_head(inputs: &Inputs<'_>, outputs: &Outputs<'_>, head: usize) -> [Vec<f32>; 3] {
    let heads = inputs.heads;
    let (width, stride, queries) = (heads.width, heads.query * heads.width, inputs.visible.len());
    let view = HeadView::new(inputs, head);
    let total = inputs.k.len() / (heads.key * width);
    let mut dq = vec![0.0; queries * width];
    let mut dk = vec![0.0; total * width];
    let mut dv = vec![0.0; total * width];
    let (mut p, mut dp) = (Vec::new(), Vec::new());
    for from in (0..queries).step_by(BLOCK) {
        let to = (from + BLOCK).min(queries);
        let (rows, keys) = (to - from, inputs.visible[to - 1] as usize);
        p.resize(rows * keys, 0.0);
        dp.resize(rows * keys, 0.0);
        let q = view.q(from, rows);
        let dout = Mat::strided(
            &outputs.dout[from * stride + head * width..],
            rows,
            width,
            stride,
        );
        matmul(MatMut::rows(&mut p, rows, keys), q, view.k(keys).t(), false);
        matmul(
            MatMut::rows(&mut dp, rows, keys),
            dout,
            view.v(keys).t(),
            false,
        );
        for (row, &visible) in inputs.visible[from..to].iter().enumerate() {
            let at = (from + row) * stride + head * width;
            let (dout, out) = (&outputs.dout[at..at + width], &outputs.out[at..at + width]);
            let lse = outputs.lse[(from + row) * heads.query + head];
            let range = row * keys..(row + 1) * keys;
            let rows = &mut [&mut p[range.clone()], &mut dp[range]];
            score_gradient(rows, visible as usize, heads.scale(), lse, dot(dout, out));
        }
        let (p, ds) = (Mat::rows(&p, rows, keys), Mat::rows(&dp, rows, keys));
        let dq = MatMut::rows(&mut dq[from * width..to * width], rows, width);
        matmul(dq, ds, view.k(keys), false);
        matmul(
            MatMut::rows(&mut dk[..keys * width], keys, width),
            ds.t(),
            q,
            true,
        );
        matmul(
            MatMut::rows(&mut dv[..keys * width], keys, width),
            p.t(),
            dout,
            true,
        );
    }
    [dq, dk, dv]
}

/// View of one head's q, k and v as strided matrices.
struct HeadView<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    width: usize,
    q_stride: usize,
    k_stride: usize,
}

impl<'a> HeadView<'a> {
    fn new(inputs: &Inputs<'a>, head: usize) -> Self {
        let heads = inputs.heads;
        let key_at = head / heads.group() * heads.width;
        Self {
            q: &inputs.q[head * heads.width..],
            k: &inputs.k[key_at..],
            v: &inputs.v[key_at..],
            width: heads.width,
            q_stride: heads.query * heads.width,
            k_stride: heads.key * heads.width,
        }
    }

    fn q(&self, from: usize, rows: usize) -> Mat<'a> {
        Mat::strided(
            &self.q[from * self.q_stride..],
            rows,
            self.width,
            self.q_stride,
        )
    }

    fn k(&self, keys: usize) -> Mat<'a> {
        Mat::strided(self.k, keys, self.width, self.k_stride)
    }

    fn v(&self, keys: usize) -> Mat<'a> {
        Mat::strided(self.v, keys, self.width, self.k_stride)
    }
}

multiversion! {
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        vector::dot(a, b)
    }
}

multiversion! {
    /// Turns rows of scores into probabilities; keys that a row does not see get 0.
    fn softmax(scores: &mut [f32], visible: &[u32], scale: f32, lse: &mut [f32]) {
        let keys = scores.len() / visible.len();
        for ((row, &visible), lse) in scores.chunks_exact_mut(keys).zip(visible).zip(lse) {
            let (shown, hidden) = row.split_at_mut(visible as usize);
            hidden.fill(0.0);
            let top = vector::largest(shown) * scale;
            let (blocks, rest) = shown.as_chunks_mut::<LANES>();
            let mut sums = [0.0; LANES];
            for block in blocks {
                for l in 0..LANES {
                    block[l] = vector::exp(block[l].mul_add(scale, -top));
                    sums[l] += block[l];
                }
            }
            let mut sum = vector::reduce(sums);
            for value in rest {
                *value = vector::exp(value.mul_add(scale, -top));
                sum += *value;
            }
            let reciprocal = 1.0 / sum;
            for value in shown {
                *value *= reciprocal;
            }
            *lse = top + sum.ln();
        }
    }
}

multiversion! {
    /// Turns `[scores, dp]` into probabilities and the gradient of the scores.
    fn score_gradient(rows: &mut [&mut [f32]; 2], visible: usize, scale: f32, lse: f32, delta: f32) {
        let [p, ds] = rows;
        for (p, ds) in p[..visible].iter_mut().zip(&mut ds[..visible]) {
            *p = vector::exp(p.mul_add(scale, -lse));
            *ds = *p * (*ds - delta) * scale;
        }
        p[visible..].fill(0.0);
        ds[visible..].fill(0.0);
    }
}
