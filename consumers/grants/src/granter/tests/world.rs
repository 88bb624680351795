//! A run on a virtual clock: producers that join, die, pause and come back, messages that are late,
//! repeated and out of order, a learner that restarts from its checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use vintage_control::{
    CONTROL_FORMAT, Grants, Heartbeat, Lease, NumberSet, PolicyVersion, ProducerWindow, Sha256,
    SlotNumber, UpdateNumber,
};

use super::{Granter, PATIENCE, Progress};
use crate::{
    clock::Tick,
    limits::{GateRule, Limits},
    slots::REPLACEMENT_STRIDE,
};

const UPDATES: u64 = 12;

#[derive(Debug, Clone, Copy)]
pub(super) struct WorldSettings {
    pub(super) seed: u64,
    pub(super) rule: GateRule,
    pub(super) groups_per_update: u64,
    pub(super) producers: usize,
    /// Number of troubles in a thousand steps.
    pub(super) trouble: u64,
}

/// A group in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group {
    lease: Lease,
    /// Version that sampled it.
    version: u64,
}

#[derive(Debug)]
struct Producer {
    id: String,
    reports: u64,
    /// Time per group.
    pace: u64,
    paused_until: u64,
    /// Newest grants, and the highest term of any.
    grants: Option<Grants>,
    term: u64,
    begun: BTreeSet<SlotNumber>,
    published: BTreeSet<SlotNumber>,
    /// Group being sampled, and the time at which it will be done.
    sampling: Option<(u64, Group)>,
}

pub(super) struct World {
    settings: WorldSettings,
    random: u64,
    time: u64,
    granter: Granter,
    leads: u64,
    /// Records of the grants topic, in order.
    grants: Vec<Grants>,
    /// Heartbeats on their way, with their times of arrival.
    heartbeats: Vec<(u64, Heartbeat)>,
    producers: Vec<Producer>,
    joined: usize,
    log: Vec<Group>,
    /// State of the learner: what it has read, and what its checkpoint would restore.
    read: usize,
    seen: BTreeSet<SlotNumber>,
    waiting: Vec<Group>,
    trained: Vec<Group>,
    rejected: usize,
    version: u64,
}

impl World {
    pub(super) fn new(settings: WorldSettings) -> Self {
        let mut world = Self {
            random: settings.seed | 1,
            time: 0,
            granter: granter(&settings, 0, &BTreeSet::new()),
            settings,
            leads: 0,
            grants: Vec::new(),
            heartbeats: Vec::new(),
            producers: Vec::new(),
            joined: 0,
            log: Vec::new(),
            read: 0,
            seen: BTreeSet::new(),
            waiting: Vec::new(),
            trained: Vec::new(),
            rejected: 0,
            version: 0,
        };
        for _ in 0..settings.producers {
            world.join();
        }
        world
    }

    /// Runs until the learner has done its updates, and checks the bound on the way.
    pub(super) fn run(mut self) {
        while self.version < UPDATES {
            assert!(
                self.time < 400_000,
                "the run does not end: {:?}",
                self.granter
            );
            self.time += 10;
            // Later on there is no trouble, so that the run must end.
            if self.time < 60_000 && self.draw(1000) < self.settings.trouble {
                self.trouble();
            }
            self.produce();
            self.deliver();
            self.learn();
            self.hold_the_bound();
        }
        self.account();
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below.max(1)
    }

    fn join(&mut self) {
        let pace = 10 + self.draw(200);
        self.joined += 1;
        self.producers.push(Producer {
            id: format!("p{}", self.joined),
            reports: 0,
            pace,
            paused_until: 0,
            grants: None,
            term: 0,
            begun: BTreeSet::new(),
            published: BTreeSet::new(),
            sampling: None,
        });
    }

    fn trouble(&mut self) {
        let any = self.draw(self.producers.len() as u64) as usize;
        match self.draw(5) {
            0 if self.producers.len() > 1 => drop(self.producers.remove(any)),
            1 => self.join(),
            2 => self.producers[any].paused_until = self.time + 100 + self.draw(8_000),
            3 => {
                // A report that was sent long ago comes again.
                let old = self.heartbeats.first().cloned();
                self.heartbeats.extend(old.map(|(at, old)| (at + 500, old)));
            }
            _ => self.restart(),
        }
    }

