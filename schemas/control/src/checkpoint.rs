use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Incarnation, KnownVersion, Name, Offset, Partition, PolicyVersion, RecordId, Sha256};

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
    /// First record not read yet, where that is not `resume`. On a recorded log a restarted
    /// learner reads up to here before it chooses, and so chooses what it would have chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Offset>,
    /// Latest timestamp of the records before `resume`, milliseconds since the epoch: where the
    /// partition stands in the one order that the partitions of a recorded log are read in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ms: Option<i64>,
}

impl PartitionResume {
    /// Reading begins at `offset`; nothing of the partition was consumed.
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

/// Which sequence numbers of one producer were seen: all below `next`, and `above`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProducerWindow {
    /// Every number below this one was seen.
    pub next: u64,
    /// Numbers above `next` that were seen, ascending.
    pub above: Vec<u64>,
    /// Runs of numbers above `next` that were seen, first and last of each, ascending. A learner
    /// that started in the middle of the log never meets the numbers before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<(u64, u64)>,
}

/// `checkpoints/<learner>/<version>/manifest.json`; creating it is what commits the checkpoint.
///
/// The weights are those of the published version; the optimizer's moments lie beside this
/// file in `optimizer-<first 16 digits of their digest>.safetensors` (f32). Where adapters are
/// trained, the published weights hold them merged; they themselves lie in
/// `adapter-<first 16 digits of their digest>/`, a folder as PEFT writes it.
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
    /// Digest of the moments' file.
    pub optimizer_sha256: Sha256,
    /// Optimizer steps done: an update that was skipped for want of tokens takes none.
    pub optimizer_steps: u64,
    /// Digest of `adapter_model.safetensors`, if adapters are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_sha256: Option<Sha256>,
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
    /// Newest versions met of lineages other than the learner's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<KnownVersion>,
    /// Groups refused that were sampled for one certain update that is still to come, by update.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused_batches: BTreeMap<i64, u64>,
    /// Where the archive that is blended in goes on, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blended: Option<BlendedResume>,
}

/// Where a learner goes on in the archive it blends in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlendedResume {
    /// The archived topic, as plans name it in `source`.
    pub source: String,
    /// Where to go on reading.
    pub partitions: Vec<PartitionResume>,
    /// Duplicate detection, by producer.
    pub producers: BTreeMap<String, ProducerWindow>,
}
