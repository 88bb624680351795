use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use vintage_control::{
    CONTROL_FORMAT, GrantNumber, Grants, Heartbeat, Lease, Name, NumberSet, PolicyVersion, Sha256,
    SlotNumber, UpdateNumber,
};

use crate::{
    clock::Tick,
    holder::Holder,
    holders::Holders,
    limits::{GateRule, Limits},
    meaning::Meaning,
    slots::{Demand, Slots},
    view::ProducerView,
};

/// State of the learner, from which the number of leases follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Newest announced version.
    pub announced: PolicyVersion,
    /// Next update whose groups are not chosen yet.
    pub next_update: UpdateNumber,
    /// Number of groups of the log that wait to be chosen, incomplete ones included.
    pub waiting: u64,
    /// Exact rule: number of refused groups in batches that are still to be trained.
    pub refused: BTreeMap<UpdateNumber, u64>,
    /// True while the learner has nothing to do because groups are missing.
    pub starving: bool,
}

/// Times after which a producer's leases are granted to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Milliseconds without a report after which a producer counts as gone.
    pub silence: u64,
    /// Milliseconds after which, at the earliest, a lease is taken from a producer that is there,
    /// and then only while the learner starves.
    pub lease: u64,
}

/// Producers report every second; ten missing reports are more than a pause of its machine or a
/// change of leader in the broker.
impl Default for Patience {
    fn default() -> Self {
        Self {
            silence: 10_000,
            lease: 30_000,
        }
    }
}

/// Interval at which leases are to be checked while nothing is heard.
pub const CHECK_EVERY: Duration = Duration::from_millis(500);

/// A lease this many times older than the mean of its producer is taken away while the learner
/// starves.
const OVERDUE: f64 = 3.0;

/// Grants slots to producers, so that all of them together stay under one bound.
///
/// Under [`GateRule::Wait`] the number of leases and of waiting groups never exceeds
/// `(announced + max_staleness + 1 − next_update) · groups_per_update`. The learner takes the
/// groups of the oldest version first, so each is trained within `max_staleness` updates, or its
/// producer was too late and the learner refuses it.
///
/// Under [`GateRule::Exact`] batch b gets its own slots, each for the version max(0, b − age of its place), from
/// the announcement of that version on.
///
/// The granter does no IO and reads no clock. What it knows after a restart are the slots of the
/// groups that were trained or rejected, the leases of the earlier process ([`Granter::restore`]),
/// and the groups that the learner reads again ([`Granter::seen`]).
#[derive(Debug)]
pub struct Granter {
    policy: Name,
    lead: String,
    limits: Limits,
    patience: Patience,
    slots: Slots,
    /// Exact rule: ages of the groups of a batch by their places, the oldest first.
    ages: Vec<u64>,
    /// Holder of each leased slot; empty for a group that is in the log and not read yet.
    leased: BTreeMap<SlotNumber, String>,
    holders: Holders,
    /// Number of the last record of grants.
    number: GrantNumber,
    progress: Progress,
    /// True if a lease may be late: the learner went on since they were looked at.
    may_be_late: bool,
    /// Time since which the learner has starved.
    starving_since: Option<Tick>,
    /// Time of the last update, and the mean time of one in milliseconds.
    pace: (Option<Tick>, Option<f64>),
    meaning: Meaning,
    /// Reasons for which the learner refuses the groups of producers.
    distrusted: BTreeMap<String, String>,
}

/// Reason for which a lease ends before its group was seen.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The producer is silent.
    Silent,
    /// The learner starves, and the producer takes longer than it usually does.
    Overdue,
    /// No update could train the group any more.
    Late,
}

impl Granter {
    /// Creates the granter of the learner process `lead`. `done` are the slots whose groups are
    /// trained or rejected. Producers with another digest of slots than `slots_sha256` are refused;
    /// if it is `None`, the first producer's counts.
    pub fn new(
        policy: Name,
        lead: String,
        limits: Limits,
        patience: Patience,
        done: NumberSet,
        slots_sha256: Option<Sha256>,
    ) -> Self {
        Self {
            policy,
            lead,
            ages: limits.ages(),
            limits,
            patience,
            slots: Slots::new(limits.groups_per_update, done),
            leased: BTreeMap::new(),
            holders: Holders::default(),
            number: GrantNumber { term: 1, record: 0 },
            progress: Progress::default(),
            may_be_late: true,
            starving_since: None,
            pace: (None, None),
            meaning: Meaning::of_digest(slots_sha256),
            distrusted: BTreeMap::new(),
        }
    }

