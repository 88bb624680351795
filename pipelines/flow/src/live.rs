//! State of a run as its live page shows it: a pure function of events and their times.

mod fleet;
mod rates;
pub(crate) mod view;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use vintage_bus::Lag;
use vintage_control::UpdateResult;
use vintage_learner::LearnerEvent;
use vintage_rollout::ProducerEvent;
use vintage_settings::RunConfig;
use vintage_trajectory::Excerpt;

use self::{
    fleet::{Fleet, Own},
    rates::Rate,
    view::{Archived, Evaluated, LagView, Point, RolloutView, Updates, View},
};
use crate::{event::RunEvent, health::Idle, standstill::Role};

/// Number of updates in the curves.
const POINTS: usize = 240;
/// Number of rollouts shown.
const ROLLOUTS: usize = 8;
/// Number of warnings shown.
const WARNINGS: usize = 5;

/// State of one process of a run.
#[derive(Debug)]
pub(crate) struct Live {
    role: Role,
    run: String,
    learner: String,
    steps: u64,
    phase: Option<String>,
    warm_start: Option<(u64, u64)>,
    version: Option<u64>,
    updates: Rate,
    tokens: Rate,
    points: VecDeque<Point>,
    trained: u64,
    rejected: BTreeMap<&'static str, u64>,
    idle: BTreeMap<&'static str, u64>,
    archived: Option<Archived>,
    evaluated: Option<Evaluated>,
    fleet: Fleet,
    own: Own,
    rollouts: VecDeque<RolloutView>,
    warnings: VecDeque<String>,
}

impl Live {
    pub(crate) fn new(role: Role, config: &RunConfig) -> Self {
        Self {
            role,
            run: config.run.to_string(),
            learner: config.learner.name.to_string(),
            steps: config.learner.steps,
            phase: None,
            warm_start: None,
            version: None,
            updates: Rate::default(),
            tokens: Rate::default(),
            points: VecDeque::new(),
            trained: 0,
            rejected: BTreeMap::new(),
            idle: BTreeMap::new(),
            archived: None,
            evaluated: None,
            fleet: Fleet::default(),
            own: Own::default(),
            rollouts: VecDeque::new(),
            warnings: VecDeque::new(),
        }
    }

    /// Takes up an event.
    pub(crate) fn observe(&mut self, event: &RunEvent, now: Duration) {
        match event {
            RunEvent::Phase(name) => {
                self.phase = Some(name.clone());
                self.warm_start = None;
            }
            RunEvent::WarmStart { step, steps, .. } => self.warm_start = Some((*step, *steps)),
            RunEvent::Learner(event) => self.learn(event, now),
            RunEvent::Producer(event) => self.produce(event, now),
            RunEvent::Fleet(producers) => self.fleet.hear(producers, now),
            RunEvent::Archived { records, bad } => {
                self.archived = Some(Archived {
                    records: *records,
                    quarantined: bad.clone(),
                });
            }
            RunEvent::Evaluated { result, measured } => {
                self.evaluated = Some(Evaluated {
                    version: result.version.0,
                    measured: measured.name(),
                    sampled: measured.value(result.sampled_accuracy),
                    greedy: measured.value(result.greedy_accuracy),
                });
            }
            RunEvent::Warning(line) => self.warn(line),
            RunEvent::Replayed { .. }
            | RunEvent::Republished { .. }
            | RunEvent::Evaluating { .. }
            | RunEvent::Examined { .. }
            | RunEvent::Recomputed { .. }
            | RunEvent::Differentiated { .. }
            | RunEvent::Announced { .. }
            | RunEvent::Standstill(_) => {}
        }
    }

    fn learn(&mut self, event: &LearnerEvent, now: Duration) {
        match event {
            LearnerEvent::Recovered { version, .. } => self.version = Some(version.0),
            LearnerEvent::Updating { update, excerpt } => {
                // Beside a producer, its rollouts are newer.
                if let Some(excerpt) = excerpt.as_ref().filter(|_| !self.own.is_here()) {
                    self.show(excerpt, Some(update.0));
                }
            }
            LearnerEvent::Updated(result) => self.updated(result, now),
            LearnerEvent::Rejected { reasons, .. } => {
                for (reason, groups) in reasons {
                    *self.rejected.entry(reason).or_default() += groups;
                }
            }
            LearnerEvent::Waiting(_)
            | LearnerEvent::Published(_)
            | LearnerEvent::Checkpointed(_) => {}
        }
    }

    fn updated(&mut self, result: &UpdateResult, now: Duration) {
        self.version = Some(result.update().version_after().0);
        self.updates.note(1, now);
        self.tokens.note(result.tokens, now);
        self.trained += result.groups;
        if let Some(idle) = Idle::of(result) {
            *self.idle.entry(idle.as_str()).or_default() += 1;
        }
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            update: result.update().0,
            reward: result.reward,
            staleness: result.mean_staleness,
            max_staleness: result.max_staleness,
            wait_seconds: result.wait_seconds,
            update_seconds: result.update_seconds,
        });
    }

    fn produce(&mut self, event: &ProducerEvent, now: Duration) {
        self.own.take(event, now);
        if let ProducerEvent::Published {
            excerpt: Some(excerpt),
            ..
        } = event
        {
            self.show(excerpt, None);
        }
    }

    fn show(&mut self, excerpt: &Excerpt, trained_by: Option<u64>) {
        self.rollouts.truncate(ROLLOUTS - 1);
        self.rollouts
            .push_front(RolloutView::new(excerpt, trained_by));
    }

    /// Shows a warning.
    pub(crate) fn warn(&mut self, line: &str) {
        if self.warnings.len() == WARNINGS {
            self.warnings.pop_front();
        }
        self.warnings.push_back(line.to_owned());
    }

    /// Returns the state for the page; the caller adds the verdicts.
    pub(crate) fn view(&self, now: Duration, lags: Vec<Lag>) -> View {
        let here = self.version.is_some() || !self.points.is_empty();
        let mut producers = self.fleet.view(now);
        if producers.is_empty() {
            producers.extend(self.own.view(now));
        }
        View {
            program: env!("CARGO_PKG_VERSION"),
            run: self.run.clone(),
            learner: self.learner.clone(),
            role: self.role.name(),
            phase: self.phase.clone(),
            warm_start: self.warm_start,
            uptime_seconds: now.as_secs_f64(),
            updates: here.then(|| Updates {
                done: self.version.unwrap_or_default(),
                of: self.steps,
                per_second: self.updates.per_second(now),
                tokens_per_second: self.tokens.per_second(now),
            }),
            points: self.points.clone(),
            trained: self.trained,
            rejected: self.rejected.clone(),
            idle: self.idle.clone(),
            lag: LagView::by_reader(lags),
            producers,
            archived: self.archived.clone(),
            evaluated: self.evaluated.clone(),
            rollouts: self.rollouts.clone(),
            warnings: self.warnings.clone(),
            ..View::default()
        }
    }
}

/// Returns the live page, which asks for the state every second.
pub(crate) fn page() -> String {
    include_str!("live/page.html").replace("/* report */", vintage_report::STYLE)
}

#[cfg(test)]
mod tests;
