//! Table over seeds.

use serde::Serialize;
use vintage_control::AlgorithmName;

use super::{
    Trial,
    ages::Staleness,
    grid::{Arm, Grid},
};
use crate::{
    course::{self, Counts, Figures, Finished, finished},
    statistics::Spread,
};

/// Result of the experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Losses, values of staleness, seeds.
    pub grid: Grid,
    /// Numbers of runs by their states.
    #[serde(flatten)]
    pub counts: Counts,
    /// Numbers of each loss at each staleness, over the seeds whose run finished.
    pub cells: Vec<Cell>,
    /// Differences of the first loss from each other, at each staleness.
    pub contrasts: Vec<Contrast>,
    /// Every run.
    pub trials: Vec<Trial>,
}

/// Loss at a staleness, over the finished runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// Name of the loss.
    pub loss: &'static str,
    /// Staleness.
    pub staleness: Staleness,
    /// Seeds whose run finished.
    pub seeds: Vec<u64>,
    /// Number of runs that did not finish, failed ones included.
    pub missing: u64,
    /// Means; `None` if no run finished.
    pub means: Option<Means>,
}

/// Means over the seeds of a cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Means {
    /// Sampled accuracy, mean of the last four evaluations.
    pub sampled_last: Spread,
    /// Greedy accuracy, mean of the last four evaluations.
    pub greedy_last: Spread,
    /// Sampled accuracy, mean of all evaluations.
    pub sampled_area: Spread,
    /// Greedy accuracy, mean of all evaluations.
    pub greedy_area: Spread,
    /// Difference of `sampled_last` from that of the same loss and seeds at staleness 0; `None` at 0, and
    /// without such runs.
    pub from_fresh: Option<Spread>,
    /// Share of tokens masked or clipped.
    pub masked_share: f64,
    /// Second moment over the tokens that the rule bounds, before masking.
    pub m2_bounded: f64,
    /// Second moment over the other tokens.
    pub m2_other: Option<f64>,
    /// Largest mean of 25 updates of the second moment over all tokens.
    pub m2_all_peak: f64,
    /// Effective share of rows; `None` if no record has it.
    pub effective_rows: Option<f64>,
    /// Entropy of the last 25 updates, in nats.
    pub entropy: f64,
    /// Gradient norm before it is clipped.
    pub grad_norm: f64,
    /// Largest mean of 25 updates of the gradient norm.
    pub grad_norm_peak: f64,
    /// Cosine of an update's gradient with the mean of those before; `None` if no record has it.
    pub gradient_cosine: Option<f64>,
    /// Share of updates that changed nothing.
    pub idle_share: f64,
    /// Number of runs that drifted far from what sampled their data.
    pub drifted: u64,
    /// First update at which one of them had.
    pub first_drift: Option<u64>,
    /// Number of runs that collapsed.
    pub collapsed: u64,
    /// First version at which one of them had.
    pub first_collapse: Option<u64>,
}

/// Difference of two losses in the sampled accuracy of the last evaluations, over the seeds that both have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contrast {
    /// Staleness.
    pub staleness: Staleness,
    /// First loss of the grid.
    pub loss: &'static str,
    /// Loss whose accuracy is subtracted.
    pub from: &'static str,
    /// Number of seeds.
    pub seeds: u64,
    /// Difference.
    pub difference: Spread,
}

impl Report {
    /// Puts the table together; `trials` are the runs of the grid.
    pub fn new(grid: Grid, trials: Vec<Trial>) -> Self {
        let losses = || grid.losses.iter().map(|loss| loss.name);
        let at = grid.staleness.iter();
        let cells = at.flat_map(|staleness| losses().map(|loss| cell(&trials, loss, *staleness)));
        let at = grid.staleness.iter();
        let contrasts = at.flat_map(|staleness| {
            let mut losses = losses();
            let first = losses.next();
            let others = losses.filter_map(|other| contrast(&trials, first?, other, *staleness));
            others.collect::<Vec<_>>()
        });
        Self {
            counts: Counts::of(&trials),
            cells: cells.collect(),
            contrasts: contrasts.collect(),
            trials,
            grid,
        }
    }

