//! Section `[loss]`: settings of the losses beside M2PO and GRPO.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vintage_control::{AlgorithmName, LossSetting};

use crate::problems::{Problems, positive};

/// Section `[loss]`: settings of the losses beside M2PO and GRPO. Each is read by some values of
/// `algorithm` and refused with the others; unset = the default of the algorithm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Bound on the loss of a token with A < 0, in multiples of −A (`mix_ppg`, `decoupled_ppo`);
    /// unset = none.
    pub dual_clip: Option<f64>,
    /// Upper bound on a ratio: above it, tokens are masked (`decoupled_ppo`).
    pub ratio_high: Option<f64>,
}

/// Range of values of a setting, and what to say about one outside.
type Range = (fn(f64) -> bool, &'static str);

const ABOVE_0: Range = (positive, "must be above 0");
const ABOVE_1: Range = (|value| value > 1.0 && value.is_finite(), "must be above 1");

impl LossConfig {
    /// Returns every setting with its key, its value and its range.
    fn entries(&self) -> [(LossSetting, &'static str, Option<f64>, Range); 2] {
        use LossSetting as S;
        [
            (S::DualClip, "loss.dual_clip", self.dual_clip, ABOVE_1),
            (S::RatioHigh, "loss.ratio_high", self.ratio_high, ABOVE_0),
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
