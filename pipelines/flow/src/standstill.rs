//! Detection of a run without progress: a line with counts by reason says what it waits for, at
//! growing intervals. A pure function of events and their times; [`watch`] supplies both.

mod counts;
pub(crate) mod watch;

use std::time::Duration;

use vintage_learner::LearnerEvent;
use vintage_rollout::ProducerEvent;

use self::counts::{Archiving, Learning, Producing, spelled};
use crate::{
    event::RunEvent,
    health::{Health, Idle},
};

/// Time without progress after which the first line is written.
const FIRST: Duration = Duration::from_secs(5);
/// Number of usual intervals without progress before the first line, where that is longer than
/// [`FIRST`].
const BEATS: u32 = 4;
/// Maximum time between two lines.
const LONGEST: Duration = Duration::from_secs(600);
/// Number of consecutive updates without a change that cause a line at once. A single update may
/// well hit groups that are all right or all wrong; so many in a row are not chance.
const IDLE: u64 = 5;

/// Role of a process in a run, which defines what counts as progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Learner, alone or with all other roles; progress is an update that changed the policy.
    Learner,
    /// Producer; progress is a published group with unequal rewards, from which the learner can
    /// learn.
    Producer,
    /// Archive; progress is a record that arrived.
    Archive,
}

impl Role {
    /// Returns the role's name in displays.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::Producer => "producer",
            Self::Archive => "archive",
        }
    }
}

/// State of a process since its last progress.
#[derive(Debug)]
pub(crate) struct Standstill {
    role: Role,
    /// Number of updates of the run, after which there is no waiting.
    steps: u64,
    /// True once all updates are done.
    over: bool,
    /// Time of the last progress, measured from the start of the watch.
    since: Duration,
    /// Usual time between two steps of progress: a running average, known after the second step.
    beat: Option<Duration>,
    /// True if there was progress in this phase. The time before the first progress is not counted
    /// as usual.
    moved: bool,
    due: Duration,
    interval: Duration,
    /// Last line written in this standstill.
    logged: Option<String>,
    phase: Option<(String, Duration)>,
    /// Broker or store that does not answer, in words.
    outage: Option<String>,
    /// Evaluation in progress, in words, with its start time.
    evaluating: Option<(String, Duration)>,
    learning: Learning,
    producing: Producing,
    archiving: Archiving,
    health: Health,
}

impl Standstill {
    pub(crate) fn new(role: Role, steps: u64, health: Health) -> Self {
        Self {
            role,
            steps,
            over: false,
            since: Duration::ZERO,
            beat: None,
            moved: false,
            due: FIRST,
            interval: FIRST,
            logged: None,
            phase: None,
            outage: None,
            evaluating: None,
            learning: Learning::default(),
            producing: Producing::default(),
            archiving: Archiving::default(),
            health,
        }
    }

    /// Takes up an event; returns a warning if one is due at once.
    pub(crate) fn observe(&mut self, event: &RunEvent, now: Duration) -> Option<String> {
        match event {
            RunEvent::Phase(name) => {
                self.phase = Some((name.clone(), now));
                self.progressed(now);
                (self.moved, self.beat) = (false, None);
            }
            RunEvent::WarmStart { .. }
            | RunEvent::Replayed { .. }
            | RunEvent::Examined { .. }
            | RunEvent::Recomputed { .. }
            | RunEvent::Differentiated { .. }
            | RunEvent::Republished { .. } => self.progressed(now),
            RunEvent::Evaluating { version, prompts } => {
                let what = format!("evaluating version {version} on {prompts} prompts");
                self.evaluating = Some((what, now));
            }
            RunEvent::Evaluated { .. } => self.evaluating = None,
            RunEvent::Archived { records, bad } => {
                if self.archiving.take(*records, bad) {
                    self.progressed(now);
                }
            }
            RunEvent::Learner(event) => return self.learner(event, now),
            RunEvent::Producer(event) => {
                self.producing.take(event, now);
                if self.role != Role::Producer {
                    return None;
                }
                if let ProducerEvent::Published { equal: false, .. } = event {
                    self.progressed(now);
                }
                return self.health.produced(event);
            }
            RunEvent::Announced { finished } => self.archiving.finished = *finished,
            RunEvent::Fleet(_) | RunEvent::Standstill(_) | RunEvent::Warning(_) => {}
        }
        None
    }

