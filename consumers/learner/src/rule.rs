//! Rule, baseline and scopes of a plan's algorithm.

use vintage_control::{Algorithm, AlgorithmName, LossSetting as S, UpdateNumber};
use vintage_losses::{Baseline, Level, Rule, prefix_cap};

/// Ratio of proximal to behaviour probability above which a token is rejected (AReaL's M2PO
/// example).
const AREAL_BEHAVIOR_CAP: f64 = 5.0;

/// Returns the rule of an algorithm at an update, with its settings.
pub fn rule(algorithm: &Algorithm, update: UpdateNumber) -> Rule {
    let tau = algorithm.m2_threshold;
    let eps = algorithm.clip_eps;
    let dual_clip = algorithm.setting(S::DualClip);
    // Every setting that is read here has a default; the rule refuses NaN.
    let get = |setting| algorithm.setting(setting).unwrap_or(f64::NAN);
    match algorithm.name {
        AlgorithmName::M2po => Rule::M2poPaper { tau },
        AlgorithmName::M2poAreal => Rule::M2poAreal {
            tau,
            eps,
            behavior_cap: Some(AREAL_BEHAVIOR_CAP),
        },
        AlgorithmName::M2poFork => Rule::M2poFork { tau },
        AlgorithmName::M2poRestoring => Rule::M2poRestoring {
            tau,
            low: get(S::RatioLow),
            high: get(S::RatioHigh),
            base: algorithm.setting(S::EffectiveShare),
        },
        AlgorithmName::Grpo if dual_clip.is_some() => Rule::Clip {
            low: eps,
            high: eps,
            dual_clip,
        },
        AlgorithmName::Grpo => Rule::GrpoClip { eps },
        AlgorithmName::Dapo => Rule::Clip {
            low: get(S::ClipLow),
            high: get(S::ClipHigh),
            dual_clip,
        },
        AlgorithmName::Gspo => Rule::Gspo {
            low: get(S::ClipLow),
            high: get(S::ClipHigh),
        },
        AlgorithmName::Cispo => Rule::Cispo {
            low: get(S::RatioLow),
            high: get(S::RatioHigh),
        },
        AlgorithmName::MixPpg => Rule::MixPpg { eps, dual_clip },
        AlgorithmName::DecoupledPpo => Rule::DecoupledPpo {
            eps,
            dual_clip,
            cap: Some(get(S::RatioHigh)),
        },
        AlgorithmName::Tis | AlgorithmName::SeqTis => Rule::Tis {
            level: level(algorithm.name),
            cap: get(S::RatioHigh),
            eps: Some(eps),
        },
        AlgorithmName::Icepop | AlgorithmName::SeqMis => Rule::Mis {
            level: level(algorithm.name),
            low: get(S::RatioLow),
            high: get(S::RatioHigh),
            eps: Some(eps),
        },
        AlgorithmName::GeoRs => Rule::GeometricRejection {
            low: get(S::RatioLow),
            high: get(S::RatioHigh),
            eps: Some(eps),
        },
        AlgorithmName::K3Rs => Rule::K3Rejection {
            bound: get(S::Divergence),
            eps: Some(eps),
        },
        AlgorithmName::SequenceMask => Rule::SequenceMask {
            eps,
            delta: get(S::Divergence),
        },
        AlgorithmName::DppoTv => Rule::DppoTv {
            low: get(S::DistanceLow),
            high: get(S::DistanceHigh),
            cap: get(S::RatioHigh),
        },
        AlgorithmName::Ipo => Rule::Ipo {
            distance: get(S::Distance),
            square: get(S::Penalty),
        },
        AlgorithmName::Drpo => Rule::Drpo {
            delta: get(S::Distance),
        },
        AlgorithmName::Topr => Rule::Topr,
        AlgorithmName::Asymre | AlgorithmName::Opo | AlgorithmName::Reinforce => Rule::Reinforce,
        AlgorithmName::Bapo => Rule::Bapo {
            low: (get(S::RatioLow), get(S::RatioLowLast)),
            high: (get(S::RatioHigh), get(S::RatioHighLast)),
            step: get(S::RatioStep),
            balance: get(S::Balance),
        },
        AlgorithmName::Sapo => Rule::Sapo {
            positive: get(S::TemperatureGood),
            negative: get(S::TemperatureBad),
        },
        AlgorithmName::Vespo => Rule::Vespo {
            positive: (get(S::PowerGood), get(S::DecayGood)),
            negative: (get(S::PowerBad), get(S::DecayBad)),
        },
        AlgorithmName::Vcpo => Rule::Vcpo {
            cap: get(S::RatioHigh),
            base: get(S::EffectiveShare),
        },
        AlgorithmName::Oapl => Rule::Oapl { beta: get(S::Beta) },
        AlgorithmName::Dro => Rule::Dro {
            beta: get(S::Penalty),
        },
        AlgorithmName::PrefixTis => {
            let largest = get(S::RatioHigh);
            let slope = algorithm.setting(S::RatioSlope);
            Rule::PrefixTis {
                cap: slope.map_or(largest, |slope| prefix_cap(slope, update.0, largest)),
            }
        }
        AlgorithmName::None => Rule::None,
    }
}

