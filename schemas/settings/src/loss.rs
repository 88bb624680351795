//! Section `[loss]`: settings of the losses beside M2PO and GRPO.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vintage_control::{AlgorithmName, LossSetting};

use crate::problems::{Problems, positive, share};

/// Section `[loss]`: settings of the losses beside M2PO and GRPO. Each is read by some values of
/// `algorithm` and refused with the others; unset = the default of the algorithm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Bound on the loss of a token with A < 0, in multiples of −A (`grpo`, `dapo`,
    /// `mix_ppg`, `decoupled_ppo`); unset = none.
    pub dual_clip: Option<f64>,
    /// Width of the clip below ratio 1 (`dapo`, `gspo`).
    pub clip_low: Option<f64>,
    /// Width of the clip above ratio 1 (`dapo`, `gspo`).
    pub clip_high: Option<f64>,
    /// Lower bound on a ratio (`m2po_restoring`, `cispo`, `icepop`, `seq_mis`, `geo_rs`, `bapo`).
    pub ratio_low: Option<f64>,
    /// Upper bound on a ratio (`m2po_restoring`, `cispo`, `decoupled_ppo`, `tis`, `seq_tis`, `icepop`,
    /// `seq_mis`, `geo_rs`, `dppo_tv`, `bapo`, `vcpo`, `prefix_tis`).
    pub ratio_high: Option<f64>,
    /// Value up to which the lower bound on a ratio may rise (`bapo`).
    pub ratio_low_last: Option<f64>,
    /// Value up to which the upper bound on a ratio may rise (`bapo`).
    pub ratio_high_last: Option<f64>,
    /// Step by which bounds on a ratio rise (`bapo`).
    pub ratio_step: Option<f64>,
    /// Growth of the upper bound on a ratio: at update t it is slope · t, between 1 and `ratio_high`, as HyGLOW's
    /// clip; unset = `ratio_high` throughout (`prefix_tis`).
    pub ratio_slope: Option<f64>,
    /// Share of good answers in the loss that the bounds aim at, in multiples of that of
    /// bad ones (`bapo`).
    pub balance: Option<f64>,
    /// Mean divergence above which a row is masked, in nats (`k3_rs`, `sequence_mask`).
    pub divergence: Option<f64>,
    /// Change of a token's probability that is masked, or at which its gradient is 0
    /// (`ipo`, `drpo`).
    pub distance: Option<f64>,
    /// Loss of probability above which a token with A < 0 is masked (`dppo_tv`).
    pub distance_low: Option<f64>,
    /// Gain of probability above which a token with A > 0 is masked (`dppo_tv`).
    pub distance_high: Option<f64>,
    /// Coefficient of the squared log-ratio (`ipo`, `dro`).
    pub penalty: Option<f64>,
    /// Coefficient of a row's log-ratio (`oapl`).
    pub beta: Option<f64>,
    /// Temperature of the sigmoid of tokens with A > 0 (`sapo`).
    pub temperature_good: Option<f64>,
    /// Temperature of the sigmoid of the other tokens (`sapo`).
    pub temperature_bad: Option<f64>,
    /// Power of the row's ratio where A ≥ 0 (`vespo`).
    pub power_good: Option<f64>,
    /// Rate at which the weight of a row falls with its ratio where A ≥ 0 (`vespo`).
    pub decay_good: Option<f64>,
    /// Power of the row's ratio where A < 0 (`vespo`).
    pub power_bad: Option<f64>,
    /// Rate at which the weight of a row falls with its ratio where A < 0 (`vespo`).
    pub decay_bad: Option<f64>,
    /// Effective share of rows below which the step is shorter (`vcpo`, `m2po_restoring`).
    pub effective_share: Option<f64>,
    /// Difference of the baseline from the mean reward of a prompt (`asymre`).
    pub baseline_shift: Option<f64>,
    /// Temperature of the soft maximum of rewards that is the baseline (`oapl`).
    pub baseline_temperature: Option<f64>,
}

