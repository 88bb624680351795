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
    /// Tokens that share a budget τ (m2po).
    #[serde(default, skip_serializing_if = "M2Scope::is_batch")]
    pub m2_scope: M2Scope,
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

/// Tokens of a batch that share one budget on the second moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum M2Scope {
    /// All tokens of the batch, as in the paper.
    #[default]
    Batch,
    /// Tokens of one micro-batch.
    MicroBatch,
    /// Tokens of one range of staleness: 0, 1, 2 to 3, 4 to 7 and so on, in updates.
    Staleness,
}

impl M2Scope {
    /// Returns true for the whole batch, which plans leave out.
    pub fn is_batch(&self) -> bool {
        *self == Self::Batch
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
    /// M2PO whose restoring tokens have a bounded weight.
    M2poRestoring,
    /// PPO's clip, as GRPO uses it.
    Grpo,
    /// DAPO's clip-higher: PPO's clip with a wider upper side.
    Dapo,
    /// GSPO: PPO's clip of a row's geometric mean ratio.
    Gspo,
    /// CISPO: the policy gradient, weighted by the clipped ratio.
    Cispo,
    /// Mix-PPG of ReMix: PPO's clip around the ratio of the batch's beginning.
    MixPpg,
    /// Decoupled PPO: PPO's clip around the proximal policy, weighted by its ratio to
    /// behaviour.
    DecoupledPpo,
    /// Truncated importance sampling, per token.
    Tis,
    /// Truncated importance sampling, per row.
    SeqTis,
    /// Masked importance sampling, per token.
    Icepop,
    /// Masked importance sampling, per row.
    SeqMis,
    /// Rejection of rows by their geometric mean ratio.
    GeoRs,
    /// Rejection of rows by an estimate of their KL.
    K3Rs,
    /// GRPO without bad answers that the policy left behind (DeepSeek-V3.2).
    SequenceMask,
    /// DPPO: a mask on the change of probability.
    DppoTv,
    /// IPO: a mask on the change of probability, and a penalty on the log-ratio.
    Ipo,
    /// DRPO: a quadratic penalty on the change of probability.
    Drpo,
    /// TOPR: good answers unweighted, bad ones weighted by at most 1.
    Topr,
    /// AsymRE: no ratio, and a baseline below the mean.
    Asymre,
    /// OPO: no ratio, and a baseline weighted by length.
    Opo,
    /// Policy gradient without a ratio.
    Reinforce,
    /// BAPO: PPO's clip between bounds that are found for each batch.
    Bapo,
    /// SAPO: a sigmoid in place of the clip.
    Sapo,
    /// VESPO: a smooth weight of a row's ratio.
    Vespo,
    /// VCPO: truncated importance sampling per row, with a shorter step where few rows
    /// count.
    Vcpo,
    /// OAPL: a regression of a row's log-ratio on its advantage.
    Oapl,
    /// DRO: no ratio, and a quadratic penalty on the log-ratio.
    Dro,
    /// Truncated importance sampling of prefixes, as HyGLOW's weights.
    PrefixTis,
    /// No trust region.
    None,
}

impl AlgorithmName {
    /// Names of all rules.
    pub const ALL: [Self; 32] = [
        Self::M2po,
        Self::M2poAreal,
        Self::M2poFork,
        Self::M2poRestoring,
        Self::Grpo,
        Self::Dapo,
        Self::Gspo,
        Self::Cispo,
        Self::MixPpg,
        Self::DecoupledPpo,
        Self::Tis,
        Self::SeqTis,
        Self::Icepop,
        Self::SeqMis,
        Self::GeoRs,
        Self::K3Rs,
        Self::SequenceMask,
        Self::DppoTv,
        Self::Ipo,
        Self::Drpo,
        Self::Topr,
        Self::Asymre,
        Self::Opo,
        Self::Reinforce,
        Self::Bapo,
        Self::Sapo,
        Self::Vespo,
        Self::Vcpo,
        Self::Oapl,
        Self::Dro,
        Self::PrefixTis,
        Self::None,
    ];

