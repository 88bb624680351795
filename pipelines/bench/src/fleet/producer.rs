//! Simulated producer: the program's lease book, and an engine that takes the time it is told.

use std::time::Duration;

use vintage_control::{Heartbeat, Lease, Name, PolicyVersion, Sha256, SlotNumber};
use vintage_rollout::{Admission, CALLS_HELD, LeaseBook};

use super::{
    clock::Time,
    settings::{Fleet, Rule},
};

/// State of a producer process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Runs,
    Stopped,
    Dead,
}

/// Permission to sample.
#[derive(Debug)]
enum Permission {
    Leases(Box<LeaseBook>),
    /// Number of groups begun, which the producer alone counts against the bound.
    Own {
        begun: u64,
        bound: u64,
        groups_per_update: u64,
    },
}

/// One producer process.
#[derive(Debug)]
pub(super) struct Producer {
    pub(super) id: String,
    pub(super) state: State,
    permission: Permission,
    concurrent: usize,
    pub(super) loaded: Option<PolicyVersion>,
    /// Groups that are being sampled, or whose weights are being loaded.
    pub(super) work: Option<Admission>,
    /// Number of the next group.
    pub(super) next: u64,
    /// Time of the next report.
    pub(super) report_at: Time,
    pub(super) begun: u64,
    pub(super) dropped: u64,
    joined: Time,
    ended: Option<Time>,
    sampling: Spell,
    loading: Spell,
}

/// Time spent on one activity.
#[derive(Debug, Clone, Copy, Default)]
struct Spell {
    since: Option<Time>,
    before: Duration,
}

impl Spell {
    fn end(&mut self, now: Time) {
        self.before = self.until(now);
        self.since = None;
    }

    fn until(&self, now: Time) -> Duration {
        let open = self.since.map_or(Duration::ZERO, |since| now.since(since));
        self.before + open
    }
}

impl Producer {
    pub(super) fn new(number: usize, fleet: &Fleet, policy: &Name, now: Time) -> Self {
        let id = format!("producer-{number}");
        let permission = match fleet.rule {
            Rule::Leases => {
                let capacity = (CALLS_HELD * fleet.concurrent_groups) as u64;
                let digest = Sha256([0; 32]);
                let book = LeaseBook::new(policy.clone(), id.clone(), capacity, digest);
                Permission::Leases(Box::new(book))
            }
            Rule::EachForItself => Permission::Own {
                begun: 0,
                bound: fleet.max_staleness,
                groups_per_update: fleet.groups_per_update,
            },
        };
        Self {
            id,
            state: State::Runs,
            permission,
            concurrent: fleet.concurrent_groups,
            loaded: None,
            work: None,
            next: 0,
            report_at: now,
            begun: 0,
            dropped: 0,
            joined: now,
            ended: None,
            sampling: Spell::default(),
            loading: Spell::default(),
        }
    }

    pub(super) fn book(&mut self) -> Option<&mut LeaseBook> {
        match &mut self.permission {
            Permission::Leases(book) => Some(book),
            Permission::Own { .. } => None,
        }
    }

    /// Begins the next groups, if the producer may and is not at work.
    pub(super) fn begin(&mut self, newest: PolicyVersion) -> Option<&Admission> {
        if self.work.is_some() || self.state != State::Runs {
            return None;
        }
        let admission = match &mut self.permission {
            Permission::Leases(book) => book.begin(newest, self.concurrent)?,
            Permission::Own {
                begun,
                bound,
                groups_per_update,
            } => {
                let room = ((newest.0 + *bound + 1) * *groups_per_update).saturating_sub(*begun);
                let groups = room.min(self.concurrent as u64);
                let lease = |number| Lease {
                    slot: SlotNumber(number),
                    batch: -1,
                    version: newest,
                };
                let leases: Vec<_> = (*begun..*begun + groups).map(lease).collect();
                *begun += groups;
                (groups > 0).then_some(Admission {
                    version: newest,
                    leases,
                })?
            }
        };
        self.begun += admission.leases.len() as u64;
        self.work = Some(admission);
        self.work.as_ref()
    }

    /// Returns the number of groups that are being sampled.
    pub(super) fn in_hand(&self) -> u64 {
        self.work
            .as_ref()
            .map_or(0, |work| work.leases.len() as u64)
    }

    /// Returns the slot under which a group is published.
    pub(super) fn slot(&self, lease: &Lease) -> Option<SlotNumber> {
        matches!(self.permission, Permission::Leases(_)).then_some(lease.slot)
    }

    /// Ends the process. What it has in hand is dropped.
    pub(super) fn die(&mut self, now: Time) {
        self.state = State::Dead;
        self.ended = Some(now);
        self.sampling.end(now);
        self.loading.end(now);
        self.dropped += self.in_hand();
        self.work = None;
    }

    pub(super) fn begin_loading(&mut self, now: Time) {
        self.loading.since = Some(now);
    }

    pub(super) fn end_loading(&mut self, now: Time) {
        self.loading.end(now);
    }

    pub(super) fn begin_sampling(&mut self, now: Time) {
        self.sampling.since = Some(now);
    }

    pub(super) fn end_sampling(&mut self, now: Time) {
        self.sampling.end(now);
    }

    /// Returns the time spent sampling until `now`.
    pub(super) fn sampling(&self, now: Time) -> Duration {
        self.sampling.until(now)
    }

    /// Returns the time spent loading weights until `now`.
    pub(super) fn loading(&self, now: Time) -> Duration {
        self.loading.until(now)
    }

    pub(super) fn report(&mut self) -> Option<Heartbeat> {
        self.book().map(LeaseBook::report)
    }

    /// Returns the time for which the process was there until `now`.
    pub(super) fn lifetime(&self, now: Time) -> Duration {
        self.ended.unwrap_or(now).since(self.joined)
    }
}
