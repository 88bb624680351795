//! Outcome of a run, from the records of its updates and evaluations: last and best accuracy, area, collapse,
//! masked share, second moments, effective share, cosine of gradients.

use serde::Serialize;
use vintage_control::{AlgorithmName, EvaluationResult, UpdateResult};
use vintage_losses::Drift;

/// Number of updates of a stretch.
pub const STRETCH: usize = 25;
/// Number of last evaluations whose mean is the final accuracy.
const LAST: usize = 4;
/// Number of evaluations of a running mean.
const RUNNING: usize = 3;
/// Share of the best running mean below which a run counts as collapsed.
const COLLAPSE: f64 = 0.7;
/// Best running mean from which on a fall counts. Below, a fall of 30 % is noise: the standard error of three
/// evaluations of 512 prompts at 5 % is 0.6 points, and 30 % of 5 % are 1.5 points.
const LEAST_BEST: f64 = 0.05;

/// State of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Run that did all its updates.
    Finished,
    /// Run that was stopped before its end, or goes on.
    Unfinished,
    /// Run that ended with an error.
    Failed {
        /// Message of the error.
        reason: String,
    },
    /// Run that has no folder yet.
    NotBegun,
}

/// Arm of an experiment: name and seed of a run.
pub trait Arm {
    /// Returns the name of the run, which is that of its folder.
    fn name(&self) -> String;

    /// Returns the seed of everything that is drawn.
    fn seed(&self) -> u64;
}

/// Numbers of runs by their states.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Counts {
    /// Number of held-out prompts of an evaluation; 0 before the first.
    pub prompts: u64,
    /// Number of runs that did all their updates.
    pub finished: u64,
    /// Number of runs that ended with an error.
    pub failed: u64,
    /// Number of runs that were stopped or have not begun.
    pub unfinished: u64,
}

/// Run of an experiment with what it came to. `A` is the arm: what sets the run apart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial<A> {
    /// Arm of the run, its seed included.
    #[serde(flatten)]
    pub arm: A,
    /// State of the run.
    #[serde(flatten)]
    pub state: State,
    /// Number of updates with a result.
    pub updates: u64,
    /// Number of held-out prompts; 0 before the first evaluation.
    pub prompts: u64,
    /// Accuracy on held-out prompts, by version.
    pub evaluations: Vec<Evaluated>,
    /// Means of updates, 25 at a time.
    pub stretches: Vec<Stretch>,
    /// Numbers of the run; `None` until it was evaluated and had an update.
    pub figures: Option<Figures>,
}

/// Accuracy of a version on held-out prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluated {
    /// Version that was evaluated.
    pub version: u64,
    /// Share of right answers, one sample a prompt at temperature 1.
    pub sampled: f64,
    /// Share of right answers, greedy.
    pub greedy: f64,
}

/// Means of adjacent updates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stretch {
    /// First update.
    pub update: u64,
    /// Share of tokens that the loss masked or clipped.
    pub masked_share: f64,
    /// Second moment of the log-ratio over the tokens that the rule bounds (for most: those that move
    /// away), before masking.
    pub m2_bounded: f64,
    /// Second moment of the log-ratio over all tokens.
    pub m2_all: f64,
    /// Effective share of rows; `None` if no record has it.
    pub effective_rows: Option<f64>,
    /// Mean entropy on the tokens trained on, in nats.
    pub entropy: f64,
    /// Global gradient norm before it is clipped.
    pub grad_norm: f64,
    /// Cosine of an update's gradient with the mean of those before; `None` if no record has it.
    pub gradient_cosine: Option<f64>,
}

/// Accuracy over the evaluations of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reached {
    /// Mean of the last four evaluations.
    pub last: f64,
    /// Mean of all evaluations, version 0 included.
    pub area: f64,
    /// Largest mean of three consecutive evaluations.
    pub best: f64,
    /// Last version of the three.
    pub best_version: u64,
}

/// Numbers of a run. Means over updates are means of updates, not of tokens, but for `masked_share`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Sampled accuracy.
    pub sampled: Reached,
    /// Greedy accuracy.
    pub greedy: Reached,
    /// First version after the best one at which the running mean of the sampled accuracy is under 0.7 of the
    /// best; `None` if it never is, or if the best is under 5 %.
    pub collapse: Option<u64>,
    /// First update at which the policy had drifted far from what sampled its data, over [`Drift::WINDOW`] updates;
    /// `None` if it never had.
    pub drifted: Option<u64>,
    /// Share of all tokens that the loss masked or clipped.
    pub masked_share: f64,
    /// Second moment of the log-ratio over the tokens that the rule bounds, before masking.
    pub m2_bounded: f64,
    /// Second moment over the other tokens; `None` if the rule bounds all of them.
    pub m2_other: Option<f64>,
    /// Largest mean of 25 adjacent updates of the second moment over all tokens.
    pub m2_all_peak: f64,
    /// Effective share of rows; `None` if no record has it.
    pub effective_rows: Option<f64>,
    /// Mean entropy on the tokens of the last 25 updates, in nats.
    pub entropy: f64,
    /// Mean of the gradient norm before it is clipped.
    pub grad_norm: f64,
    /// Largest mean of 25 adjacent updates of the gradient norm.
    pub grad_norm_peak: f64,
    /// Cosine of an update's gradient with the mean of those before; `None` if no record has it.
    pub gradient_cosine: Option<f64>,
    /// Share of updates that changed nothing, because all groups had equal rewards.
    pub idle_share: f64,
}

