//! Health of updates: counts those that change nothing or leave the range the algorithm was
//! designed for, and completions cut at the token limit, and words the warnings.

use std::collections::BTreeMap;
use vintage_settings::{RunConfig, SourceKind};

use vintage_control::{AlgorithmName, UpdateNumber, UpdateResult};
use vintage_losses::Drift;
use vintage_rollout::ProducerEvent;

/// Reason for which an update changed no weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Batch without any trainable token.
    NoToken,
    /// Every token masked by the algorithm.
    AllMasked,
    /// Equal rewards within each group, so that no completion is preferred.
    EqualRewards,
}

impl Idle {
    pub(crate) fn of(result: &UpdateResult) -> Option<Self> {
        if result.skipped.is_some() {
            Some(Self::NoToken)
        } else if result.grad_norm != 0.0 {
            None
        } else if result.masked_tokens == result.tokens {
            Some(Self::AllMasked)
        } else {
            Some(Self::EqualRewards)
        }
    }

    /// Name under which the reason is counted.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::AllMasked => "all_masked",
            Self::EqualRewards => "equal_rewards",
        }
    }

    /// Advice to the user on the cause.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::NoToken => "look at loss_mask in what the producers publish",
            Self::AllMasked => {
                "the log-ratios are beyond what m2po.threshold allows: lower \
                 learner.optimizer.lr, or the staleness that the gate admits"
            }
            Self::EqualRewards => {
                "look at rollout.reward, at the prompts and at what the model answers \
                 (`vintage inspect DIR/archive --rows`)"
            }
        }
    }
}

/// Limit of an update's second moment before masking, in multiples of `m2po.threshold`. It peaked
/// at 5 in the runs of the algorithm's publication; single updates of the task `sums`, which learns,
/// reach 19.
const M2_TIMES: f64 = 25.0;
/// Limit of the divergence between the sampling and the trained policy, in nats per token. The main
/// job's maximum is 0.06.
const KL: f64 = 0.1;
/// Limit of the share of masked tokens in an update. In the published runs and those of `sums` it is
/// at most about 0.01.
const MASKED: f64 = 0.1;
/// Number of completions without reward needed for a warning; fewer may be chance.
const ENOUGH: u64 = 32;

/// Settings that define the expected range.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    /// Threshold of the second moment; `None` for algorithms that do not bound it.
    threshold: Option<f64>,
    lr: f64,
    max_tokens: usize,
    /// True if the algorithm pulls back tokens that have drifted.
    restores: bool,
}

/// Observations of a learner's updates, or of a producer's groups.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    expected: Expected,
    updates: u64,
    idle: BTreeMap<&'static str, u64>,
    /// Number of updates beyond the limits; `worst` is the one with the largest second moment.
    beyond: u64,
    worst: Option<Beyond>,
    /// Drift from what sampled; `None` if rollouts of other policies are trained on, which are far by their nature.
    drift: Option<Drift>,
    /// True from the warning that the policy is far until it is near again.
    is_far: bool,
    cut: Cut,
}

/// Update beyond the limits.
#[derive(Debug, Clone, PartialEq)]
struct Beyond {
    update: UpdateNumber,
    m2: f64,
    kl: f64,
    masked: f64,
}

/// Completions since the last one with a reward above 0.
#[derive(Debug, Clone, Copy, Default)]
struct Cut {
    rows: u64,
    at_limit: u64,
    told_at: u64,
}

impl Cut {
    fn take(&mut self, rows: u64, cut: u64, reward: f64) {
        if reward > 0.0 {
            *self = Self::default();
        } else {
            self.rows += rows;
            self.at_limit += cut;
        }
    }

    /// Returns true if most completions were cut at the token limit and none has a reward.
    fn is_too_short(&self) -> bool {
        self.rows >= ENOUGH && 2 * self.at_limit > self.rows
    }
}

impl Health {
    pub(crate) fn of(config: &RunConfig) -> Self {
        let bounds = matches!(
            config.algorithm,
            AlgorithmName::M2po
                | AlgorithmName::M2poAreal
                | AlgorithmName::M2poFork
                | AlgorithmName::M2poRestoring
        );
        Self {
            expected: Expected {
                threshold: bounds.then_some(config.m2po.threshold),
                lr: config.learner.optimizer.lr,
                max_tokens: config.rollout.max_tokens,
                restores: config.algorithm == AlgorithmName::M2poRestoring,
            },
            updates: 0,
            idle: BTreeMap::new(),
            beyond: 0,
            worst: None,
            drift: (config.learner.source == SourceKind::Log).then(Drift::default),
            is_far: false,
            cut: Cut::default(),
        }
    }