/// Returns the baseline that an algorithm subtracts from the rewards of a group.
pub fn baseline(algorithm: &Algorithm) -> Baseline {
    let get = |setting| algorithm.setting(setting).unwrap_or(f64::NAN);
    match algorithm.name {
        AlgorithmName::Drpo | AlgorithmName::Topr => Baseline::Mean,
        AlgorithmName::Opo => Baseline::LengthWeighted,
        AlgorithmName::Asymre => Baseline::Shifted {
            shift: get(S::BaselineShift),
        },
        AlgorithmName::Oapl => Baseline::SoftMax {
            beta: get(S::BaselineTemperature),
        },
        _ => Baseline::Group,
    }
}

fn level(name: AlgorithmName) -> Level {
    match name {
        AlgorithmName::SeqTis | AlgorithmName::SeqMis => Level::Sequence,
        _ => Level::Token,
    }
}

#[cfg(test)]
mod tests {
    use vintage_control::{AlgorithmName, LossSetting, UpdateNumber};
    use vintage_losses::{Rule, Tokens, weigh};

    use super::{baseline, rule};
    use crate::intake::fixture;

    /// Checks that every name's defaults are settings that its rule accepts.
    #[test]
    fn every_algorithm_has_a_rule_in_range() {
        for name in AlgorithmName::ALL {
            let mut algorithm = fixture::settings().algorithm;
            algorithm.name = name;
            let tokens = Tokens::<f32>::new(&[], &[], &[], &[]).with_rows(&[]);
            weigh(&rule(&algorithm, UpdateNumber(0)), &tokens).unwrap();
            let advantages = baseline(&algorithm).advantages(&[0.0, 1.0], &[3, 4]);
            assert!(advantages[0] < advantages[1], "{name:?}: {advantages:?}");
        }
    }

    #[test]
    fn recorded_settings_reach_the_rule() {
        let mut algorithm = fixture::settings().algorithm;
        algorithm.name = AlgorithmName::Grpo;
        let at = UpdateNumber(20);
        assert!(matches!(rule(&algorithm, at), Rule::GrpoClip { .. }));
        algorithm.loss.insert(LossSetting::DualClip, 3.0);
        let Rule::Clip { dual_clip, .. } = rule(&algorithm, at) else {
            panic!("a dual clip")
        };
        assert_eq!(dual_clip, Some(3.0));
        algorithm.name = AlgorithmName::PrefixTis;
        algorithm.loss.insert(LossSetting::RatioHigh, 8.0);
        assert_eq!(rule(&algorithm, at), Rule::PrefixTis { cap: 8.0 });
        algorithm.loss.insert(LossSetting::RatioSlope, 0.2);
        assert_eq!(rule(&algorithm, at), Rule::PrefixTis { cap: 4.0 });
        let first = rule(&algorithm, UpdateNumber(0));
        assert_eq!(first, Rule::PrefixTis { cap: 1.0 });
    }
}
