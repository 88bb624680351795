//! Engine of updates, and the step that each computes: gradients of the rule's loss, then the
//! optimizer.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use vintage_control::{Fingerprint, OptimizerSettings, Plan, Training};
use vintage_losses::{KlStats, Stats, WeightStats};
use vintage_model::{Compute, Decoder};

use crate::{
    adamw::AdamW,
    error::{Error, Result},
    pack::PackedBatch,
};

pub use crate::{
    rule::{baseline, rule},
    weigh::{weigh_batch, weights_of},
};

/// Engine that computes the updates of one policy and holds the optimizer's moments, on the CPU or
/// on a GPU.
pub trait UpdateEngine: fmt::Debug + Send + Sync {
    /// Returns the fingerprint of everything besides the plan that the bits of an update depend on.
    fn fingerprint(&self) -> &Fingerprint;

    /// Returns true if the engine takes batches in which sequences continue others, so that a prompt is
    /// computed once for all its rows.
    fn shares_prompts(&self) -> bool;

    /// Runs an update of `decoder` on batches that are laid out. After an error the policy must be
    /// loaded again, because an engine's own copy of it may be ahead.
    fn update(
        &mut self,
        decoder: &mut Decoder,
        plan: &Plan,
        batches: &[PackedBatch],
        outcome: &mut UpdateStats,
    ) -> Result<()>;

    /// Returns the optimizer with its moments, copied to the host if they are elsewhere.
    fn optimizer(&self) -> Result<Cow<'_, AdamW>>;

    /// Drops the engine's own copy of the parameters, if it has one, and keeps the moments. The
    /// next update takes the parameters from its decoder.
    fn forget_parameters(&mut self) -> Result<()>;
}

/// Two halves of an update, wherever they are computed.
pub trait Step {
    /// Gradients of every parameter that is trained.
    type Gradients;

    /// Computes the gradients of the loss over `batches`, and records loss and statistics in
    /// `outcome`.
    fn gradients(
        &mut self,
        plan: &Plan,
        batches: &[PackedBatch],
        outcome: &mut UpdateStats,
    ) -> Result<Self::Gradients>;

    /// Returns the cosine of the gradients with the mean of those before; `None` if there were none, or if one
    /// of the two is zero.
    fn cosine(&self, gradients: &Self::Gradients) -> Result<Option<f64>>;

    /// Takes one step of the optimizer, and returns the norm of the gradients. A norm that is not
    /// finite must change nothing.
    fn step(&mut self, settings: &OptimizerSettings, gradients: &Self::Gradients) -> Result<f64>;
}

/// Statistics and effects of an update, before it has a name and a digest.
#[derive(Debug, Clone, Default)]
pub struct UpdateStats {
    /// Reason for which nothing was changed, if nothing was.
    pub skipped: Option<String>,
    /// Statistics of the rule.
    pub stats: Stats,
    /// Loss of the batch, the penalty included.
    pub loss: f64,
    /// Distance from the versions of the plan's penalty, if it has one.
    pub distance: Option<KlStats>,
    /// Statistics of the importance weights; `None` if the engine does not compute them.
    pub weights: Option<WeightStats>,
    /// Norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Cosine of the gradients with the mean of those before, which the optimizer's first moment is.
    pub gradient_cosine: Option<f64>,
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

/// Runs both halves of an update on batches that are laid out, as often as the plan says. Statistics
/// are those of the first time, at the weights that the update starts from.
pub fn run<S: Step>(
    step: &mut S,
    plan: &Plan,
    batches: &[PackedBatch],
    outcome: &mut UpdateStats,
) -> Result<()> {
    pass(step, plan, batches, outcome, true)?;
    if outcome.skipped.is_none() {
        for _ in 1..plan.reuse.passes {
            pass(step, plan, batches, &mut UpdateStats::default(), false)?;
        }
    }
    Ok(())
}

/// Computes gradients and takes one step of the optimizer, as long as the rule wants it.
fn pass<S: Step>(
    step: &mut S,
    plan: &Plan,
    batches: &[PackedBatch],
    outcome: &mut UpdateStats,
    is_first: bool,
) -> Result<()> {
    let gradients = step.gradients(plan, batches, outcome)?;
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
    let settings = scaled(&plan.optimizer, outcome.stats.step_scale);
    if is_first {
        outcome.gradient_cosine = step.cosine(&gradients)?;
    }
    let norm = step.step(&settings, &gradients)?;
    outcome.grad_norm = finite("gradient norm", norm)?;
    Ok(())
}

/// Returns the optimizer's settings with the learning rate that the rule wants.
fn scaled(settings: &OptimizerSettings, scale: Option<f64>) -> Cow<'_, OptimizerSettings> {
    match scale {
        None => Cow::Borrowed(settings),
        Some(scale) => Cow::Owned(OptimizerSettings {
            lr: settings.lr * scale,
            ..settings.clone()
        }),
    }
}

/// Converts training settings to the model's precision and recomputation.
pub fn compute(training: &Training) -> Compute {
    Compute {
        precision: training.compute,
        recompute: training.recompute,
    }
}
