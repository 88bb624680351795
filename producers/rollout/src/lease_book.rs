//! Leases of one producer: which it may begin, and what it reports of them. No IO and no clock.

use std::collections::{BTreeMap, BTreeSet};

use vintage_control::{
    CONTROL_FORMAT, GrantNumber, Grants, Heartbeat, Lease, Name, NumberSet, PolicyVersion,
    ProducerWindow, Sha256, SlotMeaning, SlotNumber,
};

/// Groups that may start now, all sampled by one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Version that must sample the groups.
    pub version: PolicyVersion,
    /// Leases of the groups, by update and slot.
    pub leases: Vec<Lease>,
}

/// State of a lease that the producer has begun.
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
pub struct LeaseBook {
    policy: Name,
    producer: String,
    capacity: u64,
    slots_sha256: Sha256,
    slots: Option<SlotMeaning>,
    /// Highest term of any record in the topic. A process of an earlier term was replaced, and may
    /// not know it yet.
    term: u64,
    /// Number of the newest record for this producer.
    read: Option<GrantNumber>,
    leases: BTreeMap<SlotNumber, Lease>,
    /// Leases that were begun, as long as they are leases or unfinished.
    begun: BTreeMap<SlotNumber, State>,
    refused: Option<String>,
    reports: u64,
    leaving: bool,
}

impl LeaseBook {
    /// Creates the book of a producer that can hold `capacity` leases at once.
    pub fn new(policy: Name, producer: String, capacity: u64, slots_sha256: Sha256) -> Self {
        Self {
            policy,
            producer,
            capacity,
            slots_sha256,
            slots: None,
            term: 0,
            read: None,
            leases: BTreeMap::new(),
            begun: BTreeMap::new(),
            refused: None,
            reports: 0,
            leaving: false,
        }
    }

    /// Reports the parts of the digest of slots too.
    #[must_use]
    pub fn with_slots(mut self, slots: SlotMeaning) -> Self {
        self.slots = Some(slots);
        self
    }

    /// Takes a record of the grants topic; returns true if it concerns this producer and is new.
    pub fn take(&mut self, grants: Grants) -> bool {
        if grants.policy != self.policy {
            return false;
        }
        if grants.number.term < self.term {
            return false;
        }
        self.term = grants.number.term;
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

    /// Returns the name of the producer.
    pub fn producer(&self) -> &str {
        &self.producer
    }

    /// Notes the term of a record of grants for another producer; see [`LeaseBook::take`].
    pub fn heed(&mut self, policy: &str, term: u64) {
        if policy == self.policy.as_str() {
            self.term = self.term.max(term);
        }
    }

    /// Returns the reason for which the lead refuses this producer, if it does.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Begins up to `at_most` leases that one version samples. `newest` is the newest version
    /// announced; leases of later versions wait.
    pub fn begin(&mut self, newest: PolicyVersion, at_most: usize) -> Option<Admission> {
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
            // Under mixed ages neighbours of a batch are of other versions; each load of one takes time.
            .filter(|lease| version(lease) == first)
            .take(at_most)
            .collect();
        let begun = leases.iter().map(|lease| (lease.slot, State::Begun));
        self.begun.extend(begun);
        Some(Admission {
            version: first,
            leases,
        })
    }

    /// Takes back the beginning of leases of which nothing was sampled.
    pub fn take_back(&mut self, leases: &[Lease]) {
        for lease in leases {
            self.begun.remove(&lease.slot);
        }
    }

    /// Notes that the log has acknowledged the group of a slot.
    pub fn published(&mut self, slot: SlotNumber) {
        self.finish(slot, State::Published);
    }

    /// Notes that the group of a slot got no reward.
    pub fn failed(&mut self, slot: SlotNumber) {
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
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// Returns the next report.
    pub fn report(&mut self) -> Heartbeat {
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
            slots: self.slots,
            leaving,
        };
        self.reports += 1;
        heartbeat
    }
}

#[cfg(test)]
mod tests;
