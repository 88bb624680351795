//! Curators of a replay set over a sliding window (`vintage bench curate`): oracle calls and time per
//! update, and the value of the chosen set against lazy greedy on the same window.
//!
//! One update inserts one candidate and deletes the oldest. The window slides by its own length, so that
//! each structure has paid for every rebuild that it will need again; the filling before is measured
//! apart. Sets are asked for at intervals, and the cost of asking is measured apart, too: the
//! total depends on how often a learner asks.

mod stream;

use std::time::{Duration, Instant};

use serde::Serialize;
use vintage_curate::{Curator, Kind, Objective, Settings};

pub use self::stream::Workload;
use self::stream::{Coverage, Groups, Stream, id};
use crate::{error::Result, median::median, used::thread_time};

/// Number of times that a set is asked for and compared in one measurement, at most.
const QUESTIONS: usize = 32;

/// Number of insertions that are timed together while the window fills.
const TOGETHER: usize = 1 << 14;

/// Fewest updates of a measurement.
const FEWEST: usize = 2_000;

/// Settings of the benchmark.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Numbers of live rows.
    pub rows: Vec<usize>,
    /// Sizes of the chosen set.
    pub sizes: Vec<usize>,
    /// Accuracy ε of levels and sieve.
    pub epsilon: f64,
    /// Number of updates between two questions of a learner, for the totals.
    pub every: Vec<usize>,
    /// Largest number of updates of a measurement; otherwise it is the number of live rows.
    pub updates: usize,
    /// Curators to measure beside lazy greedy.
    pub curators: Vec<Contender>,
    /// Objective and its candidates.
    pub workload: Workload,
    /// Seed of candidates and draws.
    pub seed: u64,
}

/// Results of the benchmark.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Settings.
    pub plan: Plan,
    /// Measurements, one for each number of rows and each size.
    pub measured: Vec<Measured>,
    /// Sizes of the live set from which on the dynamic levels cost less than lazy greedy and than
    /// the sieve.
    pub wins: Vec<Wins>,
}

/// Measurement of all curators over one window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Number of live rows.
    pub rows: usize,
    /// Size of the chosen set.
    pub size: usize,
    /// Number of updates that were measured.
    pub updates: usize,
    /// Curators.
    pub arms: Vec<Arm>,
}

/// Measurement of one curator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Arm {
    /// Curator.
    pub curator: Contender,
    /// Oracle calls of an update.
    pub update_calls: f64,
    /// CPU time of an update, in microseconds.
    pub update_us: f64,
    /// Oracle calls of an insertion while the window fills.
    pub fill_calls: f64,
    /// CPU time of an insertion while the window fills, in microseconds.
    pub fill_us: f64,
    /// Oracle calls of asking for the set.
    pub question_calls: f64,
    /// Time of asking for the set, in microseconds: median.
    pub question_us: f64,
    /// Mean value of the set, as a share of lazy greedy's.
    pub value: f64,
    /// Smallest value of the set, as a share of lazy greedy's.
    pub least_value: f64,
}

impl Arm {
    /// Returns the oracle calls and the microseconds of an update, if the set is asked for after every
    /// so many updates.
    pub fn total(&self, every: usize) -> (f64, f64) {
        let share = 1.0 / every.max(1) as f64;
        (
            self.update_calls + share * self.question_calls,
            self.update_us + share * self.question_us,
        )
    }
}

/// Smallest number of live rows from which on the dynamic levels cost less per update than another
/// curator, at every larger number measured, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Wins {
    /// Other curator.
    pub against: Contender,
    /// Size of the chosen set.
    pub size: usize,
    /// Number of updates between two questions.
    pub every: usize,
    /// Number of live rows by oracle calls; `None` if they do not at the largest number measured.
    pub by_calls: Option<usize>,
    /// Number of live rows by time; `None` if they do not at the largest number measured.
    pub by_time: Option<usize>,
}

/// Curator that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    /// Lazy greedy when asked: the reference of values, always measured.
    LazyGreedy,
    /// Sieve with reruns.
    Sieve,
    /// Dynamic levels.
    Levels,
    /// Dynamic levels, eager.
    LevelsEager,
    /// Uniform sample.
    Uniform,
    /// Newest candidates.
    Newest,
}

impl Contender {
    /// All curators.
    pub const ALL: [Self; 6] = [
        Self::LazyGreedy,
        Self::Sieve,
        Self::Levels,
        Self::LevelsEager,
        Self::Uniform,
        Self::Newest,
    ];

    fn kind(self, epsilon: f64) -> Kind {
        let levels = |eager| Kind::DynamicLevels { epsilon, eager };
        match self {
            Self::LazyGreedy => Kind::LazyGreedy { every: 0 },
            Self::Sieve => Kind::Sieve { epsilon },
            Self::Levels => levels(false),
            Self::LevelsEager => levels(true),
            Self::Uniform => Kind::Uniform,
            Self::Newest => Kind::Newest,
        }
    }
}

/// Measures all curators; `note` is told of each measurement that begins.
///
/// # Errors
/// [`Error::Curate`](crate::Error::Curate) for a setting out of range.
pub fn measure(plan: &Plan, note: impl Fn(&str)) -> Result<Report> {
    let mut measured = Vec::new();
    for &size in &plan.sizes {
        for &rows in &plan.rows {
            note(&format!("{rows} rows, {size} chosen"));
            measured.push(match plan.workload {
                Workload::Groups => window(plan, rows, size, &Groups::new(plan.seed, rows)),
                Workload::Coverage => window(plan, rows, size, &Coverage::new(plan.seed)),
            }?);
        }
    }
    let mut wins = Vec::new();
    for &size in &plan.sizes {
        for &every in &plan.every {
            for against in [Contender::LazyGreedy, Contender::Sieve] {
                wins.push(compare(&measured, against, size, every));
            }
        }
    }
    Ok(Report {
        plan: plan.clone(),
        measured,
        wins,
    })
}

