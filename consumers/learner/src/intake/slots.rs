//! Slots of the groups that were read: a second group of a slot is refused, and the granter is told
//! of each slot once.

use std::collections::BTreeMap;

use vintage_control::{NumberSet, RecordId, SlotNumber, UpdateNumber};

/// Slots that were seen, and those whose group is trained or rejected. Checkpoints keep only the
/// latter, because waiting groups are read again after a restart.
#[derive(Debug, Default)]
pub(super) struct Slots {
    seen: NumberSet,
    finished: NumberSet,
    /// Slot of each group that is neither trained nor rejected yet, by its first record.
    open: BTreeMap<RecordId, SlotNumber>,
    /// Slots seen since the last call of [`Slots::take_news`], with the update they are for.
    news: Vec<(SlotNumber, Option<UpdateNumber>)>,
}

impl Slots {
    pub(super) fn new(finished: NumberSet) -> Self {
        Self {
            seen: finished.clone(),
            finished,
            ..Self::default()
        }
    }

    /// Returns true if another group of the slot was seen before.
    pub(super) fn has_seen(&self, slot: SlotNumber) -> bool {
        self.seen.contains(slot.0)
    }

    /// Notes the first group of a slot.
    pub(super) fn see(
        &mut self,
        slot: SlotNumber,
        sampled_for: Option<UpdateNumber>,
        record: RecordId,
    ) {
        if self.seen.insert(slot.0) {
            self.open.insert(record, slot);
            self.news.push((slot, sampled_for));
        }
    }

    /// Notes that a group is trained or rejected.
    pub(super) fn finish(&mut self, records: &[RecordId]) {
        let first = records.first();
        if let Some(slot) = first.and_then(|first| self.open.remove(first)) {
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
