//! Slots of the groups that were read: each is held by one group, and a second group of a slot is
//! refused. Each slot is reported to the granter once.

use std::collections::{BTreeMap, BTreeSet};

use vintage_control::{NumberSet, PlannedGroup, RecordId, RejectReason, SlotNumber, UpdateNumber};

use super::{Intake, Refused};

/// Slots whose group is trained or rejected, and the groups that hold the others. Checkpoints keep
/// only the former, because waiting groups are read again after a restart. A group is named by its
/// first record.
#[derive(Debug, Default)]
pub(super) struct Slots {
    finished: NumberSet,
    holders: BTreeMap<SlotNumber, RecordId>,
    held: BTreeMap<RecordId, SlotNumber>,
    /// Slots whose holder a plan refused as a second group, and whose first group was not read yet.
    vacant: BTreeSet<SlotNumber>,
    /// Slots seen since the last call of [`Slots::take_news`], with the update they are for.
    news: Vec<(SlotNumber, Option<UpdateNumber>)>,
}

impl Slots {
    pub(super) fn new(finished: NumberSet) -> Self {
        Self {
            finished,
            ..Self::default()
        }
    }

    /// Returns true if another group than the one of `record` has the slot.
    pub(super) fn is_taken(&self, slot: SlotNumber, record: RecordId) -> bool {
        let holder = self.holders.get(&slot);
        self.finished.contains(slot.0) || holder.is_some_and(|holder| *holder != record)
    }

    fn is_held_by(&self, slot: SlotNumber, record: RecordId) -> bool {
        self.holders.get(&slot) == Some(&record)
    }

    /// Makes the group of `record` the holder of a slot, and returns the group that held it until
    /// now. A finished slot keeps its group.
    pub(super) fn hold(
        &mut self,
        slot: SlotNumber,
        sampled_for: Option<UpdateNumber>,
        record: RecordId,
    ) -> Option<RecordId> {
        if self.finished.contains(slot.0) || self.is_held_by(slot, record) {
            return None;
        }
        let before = self.holders.insert(slot, record);
        self.held.insert(record, slot);
        let was_vacant = self.vacant.remove(&slot);
        match before {
            Some(before) => {
                self.held.remove(&before);
            }
            None if was_vacant => {}
            None => self.news.push((slot, sampled_for)),
        }
        before
    }

    /// Leaves a slot without a holder.
    fn vacate(&mut self, slot: SlotNumber) {
        if let Some(holder) = self.holders.remove(&slot) {
            self.held.remove(&holder);
            self.vacant.insert(slot);
        }
    }

    /// Notes that a group is trained or rejected.
    pub(super) fn finish(&mut self, records: &[RecordId]) {
        let first = records.first();
        if let Some(slot) = first.and_then(|first| self.held.remove(first)) {
            self.holders.remove(&slot);
            self.finished.insert(slot.0);
        }
    }

    pub(super) fn finished(&self) -> &NumberSet {
        &self.finished
    }

    pub(super) fn take_news(&mut self) -> Vec<(SlotNumber, Option<UpdateNumber>)> {
        std::mem::take(&mut self.news)
    }
}

/// Returns the detail of the refusal of a second group.
pub(super) fn filled_before(slot: SlotNumber) -> String {
    format!("slot {slot} was filled before, by another group")
}

/// Plans decide which group holds a slot, because a restart may read the partitions of the log in
/// another order than the process that made the plan.
impl Intake {
    /// Gives a slot to the group of `record`, which a plan trains or refuses for a fault of its
    /// own. The group that was read before it becomes a second one.
    pub(super) fn hand_slot(
        &mut self,
        slot: SlotNumber,
        sampled_for: Option<UpdateNumber>,
        record: RecordId,
    ) {
        let Some(before) = self.slots.hold(slot, sampled_for, record) else {
            return;
        };
        let is_it = |group: &PlannedGroup| group.records[0] == before;
        if let Some(place) = self.ready.iter().position(|group| is_it(&group.planned)) {
            self.refused.extend(
                self.ready
                    .remove(place)
                    .map(|group| Refused::second(group, slot)),
            );
        } else if let Some(refused) = self.refused_at(before) {
            refused.make_second(slot);
        }
    }

    /// Takes a slot from the group of `record`, which a plan refused as a second one, and gives it
    /// to the group that was refused in its favour, if one was read.
    pub(super) fn release_slot(&mut self, slot: SlotNumber, record: RecordId) {
        if !self.slots.is_held_by(slot, record) {
            return;
        }
        self.slots.vacate(slot);
        let second = |refused: &Refused| {
            refused.slot == Some(slot) && refused.rejection.reason == RejectReason::SlotTaken
        };
        let Some(place) = self.refused.iter().position(second) else {
            return;
        };
        let mut refused = self.refused.remove(place);
        self.slots
            .hold(slot, refused.sampled_for, refused.rejection.records[0]);
        match (refused.fault.take(), refused.kept.take()) {
            (None, Some(group)) => self.ready.push_back(*group),
            (fault, kept) => {
                if let Some(own) = fault {
                    (refused.rejection.reason, refused.rejection.detail) = own;
                }
                refused.kept = kept;
                self.refused.push(refused);
            }
        }
    }

    fn refused_at(&mut self, record: RecordId) -> Option<&mut Refused> {
        self.refused
            .iter_mut()
            .find(|refused| refused.rejection.records.first() == Some(&record))
    }
}
