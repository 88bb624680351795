use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of optimizer updates done on a policy; version 0 is the starting policy.
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

/// Number of an optimizer update. Update N turns version N into version N + 1, so the first update
/// is 0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UpdateNumber(pub u64);

impl UpdateNumber {
    /// First update, which starts from version 0.
    pub const FIRST: Self = Self(0);

    /// Returns the update that starts from `version`.
    pub fn from_version(version: PolicyVersion) -> Self {
        Self(version.0)
    }

    /// Returns the update that made `version`; `None` for version 0, which no update made.
    pub fn that_made(version: PolicyVersion) -> Option<Self> {
        version.0.checked_sub(1).map(Self)
    }

    /// Returns the version from which the update starts.
    pub fn version_before(self) -> PolicyVersion {
        PolicyVersion(self.0)
    }

    /// Returns the version that the update makes.
    pub fn version_after(self) -> PolicyVersion {
        self.version_before().next()
    }

    /// Returns the update after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self::from_version(self.version_after())
    }

    /// Returns the update that the `batch` of a message names; `None` for −1, which means any
    /// update.
    pub fn from_batch(batch: i64) -> Option<Self> {
        u64::try_from(batch).ok().map(Self)
    }

    /// Returns the `batch` of a message that was sampled for this update.
    pub fn to_batch(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
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
    UpdateNumber,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_n_goes_from_version_n_to_the_next() {
        for number in [0, 1, 17] {
            let update = UpdateNumber(number);
            assert_eq!(update.version_before(), PolicyVersion(number));
            assert_eq!(update.version_after(), PolicyVersion(number + 1));
            assert_eq!(UpdateNumber::from_version(update.version_before()), update);
            assert_eq!(
                UpdateNumber::that_made(update.version_after()),
                Some(update)
            );
            assert_eq!(update.next().version_before(), update.version_after());
        }
        assert_eq!(UpdateNumber::that_made(PolicyVersion::ZERO), None);
        assert_eq!(UpdateNumber::FIRST.version_before(), PolicyVersion::ZERO);
    }

    #[test]
    fn an_update_is_written_as_its_number() {
        let counts = std::collections::BTreeMap::from([(UpdateNumber(4), UpdateNumber(5))]);
        let json = serde_json::to_string(&counts).unwrap();
        assert_eq!(json, r#"{"4":5}"#);
        assert_eq!(
            serde_json::from_str::<std::collections::BTreeMap<_, _>>(&json).unwrap(),
            counts
        );
    }

    #[test]
    fn a_batch_names_an_update_or_any() {
        for (batch, update) in [
            (-1, None),
            (0, Some(UpdateNumber(0))),
            (i64::MAX, Some(UpdateNumber(i64::MAX as u64))),
        ] {
            assert_eq!(UpdateNumber::from_batch(batch), update);
            assert_eq!(update.map_or(-1, UpdateNumber::to_batch), batch);
        }
    }
}
