//! Whether a run goes on, and what it waits for if it does not: one line with counts by reason, at
//! intervals that grow. A function of events and their times alone; [`watch`] brings both.

mod counts;
mod watch;

use std::time::Duration;

use vintage_learner::LearnerEvent;
use vintage_rollout::ProducerEvent;

use self::counts::{Archiving, Learning, Producing, spelled};
pub(crate) use self::watch::Watch;
use crate::{
    event::RunEvent,
    health::{Health, Idle},
};

/// Without a step on for this long, the first line comes.
const FIRST: Duration = Duration::from_secs(5);
/// Where steps take long, after this many of the usual ones.
const BEATS: u32 = 4;
/// The longest time from one line to the next.
const LONGEST: Duration = Duration::from_secs(600);
/// One update may well find groups that are all right or all wrong; so many in a row are no
/// accident, however fast they come.
const IDLE: u64 = 5;

/// What a process does for a run, which says what a step on is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It trains, and may do all else too: an update that changed the policy.
    Learner,
    /// It samples: a group published from which something can be learned.
    Producer,
    /// It archives: a record that came.
    Archive,
}

/// The state of a process between two steps on.
#[derive(Debug)]
pub(crate) struct Standstill {
    role: Role,
    /// Updates of the run, after which nothing is waited for.
    steps: u64,
    /// All is done.
    over: bool,
    /// When it last went on.
    since: Duration,
    /// The usual time from one step on to the next, once there were two.
    beat: Option<Duration>,
    /// Whether a step on was seen in this phase: what comes before the first says nothing of the
    /// usual time.
    moved: bool,
    due: Duration,
    interval: Duration,
    /// The line of this standstill that was told last.
    told: Option<String>,
    phase: Option<(String, Duration)>,
    /// What is evaluated, on how many prompts.
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
            told: None,
            phase: None,
            evaluating: None,
            learning: Learning::default(),
            producing: Producing::default(),
            archiving: Archiving::default(),
            health,
        }
    }

    /// Takes up what happened; a line if that is worth one at once.
    pub(crate) fn observe(&mut self, event: &RunEvent, now: Duration) -> Option<String> {
        match event {
            RunEvent::Phase(name) => {
                self.phase = Some((name.clone(), now));
                self.goes_on(now);
                (self.moved, self.beat) = (false, None);
            }
            RunEvent::WarmStart { .. }
            | RunEvent::Replayed { .. }
            | RunEvent::Republished { .. } => self.goes_on(now),
            RunEvent::Evaluating { version, prompts } => {
                let what = format!("evaluating version {version} on {prompts} prompts");
                self.evaluating = Some((what, now));
            }
            RunEvent::Evaluated(_) => self.evaluating = None,
            RunEvent::Archived { records, bad } => {
                if self.archiving.take(*records, bad) {
                    self.goes_on(now);
                }
            }
            RunEvent::Learner(event) => return self.learner(event, now),
            RunEvent::Producer(event) => {
                self.producing.take(event, now);
                if self.role != Role::Producer {
                    return None;
                }
                if let ProducerEvent::Published { equal: false, .. } = event {
                    self.goes_on(now);
                }
                return self.health.produced(event);
            }
            RunEvent::Standstill(_) | RunEvent::Warning(_) => {}
        }
        None
    }

    fn learner(&mut self, event: &LearnerEvent, now: Duration) -> Option<String> {
        self.learning.take(event, now);
        match event {
            LearnerEvent::Recovered { .. } => {
                self.goes_on(now);
                self.moved = false;
            }
            LearnerEvent::Updated(result) => {
                self.over = result.version.0 + 1 >= self.steps;
                match Idle::of(result) {
                    None => self.goes_on(now),
                    Some(idle) => {
                        self.learning.idled(idle, result);
                        if self.learning.idle_updates() == IDLE && self.told.is_none() {
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

    fn goes_on(&mut self, now: Duration) {
        if self.moved {
            let last = now.saturating_sub(self.since);
            self.beat = Some(self.beat.map_or(last, |usual| (usual + last) / 2));
        }
        self.moved = true;
        self.since = now;
        self.told = None;
        self.interval = FIRST
            .max(self.beat.unwrap_or_default() * BEATS)
            .min(LONGEST);
        self.due = now + self.interval;
        self.learning.clear();
        self.producing.clear();
    }

    /// The next line, if it is time for one.
    pub(crate) fn tick(&mut self, now: Duration) -> Option<String> {
        if self.over || now < self.due {
            return None;
        }
        self.interval = (2 * self.interval).min(LONGEST);
        self.due = now + self.interval;
        let line = self.line(now);
        self.told = Some(line.clone());
        Some(line)
    }

    /// When the next line would come.
    pub(crate) fn due(&self) -> Option<Duration> {
        (!self.over).then_some(self.due)
    }

    /// How it stands at the end: what is waited for, if anything is, and what to know of the run.
    pub(crate) fn account(&self, now: Duration) -> Account {
        let stands = !self.over && self.told.is_some();
        Account {
            standstill: stands.then(|| self.line(now)),
            warnings: self.health.summary(),
        }
    }

    fn line(&self, now: Duration) -> String {
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
        // The phase says nothing that the reasons do not say better.
        let phase = self.phase.as_ref().filter(|_| reasons.is_empty());
        let doing = self.evaluating.iter().chain(phase);
        for (what, since) in doing {
            reasons.push(format!(
                "{what} for {}",
                spelled(now.saturating_sub(*since))
            ));
        }
        if self.role == Role::Archive {
            advice = Some("is a producer running? (`vintage rollout`)");
        }
        let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
        format!("{head} for {time}: {}{advice}", reasons.join("; "))
    }
}

/// What a process says of itself at its end, for its result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// What it waited for in the end, if it did not go on.
    pub standstill: Option<String>,
    /// What is to be known of the run.
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests;
