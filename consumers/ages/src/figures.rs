//! Figures of one age, and of the batches that they are made of.

use std::collections::BTreeMap;

use serde::Serialize;
use vintage_control::PolicyVersion;

/// Figures of the groups of one age. Means are over tokens, or rollouts where it says so.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgeFigures {
    /// Age that is meant, in updates: 0 or a power of two.
    pub age: u64,
    /// Mean staleness of the groups, in updates.
    pub staleness: f64,
    /// Largest staleness of a group.
    pub oldest: u64,
    /// Smallest staleness of a group.
    pub newest: u64,
    /// Number of groups.
    pub groups: u64,
    /// Number of rollouts.
    pub rollouts: u64,
    /// Number of tokens that are trained on.
    pub tokens: u64,
    /// Mean of the squared log-ratio over the trust-region tokens, before any mask: M2.
    pub m2: f64,
    /// Mean of the squared log-ratio over all tokens.
    pub m2_all: f64,
    /// Mean of behaviour minus new log-prob, in nats: the k1 estimate of KL.
    pub kl: f64,
    /// Effective share of tokens by their ratios, in a batch.
    pub effective_tokens: f64,
    /// Effective share of rollouts by the products of their tokens' ratios, in a batch.
    pub effective_rollouts: f64,
    /// Estimate of the chi-square divergence from the sampling policy, of whole rollouts: 1 over
    /// their effective share, minus 1. A batch of n rollouts cannot show more than n - 1.
    pub chi_square: f64,
    /// Share of tokens whose ratio is above 1.1 or below 1 / 1.1.
    pub beyond_tenth: f64,
    /// Share of tokens whose ratio is above 2 or below 1 / 2.
    pub beyond_double: f64,
    /// Log-ratio below which 1 % of the tokens are, in nats.
    pub log_ratio_p01: f64,
    /// Log-ratio above which 1 % of the tokens are, in nats.
    pub log_ratio_p99: f64,
    /// Share of tokens that each loss discards, by its name. A loss that cannot weigh one of the
    /// batches is not here.
    pub losses: BTreeMap<&'static str, Discarded>,
    /// Batches, by version.
    pub batches: Vec<BatchFigures>,
}

/// Share of tokens that a loss discards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Discarded {
    /// Share of tokens without gradient: masked or clipped.
    pub masked: f64,
    /// Share of tokens whose weight is capped; absent for losses without a cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<f64>,
}

/// Figures of one batch: groups of one age under one version, as many as an update has.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchFigures {
    /// Version under which the groups were recomputed.
    pub version: PolicyVersion,
    /// Number of groups.
    pub groups: u64,
    /// Number of rollouts with a trained token.
    pub rollouts: u64,
    /// Number of tokens that are trained on.
    pub tokens: u64,
    /// Number of tokens in the trust region.
    pub trust_tokens: u64,
    /// Mean staleness of the groups, in updates.
    pub staleness: f64,
    /// Largest staleness of a group.
    pub oldest: u64,
    /// Smallest staleness of a group.
    pub newest: u64,
    /// See [`AgeFigures::m2`].
    pub m2: f64,
    /// See [`AgeFigures::m2_all`].
    pub m2_all: f64,
    /// See [`AgeFigures::kl`].
    pub kl: f64,
    /// See [`AgeFigures::effective_tokens`].
    pub effective_tokens: f64,
    /// See [`AgeFigures::effective_rollouts`].
    pub effective_rollouts: f64,
    /// Number of tokens that each loss discards, by its name.
    pub losses: BTreeMap<&'static str, Counts>,
}

/// Number of tokens that a loss discards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Number of tokens without gradient: masked or clipped.
    pub masked_tokens: u64,
    /// Number of tokens whose weight is capped; absent for losses without a cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated_tokens: Option<u64>,
}

impl AgeFigures {
    /// Sums up the batches of an age; `ratios` are the log-ratios of all their tokens.
    pub(crate) fn of(age: u64, mut batches: Vec<BatchFigures>, mut ratios: Vec<f64>) -> Self {
        batches.sort_by_key(|batch| batch.version);
        ratios.sort_unstable_by(f64::total_cmp);
        let sum = |of: fn(&BatchFigures) -> u64| batches.iter().map(of).sum::<u64>();
        let mean = |value: fn(&BatchFigures) -> f64, weight: fn(&BatchFigures) -> u64| {
            let total = batches.iter().map(|of| value(of) * weight(of) as f64).sum();
            share(total, sum(weight))
        };
        let tokens = sum(|of| of.tokens);
        let effective_rollouts = mean(|of| of.effective_rollouts, |of| of.rollouts);
        let beyond = |factor: f64| {
            let beyond = ratios.iter().filter(|ratio| ratio.abs() > factor.ln());
            share(beyond.count() as f64, ratios.len() as u64)
        };
        let losses = batches.first().into_iter().flat_map(|of| of.losses.keys());
        let losses = losses.filter_map(|name| {
            let of_batches: Option<Vec<_>> = batches.iter().map(|of| of.losses.get(name)).collect();
            let of_batches = of_batches?;
            let masked: u64 = of_batches.iter().map(|of| of.masked_tokens).sum();
            let truncated: Option<u64> = of_batches.iter().map(|of| of.truncated_tokens).sum();
            let discarded = Discarded {
                masked: share(masked as f64, tokens),
                truncated: truncated.map(|count| share(count as f64, tokens)),
            };
            Some((*name, discarded))
        });
        Self {
            age,
            staleness: mean(|of| of.staleness, |of| of.groups),
            oldest: batches.iter().map(|of| of.oldest).max().unwrap_or(0),
            newest: batches.iter().map(|of| of.newest).min().unwrap_or(0),
            groups: sum(|of| of.groups),
            rollouts: sum(|of| of.rollouts),
            tokens,
            m2: mean(|of| of.m2, |of| of.trust_tokens),
            m2_all: mean(|of| of.m2_all, |of| of.tokens),
            kl: mean(|of| of.kl, |of| of.tokens),
            effective_tokens: mean(|of| of.effective_tokens, |of| of.tokens),
            effective_rollouts,
            chi_square: if effective_rollouts > 0.0 {
                1.0 / effective_rollouts - 1.0
            } else {
                0.0
            },
            beyond_tenth: beyond(1.1),
            beyond_double: beyond(2.0),
            log_ratio_p01: quantile(&ratios, 0.01),
            log_ratio_p99: quantile(&ratios, 0.99),
            losses: losses.collect(),
            batches,
        }
    }
}

fn share(part: f64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part / whole as f64 }
}

/// Returns the nearest-rank quantile of sorted values; 0 of none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}
