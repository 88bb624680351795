//! Rates and recent means of a run, computed from its events.

use std::collections::VecDeque;

use vintage_control::UpdateResult;
use vintage_human::grouped;

/// Time in seconds over which rates and means are taken, short enough to follow a change of pace.
const WINDOW: f64 = 10.0;
/// Minimum number of updates or groups over which they are taken, for slow runs.
const LEAST: usize = 8;

/// Recent updates of the learner and recent groups of the producer.
pub(super) struct Pace {
    pub(super) steps: u64,
    pub(super) rejected: u64,
    pub(super) held_out: Option<String>,
    /// Number of groups published by a producer in this process.
    pub(super) groups: u64,
    samples: VecDeque<Sampled>,
    done: u64,
    recent: VecDeque<Recent>,
}

struct Sampled {
    at: f64,
    tokens: f64,
    reward: f64,
}

struct Recent {
    at: f64,
    tokens: f64,
    masked: f64,
    reward: f64,
    staleness: f64,
    max_staleness: u64,
}

impl Pace {
    pub(super) fn new(steps: u64) -> Self {
        Self {
            steps,
            rejected: 0,
            held_out: None,
            groups: 0,
            samples: VecDeque::new(),
            done: 0,
            recent: VecDeque::new(),
        }
    }

    pub(super) fn resume_at(&mut self, done: u64) {
        self.done = done;
    }

    pub(super) fn done(&self) -> u64 {
        self.done
    }

    pub(super) fn update(&mut self, result: &UpdateResult, seconds: f64) {
        self.done = result.update().version_after().0;
        self.recent.push_back(Recent {
            at: seconds,
            tokens: result.tokens as f64,
            masked: result.masked_tokens as f64,
            reward: result.reward,
            staleness: result.mean_staleness * result.tokens as f64,
            max_staleness: result.max_staleness,
        });
        while self.recent.len() > LEAST
            && self
                .recent
                .front()
                .is_some_and(|old| old.at < seconds - WINDOW)
        {
            self.recent.pop_front();
        }
    }

    pub(super) fn published(&mut self, tokens: u64, reward: f64, seconds: f64) {
        self.groups += 1;
        self.samples.push_back(Sampled {
            at: seconds,
            tokens: tokens as f64,
            reward,
        });
        while self.samples.len() > LEAST
            && self
                .samples
                .front()
                .is_some_and(|old| old.at < seconds - WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Formats the mean reward and the token rate of a producer.
    pub(super) fn production(&self, now: f64) -> String {
        let count = self.samples.len() as f64;
        let reward = self.samples.iter().map(|group| group.reward).sum::<f64>() / count.max(1.0);
        let tokens: f64 = self.samples.iter().skip(1).map(|group| group.tokens).sum();
        let span = self.samples.front().map_or(0.0, |first| now - first.at);
        let mut parts = vec![format!("reward {reward:.3}")];
        if span > 0.0 {
            parts.push(format!(
                "{} tokens/s",
                grouped((tokens / span).round() as u64)
            ));
        }
        parts.join("  ")
    }

    /// Returns the rate over the window; `None` until there are two updates.
    pub(super) fn updates_per_second(&self, now: f64) -> Option<f64> {
        // The first update only marks the begin of the window.
        self.per_second(now, self.recent.len().saturating_sub(1) as f64)
    }

    fn per_second(&self, now: f64, count: f64) -> Option<f64> {
        let span = now - self.recent.front()?.at;
        (span > 0.0 && count > 0.0).then(|| count / span)
    }

    /// Formats one line: reward, staleness and masked share of the last update, the mean reward
    /// over the window, the last evaluation, token rate, and rejected groups.
    pub(super) fn quality(&self, now: f64) -> String {
        let share = |of: f64, all: f64| if all > 0.0 { of / all } else { 0.0 };
        let later: f64 = self.recent.iter().skip(1).map(|update| update.tokens).sum();
        let rate = self.per_second(now, later);
        let mut parts = Vec::new();
        if let Some(last) = self.recent.back() {
            let updates = self.recent.len();
            let sum: f64 = self.recent.iter().map(|update| update.reward).sum();
            let mean = if updates > 1 {
                format!(" (mean of {updates}: {:.3})", sum / updates as f64)
            } else {
                String::new()
            };
            parts.push(format!("reward {:.3}{mean}", last.reward));
        }
        parts.extend(self.held_out.clone());
        if let Some(last) = self.recent.back() {
            let staleness = share(last.staleness, last.tokens);
            parts.push(format!(
                "staleness {staleness:.1} (max {})",
                last.max_staleness
            ));
            let masked = 100.0 * share(last.masked, last.tokens);
            parts.push(format!("masked {masked:.1} %"));
        }
        parts.extend(rate.map(|rate| format!("{} tokens/s", grouped(rate.round() as u64))));
        if self.rejected > 0 {
            parts.push(format!("rejected {}", self.rejected));
        }
        parts.join("  ")
    }
}
