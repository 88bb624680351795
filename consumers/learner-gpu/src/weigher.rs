//! Rules on a device for plain numbers, with which a GPU is checked.

use candle_core::{Device, Tensor};
use vintage_learner::{NotWeighed, Weigher};
use vintage_losses::{Rule, Tokens, Weighed};

use crate::tokens::Known;
use crate::weigh::{Problem, weigh};

/// Rules of `vintage_losses` on a device, for numbers that are in host memory.
#[derive(Debug)]
pub(crate) struct DeviceWeigher {
    device: Device,
}

impl DeviceWeigher {
    pub(crate) fn new(device: Device) -> Self {
        Self { device }
    }

    fn weigh(&self, rule: &Rule, tokens: &Tokens<'_, f32>) -> Result<Weighed, Problem> {
        let known = Known {
            behavior: tokens.behavior,
            advantage: tokens.advantage,
            valid: tokens.valid,
            row_ends: tokens.row_ends,
            scope: tokens.scope,
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

impl Weigher for DeviceWeigher {
    fn weigh(&self, rule: &Rule, tokens: &Tokens<'_, f32>) -> Result<Weighed, NotWeighed> {
        Self::weigh(self, rule, tokens).map_err(|problem| match problem {
            Problem::Refused(error) => NotWeighed::Refused(error),
            Problem::Device(error) => NotWeighed::Device(Box::new(error)),
        })
    }
}
