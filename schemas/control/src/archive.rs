use serde::{Deserialize, Serialize};

use crate::unit::{Incarnation, Offset, Partition, PolicyVersion};

/// Key-value metadata in the footer of an archive file. The file itself is the commit record, so
/// the offsets that it covers are stored with the rows.
///
/// Every file's `base_offset` equals the `next_offset` of the file before it, so the chain has no
/// gaps. Offsets without a record (transaction markers, compaction) belong to the claimed range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveFooter {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Topic that the records came from.
    pub topic: String,
    /// Incarnation of the topic.
    pub incarnation: Incarnation,
    /// Partition that the records came from.
    pub partition: Partition,
    /// First offset claimed; the file is named after it.
    pub base_offset: Offset,
    /// First offset after the claimed range.
    pub next_offset: Offset,
    /// Number of records in the file, including quarantined ones.
    pub messages: u64,
    /// Number of trajectory rows in the file, without quarantined records.
    pub rows: u64,
    /// Number of records that could not be decoded. Each is kept as a row with a reason.
    pub quarantined: u64,
    /// Smallest policy version of any token; `None` if the file has no rows.
    pub min_policy_version: Option<PolicyVersion>,
    /// Largest policy version of any token; `None` if the file has no rows.
    pub max_policy_version: Option<PolicyVersion>,
    /// Earliest Kafka timestamp in milliseconds since the epoch; `None` if no record has one.
    pub min_timestamp_ms: Option<i64>,
    /// Latest Kafka timestamp in milliseconds since the epoch; `None` if no record has one.
    pub max_timestamp_ms: Option<i64>,
    /// Unique id of the writing process. A sink uses it to distinguish its own ambiguous commit
    /// from a lost race.
    pub writer: String,
    /// Reason for closing the file: `bytes`, `age`, `demand` or `shutdown`.
    pub roll_reason: String,
    /// Offsets at the front of the claimed range that retention deleted before they were archived.
    /// The operator accepted their loss when starting the sink; almost no file has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<OffsetRange>,
}

/// Half-open range of offsets of one partition, from `first` up to but not including `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffsetRange {
    /// First offset of the range.
    pub first: Offset,
    /// First offset after the range.
    pub next: Offset,
}
