//! Earlier versions of the policy, from which a penalty measures the distance.

use std::collections::BTreeMap;

use vintage_control::{KlPenalty, PolicyVersion, Training};
use vintage_model::{Decoder, DecoderConfig, ParamSet};
use vintage_store::Weights;

use crate::{engine::compute, error::Result, pack::PackedBatch};

/// Decoders of the versions that the last penalty named.
#[derive(Debug, Default)]
pub(crate) struct Anchors(BTreeMap<PolicyVersion, Decoder>);

impl Anchors {
    /// Loads the versions that `penalty` names from the store, and drops the others.
    pub(crate) async fn load(
        &mut self,
        weights: &Weights,
        config: &DecoderConfig,
        training: &Training,
        penalty: &KlPenalty,
    ) -> Result<()> {
        let wanted = [penalty.reference, penalty.previous];
        self.0.retain(|version, _| wanted.contains(version));
        for version in wanted {
            if !self.0.contains_key(&version) {
                let bytes = weights.fetch(version).await?;
                let params = ParamSet::from_safetensors(&bytes, config)?;
                self.0
                    .insert(version, Decoder::new(config.clone(), params)?);
            }
        }
        // The distance is between policies, not between precisions.
        for decoder in self.0.values_mut() {
            decoder.set_compute(compute(training));
        }
        Ok(())
    }

    /// Adds the log-probs of every target under both versions to `batches`.
    pub(crate) fn score(&self, penalty: &KlPenalty, batches: &mut [PackedBatch]) -> Result<()> {
        for batch in batches {
            let score = |version| match self.0.get(version) {
                Some(decoder) => Ok(decoder.score(&batch.packed, &batch.targets)?.logprob),
                None => Ok(Vec::new()),
            };
            let reference: Result<Vec<f32>> = score(&penalty.reference);
            let previous = if penalty.previous == penalty.reference {
                reference.clone()
            } else {
                score(&penalty.previous)
            };
            (batch.reference, batch.previous) = (reference?, previous?);
        }
        Ok(())
    }
}