    /// Names seed and group size of the run, so that a producer with others is refused whether or not
    /// it comes first.
    #[must_use]
    pub fn of_run(mut self, seed: u64, group_size: u16) -> Self {
        self.meaning.own(seed, group_size);
        self
    }

    /// Takes a record of an earlier process of the learner, of which this one continues the terms.
    /// Must be called with every record before the first [`Granter::grant`].
    pub fn succeed(&mut self, grants: &Grants) {
        self.number.term = self.number.term.max(grants.number.term + 1);
    }

    /// Restores the leases that an earlier process of the learner had granted: the newest record of
    /// a producer. Leases of slots that are done, or seen, have ended.
    pub fn restore(&mut self, now: Tick, grants: &Grants) {
        if grants.policy != self.policy {
            return;
        }
        self.succeed(grants);
        self.holders.meet(now, &grants.producer);
        let leases = grants.leases.iter().copied();
        let free: Vec<_> = leases
            .filter(|lease| self.slots.mark(lease.slot, lease.batch))
            .collect();
        for lease in &free {
            self.leased.insert(lease.slot, grants.producer.clone());
        }
        self.may_be_late = true;
        self.holders.change(&grants.producer, |holder| {
            holder.withdrawn = (&grants.withdrawn).into();
            for lease in free {
                holder.hold(now, grants.number, lease);
            }
            // The producer has to learn that this process grants now.
            holder.changed = true;
        });
    }

    /// Notes a group of a slot that the log holds and the learner has not read yet.
    pub fn logged(&mut self, slot: SlotNumber, batch: i64) {
        if self.slots.mark(slot, batch) {
            self.leased.insert(slot, String::new());
        }
    }

    /// Takes a report of a producer.
    pub fn hear(&mut self, now: Tick, heartbeat: &Heartbeat) {
        if heartbeat.policy != self.policy {
            return;
        }
        let Some(ended) = self.holders.hear(now, heartbeat) else {
            return;
        };
        self.outdo(heartbeat);
        let refused = self.meaning.refusal(heartbeat);
        let distrusted = self.distrusted.get(&heartbeat.producer);
        let refused = distrusted.cloned().or(refused);
        self.holders.change(&heartbeat.producer, |holder| {
            holder.changed |= refused != holder.refused;
            holder.refused = refused;
        });
        for lease in ended.given_back {
            self.leased.remove(&lease.slot);
            self.slots.free(lease.slot, lease.batch);
        }
        for lease in ended.failed {
            self.leased.remove(&lease.slot);
            self.slots.replace(lease.batch);
        }
    }

    /// Begins a term above the one that a producer has read, and repeats every producer's leases in
    /// it. Another process under the learner's name granted in that term; if it has lost the race for
    /// plans since and ended, its records would otherwise hide those of this process for ever.
    fn outdo(&mut self, heartbeat: &Heartbeat) {
        let read = heartbeat.grants_read.map_or(0, |read| read.term);
        if read <= self.number.term {
            return;
        }
        self.number.term = read + 1;
        let producers: Vec<_> = self.holders.iter().map(|(name, _)| name.clone()).collect();
        for producer in producers {
            self.holders
                .change(&producer, |holder| holder.changed = true);
        }
    }

    /// Notes that the learner has read a group of a slot, whoever sampled it and whatever becomes
    /// of it.
    pub fn seen(&mut self, now: Tick, slot: SlotNumber, batch: i64) {
        if let Some(producer) = self.leased.remove(&slot) {
            self.holders
                .change(&producer, |holder| holder.fill(now, slot));
        } else {
            self.slots.mark(slot, batch);
        }
    }

    /// Refuses a producer whose groups the learner refuses, whatever they are: it gets no more leases,
    /// and the reason.
    pub fn refuse(&mut self, producer: &str, reason: String) {
        self.holders.change(producer, |holder| {
            holder.refused = Some(reason.clone());
            holder.changed = true;
        });
        self.distrusted.insert(producer.to_owned(), reason);
    }

    /// Notes how far the learner is.
    pub fn advance(&mut self, now: Tick, progress: Progress) {
        let done = progress
            .next_update
            .0
            .saturating_sub(self.progress.next_update.0);
        if done > 0 {
            if let Some(last) = self.pace.0 {
                let each = now.since(last) as f64 / done as f64;
                self.pace.1 = Some(self.pace.1.map_or(each, |mean| mean + 0.2 * (each - mean)));
            }
            self.pace.0 = Some(now);
            self.may_be_late = true;
            self.slots.forget_below(progress.next_update);
        }
        self.starving_since = progress
            .starving
            .then(|| self.starving_since.unwrap_or(now));
        self.progress = progress;
    }

