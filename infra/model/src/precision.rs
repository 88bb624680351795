//! Precision of matrix products.
//!
//! With bf16, both factors of every product are rounded to bf16 first and the products are summed
//! in f32, as tensor cores do. Everything between products stays f32 (residual stream, norms,
//! rotation, softmax, loss), and so do the parameters that the optimizer changes, their gradients
//! and the moments. Queries, keys and values are rounded before the scores are computed. The
//! backward pass treats rounding as the identity. On a CPU, bf16 serves to train as a GPU does and
//! saves no memory: the rounded values are stored as f32.

use candle_core::Tensor;
use vintage_control::Precision;

use crate::cpu::{ROWS, multiversion, rows_in_parallel};
use crate::error::Result;
use crate::ops::storage::{tensor, values, with_mut};

/// Settings of a decoder's arithmetic, which affect results by rounding only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compute {
    /// Precision of the matrix products.
    pub precision: Precision,
    /// True if a forward pass keeps only each layer's input, and the backward pass computes the
    /// layer again. The bits are the same, for less memory and 18 to 28 % more time (README).
    pub recompute: bool,
}

/// Rounding of factors to a [`Precision`].
pub(crate) trait Rounding: Sized {
    /// Returns `x` as a factor and leaves `x` unchanged.
    fn of(self, x: &Tensor) -> Result<Tensor>;
    /// Turns `x` into a factor, for a tensor that is needed for nothing else.
    fn round(self, x: Tensor) -> Result<Tensor>;
    /// Returns `x` as a factor, in `scratch` if it must be changed.
    fn slice<'a>(self, x: &'a [f32], scratch: &'a mut Vec<f32>) -> &'a [f32];
    /// Rounds `x` in place.
    fn round_slice(self, x: &mut [f32]);
}

impl Rounding for Precision {
    fn of(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::F32 => Ok(x.clone()),
            Self::Bf16 => {
                let mut copy = values(x)?.to_vec();
                self.round_slice(&mut copy);
                tensor(copy, x.dims())
            }
        }
    }

    fn round(self, mut x: Tensor) -> Result<Tensor> {
        if self == Self::Bf16 {
            with_mut(&mut x, |x| self.round_slice(x))?;
        }
        Ok(x)
    }

    fn slice<'a>(self, x: &'a [f32], scratch: &'a mut Vec<f32>) -> &'a [f32] {
        match self {
            Self::F32 => x,
            Self::Bf16 => {
                scratch.clear();
                scratch.extend_from_slice(x);
                self.round_slice(scratch);
                scratch
            }
        }
    }

    fn round_slice(self, x: &mut [f32]) {
        if self == Self::Bf16 {
            let len = x.len();
            rows_in_parallel(x, ROWS, len, |_, x| to_bf16(x));
        }
    }
}

multiversion! {
    fn to_bf16(x: &mut [f32]) {
        for x in x {
            *x = f32::from_bits(rounded(*x) & 0xffff_0000);
        }
    }
}

/// Returns bits whose upper half is the nearest bf16, of two equally near ones the even.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it is compiled into loops of several instruction sets"
)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    // The addition must not carry a NaN into an infinity or beyond.
    if x.is_nan() {
        return bits | 0x0040_0000;
    }
    // Half a unit of the last kept bit, minus one if that bit is even.
    bits.wrapping_add(0x7fff + ((bits >> 16) & 1))
}

/// Returns the bits of the nearest bf16, of two equally near ones the even.
pub(crate) fn bf16_of(x: f32) -> u16 {
    (rounded(x) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::to_bf16;

    #[test]
    fn rounding_is_candles() {
        // Every sign and exponent, and mantissas around every kind of tie.
        let low = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
        let mut x: Vec<f32> = (0..=0xffff_u32)
            .flat_map(|high| low.map(|low| f32::from_bits(high << 16 | low)))
            .collect();
        let theirs = Tensor::from_slice(&x, x.len(), &Device::Cpu)
            .and_then(|x| {
                x.to_dtype(DType::BF16)?
                    .to_dtype(DType::F32)?
                    .to_vec1::<f32>()
            })
            .unwrap();
        to_bf16(&mut x);
        for (ours, theirs) in x.iter().zip(&theirs) {
            assert!(
                ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()),
                "{ours} {theirs}"
            );
        }
    }
}
