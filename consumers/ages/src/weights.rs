//! Weights that a loss gives the tokens of a batch, from which a model computes its gradient.

use vintage_losses::{Baseline, Error, Rule, Tokens, weigh};

use crate::{
    laid::Laid,
    loss::Loss,
    measure::{Group, counts},
};

/// Weights that a loss gives a batch, before a model is asked for the gradient, and what they leave of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Derivative of the loss by the log-prob of every completion token, rollout after rollout. If the
    /// loss shortens the optimizer's step (VCPO), the weights are as much smaller.
    pub of_tokens: Vec<f32>,
    /// Share of trained tokens without gradient: masked or clipped.
    pub masked: f64,
    /// Share of trained tokens whose weight is capped; absent for losses without a cap.
    pub truncated: Option<f64>,
    /// Effective share of the tokens with an advantage: (Σ c)² / (n Σ c²), where c is the size of a
    /// token's weight over its advantage. Masked tokens have c = 0.
    pub effective: f64,
}

impl Weights {
    /// Weighs a batch by a loss. The proximal policy is the one that the groups were recomputed under,
    /// as at the first step on a batch.
    ///
    /// # Errors
    /// A batch that the loss cannot weigh, with the token.
    pub fn of(loss: &Loss, groups: &[Group]) -> Result<Self, Error> {
        let laid = Laid::of(groups);
        let advantage = advantage(&laid, groups, &loss.baseline);
        let tokens = laid.tokens(&advantage, loss.clamp);
        let weighed = weigh(&loss.rule, &tokens)?;
        let counts = counts(loss, &tokens, &weighed);
        let valid = weighed.stats.n_valid.max(1) as f64;
        let mut of_tokens = weighed.weight;
        if let Some(scale) = weighed.stats.step_scale {
            for weight in &mut of_tokens {
                *weight = (f64::from(*weight) * scale) as f32;
            }
        }
        Ok(Self {
            effective: effective(&tokens, &of_tokens),
            masked: counts.masked_tokens as f64 / valid,
            truncated: counts.truncated_tokens.map(|count| count as f64 / valid),
            of_tokens,
        })
    }

    /// Returns the weights of REINFORCE with the baseline of `loss`: no ratio, as on rollouts of the policy
    /// itself.
    ///
    /// # Errors
    /// A reward or log-prob that is no number, with the token.
    pub fn reinforce(loss: &Loss, groups: &[Group]) -> Result<Vec<f32>, Error> {
        let laid = Laid::of(groups);
        let advantage = advantage(&laid, groups, &loss.baseline);
        let tokens = laid.tokens(&advantage, vintage_losses::DEFAULT_CLAMP);
        Ok(weigh(&Rule::Reinforce, &tokens)?.weight)
    }
}

fn advantage(laid: &Laid, groups: &[Group], baseline: &Baseline) -> Vec<f32> {
    laid.advantages(groups, |rewards, lengths| {
        baseline.advantages(rewards, lengths)
    })
}

/// Returns the effective share of the tokens that have an advantage: 1 if there are none, 0 if none of
/// them has a weight.
fn effective(tokens: &Tokens<'_>, weights: &[f32]) -> f64 {
    let places = (0..weights.len()).filter(|&at| tokens.valid[at] && tokens.advantage[at] != 0.0);
    let sizes =
        places.map(|at| f64::from(weights[at]).abs() / f64::from(tokens.advantage[at]).abs());
    let (sum, squares, count) = sizes.fold((0.0, 0.0, 0_u64), |(sum, squares, count), size| {
        (sum + size, squares + size * size, count + 1)
    });
    if count == 0 {
        1.0
    } else if squares > 0.0 {
        sum * sum / (count as f64 * squares)
    } else {
        0.0
    }
}