    fn learner(&mut self, event: &LearnerEvent, now: Duration) -> Option<String> {
        self.learning.take(event, now);
        match event {
            LearnerEvent::Recovered { .. } => {
                self.progressed(now);
                self.moved = false;
            }
            LearnerEvent::Updated(result) => {
                self.over = result.update().version_after().0 >= self.steps;
                match Idle::of(result) {
                    None => self.progressed(now),
                    Some(idle) => {
                        self.learning.idled(idle, result);
                        if self.learning.idle_updates() == IDLE && self.logged.is_none() {
                            self.due = now;
                        }
                    }
                }
                return self.health.updated(result);
            }
            _ => {}
        }
        None
    }

    fn progressed(&mut self, now: Duration) {
        if self.moved {
            let last = now.saturating_sub(self.since);
            self.beat = Some(self.beat.map_or(last, |usual| (usual + last) / 2));
        }
        self.moved = true;
        self.since = now;
        self.logged = None;
        self.interval = FIRST
            .max(self.beat.unwrap_or_default() * BEATS)
            .min(LONGEST);
        self.due = now + self.interval;
        self.learning.clear();
        self.producing.clear();
    }

    /// Notes which of broker and store does not answer, if one does not. That is said at once.
    pub(crate) fn outage(&mut self, outage: Option<String>, now: Duration) {
        if outage.is_some() && self.outage.is_none() {
            self.interval = FIRST;
            self.due = self.due.min(now);
        }
        self.outage = outage;
    }

    /// Returns the next line about the standstill if it is due.
    pub(crate) fn tick(&mut self, now: Duration) -> Option<String> {
        if self.over || now < self.due {
            return None;
        }
        self.interval = (2 * self.interval).min(LONGEST);
        self.due = now + self.interval;
        let line = self.line(now);
        self.logged = Some(line.clone());
        Some(line)
    }

    /// Returns the time at which the next line is due; `None` once all updates are done.
    pub(crate) fn due(&self) -> Option<Duration> {
        (!self.over).then_some(self.due)
    }

    /// Returns the final account: what the process waits for, if anything, and the warnings of the
    /// whole run.
    pub(crate) fn account(&self, now: Duration) -> EndNotice {
        let stuck = !self.over && self.logged.is_some();
        EndNotice {
            standstill: stuck.then(|| self.line(now)),
            warnings: self.health.summary(),
        }
    }

    /// Returns the line about the time since the last progress.
    pub(crate) fn line(&self, now: Duration) -> String {
        let time = spelled(now.saturating_sub(self.since));
        let head = match self.role {
            Role::Learner if self.learning.idle_updates() > 0 => "nothing was learned",
            Role::Learner => "no update",
            Role::Producer if self.producing.published() > 0 => {
                "no group that anything can be learned from"
            }
            Role::Producer => "no group published",
            Role::Archive => "no record came",
        };
        let mut reasons = Vec::new();
        let mut advice = None;
        if self.role == Role::Learner {
            self.learning.reasons(now, &mut reasons);
            advice = self.learning.advice(self.producing.is_here());
        }
        if self.role != Role::Archive {
            self.producing.reasons(now, &mut reasons);
            advice = advice.or_else(|| self.producing.advice());
        }
        self.archiving.reasons(&mut reasons);
        // The phase is given only where there is no more specific reason.
        let phase = self.phase.as_ref().filter(|_| reasons.is_empty());
        let doing = self.evaluating.iter().chain(phase);
        for (what, since) in doing {
            reasons.push(format!(
                "{what} for {}",
                spelled(now.saturating_sub(*since))
            ));
        }
        if self.role == Role::Archive {
            advice = Some(if self.archiving.finished {
                "the learner has finished: end this archive by ^C or SIGTERM, which archives the rest"
            } else {
                "is a producer running? (`vintage rollout`)"
            });
        }
        if let Some(outage) = &self.outage {
            reasons.insert(0, outage.clone());
            advice = None;
        }
        let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
        if reasons.is_empty() {
            return format!("{head} for {time}{advice}");
        }
        format!("{head} for {time}: {}{advice}", reasons.join("; "))
    }
}

/// Final statement of a process, part of its result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndNotice {
    /// Line that says what the process waited for at its end; `None` if it made progress.
    pub standstill: Option<String>,
    /// Warnings about the run as a whole.
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests;