    /// Returns the numbers of a loss at a staleness.
    pub fn cell(&self, loss: AlgorithmName, staleness: Staleness) -> Option<&Cell> {
        let mut cells = self.cells.iter();
        cells.find(|cell| cell.loss == loss.as_str() && cell.staleness == staleness)
    }

    /// Returns the finished runs of a loss at a staleness, in the order of their seeds.
    pub fn finished_runs(&self, loss: AlgorithmName, staleness: Staleness) -> Vec<&Trial> {
        of(&self.trials, loss, staleness)
            .map(|(trial, _)| trial)
            .collect()
    }
}

/// Returns the finished runs of a cell with their numbers.
fn of(
    trials: &[Trial],
    loss: AlgorithmName,
    staleness: Staleness,
) -> impl Iterator<Item = Finished<'_, Arm>> {
    finished(trials, move |arm| {
        arm.loss == loss && arm.staleness == staleness
    })
}

/// Returns the differences of the last sampled accuracy of two cells, over the seeds that both have.
fn paired(
    trials: &[Trial],
    one: (AlgorithmName, Staleness),
    other: (AlgorithmName, Staleness),
) -> Vec<f64> {
    let [one, other] = [one, other].map(|(loss, staleness)| of(trials, loss, staleness));
    course::paired(one, other, |figures| figures.sampled.last)
}

fn contrast(
    trials: &[Trial],
    loss: AlgorithmName,
    from: AlgorithmName,
    staleness: Staleness,
) -> Option<Contrast> {
    let differences = paired(trials, (loss, staleness), (from, staleness));
    Some(Contrast {
        staleness,
        loss: loss.as_str(),
        from: from.as_str(),
        seeds: differences.len() as u64,
        difference: Spread::of(&differences)?,
    })
}

fn cell(trials: &[Trial], loss: AlgorithmName, staleness: Staleness) -> Cell {
    let here = |trial: &&Trial| trial.arm.loss == loss && trial.arm.staleness == staleness;
    let all = trials.iter().filter(here).count();
    let (runs, figures): (Vec<_>, Vec<_>) = of(trials, loss, staleness).unzip();
    Cell {
        loss: loss.as_str(),
        staleness,
        seeds: runs.iter().map(|trial| trial.arm.seed).collect(),
        missing: (all - runs.len()) as u64,
        means: means(trials, loss, staleness, &figures),
    }
}

fn means(
    trials: &[Trial],
    loss: AlgorithmName,
    staleness: Staleness,
    figures: &[&Figures],
) -> Option<Means> {
    let spread = |number: fn(&Figures) -> f64| {
        let numbers: Vec<_> = figures.iter().map(|one| number(one)).collect();
        Spread::of(&numbers)
    };
    let mean = |number: fn(&Figures) -> f64| course::mean(figures.iter().map(|one| number(one)));
    let on_fresh = Staleness::same(0);
    let fresh =
        (staleness != on_fresh).then(|| paired(trials, (loss, staleness), (loss, on_fresh)));
    let drifts = || figures.iter().filter_map(|one| one.drifted);
    let collapses = || figures.iter().filter_map(|one| one.collapse);
    Some(Means {
        sampled_last: spread(|one| one.sampled.last)?,
        greedy_last: spread(|one| one.greedy.last)?,
        sampled_area: spread(|one| one.sampled.area)?,
        greedy_area: spread(|one| one.greedy.area)?,
        from_fresh: fresh.and_then(|differences| Spread::of(&differences)),
        masked_share: mean(|one| one.masked_share),
        m2_bounded: mean(|one| one.m2_bounded),
        m2_other: course::known_mean(figures.iter().map(|one| one.m2_other)),
        m2_all_peak: mean(|one| one.m2_all_peak),
        effective_rows: course::known_mean(figures.iter().map(|one| one.effective_rows)),
        entropy: mean(|one| one.entropy),
        grad_norm: mean(|one| one.grad_norm),
        grad_norm_peak: mean(|one| one.grad_norm_peak),
        gradient_cosine: course::known_mean(figures.iter().map(|one| one.gradient_cosine)),
        idle_share: mean(|one| one.idle_share),
        drifted: drifts().count() as u64,
        first_drift: drifts().min(),
        collapsed: collapses().count() as u64,
        first_collapse: collapses().min(),
    })
}
