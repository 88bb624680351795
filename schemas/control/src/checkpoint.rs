use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Incarnation, Name, Offset, Partition, PolicyVersion, RecordId, Sha256};

/// Where a learner goes on reading one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionResume {
    /// Life of the topic.
    pub incarnation: Incarnation,
    /// Partition within it.
    pub partition: Partition,
    /// Every record before this offset is trained or rejected.
    pub resume: Offset,
    /// Records at or after `resume` that are trained or rejected already, ascending.
    pub done: Vec<Offset>,
    /// CRC-32C of the payload of the record at `resume - 1`, re-read at start: a recreated or
    /// rewritten topic is found out. `None` while nothing was consumed.
    pub crc32c_before: Option<u32>,
}

/// Which sequence numbers of one producer were seen: all below `next`, and `above`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProducerWindow {
    /// Every number below this one was seen.
    pub next: u64,
    /// Numbers above `next` that were seen, ascending.
    pub above: Vec<u64>,
}

/// `checkpoints/<learner>/<version>/manifest.json`; creating it is what commits the checkpoint.
///
/// The weights are those of the published version; the optimizer's moments lie beside this
/// file in `optimizer.safetensors` (f32).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointManifest {
    /// [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Who wrote it.
    pub learner: Name,
    /// The lineage.
    pub policy: Name,
    /// Updates done.
    pub version: PolicyVersion,
    /// Digest of that version's weights.
    pub weights_sha256: Sha256,
    /// Digest of `optimizer.safetensors`.
    pub optimizer_sha256: Sha256,
    /// Optimizer steps done: an update that was skipped for want of tokens takes none.
    pub optimizer_steps: u64,
    /// Where to go on reading.
    pub partitions: Vec<PartitionResume>,
    /// Duplicate detection, by producer.
    pub producers: BTreeMap<String, ProducerWindow>,
    /// Groups taken from the log, admitted and not yet trained, in the order they were taken.
    pub waiting: Vec<RecordId>,
    /// Groups trained since version 0.
    pub groups_trained: u64,
    /// Groups rejected since version 0.
    pub groups_rejected: u64,
}