impl<A> Trial<A> {
    /// Computes what a run of `loss` came to from its records, which are in order.
    pub fn new(
        arm: A,
        loss: AlgorithmName,
        state: State,
        results: &[UpdateResult],
        evaluations: &[EvaluationResult],
    ) -> Self {
        let prompts = evaluations.last().map_or(0, |last| last.samples);
        let evaluations: Vec<_> = evaluations
            .iter()
            .map(|one| Evaluated {
                version: one.version.0,
                sampled: one.sampled_accuracy,
                greedy: one.greedy_accuracy,
            })
            .collect();
        let stretches: Vec<_> = results.chunks(STRETCH).filter_map(Stretch::of).collect();
        Self {
            figures: Figures::of(loss, results, &evaluations, &stretches),
            updates: results.len() as u64,
            prompts,
            arm,
            state,
            evaluations,
            stretches,
        }
    }

    /// Returns true for a run that did all its updates.
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }
}

impl Counts {
    /// Counts runs.
    pub(crate) fn of<A>(trials: &[Trial<A>]) -> Self {
        let count = |of: fn(&Trial<A>) -> bool| trials.iter().filter(|one| of(one)).count() as u64;
        let finished = count(Trial::is_finished);
        let failed = count(|one| matches!(one.state, State::Failed { .. }));
        Self {
            prompts: trials.iter().map(|one| one.prompts).max().unwrap_or(0),
            finished,
            failed,
            unfinished: trials.len() as u64 - finished - failed,
        }
    }
}

/// Finished run with its numbers.
pub(crate) type Finished<'a, A> = (&'a Trial<A>, &'a Figures);

/// Returns the finished runs of some arms, in their order.
pub(crate) fn finished<A>(
    trials: &[Trial<A>],
    here: impl Fn(&A) -> bool,
) -> impl Iterator<Item = Finished<'_, A>> {
    let finished = trials.iter().filter(move |one| here(&one.arm));
    let finished = finished.filter(|one| one.is_finished());
    finished.filter_map(|trial| Some((trial, trial.figures.as_ref()?)))
}

/// Returns the differences of a number between two sets of runs, over the seeds that both have.
pub(crate) fn paired<'a, A: Arm + 'a>(
    ones: impl Iterator<Item = Finished<'a, A>>,
    others: impl Iterator<Item = Finished<'a, A>>,
    number: fn(&Figures) -> f64,
) -> Vec<f64> {
    let others: Vec<_> = others.collect();
    let difference = |(trial, figures): Finished<'a, A>| {
        let mut same = others.iter();
        let (_, other) = same.find(|(other, _)| other.arm.seed() == trial.arm.seed())?;
        Some(number(figures) - number(other))
    };
    ones.filter_map(difference).collect()
}

impl Stretch {
    fn of(results: &[UpdateResult]) -> Option<Self> {
        let of = |number: fn(&UpdateResult) -> f64| mean(results.iter().map(number));
        Some(Self {
            update: results.first()?.update().0,
            masked_share: masked_share(results),
            m2_bounded: of(|one| one.m2_before),
            m2_all: of(|one| one.m2_all),
            effective_rows: effective_rows(results),
            entropy: of(|one| one.entropy),
            grad_norm: of(|one| one.grad_norm),
            gradient_cosine: gradient_cosine(results),
        })
    }
}

