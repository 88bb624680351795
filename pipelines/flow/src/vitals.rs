//! Health and readiness of a process: a pure function of its events, of what is seen from outside of
//! them, and of their times.
//!
//! A part of the process (learner, producer, archive) either has work or waits for somebody else.
//! Only a part that has work and makes no progress is stalled: a restart would not help one that
//! waits, which is not ready instead. A process that starts is not ready, and not judged.

use std::{collections::VecDeque, time::Duration};

use vintage_learner::LearnerEvent;
use vintage_model::Computed;
use vintage_rollout::ProducerEvent;

use crate::{event::RunEvent, standstill::Role};

/// Time without progress after which a part that has work is stalled. With the delays of statistics
/// and of the watch, a stall shows within a minute.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);
/// Number of usual intervals without progress that are waited for, where that is longer.
pub(crate) const BEATS: u32 = 4;
/// Time that a part may wait for others and count as ready.
pub(crate) const WAIT: Duration = Duration::from_secs(5);
/// Time after which an event loop that did not run counts as hanging.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);
/// Number of unread records up to which an archive counts as caught up; more if it takes more in
/// [`RECENT`].
const CAUGHT_UP: u64 = 1000;
/// Time in which an archive that is behind must be able to catch up.
const RECENT: Duration = Duration::from_secs(60);

/// Facts of a process that are seen apart from its events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outside {
    /// Layers computed so far.
    pub(crate) computed: Computed,
    /// Records of the log that the learner has not read; `None` if it reads no partition yet.
    pub(crate) learner_lag: Option<u64>,
    /// Records of the log that the archive has not read; `None` if it reads no partition yet.
    pub(crate) archive_lag: Option<u64>,
    /// Broker or store that does not answer, and for how long, in words.
    pub(crate) outage: Option<String>,
}

/// State of the parts of a process.
#[derive(Debug)]
pub(crate) struct Vitals {
    role: Role,
    steps: u64,
    /// Longest time that a group may take at the judge of rewards, or at an inference server.
    group: Duration,
    phase: Option<(String, Duration)>,
    learner: Option<Part>,
    producer: Option<Part>,
    archive: Option<Part>,
    /// True once the learner has done all updates, after which it waits for nobody.
    done: bool,
    /// Records that the learner took in its wait.
    records: u64,
    /// Producer: groups sampled and not published, and whether there are leases.
    in_hand: u64,
    open: bool,
    /// Archive: records taken, with the times of the last [`RECENT`].
    taken: VecDeque<(Duration, u64)>,
    outside: Outside,
}

/// A part of a process.
#[derive(Debug)]
struct Part {
    role: Role,
    doing: String,
    /// True if it has work; false if it waits for others.
    works: bool,
    /// Begin of what it does.
    since: Duration,
    /// Time of the last progress.
    moved: Duration,
    /// Time of the last completed piece of work, and the usual time between two.
    last: Option<Duration>,
    beat: Option<Duration>,
}

impl Part {
    fn new(role: Role, now: Duration) -> Self {
        Self {
            role,
            doing: "starting".to_owned(),
            works: true,
            since: now,
            moved: now,
            last: None,
            beat: None,
        }
    }

    fn works(&mut self, doing: impl Into<String>, now: Duration) {
        self.turns(true, doing.into(), now);
    }

    fn waits(&mut self, doing: impl Into<String>, now: Duration) {
        self.turns(false, doing.into(), now);
    }

    fn turns(&mut self, works: bool, doing: String, now: Duration) {
        if self.works != works || self.doing != doing {
            (self.works, self.doing) = (works, doing);
            (self.since, self.moved) = (now, now);
        }
    }

    /// Notes a completed piece of work.
    fn completed(&mut self, now: Duration) {
        if let Some(last) = self.last.replace(now) {
            let took = now.saturating_sub(last);
            self.beat = Some(self.beat.map_or(took, |usual| (usual + took) / 2));
        }
        self.moved = now;
    }

    fn beats(&self) -> Duration {
        self.beat.unwrap_or_default() * BEATS
    }
}