    /// Counts an update; returns a warning if one is due.
    pub(crate) fn updated(&mut self, result: &UpdateResult) -> Option<String> {
        self.updates += 1;
        if let Some(idle) = Idle::of(result) {
            *self.idle.entry(idle.as_str()).or_default() += 1;
        }
        if let Some(cut) = result.cut_rows {
            self.cut.take(result.rows, cut, result.reward);
        }
        let far = self.far(result);
        let beyond = self.beyond(result);
        far.or(beyond).or_else(|| self.too_short())
    }

    /// Warns once the policy is far from what sampled over many updates, which comes before a collapse.
    fn far(&mut self, result: &UpdateResult) -> Option<String> {
        // A batch without a token has no divergence.
        let drift = self.drift.as_mut().filter(|_| result.skipped.is_none())?;
        let mean = drift.take(result.kl)?;
        let was_far = self.is_far;
        self.is_far = mean > Drift::FAR || (was_far && mean > Drift::NEAR);
        if was_far || !self.is_far {
            return None;
        }
        let other = if self.expected.restores {
            ""
        } else {
            ", or set algorithm = \"m2po_restoring\""
        };
        Some(format!(
            "update {}: over the last {} updates the policy was {mean:.2} nats a token from the one that sampled; \
             every run measured that collapsed went beyond {}, and some that did not: {}{other}",
            result.update(),
            Drift::WINDOW,
            Drift::FAR,
            self.remedy()
        ))
    }

    /// Counts a group that a producer published, in a process without a learner; returns a warning
    /// if one is due.
    pub(crate) fn produced(&mut self, event: &ProducerEvent) -> Option<String> {
        let ProducerEvent::Published {
            rows, cut, reward, ..
        } = event
        else {
            return None;
        };
        self.cut.take(*rows, *cut, f64::from(*reward));
        self.too_short()
    }

    fn beyond(&mut self, result: &UpdateResult) -> Option<String> {
        let masked = result.clip_fraction;
        let m2_is = |threshold: f64| result.m2_before > M2_TIMES * threshold;
        let left = self.expected.threshold.is_some_and(m2_is)
            || result.kl.abs() > KL
            || (self.expected.threshold.is_some() && masked > MASKED);
        if !left {
            return None;
        }
        let seen = Beyond {
            update: result.update(),
            m2: result.m2_before,
            kl: result.kl,
            masked,
        };
        self.beyond += 1;
        if self.worst.as_ref().is_none_or(|worst| worst.m2 < seen.m2) {
            self.worst = Some(seen.clone());
        }
        // Only the 1st, 2nd, 4th, 8th… are reported, since there may be thousands.
        self.beyond
            .is_power_of_two()
            .then(|| format!("{}; {}", self.spelled(&seen), self.remedy()))
    }

    /// Spells out an update, what left the rule first.
    fn spelled(&self, seen: &Beyond) -> String {
        let m2 = match self.expected.threshold {
            Some(threshold) if seen.m2 > M2_TIMES * threshold => format!(
                "M2 before masking is {:.3} ({:.0} times m2po.threshold)",
                seen.m2,
                seen.m2 / threshold
            ),
            Some(_) => format!("M2 before masking {:.3}", seen.m2),
            None => format!("the second moment of the log-ratio {:.3}", seen.m2),
        };
        let kl = format!("KL {:.3} nats a token", seen.kl);
        let masked = format!("{:.1} % of tokens masked", 100.0 * seen.masked);
        let m2_left = (self.expected.threshold).is_some_and(|most| seen.m2 > M2_TIMES * most);
        let mut parts = [m2, kl, masked];
        if !m2_left {
            // The other two are the reason, the divergence before the masked share.
            parts.rotate_left(if seen.kl.abs() > KL { 1 } else { 2 });
        }
        format!(
            "update {}: {}: the policy is further from the one that sampled than the rule was made \
             for",
            seen.update,
            parts.join(", ")
        )
    }

    fn remedy(&self) -> String {
        format!(
            "lower learner.optimizer.lr (now {:e}), or the staleness that the gate admits",
            self.expected.lr
        )
    }

    fn too_short(&mut self) -> Option<String> {
        if !self.cut.is_too_short() || self.cut.rows < 2 * self.cut.told_at {
            return None;
        }
        self.cut.told_at = self.cut.rows;
        Some(self.cut_short())
    }

    fn cut_short(&self) -> String {
        let Cut { rows, at_limit, .. } = self.cut;
        format!(
            "{at_limit} of the last {rows} completions were cut at rollout.max_tokens = {}, and none \
             has a reward above 0: raise it",
            self.expected.max_tokens
        )
    }

    /// Number of updates that changed nothing, by reason.
    pub(crate) fn idle_updates(&self) -> BTreeMap<String, u64> {
        let idle = self.idle.iter();
        idle.map(|(reason, updates)| ((*reason).to_owned(), *updates))
            .collect()
    }

