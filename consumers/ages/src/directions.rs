//! Direction of each loss's gradient against the on-policy one, by age.

use std::collections::BTreeMap;

use serde::Serialize;
use vintage_control::{AlgorithmName, PolicyVersion};

use crate::estimate::Estimate;

/// Gradient of a loss on one batch of old rollouts, beside the on-policy gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BatchDirection {
    /// Version at whose weights the gradients are.
    pub version: PolicyVersion,
    /// Number of groups in the batch.
    pub groups: u64,
    /// Mean staleness of the groups, in updates.
    pub staleness: f64,
    /// Cosine with the on-policy gradient. See [`crate::Reference`].
    pub cosine: f64,
    /// Cosine of a fresh batch with the on-policy gradient, which has the loss's own baseline.
    pub fresh: f64,
    /// Norm of the gradient over that of a fresh batch.
    pub norm: f64,
    /// See [`crate::Weights::masked`].
    pub masked: f64,
    /// See [`crate::Weights::truncated`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<f64>,
    /// See [`crate::Weights::effective`].
    pub effective: f64,
}

/// Gradients of all losses at one age.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgeDirections {
    /// Age that is meant, in updates: 0 or a power of two.
    pub age: u64,
    /// Mean staleness of the groups, in updates.
    pub staleness: f64,
    /// Number of batches.
    pub batches: u64,
    /// Gradients by the loss's name. A loss that could not weigh one of the batches is not here.
    pub losses: BTreeMap<&'static str, LossDirection>,
}

/// Gradient of one loss at one age. Means are over versions, of the means over a version's batches, and so
/// are the intervals.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LossDirection {
    /// Cosine with the on-policy gradient.
    pub cosine: Estimate,
    /// Cosine of a fresh batch with the on-policy gradient, under the same versions.
    pub fresh: Estimate,
    /// Difference between the two, version by version: what staleness and the loss cost.
    pub short: Estimate,
    /// Cosine less that of the run's own loss on the same batches; absent for that loss itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_own: Option<Estimate>,
    /// Norm of the gradient over that of a fresh batch.
    pub norm: Estimate,
    /// Share of tokens without gradient.
    pub masked: f64,
    /// Share of tokens whose weight is capped; absent for losses without a cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<f64>,
    /// Effective share of tokens by their weights.
    pub effective: f64,
    /// Batches, by version.
    pub batches: Vec<BatchDirection>,
}

/// Gradients of batches by age and loss, as they come.
#[derive(Debug, Clone, Default)]
pub struct Directions {
    found: BTreeMap<u64, BTreeMap<&'static str, Vec<Option<BatchDirection>>>>,
}

impl Directions {
    /// Adds what a loss made of a batch that stands for `age`; `None` if it could not weigh it, which takes
    /// the loss out of that age.
    pub fn add(&mut self, age: u64, loss: AlgorithmName, batch: Option<BatchDirection>) {
        let losses = self.found.entry(age).or_default();
        losses.entry(loss.as_str()).or_default().push(batch);
    }

    /// Returns what was found, by age, beside the loss that the run trains by.
    pub fn figures(&self, own: AlgorithmName) -> Vec<AgeDirections> {
        let of_age = |(age, losses): (&u64, &BTreeMap<_, Vec<Option<_>>>)| {
            let whole: BTreeMap<&'static str, Vec<BatchDirection>> = losses
                .iter()
                .filter_map(|(name, batches)| {
                    Some((*name, batches.iter().copied().collect::<Option<_>>()?))
                })
                .collect();
            let own_cosines = whole
                .get(own.as_str())
                .map(|batches| by_version(batches, |of| of.cosine));
            let one = whole.values().next()?;
            let groups: u64 = one.iter().map(|of| of.groups).sum();
            let staleness: f64 = one.iter().map(|of| of.staleness * of.groups as f64).sum();
            let losses = whole.iter().map(|(name, batches)| {
                let beside = own_cosines.as_deref().filter(|_| *name != own.as_str());
                (*name, LossDirection::of(batches, beside))
            });
            Some(AgeDirections {
                age: *age,
                staleness: staleness / groups.max(1) as f64,
                batches: one.len() as u64,
                losses: losses.collect(),
            })
        };
        self.found.iter().filter_map(of_age).collect()
    }
}

impl LossDirection {
    fn of(batches: &[BatchDirection], own: Option<&[f64]>) -> Self {
        let mut batches = batches.to_vec();
        batches.sort_by_key(|batch| batch.version);
        let cosines = by_version(&batches, |of| of.cosine);
        let fresh = by_version(&batches, |of| of.fresh);
        let less = |a: &[f64], b: &[f64]| {
            let pairs = a.iter().zip(b).map(|(a, b)| a - b);
            Estimate::of(&pairs.collect::<Vec<_>>())
        };
        let mean = |of: fn(&BatchDirection) -> f64| Estimate::of(&by_version(&batches, of)).mean;
        let is_capped = batches.iter().all(|of| of.truncated.is_some());
        Self {
            cosine: Estimate::of(&cosines),
            fresh: Estimate::of(&fresh),
            short: less(&fresh, &cosines),
            over_own: own.map(|own| less(&cosines, own)),
            norm: Estimate::of(&by_version(&batches, |of| of.norm)),
            masked: mean(|of| of.masked),
            truncated: is_capped.then(|| mean(|of| of.truncated.unwrap_or(0.0))),
            effective: mean(|of| of.effective),
            batches,
        }
    }
}

/// Returns the mean over each version's batches, by version.
fn by_version(batches: &[BatchDirection], value: impl Fn(&BatchDirection) -> f64) -> Vec<f64> {
    let mut versions: BTreeMap<PolicyVersion, (f64, f64)> = BTreeMap::new();
    for batch in batches {
        let (sum, count) = versions.entry(batch.version).or_default();
        *sum += value(batch);
        *count += 1.0;
    }
    versions
        .into_values()
        .map(|(sum, count)| sum / count)
        .collect()
}
