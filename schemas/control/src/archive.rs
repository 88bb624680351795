use serde::{Deserialize, Serialize};

use crate::{Incarnation, Offset, Partition, PolicyVersion};

/// Key-value metadata in the footer of an archive file: the file is the commit record, so the
/// offsets it covers travel with the rows.
///
/// The chain `base_offset == previous next_offset` is gapless; offsets that hold no record
/// (transaction markers, compaction) fall inside the claimed range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveFooter {
    /// [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Topic the records came from.
    pub topic: String,
    /// Its life.
    pub incarnation: Incarnation,
    /// Partition the records came from.
    pub partition: Partition,
    /// First offset claimed; also the file's name.
    pub base_offset: Offset,
    /// First offset not claimed.
    pub next_offset: Offset,
    /// Records in the file, quarantined ones included.
    pub messages: u64,
    /// Trajectory rows in the file.
    pub rows: u64,
    /// Records that could not be decoded, kept as rows with a reason.
    pub quarantined: u64,
    /// Smallest policy version of any token; `None` without rows.
    pub min_policy_version: Option<PolicyVersion>,
    /// Largest policy version of any token.
    pub max_policy_version: Option<PolicyVersion>,
    /// Earliest Kafka timestamp, milliseconds since the epoch.
    pub min_timestamp_ms: Option<i64>,
    /// Latest Kafka timestamp, milliseconds since the epoch.
    pub max_timestamp_ms: Option<i64>,
    /// Unique to the writer's life: tells an ambiguous own commit from a lost race.
    pub writer: String,
    /// Why the file was closed: `bytes`, `age`, `demand` or `shutdown`.
    pub roll_reason: String,
    /// Offsets at the front of the claimed range that retention deleted before they were
    /// archived, which whoever started the sink accepted; almost no file has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<OffsetRange>,
}

/// Offsets of one partition from `first` on and before `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffsetRange {
    /// The first.
    pub first: Offset,
    /// The first not in it.
    pub next: Offset,
}
