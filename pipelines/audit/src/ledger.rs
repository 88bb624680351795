//! Comparison of one learner's plans with the books: the fate of each group, and every fault.
//!
//! Plans are added in order, each after the records that precede it, so that a checkpoint is
//! compared with exactly the plans it claims to follow. This module does no IO: facts in, findings
//! out.

mod checkpoint;
mod close;
mod plan;

use std::collections::{BTreeMap, HashMap};

use vintage_control::{LearnerStart, Offset, RecordId, RejectReason, Rejection, UpdateNumber};

pub(crate) use self::close::Lost;
use super::{
    books::{Books, Look, PartitionId},
    counts::Account,
    findings::Findings,
};

/// Fate of a group according to the plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No plan names the group.
    Open,
    /// Trained by the plan of this update.
    Trained(UpdateNumber),
    /// Rejected by the plan of this update, with the reason.
    Rejected(UpdateNumber, RejectReason),
}

/// Name of a group: its producer and the number given by it.
type Number = (String, u64);

/// Plans of one learner, compared with the books.
pub(crate) struct Ledger<'a> {
    books: &'a Books,
    name: String,
    /// Fate of each group, indexed as in the books.
    fates: Vec<Fate>,
    /// Partition in which the plan found each group, indexed as in the books.
    homes: Vec<Option<i32>>,
    /// Update whose plan names each record, plus 1, or 0 for none; by place and index of the
    /// record.
    used: BTreeMap<PartitionId, Vec<u32>>,
    /// Largest offset of each place that any plan so far names.
    reached: BTreeMap<PartitionId, i64>,
    /// Number of records of each place that were compared with a checkpoint.
    checked: BTreeMap<PartitionId, usize>,
    /// Number of each producer below which all numbers were compared with a checkpoint.
    windows: HashMap<String, u64>,
    /// Groups whose records only a plan still tells of, because retention deleted them or their
    /// file cannot be read.
    vouched: HashMap<Number, (Fate, Option<i32>)>,
    /// Offsets at which the learner began to read; empty if it began at the first records.
    start: BTreeMap<PartitionId, Offset>,
    account: Account,
    /// Groups trained, blended ones included; `rejected` are groups refused. Both are counted as
    /// checkpoints count them.
    trained: u64,
    rejected: u64,
    lineage: Option<String>,
}

impl<'a> Ledger<'a> {
    /// Creates the empty ledger of a learner.
    pub(crate) fn new(books: &'a Books, name: &str) -> Self {
        let partitions = books.partitions().iter();
        let used = partitions
            .map(|(place, partition_records)| (*place, vec![0; partition_records.records().len()]));
        Self {
            name: name.to_owned(),
            fates: vec![Fate::Open; books.groups().len()],
            homes: vec![None; books.groups().len()],
            used: used.collect(),
            books,
            reached: BTreeMap::new(),
            checked: BTreeMap::new(),
            windows: HashMap::new(),
            vouched: HashMap::new(),
            start: BTreeMap::new(),
            account: Account::default(),
            trained: 0,
            rejected: 0,
            lineage: None,
        }
    }

    /// Sets the offsets at which the learner began to read; earlier records do not concern it.
    pub(crate) fn began_at(&mut self, start: &LearnerStart) {
        let partitions = start.partitions.iter();
        self.start = partitions
            .map(|at| ((at.incarnation, at.partition), at.offset))
            .collect();
    }

    /// Returns the fate of a group, given its index in the books.
    pub(crate) fn fate(&self, group: u32) -> Fate {
        self.fates[group as usize]
    }

    /// Returns the update whose plan names a record, given its index on the partition_records.
    pub(crate) fn used_by(&self, place: PartitionId, record: usize) -> Option<UpdateNumber> {
        let used = *self.used.get(&place)?.get(record)?;
        used.checked_sub(1)
            .map(|update| UpdateNumber(u64::from(update)))
    }

    /// Returns true if a record precedes the offset at which this learner began to read.
    pub(crate) fn is_before_start(&self, record: RecordId) -> bool {
        let place = (record.incarnation, record.partition);
        self.start
            .get(&place)
            .is_some_and(|start| record.offset < *start)
    }

    /// Returns the lineage that the plans train; `None` before the first plan.
    pub(crate) fn lineage(&self) -> Option<&str> {
        self.lineage.as_deref()
    }

    /// Reports a breach if a rejection published to the run's topic is in no plan.
    pub(crate) fn mirrored(&self, rejection: &Rejection, findings: &mut Findings) {
        for &record in &rejection.records {
            let place = (record.incarnation, record.partition);
            if let Look::There(at, _) = self.books.look(record)
                && self.used_by(place, at).is_none()
            {
                let reason = rejection.reason.as_str();
                findings.breach("rejections that no plan records", || {
                    format!(
                        "learner {} told the run that {record} was rejected ({reason}), and no \
                         plan of it says so",
                        self.name
                    )
                });
            }
        }
    }
}
