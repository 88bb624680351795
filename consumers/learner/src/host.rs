//! Updates on this machine's CPU, by the kernels of `infra/model`.

use std::{borrow::Cow, time::Instant};

use vintage_control::{Fingerprint, OptimizerSettings, Plan};
use vintage_losses::Weighed;
use vintage_model::{Decoder, Gradients, Scored};

use crate::{
    adamw::AdamW,
    engine::{Step, UpdateEngine, UpdateStats, compute, run},
    error::Result,
    fingerprint,
    pack::{Joined, PackedBatch},
    weigh::{weigh_batch, weights_of},
};

/// Engine that computes with the kernels on this machine's CPU.
#[derive(Debug)]
pub struct HostEngine {
    optimizer: AdamW,
    fingerprint: Fingerprint,
}

impl HostEngine {
    /// Creates an engine that continues with the moments of `optimizer`.
    pub fn new(optimizer: AdamW) -> Self {
        Self {
            optimizer,
            fingerprint: fingerprint::current(),
        }
    }
}

impl UpdateEngine for HostEngine {
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
        decoder.set_compute(compute(&plan.training));
        if plan.reuse.reset_optimizer {
            self.optimizer = AdamW::default();
        }
        let mut step = HostStep {
            decoder,
            optimizer: &mut self.optimizer,
            prox: None,
        };
        run(&mut step, plan, batches, outcome)
    }

    fn optimizer(&self) -> Result<Cow<'_, AdamW>> {
        Ok(Cow::Borrowed(&self.optimizer))
    }

    fn forget_parameters(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Step that changes decoder and optimizer in place.
struct HostStep<'a> {
    decoder: &'a mut Decoder,
    optimizer: &'a mut AdamW,
    /// Log-probs of the update's first pass: those of the policy that the update starts from.
    prox: Option<Vec<f32>>,
}

impl HostStep<'_> {
    fn weigh(
        &mut self,
        plan: &Plan,
        batches: &[PackedBatch],
        scored: &[Scored],
        outcome: &mut UpdateStats,
    ) -> Result<Weighed> {
        let new = scored.iter().map(|scored| &scored.logprob[..]);
        let new = new.collect::<Vec<_>>().concat();
        let prox = self.prox.get_or_insert_with(|| new.clone());
        let started = Instant::now();
        let known = Joined::of(batches, plan.algorithm.m2_scope);
        let (weighed, distance) = weigh_batch(plan, &known, &new, prox)?;
        outcome.weigh_seconds = started.elapsed().as_secs_f64();
        outcome.distance = distance;
        outcome.weights = Some(weights_of(plan, &known, &new)?);
        outcome.take(batches, scored, &weighed);
        Ok(weighed)
    }
}

impl Step for HostStep<'_> {
    type Gradients = Gradients;

    fn gradients(
        &mut self,
        plan: &Plan,
        batches: &[PackedBatch],
        outcome: &mut UpdateStats,
    ) -> Result<Gradients> {
        let mut gradients = Gradients::zeros_like(self.decoder.trainable())?;
        // A batch of one micro-batch needs one pass; otherwise the mask needs all log-probs first.
        if let [batch] = batches {
            let (scored, tape) = self.decoder.forward(&batch.packed, &batch.targets)?;
            let weighed = self.weigh(plan, batches, std::slice::from_ref(&scored), outcome)?;
            self.decoder
                .backward(tape, &weighed.weight, &mut gradients)?;
            return Ok(gradients);
        }
        let scored = batches
            .iter()
            .map(|batch| Ok(self.decoder.score(&batch.packed, &batch.targets)?))
            .collect::<Result<Vec<_>>>()?;
        let weighed = self.weigh(plan, batches, &scored, outcome)?;
        let mut from = 0;
        for batch in batches {
            let to = from + batch.targets.token.len();
            let (_, tape) = self.decoder.forward(&batch.packed, &batch.targets)?;
            self.decoder
                .backward(tape, &weighed.weight[from..to], &mut gradients)?;
            from = to;
        }
        Ok(gradients)
    }

    fn cosine(&self, gradients: &Gradients) -> Result<Option<f64>> {
        Ok(self.optimizer.cosine(gradients))
    }

    fn step(&mut self, settings: &OptimizerSettings, gradients: &Gradients) -> Result<f64> {
        self.optimizer
            .step(settings, self.decoder.trainable_mut(), gradients)
    }
}

impl UpdateStats {
    fn take(&mut self, batches: &[PackedBatch], scored: &[Scored], weighed: &Weighed) {
        self.loss = weighed.loss;
        self.stats = weighed.stats;
        let valid = batches.iter().flat_map(|batch| &batch.valid);
        let entropy = scored.iter().flat_map(|scored| &scored.entropy);
        self.entropy = mean(
            valid
                .zip(entropy)
                .filter(|(valid, _)| **valid)
                .map(|(_, entropy)| f64::from(*entropy)),
        );
    }
}

/// Mean of the values; 0 of none.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}
