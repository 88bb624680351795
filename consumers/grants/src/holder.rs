//! State of one producer, as the granter knows it.

use std::collections::BTreeMap;

use vintage_control::{GrantNumber, Heartbeat, Lease, NumberSet, SlotNumber};

use crate::{clock::Tick, view::ProducerView};

/// Share of the newest measurement in the mean time that a lease takes.
const WEIGHT: f64 = 0.2;

/// Longest time for a lease, in milliseconds, that is assumed of a producer without a measurement
/// of it. One that hangs and still reports keeps its leases for three times as long.
const LONGEST_GUESS: u64 = 200_000;

/// A producer, its leases, and how fast it fills them.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    /// Newest report; `None` for a producer that is known from an earlier lead's grants only.
    report: Option<Report>,
    /// Time at which the producer was last heard of.
    pub(crate) heard: Tick,
    pub(crate) leases: BTreeMap<SlotNumber, Held>,
    /// Slots taken away because the producer was silent; empty again once it reports.
    pub(crate) withdrawn: NumberSet,
    /// Number of leases that wait for their group to be published.
    open: u64,
    /// Number of leases whose groups were seen in the log.
    filled: u64,
    speed: Speed,
    /// True if the newest record of grants is not the state of `leases` any more.
    pub(crate) changed: bool,
    /// Reason for which the producer gets no leases.
    pub(crate) refused: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Report {
    number: u64,
    capacity: u64,
    leaving: bool,
}

/// A lease and its state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) lease: Lease,
    pub(crate) since: Tick,
    /// Number of the record that granted it.
    granted_in: GrantNumber,
    /// True if the producer says that the log has the group.
    pub(crate) published: bool,
}

/// Leases that a report ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Leases given back; others may have them.
    pub(crate) given_back: Vec<Lease>,
    /// Leases whose group got no reward.
    pub(crate) failed: Vec<Lease>,
}

/// Number of groups published and time spent holding leases, older ones counting less.
#[derive(Debug, Clone, Copy, Default)]
struct Speed {
    /// Mean time from a grant to the group in the log, in milliseconds.
    lease_ms: Option<f64>,
    /// Mean time from one group to the next while leases are held, in milliseconds.
    group_ms: Option<f64>,
    last: Option<Tick>,
}

impl Holder {
    pub(crate) fn new(now: Tick) -> Self {
        Self {
            report: None,
            heard: now,
            leases: BTreeMap::new(),
            withdrawn: NumberSet::default(),
            open: 0,
            filled: 0,
            speed: Speed::default(),
            changed: false,
            refused: None,
        }
    }

    /// Takes a report; returns `None` if it is older than a known one.
    pub(crate) fn hear(&mut self, now: Tick, heartbeat: &Heartbeat) -> Option<Ended> {
        if self
            .report
            .is_some_and(|known| heartbeat.number <= known.number)
        {
            return None;
        }
        self.heard = now;
        if !self.withdrawn.is_empty() {
            self.withdrawn = NumberSet::default();
            self.changed = true;
        }
        self.report = Some(Report {
            number: heartbeat.number,
            capacity: heartbeat.capacity,
            leaving: heartbeat.leaving,
        });
        let [held, failed, given_back] =
            [&heartbeat.held, &heartbeat.failed, &heartbeat.given_back].map(NumberSet::from);
        let mut ended = Ended::default();
        for held_now in self.leases.values_mut() {
            let slot = held_now.lease.slot.0;
            let read = heartbeat
                .grants_read
                .is_some_and(|read| read >= held_now.granted_in);
            if !read || held_now.published || held.contains(slot) {
                continue;
            }
            if failed.contains(slot) {
                ended.failed.push(held_now.lease);
            } else if given_back.contains(slot) {
                ended.given_back.push(held_now.lease);
            } else {
                held_now.published = true;
                self.open -= 1;
            }
        }
        for lease in ended.failed.iter().chain(&ended.given_back) {
            self.end(lease.slot);
        }
        Some(ended)
    }