    /// Returns the `snake_case` name, as settings and plans have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::M2po => "m2po",
            Self::M2poAreal => "m2po_areal",
            Self::M2poFork => "m2po_fork",
            Self::M2poRestoring => "m2po_restoring",
            Self::Grpo => "grpo",
            Self::Dapo => "dapo",
            Self::Gspo => "gspo",
            Self::Cispo => "cispo",
            Self::MixPpg => "mix_ppg",
            Self::DecoupledPpo => "decoupled_ppo",
            Self::Tis => "tis",
            Self::SeqTis => "seq_tis",
            Self::Icepop => "icepop",
            Self::SeqMis => "seq_mis",
            Self::GeoRs => "geo_rs",
            Self::K3Rs => "k3_rs",
            Self::SequenceMask => "sequence_mask",
            Self::DppoTv => "dppo_tv",
            Self::Ipo => "ipo",
            Self::Drpo => "drpo",
            Self::Topr => "topr",
            Self::Asymre => "asymre",
            Self::Opo => "opo",
            Self::Reinforce => "reinforce",
            Self::Bapo => "bapo",
            Self::Sapo => "sapo",
            Self::Vespo => "vespo",
            Self::Vcpo => "vcpo",
            Self::Oapl => "oapl",
            Self::Dro => "dro",
            Self::PrefixTis => "prefix_tis",
            Self::None => "none",
        }
    }

    /// Returns the settings of section `[loss]` that the rule reads, with their defaults. A setting
    /// without a default is off unless it is set.
    pub fn loss_settings(self) -> &'static [(LossSetting, Option<f64>)] {
        use LossSetting as S;
        match self {
            Self::M2po
            | Self::M2poAreal
            | Self::M2poFork
            | Self::Topr
            | Self::Opo
            | Self::Reinforce
            | Self::None => &[],
            Self::M2poRestoring => &[
                (S::RatioLow, Some(1.0)),
                (S::RatioHigh, Some(2.0)),
                (S::EffectiveShare, None),
            ],
            Self::Grpo | Self::MixPpg => &[(S::DualClip, None)],
            Self::Dapo => &[
                (S::ClipLow, Some(0.2)),
                (S::ClipHigh, Some(0.28)),
                (S::DualClip, None),
            ],
            Self::Gspo => &[(S::ClipLow, Some(3e-4)), (S::ClipHigh, Some(4e-4))],
            Self::Cispo => &[(S::RatioLow, Some(0.0)), (S::RatioHigh, Some(5.0))],
            Self::DecoupledPpo => &[(S::DualClip, None), (S::RatioHigh, Some(5.0))],
            Self::Tis | Self::SeqTis => &[(S::RatioHigh, Some(2.0))],
            Self::Icepop => &[(S::RatioLow, Some(0.5)), (S::RatioHigh, Some(2.0))],
            Self::SeqMis => &[(S::RatioLow, Some(0.0)), (S::RatioHigh, Some(3.0))],
            Self::GeoRs => &[(S::RatioLow, Some(0.999)), (S::RatioHigh, Some(1.001))],
            Self::K3Rs => &[(S::Divergence, Some(0.01))],
            Self::SequenceMask => &[(S::Divergence, Some(0.5))],
            Self::DppoTv => &[
                (S::DistanceLow, Some(0.2)),
                (S::DistanceHigh, Some(0.2)),
                (S::RatioHigh, Some(20.0)),
            ],
            Self::Ipo => &[(S::Distance, Some(0.1)), (S::Penalty, Some(1e-3))],
            Self::Drpo => &[(S::Distance, Some(12.5))],
            Self::Asymre => &[(S::BaselineShift, Some(-0.1))],
            Self::Bapo => &[
                (S::RatioLow, Some(0.6)),
                (S::RatioLowLast, Some(0.9)),
                (S::RatioHigh, Some(1.2)),
                (S::RatioHighLast, Some(3.0)),
                (S::RatioStep, Some(0.05)),
                (S::Balance, Some(1.0)),
            ],
            Self::Sapo => &[
                (S::TemperatureGood, Some(1.0)),
                (S::TemperatureBad, Some(1.05)),
            ],
            Self::Vespo => &[
                (S::PowerGood, Some(2.0)),
                (S::DecayGood, Some(3.0)),
                (S::PowerBad, Some(3.0)),
                (S::DecayBad, Some(2.0)),
            ],
            Self::Vcpo => &[(S::RatioHigh, Some(8.0)), (S::EffectiveShare, Some(1.0))],
            Self::Oapl => &[(S::Beta, Some(1e-3)), (S::BaselineTemperature, Some(1.0))],
            Self::Dro => &[(S::Penalty, Some(0.05))],
            Self::PrefixTis => &[(S::RatioHigh, Some(5.0)), (S::RatioSlope, None)],
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
    /// Width of the clip below ratio 1.
    ClipLow,
    /// Width of the clip above ratio 1.
    ClipHigh,
    /// Lower bound on a ratio.
    RatioLow,
    /// Upper bound on a ratio.
    RatioHigh,
    /// Value up to which the lower bound on a ratio may rise.
    RatioLowLast,
    /// Value up to which the upper bound on a ratio may rise.
    RatioHighLast,
    /// Step by which bounds on a ratio rise.
    RatioStep,
    /// Growth of the upper bound on a ratio with each update.
    RatioSlope,
    /// Share of good answers in the loss that the bounds aim at, in multiples of that of
    /// bad ones.
    Balance,
    /// Mean divergence above which a row is masked, in nats.
    Divergence,
    /// Change of a token's probability that is masked, or at which its gradient is 0.
    Distance,
    /// Loss of probability above which a token with A < 0 is masked.
    DistanceLow,
    /// Gain of probability above which a token with A > 0 is masked.
    DistanceHigh,
    /// Coefficient of the squared log-ratio.
    Penalty,
    /// Coefficient of a row's log-ratio.
    Beta,
    /// Temperature of the sigmoid of tokens with A > 0.
    TemperatureGood,
    /// Temperature of the sigmoid of the other tokens.
    TemperatureBad,
    /// Power of the row's ratio where A ≥ 0.
    PowerGood,
    /// Rate at which the weight of a row falls with its ratio where A ≥ 0.
    DecayGood,
    /// Power of the row's ratio where A < 0.
    PowerBad,
    /// Rate at which the weight of a row falls with its ratio where A < 0.
    DecayBad,
    /// Effective share of rows below which the step is shorter.
    EffectiveShare,
    /// Difference of the baseline from the mean reward of a prompt.
    BaselineShift,
    /// Temperature of the soft maximum of rewards that is the baseline.
    BaselineTemperature,
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
