use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    CONTROL_FORMAT,
    name::Name,
    unit::{Incarnation, Offset, Partition, PolicyVersion},
};

/// Contents of `prunes/<N>.json`: what `vintage prune` chose to delete, written before it deletes
/// anything. N counts from 0.
///
/// What is named here was needed by no learner when the record was written. It may still be there
/// if the process was killed; the next `vintage prune --apply` deletes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneRecord {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Time of the choice, in milliseconds since the epoch.
    pub decided_at_ms: i64,
    /// Policy by which was chosen.
    pub asked: PrunePolicy,
    /// Versions without their weights, by policy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<Name, PrunedNumbers>,
    /// Checkpoints deleted, by learner.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checkpoints: BTreeMap<Name, PrunedNumbers>,
    /// First part of the archive of each partition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archive: Vec<PrunedFiles>,
    /// Numbers that the log had acknowledged, by producer, for producers whose journal was deleted:
    /// first and last of each range, ascending.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub journals: BTreeMap<String, Vec<(u64, u64)>>,
}

impl PruneRecord {
    /// Creates a record that names nothing yet, of a choice by `asked`.
    pub fn new(asked: PrunePolicy) -> Self {
        Self {
            format: CONTROL_FORMAT.to_owned(),
            decided_at_ms: 0,
            asked,
            versions: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            archive: Vec::new(),
            journals: BTreeMap::new(),
        }
    }

    /// Returns true if the record names nothing to delete.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
            && self.checkpoints.is_empty()
            && self.archive.is_empty()
            && self.journals.is_empty()
    }
}

/// Policy of one `vintage prune`: what its user allowed to be deleted. A class without a value is
/// left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrunePolicy {
    /// Number of newest versions of each policy that stay; older ones may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_versions: Option<u64>,
    /// Interval of older versions that stay nevertheless: multiples of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_every: Option<u64>,
    /// Number of newest checkpoints of each learner that stay; older ones may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_checkpoints: Option<u64>,
    /// Version before which groups must have trained, or been refused, for their archive files to
    /// go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_before: Option<PolicyVersion>,
    /// True if the journals of producers that have ended may go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub journals: bool,
    /// Age in seconds that an object must have reached to go, whatever else allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than_seconds: Option<u64>,
}

/// Versions whose weights, or whose checkpoint, were chosen to be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrunedNumbers {
    /// Versions, ascending.
    pub versions: Vec<PolicyVersion>,
    /// Number of objects.
    pub objects: u64,
    /// Size of the objects in bytes.
    pub bytes: u64,
}

/// Archive files of one partition that were chosen to be deleted: all before `next`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrunedFiles {
    /// Topic that was archived.
    pub topic: String,
    /// Incarnation of the topic.
    pub incarnation: Incarnation,
    /// Partition within the topic.
    pub partition: Partition,
    /// First offset that the archive still holds: that of the oldest file that stays.
    pub next: Offset,
    /// Number of files.
    pub objects: u64,
    /// Size of the files in bytes.
    pub bytes: u64,
}

/// Contents of `p=<partition>/<offset>.pruned` beside archive files: the archive of the partition
/// begins at that offset, because `vintage prune` deleted the files before it. Written before they
/// are deleted; of several the one with the largest offset holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneMark {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Record of the prune in the run's store, `prunes/<N>.json`.
    pub record: String,
    /// Files deleted.
    pub files: PrunedFiles,
}