/// Range of values of a setting, and what to say about one outside.
type Range = (fn(f64) -> bool, &'static str);

const ABOVE_0: Range = (positive, "must be above 0");
const ABOVE_1: Range = (|value| value > 1.0 && value.is_finite(), "must be above 1");
const AT_LEAST_1: Range = (
    |value| value >= 1.0 && value.is_finite(),
    "must be at least 1",
);
const FINITE: Range = (f64::is_finite, "must be finite");
const NOT_NEGATIVE: Range = (
    |value| value >= 0.0 && value.is_finite(),
    "must not be negative",
);
const SHARE: Range = (share, "must be from 0 to 1");
const SHARE_ABOVE_0: Range = (
    |value| value > 0.0 && value <= 1.0,
    "must be above 0, at most 1",
);
const STEP: Range = (
    |value| value >= 1e-3 && value.is_finite(),
    "must be at least 0.001",
);

impl LossConfig {
    /// Returns every setting with its key, its value and its range.
    fn entries(&self) -> [(LossSetting, &'static str, Option<f64>, Range); 25] {
        use LossSetting as S;
        [
            (S::DualClip, "loss.dual_clip", self.dual_clip, ABOVE_1),
            (S::ClipLow, "loss.clip_low", self.clip_low, SHARE),
            (S::ClipHigh, "loss.clip_high", self.clip_high, ABOVE_0),
            (S::RatioLow, "loss.ratio_low", self.ratio_low, SHARE),
            (S::RatioHigh, "loss.ratio_high", self.ratio_high, AT_LEAST_1),
            (
                S::RatioLowLast,
                "loss.ratio_low_last",
                self.ratio_low_last,
                SHARE,
            ),
            (
                S::RatioHighLast,
                "loss.ratio_high_last",
                self.ratio_high_last,
                AT_LEAST_1,
            ),
            (S::RatioStep, "loss.ratio_step", self.ratio_step, STEP),
            (S::RatioSlope, "loss.ratio_slope", self.ratio_slope, ABOVE_0),
            (S::Balance, "loss.balance", self.balance, ABOVE_0),
            (
                S::Divergence,
                "loss.divergence",
                self.divergence,
                NOT_NEGATIVE,
            ),
            (S::Distance, "loss.distance", self.distance, ABOVE_0),
            (
                S::DistanceLow,
                "loss.distance_low",
                self.distance_low,
                NOT_NEGATIVE,
            ),
            (
                S::DistanceHigh,
                "loss.distance_high",
                self.distance_high,
                NOT_NEGATIVE,
            ),
            (S::Penalty, "loss.penalty", self.penalty, NOT_NEGATIVE),
            (S::Beta, "loss.beta", self.beta, ABOVE_0),
            (
                S::TemperatureGood,
                "loss.temperature_good",
                self.temperature_good,
                ABOVE_0,
            ),
            (
                S::TemperatureBad,
                "loss.temperature_bad",
                self.temperature_bad,
                ABOVE_0,
            ),
            (
                S::PowerGood,
                "loss.power_good",
                self.power_good,
                NOT_NEGATIVE,
            ),
            (
                S::DecayGood,
                "loss.decay_good",
                self.decay_good,
                NOT_NEGATIVE,
            ),
            (S::PowerBad, "loss.power_bad", self.power_bad, NOT_NEGATIVE),
            (S::DecayBad, "loss.decay_bad", self.decay_bad, NOT_NEGATIVE),
            (
                S::EffectiveShare,
                "loss.effective_share",
                self.effective_share,
                SHARE_ABOVE_0,
            ),
            (
                S::BaselineShift,
                "loss.baseline_shift",
                self.baseline_shift,
                FINITE,
            ),
            (
                S::BaselineTemperature,
                "loss.baseline_temperature",
                self.baseline_temperature,
                ABOVE_0,
            ),
        ]
    }

    /// Returns the settings that `algorithm` reads, with the values that it uses.
    pub fn used_by(&self, algorithm: AlgorithmName) -> BTreeMap<LossSetting, f64> {
        let mut used = BTreeMap::new();
        for (setting, default) in algorithm.loss_settings() {
            let set = self.entries().into_iter().find(|entry| entry.0 == *setting);
            let value = set.and_then(|entry| entry.2).or(*default);
            used.extend(value.map(|value| (*setting, value)));
        }
        used
    }

    pub(crate) fn check(&self, algorithm: AlgorithmName, problems: &mut Problems) {
        let used = self.used_by(algorithm);
        for (first, last, key) in [
            (
                LossSetting::RatioLow,
                LossSetting::RatioLowLast,
                "loss.ratio_low_last",
            ),
            (
                LossSetting::RatioHigh,
                LossSetting::RatioHighLast,
                "loss.ratio_high_last",
            ),
        ] {
            if let (Some(first), Some(last)) = (used.get(&first), used.get(&last)) {
                problems.require(
                    first <= last,
                    key,
                    "must be at least the bound that rises to it",
                );
            }
        }
        for (setting, key, value, (in_range, why)) in self.entries() {
            let Some(value) = value else { continue };
            problems.require(in_range(value), key, why);
            if !algorithm.reads(setting) {
                let name = algorithm.as_str();
                let why = format!("is not read by algorithm = \"{name}\"; unset it with \"none\"");
                problems.refuse(key, why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vintage_control::{AlgorithmName, LossSetting};

    use crate::run::RunConfig;

    #[test]
    fn a_setting_is_refused_out_of_range_and_where_nothing_reads_it() {
        let mut config = RunConfig::default();
        config.loss.dual_clip = Some(3.0);
        let found = config.violations();
        assert_eq!(found[0].key, "loss.dual_clip");
        assert!(found[0].why.contains("\"m2po\""), "{}", found[0].why);
        config.algorithm = AlgorithmName::MixPpg;
        assert!(config.violations().is_empty());
        config.loss.dual_clip = Some(1.0);
        assert_eq!(config.violations()[0].why, "must be above 1");
    }

    #[test]
    fn plans_record_the_values_that_are_used() {
        let mut config = RunConfig::default();
        assert!(config.algorithm().loss.is_empty());
        config.algorithm = AlgorithmName::DecoupledPpo;
        let recorded = config.algorithm().loss;
        assert_eq!(
            recorded.into_iter().collect::<Vec<_>>(),
            [(LossSetting::RatioHigh, 5.0)]
        );
        config.loss.ratio_high = Some(2.0);
        assert_eq!(
            config.algorithm().setting(LossSetting::RatioHigh),
            Some(2.0)
        );
    }

    #[test]
    fn every_setting_that_a_rule_reads_has_a_key_and_a_default_in_range() {
        for name in AlgorithmName::ALL {
            for (setting, default) in name.loss_settings() {
                let entries = RunConfig::default().loss.entries();
                let entry = entries.into_iter().find(|entry| entry.0 == *setting);
                let (_, key, _, (in_range, _)) = entry.unwrap();
                assert!(default.is_none_or(in_range), "{key} of {name:?}");
                let spelled = serde_json::to_value(setting).unwrap();
                assert_eq!(format!("loss.{}", spelled.as_str().unwrap()), key);
            }
        }
    }
}
