//! Copy of a policy on a device, and the step that it computes there.

use std::time::Instant;

use candle_core::{DType, Device, Result as Candle, Tensor};
use vintage_control::{OptimizerSettings, Plan};
use vintage_learner::engine::{Step, UpdateStats, rule, weigh_batch, weights_of};
use vintage_learner::{AdamW, Error, Joined, PackedBatch, Result};
use vintage_model::{Compute, Decoder};
use vintage_model_gpu::{DeviceDecoder, DeviceGradients, DeviceScored};

use crate::adamw::DeviceAdamW;
use crate::tokens::Known;
use crate::weigh::{DeviceWeighed, Problem, on_device, weigh};

/// Copy of a policy on a device. All weights are copied to the host after an update, to be hashed
/// and published; moments are copied only for a checkpoint.
#[derive(Debug)]
pub struct DevicePolicy {
    /// The decoder there, with its parameters.
    pub decoder: DeviceDecoder,
    pub(crate) optimizer: DeviceAdamW,
    /// Log-probs at the beginning of an update that takes more than one pass.
    prox: Option<Vec<f32>>,
}

impl DevicePolicy {
    /// Copies a policy to `device`, which will compute as `compute` says.
    pub fn new(
        decoder: &Decoder,
        optimizer: &AdamW,
        compute: Compute,
        device: &Device,
    ) -> Result<Self> {
        let decoder = DeviceDecoder::new(decoder, compute, device)?;
        let optimizer = DeviceAdamW::new(optimizer, &decoder)?;
        Ok(Self {
            decoder,
            optimizer,
            prox: None,
        })
    }

    /// Takes one step of AdamW. Returns the gradients' norm; one that is not finite changes
    /// nothing.
    pub fn step(
        &mut self,
        settings: &OptimizerSettings,
        gradients: &DeviceGradients,
    ) -> Result<f64> {
        self.optimizer.step(settings, &mut self.decoder, gradients)
    }

    /// Begins an update: the policy that it starts from is the one on the device.
    pub(crate) fn begin(&mut self) {
        self.prox = None;
    }

    fn weigh(
        &mut self,
        plan: &Plan,
        batches: &[&PackedBatch],
        new: &Tensor,
        outcome: &mut UpdateStats,
    ) -> Result<DeviceWeighed> {
        let rule = rule(&plan.algorithm, plan.update());
        let joined = Joined::of(batches.iter().copied(), plan.algorithm.m2_scope);
        // Four bytes a token, beside all weights, which are copied after every update.
        let log_probs = new.to_vec1::<f32>();
        let log_probs = log_probs.map_err(failed("weighing a batch"))?;
        outcome.weights = Some(weights_of(plan, &joined, &log_probs)?);
        if plan.reuse.passes > 1 || plan.reuse.kl.is_some() {
            let prox = self.prox.get_or_insert_with(|| log_probs.clone());
            let (weighed, distance) = weigh_batch(plan, &joined, &log_probs, prox)?;
            outcome.distance = distance;
            return on_device(weighed, new.device()).map_err(failed("weighing a batch"));
        }
        let known = Known {
            behavior: &joined.behavior,
            advantage: &joined.advantage,
            valid: &joined.valid,
            row_ends: Some(&joined.row_ends),
            scope: joined.scope.as_deref(),
        };
        weigh(&rule, plan.algorithm.log_ratio_clamp, new, &known).map_err(|problem| match problem {
            Problem::Refused(source) => Error::Weigh {
                update: plan.update(),
                source,
            },
            Problem::Device(source) => failed("weighing a batch")(source),
        })
    }