    /// Final remarks on all updates and completions.
    pub(crate) fn summary(&self) -> Vec<String> {
        let mut said = Vec::new();
        let idle: u64 = self.idle.values().sum();
        if idle > 0 {
            let reasons = self.idle.iter().map(|(reason, n)| format!("{reason} {n}"));
            let reasons = reasons.collect::<Vec<_>>().join(", ");
            said.push(format!(
                "{idle} of {} updates changed nothing ({reasons})",
                self.updates
            ));
        }
        if let Some(worst) = &self.worst {
            said.push(format!(
                "{} of {} updates left what the rule was made for, the furthest {}; {}",
                self.beyond,
                self.updates,
                self.spelled(worst),
                self.remedy()
            ));
        }
        if self.cut.is_too_short() {
            said.push(self.cut_short());
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::result;
    use vintage_config::Layers;

    fn health(set: &[&str]) -> Health {
        let layers = set.iter().fold(Layers::new(), |layers, set| {
            layers.set(set).expect("a setting")
        });
        let resolved = layers.resolve::<RunConfig>().expect("valid");
        Health::of(&resolved.config)
    }

    #[test]
    fn an_update_that_leaves_the_rule_is_told_and_not_every_one_after_it() {
        let mut health = health(&["learner.optimizer.lr=1e-4"]);
        assert_eq!(health.updated(&result(0)), None, "an ordinary one");
        let far = |version| UpdateResult {
            m2_before: 1.48,
            kl: 0.37,
            clip_fraction: 0.2,
            ..result(version)
        };
        let warned: Vec<_> = (1..=8).filter_map(|at| health.updated(&far(at))).collect();
        assert_eq!(
            warned.len(),
            4,
            "the first, second, fourth and eighth: {warned:#?}"
        );
        let said = "update 1: M2 before masking is 1.480 (37 times m2po.threshold), KL 0.370 nats \
                    a token, 20.0 % of tokens masked";
        assert!(warned[0].starts_with(said), "{}", warned[0]);
        assert!(
            warned[0].contains("learner.optimizer.lr (now 1e-4)"),
            "{}",
            warned[0]
        );
        let summary = health.summary();
        assert!(summary[0].starts_with("8 of 9 updates left"), "{summary:?}");
    }

    #[test]
    fn a_policy_that_is_far_for_many_updates_is_told_once_each_time() {
        let mut health = health(&["learner.optimizer.lr=1e-4"]);
        let mut said = Vec::new();
        for version in 0..160 {
            // Far from update 20 to 79, and from 120 on.
            let is_far = (20..80).contains(&version) || version >= 120;
            let kl = if is_far { 1.0 } else { 0.0 };
            let warned = health.updated(&UpdateResult {
                kl,
                ..result(version)
            });
            said.extend(warned.filter(|said| said.contains("over the last 25 updates")));
        }
        assert_eq!(said.len(), 2, "{said:#?}");
        let first = "update 37: over the last 25 updates the policy was 0.72 nats a token from";
        assert!(said[0].starts_with(first), "{}", said[0]);
        assert!(said[0].contains("m2po_restoring"), "{}", said[0]);
    }

    #[test]
    fn each_of_m2_kl_and_masked_share_is_enough_and_a_rule_without_m2_has_none() {
        let far = [
            UpdateResult {
                m2_before: 1.2,
                ..result(0)
            },
            UpdateResult {
                kl: -0.2,
                ..result(0)
            },
            UpdateResult {
                clip_fraction: 0.3,
                ..result(0)
            },
        ];
        let reasons = [
            "M2 before masking is 1.200",
            "KL -0.200",
            "30.0 % of tokens masked",
        ];
        for (at, far) in far.iter().enumerate() {
            let warned = health(&[]).updated(far).expect("warned");
            let first = format!("update 0: {}", reasons[at]);
            assert!(warned.starts_with(&first), "{at}: {warned}");
            let warned = health(&["algorithm=grpo"]).updated(far);
            assert_eq!(warned.is_some(), at == 1, "{at}: {warned:?}");
        }
    }

    #[test]
    fn completions_that_are_cut_are_told_unless_some_are_right() {
        let cut = |cut, reward| UpdateResult {
            rows: 16,
            cut_rows: Some(cut),
            reward,
            ..result(0)
        };
        let mut short = health(&["rollout.max_tokens=8"]);
        assert_eq!(short.updated(&cut(16, 0.0)), None, "too few to tell");
        let warned = short.updated(&cut(15, 0.0)).expect("warned");
        let said = "31 of the last 32 completions were cut at rollout.max_tokens = 8, and none has";
        assert!(warned.starts_with(said), "{warned}");
        assert_eq!(short.summary().len(), 1);
        short.updated(&cut(16, 0.5));
        assert!(short.summary().is_empty(), "some are right");
        let mut wrong = health(&[]);
        for _ in 0..10 {
            assert_eq!(wrong.updated(&cut(0, 0.0)), None, "wrong, and whole");
        }
    }
}
