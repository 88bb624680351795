//! Starts of partitions between the rebalance that finds them and the assignment that uses them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use vintage_control::Partition;

use crate::recover::Start;

/// Starts of the partitions that a group assigns to this sink. The consumer finds them during a
/// rebalance; the sink takes them when it receives the assignment. By then a partition may have
/// been assigned, revoked and assigned again.
#[derive(Debug, Clone, Default)]
pub(super) struct Planned(Arc<Mutex<BTreeMap<Partition, VecDeque<Start>>>>);

impl Planned {
    fn held(&self) -> MutexGuard<'_, BTreeMap<Partition, VecDeque<Start>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, partition: Partition, start: Start) {
        self.held().entry(partition).or_default().push_back(start);
    }

    /// Takes the oldest start of a partition; assignments are received in order.
    pub(super) fn take(&self, partition: Partition) -> Option<Start> {
        self.held().get_mut(&partition)?.pop_front()
    }
}
