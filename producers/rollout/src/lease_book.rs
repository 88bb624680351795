//! Leases of one producer: which it may begin, and what it reports of them. No IO and no clock.

use std::collections::{BTreeMap, BTreeSet};

use vintage_control::{
    CONTROL_FORMAT, Grants, Heartbeat, Lease, Name, NumberSet, PolicyVersion, ProducerWindow,
    Sha256, SlotNumber,
};

/// Groups that may start now, all sampled by one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Version that must sample the groups.
    pub(crate) version: PolicyVersion,
    /// Leases of the groups, by update and slot.
    pub(crate) leases: Vec<Lease>,
}

/// What became of a lease that the producer has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begun,
    Published,
    Failed,
}

/// Leases that a producer holds, and their state.
///
/// The producers topic and the grants topic hold complete records, so whatever is lost, repeated or
/// late on the way, the next record mends it.
#[derive(Debug)]
pub(crate) struct LeaseBook {
    policy: Name,
    producer: String,
    capacity: u64,
    slots_sha256: Sha256,
    /// Learner processes that have granted in this topic, in the order of their first records. Only
    /// the last one's records count.
    leads: Vec<String>,
    /// Number of the newest record for this producer by the last lead.
    read: Option<u64>,
    leases: BTreeMap<SlotNumber, Lease>,
    /// Leases that were begun, as long as they are leases or unfinished.
    begun: BTreeMap<SlotNumber, State>,
    refused: Option<String>,
    reports: u64,
    leaving: bool,
}

impl LeaseBook {
    /// Creates the book of a producer that can hold `capacity` leases at once.
    pub(crate) fn new(policy: Name, producer: String, capacity: u64, slots_sha256: Sha256) -> Self {
        Self {
            policy,
            producer,
            capacity,
            slots_sha256,
            leads: Vec::new(),
            read: None,
            leases: BTreeMap::new(),
            begun: BTreeMap::new(),
            refused: None,
            reports: 0,
            leaving: false,
        }
    }

    /// Takes a record of the grants topic; returns true if it concerns this producer and is new.
    pub(crate) fn take(&mut self, grants: Grants) -> bool {
        if grants.policy != self.policy {
            return false;
        }
        match self.leads.iter().position(|lead| *lead == grants.lead) {
            // A process that another has replaced: it was cut off and does not know yet.
            Some(at) if at + 1 < self.leads.len() => return false,
            Some(_) => {}
            None => {
                self.leads.push(grants.lead);
                self.read = None;
            }
        }
        let newer = self.read.is_none_or(|read| read < grants.number);
        if grants.producer != self.producer || !newer {
            return false;
        }
        self.read = Some(grants.number);
        self.leases = grants
            .leases
            .into_iter()
            .map(|lease| (lease.slot, lease))
            .collect();
        self.refused = grants.refused;
        let leases = &self.leases;
        self.begun
            .retain(|slot, state| *state == State::Begun || leases.contains_key(slot));
        true
    }

    /// Returns the reason for which the lead refuses this producer, if it does.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Begins up to `at_most` leases that one version samples. `newest` is the newest version
    /// announced; leases of later versions wait.
    pub(crate) fn begin(&mut self, newest: PolicyVersion, at_most: usize) -> Option<Admission> {
        let mut open: Vec<_> = self
            .leases
            .values()
            .filter(|lease| !self.begun.contains_key(&lease.slot) && lease.version <= newest)
            .copied()
            .collect();
        open.sort_unstable_by_key(|lease| (lease.batch, lease.slot));
        // A group for any update is sampled by the newest version.
        let version = |lease: &Lease| {
            if lease.batch < 0 {
                newest
            } else {
                lease.version
            }
        };
        let first = version(open.first()?);
        let leases: Vec<_> = open
            .into_iter()
            .take_while(|lease| version(lease) == first)
            .take(at_most)
            .collect();
        let begun = leases.iter().map(|lease| (lease.slot, State::Begun));
        self.begun.extend(begun);
        Some(Admission {
            version: first,
            leases,
        })
    }

    /// Notes that the log has acknowledged the group of a slot.
    pub(crate) fn published(&mut self, slot: SlotNumber) {
        self.finish(slot, State::Published);
    }

    /// Notes that the group of a slot got no reward.
    pub(crate) fn failed(&mut self, slot: SlotNumber) {
        self.finish(slot, State::Failed);
    }

    fn finish(&mut self, slot: SlotNumber, state: State) {
        if self.leases.contains_key(&slot) {
            self.begun.insert(slot, state);
        } else {
            self.begun.remove(&slot);
        }
    }

