//! Time that the runs which are left will take.

use std::time::Duration;

/// Seconds of a warm start on one core of a Xeon with AVX-512; `docs/staleness.md` has the time of whole runs.
const WARM_START: f64 = 20.0;
/// Seconds of an update of the built-in task, sampling, recording and its share of evaluations included, on the
/// same core.
const UPDATE: f64 = 0.065;
/// Updates of the first run after which its pace is told.
const ENOUGH: u64 = 40;
/// Megabytes of a run without its versions: archive, plans, results, checkpoints.
const RUN: f64 = 10.0;
/// Versions that are kept beside those of the staleness: version 0, those of checkpoints and evaluations.
const KEPT: u64 = 16;
/// Megabytes of a version of the tiny decoder.
const VERSION: f64 = 0.42;

/// Knowledge of the time that a run takes.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    updates: u64,
    jobs: usize,
    /// Seconds and number of finished runs.
    finished: (f64, u64),
    /// Run that was heard first, when, and how many updates since.
    first: Option<(usize, Duration, u64)>,
    /// Seconds of a whole run by the pace of the first.
    expected: Option<f64>,
}

impl Pace {
    /// Creates the pace of runs of so many updates, `jobs` of them at a time.
    pub(super) fn new(updates: u64, jobs: usize) -> Self {
        Self {
            updates,
            jobs,
            finished: (0.0, 0),
            first: None,
            expected: None,
        }
    }

    /// Notes the time of a run that finished.
    pub(super) fn measured(&mut self, seconds: f64) {
        self.finished = (self.finished.0 + seconds, self.finished.1 + 1);
    }

    /// Notes an update of a run; returns true once, when the first run was heard often enough to tell the time
    /// that is left and no run has finished.
    pub(super) fn heard(&mut self, arm: usize, after: Duration) -> bool {
        let first = self.first.get_or_insert((arm, after, 0));
        if first.0 != arm || self.finished.1 > 0 || self.expected.is_some() {
            return false;
        }
        let (_, began, count) = *first;
        if count < ENOUGH {
            first.2 += 1;
            return false;
        }
        let update = after.saturating_sub(began).as_secs_f64() / count as f64;
        self.expected = Some(began.as_secs_f64() + update * self.updates as f64);
        true
    }

    /// Returns the seconds that `runs` more runs take.
    pub(super) fn left(&self, runs: f64) -> f64 {
        let guess = || WARM_START + UPDATE * self.updates as f64;
        let of_run = match self.finished {
            (_, 0) => self.expected.unwrap_or_else(guess),
            (seconds, count) => seconds / count as f64,
        };
        // As many rounds as it takes, the last of which may be of fewer runs.
        (runs / self.jobs as f64).ceil() * of_run
    }

    /// Returns what the time is judged by.
    pub(super) fn basis(&self) -> &'static str {
        match (self.finished.1, self.expected) {
            (0, None) => {
                "guessed from an idle Xeon core (told again when the first run is on its way)"
            }
            (0, Some(_)) => "by the pace of the first run",
            _ => "by the runs that are done",
        }
    }

    /// Returns the megabytes that the folder of a run takes.
    pub(super) fn megabytes(&self, staleness: u64) -> f64 {
        let versions = staleness.min(self.updates).saturating_add(KEPT);
        RUN + 0.03 * self.updates as f64 + VERSION * versions as f64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ENOUGH, Pace, UPDATE, WARM_START};

    #[test]
    fn time_is_judged_by_what_is_known_best() {
        let mut pace = Pace::new(400, 2);
        // Five runs, two at a time, are three rounds.
        assert!((pace.left(5.0) - 3.0 * (WARM_START + 400.0 * UPDATE)).abs() < 1e-9);
        // The first update after 10 s, then 0.1 s an update; the other run does not count.
        let after = |update: u64| Duration::from_millis(10_000 + 100 * update);
        for update in 0..ENOUGH {
            assert!(!pace.heard(1, after(update)));
            assert!(!pace.heard(0, after(7 * update)));
        }
        assert!(pace.heard(1, after(ENOUGH)) && !pace.heard(1, after(ENOUGH + 1)));
        assert!((pace.left(2.0) - 50.0).abs() < 1e-9, "{}", pace.left(2.0));
        pace.measured(30.0);
        pace.measured(40.0);
        assert!((pace.left(3.0) - 70.0).abs() < 1e-9);
    }
}