    /// Restarts the learner: what it read and did not train is read again, the rest it knows.
    fn restart(&mut self) {
        self.leads += 1;
        let waiting: BTreeSet<_> = self.waiting.iter().map(|group| group.lease.slot).collect();
        let done: BTreeSet<_> = self.seen.difference(&waiting).copied().collect();
        self.granter = granter(&self.settings, self.leads, &done);
        let newest: BTreeMap<_, _> = self
            .grants
            .iter()
            .map(|of| (of.producer.clone(), of))
            .collect();
        for group in &self.waiting {
            self.granter
                .seen(Tick(self.time), group.lease.slot, group.lease.batch);
        }
        for grants in newest.into_values() {
            self.granter.restore(Tick(self.time), grants);
        }
    }

    fn produce(&mut self) {
        let (time, version) = (self.time, self.version);
        for at in 0..self.producers.len() {
            let late = 10 * self.draw(20);
            let report = self.draw(10) == 0;
            let producer = &mut self.producers[at];
            if producer.paused_until > time {
                continue;
            }
            for grants in &self.grants {
                producer.take(grants);
            }
            if let Some((done, group)) = producer.sampling.filter(|(done, _)| *done <= time) {
                producer.sampling = None;
                producer.published.insert(group.lease.slot);
                self.log.push(group);
                let _ = done;
            }
            if producer.sampling.is_none() {
                producer.begin(time, version);
            }
            if report {
                self.heartbeats.push((time + late, producer.report()));
            }
        }
    }

    fn deliver(&mut self) {
        let time = self.time;
        let (arrived, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.heartbeats)
            .into_iter()
            .partition(|(at, _)| *at <= time);
        self.heartbeats = later;
        for (_, heartbeat) in arrived {
            self.granter.hear(Tick(time), &heartbeat);
        }
    }

    /// Reads the log, trains if there is a batch, and grants.
    fn learn(&mut self) {
        let now = Tick(self.time);
        while let Some(group) = self.log.get(self.read).copied() {
            self.read += 1;
            self.granter.seen(now, group.lease.slot, group.lease.batch);
            if self.seen.insert(group.lease.slot) {
                self.waiting.push(group);
            } else {
                self.rejected += 1;
            }
        }
        self.refuse_late();
        let size = self.settings.groups_per_update as usize;
        let next = self.version as i64;
        let mut mine: Vec<_> = self.waiting.clone();
        mine.retain(|group| group.lease.batch == -1 || group.lease.batch == next);
        mine.sort_by_key(|group| group.version);
        let enough = mine.len() >= size;
        if enough && self.draw(3) == 0 {
            mine.truncate(size);
            for group in mine {
                assert!(
                    !self
                        .trained
                        .iter()
                        .any(|of| of.lease.slot == group.lease.slot)
                );
                let bound = match self.settings.rule {
                    GateRule::Wait { max_staleness } => max_staleness,
                    GateRule::Exact { k, ages } => {
                        let size = self.settings.groups_per_update;
                        let place = group.lease.slot.0 % REPLACEMENT_STRIDE % size;
                        let age = ages.of_batch(k, size)[place as usize];
                        assert_eq!(group.version, self.version.saturating_sub(age), "{group:?}");
                        k
                    }
                };
                assert!(
                    self.version - group.version <= bound,
                    "{group:?} at {}",
                    self.version
                );
                self.waiting.retain(|of| *of != group);
                self.trained.push(group);
            }
            self.version += 1;
        }
        let progress = Progress {
            announced: PolicyVersion(self.version),
            next_update: UpdateNumber(self.version),
            waiting: self.waiting.len() as u64,
            refused: BTreeMap::new(),
            starving: !enough,
        };
        self.granter.advance(now, progress);
        self.grants.extend(self.granter.grant(now));
    }

    fn refuse_late(&mut self) {
        let version = self.version;
        let rule = self.settings.rule;
        let late = |group: &Group| match rule {
            GateRule::Wait { max_staleness } => group.version + max_staleness < version,
            GateRule::Exact { .. } => group.lease.batch < version as i64,
        };
        let before = self.waiting.len();
        self.waiting.retain(|group| !late(group));
        self.rejected += before - self.waiting.len();
    }