    pub(crate) fn hold(&mut self, now: Tick, granted_in: GrantNumber, lease: Lease) {
        if self.leases.is_empty() {
            self.speed.last = Some(now);
        }
        let held = Held {
            lease,
            since: now,
            granted_in,
            published: false,
        };
        if self.leases.insert(lease.slot, held).is_none() {
            self.open += 1;
        }
        self.changed = true;
    }

    /// Returns the holder, whose state is now in a record.
    pub(crate) fn recorded(&mut self) -> &Self {
        self.changed = false;
        self
    }

    /// Ends a lease, whatever became of it.
    pub(crate) fn end(&mut self, slot: SlotNumber) -> Option<Held> {
        let held = self.leases.remove(&slot)?;
        self.open -= u64::from(!held.published);
        self.changed = true;
        Some(held)
    }

    /// Ends a lease of a producer that is silent.
    pub(crate) fn withdraw(&mut self, slot: SlotNumber) {
        if self.end(slot).is_some() {
            self.withdrawn.insert(slot.0);
        }
    }

    /// Ends a lease that its producer took too long for. From then on the producer is known to take
    /// at least that long: without that, one whose groups always take longer than the patience
    /// would never be waited for.
    pub(crate) fn give_up_waiting(&mut self, now: Tick, slot: SlotNumber) {
        if let Some(held) = self.end(slot) {
            let waited = now.since(held.since).min(LONGEST_GUESS) as f64;
            let known = self.speed.lease_ms.unwrap_or_default();
            self.speed.lease_ms = Some(known.max(waited));
        }
    }

    /// Notes that the group of one of the leases was seen in the log.
    pub(crate) fn fill(&mut self, now: Tick, slot: SlotNumber) {
        if let Some(held) = self.end(slot) {
            self.filled += 1;
            self.speed.note(now, held.since);
        }
    }

    /// Returns the state of the producer, for displays.
    pub(crate) fn view(&self, now: Tick, producer: &str) -> ProducerView {
        ProducerView {
            producer: producer.to_owned(),
            silent_ms: now.since(self.heard),
            capacity: self.report.map(|report| report.capacity),
            held: self.open,
            filled: self.filled,
            leaving: self.report.is_some_and(|report| report.leaving),
            refused: self.refused.clone(),
        }
    }

    /// Returns true if the producer was heard of within the last `silence` milliseconds.
    pub(crate) fn is_there(&self, now: Tick, silence: u64) -> bool {
        now.since(self.heard) <= silence
    }

    /// Returns how many more leases the producer can take, if it is to fill them within `in_time`
    /// milliseconds.
    pub(crate) fn wants(&self, in_time: Option<u64>) -> u64 {
        let Some(report) = self.report.filter(|report| !report.leaving) else {
            return 0;
        };
        if self.refused.is_some() {
            return 0;
        }
        let can_fill = match (in_time, self.speed.group_ms) {
            (Some(in_time), Some(group_ms)) => (in_time as f64 / group_ms).max(1.0) as u64,
            _ => u64::MAX,
        };
        report.capacity.min(can_fill).saturating_sub(self.open)
    }

    /// Returns the expected time, in milliseconds, after which one more lease would be filled.
    /// `usual` is the time from one group to the next of a producer that is not measured yet.
    pub(crate) fn expected_ms(&self, usual: f64) -> f64 {
        self.open as f64 * self.speed.group_ms.unwrap_or(usual)
    }

    pub(crate) fn group_ms(&self) -> Option<f64> {
        self.speed.group_ms
    }

    /// Returns the mean time from a grant to the group in the log, in milliseconds.
    pub(crate) fn lease_ms(&self) -> Option<f64> {
        self.speed.lease_ms
    }
}

impl Speed {
    fn note(&mut self, now: Tick, since: Tick) {
        let mean = |mean: Option<f64>, new: u64| {
            let new = (new as f64).max(0.01);
            Some(mean.map_or(new, |mean| mean + WEIGHT * (new - mean)))
        };
        self.lease_ms = mean(self.lease_ms, now.since(since));
        let before = self.last.map_or(since, |last| last.max(since));
        self.group_ms = mean(self.group_ms, now.since(before));
        self.last = Some(now);
    }
}
