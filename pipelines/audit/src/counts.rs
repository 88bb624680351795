//! Terms of the conservation identity, by learner and partition.

use std::{collections::BTreeMap, ops::AddAssign};

use serde::Serialize;

/// Counts of groups by fate, for one learner; over all groups or those of one partition.
///
/// Each term is counted from its own record, so that the identity can fail: produced = trained +
/// rejected + in flight + lost + before start + expired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Groups that the log acknowledged to their producer, or that log or archive hold.
    pub produced: u64,
    /// Groups that the archive holds, quarantined ones included.
    pub archived: u64,
    /// Messages that the archive could not decode.
    pub quarantined: u64,
    /// Groups trained, counted once for every plan that trains them.
    pub trained: u64,
    /// Groups rejected by plans, by reason; second copies are not counted.
    pub rejected: BTreeMap<String, u64>,
    /// Groups that log or archive hold and no plan names yet.
    pub in_flight: u64,
    /// Groups acknowledged and found nowhere.
    pub lost: u64,
    /// Messages that repeat a part of an earlier group; legal, and no term of the identity.
    pub duplicated: u64,
    /// Groups in no plan that precede the offsets at which this learner began to read.
    pub before_start: u64,
    /// Groups that retention deleted and no archive holds; nothing records their fate.
    pub expired: u64,
}

impl Counts {
    /// Returns true if the identity holds.
    pub fn balances(&self) -> bool {
        let there = self.in_flight + self.before_start + self.expired;
        self.produced == self.trained + self.rejections() + there + self.lost
    }

    /// Returns the number of rejected groups over all reasons.
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

/// Counts of a learner, in total and by partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GroupAccount {
    /// Sum over all partitions.
    #[serde(flatten)]
    pub total: Counts,
    /// Number of updates with a plan.
    pub updates: u64,
    /// Groups trained from another run's archive; no term of this log's identity.
    pub blended: u64,
    /// Uses of groups that earlier updates had trained; beside the identity, which counts every
    /// group once.
    pub reused: u64,
    /// Counts by partition, over all incarnations of the topic. Groups known only from a producer's
    /// journal or a gap in its numbers are under `unknown`, because their partition is.
    pub partitions: BTreeMap<String, Counts>,
}

impl GroupAccount {
    /// Returns the counts of a partition (`None` for `unknown`), to be added to.
    pub(crate) fn of(&mut self, partition: Option<i32>) -> &mut Counts {
        let name = partition.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
        self.partitions.entry(name).or_default()
    }

    /// Computes the total from the partitions.
    pub(crate) fn close(mut self) -> Self {
        self.total = Counts::default();
        for counts in self.partitions.values() {
            self.total += counts;
        }
        self
    }
}
