//! Token embedding: looks up rows of a table.

use candle_core::Tensor;

use super::rows;
use crate::error::Result;

/// Returns the embeddings `[tokens, width]` from the table `[vocab, width]`.
pub(crate) fn forward(table: &Tensor, tokens: &[u32], width: usize) -> Result<Tensor> {
    rows::gather(table, tokens, width)
}

/// Computes dtable += one-hot(tokens)ᵀ·dx, token by token so that the order of the sums is fixed.
pub(crate) fn backward(
    dtable: &mut Tensor,
    dx: &Tensor,
    tokens: &[u32],
    width: usize,
) -> Result<()> {
    rows::scatter_add(dtable, dx, tokens, width)
}
