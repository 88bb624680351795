//! The terms of the conservation identity.

use std::{collections::BTreeMap, ops::AddAssign};

use serde::Serialize;

/// What became of groups, for one learner; of all of them, or of those of one partition.
///
/// Each term is counted from its own record, so that the identity can fail:
/// produced = trained + rejected + in flight + lost + before start + expired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Groups that the log acknowledged to their producer, or that log or archive hold.
    pub produced: u64,
    /// Groups the archive holds, quarantined ones included.
    pub archived: u64,
    /// Messages the archive could not decode.
    pub quarantined: u64,
    /// Groups that plans train, each time one does.
    pub trained: u64,
    /// Groups that plans reject, by reason; second copies apart.
    pub rejected: BTreeMap<String, u64>,
    /// Groups that are there and in no plan yet.
    pub in_flight: u64,
    /// Groups acknowledged and nowhere.
    pub lost: u64,
    /// Messages that repeat a part of a group that was there before; legal, and on no side.
    pub duplicated: u64,
    /// Groups in no plan that stand before the place where this learner began to read.
    pub before_start: u64,
    /// Groups that retention deleted where there is no archive: nobody can tell what they were.
    pub expired: u64,
}

impl Counts {
    /// Whether the identity holds.
    pub fn balances(&self) -> bool {
        let there = self.in_flight + self.before_start + self.expired;
        self.produced == self.trained + self.rejections() + there + self.lost
    }

    /// Groups rejected, for whatever reason.
    pub fn rejections(&self) -> u64 {
        self.rejected.values().sum()
    }
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        self.produced += other.produced;
        self.archived += other.archived;
        self.quarantined += other.quarantined;
        self.trained += other.trained;
        for (reason, groups) in &other.rejected {
            *self.rejected.entry(reason.clone()).or_default() += groups;
        }
        self.in_flight += other.in_flight;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.before_start += other.before_start;
        self.expired += other.expired;
    }
}

/// A learner's counts, whole and by partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// All partitions together.
    #[serde(flatten)]
    pub total: Counts,
    /// Updates planned.
    pub updates: u64,
    /// Groups trained out of another run's archive, which are on no side of this log's identity.
    pub blended: u64,
    /// By partition, over all lives of the topic; `unknown` where only a producer's journal, or a
    /// hole in its numbers, tells of a group, and not where it was put.
    pub partitions: BTreeMap<String, Counts>,
}

impl Account {
    /// The counts of a partition, to be added to.
    pub(crate) fn of(&mut self, partition: Option<i32>) -> &mut Counts {
        let name = partition.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
        self.partitions.entry(name).or_default()
    }

    /// Adds the partitions up.
    pub(crate) fn close(mut self) -> Self {
        self.total = Counts::default();
        for counts in self.partitions.values() {
            self.total += counts;
        }
        self
    }
}
