//! Causal attention with grouped query heads, computed for one sequence and one block of its
//! queries at a time, so that scores never take more than [`SCORES`] values.

use std::ops::Range;

use candle_core::{D, Result, Tensor};
use vintage_model::parts::{Heads, Pattern, Segment};

use crate::ops::indices;

/// Maximum number of scores of a block: 128 MB, of which three or four exist at once.
const SCORES: usize = 1 << 25;

/// Queries of one sequence, and the keys that the last of them sees.
struct Block {
    /// First row of q, and number of rows.
    queries: (usize, usize),
    /// Number of the segment's first keys that the last query sees.
    keys: usize,
    /// Number of keys that each query sees.
    visible: Vec<u32>,
}

fn blocks(pattern: &Pattern, segment: &Segment, heads: Heads, scores: usize) -> Vec<Block> {
    let rows = (scores / (heads.query * segment.key_count().max(1))).max(1);
    let starts = segment.queries.clone().step_by(rows);
    starts
        .map(|start| {
            let end = (start + rows).min(segment.queries.end);
            let visible = pattern.visible[start..end].to_vec();
            // The numbers ascend within a sequence.
            let keys = visible.last().map_or(0, |&last| last as usize);
            Block {
                queries: (start, end - start),
                keys,
                visible,
            }
        })
        .collect()
}

/// Returns rows of `x [n, heads, d]` with the heads outside: `[key heads, group·rows, d]`.
fn by_head(x: &Tensor, (start, len): (usize, usize), key_heads: usize) -> Result<Tensor> {
    let (_, heads, width) = x.dims3()?;
    x.narrow(0, start, len)?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((key_heads, heads / key_heads * len, width))
}

/// Returns the rows of `x` with the keys that a segment reads: those before it, and its own.
fn keys_of(x: &Tensor, segment: &Segment) -> Result<Tensor> {
    let rows = |rows: &Range<usize>| x.narrow(0, rows.start, rows.len());
    if segment.before.is_empty() {
        return rows(&segment.keys);
    }
    Tensor::cat(&[rows(&segment.before)?, rows(&segment.keys)?], 0)
}

/// Reverses [`by_head`]: returns `[rows, heads, d]`.
fn by_row(x: &Tensor, rows: usize) -> Result<Tensor> {
    let width = x.dim(2)?;
    let heads = x.elem_count() / (rows * width);
    x.reshape((heads, rows, width))?
        .transpose(0, 1)?
        .contiguous()
}

/// Computes the softmax of the scaled scores of one block, `[key heads, group·rows, keys]`.
fn probabilities(q: &Tensor, k: &Tensor, heads: Heads, block: &Block) -> Result<Tensor> {
    let scores = (q.matmul(&k.t()?)? * f64::from(heads.scale()))?;
    let (rows, keys) = (block.queries.1, block.keys);
    let scores = scores.reshape((heads.query, rows, keys))?;
    let visible = indices(&block.visible, q.device())?.reshape((1, rows, 1))?;
    let key = Tensor::arange(0, keys as u32, q.device())?.reshape((1, 1, keys))?;
    let seen = key.broadcast_lt(&visible)?.broadcast_as(scores.shape())?;
    let never = Tensor::new(f32::NEG_INFINITY, q.device())?.broadcast_as(scores.shape())?;
    let scores = seen.where_cond(&scores, &never)?;
    let scores = scores
        .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
        .exp()?;
    let probabilities = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
    probabilities.reshape((heads.key, (), keys))
}

/// Computes softmax(q·kᵀ/√width)·v per head, `[queries, heads·width]`, from q `[queries, heads,
/// width]` and k and v `[keys, key heads, width]`.
pub(crate) fn forward(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    heads: Heads,
    pattern: &Pattern,
) -> Result<Tensor> {
    forward_in(SCORES, (q, k, v), heads, pattern)
}

fn forward_in(
    scores: usize,
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    heads: Heads,
    pattern: &Pattern,
) -> Result<Tensor> {
    let mut out = Vec::new();
    for segment in &pattern.segments {
        let (k, v) = (keys_of(k, segment)?, keys_of(v, segment)?);
        for block in blocks(pattern, segment, heads, scores) {
            let q = by_head(q, block.queries, heads.key)?;
            let (k, v) = (
                by_head(&k, (0, block.keys), heads.key)?,
                by_head(&v, (0, block.keys), heads.key)?,
            );
            let attended = probabilities(&q, &k, heads, &block)?.matmul(&v)?;
            out.push(by_row(&attended, block.queries.1)?);
        }
    }
    Tensor::cat(&out, 0)?.flatten_from(1)
}

/// Computes the gradients of q, k and v from the output of [`forward`] and its gradient. The
/// probabilities are computed again.
pub(crate) fn backward(
    (out, dout): (&Tensor, &Tensor),
    inputs: (&Tensor, &Tensor, &Tensor),
    heads: Heads,
    pattern: &Pattern,
) -> Result<[Tensor; 3]> {
    backward_in(SCORES, (out, dout), inputs, heads, pattern)
}