impl Vitals {
    pub(crate) fn new(role: Role, steps: u64, group: Duration) -> Self {
        Self {
            role,
            steps,
            group,
            phase: None,
            learner: None,
            producer: None,
            archive: None,
            done: false,
            records: 0,
            in_hand: 0,
            open: false,
            taken: VecDeque::new(),
            outside: Outside::default(),
        }
    }

    /// Takes up an event.
    pub(crate) fn observe(&mut self, event: &RunEvent, now: Duration) {
        match event {
            RunEvent::Phase(name) => {
                self.phase = Some((name.clone(), now));
                (self.learner, self.producer, self.archive) = (None, None, None);
                (self.in_hand, self.open) = (0, false);
            }
            RunEvent::Learner(event) => self.learn(event, now),
            RunEvent::Producer(event) => self.produce(event, now),
            RunEvent::Archived { records, .. } if self.role == Role::Archive => {
                let part = self
                    .archive
                    .get_or_insert_with(|| Part::new(Role::Archive, now));
                part.works("archiving", now);
                if self.taken.back().is_none_or(|(_, last)| last < records) {
                    part.moved = now;
                    self.taken.push_back((now, *records));
                }
            }
            _ => {}
        }
    }

    fn learn(&mut self, event: &LearnerEvent, now: Duration) {
        let part = self
            .learner
            .get_or_insert_with(|| Part::new(Role::Learner, now));
        match event {
            LearnerEvent::Recovered { .. } => part.works("choosing the first groups", now),
            LearnerEvent::Waiting(waiting) => {
                part.waits(format!("waiting for update {}", waiting.update), now);
                if self.records != waiting.records {
                    part.moved = now;
                }
                self.records = waiting.records;
            }
            LearnerEvent::Updating { update, .. } => {
                part.works(format!("computing update {update}"), now);
            }
            LearnerEvent::Updated(result) => {
                part.completed(now);
                let after = result.update().version_after();
                self.done = after.0 >= self.steps;
                if self.done {
                    part.waits("all updates are done", now);
                } else {
                    part.works(format!("choosing the groups of update {after}"), now);
                }
            }
            LearnerEvent::Published(_)
            | LearnerEvent::Rejected { .. }
            | LearnerEvent::Checkpointed(_) => part.moved = now,
        }
    }

    fn produce(&mut self, event: &ProducerEvent, now: Duration) {
        let part = self
            .producer
            .get_or_insert_with(|| Part::new(Role::Producer, now));
        match event {
            ProducerEvent::Waiting { .. } => self.open = false,
            ProducerEvent::Waited { stopped, .. } => self.open = !stopped,
            ProducerEvent::Sampling { groups } => {
                self.open = true;
                part.works(format!("sampling {groups} groups"), now);
            }
            ProducerEvent::Sampled { groups, .. } => {
                self.in_hand += groups;
                part.works("taking the next leases", now);
            }
            ProducerEvent::RewardFailed { .. } | ProducerEvent::Published { .. } => {
                self.in_hand = self.in_hand.saturating_sub(1);
                part.completed(now);
            }
            _ => {}
        }
        part.moved = now;
        if !self.open && self.in_hand > 0 {
            part.works("publishing the groups that are sampled", now);
        } else if !self.open {
            part.waits("waiting for leases", now);
        } else if !part.works {
            part.works("loading weights", now);
        }
    }

    /// Takes up what is seen from outside; called about once a second.
    pub(crate) fn look(&mut self, outside: Outside, now: Duration) {
        let before = std::mem::replace(&mut self.outside, outside);
        let computed = self.outside.computed;
        if let Some(part) = &mut self.learner {
            let idle = !part.works && self.outside.learner_lag.unwrap_or(0) == 0;
            if idle || computed.trained != before.computed.trained {
                part.moved = now;
            }
        }
        if let Some(part) = &mut self.producer
            && (!part.works || computed.sampled != before.computed.sampled)
        {
            part.moved = now;
        }
        if let Some(part) = &mut self.archive
            && self.outside.archive_lag.unwrap_or(0) == 0
        {
            part.moved = now;
        }
        if self.outside.outage.is_some() {
            // Nobody can make progress, and a restart would not help. Once broker and store are there
            // again, everybody gets time for it.
            self.resume(now);
        }
        while self.taken.len() > 1 && self.taken[1].0 + RECENT <= now {
            self.taken.pop_front();
        }
    }