    /// Ends leases that are overdue, grants what is free, and returns the records that changed.
    pub fn grant(&mut self, now: Tick) -> Vec<Grants> {
        self.expire(now);
        self.number.record += 1;
        self.distribute(now);
        let (policy, lead, number) = (&self.policy, &self.lead, self.number);
        let silence = self.patience.silence;
        self.holders
            .record(now, silence, |producer, holder| Grants {
                format: CONTROL_FORMAT.to_owned(),
                policy: policy.clone(),
                lead: lead.clone(),
                producer: producer.clone(),
                number,
                leases: holder.leases.values().map(|held| held.lease).collect(),
                withdrawn: (&holder.withdrawn).into(),
                refused: holder.refused.clone(),
            })
    }

    /// Returns the state of every producer that holds leases or was heard of lately.
    pub fn producers(&self, now: Tick) -> Vec<ProducerView> {
        let holders = self.holders.iter();
        holders
            .map(|(producer, holder)| holder.view(now, producer))
            .collect()
    }

    /// Returns the number of leases whose groups were not seen yet.
    pub fn outstanding(&self) -> u64 {
        self.leased.len() as u64
    }

    /// Returns the number of leases that may be granted now under the waiting rule.
    fn capacity(&self, max_staleness: u64) -> u64 {
        let Progress {
            announced,
            next_update,
            waiting,
            ..
        } = self.progress;
        let end = announced.0.saturating_add(max_staleness).saturating_add(1);
        let updates = end.min(self.limits.updates).saturating_sub(next_update.0);
        let groups = updates.saturating_mul(self.limits.groups_per_update);
        groups.saturating_sub(waiting + self.outstanding())
    }

    /// Ends the leases of producers that fell silent, those that are late, and, while the learner
    /// starves, those that are overdue. Looks at all leases only where one of the latter may be.
    fn expire(&mut self, now: Tick) {
        let silence = self.patience.silence;
        let mut ended = Vec::new();
        for producer in self.holders.fall_silent(now, silence) {
            let leases = self.holders.get(&producer).map(|holder| &holder.leases);
            let held = leases.into_iter().flat_map(BTreeMap::values);
            let unpublished = held.filter(|held| !held.published);
            ended.extend(unpublished.map(|held| (held.lease, End::Silent)));
        }
        let starving = self.starving_since.map_or(0, |since| now.since(since));
        let starves = starving > self.patience.lease;
        if starves || self.may_be_late {
            // One that is not measured yet may be as slow as any other.
            let known = self
                .holders
                .iter()
                .filter_map(|(_, holder)| holder.lease_ms());
            let slowest = known.fold(0.0, f64::max);
            for (_, holder) in self.holders.iter() {
                let mean = holder.lease_ms().unwrap_or(slowest);
                let patience = self.patience.lease.max((OVERDUE * mean) as u64);
                for held in holder.leases.values() {
                    if starves && now.since(held.since) > patience {
                        ended.push((held.lease, End::Overdue));
                    } else if self.is_late(&held.lease) {
                        ended.push((held.lease, End::Late));
                    }
                }
            }
            self.may_be_late = false;
        }
        for (lease, end) in ended {
            // One that was silent and late is ended once.
            if let Some(producer) = self.leased.remove(&lease.slot) {
                self.holders.change(&producer, |holder| match end {
                    End::Silent => holder.withdraw(lease.slot),
                    End::Overdue => holder.give_up_waiting(now, lease.slot),
                    End::Late => {
                        holder.end(lease.slot);
                    }
                });
                self.slots.free(lease.slot, lease.batch);
            }
        }
    }

    /// Returns true if a group sampled by the version of the lease could be trained by no update
    /// any more.
    fn is_late(&self, lease: &Lease) -> bool {
        match (self.limits.rule, u64::try_from(lease.batch)) {
            (GateRule::Wait { max_staleness }, _) => {
                lease.version.0.saturating_add(max_staleness) < self.progress.next_update.0
            }
            (GateRule::Exact { .. }, Ok(batch)) => batch < self.progress.next_update.0,
            (GateRule::Exact { .. }, Err(_)) => false,
        }
    }