    fn hold_the_bound(&self) {
        let (GateRule::Wait {
            max_staleness: bound,
        }
        | GateRule::Exact { k: bound, .. }) = self.settings.rule;
        let waiting = self.waiting.len() as u64;
        let under_way = self.granter.outstanding() + waiting;
        let most = (bound + 1) * self.settings.groups_per_update;
        assert!(under_way <= most, "{under_way} of {most} at {}", self.time);
        // What really is under way: groups that wait, and groups being sampled whose slot nobody
        // filled yet. Those whose lease has ended, and was not granted again yet, come on top.
        let sampling = self
            .producers
            .iter()
            .filter_map(|of| of.sampling.map(|(_, of)| of));
        let sampling = sampling.filter(|group| !self.seen.contains(&group.lease.slot));
        let slots: BTreeSet<_> = sampling.map(|group| group.lease.slot).collect();
        let leased = slots
            .iter()
            .filter(|slot| self.granter.slots.is_taken(**slot));
        let real = leased.count() as u64 + waiting;
        assert!(real <= most, "{real} of {most} at {}", self.time);
    }

    /// Checks that every group of the log was trained, refused or waits, and that the trained ones
    /// are the first slots, but for those that wait or are leased.
    fn account(&self) {
        let unread = self.log.len() - self.read;
        assert_eq!(
            self.log.len(),
            self.trained.len() + self.rejected + self.waiting.len() + unread
        );
        let last = self
            .seen
            .last()
            .map_or(0, |slot| slot.0 % REPLACEMENT_STRIDE);
        let lost = (0..last).map(SlotNumber).find(|slot| {
            self.granter.slots.is_taken(*slot)
                && !self.seen.contains(slot)
                && !self.granter.leased.contains_key(slot)
        });
        assert_eq!(lost, None, "nobody samples it and nobody will");
        let trained: NumberSet = self.trained.iter().map(|of| of.lease.slot.0).collect();
        if let GateRule::Exact { .. } = self.settings.rule {
            let wanted = UPDATES * self.settings.groups_per_update;
            assert_eq!(trained.runs().collect::<Vec<_>>(), [(0, wanted - 1)]);
            assert!(self.trained.iter().enumerate().all(|(at, of)| {
                of.lease.batch == (at as u64 / self.settings.groups_per_update) as i64
            }));
        }
    }
}

impl Producer {
    /// Reads a record of the grants topic.
    fn take(&mut self, grants: &Grants) {
        if grants.number.term < self.term {
            return;
        }
        self.term = grants.number.term;
        let known = self.grants.as_ref();
        if grants.producer == self.id && known.is_none_or(|known| known.number < grants.number) {
            self.grants = Some(grants.clone());
        }
    }

    fn begin(&mut self, time: u64, version: u64) {
        let Some(grants) = &self.grants else { return };
        let next = grants
            .leases
            .iter()
            .find(|lease| !self.begun.contains(&lease.slot));
        let Some(&lease) = next.filter(|lease| lease.version.0 <= version) else {
            return;
        };
        self.begun.insert(lease.slot);
        let version = if lease.batch < 0 {
            version
        } else {
            lease.version.0
        };
        self.sampling = Some((time + self.pace, Group { lease, version }));
    }

    fn report(&mut self) -> Heartbeat {
        let leases = self.grants.iter().flat_map(|grants| &grants.leases);
        let held = leases
            .map(|lease| lease.slot)
            .filter(|slot| !self.published.contains(slot));
        let held: NumberSet = held.map(|slot| slot.0).collect();
        self.reports += 1;
        Heartbeat {
            format: CONTROL_FORMAT.to_owned(),
            policy: "lead".parse().unwrap(),
            producer: self.id.clone(),
            number: self.reports,
            grants_read: self.grants.as_ref().map(|grants| grants.number),
            capacity: 4,
            held: ProducerWindow::from(&held),
            failed: ProducerWindow::default(),
            given_back: ProducerWindow::default(),
            slots_sha256: Sha256([1; 32]),
            slots: None,
            leaving: false,
        }
    }
}

fn granter(settings: &WorldSettings, lead: u64, done: &BTreeSet<SlotNumber>) -> Granter {
    let limits = Limits {
        rule: settings.rule,
        groups_per_update: settings.groups_per_update,
        updates: UPDATES,
    };
    let done = done.iter().map(|slot| slot.0).collect();
    let policy = "lead".parse().unwrap();
    Granter::new(policy, format!("lead-{lead}"), limits, PATIENCE, done, None)
}
