use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Name, PolicyVersion, Sha256};

/// A new policy version is in the store: the message of `<ns>.<run>.policies.v1`, key = policy.
///
/// Written only after the weights it names are durable. The cumulative counts let every
/// producer's gate compute its capacity from one record, so that the gate cannot drift.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyAnnouncement {
    /// [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// The lineage.
    pub policy: Name,
    /// Its newest published version.
    pub version: PolicyVersion,
    /// Digest of that version's `model.safetensors`.
    pub weights_sha256: Sha256,
    /// Versions that can be fetched, ascending.
    pub retained: Vec<PolicyVersion>,
    /// Groups trained since version 0.
    pub groups_trained: u64,
    /// Groups rejected since version 0, those no plan records yet included.
    pub groups_rejected: u64,
    /// Of these, the groups that bear a producer's number, where that is not all of them. Only a
    /// numbered group took room at a producer's gate; foreign bytes give none back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbered_rejections: Option<u64>,
    /// Of these, groups sampled for one certain update that is still to come, by update: they
    /// must be sampled again, or that update never fills.
    pub refused_batches: BTreeMap<i64, u64>,
    /// Groups one update consumes.
    pub groups_per_update: u64,
    /// Updates the learner will have done when it ends, where it says so: nothing is sampled for
    /// later ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// The lead learner has done its last update: producers stop.
    pub finished: bool,
}

/// `manifest.json` beside a version's weights; creating it is what publishes the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsManifest {
    /// [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// The lineage.
    pub policy: Name,
    /// The version.
    pub version: PolicyVersion,
    /// Digest of `model.safetensors`.
    pub weights_sha256: Sha256,
    /// Length of `model.safetensors` in bytes.
    pub weights_bytes: u64,
    /// Digests of what else the version is made of, by file name: config, tokenizer, chat template.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Sha256>,
}
