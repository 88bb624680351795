use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Sha256,
    name::Name,
    plan::KnownVersion,
    unit::{Incarnation, Offset, Partition, PolicyVersion, RecordId, UpdateNumber},
};

/// Point from which a restarted learner resumes reading one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionResume {
    /// Incarnation of the topic.
    pub incarnation: Incarnation,
    /// Partition within the topic.
    pub partition: Partition,
    /// Offset before which every record is trained or rejected.
    pub resume: Offset,
    /// Offsets at or after `resume` whose records are already trained or rejected, ascending.
    pub done: Vec<Offset>,
    /// CRC-32C of the payload of the record at `resume - 1`; `None` while nothing was consumed. The
    /// record is read again at start, so that a recreated or rewritten topic is detected.
    pub crc32c_before: Option<u32>,
    /// Offset of the first record not read yet, if that is not `resume`. On a recorded log, a
    /// restarted learner reads up to here before it chooses groups, so it makes the same choices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Offset>,
    /// Latest timestamp of the records before `resume`, in milliseconds since the epoch. It gives
    /// the partition's place in the single order in which the partitions of a recorded log are
    /// read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ms: Option<i64>,
}

impl PartitionResume {
    /// Returns a resume point at `offset` of a partition of which nothing was consumed.
    pub fn starting(incarnation: Incarnation, partition: Partition, offset: Offset) -> Self {
        Self {
            incarnation,
            partition,
            resume: offset,
            done: Vec::new(),
            crc32c_before: None,
            read: None,
            clock_ms: None,
        }
    }
}

/// Set of one producer's sequence numbers whose groups are trained or rejected: all below `next`,
/// those in `above`, and those in `runs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProducerWindow {
    /// Number below which every number is in the set.
    pub next: u64,
    /// Single numbers above `next` in the set, ascending.
    pub above: Vec<u64>,
    /// Ranges of numbers above `next` in the set, as (first, last), ascending. A learner that
    /// started in the middle of the log never sees the numbers before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<(u64, u64)>,
}

impl ProducerWindow {
    /// Returns true if the set has no numbers.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Contents of `checkpoints/<learner>/<version>/manifest.json`. Creating that file commits the
/// checkpoint.
///
/// The weights are those of the published version. The optimizer's moments are stored beside this
/// file in `optimizer-<first 16 digits of their digest>.safetensors` (f32). If adapters are
/// trained, the published weights have them merged in; the adapters themselves are stored in
/// `adapter-<first 16 digits of their digest>/`, a folder in PEFT's format. If weights are published
/// in bf16 and no adapters are trained, the f32 weights are stored in
/// `masters-<first 16 digits of their digest>.safetensors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointManifest {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Learner that wrote the checkpoint.
    pub learner: Name,
    /// Policy that the learner trains.
    pub policy: Name,
    /// Number of updates done.
    pub version: PolicyVersion,
    /// Digest of the weights of `version`.
    pub weights_sha256: Sha256,
    /// Digest of the file of the optimizer's moments.
    pub optimizer_sha256: Sha256,
    /// Number of optimizer steps done. An update that was skipped because it had no tokens takes no
    /// step.
    pub optimizer_steps: u64,
    /// Digest of `adapter_model.safetensors`, if adapters are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_sha256: Option<Sha256>,
    /// Digest of the file of the f32 weights, if the published ones are rounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masters_sha256: Option<Sha256>,
    /// Resume points of the run's own log, by partition.
    pub partitions: Vec<PartitionResume>,
    /// Sequence numbers whose groups are trained or rejected, by producer, for duplicate detection.
    pub producers: BTreeMap<String, ProducerWindow>,
    /// Granted slots whose groups are trained or rejected.
    #[serde(default, skip_serializing_if = "ProducerWindow::is_empty")]
    pub slots: ProducerWindow,
    /// Groups admitted from the log and not yet trained, in the order they were admitted.
    pub waiting: Vec<RecordId>,
    /// Number of groups trained since version 0.
    pub groups_trained: u64,
    /// Number of groups rejected since version 0, as plans record them.
    pub groups_rejected: u64,
    /// Newest versions seen of policies other than the learner's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<KnownVersion>,
    /// Refused groups that were sampled for a specific future update, counted by update.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused_batches: BTreeMap<UpdateNumber, u64>,
    /// Resume points of the archive that is blended in, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blended: Option<BlendedResume>,
}

/// Point from which a restarted learner resumes reading the archive that it blends in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlendedResume {
    /// Name of the archived topic, as in the `source` of plans.
    pub source: String,
    /// Resume points of the archive, by partition.
    pub partitions: Vec<PartitionResume>,
    /// Sequence numbers in the archive whose groups are trained or rejected, by producer, for
    /// duplicate detection.
    pub producers: BTreeMap<String, ProducerWindow>,
}
