//! Linear layers: y = x·Wᵀ + b with W `[out, in]`, as Hugging Face stores it.

use candle_core::Tensor;

use crate::cpu::{Mat, MatMut, copied, map_blocks, matmul, product};
use crate::error::{Error, Result};
use crate::ops::storage::{tensor, values, with_mut};

/// Number of rows per piece of the bias gradient's sum.
const SUM_ROWS: usize = 256;

/// Computes x·Wᵀ (+ bias) (+ residual), `[n, out]`.
pub(crate) fn forward(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let (n, input, output) = shape(x, weight)?;
    let (x, weight) = (values(x)?, values(weight)?);
    let (x, weight_t) = (
        Mat::rows(&x, n, input),
        Mat::rows(&weight, output, input).t(),
    );
    let mut y = match residual {
        None => product(x, weight_t),
        Some(residual) => {
            let mut y = copied(&values(residual)?);
            matmul(MatMut::rows(&mut y, n, output), x, weight_t, true);
            y
        }
    };
    if let Some(bias) = bias {
        let bias = values(bias)?;
        for y in y.chunks_exact_mut(output) {
            y.iter_mut().zip(bias.iter()).for_each(|(y, b)| *y += b);
        }
    }
    tensor(y, &[n, output])
}

/// Computes y += x·Wᵀ.
pub(crate) fn forward_onto(y: &mut Tensor, x: &Tensor, weight: &Tensor) -> Result<()> {
    let (n, input, output) = shape(x, weight)?;
    let (x, weight) = (values(x)?, values(weight)?);
    with_mut(y, |y| {
        matmul(
            MatMut::rows(y, n, output),
            Mat::rows(&x, n, input),
            Mat::rows(&weight, output, input).t(),
            true,
        );
    })
}

/// Computes dy·W, `[n, in]`, added to `onto` if given.
pub(crate) fn backward_input(dy: &Tensor, weight: &Tensor, onto: Option<Tensor>) -> Result<Tensor> {
    let (output, input) = weight.dims2().map_err(Error::tensor("linear"))?;
    let n = dy.elem_count() / output;
    let (dy, weight) = (values(dy)?, values(weight)?);
    let (dy, weight) = (Mat::rows(&dy, n, output), Mat::rows(&weight, output, input));
    match onto {
        None => tensor(product(dy, weight), &[n, input]),
        Some(mut dx) => {
            with_mut(&mut dx, |dx| {
                matmul(MatMut::rows(dx, n, input), dy, weight, true);
            })?;
            Ok(dx)
        }
    }
}

/// Computes dW += dyᵀ·x.
pub(crate) fn backward_weight(dweight: &mut Tensor, dy: &Tensor, x: &Tensor) -> Result<()> {
    let (n, input, output) = shape(x, dweight)?;
    let (dy, x) = (values(dy)?, values(x)?);
    with_mut(dweight, |dweight| {
        matmul(
            MatMut::rows(dweight, output, input),
            Mat::rows(&dy, n, output).t(),
            Mat::rows(&x, n, input),
            true,
        );
    })
}

/// Computes db += Σ rows of dy: first within pieces of [`SUM_ROWS`] rows, then over the pieces in
/// order.
pub(crate) fn backward_bias(dbias: &mut Tensor, dy: &Tensor) -> Result<()> {
    let output = dbias.elem_count();
    let dy = values(dy)?;
    let pieces = map_blocks((dy.len() / output).div_ceil(SUM_ROWS), dy.len(), |piece| {
        let mut sum = vec![0.0; output];
        let from = piece * SUM_ROWS * output;
        let to = (from + SUM_ROWS * output).min(dy.len());
        for dy in dy[from..to].chunks_exact(output) {
            sum.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
        }
        sum
    });
    with_mut(dbias, |dbias| {
        for piece in pieces {
            dbias
                .iter_mut()
                .zip(piece)
                .for_each(|(dbias, sum)| *dbias += sum);
        }
    })
}

fn shape(x: &Tensor, weight: &Tensor) -> Result<(usize, usize, usize)> {
    let (output, input) = weight.dims2().map_err(Error::tensor("linear"))?;
    Ok((x.elem_count() / input, input, output))
}
