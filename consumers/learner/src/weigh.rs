//! Weighing of a batch on the host: the plan's rule and its penalty.

use vintage_control::Plan;
use vintage_losses::{KlPenalty, KlStats, Tokens, Weighed, WeightStats, weigh, weight_stats};

use crate::{
    error::{Error, Result},
    pack::Joined,
    rule::rule,
};

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
        prox: Some(prox),
        ..tokens(plan, known, new)
    };
    let rule = rule(&plan.algorithm, plan.update());
    let mut weighed = weigh(&rule, &tokens).map_err(refused)?;
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

/// Returns the statistics of the batch's importance weights; `new` as in [`weigh_batch`].
///
/// # Errors
/// A log-prob that is not finite.
pub fn weights_of(plan: &Plan, known: &Joined, new: &[f32]) -> Result<WeightStats> {
    weight_stats(&tokens(plan, known, new)).map_err(|source| Error::Weigh {
        update: plan.update(),
        source,
    })
}

fn tokens<'a>(plan: &Plan, known: &'a Joined, new: &'a [f32]) -> Tokens<'a> {
    Tokens {
        new,
        behavior: &known.behavior,
        advantage: &known.advantage,
        valid: &known.valid,
        prox: None,
        row_ends: Some(&known.row_ends),
        scope: known.scope.as_deref(),
        clamp: plan.algorithm.log_ratio_clamp,
    }
}
