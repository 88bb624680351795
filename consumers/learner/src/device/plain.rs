//! Plain numbers on a device: what a GPU is checked with.

use candle_core::{Device, Tensor};
use vintage_m2po::{Rule, Tokens, Weighed};
use vintage_model::open_device;

use super::tokens::Known;
use super::weigh::{Problem, weigh};
use crate::error::Result;

/// The rules of `vintage_m2po` on a device, for numbers that are here.
#[derive(Debug)]
pub struct PlainWeigher {
    device: Device,
}

impl PlainWeigher {
    /// Opens the GPU; on the CPU, the same operations there.
    pub fn open(device: vintage_settings::Device) -> Result<Self> {
        let device = open_device(device)?.unwrap_or(Device::Cpu);
        Ok(Self { device })
    }

    /// Weighs a batch as [`weigh`] does, and reads back what it gives each token. A proximal policy
    /// is the new one.
    ///
    /// # Errors
    /// As [`weigh`].
    pub fn weigh(&self, rule: &Rule, tokens: &Tokens<'_, f32>) -> Result<Weighed, Problem> {
        let known = Known {
            behavior: tokens.behavior,
            advantage: tokens.advantage,
            valid: tokens.valid,
        };
        let new = Tensor::new(tokens.new, &self.device)?;
        let found = weigh(rule, tokens.clamp, &new, &known)?;
        let mask = found.mask.to_vec1::<f64>()?;
        Ok(Weighed {
            weight: found.weight.to_vec1()?,
            mask: mask.into_iter().map(|kept| kept == 1.0).collect(),
            loss: found.loss,
            stats: found.stats,
        })
    }
}
