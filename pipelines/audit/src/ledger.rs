//! Comparison of one learner's plans with the inventory: the fate of each group, and every fault.
//!
//! Plans are added in order, each after the records that precede it, so that a checkpoint is
//! compared with exactly the plans it claims to follow. This module does no IO: facts in, findings
//! out.

mod checkpoint;
mod close;
mod plan;

use std::collections::{BTreeMap, HashMap};

use vintage_control::{LearnerStart, Offset, RecordId, Rejection, UpdateNumber};

use crate::{
    counts::GroupAccount,
    fate::Fate,
    findings::Findings,
    inventory::{
        Inventory,
        partition_records::{PartitionId, RecordState},
    },
};

/// Name of a group: its producer and the number given by it.
type Number = (String, u64);

/// Plans of one learner, compared with the inventory.
pub(crate) struct Ledger<'a> {
    inventory: &'a Inventory,
    name: String,
    /// Fate of each group, indexed as in the inventory.
    fates: Vec<Fate>,
    /// Partition in which the plan found each group, indexed as in the inventory.
    planned_partitions: Vec<Option<i32>>,
    /// Update whose plan names each record, plus 1, or 0 for none; by place and index of the
    /// record.
    used: BTreeMap<PartitionId, Vec<u32>>,
    /// Largest offset of each place that any plan so far names.
    reached: BTreeMap<PartitionId, i64>,
    /// Number of records of each place that were compared with a checkpoint.
    checked: BTreeMap<PartitionId, usize>,
    /// Number of each producer below which all numbers were compared with a checkpoint.
    windows: HashMap<String, u64>,
    /// Groups of which only a plan is left, because retention deleted them or their
    /// file cannot be read.
    only_planned: HashMap<Number, (Fate, Option<i32>)>,
    /// Offsets at which the learner began to read; empty if it began at the first records.
    start: BTreeMap<PartitionId, Offset>,
    account: GroupAccount,
    /// Groups trained, blended ones included; `rejected` are groups refused. Both are counted as
    /// checkpoints count them.
    trained: u64,
    rejected: u64,
    policy: Option<String>,
}

impl<'a> Ledger<'a> {
    /// Creates the empty ledger of a learner.
    pub(crate) fn new(inventory: &'a Inventory, name: &str) -> Self {
        let partitions = inventory.partitions().iter();
        let used = partitions
            .map(|(place, partition_records)| (*place, vec![0; partition_records.records().len()]));
        Self {
            name: name.to_owned(),
            fates: vec![Fate::Open; inventory.groups().len()],
            planned_partitions: vec![None; inventory.groups().len()],
            used: used.collect(),
            inventory,
            reached: BTreeMap::new(),
            checked: BTreeMap::new(),
            windows: HashMap::new(),
            only_planned: HashMap::new(),
            start: BTreeMap::new(),
            account: GroupAccount::default(),
            trained: 0,
            rejected: 0,
            policy: None,
        }
    }

    /// Sets the offsets at which the learner began to read; earlier records do not concern it.
    pub(crate) fn began_at(&mut self, start: &LearnerStart) {
        let partitions = start.partitions.iter();
        self.start = partitions
            .map(|at| ((at.incarnation, at.partition), at.offset))
            .collect();
    }

    /// Returns the fate of a group, given its index in the inventory.
    pub(crate) fn fate(&self, group: u32) -> Fate {
        self.fates[group as usize]
    }

    /// Returns the update whose plan names a record, given its index in its partition.
    pub(crate) fn used_by(&self, place: PartitionId, record: usize) -> Option<UpdateNumber> {
        let update = *self.used.get(&place)?.get(record)?;
        (update > 0).then(|| UpdateNumber(u64::from(update) - 1))
    }

    /// Returns true if a record precedes the offset at which this learner began to read.
    pub(crate) fn is_before_start(&self, record: RecordId) -> bool {
        let place = (record.incarnation, record.partition);
        self.start
            .get(&place)
            .is_some_and(|start| record.offset < *start)
    }

    /// Returns the policy that the plans train; `None` before the first plan.
    pub(crate) fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// Reports a breach if a rejection published to the run's topic is in no plan.
    pub(crate) fn mirrored(&self, rejection: &Rejection, findings: &mut Findings) {
        for &record in &rejection.records {
            let place = (record.incarnation, record.partition);
            if let RecordState::Present(at, _) = self.inventory.state_of(record)
                && self.used_by(place, at).is_none()
            {
                let reason = rejection.reason.as_str();
                findings.breach("rejections that no plan records", || {
                    format!(
                        "learner {} published that {record} was rejected ({reason}), and no plan of \
                         it says so",
                        self.name
                    )
                });
            }
        }
    }
}
