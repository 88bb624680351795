//! Tokens of a batch of groups, in the layout that the losses take.

use vintage_losses::Tokens;

use crate::measure::{Group, Rollout};

/// Tokens of a batch, one rollout after the other.
pub(crate) struct Laid {
    new: Vec<f32>,
    behavior: Vec<f32>,
    pub(crate) valid: Vec<bool>,
    row_ends: Vec<usize>,
}

impl Laid {
    pub(crate) fn of(groups: &[Group]) -> Self {
        let rollouts = || groups.iter().flat_map(|group| &group.rollouts);
        let mut end = 0;
        Self {
            new: rollouts().flat_map(|of| &of.new).copied().collect(),
            behavior: rollouts().flat_map(|of| &of.behavior).copied().collect(),
            valid: rollouts().flat_map(|of| &of.trained).copied().collect(),
            row_ends: rollouts()
                .map(|of| {
                    end += of.behavior.len();
                    end
                })
                .collect(),
        }
    }

    /// Returns the advantage of every token, from the rewards and the numbers of trained tokens of
    /// each group.
    pub(crate) fn advantages(
        &self,
        groups: &[Group],
        of_group: impl Fn(&[f32], &[u32]) -> Vec<f32>,
    ) -> Vec<f32> {
        let mut all = Vec::with_capacity(self.new.len());
        for group in groups {
            let rewards: Vec<_> = group.rollouts.iter().map(|of| of.reward).collect();
            let trained = |of: &Rollout| of.trained.iter().filter(|trained| **trained).count();
            let lengths: Vec<_> = group.rollouts.iter().map(|of| trained(of) as u32).collect();
            for (rollout, advantage) in group.rollouts.iter().zip(of_group(&rewards, &lengths)) {
                all.extend(std::iter::repeat_n(advantage, rollout.behavior.len()));
            }
        }
        all
    }

    pub(crate) fn tokens<'a>(&'a self, advantage: &'a [f32], clamp: f64) -> Tokens<'a> {
        let tokens = Tokens::new(&self.new, &self.behavior, advantage, &self.valid);
        Tokens {
            clamp,
            ..tokens.with_rows(&self.row_ends)
        }
    }

    /// Returns the log-ratio of every trained token.
    pub(crate) fn log_ratios(&self) -> Vec<f64> {
        let pairs = self.new.iter().zip(&self.behavior).zip(&self.valid);
        let trained = pairs.filter(|(_, valid)| **valid);
        trained
            .map(|((new, behavior), _)| f64::from(*new) - f64::from(*behavior))
            .collect()
    }
}
