//! Numbers of every producer that were seen and that are finished.

use std::collections::{BTreeMap, HashMap, VecDeque};

use vintage_control::ProducerWindow;
use vintage_trajectory::GroupId;

/// Set of numbers, as runs without gaps from first to last. Producers number without gaps, so one
/// run is the rule. A learner that started in the middle of the log has a run that begins there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Numbers(BTreeMap<u64, u64>);

impl Numbers {
    fn contains(&self, number: u64) -> bool {
        let before = self.0.range(..=number).next_back();
        before.is_some_and(|(_, last)| *last >= number)
    }

    /// Adds `number`, and returns true if it is new.
    fn insert(&mut self, number: u64) -> bool {
        if self.contains(number) {
            return false;
        }
        let after = number.checked_add(1).and_then(|next| self.0.remove(&next));
        let last = after.unwrap_or(number);
        match self.0.range_mut(..number).next_back() {
            Some((_, end)) if *end + 1 == number => *end = last,
            _ => {
                self.0.insert(number, last);
            }
        }
        true
    }

    fn of(window: &ProducerWindow) -> Self {
        let below = window.next.checked_sub(1).map(|last| (0, last));
        let single = window.above.iter().map(|&number| (number, number));
        let runs = below.into_iter().chain(single).chain(window.runs.clone());
        Self(runs.collect())
    }

    fn window(&self) -> ProducerWindow {
        let mut window = ProducerWindow::default();
        for (&first, &last) in &self.0 {
            match (first, last.checked_add(1)) {
                (0, Some(next)) => window.next = next,
                _ if first == last => window.above.push(first),
                _ => window.runs.push((first, last)),
            }
        }
        window
    }
}

/// Maximum number of finished numbers whose groups are remembered. A copy comes soon after the
/// original; plans hold the groups of older numbers.
const REMEMBERED: usize = 1 << 16;

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
    seen: BTreeMap<String, Numbers>,
    finished: BTreeMap<String, Numbers>,
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
            .map(|(producer, window)| (producer.clone(), Numbers::of(window)))
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
    pub(super) fn forgot(&self, producer: &str, seq: u64) -> bool {
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
        let runs = self.finished.values().flat_map(|numbers| &numbers.0);
        runs.map(|(first, last)| (last - first).saturating_add(1))
            .sum()
    }

    pub(super) fn finished(&self) -> BTreeMap<String, ProducerWindow> {
        let windows = self.finished.iter();
        windows
            .map(|(producer, numbers)| (producer.clone(), numbers.window()))
            .collect()
    }
}

fn entry<'a>(windows: &'a mut BTreeMap<String, Numbers>, producer: &str) -> &'a mut Numbers {
    if !windows.contains_key(producer) {
        windows.insert(producer.to_owned(), Numbers::default());
    }
    windows.get_mut(producer).expect("inserted above")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_hold_what_a_set_holds(numbers in prop::collection::vec(0_u64..40, 0..60)) {
            let (mut runs, mut set) = (Numbers::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(runs.insert(number), set.insert(number));
            }
            for number in 0..41 {
                prop_assert_eq!(runs.contains(number), set.contains(&number));
            }
            prop_assert_eq!(&Numbers::of(&runs.window()), &runs);
        }
    }

    #[test]
    fn a_start_in_the_middle_stays_one_run() {
        let mut numbers = Numbers::default();
        for number in 500_000..600_000 {
            assert!(numbers.insert(number));
        }
        let window = numbers.window();
        assert_eq!(window.runs, [(500_000, 599_999)]);
        assert_eq!((window.next, window.above.len()), (0, 0));
        assert!(numbers.insert(u64::MAX) && !numbers.insert(u64::MAX));
        assert_eq!(Numbers::of(&numbers.window()), numbers);
    }
}