fn backward_in(
    scores: usize,
    (out, dout): (&Tensor, &Tensor),
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    heads: Heads,
    pattern: &Pattern,
) -> Result<[Tensor; 3]> {
    let dout = dout.reshape(q.shape())?;
    // The sum of p·dp over keys equals the sum of out·dout over a head's width.
    let along = (out.reshape(q.shape())? * &dout)?.sum_keepdim(D::Minus1)?;
    let scale = f64::from(heads.scale());
    let (mut dqs, mut dks, mut dvs) = (Vec::new(), Vec::new(), Vec::new());
    let segments = &pattern.segments;
    for segment in segments {
        let (mut dk_all, mut dv_all): (Option<Tensor>, Option<Tensor>) = (None, None);
        let (k, v) = (keys_of(k, segment)?, keys_of(v, segment)?);
        for block in blocks(pattern, segment, heads, scores) {
            let q = by_head(q, block.queries, heads.key)?;
            let dout = by_head(&dout, block.queries, heads.key)?;
            let (k, v) = (
                by_head(&k, (0, block.keys), heads.key)?,
                by_head(&v, (0, block.keys), heads.key)?,
            );
            let p = probabilities(&q, &k, heads, &block)?;
            let dv = p.t()?.matmul(&dout)?;
            let dp = dout.matmul(&v.t()?)?;
            let along = by_head(&along, block.queries, heads.key)?;
            let dscores = (p * dp.broadcast_sub(&along)?)?;
            let dq = (dscores.matmul(&k)? * scale)?;
            let dk = (dscores.t()?.matmul(&q)? * scale)?;
            dqs.push(by_row(&dq, block.queries.1)?);
            dk_all = Some(longer(dk_all, dk)?);
            dv_all = Some(longer(dv_all, dv)?);
        }
        for (all, d) in [(dk_all, &mut dks), (dv_all, &mut dvs)] {
            let (before, own) = (segment.before.len(), segment.keys.len());
            let keys = before + own;
            let d_rows = match all {
                // No row of the sequence is read, so its keys have no gradient.
                None => Tensor::zeros((keys, heads.key, heads.width), q.dtype(), q.device())?,
                Some(all) => {
                    let seen = all.dim(1)?;
                    by_row(&all.pad_with_zeros(1, 0, keys - seen)?, keys)?
                }
            };
            if before > 0 {
                let of = &segment.before;
                let place = segments.partition_point(|other| other.keys.start < of.start);
                d[place] = (&d[place] + d_rows.narrow(0, 0, before)?)?;
            }
            d.push(d_rows.narrow(0, before, own)?);
        }
    }
    Ok([
        Tensor::cat(&dqs, 0)?,
        Tensor::cat(&dks, 0)?,
        Tensor::cat(&dvs, 0)?,
    ])
}

/// Adds gradients of keys `[key heads, keys, d]`, where a later block sees more keys.
fn longer(sum: Option<Tensor>, next: Tensor) -> Result<Tensor> {
    match sum {
        None => Ok(next),
        Some(sum) => sum.pad_with_zeros(1, 0, next.dim(1)? - sum.dim(1)?)? + next,
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use vintage_model::{
        Packed,
        parts::{Heads, View},
    };

    use super::{backward_in, forward_in};

    /// Checks that blocks of a few queries give the same results as one block.
    #[test]
    fn blocks_join() {
        let heads = Heads {
            query: 4,
            key: 2,
            width: 6,
        };
        // Five keys, one, and 17 that continue the first.
        let mut batch = Packed::new([vec![0; 5], vec![0]]);
        batch.push([0; 17], Some(0));
        let read = (3..22).filter(|row| row % 3 > 0);
        let view = View::only(&batch, read.collect());
        let random = |rows: usize, heads: usize| {
            Tensor::randn(0_f32, 1.0, (rows, heads, 6), &Device::Cpu).unwrap()
        };
        let queries = view.query_positions.len();
        let (q, k, v) = (random(queries, 4), random(23, 2), random(23, 2));
        let dout = random(queries, 4);
        let run = |scores| {
            let out = forward_in(scores, (&q, &k, &v), heads, &view.pattern).unwrap();
            let [dq, dk, dv] =
                backward_in(scores, (&out, &dout), (&q, &k, &v), heads, &view.pattern).unwrap();
            [out, dq, dk, dv].map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        for (whole, parts) in run(1 << 25).iter().zip(run(4 * 22 * 2)) {
            assert_eq!(whole.len(), parts.len());
            for (whole, part) in whole.iter().zip(&parts) {
                assert!((whole - part).abs() < 1e-5, "{whole} {part}");
            }
        }
    }
}
