//! Counts since the last progress, and their wording.

use std::{collections::BTreeMap, time::Duration};

use vintage_control::UpdateResult;
use vintage_learner::{LearnerEvent, Waiting};
use vintage_rollout::ProducerEvent;

use crate::health::Idle;

/// Formats a duration: `7 s`, `3 min 05 s`, `2 h 10 min`.
pub(super) fn spelled(time: Duration) -> String {
    vintage_human::duration(time.as_secs_f64())
}

/// Formats counts by reason: `other_policy 3, malformed 1`.
fn counted(counts: &BTreeMap<&'static str, u64>) -> String {
    let counts = counts.iter();
    let counts: Vec<_> = counts.map(|(reason, n)| format!("{reason} {n}")).collect();
    counts.join(", ")
}

/// State of the learner since the last progress.
#[derive(Debug, Default)]
pub(super) struct Learning {
    /// Wait for groups of the next update; `None` while the learner computes.
    waiting: Option<Waiting>,
    /// Number of the update being computed, and its start time.
    updating: Option<(u64, Duration)>,
    /// Consecutive updates that changed nothing, by reason.
    idle: BTreeMap<&'static str, u64>,
    reward: f64,
    last: Option<Idle>,
}

impl Learning {
    pub(super) fn take(&mut self, event: &LearnerEvent, now: Duration) {
        match event {
            LearnerEvent::Waiting(waiting) => {
                self.waiting = Some((**waiting).clone());
                self.updating = None;
            }
            LearnerEvent::Updating { update, .. } => {
                self.waiting = None;
                self.updating = Some((update.0, now));
            }
            LearnerEvent::Updated(_) => (self.waiting, self.updating) = (None, None),
            _ => {}
        }
    }

    pub(super) fn idled(&mut self, idle: Idle, result: &UpdateResult) {
        *self.idle.entry(idle.as_str()).or_default() += 1;
        self.reward = result.reward;
        self.last = Some(idle);
    }

    pub(super) fn idle_updates(&self) -> u64 {
        self.idle.values().sum()
    }

    /// Clears the counts since the last progress, and keeps what is in progress.
    pub(super) fn clear(&mut self) {
        self.idle.clear();
        self.last = None;
    }

    pub(super) fn reasons(&self, now: Duration, out: &mut Vec<String>) {
        let idle = self.idle_updates();
        if idle > 0 {
            out.push(format!(
                "{idle} update{} changed nothing ({}; mean reward {:.3})",
                if idle == 1 { "" } else { "s" },
                counted(&self.idle),
                self.reward
            ));
        }
        if let Some((update, since)) = self.updating {
            let time = spelled(now.saturating_sub(since));
            out.push(format!("computing update {update} for {time}"));
        }
        let Some(waiting) = &self.waiting else {
            return;
        };
        if let Some(leader) = &waiting.leader {
            out.push(format!(
                "learner {leader} has not planned update {} yet",
                waiting.update
            ));
            return;
        }
        out.push(format!(
            "{} of {} groups for update {} are there",
            waiting.ready, waiting.wanted, waiting.update
        ));
        let refused: u64 = waiting.refused.values().sum();
        if waiting.records == 0 {
            out.push("no record came".to_owned());
        } else {
            out.push(format!("{} records came", waiting.records));
        }
        if refused > 0 {
            out.push(format!(
                "{refused} groups refused ({})",
                counted(&waiting.refused)
            ));
        }
        if waiting.incomplete > 0 {
            out.push(format!("{} groups lack parts", waiting.incomplete));
        }
        if waiting.later > 0 {
            out.push(format!("{} groups are for other updates", waiting.later));
        }
    }

    pub(super) fn advice(&self, produces: bool) -> Option<&'static str> {
        if let Some(idle) = self.last {
            return Some(idle.advice());
        }
        let waiting = self.waiting.as_ref()?;
        if waiting.leader.is_some() {
            return Some("is that learner running?");
        }
        if waiting.refused.values().sum::<u64>() > 0 {
            return Some("`vintage audit DIR` says of each group why");
        }
        let silent = waiting.records == 0 && !produces;
        silent.then_some("is a producer running? (`vintage rollout`)")
    }
}

