use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of optimizer updates done in a lineage; version 0 is the starting policy.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PolicyVersion(pub u64);

impl PolicyVersion {
    /// Version 0, the starting policy.
    pub const ZERO: Self = Self(0);

    /// Returns the version one update later.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Returns the staleness, in updates, of a token sampled by version `sampler` for a learner at
    /// this version. A token of a later version counts as fresh (0); refusing it is the intake's
    /// task.
    pub fn staleness_of(self, sampler: Self) -> Staleness {
        Staleness(self.0.saturating_sub(sampler.0))
    }
}

/// Learner's version minus a token's version, in optimizer updates (the paper's unit).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Staleness(pub u64);

/// Position in the order of a run's prompts. With the run's seed it fixes the prompt and the seeds
/// of one group.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SlotNumber(pub u64);

/// Number of times that a topic was created anew. The embedded broker's log ends with its process,
/// so every start of it is a new incarnation; a real topic keeps incarnation 0 until it is
/// recreated.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Incarnation(pub u32);

/// Number of a partition of a topic.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Partition(pub i32);

/// Offset of a record within a partition.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl Offset {
    /// Returns the offset after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Position of a record of the rollouts topic, unique forever within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordId {
    /// Incarnation of the topic.
    pub incarnation: Incarnation,
    /// Partition within the topic.
    pub partition: Partition,
    /// Offset within the partition.
    pub offset: Offset,
}

macro_rules! display_number {
    ($($name:ty),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}
display_number!(
    PolicyVersion,
    Staleness,
    SlotNumber,
    Incarnation,
    Partition,
    Offset
);

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "incarnation {} partition {} offset {}",
            self.incarnation, self.partition, self.offset
        )
    }
}