impl Figures {
    fn of(
        loss: AlgorithmName,
        results: &[UpdateResult],
        evaluations: &[Evaluated],
        stretches: &[Stretch],
    ) -> Option<Self> {
        let count = results.len().checked_sub(1)? + 1;
        let of = |number: fn(&UpdateResult) -> f64| mean(results.iter().map(number));
        let recent = &results[count.saturating_sub(STRETCH)..];
        let peak = |number: fn(&Stretch) -> f64| stretches.iter().map(number).fold(0.0, f64::max);
        // AReaL's rule bounds all tokens, and measures another ratio.
        let bounds_all = loss == AlgorithmName::M2poAreal;
        let others = results.iter().filter(|_| !bounds_all);
        let others: Vec<_> = others.filter_map(m2_other).collect();
        let idle = results.iter().filter(|one| one.skipped.is_some()).count();
        Some(Self {
            sampled: Reached::of(evaluations, |one| one.sampled)?,
            greedy: Reached::of(evaluations, |one| one.greedy)?,
            collapse: collapse(evaluations, |one| one.sampled),
            drifted: drifted(results),
            masked_share: masked_share(results),
            m2_bounded: of(|one| one.m2_before),
            m2_other: (!others.is_empty()).then(|| mean(others.iter().copied())),
            m2_all_peak: peak(|one| one.m2_all),
            effective_rows: effective_rows(results),
            entropy: mean(recent.iter().map(|one| one.entropy)),
            grad_norm: of(|one| one.grad_norm),
            grad_norm_peak: peak(|one| one.grad_norm),
            gradient_cosine: gradient_cosine(results),
            idle_share: idle as f64 / count as f64,
        })
    }
}

/// Returns the first update at which a run had drifted far.
fn drifted(results: &[UpdateResult]) -> Option<u64> {
    let mut drift = Drift::default();
    let mut trained = results.iter().filter(|one| one.skipped.is_none());
    let far = trained.find(|one| drift.take(one.kl).is_some_and(|mean| mean > Drift::FAR));
    Some(far?.update().0)
}

/// Returns the second moment over the tokens outside the trust-region set, before masking.
fn m2_other(result: &UpdateResult) -> Option<f64> {
    let others = result.tokens.checked_sub(result.trust_tokens)?;
    let all = result.m2_all * result.tokens as f64;
    let bounded = result.m2_before * result.trust_tokens as f64;
    // Rounding of two sums may leave a little below 0.
    (others > 0).then(|| ((all - bounded) / others as f64).max(0.0))
}

/// Returns the mean effective share of rows, as far as it is recorded.
fn effective_rows(results: &[UpdateResult]) -> Option<f64> {
    known_mean(results.iter().map(|one| one.effective_rows))
}

/// Returns the mean cosine of a gradient with those before, as far as it is recorded.
fn gradient_cosine(results: &[UpdateResult]) -> Option<f64> {
    known_mean(results.iter().map(|one| one.gradient_cosine))
}

fn masked_share(results: &[UpdateResult]) -> f64 {
    let sum = |of: fn(&UpdateResult) -> u64| results.iter().map(of).sum::<u64>();
    sum(|one| one.masked_tokens) as f64 / sum(|one| one.tokens).max(1) as f64
}

impl Reached {
    fn of(evaluations: &[Evaluated], value: fn(&Evaluated) -> f64) -> Option<Self> {
        let values = || evaluations.iter().map(value);
        let last = evaluations.len().checked_sub(1)? + 1;
        let mut best = (f64::NEG_INFINITY, 0);
        for (version, running) in running(evaluations, value) {
            if running > best.0 {
                best = (running, version);
            }
        }
        Some(Self {
            last: mean(values().skip(last.saturating_sub(LAST))),
            area: mean(values()),
            best: best.0,
            best_version: best.1,
        })
    }
}

/// Returns the means of three consecutive evaluations, by their last version; one mean of all if there are
/// fewer.
fn running(evaluations: &[Evaluated], value: fn(&Evaluated) -> f64) -> Vec<(u64, f64)> {
    let size = RUNNING.min(evaluations.len()).max(1);
    let of = |part: &[Evaluated]| {
        let last = part.last().map_or(0, |one| one.version);
        (last, mean(part.iter().map(value)))
    };
    evaluations.windows(size).map(of).collect()
}

/// Returns the first version after the best at which the running mean is under [`COLLAPSE`] of the best.
fn collapse(evaluations: &[Evaluated], value: fn(&Evaluated) -> f64) -> Option<u64> {
    let means = running(evaluations, value);
    let best = means.iter().map(|one| one.1).fold(0.0, f64::max);
    if best < LEAST_BEST {
        return None;
    }
    let at = means.iter().position(|one| one.1 >= best)?;
    let fallen = means[at..].iter().find(|one| one.1 < COLLAPSE * best)?;
    Some(fallen.0)
}

/// Returns the mean of the numbers that are known; `None` if none is.
pub(crate) fn known_mean(numbers: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let known: Vec<_> = numbers.flatten().collect();
    (!known.is_empty()).then(|| mean(known.into_iter()))
}

/// Returns the mean of numbers; 0 of none.
pub(crate) fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0_u64);
    for number in numbers {
        sum += number;
        count += 1;
    }
    sum / count.max(1) as f64
}

/// Returns a second moment, or 0 for one that is the rounding of two log-probs in f32.
pub fn above_rounding(moment: f64) -> f64 {
    if moment < 1e-9 { 0.0 } else { moment }
}
