use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    CONTROL_FORMAT,
    digest::Sha256,
    name::Name,
    training::Precision,
    unit::{PolicyVersion, UpdateNumber},
};

/// Announcement that a new policy version is in the store: the message of `<ns>.<run>.policies.v1`,
/// keyed by policy.
///
/// The learner writes it only after the weights it names are durable. The counts are cumulative, so
/// the newest record is enough to know them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyAnnouncement {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Policy that the version belongs to.
    pub policy: Name,
    /// Newest published version of the policy.
    pub version: PolicyVersion,
    /// Digest of the `model.safetensors` of `version`.
    pub weights_sha256: Sha256,
    /// Versions that a producer may fetch from the store, ascending: 0 and the newest. Older ones
    /// that are kept for evaluations are not listed.
    pub retained: Vec<PolicyVersion>,
    /// Number of groups trained since version 0.
    pub groups_trained: u64,
    /// Number of groups rejected since version 0, including those that no plan records yet.
    pub groups_rejected: u64,
    /// Number of rejected groups that have a producer's number; given only if some do not, such as
    /// messages that are not rollouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbered_rejections: Option<u64>,
    /// Number of rejected groups that were sampled for a specific future update, by update. The lead
    /// grants as many other slots for that update, or it would never fill.
    pub refused_batches: BTreeMap<UpdateNumber, u64>,
    /// Number of groups that one update consumes.
    pub groups_per_update: u64,
    /// Number of updates after which the learner ends, if it announces one. Producers sample
    /// nothing for later updates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// True once the lead learner has done its last update; producers then stop.
    pub finished: bool,
}

impl PolicyAnnouncement {
    /// Reads the payload of a message of the announcements topic.
    ///
    /// # Errors
    /// Reason for which this build cannot read it; the reader skips the message.
    pub fn read(payload: &[u8]) -> Result<Self, String> {
        let read = match serde_json::from_slice::<Self>(payload) {
            Ok(read) if read.format == CONTROL_FORMAT => return Ok(read),
            Ok(read) => format!("its format is {:?}", read.format),
            Err(error) => error.to_string(),
        };
        Err(format!("this build reads only {CONTROL_FORMAT}: {read}"))
    }

    /// Returns true if this announcement replaces `known`, of the same policy and read before it:
    /// it has a higher version, or repeats the version with newer counts.
    pub fn replaces(&self, known: Option<&Self>) -> bool {
        known.is_none_or(|known| known.version <= self.version)
    }
}

/// Contents of `manifest.json` beside a version's weights. Creating that file publishes the
/// version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsManifest {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Policy that the version belongs to.
    pub policy: Name,
    /// Version whose weights the manifest describes.
    pub version: PolicyVersion,
    /// SHA-256 of the version's `model.safetensors`, stored whole or as a delta.
    pub weights_sha256: Sha256,
    /// Length of `model.safetensors` in bytes.
    pub weights_bytes: u64,
    /// Type of the values in `model.safetensors` of a version that was trained; what is trained
    /// stays f32.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// Delta that is stored instead of `model.safetensors`; `None` if the file itself is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<WeightsDelta>,
    /// Adapters that are stored instead of `model.safetensors`; `None` if the file itself is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<WeightsAdapter>,
    /// Digests of the version's other files (config, tokenizer, chat template, adapters), by file
    /// name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Sha256>,
}

/// Low-rank adapters on another version's weights, stored as PEFT's `adapter_model.safetensors` and
/// `adapter_config.json`. The version's weights are those of `base` with the adapters merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsAdapter {
    /// Version that the adapters were trained on, which is stored whole.
    pub base: PolicyVersion,
    /// SHA-256 of the whole `model.safetensors` of `base`.
    pub base_sha256: Sha256,
}

/// Change from an earlier version's weights, stored as `model.delta`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsDelta {
    /// Version that the delta starts from, whole or a delta itself.
    pub base: PolicyVersion,
    /// SHA-256 of the whole `model.safetensors` of `base`.
    pub base_sha256: Sha256,
    /// Number of deltas, this one included, from the last version that is stored whole.
    pub steps: u64,
    /// SHA-256 of `model.delta`.
    pub sha256: Sha256,
    /// Length of `model.delta` in bytes.
    pub bytes: u64,
}