    /// Gives every part new time, because the process was paused.
    pub(crate) fn resume(&mut self, now: Duration) {
        for part in self.parts_mut() {
            part.moved = now;
        }
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        let parts = [&self.learner, &self.producer, &self.archive];
        parts.into_iter().flatten()
    }

    fn parts_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        let parts = [&mut self.learner, &mut self.producer, &mut self.archive];
        parts.into_iter().flatten()
    }

    /// Returns what the process does.
    ///
    /// # Errors
    /// What is stalled, and for how long.
    pub(crate) fn health(&self, now: Duration) -> Result<String, String> {
        for part in self.parts() {
            let patience = PATIENCE.max(part.beats());
            let patience = match part.role {
                Role::Producer => patience.max(self.group),
                _ => patience,
            };
            let still = now.saturating_sub(part.moved);
            if still < patience {
                continue;
            }
            let lag = match part.role {
                Role::Learner if !part.works => self.outside.learner_lag,
                Role::Archive => self.outside.archive_lag,
                _ => None,
            };
            let lag = lag.map_or_else(String::new, |lag| {
                format!("; {lag} records of the log wait to be read")
            });
            let hand = match self.in_hand {
                1.. if part.role == Role::Producer => {
                    format!("; {} groups are sampled and not published", self.in_hand)
                }
                _ => String::new(),
            };
            return Err(format!(
                "the {} is stalled: no progress for {}, {} for {}{lag}{hand}",
                part.role.name(),
                spelled(still),
                part.doing,
                spelled(now.saturating_sub(part.since)),
            ));
        }
        Ok(match &self.outside.outage {
            Some(outage) => format!("{outage}; {}", self.doing(now)),
            None => self.doing(now),
        })
    }

    /// Returns what the process does once it is assigned and caught up enough.
    ///
    /// # Errors
    /// What it waits for; `standstill` is the words for a wait that has lasted.
    pub(crate) fn readiness(
        &self,
        now: Duration,
        standstill: impl FnOnce() -> String,
    ) -> Result<String, String> {
        if let Some(outage) = &self.outside.outage {
            return Err(outage.clone());
        }
        self.health(now)?;
        let part = match self.role {
            Role::Learner => &self.learner,
            Role::Producer => &self.producer,
            Role::Archive => &self.archive,
        };
        let Some(part) = part else {
            return Err(format!("starting: {}", self.doing(now)));
        };
        if !part.works && !self.done && now.saturating_sub(part.since) >= WAIT.max(part.beats()) {
            return Err(standstill());
        }
        if self.role == Role::Archive {
            let Some(lag) = self.outside.archive_lag else {
                return Err("no partition is assigned to this archive yet".to_owned());
            };
            let of = |end: Option<&(Duration, u64)>| end.map_or(0, |(_, records)| *records);
            let recent = of(self.taken.back()).saturating_sub(of(self.taken.front()));
            if lag > CAUGHT_UP.max(recent) {
                return Err(format!(
                    "catching up: {lag} records of the log wait to be read"
                ));
            }
        }
        Ok(self.doing(now))
    }

    /// Returns the activity of every part, or the phase of the start, in words.
    pub(crate) fn doing(&self, now: Duration) -> String {
        let parts: Vec<_> = self
            .parts()
            .map(|part| format!("the {} is {}", part.role.name(), part.doing))
            .collect();
        if !parts.is_empty() {
            return parts.join("; ");
        }
        match &self.phase {
            Some((name, since)) => format!("{name} for {}", spelled(now.saturating_sub(*since))),
            None => "nothing was begun".to_owned(),
        }
    }
}

fn spelled(time: Duration) -> String {
    vintage_human::duration(time.as_secs_f64())
}

#[cfg(test)]
mod tests;
