//! Table over seeds.

use serde::Serialize;

use super::{
    Trial,
    way::{Arm, Plan},
};
use crate::{
    course::{self, Counts, Figures, Finished, finished},
    statistics::Spread,
};

/// Result of the experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Comparison, budget and seeds.
    pub plan: Plan,
    /// Sampled accuracy that `Means::groups_to` is about.
    pub accuracy: f64,
    /// Numbers of runs by their states.
    #[serde(flatten)]
    pub counts: Counts,
    /// Numbers of each way, over the seeds whose run finished.
    pub rows: Vec<Row>,
    /// Differences of ways from those that they are compared with besides the baseline.
    pub contrasts: Vec<Contrast>,
    /// Every run.
    pub trials: Vec<Trial>,
}

/// Way, over the finished runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the way.
    pub way: &'static str,
    /// Number of optimizer steps of a run.
    pub steps: u64,
    /// Number of new groups of a run.
    pub groups: u64,
    /// Seeds whose run finished.
    pub seeds: Vec<u64>,
    /// Number of runs that did not finish, failed ones included.
    pub missing: u64,
    /// Means; `None` if no run finished.
    pub means: Option<Means>,
}

/// Means over the seeds of a way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Means {
    /// Sampled accuracy, mean of the last four evaluations.
    pub sampled_last: Spread,
    /// Greedy accuracy, mean of the last four evaluations.
    pub greedy_last: Spread,
    /// Sampled accuracy, mean of all evaluations, which are at about equal shares of a run.
    pub sampled_area: Spread,
    /// Difference of `sampled_last` from that of the baseline, over the seeds that both have; `None` for the
    /// baseline.
    pub difference: Option<Spread>,
    /// Difference of `sampled_area` from that of the baseline.
    pub area_difference: Option<Spread>,
    /// Number of new groups after which the sampled accuracy was first reached, over the runs that reached it;
    /// `None` if none did.
    pub groups_to: Option<Spread>,
    /// Number of runs that reached it.
    pub reached: u64,
    /// Effective share of rows; `None` if no record has it.
    pub effective_rows: Option<f64>,
    /// Number of runs that collapsed.
    pub collapsed: u64,
}

/// Difference of a way from another than the baseline, over the seeds that both have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contrast {
    /// Name of the way.
    pub way: &'static str,
    /// Name of the way whose numbers are subtracted.
    pub from: &'static str,
    /// Number of seeds.
    pub seeds: u64,
    /// Numbers of optimizer steps of both.
    pub steps: (u64, u64),
    /// Difference of the sampled accuracy, means of the last four evaluations.
    pub sampled_last: Spread,
    /// Difference of the greedy accuracy, means of the last four evaluations.
    pub greedy_last: Spread,
    /// Difference of the sampled accuracy, means of all evaluations.
    pub sampled_area: Spread,
}

impl Report {
    /// Computes the table from the runs.
    pub fn new(plan: Plan, accuracy: f64, trials: Vec<Trial>) -> Self {
        let ways = plan.comparison.ways().iter();
        let baseline = plan.comparison.baseline();
        let rows = ways.map(|way| {
            let all = trials.iter().filter(|one| one.arm.way.name == way.name);
            let (runs, figures): (Vec<_>, Vec<_>) = of(&trials, way.name).unzip();
            Row {
                way: way.name,
                steps: way.steps(&plan),
                groups: way.updates(&plan) * way.new,
                seeds: runs.iter().map(|trial| trial.arm.seed).collect(),
                missing: (all.count() - runs.len()) as u64,
                means: means(&trials, (way.name, baseline), &runs, &figures, accuracy),
            }
        });
        Self {
            counts: Counts::of(&trials),
            rows: rows.collect(),
            contrasts: contrasts(&plan, &trials),
            accuracy,
            trials,
            plan,
        }
    }

    /// Returns the finished runs of a way, in the order of their seeds.
    pub fn finished_runs(&self, way: &str) -> Vec<&Trial> {
        of(&self.trials, way).map(|(trial, _)| trial).collect()
    }
}

/// Returns the finished runs of a way with their numbers.
fn of<'a>(trials: &'a [Trial], way: &str) -> impl Iterator<Item = Finished<'a, Arm>> {
    finished(trials, move |arm| arm.way.name == way)
}

/// Returns the differences of a number between two ways, over the seeds that both have.
fn paired(trials: &[Trial], (one, other): (&str, &str), number: fn(&Figures) -> f64) -> Vec<f64> {
    course::paired(of(trials, one), of(trials, other), number)
}

fn contrasts(plan: &Plan, trials: &[Trial]) -> Vec<Contrast> {
    let ways = plan.comparison.ways();
    let steps_of = |name| Some(ways.iter().find(|way| way.name == name)?.steps(plan));
    let of = |(way, from): (&'static str, &'static str)| {
        let spread = |number| Spread::of(&paired(trials, (way, from), number));
        Some(Contrast {
            way,
            from,
            seeds: paired(trials, (way, from), |_| 0.0).len() as u64,
            steps: (steps_of(way)?, steps_of(from)?),
            sampled_last: spread(|one| one.sampled.last)?,
            greedy_last: spread(|one| one.greedy.last)?,
            sampled_area: spread(|one| one.sampled.area)?,
        })
    };
    let pairs = ways.iter().filter_map(|way| Some((way.name, way.beside?)));
    pairs.filter_map(of).collect()
}

/// Returns the new groups that a run had trained when its sampled accuracy was first reached.
fn groups_to(trial: &Trial, accuracy: f64) -> Option<f64> {
    let mut evaluated = trial.evaluations.iter();
    let first = evaluated.find(|one| one.sampled >= accuracy)?;
    Some((first.version * trial.arm.way.new) as f64)
}

fn means(
    trials: &[Trial],
    (way, baseline): (&str, &str),
    runs: &[&Trial],
    figures: &[&Figures],
    accuracy: f64,
) -> Option<Means> {
    let spread = |number: fn(&Figures) -> f64| {
        let numbers: Vec<_> = figures.iter().map(|one| number(one)).collect();
        Spread::of(&numbers)
    };
    let beside = |number| {
        let differences = (way != baseline).then(|| paired(trials, (way, baseline), number));
        differences.and_then(|differences| Spread::of(&differences))
    };
    let reached = runs.iter().filter_map(|trial| groups_to(trial, accuracy));
    let reached: Vec<_> = reached.collect();
    Some(Means {
        sampled_last: spread(|one| one.sampled.last)?,
        greedy_last: spread(|one| one.greedy.last)?,
        sampled_area: spread(|one| one.sampled.area)?,
        difference: beside(|one| one.sampled.last),
        area_difference: beside(|one| one.sampled.area),
        groups_to: Spread::of(&reached),
        reached: reached.len() as u64,
        effective_rows: course::known_mean(figures.iter().map(|one| one.effective_rows)),
        collapsed: figures.iter().filter(|one| one.collapse.is_some()).count() as u64,
    })
}
