//! Loss of an update, its name and its settings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Loss of an update and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Algorithm {
    /// Rule that bounds the update.
    pub name: AlgorithmName,
    /// Budget τ on the second moment of the log-ratio (m2po).
    pub m2_threshold: f64,
    /// Clip range ε on both sides of ratio 1, or of the proximal policy (grpo, `m2po_areal`,
    /// `mix_ppg`, `decoupled_ppo`).
    pub clip_eps: f64,
    /// Limit to which |log-ratio| is clamped before `exp`. Clamped tokens are counted.
    pub log_ratio_clamp: f64,
    /// Settings that the rule reads besides these, with the values that were used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub loss: BTreeMap<LossSetting, f64>,
}

impl Algorithm {
    /// Returns the value of a setting: the recorded one, else the rule's default; absent if the rule
    /// does not read it or can do without.
    pub fn setting(&self, setting: LossSetting) -> Option<f64> {
        let recorded = self.loss.get(&setting).copied();
        recorded.or_else(|| self.name.default_of(setting))
    }
}

/// Rules that bound an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlgorithmName {
    /// M2PO as in the paper's Algorithm 1.
    M2po,
    /// M2PO as AReaL implements it.
    M2poAreal,
    /// M2PO as the authors' released code implements it.
    M2poFork,
    /// PPO's clip, as GRPO uses it.
    Grpo,
    /// Mix-PPG of ReMix: PPO's clip around the ratio of the batch's beginning.
    MixPpg,
    /// Decoupled PPO: PPO's clip around the proximal policy, weighted by its ratio to behaviour.
    DecoupledPpo,
    /// No trust region.
    None,
}

impl AlgorithmName {
    /// Names of all rules.
    pub const ALL: [Self; 7] = [
        Self::M2po,
        Self::M2poAreal,
        Self::M2poFork,
        Self::Grpo,
        Self::MixPpg,
        Self::DecoupledPpo,
        Self::None,
    ];

    /// Returns the `snake_case` name, as settings and plans have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::M2po => "m2po",
            Self::M2poAreal => "m2po_areal",
            Self::M2poFork => "m2po_fork",
            Self::Grpo => "grpo",
            Self::MixPpg => "mix_ppg",
            Self::DecoupledPpo => "decoupled_ppo",
            Self::None => "none",
        }
    }

    /// Returns the settings of section `[loss]` that the rule reads, with their defaults. A setting
    /// without a default is off unless it is set.
    pub fn loss_settings(self) -> &'static [(LossSetting, Option<f64>)] {
        use LossSetting as S;
        match self {
            Self::MixPpg => &[(S::DualClip, None)],
            Self::DecoupledPpo => &[(S::DualClip, None), (S::RatioHigh, Some(5.0))],
            Self::M2po | Self::M2poAreal | Self::M2poFork | Self::Grpo | Self::None => &[],
        }
    }

    /// Returns true if the rule reads `setting`.
    pub fn reads(self, setting: LossSetting) -> bool {
        self.loss_settings()
            .iter()
            .any(|(read, _)| *read == setting)
    }

    fn default_of(self, setting: LossSetting) -> Option<f64> {
        let mut settings = self.loss_settings().iter();
        settings.find(|(read, _)| *read == setting)?.1
    }
}

/// Settings of section `[loss]`, each of which some rules read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossSetting {
    /// Bound on the loss of a token with A < 0, in multiples of −A.
    DualClip,
    /// Upper bound on a ratio.
    RatioHigh,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::AlgorithmName;

    #[test]
    fn every_name_is_spelled_as_in_plans_and_listed_once() {
        for name in AlgorithmName::ALL {
            let spelled = serde_json::to_value(name).unwrap();
            assert_eq!(spelled, name.as_str());
        }
        let spellings: BTreeSet<_> = AlgorithmName::ALL
            .iter()
            .map(|name| name.as_str())
            .collect();
        assert_eq!(spellings.len(), AlgorithmName::ALL.len());
        let unknown = serde_json::from_str::<AlgorithmName>("\"x\"")
            .unwrap_err()
            .to_string();
        assert_eq!(
            unknown.matches('`').count(),
            2 * (1 + AlgorithmName::ALL.len()),
            "{unknown}"
        );
    }
}
