//! Settings of data that is used more than once.

use serde::{Deserialize, Serialize};
use vintage_control::{PolicyVersion, ReplayRule, Sampler, UpdateNumber};

use crate::problems::Problems;

/// Section `[learner.replay]`: groups of earlier updates that are trained again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayConfig {
    /// Share of an update's groups that earlier updates trained; 0 = none. The first updates have
    /// fewer groups, until there are earlier ones.
    pub share: f64,
    /// Number of latest updates whose groups may be trained again.
    pub window: u64,
    /// Choice among them: `uniform`, `newest`, `priority`, `spread` or `curated`.
    pub sampler: Sampler,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self {
            share: 0.0,
            window: 2,
            sampler: Sampler::Uniform,
        }
    }
}

/// Section `[learner.kl]`: penalty on the distance from two earlier versions, a reference and the
/// version before (ReMix's KL-Convex constraint, arXiv 2507.06892).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KlConfig {
    /// Weight of the penalty beside the loss; 0 = none.
    pub beta: f64,
    /// Update up to which the penalty is the distance from the reference alone.
    pub decay_from: u64,
    /// Number of updates in which the reference's share falls by a tenth.
    pub decay_every: u64,
    /// Share at which it falls no further.
    pub floor: f64,
}

impl Default for KlConfig {
    fn default() -> Self {
        Self {
            beta: 0.0,
            decay_from: 50,
            decay_every: 10,
            floor: 0.5,
        }
    }
}

impl KlConfig {
    /// Returns the reference's share λ at `update`.
    pub fn share(&self, update: UpdateNumber) -> f64 {
        let steps = update.0.saturating_sub(self.decay_from);
        let tenths = steps.div_ceil(self.decay_every.max(1));
        (1.0 - tenths as f64 / 10.0).max(self.floor)
    }
}

/// Section `[learner.reincarnation]`: update from which training goes on from the version reached as
/// from a new model: it becomes the reference, every group is used once, nothing is replayed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReincarnationConfig {
    /// First update after the change; unset = never.
    pub at: Option<u64>,
    /// True to begin the optimizer's moments anew.
    pub reset_optimizer: bool,
}

impl ReincarnationConfig {
    /// Returns true if `update` is one of those after the change.
    pub fn is_past(&self, update: UpdateNumber) -> bool {
        self.at.is_some_and(|at| update.0 >= at)
    }

    /// Returns the version that the penalty's reference is at `update`.
    pub fn reference(&self, update: UpdateNumber) -> PolicyVersion {
        let at = self.at.filter(|_| self.is_past(update));
        at.map_or(PolicyVersion::ZERO, PolicyVersion)
    }
}

impl ReplayConfig {
    /// Returns the rule that plans record; `None` if nothing is replayed.
    pub fn rule(&self) -> Option<ReplayRule> {
        (self.share > 0.0).then_some(ReplayRule {
            sampler: self.sampler,
            window: self.window,
        })
    }

    pub(crate) fn check(&self, groups: usize, problems: &mut Problems) {
        let replayed = (groups as f64 * self.share).round() as usize;
        problems.require(
            self.share == 0.0 || (self.share > 0.0 && (1..groups).contains(&replayed)),
            "learner.replay.share",
            "must come to at least one group of learner.prompts_per_update, and leave one to the \
             log; 0 replays nothing",
        );
        problems.require(
            self.window > 0,
            "learner.replay.window",
            "must be at least 1",
        );
    }
}

impl KlConfig {
    pub(crate) fn check(&self, publish_every: u64, problems: &mut Problems) {
        problems.require(
            self.beta >= 0.0 && self.beta.is_finite(),
            "learner.kl.beta",
            "must not be negative",
        );
        problems.require(
            self.decay_every > 0,
            "learner.kl.decay_every",
            "must be at least 1",
        );
        problems.require(
            (0.0..=1.0).contains(&self.floor),
            "learner.kl.floor",
            "is a share, from 0 to 1",
        );
        problems.require(
            self.beta == 0.0 || publish_every == 1,
            "learner.publish_every",
            "must be 1 with learner.kl.beta above 0: the penalty needs the version before each",
        );
    }
}

impl ReincarnationConfig {
    pub(crate) fn check(&self, steps: u64, problems: &mut Problems) {
        problems.require(
            self.at.is_none_or(|at| at > 0 && at < steps),
            "learner.reincarnation.at",
            "must be an update after the first and before learner.steps",
        );
        problems.require(
            self.at.is_some() || !self.reset_optimizer,
            "learner.reincarnation.reset_optimizer",
            "does nothing while learner.reincarnation.at is unset",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Schedule of the paper: 1 until step 50, a tenth less every 10 steps, never below a half.
    #[test]
    fn the_references_share_falls_as_the_paper_says() {
        let config = KlConfig::default();
        for (update, expected) in [
            (0, 1.0),
            (50, 1.0),
            (51, 0.9),
            (60, 0.9),
            (61, 0.8),
            (90, 0.6),
            (91, 0.5),
            (1000, 0.5),
            (u64::MAX, 0.5),
        ] {
            let share = config.share(UpdateNumber(update));
            assert!((share - expected).abs() < 1e-12, "{update}: {share}");
        }
    }
}
