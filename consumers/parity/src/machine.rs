//! Implementation under comparison: the CPU kernels, or the decoder on a device.

use candle_core::Device;
use vintage_control::OptimizerSettings;
use vintage_learner::AdamW;
use vintage_learner::device::{DevicePolicy, Known, Problem, weigh};
use vintage_m2po::{DEFAULT_CLAMP, Rule, Stats, Tokens};
use vintage_model::{
    Compute, Decoder, DeviceGradients, Gradients, ModelConfig, Packed, ParamSet, SamplingParams,
    Targets,
};

use crate::error::{Error, Result};

/// Policy that can be trained; AdamW's moments are empty before the first step.
pub(super) struct Machine {
    decoder: Decoder,
    optimizer: AdamW,
    device: Option<(Device, DevicePolicy)>,
}

/// Gradient in the memory where it was computed.
pub(super) enum Gradient {
    Host(Gradients),
    Device(DeviceGradients),
}

/// Batch that is to be weighed.
pub(super) struct Weighing<'a> {
    pub(super) packed: &'a Packed,
    pub(super) targets: &'a Targets,
    pub(super) known: Known<'a>,
    pub(super) rule: &'a Rule,
}

/// Results of an update's forward pass and rule.
pub(super) struct Updated {
    pub(super) log_probs: Vec<f32>,
    pub(super) mask: Vec<bool>,
    pub(super) loss: f64,
    pub(super) stats: Stats,
}

impl Machine {
    pub(super) fn new(decoder: Decoder, device: Option<&Device>) -> Result<Self> {
        let optimizer = AdamW::default();
        let on = |device: &Device| {
            let copy = DevicePolicy::new(&decoder, &optimizer, Compute::default(), device)?;
            Ok::<_, Error>((device.clone(), copy))
        };
        let device = device.map(on).transpose()?;
        Ok(Self {
            decoder,
            optimizer,
            device,
        })
    }

    /// Creates another machine with the current parameters and empty moments.
    pub(super) fn again(&self) -> Result<Self> {
        let device = self.device.as_ref().map(|(device, _)| device);
        Self::new(self.decoder.clone(), device)
    }

    pub(super) fn config(&self) -> &ModelConfig {
        self.decoder.config()
    }

    /// Returns the parameters after the last step.
    pub(super) fn params(&self) -> &ParamSet {
        self.decoder.params()
    }

    pub(super) fn logits(&self, batch: &Packed, positions: &[u32]) -> Result<Vec<f32>> {
        Ok(match &self.device {
            None => self.decoder.logits(batch, positions)?,
            Some((_, copy)) => copy.decoder.logits(batch, positions)?,
        })
    }

    pub(super) fn score(&self, batch: &Packed, targets: &Targets) -> Result<Vec<f32>> {
        match &self.device {
            None => Ok(self.decoder.score(batch, targets)?.logprob),
            Some((_, copy)) => read(&copy.decoder.score(batch, targets)?.logprob),
        }
    }

    /// Returns the `len` likeliest tokens after each prompt (greedy decoding).
    pub(super) fn greedy(&self, prompts: &[Vec<u32>], len: usize) -> Result<Vec<Vec<u32>>> {
        if self.device.is_none() {
            let params = SamplingParams {
                temperature: 0.0,
                max_tokens: len,
                ..SamplingParams::default()
            };
            let seeds = vec![0; prompts.len()];
            let completions = self.decoder.generate(prompts, &params, &seeds)?;
            return Ok(completions.into_iter().map(|done| done.tokens).collect());
        }
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

    /// Weighs a batch and computes the gradient of its loss.
    pub(super) fn update(&self, batch: &Weighing<'_>) -> Result<(Updated, Gradient)> {
        let Weighing {
            packed,
            targets,
            known,
            rule,
        } = batch;
        let refused = |why: String| Error::Oracle(format!("weighing the oracle's batch: {why}"));
        if let Some((_, copy)) = &self.device {
            let (scored, tape) = copy.decoder.forward(packed, targets)?;
            let weighed = weigh(rule, DEFAULT_CLAMP, &scored.logprob, known);
            let weighed = weighed.map_err(|problem| match problem {
                Problem::Refused(error) => refused(error.to_string()),
                Problem::Device(error) => refused(error.to_string()),
            })?;
            let mut gradients = copy.decoder.zero_gradients()?;
            copy.decoder
                .backward(tape, &weighed.weight, &mut gradients)?;
            let mask = weighed.mask.to_vec1::<f64>().map_err(failed)?;
            let updated = Updated {
                log_probs: read(&scored.logprob)?,
                mask: mask.into_iter().map(|kept| kept == 1.0).collect(),
                loss: weighed.loss,
                stats: weighed.stats,
            };
            return Ok((updated, Gradient::Device(gradients)));
        }
        let (scored, tape) = self.decoder.forward(packed, targets)?;
        let tokens = Tokens::new(
            &scored.logprob,
            known.behavior,
            known.advantage,
            known.valid,
        );
        let weighed =
            vintage_m2po::weigh(rule, &tokens).map_err(|error| refused(error.to_string()))?;
        let mut gradients = Gradients::zeros_like(self.decoder.params())?;
        self.decoder
            .backward(tape, &weighed.weight, &mut gradients)?;
        let updated = Updated {
            log_probs: scored.logprob,
            mask: weighed.mask,
            loss: weighed.loss,
            stats: weighed.stats,
        };
        Ok((updated, Gradient::Host(gradients)))
    }

    /// Copies a gradient to the memory where this machine computes.
    pub(super) fn take(&self, gradients: Gradients) -> Result<Gradient> {
        Ok(match &self.device {
            None => Gradient::Host(gradients),
            Some((device, _)) => Gradient::Device(DeviceGradients::from_host(&gradients, device)?),
        })
    }

    /// Takes one step of AdamW, and returns the norm of the gradient.
    pub(super) fn step(
        &mut self,
        settings: &OptimizerSettings,
        gradient: &Gradient,
    ) -> Result<f64> {
        match (&mut self.device, gradient) {
            (None, Gradient::Host(gradients)) => {
                let params = self.decoder.params_mut();
                Ok(self.optimizer.step(settings, params, gradients)?)
            }
            (Some((_, copy)), Gradient::Device(gradients)) => {
                let norm = copy.step(settings, gradients)?;
                copy.decoder.read_into(&mut self.decoder)?;
                Ok(norm)
            }
            _ => Err(Error::Oracle(
                "stepping: the gradient is not where the parameters are".to_owned(),
            )),
        }
    }
}

impl Gradient {
    pub(super) fn norm(&self) -> Result<f64> {
        Ok(match self {
            Self::Host(gradients) => gradients.global_norm(),
            Self::Device(gradients) => gradients.global_norm()?,
        })
    }

    pub(super) fn into_host(self) -> Result<Gradients> {
        Ok(match self {
            Self::Host(gradients) => gradients,
            Self::Device(gradients) => gradients.to_host()?,
        })
    }
}

fn read(tensor: &candle_core::Tensor) -> Result<Vec<f32>> {
    tensor.to_vec1().map_err(failed)
}

fn failed(source: candle_core::Error) -> Error {
    let op = "reading from the device";
    vintage_model::Error::Tensor { op, source }.into()
}
