//! Numbers of every producer that were seen and that are finished.

use std::collections::{BTreeMap, HashMap, VecDeque};

use vintage_control::{NumberSet, ProducerWindow, RejectReason};
use vintage_trajectory::GroupId;

/// Finished numbers whose groups are remembered: a copy comes soon after what it is a copy of. Plans
/// hold the older ones.
const REMEMBERED: usize = 1 << 16;

/// Returns true if a group refused for this reason shares its number with a group that came first.
pub(super) fn shares_number_with_earlier(reason: RejectReason) -> bool {
    matches!(reason, RejectReason::Duplicate | RejectReason::Renumbered)
}

/// Relation of a record's number to the numbers seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// New number.
    Not,
    /// Number seen before on this group, or on an unknown group.
    Copy,
    /// Number seen before on another group.
    Elsewhere,
}

/// Numbers that were seen and numbers that are finished, by producer. `seen` detects duplicates
/// while the learner runs. Checkpoints keep only `finished`, because waiting groups are read again
/// after a restart.
#[derive(Debug, Default)]
pub(super) struct Windows {
    seen: BTreeMap<String, NumberSet>,
    finished: BTreeMap<String, NumberSet>,
    groups: Groups,
}

/// Groups that were met under each seen number; empty where no header named a group.
#[derive(Debug, Default)]
struct Groups {
    by_number: HashMap<(String, u64), Vec<GroupId>>,
    /// Finished numbers in `by_number`, oldest first.
    finished: VecDeque<(String, u64)>,
}

impl Groups {
    fn note(&mut self, producer: &str, seq: u64, group: Option<GroupId>) {
        let groups = self
            .by_number
            .entry((producer.to_owned(), seq))
            .or_default();
        if let Some(group) = group.filter(|group| !groups.contains(group)) {
            groups.push(group);
        }
    }

    fn finish(&mut self, producer: &str, seq: u64) {
        let number = (producer.to_owned(), seq);
        if self.by_number.contains_key(&number) {
            self.finished.push_back(number);
        }
        while self.finished.len() > REMEMBERED {
            let oldest = self.finished.pop_front();
            oldest.and_then(|oldest| self.by_number.remove(&oldest));
        }
    }
}

impl Windows {
    pub(super) fn new(finished: &BTreeMap<String, ProducerWindow>) -> Self {
        let finished: BTreeMap<_, _> = finished
            .iter()
            .map(|(producer, window)| (producer.clone(), NumberSet::from(window)))
            .collect();
        Self {
            seen: finished.clone(),
            finished,
            groups: Groups::default(),
        }
    }

    /// Returns the relation of the number of a record of `group` to the numbers seen before.
    pub(super) fn met(&self, producer: &str, seq: u64, group: Option<GroupId>) -> Seen {
        if !self.has_seen(producer, seq) {
            return Seen::Not;
        }
        let known = self.groups.by_number.get(&(producer.to_owned(), seq));
        match (known, group) {
            (Some(known), Some(group)) if !known.is_empty() && !known.contains(&group) => {
                Seen::Elsewhere
            }
            _ => Seen::Copy,
        }
    }

    /// Returns true if the number was seen and its groups are not, or no longer, remembered.
    pub(super) fn needs_recall(&self, producer: &str, seq: u64) -> bool {
        let number = (producer.to_owned(), seq);
        self.has_seen(producer, seq) && !self.groups.by_number.contains_key(&number)
    }

    /// Restores the groups that had a finished number.
    pub(super) fn recall(&mut self, producer: &str, seq: u64, groups: &[GroupId]) {
        self.groups.note(producer, seq, None);
        for &group in groups {
            self.groups.note(producer, seq, Some(group));
        }
        self.groups.finish(producer, seq);
    }

    /// Notes that another group has the number, too.
    pub(super) fn see_also(&mut self, producer: &str, seq: u64, group: Option<GroupId>) {
        self.groups.note(producer, seq, group);
    }

    pub(super) fn has_seen(&self, producer: &str, seq: u64) -> bool {
        let numbers = self.seen.get(producer);
        numbers.is_some_and(|numbers| numbers.contains(seq))
    }

    /// Notes that the number was seen, and returns true if it is new.
    pub(super) fn see(&mut self, producer: &str, seq: u64, group: Option<GroupId>) -> bool {
        self.groups.note(producer, seq, group);
        entry(&mut self.seen, producer).insert(seq)
    }

    pub(super) fn finish(&mut self, producer: &str, seq: u64) {
        entry(&mut self.seen, producer).insert(seq);
        entry(&mut self.finished, producer).insert(seq);
        self.groups.finish(producer, seq);
    }

    /// Returns the count of finished numbers.
    pub(super) fn finished_count(&self) -> u64 {
        self.finished.values().map(NumberSet::len).sum()
    }

    pub(super) fn finished(&self) -> BTreeMap<String, ProducerWindow> {
        let windows = self.finished.iter();
        windows
            .map(|(producer, numbers)| (producer.clone(), ProducerWindow::from(numbers)))
            .collect()
    }
}

fn entry<'a>(windows: &'a mut BTreeMap<String, NumberSet>, producer: &str) -> &'a mut NumberSet {
    if !windows.contains_key(producer) {
        windows.insert(producer.to_owned(), NumberSet::default());
    }
    windows.get_mut(producer).expect("inserted above")
}