    /// Gives back what was not begun, and takes no more leases.
    pub(crate) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Returns the next report.
    pub(crate) fn report(&mut self) -> Heartbeat {
        let of = |wanted: &dyn Fn(Option<State>) -> bool| {
            let slots = self.leases.keys();
            let slots = slots.filter(|slot| wanted(self.begun.get(slot).copied()));
            let slots: BTreeSet<u64> = slots.map(|slot| slot.0).collect();
            ProducerWindow::from(&slots.into_iter().collect::<NumberSet>())
        };
        let leaving = self.leaving;
        let number = self.reports;
        let heartbeat = Heartbeat {
            format: CONTROL_FORMAT.to_owned(),
            policy: self.policy.clone(),
            producer: self.producer.clone(),
            number,
            grants_read: self.read,
            capacity: self.capacity,
            held: of(&|state| match state {
                None => !leaving,
                Some(state) => state == State::Begun,
            }),
            failed: of(&|state| state == Some(State::Failed)),
            given_back: of(&|state| state.is_none() && leaving),
            slots_sha256: self.slots_sha256,
            leaving,
        };
        self.reports += 1;
        heartbeat
    }
}

#[cfg(test)]
mod tests {
    use vintage_control::{
        CONTROL_FORMAT, Grants, Lease, NumberSet, PolicyVersion, ProducerWindow, Sha256, SlotNumber,
    };

    use super::LeaseBook;

    fn book() -> LeaseBook {
        let policy = "main".parse().unwrap();
        LeaseBook::new(policy, "p".to_owned(), 8, Sha256([1; 32]))
    }

    fn grants(lead: &str, number: u64, leases: &[(u64, i64, u64)]) -> Grants {
        Grants {
            format: CONTROL_FORMAT.to_owned(),
            policy: "main".parse().unwrap(),
            lead: lead.to_owned(),
            producer: "p".to_owned(),
            number,
            leases: leases
                .iter()
                .map(|&(slot, batch, version)| Lease {
                    slot: SlotNumber(slot),
                    batch,
                    version: PolicyVersion(version),
                })
                .collect(),
            refused: None,
        }
    }

    fn begin(book: &mut LeaseBook, newest: u64, at_most: usize) -> (u64, Vec<u64>) {
        let admission = book.begin(PolicyVersion(newest), at_most);
        admission.map_or((newest, Vec::new()), |of| {
            let slots = of.leases.iter().map(|lease| lease.slot.0);
            (of.version.0, slots.collect())
        })
    }

    fn numbers(window: &ProducerWindow) -> Vec<u64> {
        let set = NumberSet::from(window);
        set.runs().flat_map(|(first, last)| first..=last).collect()
    }

    #[test]
    fn a_lease_is_begun_once_and_by_the_newest_version() {
        let mut book = book();
        assert_eq!(begin(&mut book, 3, 2), (3, vec![]));
        assert!(book.take(grants("l1", 1, &[(4, -1, 3), (7, -1, 5), (2, -1, 3)])));
        // The announcement of version 5 is still on its way.
        assert_eq!(begin(&mut book, 4, 8), (4, vec![2, 4]));
        assert_eq!(begin(&mut book, 6, 8), (6, vec![7]));
        assert_eq!(begin(&mut book, 6, 8), (6, vec![]));
    }

    #[test]
    fn groups_of_one_call_are_sampled_by_one_version() {
        let mut book = book();
        book.take(grants(
            "l1",
            1,
            &[(8, 2, 1), (4, 1, 0), (5, 1, 0), (9, 2, 1)],
        ));
        assert_eq!(begin(&mut book, 1, 3), (0, vec![4, 5]));
        assert_eq!(begin(&mut book, 1, 1), (1, vec![8]));
    }

    #[test]
    fn reports_say_what_is_held_published_and_failed() {
        let mut book = book();
        assert_eq!(book.report().grants_read, None);
        book.take(grants(
            "l1",
            6,
            &[(0, -1, 0), (1, -1, 0), (2, -1, 0), (3, -1, 0)],
        ));
        begin(&mut book, 0, 3);
        book.published(SlotNumber(0));
        book.failed(SlotNumber(1));
        let report = book.report();
        assert_eq!((report.number, report.grants_read), (1, Some(6)));
        assert_eq!(numbers(&report.held), [2, 3]);
        assert_eq!(numbers(&report.failed), [1]);
        book.leave();
        let report = book.report();
        assert_eq!(
            (numbers(&report.held), numbers(&report.given_back)),
            (vec![2], vec![3])
        );
        assert!(report.leaving);
        // A lease that ended while its group was sampled is reported no more.
        book.take(grants("l1", 7, &[]));
        book.published(SlotNumber(2));
        let report = book.report();
        assert!(numbers(&report.held).is_empty() && numbers(&report.failed).is_empty());
    }

    #[test]
    fn only_the_last_lead_counts_and_its_newest_record() {
        let mut book = book();
        assert!(book.take(grants("l1", 5, &[(0, -1, 0)])));
        assert!(!book.take(grants("l1", 4, &[])));
        assert!(book.take(grants("l2", 1, &[(1, -1, 0)])));
        assert!(
            !book.take(grants("l1", 9, &[(2, -1, 0)])),
            "cut off, and back"
        );
        assert_eq!(begin(&mut book, 0, 8), (0, vec![1]));
        let other = Grants {
            producer: "q".to_owned(),
            ..grants("l3", 1, &[(3, -1, 0)])
        };
        assert!(!book.take(other));
        assert!(!book.take(grants("l2", 2, &[(4, -1, 0)])), "l3 grants now");
    }
}
