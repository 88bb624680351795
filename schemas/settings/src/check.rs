//! Checks of the ranges of settings, and of settings that contradict one another.

use vintage_control::Ages;

use crate::{
    problems::{Problems, Violation},
    run::RunConfig,
};

impl RunConfig {
    /// Finds every value out of range and every pair of settings that contradict each other.
    pub fn violations(&self) -> Vec<Violation> {
        let mut problems = Problems::default();
        problems.require(
            !self.broker.trim().is_empty(),
            "broker",
            "give embedded, local or host:port",
        );
        self.m2po.check(&mut problems);
        self.grpo.check(&mut problems);
        self.loss.check(self.algorithm, &mut problems);
        self.warm_start.check(&mut problems);
        self.rollout.check(&mut problems);
        self.learner.check(&mut problems);
        let row = self.rollout.environment.episode_tokens;
        problems.require(
            row.is_none_or(|row| row <= self.learner.micro_batch_tokens),
            "rollout.environment.episode_tokens",
            "must be at most learner.micro_batch_tokens: an episode trains in one piece",
        );
        self.archive.check(&mut problems);
        self.evaluation.check(&mut problems);
        self.topics.check(&mut problems);
        self.local.check(&mut problems);
        self.check_gate(&mut problems);
        problems.into_vec()
    }

    /// Refuses limits that would starve the learner or ask for versions that are deleted.
    fn check_gate(&self, problems: &mut Problems) {
        let learner = &self.learner;
        let Some(exact) = self.gate.exact else {
            if self.gate.max_staleness + 1 < learner.publish_every {
                problems.refuse(
                    "gate.max_staleness",
                    format!(
                        "must be at least learner.publish_every - 1 = {}, or the learner waits \
                         for groups that may not be sampled yet",
                        learner.publish_every - 1
                    ),
                );
            }
            problems.require(
                self.gate.ages == Ages::Same,
                "gate.ages",
                "needs gate.exact, which bounds the ages",
            );
            return;
        };
        problems.require(
            self.gate.ages == Ages::Same || learner.live_groups() > 1,
            "gate.ages",
            "needs several groups of the run in a batch (learner.prompts_per_update)",
        );
        problems.require(
            learner.publish_every == 1,
            "learner.publish_every",
            "must be 1 with gate.exact: every version samples a batch",
        );
        if learner.max_age.is_some_and(|age| age < exact) {
            problems.refuse(
                "learner.max_age",
                format!("must be at least {exact} with gate.exact = {exact}: groups are that old"),
            );
        }
        if learner.keep_versions <= exact {
            problems.refuse(
                "learner.keep_versions",
                format!(
                    "must be at least {} with gate.exact = {exact}: the batch of update b is \
                     sampled by version b - {exact}",
                    exact + 1
                ),
            );
        }
    }
}
