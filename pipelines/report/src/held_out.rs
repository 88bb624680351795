//! First and last evaluation of a policy on held-out prompts.

use serde::Serialize;
use vintage_control::EvaluationResult;
use vintage_human::Measured;

/// Evaluations of a policy's first and last evaluated version. Values are shares of right answers, or
/// mean rewards if a program gives them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HeldOut {
    /// True if the values are mean rewards.
    pub is_reward: bool,
    /// Sampled, first evaluated version.
    pub first_sampled: f64,
    /// Sampled, last evaluated version.
    pub last_sampled: f64,
    /// Greedy, first evaluated version.
    pub first_greedy: f64,
    /// Greedy, last evaluated version.
    pub last_greedy: f64,
}

impl HeldOut {
    pub(crate) fn of(evaluations: &[EvaluationResult], measured: Measured) -> Option<Self> {
        let (first, last) = (evaluations.first()?, evaluations.last()?);
        Some(Self {
            is_reward: measured == Measured::MeanReward,
            first_sampled: first.sampled_accuracy,
            last_sampled: last.sampled_accuracy,
            first_greedy: first.greedy_accuracy,
            last_greedy: last.greedy_accuracy,
        })
    }

    /// Formats the sampled values, first → last.
    #[must_use]
    pub fn sampled(self) -> String {
        self.both(self.first_sampled, self.last_sampled)
    }

    /// Formats the greedy values, first → last.
    #[must_use]
    pub fn greedy(self) -> String {
        self.both(self.first_greedy, self.last_greedy)
    }

    fn both(self, first: f64, last: f64) -> String {
        let measured = Measured::of(self.is_reward);
        format!("{} → {}", measured.value(first), measured.value(last))
    }
}
