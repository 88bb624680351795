use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of optimizer updates done in a lineage; version 0 is the starting policy.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PolicyVersion(pub u64);

impl PolicyVersion {
    /// The starting policy.
    pub const ZERO: Self = Self(0);

    /// The version one update later.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// How stale a token sampled by `sampler` is to a learner at this version, in updates.
    /// A token from the future counts as fresh: refusing it is the intake's business.
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

/// One life of a topic. The embedded broker's log dies with its process, so every start of it
/// is a new incarnation; a real topic keeps incarnation 0 until it is recreated.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Incarnation(pub u32);

/// A partition of a topic.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Partition(pub i32);

/// An offset within a partition.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl Offset {
    /// The offset that follows this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Where a record of the rollouts topic stands: unique for ever within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordId {
    /// Life of the topic.
    pub incarnation: Incarnation,
    /// Partition within it.
    pub partition: Partition,
    /// Offset within that.
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
display_number!(PolicyVersion, Staleness, Incarnation, Partition, Offset);

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "incarnation {} partition {} offset {}",
            self.incarnation, self.partition, self.offset
        )
    }
}
