use serde::{Deserialize, Serialize};

use crate::{
    name::Name,
    unit::{Incarnation, Offset, Partition},
};

/// Contents of `starts/<learner>.json`: the offsets at which a learner began to read, decided once
/// before its first plan.
///
/// The learner does not account for earlier records: they count as neither trained, rejected nor
/// lost. Partitions that are not listed are read from their first record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnerStart {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Learner that begins to read.
    pub learner: Name,
    /// Start that was asked for: `earliest`, `latest`, `time=…`, `version=…` or `offset=…`.
    pub start: String,
    /// Offsets that the requested start resolved to.
    pub partitions: Vec<PartitionStart>,
}

/// First record of a partition that a learner reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionStart {
    /// Incarnation of the topic.
    pub incarnation: Incarnation,
    /// Partition within the topic.
    pub partition: Partition,
    /// First offset that the learner reads.
    pub offset: Offset,
}
