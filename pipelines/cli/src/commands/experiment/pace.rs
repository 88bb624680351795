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
    jobs: usize,
    /// Seconds of finished runs, the warm start left out, and the number of their updates.
    finished: (f64, u64),
    /// Run that was heard first, when, and how many updates since.
    first: Option<(usize, Duration, u64)>,
    /// Seconds until the first run's first update, and of an update, by its pace.
    expected: Option<(f64, f64)>,
}

impl Pace {
    /// Creates the pace of runs, `jobs` of them at a time.
    pub(super) fn new(jobs: usize) -> Self {
        Self {
            jobs,
            finished: (0.0, 0),
            first: None,
            expected: None,
        }
    }

    /// Notes the time of a run that finished.
    pub(super) fn measured(&mut self, updates: u64, seconds: f64) {
        let began = self.warm_start().min(seconds / 2.0);
        self.finished = (self.finished.0 + seconds - began, self.finished.1 + updates);
    }

    /// Notes an update of a run of `updates`; returns true once, when the first run was heard often enough to tell
    /// the time that is left and no run has finished.
    pub(super) fn heard(&mut self, run: usize, updates: u64, after: Duration) -> bool {
        let first = self.first.get_or_insert((run, after, 0));
        if first.0 != run || self.finished.1 > 0 || self.expected.is_some() {
            return false;
        }
        let (_, began, count) = *first;
        if count < ENOUGH.min(updates / 2) {
            first.2 += 1;
            return false;
        }
        let update = after.saturating_sub(began).as_secs_f64() / count.max(1) as f64;
        self.expected = Some((began.as_secs_f64(), update));
        true
    }

    fn warm_start(&self) -> f64 {
        self.expected.map_or(WARM_START, |(began, _)| began)
    }

    /// Returns the seconds that more runs take, given by their numbers of updates.
    pub(super) fn left(&self, runs: impl Iterator<Item = u64>) -> f64 {
        let update = match self.finished {
            (_, 0) => self.expected.map_or(UPDATE, |(_, update)| update),
            (seconds, updates) => seconds / updates as f64,
        };
        let of_run = |updates: u64| self.warm_start() + update * updates as f64;
        let runs: Vec<_> = runs.map(of_run).collect();
        // As many rounds as it takes, the last of which may be of fewer runs.
        let rounds = runs.len().div_ceil(self.jobs.max(1));
        runs.iter().sum::<f64>() / runs.len().max(1) as f64 * rounds as f64
    }

    /// Returns what the time is judged by.
    pub(super) fn basis(&self) -> &'static str {
        match (self.finished.1, self.expected) {
            (0, None) => {
                "guessed for the built-in model on an idle Xeon core (told again when the first run is on its way)"
            }
            (0, Some(_)) => "by the pace of the first run",
            _ => "by the runs that are done",
        }
    }

    /// Returns the megabytes that the folder of a run takes which keeps so many versions besides its usual ones.
    pub(super) fn megabytes(updates: u64, kept: u64) -> f64 {
        let versions = kept.min(updates).saturating_add(KEPT);
        RUN + 0.03 * updates as f64 + VERSION * versions as f64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ENOUGH, Pace, UPDATE, WARM_START};

    #[test]
    fn time_is_judged_by_what_is_known_best() {
        let mut pace = Pace::new(2);
        let left = |pace: &Pace, runs: usize| pace.left(std::iter::repeat_n(400, runs));
        // Five runs, two at a time, are three rounds.
        assert!((left(&pace, 5) - 3.0 * (WARM_START + 400.0 * UPDATE)).abs() < 1e-9);
        // The first update after 10 s, then 0.1 s an update; the other run does not count.
        let after = |update: u64| Duration::from_millis(10_000 + 100 * update);
        for update in 0..ENOUGH {
            assert!(!pace.heard(1, 400, after(update)));
            assert!(!pace.heard(0, 400, after(7 * update)));
        }
        assert!(pace.heard(1, 400, after(ENOUGH)) && !pace.heard(1, 400, after(ENOUGH + 1)));
        assert!((left(&pace, 2) - 50.0).abs() < 1e-9, "{}", left(&pace, 2));
        // Finished runs of 400 and 800 updates took 0.05 s an update besides 10 s.
        pace.measured(400, 30.0);
        pace.measured(800, 50.0);
        assert!((left(&pace, 3) - 60.0).abs() < 1e-9);
        assert!((pace.left([800, 400].into_iter()) - 40.0).abs() < 1e-9);
    }
}
