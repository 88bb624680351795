//! Rule and penalty of a plan.

use vintage_control::{Algorithm, AlgorithmName, LossSetting, Plan};
use vintage_m2po::{KlPenalty, KlStats, Rule, Tokens, Weighed, weigh};

use crate::{
    error::{Error, Result},
    pack::Joined,
};

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

/// Weighs a batch by the plan's rule and adds its penalty, on the host. `new` are the log-probs of
/// the policy that is trained, `prox` those at the beginning of the update. Without a penalty there
/// is no distance.
///
/// # Errors
/// What the rule or the penalty refuses, with the token.
pub fn weigh_batch(
    plan: &Plan,
    known: &Joined,
    new: &[f32],
    prox: &[f32],
) -> Result<(Weighed, Option<KlStats>)> {
    let refused = |source| Error::Weigh {
        update: plan.update(),
        source,
    };
    let tokens = Tokens {
        new,
        behavior: &known.behavior,
        advantage: &known.advantage,
        valid: &known.valid,
        prox: Some(prox),
        row_ends: Some(&known.row_ends),
        clamp: plan.algorithm.log_ratio_clamp,
    };
    let mut weighed = weigh(&rule(&plan.algorithm), &tokens).map_err(refused)?;
    let distance = match &plan.reuse.kl {
        None => None,
        Some(kl) => {
            let penalty = KlPenalty {
                reference: &known.reference,
                previous: Some(&known.previous),
                beta: kl.beta,
                lambda: kl.share,
                // As ReMix's code base has it. Corrected by the ratio, a few tokens that the policy
                // has come to like would outweigh all others.
                importance: false,
            };
            Some(penalty.add(&tokens, &mut weighed).map_err(refused)?)
        }
    };
    Ok((weighed, distance))
}
