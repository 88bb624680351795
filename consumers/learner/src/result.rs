//! Record of a finished update.

use vintage_control::{CONTROL_FORMAT, EngineMismatch, Plan, Sha256, UpdateResult};

use crate::{engine::UpdateStats, settings::LearnerSettings, trainer::Trained};

/// Builds the record of a finished update.
pub(crate) fn result_of(
    settings: &LearnerSettings,
    plan: &Plan,
    trained: &Trained,
    weights_sha256: Sha256,
    mismatch: Vec<EngineMismatch>,
    wait_seconds: f64,
    record_seconds: f64,
) -> UpdateResult {
    let UpdateStats {
        skipped,
        stats,
        loss,
        distance,
        weights,
        grad_norm,
        gradient_cosine,
        rows,
        all_tokens,
        entropy,
        reward,
        equal_groups,
        cut_rows,
        staleness,
        lag_tokens,
        weigh_seconds: _,
    } = trained.outcome.clone();
    let tokens = stats.n_valid;
    let weighted: f64 = staleness
        .iter()
        .map(|(&age, &n)| age as f64 * n as f64)
        .sum();
    UpdateResult {
        format: CONTROL_FORMAT.to_owned(),
        learner: settings.learner.name.clone(),
        policy: settings.learner.policy.clone(),
        version: plan.version,
        weights_sha256,
        skipped,
        loss,
        grad_norm,
        gradient_cosine,
        groups: plan.groups.len() as u64,
        reused_groups: plan.reused.len() as u64,
        rows,
        tokens,
        all_tokens,
        trust_tokens: stats.n_trust,
        masked_tokens: stats.n_masked,
        clip_fraction: stats.clip_frac,
        m2_before: stats.m2_rule_before,
        m2_after: stats.m2_rule_after,
        m2_all: stats.m2_all_before,
        kl: stats.kl_k1,
        kl_reference: distance.map(|distance| distance.reference),
        kl_previous: distance.and_then(|distance| distance.previous),
        effective_rows: weights.map(|weights| weights.effective_rows),
        effective_tokens: weights.map(|weights| weights.effective_tokens),
        concentrability: weights.map(|weights| weights.concentrability),
        max_log_ratio: stats.max_kept_log_ratio,
        clamped_tokens: stats.n_clamped,
        entropy,
        reward,
        equal_groups: Some(equal_groups),
        cut_rows: Some(cut_rows),
        mean_staleness: if tokens == 0 {
            0.0
        } else {
            weighted / tokens as f64
        },
        max_staleness: staleness.keys().next_back().copied().unwrap_or(0),
        staleness,
        lag_tokens,
        mismatch,
        wait_seconds,
        update_seconds: trained.seconds,
        record_seconds,
        finished_at_ms: jiff::Timestamp::now().as_millisecond(),
    }
}
