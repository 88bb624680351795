//! Losses that discard tokens.

use vintage_control::AlgorithmName;
use vintage_losses::{Baseline, Rule};

/// Loss whose treatment of old tokens is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Name of the loss.
    pub name: AlgorithmName,
    /// Rule with its settings.
    pub rule: Rule,
    /// Baseline that its advantages have.
    pub baseline: Baseline,
    /// Bound on the magnitude of a log-ratio before its exponential, in nats.
    pub clamp: f64,
}

/// Names of the losses that mask, clip or truncate, from those that bound the whole batch to those
/// that cap weights. The other losses keep every token, with a weight that is smooth or none.
pub const DISCARDING: [AlgorithmName; 21] = [
    AlgorithmName::M2po,
    AlgorithmName::M2poAreal,
    AlgorithmName::M2poFork,
    AlgorithmName::M2poRestoring,
    AlgorithmName::Grpo,
    AlgorithmName::Dapo,
    AlgorithmName::Gspo,
    AlgorithmName::SequenceMask,
    AlgorithmName::Bapo,
    AlgorithmName::DecoupledPpo,
    AlgorithmName::Icepop,
    AlgorithmName::SeqMis,
    AlgorithmName::GeoRs,
    AlgorithmName::K3Rs,
    AlgorithmName::DppoTv,
    AlgorithmName::Ipo,
    AlgorithmName::Tis,
    AlgorithmName::SeqTis,
    AlgorithmName::Cispo,
    AlgorithmName::Vcpo,
    AlgorithmName::PrefixTis,
];

impl Loss {
    /// Returns the rule without the cap on its weights; `None` if its weights have none.
    pub(crate) fn uncapped(&self) -> Option<Rule> {
        // Beyond every weight: the clamp is at most 700 nats, and exp(700) is 1e304.
        const NONE: f64 = f64::MAX;
        match self.rule {
            Rule::Tis { level, eps, .. } => Some(Rule::Tis {
                level,
                cap: NONE,
                eps,
            }),
            Rule::Cispo { .. } => Some(Rule::Cispo {
                low: 0.0,
                high: NONE,
            }),
            Rule::DppoTv { low, high, .. } => Some(Rule::DppoTv {
                low,
                high,
                cap: NONE,
            }),
            Rule::Vcpo { base, .. } => Some(Rule::Vcpo { cap: NONE, base }),
            Rule::PrefixTis { .. } => Some(Rule::PrefixTis { cap: NONE }),
            _ => None,
        }
    }
}
