//! Earlier versions of the policy, from which a penalty measures the distance.

use std::collections::BTreeMap;

use vintage_control::{KlPenalty, PolicyVersion, Training};
use vintage_model::{Decoder, DecoderConfig, ParamSet};
use vintage_store::Weights;

use crate::{engine::compute, error::Result, pack::PackedBatch};

/// Decoders of the versions that the last penalty named, and of the one that its update started
/// from.
#[derive(Debug, Default)]
pub(crate) struct Anchors(BTreeMap<PolicyVersion, Decoder>);

impl Anchors {
    /// Adds a version by its published bytes. A replay has passed versions that the store no longer
    /// has.
    pub(crate) fn pass(
        &mut self,
        version: PolicyVersion,
        config: &DecoderConfig,
        bytes: &[u8],
    ) -> Result<()> {
        let params = ParamSet::from_safetensors(bytes, config)?;
        let decoder = Decoder::new(config.clone(), params)?;
        self.0.insert(version, decoder);
        Ok(())
    }

    /// Returns true if the version is there.
    pub(crate) fn has(&self, version: PolicyVersion) -> bool {
        self.0.contains_key(&version)
    }

    /// Loads the versions that `penalty` names and that are not there from the store. Drops all
    /// others but `current`.
    pub(crate) async fn load(
        &mut self,
        weights: &Weights,
        config: &DecoderConfig,
        training: &Training,
        penalty: &KlPenalty,
        current: PolicyVersion,
    ) -> Result<()> {
        let wanted = [penalty.reference, penalty.previous];
        self.0
            .retain(|version, _| wanted.contains(version) || *version == current);
        for version in wanted {
            if !self.has(version) {
                self.pass(version, config, &weights.fetch(version).await?)?;
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
            let score = |version| -> Result<Vec<f32>> {
                match self.0.get(version) {
                    Some(decoder) => Ok(decoder.score(&batch.packed, &batch.targets)?.logprob),
                    None => Ok(Vec::new()),
                }
            };
            let reference = score(&penalty.reference)?;
            batch.previous = if penalty.previous == penalty.reference {
                reference.clone()
            } else {
                score(&penalty.previous)?
            };
            batch.reference = reference;
        }
        Ok(())
    }
}
