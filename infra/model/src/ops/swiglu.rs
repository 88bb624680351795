//! SwiGLU's activation: silu(gate)·up, silu(g) = g·σ(g).

use candle_core::Tensor;

use super::{tensor, values};
use crate::Result;
use crate::cpu::vector::sigmoid;
use crate::cpu::{ROWS, map_blocks, multiversion, rows_in_parallel};

/// silu(gate)·up, of the shape of both.
pub(crate) fn forward(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let (gate_values, up) = (values(gate)?, values(up)?);
    let mut out = vec![0.0; gate_values.len()];
    let width = gate.dims().last().copied().unwrap_or(1);
    rows_in_parallel(&mut out, width, gate_values.len(), |first, out| {
        let range = first * width..first * width + out.len();
        forward_rows(&gate_values[range.clone()], &up[range], out);
    });
    tensor(out, gate.dims())
}

/// What the backward pass of the activation yields.
pub(crate) struct Backward {
    /// The activation again, which the gradient of the down projection needs.
    pub(crate) activation: Tensor,
    /// Gradient of the gate.
    pub(crate) dgate: Tensor,
    /// Gradient of the up projection.
    pub(crate) dup: Tensor,
}

/// Gradients of both inputs, and the activation again.
pub(crate) fn backward(dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<Backward> {
    let (dy, gate_values, up_values) = (values(dy)?, values(gate)?, values(up)?);
    let len = gate_values.len();
    let width = gate.dims().last().copied().unwrap_or(1);
    let piece = ROWS * width;
    let mut pieces = map_blocks(len.div_ceil(piece), len, |i| {
        let range = i * piece..((i + 1) * piece).min(len);
        let len = range.len();
        let mut out = [vec![0.0; len], vec![0.0; len], vec![0.0; len]];
        let (up, dy) = (&up_values[range.clone()], &dy[range.clone()]);
        backward_rows(&gate_values[range], up, dy, &mut out);
        out
    });
    let [activation, dgate, dup] = match pieces.len() {
        1 => pieces.swap_remove(0),
        _ => [0, 1, 2].map(|which| {
            let mut whole = Vec::with_capacity(len);
            pieces.iter().for_each(|piece| whole.extend_from_slice(&piece[which]));
            whole
        }),
    };
    Ok(Backward {
        activation: tensor(activation, gate.dims())?,
        dgate: tensor(dgate, gate.dims())?,
        dup: tensor(dup, gate.dims())?,
    })
}

multiversion! {
    fn forward_rows(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * sigmoid(*gate) * up;
        }
    }
}

multiversion! {
    fn backward_rows(gate: &[f32], up: &[f32], dy: &[f32], out: &mut [Vec<f32>; 3]) {
        let [activation, dgate, dup] = out;
        let inputs = gate.iter().zip(up).zip(dy);
        let outputs = activation.iter_mut().zip(dgate).zip(dup);
        for (((gate, up), dy), ((activation, dgate), dup)) in inputs.zip(outputs) {
            let sigma = sigmoid(*gate);
            let silu = gate * sigma;
            *activation = silu * up;
            // silu' = σ + g·σ·(1 − σ)
            *dgate = dy * up * (sigma + silu * (1.0 - sigma));
            *dup = dy * silu;
        }
    }
}