/// State of the producer since the last progress.
#[derive(Debug, Default)]
pub(super) struct Producing {
    here: bool,
    published: u64,
    /// Number of published groups whose completions all have the same reward.
    equal: u64,
    rewards: f64,
    /// Groups without a reward, by reason.
    failed: BTreeMap<&'static str, u64>,
    /// Newest version announced to a producer without a lease, and the time since when it has none, or since
    /// when an announcement is waited for.
    closed: Option<(Option<u64>, Duration)>,
    /// Number of groups being sampled, and the start time.
    sampling: Option<(u64, Duration)>,
}

impl Producing {
    pub(super) fn take(&mut self, event: &ProducerEvent, now: Duration) {
        self.here = true;
        match event {
            ProducerEvent::Waiting { version } => {
                // A version that brings no lease does not begin another wait.
                let since = match self.closed {
                    Some((Some(_), since)) => since,
                    _ => now,
                };
                self.closed = Some((version.map(|version| version.0), since));
            }
            // After a stop, the final account still says what was waited for.
            ProducerEvent::Waited { stopped, .. } if !stopped => self.closed = None,
            ProducerEvent::Sampling { groups } => {
                self.closed = None;
                self.sampling = Some((*groups, now));
            }
            ProducerEvent::Sampled { .. } => self.sampling = None,
            ProducerEvent::RewardFailed { reason, .. }
            | ProducerEvent::SamplingFailed { reason, .. } => {
                *self.failed.entry(*reason).or_default() += 1;
            }
            ProducerEvent::Published { equal, reward, .. } => {
                self.published += 1;
                self.equal += u64::from(*equal);
                self.rewards += f64::from(*reward);
            }
            _ => {}
        }
    }

    pub(super) fn is_here(&self) -> bool {
        self.here
    }

    pub(super) fn published(&self) -> u64 {
        self.published
    }

    pub(super) fn clear(&mut self) {
        (self.published, self.equal, self.rewards) = (0, 0, 0.0);
        self.failed.clear();
    }

    pub(super) fn reasons(&self, now: Duration, out: &mut Vec<String>) {
        let Self {
            published, equal, ..
        } = *self;
        if published > 0 && equal == published {
            let mean = self.rewards / published as f64;
            out.push(format!(
                "all {published} groups published have equal rewards (mean {mean:.3})"
            ));
        } else if published > 0 {
            out.push(format!(
                "{published} groups published, {equal} with equal rewards"
            ));
        }
        let failed: u64 = self.failed.values().sum();
        if failed > 0 {
            out.push(format!(
                "{failed} groups got no reward ({})",
                counted(&self.failed)
            ));
        }
        if let Some((groups, since)) = self.sampling {
            let time = spelled(now.saturating_sub(since));
            out.push(format!("sampling {groups} groups for {time}"));
        }
        if let Some((version, since)) = self.closed {
            let time = spelled(now.saturating_sub(since));
            out.push(match version {
                None => format!("the producer has waited {time} for an announcement"),
                Some(version) => format!(
                    "no lease granted for {time}: version {version} is the newest announced"
                ),
            });
        }
    }

    pub(super) fn advice(&self) -> Option<&'static str> {
        if self.published > 0 && self.equal == self.published {
            return Some(Idle::EqualRewards.advice());
        }
        if !self.failed.is_empty() {
            return Some(
                "look at rollout.reward.command or rollout.environment.command, and what it \
                 writes to standard error",
            );
        }
        let closed = self.closed.is_some();
        closed.then_some("is the learner running? (`vintage learn`)")
    }
}

/// State of the archive in this process.
#[derive(Debug, Default)]
pub(super) struct Archiving {
    records: Option<u64>,
    bad: BTreeMap<&'static str, u64>,
    /// True once the run's learner has done all its updates.
    pub(super) finished: bool,
}

impl Archiving {
    /// Takes up new counts; returns true if more records than before have arrived.
    pub(super) fn take(&mut self, records: u64, bad: &BTreeMap<&'static str, u64>) -> bool {
        let before = self.records.replace(records);
        self.bad.clone_from(bad);
        before.is_none_or(|before| before < records)
    }

    pub(super) fn reasons(&self, out: &mut Vec<String>) {
        let Some(records) = self.records else { return };
        let bad = if self.bad.is_empty() {
            String::new()
        } else {
            format!(", quarantined {}", counted(&self.bad))
        };
        out.push(format!("{records} records came before{bad}"));
    }
}
