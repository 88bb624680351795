//! AdamW with f32 moments that can be saved, and with a clip of the global gradient norm.

use std::{borrow::Cow, collections::BTreeMap};

use rayon::prelude::*;
use vintage_control::OptimizerSettings;
use vintage_model::{Gradients, ParamSet};

use crate::error::{Error, Result};

/// Number of values of a piece that one thread steps: 1 MB of values, gradients and moments, which
/// takes one core 100 µs.
const PIECE: usize = 1 << 16;

/// AdamW optimizer: first and second moments by parameter name, and the number of steps taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AdamW {
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

/// First and second moment of one parameter, in the order of its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// First moment: mean of the gradients.
    pub first: Vec<f32>,
    /// Second moment: mean of their squares.
    pub second: Vec<f32>,
}

impl AdamW {
    /// Returns the number of steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Returns the cosine of gradients with the first moment, the mean of those of earlier steps; `None` before the
    /// first step, or if one of the two is zero.
    pub fn cosine(&self, grads: &Gradients) -> Option<f64> {
        grads.cosine(|name| Some(&*self.moments.get(name)?.first))
    }

    /// Takes one step with decoupled weight decay (Loshchilov & Hutter, 2019, Algorithm 2).
    ///
    /// Gradients are first scaled by `min(1, grad_clip / (norm + 1e-6))`. Returns the gradient norm
    /// before scaling. If that norm is not finite, nothing is changed.
    pub fn step(
        &mut self,
        settings: &OptimizerSettings,
        params: &mut ParamSet,
        grads: &Gradients,
    ) -> Result<f64> {
        let norm = grads.global_norm();
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.steps += 1;
        let rate = Rate::new(settings, self.steps, norm);
        let moments = &mut self.moments;
        params.update(|name, shape, values| {
            let Some(grad) = grads.get(name) else { return };
            let moments = moments.entry(name.to_owned()).or_insert_with(|| Moments {
                first: vec![0.0; values.len()],
                second: vec![0.0; values.len()],
            });
            let decay = Rate::decay(settings, shape);
            rate.apply(values, &grad, moments, decay);
        })?;
        Ok(norm)
    }

    /// Returns the moments by parameter name.
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// Creates an optimizer from moments that another implementation accumulated over `steps`
    /// steps.
    pub fn from_moments(steps: u64, moments: BTreeMap<String, Moments>) -> Self {
        Self { steps, moments }
    }

    /// Serialises the moments as safetensors: `<name>.m` (first) and `<name>.v` (second), f32,
    /// sorted by name.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let views = self.moments.iter().flat_map(|(name, moments)| {
            [
                (format!("{name}.m"), Saving::new(&moments.first)),
                (format!("{name}.v"), Saving::new(&moments.second)),
            ]
        });
        safetensors::serialize(views, None).map_err(|error| Error::MomentsUnwritable {
            reason: error.to_string(),
        })
    }

    /// Reads moments that [`AdamW::to_safetensors`] wrote; `steps` is the number of steps they
    /// hold.
    pub fn from_safetensors(steps: u64, bytes: &[u8]) -> Result<Self> {
        let refuse = |reason: String| Error::MomentsUnreadable { reason };
        let tensors = safetensors::SafeTensors::deserialize(bytes)
            .map_err(|error| refuse(error.to_string()))?;
        let values = |name: &str| -> Result<Vec<f32>> {
            let tensor = tensors
                .tensor(name)
                .map_err(|error| refuse(error.to_string()))?;
            if tensor.dtype() != safetensors::Dtype::F32 {
                return Err(refuse(format!("{name} is not f32")));
            }
            let values = tensor.data().chunks_exact(4);
            Ok(values
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect())
        };
        let mut moments = BTreeMap::new();
        for name in tensors.names() {
            if let Some(name) = name.strip_suffix(".m") {
                let first = values(&format!("{name}.m"))?;
                let second = values(&format!("{name}.v"))?;
                if first.len() != second.len() {
                    return Err(refuse(format!("the moments of {name} differ in length")));
                }
                moments.insert(name.to_owned(), Moments { first, second });
            }
        }
        Ok(Self { steps, moments })
    }
}

/// Moment whose bytes are made only when they are written, so that one moment at a time is held
/// twice instead of all of them.
struct Saving<'a> {
    values: &'a [f32],
    shape: [usize; 1],
}

impl<'a> Saving<'a> {
    fn new(values: &'a [f32]) -> Self {
        let shape = [values.len()];
        Self { values, shape }
    }
}

impl safetensors::View for Saving<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        safetensors::Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(self.values) {
            *bytes = value.to_le_bytes();
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        4 * self.values.len()
    }
}

/// Constants of one optimizer step.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Factor by which gradients are clipped.
    pub scale: f32,
    /// Decay of the first moment, β₁.
    pub beta1: f32,
    /// Decay of the second moment, β₂.
    pub beta2: f32,
    /// Term ε that keeps the denominator above 0.
    pub eps: f32,
    /// Learning rate with the bias correction of the first moment, lr / (1 − β₁ᵗ).
    pub step_size: f32,
    /// Bias correction of the second moment's square root, 1 / √(1 − β₂ᵗ).
    pub second_scale: f32,
}

impl Rate {
    /// Computes the constants of step number `steps`, counted from 1, for gradients of norm `norm`.
    pub fn new(settings: &OptimizerSettings, steps: u64, norm: f64) -> Self {
        let steps = i32::try_from(steps).unwrap_or(i32::MAX);
        Self {
            scale: (settings.grad_clip / (norm + 1e-6)).min(1.0) as f32,
            beta1: settings.beta1 as f32,
            beta2: settings.beta2 as f32,
            eps: settings.eps as f32,
            step_size: (settings.lr / (1.0 - settings.beta1.powi(steps))) as f32,
            second_scale: (1.0 / (1.0 - settings.beta2.powi(steps)).sqrt()) as f32,
        }
    }

    /// Returns the factor by which weight decay multiplies a parameter of this shape before the
    /// step.
    pub fn decay(settings: &OptimizerSettings, shape: &[usize]) -> f32 {
        if settings.decay_vectors || shape.len() > 1 {
            (1.0 - settings.lr * settings.weight_decay) as f32
        } else {
            1.0
        }
    }

    /// Steps the values of one parameter, each by its own gradient and moments only.
    fn apply(&self, values: &mut [f32], grad: &[f32], moments: &mut Moments, decay: f32) {
        let Moments { first, second } = moments;
        if values.len() < 2 * PIECE {
            return self.apply_piece(values, grad, (first, second), decay);
        }
        let moments = first
            .par_chunks_mut(PIECE)
            .zip(second.par_chunks_mut(PIECE));
        let pieces = values.par_chunks_mut(PIECE).zip(grad.par_chunks(PIECE));
        pieces.zip(moments).for_each(|((values, grad), moments)| {
            self.apply_piece(values, grad, moments, decay);
        });
    }

    fn apply_piece(
        &self,
        values: &mut [f32],
        grad: &[f32],
        (first, second): (&mut [f32], &mut [f32]),
        decay: f32,
    ) {
        let moments = first.iter_mut().zip(second);
        for ((value, &grad), (first, second)) in values.iter_mut().zip(grad).zip(moments) {
            let grad = grad * self.scale;
            *first = self.beta1 * *first + (1.0 - self.beta1) * grad;
            *second = self.beta2 * *second + (1.0 - self.beta2) * grad * grad;
            let denominator = second.sqrt() * self.second_scale + self.eps;
            *value = *value * decay - self.step_size * *first / denominator;
        }
    }
}

#[cfg(test)]
mod tests;
