//! Implementation under comparison: the CPU kernels, or the decoder on a device.

#[cfg(any(test, feature = "cuda"))]
pub(crate) mod device;
pub(crate) mod host;

use vintage_control::OptimizerSettings;
use vintage_losses::{Rule, Stats};
use vintage_model::{DecoderConfig, Gradients, Packed, ParamSet, Targets};
use vintage_settings::Device;

use crate::error::{Error, Result};

/// Implementation under comparison, not opened on a model yet.
#[derive(Debug)]
pub(crate) enum Backend {
    /// CPU, by the kernels.
    Cpu,
    /// Device of candle's, which is a GPU except in tests.
    #[cfg(any(test, feature = "cuda"))]
    Device(candle_core::Device),
}

impl Backend {
    /// Opens `device`.
    ///
    /// # Errors
    /// A device that cannot be had, or that this program was not built for.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn open(device: Device) -> Result<Self> {
        let opened = vintage_model_gpu::open_device(device)?;
        Ok(opened.map_or(Self::Cpu, Self::Device))
    }

    /// Opens the CPU.
    ///
    /// # Errors
    /// Any other device: this program was not built for one.
    #[cfg(not(any(test, feature = "cuda")))]
    pub(crate) fn open(device: Device) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self::Cpu),
            Device::Cuda(_) | Device::Emulated => {
                Err(vintage_model::Error::without_cuda(device).into())
            }
        }
    }
}

/// Policy that can be trained; AdamW's moments are empty before the first step.
pub(crate) trait Machine: Sized {
    /// Gradient in the memory where it was computed.
    type Gradient;

    /// Creates another machine with the current parameters and empty moments.
    fn again(&self) -> Result<Self>;

    fn config(&self) -> &DecoderConfig;

    /// Returns the parameters after the last step.
    fn params(&self) -> &ParamSet;

    fn logits(&self, batch: &Packed, positions: &[u32]) -> Result<Vec<f32>>;

    fn score(&self, batch: &Packed, targets: &Targets) -> Result<Vec<f32>>;

    /// Returns the `len` likeliest tokens after each prompt (greedy decoding).
    fn greedy(&self, prompts: &[Vec<u32>], len: usize) -> Result<Vec<Vec<u32>>>;

    /// Weighs a batch and computes the gradient of its loss.
    fn update(&self, batch: &Weighing<'_>) -> Result<(Updated, Self::Gradient)>;

    /// Copies a gradient to the memory where this machine computes.
    fn take(&self, gradients: Gradients) -> Result<Self::Gradient>;

    /// Takes one step of AdamW, and returns the norm of the gradient.
    fn step(&mut self, settings: &OptimizerSettings, gradient: &Self::Gradient) -> Result<f64>;

    fn norm(gradient: &Self::Gradient) -> Result<f64>;

    fn into_host(gradient: Self::Gradient) -> Result<Gradients>;
}

/// Batch that is to be weighed.
pub(crate) struct Weighing<'a> {
    pub(crate) packed: &'a Packed,
    pub(crate) targets: &'a Targets,
    pub(crate) behavior: &'a [f32],
    pub(crate) advantage: &'a [f32],
    pub(crate) valid: &'a [bool],
    pub(crate) rule: &'a Rule,
}

/// Results of an update's forward pass and rule.
pub(crate) struct Updated {
    pub(crate) log_probs: Vec<f32>,
    pub(crate) mask: Vec<bool>,
    pub(crate) loss: f64,
    pub(crate) stats: Stats,
}

/// Returns the error for a batch that could not be weighed.
fn refused(why: impl std::fmt::Display) -> Error {
    Error::Oracle(format!("weighing the oracle's batch: {why}"))
}
