//! Engine that computes updates on a device, in tensor operations.

use std::borrow::Cow;

use candle_core::Device;
use vintage_control::{Fingerprint, Plan};
use vintage_learner::engine::{UpdateEngine, UpdateStats, compute, run};
use vintage_learner::{AdamW, Error, PackedBatch, Result};
use vintage_model::{Compute, Decoder};

use crate::policy::DevicePolicy;

/// Engine that trains on a device: a GPU, or in tests candle's CPU device.
#[derive(Debug)]
pub struct DeviceEngine {
    device: Device,
    fingerprint: Fingerprint,
    /// Optimizer moments, unless they are on the device.
    optimizer: AdamW,
    /// Copy of the policy on the device, from the first update on.
    policy: Option<DevicePolicy>,
}

impl DeviceEngine {
    /// Creates an engine on `device` that continues with the moments of `optimizer`. Its bits are
    /// those of `fingerprint`.
    pub fn new(device: Device, fingerprint: Fingerprint, optimizer: AdamW) -> Self {
        Self {
            device,
            fingerprint,
            optimizer,
            policy: None,
        }
    }

    /// Returns the copy of the policy on the device; it is created anew unless there is one that
    /// computes as `compute` says.
    fn policy(&mut self, decoder: &Decoder, compute: Compute) -> Result<&mut DevicePolicy> {
        let is_there = matches!(&self.policy, Some(policy) if policy.decoder.compute() == compute);
        if !is_there {
            // Frees the memory of the old copy first.
            self.forget_parameters()?;
            let policy = DevicePolicy::new(decoder, &self.optimizer, compute, &self.device)?;
            // The moments are on the device from now on, and not here.
            self.optimizer = AdamW::default();
            return Ok(self.policy.insert(policy));
        }
        self.policy.as_mut().ok_or(Error::PolicyLost)
    }
}

impl UpdateEngine for DeviceEngine {
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn shares_prompts(&self) -> bool {
        true
    }

    fn update(
        &mut self,
        decoder: &mut Decoder,
        plan: &Plan,
        batches: &[PackedBatch],
        outcome: &mut UpdateStats,
    ) -> Result<()> {
        if plan.reuse.reset_optimizer {
            self.forget_parameters()?;
            self.optimizer = AdamW::default();
        }
        let policy = self.policy(decoder, compute(&plan.training))?;
        policy.begin();
        run(policy, plan, batches, outcome)?;
        if outcome.skipped.is_none() {
            policy.decoder.read_into(decoder)?;
        }
        Ok(())
    }

    fn optimizer(&self) -> Result<Cow<'_, AdamW>> {
        match &self.policy {
            None => Ok(Cow::Borrowed(&self.optimizer)),
            Some(policy) => Ok(Cow::Owned(policy.optimizer.to_host()?)),
        }
    }

    fn forget_parameters(&mut self) -> Result<()> {
        if let Some(policy) = &self.policy {
            self.optimizer = policy.optimizer.to_host()?;
            self.policy = None;
        }
        Ok(())
    }
}
