//! Gathering rows of a matrix, and adding rows back to it.

use candle_core::Tensor;

use crate::error::Result;
use crate::ops::storage::{tensor, values, with_mut};

/// Returns the rows `rows` of `x [n, width]`, in that order.
pub(crate) fn gather(x: &Tensor, rows: &[u32], width: usize) -> Result<Tensor> {
    let x = values(x)?;
    let mut out = Vec::with_capacity(rows.len() * width);
    for &row in rows {
        out.extend_from_slice(&x[row as usize * width..(row as usize + 1) * width]);
    }
    tensor(out, &[rows.len(), width])
}

/// Adds row i of `dy` to row `rows[i]` of `dx`, in the order of `rows`.
pub(crate) fn scatter_add(dx: &mut Tensor, dy: &Tensor, rows: &[u32], width: usize) -> Result<()> {
    let dy = values(dy)?;
    with_mut(dx, |dx| {
        for (dy, &row) in dy.chunks_exact(width).zip(rows) {
            let dx = &mut dx[row as usize * width..(row as usize + 1) * width];
            dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy);
        }
    })
}
