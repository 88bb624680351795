//! Rule of a plan's algorithm.

use vintage_control::{Algorithm, AlgorithmName, LossSetting};
use vintage_m2po::Rule;

/// Ratio of proximal to behaviour probability above which a token is rejected (AReaL's M2PO
/// example).
const AREAL_BEHAVIOR_CAP: f64 = 5.0;

/// Returns the rule of an algorithm, with its settings.
pub fn rule(algorithm: &Algorithm) -> Rule {
    let tau = algorithm.m2_threshold;
    let eps = algorithm.clip_eps;
    let dual_clip = algorithm.setting(LossSetting::DualClip);
    match algorithm.name {
        AlgorithmName::M2po => Rule::M2poPaper { tau },
        AlgorithmName::M2poAreal => Rule::M2poAreal {
            tau,
            eps,
            behavior_cap: Some(AREAL_BEHAVIOR_CAP),
        },
        AlgorithmName::M2poFork => Rule::M2poFork { tau },
        AlgorithmName::Grpo => Rule::GrpoClip { eps },
        AlgorithmName::MixPpg => Rule::MixPpg { eps, dual_clip },
        AlgorithmName::DecoupledPpo => Rule::DecoupledPpo {
            eps,
            dual_clip,
            cap: algorithm.setting(LossSetting::RatioHigh),
        },
        AlgorithmName::None => Rule::None,
    }
}
