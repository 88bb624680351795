use serde::{Deserialize, Serialize};

use crate::{Incarnation, Name, Offset, Partition};

/// `starts/<learner>.json`: where a learner began to read, decided once, before its first plan.
///
/// What came before is not its business: neither trained nor rejected nor lost. Partitions that
/// are not listed are read from their first record on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnerStart {
    /// [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// The learner.
    pub learner: Name,
    /// What was asked for: `earliest`, `latest`, `time=…`, `version=…` or `offset=…`.
    pub start: String,
    /// What that came to.
    pub partitions: Vec<PartitionStart>,
}

/// First record of a partition that a learner reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionStart {
    /// Life of the topic.
    pub incarnation: Incarnation,
    /// Partition within it.
    pub partition: Partition,
    /// First offset read.
    pub offset: Offset,
}