fn compare(measured: &[Measured], against: Contender, size: usize, every: usize) -> Wins {
    let from = |cost: fn((f64, f64)) -> f64| {
        let mut of_size: Vec<_> = measured.iter().filter(|one| one.size == size).collect();
        of_size.sort_by_key(|one| std::cmp::Reverse(one.rows));
        let least = |one: &&&Measured| {
            let of = |curator| {
                let arm = one.arms.iter().find(|arm| arm.curator == curator);
                arm.map_or(f64::INFINITY, |arm| cost(arm.total(every)))
            };
            of(Contender::Levels) < of(against)
        };
        of_size.iter().take_while(least).last().map(|one| one.rows)
    };
    Wins {
        against,
        size,
        every,
        by_calls: from(|(calls, _)| calls),
        by_time: from(|(_, us)| us),
    }
}

fn window<S: Stream>(plan: &Plan, rows: usize, size: usize, stream: &S) -> Result<Measured> {
    let updates = rows.max(FEWEST).min(plan.updates);
    let mut reference: Vec<f64> = Vec::new();
    let mut measured = Vec::new();
    let wanted = |one: &Contender| *one == Contender::LazyGreedy || plan.curators.contains(one);
    for contender in Contender::ALL.into_iter().filter(wanted) {
        let settings = Settings {
            kind: contender.kind(plan.epsilon),
            k: size,
            seed: plan.seed,
            decay: 1.0,
        };
        let curator = Curator::with(stream.objective(), settings)?;
        let (mut arm, values) = slide(curator, contender, rows, updates, stream)?;
        if reference.is_empty() {
            reference.clone_from(&values);
        }
        let shares: Vec<_> = values
            .iter()
            .zip(&reference)
            .map(|(own, best)| own / best)
            .collect();
        arm.value = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
        arm.least_value = shares.iter().copied().fold(f64::INFINITY, f64::min);
        measured.push(arm);
    }
    Ok(Measured {
        rows,
        size,
        updates,
        arms: measured,
    })
}

/// Sum over some operations.
#[derive(Default)]
struct Cost {
    calls: u64,
    time: Duration,
    count: usize,
}

impl Cost {
    /// Adds `count` operations that are done together.
    fn take<O: Objective>(
        &mut self,
        curator: &mut Curator<O>,
        count: usize,
        work: impl FnOnce(&mut Curator<O>) -> vintage_curate::Result<()>,
    ) -> Result<()> {
        let calls = curator.calls();
        let (begun, used) = (Instant::now(), thread_time());
        work(curator)?;
        let used = used.zip(thread_time());
        self.time += used.map_or_else(|| begun.elapsed(), |(from, to)| to.saturating_sub(from));
        self.calls += curator.calls() - calls;
        self.count += count;
        Ok(())
    }

    /// Returns calls and microseconds of one operation.
    fn each(&self) -> (f64, f64) {
        let count = self.count.max(1) as f64;
        (
            self.calls as f64 / count,
            self.time.as_secs_f64() * 1e6 / count,
        )
    }
}

/// Slides a window over a stream; returns what it cost, and the value of the set at each question.
fn slide<S: Stream>(
    mut curator: Curator<S::Objective>,
    contender: Contender,
    rows: usize,
    updates: usize,
    stream: &S,
) -> Result<(Arm, Vec<f64>)> {
    let candidates = |from: usize, count: usize| -> Result<Vec<_>> {
        let numbers = from as u64..(from + count) as u64;
        numbers
            .map(|number| Ok((number, stream.candidate(number)?)))
            .collect()
    };
    let (mut fill, mut update) = (Cost::default(), Cost::default());
    for from in (0..rows).step_by(TOGETHER) {
        let count = TOGETHER.min(rows - from);
        let some = candidates(from, count)?;
        fill.take(&mut curator, count, |curator| {
            some.into_iter()
                .try_for_each(|(number, (version, weight, features))| {
                    curator.insert_features(id(number), version, weight, features)
                })
        })?;
    }
    let between = updates.div_ceil(QUESTIONS).max(1);
    let (mut calls, mut times, mut values) = (0, Vec::new(), Vec::new());
    for from in (0..updates).step_by(between) {
        let count = between.min(updates - from);
        let some = candidates(rows + from, count)?;
        update.take(&mut curator, count, |curator| {
            some.into_iter()
                .try_for_each(|(number, (version, weight, features))| {
                    curator.insert_features(id(number), version, weight, features)?;
                    curator.delete(id(number - rows as u64))
                })
        })?;
        let before = curator.calls();
        let begun = Instant::now();
        curator.chosen();
        times.push(begun.elapsed().as_secs_f64() * 1e6);
        calls += curator.calls() - before;
        values.push(curator.value());
    }
    let ((fill_calls, fill_us), (update_calls, update_us)) = (fill.each(), update.each());
    let arm = Arm {
        curator: contender,
        update_calls,
        update_us,
        fill_calls,
        fill_us,
        question_calls: calls as f64 / times.len() as f64,
        question_us: median(times),
        value: 1.0,
        least_value: 1.0,
    };
    Ok((arm, values))
}

#[cfg(test)]
mod tests;