    /// Grants free slots one by one, each to the producer that would fill it first; one that holds
    /// nothing comes before all others, so that none is starved. Among equals it is the one heard of
    /// last: where most of a fleet is idle, those heard of first are the ones that have died.
    fn distribute(&mut self, now: Tick) {
        let room = self.ungranted() as usize;
        if room == 0 {
            return;
        }
        let (in_time, silence) = (self.in_time(), self.patience.silence);
        let mut takers = self.holders.hungry();
        takers.retain(|(_, holder)| holder.is_there(now, silence) && holder.wants(in_time) > 0);
        let known = takers.iter().filter_map(|(_, holder)| holder.group_ms());
        let (count, sum) = known.fold((0, 0.0), |(count, sum), ms| (count + 1, sum + ms));
        let usual = if count == 0 {
            1.0
        } else {
            sum / f64::from(count)
        };
        // Times in thousandths of a millisecond, because a heap needs a total order.
        let key = |holder: &Holder| Reverse((holder.expected_ms(usual) * 1000.0) as u64);
        let mut first: Vec<_> = takers
            .into_iter()
            .map(|(producer, holder)| (key(holder), holder.heard, producer))
            .collect();
        if room < first.len() {
            // So many leases go to no more producers than that.
            first.select_nth_unstable_by(room, |a, b| b.cmp(a));
            first.truncate(room);
        }
        let first = first.into_iter();
        let mut waiting: BinaryHeap<_> = first
            .map(|(key, heard, producer)| (key, heard, producer.clone()))
            .collect();
        while let Some((_, heard, producer)) = waiting.pop() {
            let Some(lease) = self.next_lease() else {
                break;
            };
            self.leased.insert(lease.slot, producer.clone());
            let number = self.number;
            let again = self.holders.change(&producer, |holder| {
                holder.hold(now, number, lease);
                (holder.wants(in_time) > 0).then(|| key(holder))
            });
            if let Some(key) = again.flatten() {
                waiting.push((key, heard, producer));
            }
        }
    }

    /// Returns the number of slots that may be granted now and are not.
    pub fn ungranted(&self) -> u64 {
        match self.limits.rule {
            GateRule::Wait { max_staleness } => self.capacity(max_staleness),
            GateRule::Exact { .. } => self
                .open_batches()
                .map(|(batch, wants)| wants.groups.saturating_sub(self.slots.groups_of(batch)))
                .sum(),
        }
    }

    /// Returns the batches that may be sampled under the exact rule, in part or whole, each with what it
    /// wants. A refused or failed group is replaced by one of the first place that is free, so of the oldest age
    /// once all places were sampled.
    fn open_batches(&self) -> impl Iterator<Item = (u64, Demand)> + use<'_> {
        let Progress {
            announced,
            next_update,
            refused,
            ..
        } = &self.progress;
        let oldest = self.ages.first().copied().unwrap_or(0);
        let end = announced.0.saturating_add(oldest).saturating_add(1);
        let batches = next_update.0..end.min(self.limits.updates);
        batches.map(|batch| {
            let refused = refused.get(&UpdateNumber(batch));
            let is_announced = |age: &u64| batch.saturating_sub(*age) <= announced.0;
            let open = self.ages.partition_point(is_announced) as u64;
            let groups = open + refused.copied().unwrap_or(0);
            (batch, Demand { groups, open })
        })
    }

    /// Returns the milliseconds that the learner takes for the updates of the bound, once they are
    /// measured.
    fn in_time(&self) -> Option<u64> {
        let updates = self.limits.rule.bound() + 1;
        self.pace.1.map(|each| (each * updates as f64) as u64)
    }

    fn next_lease(&mut self) -> Option<Lease> {
        match self.limits.rule {
            GateRule::Wait { max_staleness } => (self.capacity(max_staleness) > 0).then(|| Lease {
                slot: self.slots.take_any(),
                batch: -1,
                version: self.progress.announced,
            }),
            GateRule::Exact { .. } => self.next_of_batches(),
        }
    }

    fn next_of_batches(&mut self) -> Option<Lease> {
        let (batch, wants) = self
            .open_batches()
            .find(|(batch, wants)| self.slots.groups_of(*batch) < wants.groups)?;
        let (slot, place) = self.slots.take_of(batch, wants)?;
        Some(Lease {
            slot,
            batch: batch as i64,
            version: PolicyVersion(batch.saturating_sub(self.ages[place as usize])),
        })
    }
}

#[cfg(test)]
mod tests;
