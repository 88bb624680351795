//! CPU kernels under comparison.

use vintage_control::OptimizerSettings;
use vintage_learner::AdamW;
use vintage_losses::Tokens;
use vintage_model::{Decoder, DecoderConfig, Gradients, Packed, ParamSet, SamplingParams, Targets};

use super::{Machine, Updated, Weighing, refused};
use crate::error::Result;

/// Policy in host memory.
pub(crate) struct HostMachine {
    decoder: Decoder,
    optimizer: AdamW,
}

impl HostMachine {
    pub(crate) fn new(decoder: Decoder) -> Self {
        Self {
            decoder,
            optimizer: AdamW::default(),
        }
    }
}

impl Machine for HostMachine {
    type Gradient = Gradients;

    fn again(&self) -> Result<Self> {
        Ok(Self::new(self.decoder.clone()))
    }

    fn config(&self) -> &DecoderConfig {
        self.decoder.config()
    }

    fn params(&self) -> &ParamSet {
        self.decoder.params()
    }

    fn logits(&self, batch: &Packed, positions: &[u32]) -> Result<Vec<f32>> {
        Ok(self.decoder.logits(batch, positions)?)
    }

    fn score(&self, batch: &Packed, targets: &Targets) -> Result<Vec<f32>> {
        Ok(self.decoder.score(batch, targets)?.logprob)
    }

    fn greedy(&self, prompts: &[Vec<u32>], len: usize) -> Result<Vec<Vec<u32>>> {
        let params = SamplingParams {
            temperature: 0.0,
            max_tokens: len,
            ..SamplingParams::default()
        };
        let seeds = vec![0; prompts.len()];
        let completions = self.decoder.generate(prompts, &params, &seeds)?;
        Ok(completions.into_iter().map(|done| done.tokens).collect())
    }

    fn update(&self, batch: &Weighing<'_>) -> Result<(Updated, Gradients)> {
        let (scored, tape) = self.decoder.forward(batch.packed, batch.targets)?;
        let tokens = Tokens::new(
            &scored.logprob,
            batch.behavior,
            batch.advantage,
            batch.valid,
        );
        let weighed = vintage_losses::weigh(batch.rule, &tokens).map_err(refused)?;
        let mut gradients = Gradients::zeros_like(self.decoder.params())?;
        self.decoder
            .backward(tape, &weighed.weight, &mut gradients)?;
        let updated = Updated {
            log_probs: scored.logprob,
            mask: weighed.mask,
            loss: weighed.loss,
            stats: weighed.stats,
        };
        Ok((updated, gradients))
    }

    fn take(&self, gradients: Gradients) -> Result<Gradients> {
        Ok(gradients)
    }

    fn step(&mut self, settings: &OptimizerSettings, gradients: &Gradients) -> Result<f64> {
        let params = self.decoder.params_mut();
        Ok(self.optimizer.step(settings, params, gradients)?)
    }

    fn norm(gradients: &Gradients) -> Result<f64> {
        Ok(gradients.global_norm())
    }

    fn into_host(gradients: Gradients) -> Result<Gradients> {
        Ok(gradients)
    }
}
