//! Activation of SwiGLU: silu(gate)·up with silu(g) = g·σ(g).

use candle_core::Tensor;

use crate::cpu::vector::sigmoid;
use crate::cpu::{ROWS, each, made_in_parallel, multiversion};
use crate::error::Result;
use crate::ops::storage::{tensor, values};

/// Computes silu(gate)·up, in the shape of both.
pub(crate) fn forward(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let (gate_values, up) = (values(gate)?, values(up)?);
    let width = gate.dims().last().copied().unwrap_or(1);
    let out = made_in_parallel(gate_values.len(), width, |first, out| {
        let range = first * width..first * width + out.len();
        forward_rows(&gate_values[range.clone()], &up[range], out);
    });
    tensor(out, gate.dims())
}

/// Results of the activation's backward pass.
pub(crate) struct Backward {
    /// Activation, computed again, which the gradient of the down projection needs.
    pub(crate) activation: Tensor,
    /// Gradient of the gate projection's output.
    pub(crate) dgate: Tensor,
    /// Gradient of the up projection's output.
    pub(crate) dup: Tensor,
}

/// Computes the gradients of both inputs, and the activation again.
pub(crate) fn backward(dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<Backward> {
    let (dy, gate_values, up_values) = (values(dy)?, values(gate)?, values(up)?);
    let len = gate_values.len();
    let width = gate.dims().last().copied().unwrap_or(1);
    let piece = ROWS * width;
    let mut out = [vec![0.0; len], vec![0.0; len], vec![0.0; len]];
    {
        let [activation, dgate, dup] = &mut out;
        let inputs = gate_values
            .chunks(piece)
            .zip(up_values.chunks(piece))
            .zip(dy.chunks(piece));
        let outputs = activation.chunks_mut(piece).zip(dgate.chunks_mut(piece));
        let mut pieces: Vec<_> = inputs.zip(outputs.zip(dup.chunks_mut(piece))).collect();
        each(
            &mut pieces,
            len,
            |(((gate, up), dy), ((activation, dgate), dup))| {
                backward_rows(gate, up, dy, &mut [activation, dgate, dup]);
            },
        );
    }
    let [activation, dgate, dup] = out;
    Ok(Backward {
        activation: tensor(activation, gate.dims())?,
        dgate: tensor(dgate, gate.dims())?,
        dup: tensor(dup, gate.dims())?,
    })
}

multiversion! {
    /// Writes silu(gate)·up.
    pub(crate) fn forward_rows(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * sigmoid(*gate) * up;
        }
    }
}

multiversion! {
    fn backward_rows(gate: &[f32], up: &[f32], dy: &[f32], out: &mut [&mut [f32]; 3]) {
        let [activation, dgate, dup] = out;
        let inputs = gate.iter().zip(up).zip(dy);
        let outputs = activation.iter_mut().zip(dgate.iter_mut()).zip(dup.iter_mut());
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
