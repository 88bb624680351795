//! The step that every device computes: gradients of the rule's loss, then the optimizer.

use std::collections::BTreeMap;

use vintage_control::{Algorithm, AlgorithmName, OptimizerSettings, Plan};
use vintage_m2po::{Rule, Stats};

use crate::{
    error::{Error, Result},
    pack::Batch,
};

/// Implementation of an update: the CPU kernels or a device.
pub(crate) trait Engine {
    /// Gradients of every parameter that is trained.
    type Gradients;

    /// Computes the gradients of the loss over `batches`, and records loss and statistics in
    /// `outcome`.
    fn gradients(
        &mut self,
        plan: &Plan,
        batches: &[Batch],
        outcome: &mut Outcome,
    ) -> Result<Self::Gradients>;

    /// Takes one step of the optimizer, and returns the norm of the gradients. A norm that is not
    /// finite must change nothing.
    fn step(&mut self, settings: &OptimizerSettings, gradients: &Self::Gradients) -> Result<f64>;
}

/// Statistics and effects of an update, before it has a name and a digest.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Reason for which nothing was changed, if nothing was.
    pub skipped: Option<String>,
    /// Statistics of the rule.
    pub stats: Stats,
    /// Loss of the batch.
    pub loss: f64,
    /// Norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Number of rows in the batch.
    pub rows: u64,
    /// Number of prompt and completion tokens.
    pub all_tokens: u64,
    /// Mean entropy over valid tokens, in nats.
    pub entropy: f64,
    /// Mean reward over rows.
    pub reward: f64,
    /// Number of groups whose rows all have one reward, which give no gradient.
    pub equal_groups: u64,
    /// Number of rows that ended at the limit on their length.
    pub cut_rows: u64,
    /// Number of valid tokens by staleness; tokens of foreign policies are counted by their lag.
    pub staleness: BTreeMap<u64, u64>,
    /// Number of the tokens in `staleness` that are counted by their lag.
    pub lag_tokens: u64,
    /// Seconds that the rule took: from log-probs to the weight of every token.
    pub weigh_seconds: f64,
}

/// Runs an update on batches that are laid out.
pub(crate) fn run<E: Engine>(
    engine: &mut E,
    plan: &Plan,
    batches: &[Batch],
    outcome: &mut Outcome,
) -> Result<()> {
    let gradients = engine.gradients(plan, batches, outcome)?;
    if outcome.stats.n_valid == 0 {
        outcome.skipped = Some("the batch has no valid token".to_owned());
        return Ok(());
    }
    let finite = |what, value: f64| {
        if value.is_finite() {
            Ok(value)
        } else {
            Err(Error::NotFinite {
                update: plan.update(),
                what,
                value,
            })
        }
    };
    finite("loss", outcome.loss)?;
    let norm = engine.step(&plan.optimizer, &gradients)?;
    outcome.grad_norm = finite("gradient norm", norm)?;
    Ok(())
}

/// Ratio of proximal to behaviour probability above which a token is rejected (AReaL's M2PO
/// example).
const AREAL_BEHAVIOR_CAP: f64 = 5.0;

/// Returns the rule of an algorithm, with its settings.
pub(crate) fn rule(algorithm: &Algorithm) -> Rule {
    let tau = algorithm.m2_threshold;
    let eps = algorithm.clip_eps;
    match algorithm.name {
        AlgorithmName::M2po => Rule::M2poPaper { tau },
        AlgorithmName::M2poAreal => Rule::M2poAreal {
            tau,
            eps,
            behavior_cap: Some(AREAL_BEHAVIOR_CAP),
        },
        AlgorithmName::M2poFork => Rule::M2poFork { tau },
        AlgorithmName::Grpo => Rule::GrpoClip { eps },
        AlgorithmName::None => Rule::None,
    }
}
