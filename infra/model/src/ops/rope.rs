//! Rotary position embedding in Hugging Face's layout: dimension i is paired with i + d/2.

use candle_core::Tensor;

use crate::cpu::{multiversion, rows_in_parallel};
use crate::ops::storage::with_mut;
use crate::{config::DecoderConfig, error::Result};

/// Cosines and sines of the rotations at positions `0..len`.
#[derive(Debug, Clone)]
pub struct Table {
    /// Number of pairs of dimensions.
    pub half: usize,
    /// Cosines, `[len, half]`.
    pub cos: Vec<f32>,
    /// Sines, `[len, half]`.
    pub sin: Vec<f32>,
}

impl Table {
    /// Computes the table of rotations by `frequencies`, in radians per position.
    pub fn new(frequencies: &[f32], len: usize) -> Self {
        let mut table = Self {
            half: frequencies.len(),
            cos: Vec::new(),
            sin: Vec::new(),
        };
        table.reach(frequencies, len);
        table
    }

    /// Extends the table to `len` positions at least.
    pub(crate) fn reach(&mut self, frequencies: &[f32], len: usize) {
        let known = self.cos.len() / self.half.max(1);
        let more = len.saturating_sub(known) * self.half;
        self.cos.reserve(more);
        self.sin.reserve(more);
        for position in known..len {
            for frequency in frequencies {
                // The product is rounded to f32, as in transformers and vLLM.
                let angle = position as f32 * frequency;
                let (sin, cos) = f64::from(angle).sin_cos();
                self.cos.push(cos as f32);
                self.sin.push(sin as f32);
            }
        }
    }
}

/// Returns the rotation per position of each of the `head_dim / 2` pairs, in radians.
pub fn frequencies(config: &DecoderConfig) -> Vec<f32> {
    let half = config.head_dim / 2;
    let base = (0..half).map(|i| {
        let exponent = (2 * i) as f64 / config.head_dim as f64;
        1.0 / config.rope_theta.powf(exponent)
    });
    let Some(scaling) = config.rope_scaling else {
        return base.map(|frequency| frequency as f32).collect();
    };
    let original = scaling.original_max_position_embeddings as f64;
    let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
    base.map(|frequency| {
        let wavelength = std::f64::consts::TAU / frequency;
        let scaled = if wavelength < original / high {
            frequency
        } else if wavelength > original / low {
            frequency / scaling.factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            (1.0 - smooth) * frequency / scaling.factor + smooth * frequency
        };
        scaled as f32
    })
    .collect()
}

/// Rotates every head of `x [n, heads·d]` in place, row i by `positions[i]`.
pub(crate) fn forward(x: &mut Tensor, positions: &[u32], table: &Table) -> Result<()> {
    rotate(x, positions, table, 1.0)
}

/// Computes the gradient in place, by rotating back.
pub(crate) fn backward(dx: &mut Tensor, positions: &[u32], table: &Table) -> Result<()> {
    rotate(dx, positions, table, -1.0)
}

fn rotate(x: &mut Tensor, positions: &[u32], table: &Table, direction: f32) -> Result<()> {
    let width = x.elem_count() / positions.len().max(1);
    with_mut(x, |x| {
        let values = x.len();
        rows_in_parallel(x, width, values, |first, x| {
            let positions = &positions[first..first + x.len() / width];
            rotate_rows(x, positions, table, direction);
        });
    })
}

multiversion! {
    /// Rotates every head of the rows `x` in place, row i by `positions[i]`, of which there is one at
    /// least.
    pub(crate) fn rotate_rows(x: &mut [f32], positions: &[u32], table: &Table, direction: f32) {
        let half = table.half;
        let width = x.len() / positions.len();
        for (x, position) in x.chunks_exact_mut(width).zip(positions) {
            let at = *position as usize * half;
            let (cos, sin) = (&table.cos[at..at + half], &table.sin[at..at + half]);
            for head in x.chunks_exact_mut(2 * half) {
                let (a, b) = head.split_at_mut(half);
                for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                    let sin = sin * direction;
                    let (first, second) = (*a, *b);
                    *a = first * cos - second * sin;
                    *b = second * cos + first * sin;
                }
            }
        }
    }
}