    /// Records loss, statistics and mean entropy of a weighed batch. Of the entropy only its sum
    /// leaves the device.
    fn note(
        outcome: &mut UpdateStats,
        weighed: &DeviceWeighed,
        batches: &[&PackedBatch],
        entropy: &Tensor,
    ) -> Result<()> {
        (outcome.loss, outcome.stats) = (weighed.loss, weighed.stats);
        if weighed.stats.n_valid == 0 {
            return Ok(());
        }
        let total = || -> Candle<f64> {
            let valid = batches.iter().flat_map(|batch| &batch.valid);
            let valid: Vec<f64> = valid.map(|&valid| f64::from(valid)).collect();
            let valid = Tensor::new(valid, entropy.device())?;
            let entropy = entropy.to_dtype(DType::F64)?;
            // A selection instead of a product: the entropy of an invalid token may be NaN.
            let chosen = valid.gt(0.0)?.where_cond(&entropy, &valid)?;
            chosen.sum_all()?.to_scalar()
        };
        let total = total().map_err(failed("taking the entropy"))?;
        outcome.entropy = total / weighed.stats.n_valid as f64;
        Ok(())
    }

    fn timed_weigh(
        &mut self,
        plan: &Plan,
        batches: &[&PackedBatch],
        scored: &[DeviceScored],
        outcome: &mut UpdateStats,
    ) -> Result<DeviceWeighed> {
        let join = |part: fn(&DeviceScored) -> &Tensor| {
            let parts: Vec<&Tensor> = scored.iter().map(part).collect();
            Tensor::cat(&parts, 0).map_err(failed("joining micro-batches"))
        };
        let new = join(|scored| &scored.logprob)?;
        let entropy = join(|scored| &scored.entropy)?;
        // The forward pass may still be running on the device.
        let device = self.decoder.device();
        device.synchronize().map_err(failed("the forward pass"))?;
        let started = Instant::now();
        let weighed = self.weigh(plan, batches, &new, outcome)?;
        Self::note(outcome, &weighed, batches, &entropy)?;
        outcome.weigh_seconds = started.elapsed().as_secs_f64();
        Ok(weighed)
    }
}

impl Step for DevicePolicy {
    type Gradients = DeviceGradients;

    fn gradients(
        &mut self,
        plan: &Plan,
        batches: &[PackedBatch],
        outcome: &mut UpdateStats,
    ) -> Result<DeviceGradients> {
        let mut gradients = self.decoder.zero_gradients()?;
        // Some devices cannot create a tensor without values.
        let batches: Vec<&PackedBatch> = batches
            .iter()
            .filter(|batch| !batch.targets.is_empty())
            .collect();
        if batches.is_empty() {
            return Ok(gradients);
        }
        if let [batch] = batches[..] {
            let (scored, tape) = self.decoder.forward(&batch.packed, &batch.targets)?;
            let weighed = self.timed_weigh(plan, &batches, &[scored], outcome)?;
            self.decoder
                .backward(tape, &weighed.weight, &mut gradients)?;
            return Ok(gradients);
        }
        let scored = batches
            .iter()
            .map(|batch| Ok(self.decoder.score(&batch.packed, &batch.targets)?))
            .collect::<Result<Vec<_>>>()?;
        let weighed = self.timed_weigh(plan, &batches, &scored, outcome)?;
        let mut from = 0;
        for batch in &batches {
            let len = batch.targets.len();
            let weight = weighed.weight.narrow(0, from, len);
            let weight = weight.map_err(failed("cutting into micro-batches"))?;
            let (_, tape) = self.decoder.forward(&batch.packed, &batch.targets)?;
            self.decoder.backward(tape, &weight, &mut gradients)?;
            from += len;
        }
        Ok(gradients)
    }

    fn cosine(&self, gradients: &DeviceGradients) -> Result<Option<f64>> {
        self.optimizer.cosine(gradients)
    }

    fn step(&mut self, settings: &OptimizerSettings, gradients: &DeviceGradients) -> Result<f64> {
        Self::step(self, settings, gradients)
    }
}

fn failed(op: &'static str) -> impl FnOnce(candle_core::Error) -> Error {
    move |source| vintage_model::Error::Tensor { op, source }.into()
}
