//! Decoder and rule on a device under comparison: a GPU, or in tests candle's CPU device.

use candle_core::{Device, Tensor};
use vintage_control::OptimizerSettings;
use vintage_learner::AdamW;
use vintage_learner_gpu::{DevicePolicy, Known, Problem, weigh};
use vintage_losses::DEFAULT_CLAMP;
use vintage_model::{Compute, Decoder, DecoderConfig, Gradients, Packed, ParamSet, Targets};
use vintage_model_gpu::DeviceGradients;

use super::{Machine, Updated, Weighing, refused};
use crate::error::{Error, Result};

/// Policy on a device, and its parameters in host memory.
pub(crate) struct DeviceMachine {
    decoder: Decoder,
    device: Device,
    policy: DevicePolicy,
}

impl DeviceMachine {
    pub(crate) fn new(decoder: Decoder, device: &Device) -> Result<Self> {
        let optimizer = AdamW::default();
        let policy = DevicePolicy::new(&decoder, &optimizer, Compute::default(), device)?;
        Ok(Self {
            decoder,
            device: device.clone(),
            policy,
        })
    }
}

impl Machine for DeviceMachine {
    type Gradient = DeviceGradients;

    fn again(&self) -> Result<Self> {
        Self::new(self.decoder.clone(), &self.device)
    }

    fn config(&self) -> &DecoderConfig {
        self.decoder.config()
    }

    fn params(&self) -> &ParamSet {
        self.decoder.params()
    }

    fn logits(&self, batch: &Packed, positions: &[u32]) -> Result<Vec<f32>> {
        Ok(self.policy.decoder.logits(batch, positions)?)
    }

    fn score(&self, batch: &Packed, targets: &Targets) -> Result<Vec<f32>> {
        read(&self.policy.decoder.score(batch, targets)?.logprob)
    }

    fn greedy(&self, prompts: &[Vec<u32>], len: usize) -> Result<Vec<Vec<u32>>> {
        // A device has no key-value cache: every token runs the whole sequence again.
        let mut sequences = prompts.to_vec();
        let vocab = self.config().vocab_size;
        for _ in 0..len {
            let batch = Packed::new(&sequences);
            let ends: Vec<u32> = batch.starts[1..]
                .iter()
                .map(|end| *end as u32 - 1)
                .collect();
            let logits = self.logits(&batch, &ends)?;
            for (sequence, logits) in sequences.iter_mut().zip(logits.chunks_exact(vocab)) {
                // Of equal logits the first, as the sampler takes it.
                let best = (0..vocab)
                    .rev()
                    .max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
                sequence.push(best.unwrap_or(0) as u32);
            }
        }
        let done = sequences.iter().zip(prompts);
        Ok(done
            .map(|(all, prompt)| all[prompt.len()..].to_vec())
            .collect())
    }

    fn update(&self, batch: &Weighing<'_>) -> Result<(Updated, DeviceGradients)> {
        let decoder = &self.policy.decoder;
        let known = Known {
            behavior: batch.behavior,
            advantage: batch.advantage,
            valid: batch.valid,
            row_ends: None,
            scope: None,
        };
        let (scored, tape) = decoder.forward(batch.packed, batch.targets)?;
        let weighed = weigh(batch.rule, DEFAULT_CLAMP, &scored.logprob, &known);
        let weighed = weighed.map_err(|problem| match problem {
            Problem::Refused(error) => refused(error),
            Problem::Device(error) => refused(error),
        })?;
        let mut gradients = decoder.zero_gradients()?;
        decoder.backward(tape, &weighed.weight, &mut gradients)?;
        let mask = weighed.mask.to_vec1::<f64>().map_err(failed)?;
        let updated = Updated {
            log_probs: read(&scored.logprob)?,
            mask: mask.into_iter().map(|kept| kept == 1.0).collect(),
            loss: weighed.loss,
            stats: weighed.stats,
        };
        Ok((updated, gradients))
    }

    fn take(&self, gradients: Gradients) -> Result<DeviceGradients> {
        Ok(DeviceGradients::from_host(&gradients, &self.device)?)
    }

    fn step(&mut self, settings: &OptimizerSettings, gradients: &DeviceGradients) -> Result<f64> {
        let norm = self.policy.step(settings, gradients)?;
        self.policy.decoder.read_into(&mut self.decoder)?;
        Ok(norm)
    }

    fn norm(gradients: &DeviceGradients) -> Result<f64> {
        Ok(gradients.global_norm()?)
    }

    fn into_host(gradients: DeviceGradients) -> Result<Gradients> {
        Ok(gradients.to_host()?)
    }
}

fn read(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_vec1().map_err(failed)
}

fn failed(source: candle_core::Error) -> Error {
    let op = "reading from the device";
    vintage_model::Error::Tensor { op, source }.into()
}
