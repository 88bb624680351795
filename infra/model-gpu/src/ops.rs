//! Operations of a layer as tensor operations, each with its vector-Jacobian product written by
//! hand.

use candle_core::{D, DType, Device, Result, Tensor};
use vintage_control::Precision;
use vintage_model::parts::Rotations;

/// Returns `x` as a factor of a product: f32 that holds rounded values.
///
/// A product of bf16 tensors would be returned in bf16. Values that are bf16 fit into f32 without
/// loss, and into the tensor cores' TF32 as well, whose products and sums are f32.
pub(crate) fn factor(precision: Precision, x: &Tensor) -> Result<Tensor> {
    match precision {
        Precision::F32 => x.to_dtype(DType::F32),
        Precision::Bf16 => x.to_dtype(DType::BF16)?.to_dtype(DType::F32),
    }
}

/// Returns the reciprocal root mean square of every row, `[n, 1]`.
fn inverse_rms(x: &Tensor, eps: f64) -> Result<Tensor> {
    (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()
}

/// Computes w·x/√(mean(x²) + ε) over the last dimension.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    x.broadcast_mul(&inverse_rms(x, eps)?)?
        .broadcast_mul(weight)
}

/// Computes the gradients of x `[n, width]` and of the weight.
pub(crate) fn rms_norm_backward(
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let scale = inverse_rms(x, eps)?;
    let unit = x.broadcast_mul(&scale)?;
    let dunit = dy.broadcast_mul(weight)?;
    let along = (&dunit * &unit)?.mean_keepdim(D::Minus1)?;
    let dx = (dunit - unit.broadcast_mul(&along)?)?.broadcast_mul(&scale)?;
    let dweight = (dy * unit)?.sum(0)?;
    Ok((dx, dweight))
}

/// Computes silu(gate)·up.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    (gate * sigmoid(gate)?)? * up
}

/// Computes the gradients of gate and up.
pub(crate) fn swiglu_backward(dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<[Tensor; 2]> {
    let s = sigmoid(gate)?;
    let silu = (gate * &s)?;
    // silu' = σ + g·σ·(1 − σ) = σ + silu·(1 − σ).
    let slope = (&s + (&silu * (1.0 - &s)?)?)?;
    Ok([((dy * up)? * slope)?, (dy * silu)?])
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

/// Copies indices to the device.
pub(crate) fn indices(values: &[u32], device: &Device) -> Result<Tensor> {
    Tensor::from_slice(values, values.len(), device)
}

/// Adds rows to zeros `[n, …]`: row i of `x` to row `rows[i]`. candle's kernel assigns each column
/// to one thread, which adds the rows in order, so there are no atomics and the bits are the same
/// each time.
pub(crate) fn scatter_rows(x: &Tensor, rows: &Tensor, n: usize) -> Result<Tensor> {
    let zeros = Tensor::zeros((n, x.dim(1)?), x.dtype(), x.device())?;
    zeros.index_add(rows, x, 0)
}

/// Cosines and sines by position, on the device.
pub(crate) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Angles {
    pub(crate) fn new(table: &Rotations, device: &Device) -> Result<Self> {
        let shape = (table.cos.len() / table.half, table.half);
        Ok(Self {
            cos: Tensor::from_slice(&table.cos, shape, device)?,
            sin: Tensor::from_slice(&table.sin, shape, device)?,
        })
    }

    pub(crate) fn at(&self, positions: &[u32]) -> Result<Rotation> {
        let rows = indices(positions, self.cos.device())?;
        let pick = |table: &Tensor| table.index_select(&rows, 0)?.unsqueeze(1);
        Ok(Rotation {
            cos: pick(&self.cos)?,
            sin: pick(&self.sin)?,
        })
    }
}

/// Cosines and sines for the rotations of rows, `[n, 1, d/2]` each.
pub(crate) struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    /// Rotates `x [n, heads, d]`; dimension i is paired with i + d/2.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        rotate(x, &self.cos, &self.sin)
    }

    /// Computes the gradient, by rotating back.
    pub(crate) fn backward(&self, dx: &Tensor) -> Result<Tensor> {
        rotate(dx, &self.cos, &self.sin.neg()?)
    }
}

fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(2)? / 2;
    let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let first = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    let second = (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?;
    Tensor::cat(&[first, second], 2)
}
