//! RMS norm: y = w · x / √(mean(x²) + ε), over rows of `width` values.

use candle_core::Tensor;

use crate::cpu::vector::{self, Block, LANES};
use crate::cpu::{made_in_parallel, map_blocks, multiversion, rows_in_parallel};
use crate::error::Result;
use crate::ops::storage::{tensor, values, with_mut};

/// Number of rows per piece of the weight gradient's sum.
const SUM_ROWS: usize = 256;

/// Returns y `[n, width]` and the reciprocal root mean square of every row `[n]`.
pub(crate) fn forward(x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Vec<f32>)> {
    let width = weight.elem_count();
    let (x_values, weight) = (values(x)?, values(weight)?);
    let scales = scales_of(&x_values, width, eps);
    let y = scaled(&x_values, &weight, &scales);
    Ok((tensor(y, x.dims())?, scales))
}

/// Returns y for rows `x [n, width]`, for a caller that needs no backward pass.
pub(crate) fn normed(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    scaled(x, weight, &scales_of(x, weight.len(), eps))
}

/// Computes y again, from the scales that [`forward`] returned beside it.
pub(crate) fn replay(x: &Tensor, weight: &Tensor, scales: &[f32]) -> Result<Tensor> {
    let (x_values, weight) = (values(x)?, values(weight)?);
    let y = scaled(&x_values, &weight, scales);
    tensor(y, x.dims())
}

/// Returns dx (added to `onto` if given), and adds Σ dy·x/rms to dweight if given.
pub(crate) fn backward(
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    scales: &[f32],
    dweight: Option<&mut Tensor>,
    onto: Option<Tensor>,
) -> Result<Tensor> {
    let width = weight.elem_count();
    let (dy, x_values, weight) = (values(dy)?, values(x)?, values(weight)?);
    let mut dx = match onto {
        Some(onto) => onto,
        None => tensor(vec![0.0; x_values.len()], x.dims())?,
    };
    with_mut(&mut dx, |dx| {
        rows_in_parallel(dx, width, x_values.len(), |first, dx| {
            let range = first * width..first * width + dx.len();
            let rows = Rows {
                dy: &dy[range.clone()],
                x: &x_values[range],
                scales: &scales[first..first + dx.len() / width],
                weight: &weight,
            };
            backward_rows(&rows, dx);
        });
    })?;
    let Some(dweight) = dweight else {
        return Ok(dx);
    };
    let pieces = map_blocks(scales.len().div_ceil(SUM_ROWS), x_values.len(), |piece| {
        let (from, to) = (piece * SUM_ROWS, ((piece + 1) * SUM_ROWS).min(scales.len()));
        let range = from * width..to * width;
        let rows = Rows {
            dy: &dy[range.clone()],
            x: &x_values[range],
            scales: &scales[from..to],
            weight: &weight,
        };
        let mut sum = vec![0.0; width];
        weight_rows(&rows, &mut sum);
        sum
    });
    with_mut(dweight, |dweight| {
        for piece in pieces {
            dweight
                .iter_mut()
                .zip(piece)
                .for_each(|(dweight, sum)| *dweight += sum);
        }
    })?;
    Ok(dx)
}

fn scales_of(x: &[f32], width: usize, eps: f32) -> Vec<f32> {
    let mut scales = vec![0.0; x.len() / width];
    rows_in_parallel(&mut scales, 1, x.len(), |first, scales| {
        scale_rows(
            &x[first * width..(first + scales.len()) * width],
            width,
            eps,
            scales,
        );
    });
    scales
}

fn scaled(x: &[f32], weight: &[f32], scales: &[f32]) -> Vec<f32> {
    let width = weight.len();
    made_in_parallel(x.len(), width, |first, y| {
        let x = &x[first * width..first * width + y.len()];
        forward_rows(x, weight, &scales[first..first + y.len() / width], y);
    })
}

multiversion! {
    fn scale_rows(x: &[f32], width: usize, eps: f32, scales: &mut [f32]) {
        for (x, scale) in x.chunks_exact(width).zip(scales) {
            *scale = 1.0 / (vector::dot(x, x) / width as f32 + eps).sqrt();
        }
    }
}

multiversion! {
    fn forward_rows(x: &[f32], weight: &[f32], scales: &[f32], y: &mut [f32]) {
        let width = weight.len();
        for ((x, y), scale) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(scales) {
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * scale * weight;
            }
        }
    }
}

struct Rows<'a> {
    dy: &'a [f32],
    x: &'a [f32],
    scales: &'a [f32],
    weight: &'a [f32],
}

multiversion! {
    fn backward_rows(rows: &Rows<'_>, dx: &mut [f32]) {
        let weight = rows.weight;
        let width = weight.len();
        let inputs = rows.dy.chunks_exact(width).zip(rows.x.chunks_exact(width)).zip(rows.scales);
        for (((dy, x), scale), dx) in inputs.zip(dx.chunks_exact_mut(width)) {
            // dx = s·w·dy − x·s³/width·Σ w·dy·x
            let projection = triple_dot(weight, dy, x) * scale * scale * scale / width as f32;
            for (((dx, dy), x), weight) in dx.iter_mut().zip(dy).zip(x).zip(weight) {
                *dx += scale * weight * dy - projection * x;
            }
        }
    }
}

/// Returns Σ aᵢbᵢcᵢ.
#[inline(always)]
fn triple_dot(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let (c_blocks, c_rest) = c.as_chunks::<LANES>();
    let mut sum: Block = [0.0; LANES];
    for ((a, b), c) in a_blocks.iter().zip(b_blocks).zip(c_blocks) {
        for l in 0..LANES {
            sum[l] = (a[l] * b[l]).mul_add(c[l], sum[l]);
        }
    }
    let mut total = vector::reduce(sum);
    for ((a, b), c) in a_rest.iter().zip(b_rest).zip(c_rest) {
        total = (a * b).mul_add(*c, total);
    }
    total
}

multiversion! {
    fn weight_rows(rows: &Rows<'_>, sum: &mut [f32]) {
        let width = sum.len();
        let inputs = rows.dy.chunks_exact(width).zip(rows.x.chunks_exact(width)).zip(rows.scales);
        for ((dy, x), scale) in inputs {
            for ((sum, dy), x) in sum.iter_mut().zip(dy).zip(x) {
                *sum = (dy * x).mul_add(*scale, *sum);
            }
        }
    }
}
