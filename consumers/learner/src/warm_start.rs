//! Supervised training that prepares a tiny model, so that reinforcement learning has something to
//! improve.

use serde::{Deserialize, Serialize};
use vintage_control::OptimizerSettings;
use vintage_model::{Decoder, Gradients, Packed, Targets};

use crate::{
    adamw::AdamW,
    error::{Error, Result},
};

/// Settings of the supervised training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WarmStart {
    /// Number of optimizer steps.
    pub steps: u64,
    /// Number of steps over which the learning rate rises linearly from 0.
    pub warmup: u64,
    /// Learning rate after the rise.
    pub lr: f64,
    /// Decoupled weight decay of every tensor.
    pub weight_decay: f64,
}

/// Prompt with its expected answer, as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demonstration {
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// Token ids of the answer.
    pub completion: Vec<u32>,
}

/// Trains `decoder` on `demonstrations(step)` by mean cross-entropy over completion tokens.
///
/// `progress` receives the number of steps done and the loss of the last one, in nats per token.
/// Training is deterministic: equal demonstrations give equal weights, bit for bit.
pub fn warm_start(
    decoder: &mut Decoder,
    settings: &WarmStart,
    mut demonstrations: impl FnMut(u64) -> Vec<Demonstration>,
    mut progress: impl FnMut(u64, f64),
) -> Result<()> {
    let mut optimizer = AdamW::default();
    for step in 0..settings.steps {
        let (packed, targets) = lay_out(&demonstrations(step));
        let count = targets.token.len();
        if count == 0 {
            return Err(Error::Settings(format!(
                "warm start step {step} has no completion token to learn from"
            )));
        }
        let (scored, tape) = decoder.forward(&packed, &targets)?;
        let loss = -scored
            .logprob
            .iter()
            .map(|&logprob| f64::from(logprob))
            .sum::<f64>()
            / count as f64;
        let mut gradients = Gradients::zeros_like(decoder.params())?;
        decoder.backward(tape, &vec![-1.0 / count as f32; count], &mut gradients)?;
        let rise = ((step + 1) as f64 / settings.warmup.max(1) as f64).min(1.0);
        let optimizer_settings = OptimizerSettings {
            lr: settings.lr * rise,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: settings.weight_decay,
            decay_vectors: true,
            grad_clip: f64::INFINITY,
        };
        let norm = optimizer.step(&optimizer_settings, decoder.params_mut(), &gradients)?;
        if !norm.is_finite() || !loss.is_finite() {
            return Err(Error::Settings(format!(
                "warm start step {step} gave a loss of {loss} and a gradient norm of {norm}: \
                 lower warm_start.lr"
            )));
        }
        progress(step + 1, loss);
    }
    Ok(())
}

fn lay_out(demonstrations: &[Demonstration]) -> (Packed, Targets) {
    let mut packed = Packed::default();
    let mut targets = Targets::default();
    for Demonstration { prompt, completion } in demonstrations {
        let positions = packed.push_row(prompt.iter().copied(), completion.iter().copied());
        targets.position.extend(positions);
        targets.token.extend_from_slice(completion);
    }
    targets.temperature = vec![1.0; targets.token.len()];
    (packed, targets)
}
