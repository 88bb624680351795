//! The policy in training and the one way to run a plan: live, recovering and replaying alike.

use std::time::Instant;

use bytes::Bytes;
use vintage_control::{CONTROL_FORMAT, Plan, PolicyVersion, Sha256, UpdateResult};
use vintage_model::{Decoder, ModelConfig, ParamSet};
use vintage_store::{Weights, sha256};

use crate::{
    AdamW, Error, Result, Settings,
    intake::{Intake, ReadyGroup},
    update::{Outcome, Policy, update},
};

/// A policy at a version.
pub struct Trainer {
    policy: Option<Policy>,
    version: PolicyVersion,
    weights: Bytes,
    weights_sha256: Sha256,
}

/// What running a plan gave.
pub struct Trained {
    /// What the update saw and did.
    pub outcome: Outcome,
    /// Seconds computing.
    pub seconds: f64,
}

impl Trainer {
    /// Starts from `version` of the store, verified by hash, and the moments that go with it.
    pub async fn load(weights: &Weights, version: PolicyVersion, optimizer: AdamW) -> Result<Self> {
        let config = model_config(weights).await?;
        let bytes = weights.fetch(version).await?;
        let params = ParamSet::from_safetensors(&bytes, &config)?;
        let decoder = Decoder::new(config, params)?;
        Ok(Self {
            policy: Some(Policy { decoder, optimizer }),
            version,
            weights_sha256: sha256(&bytes),
            weights: bytes,
        })
    }

    /// Updates done.
    pub fn version(&self) -> PolicyVersion {
        self.version
    }

    /// `model.safetensors` of this version.
    pub fn weights(&self) -> &Bytes {
        &self.weights
    }

    /// Its digest.
    pub fn weights_sha256(&self) -> Sha256 {
        self.weights_sha256
    }

    /// The moments.
    pub fn optimizer(&self) -> Result<&AdamW> {
        Ok(&self.policy()?.optimizer)
    }

    /// Runs `plan` on its groups and moves to the next version.
    pub async fn run(&mut self, plan: Plan, groups: Vec<ReadyGroup>) -> Result<Trained> {
        if plan.version != self.version {
            return Err(Error::Record(format!(
                "plan {} cannot run on version {}",
                plan.version, self.version
            )));
        }
        if plan.weights_sha256 != self.weights_sha256 {
            // The chain of plans: what update N starts from is what update N − 1 gave.
            return Err(Error::Diverged {
                update: PolicyVersion(self.version.0.saturating_sub(1)),
                computed: self.weights_sha256,
                recorded: plan.weights_sha256,
            });
        }
        let mut policy = self.policy.take().ok_or_else(poisoned)?;
        let started = Instant::now();
        let (policy, outcome, weights) = tokio::task::spawn_blocking(move || {
            let outcome = update(&mut policy, &plan, &groups);
            let weights = policy.decoder.params().to_safetensors();
            (policy, outcome, weights)
        })
        .await
        .map_err(|error| Error::Record(format!("an update panicked: {error}")))?;
        self.policy = Some(policy);
        let outcome = outcome?;
        self.weights = Bytes::from(weights?);
        self.weights_sha256 = sha256(&self.weights);
        self.version = self.version.next();
        Ok(Trained {
            outcome,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn policy(&self) -> Result<&Policy> {
        self.policy.as_ref().ok_or_else(poisoned)
    }
}

fn poisoned() -> Error {
    Error::Record("an earlier update failed half way; start again from the checkpoint".to_owned())
}

/// The architecture, kept beside version 0.
pub async fn model_config(weights: &Weights) -> Result<ModelConfig> {
    let bytes = weights
        .fetch_file(PolicyVersion::ZERO, "config.json")
        .await?
        .ok_or_else(|| {
            Error::Record(
                "version 0 of the policy has no config.json beside its weights".to_owned(),
            )
        })?;
    Ok(ModelConfig::from_json(&bytes)?)
}

/// What a plan lacks at the end of a log.
pub(crate) fn what_is_missing(plan: &Plan, intake: &Intake) -> Error {
    match intake.missing(plan) {
        Some(record) => Error::RecordMissing {
            update: plan.version,
            record,
        },
        None => Error::Record(format!("plan {} names no records", plan.version)),
    }
}

/// The groups of a plan in its order, out of those of the run's log and of a blended archive.
pub(crate) fn in_order(
    plan: &Plan,
    own: Vec<ReadyGroup>,
    blended: Vec<ReadyGroup>,
) -> Vec<ReadyGroup> {
    let (mut own, mut blended) = (own.into_iter(), blended.into_iter());
    let groups = plan.groups.iter().filter_map(|group| match group.source {
        None => own.next(),
        Some(_) => blended.next(),
    });
    groups.collect()
}

/// The record of a finished update.
pub fn result_of(
    settings: &Settings,
    plan: &Plan,
    trained: &Trained,
    weights_sha256: Sha256,
    wait_seconds: f64,
    record_seconds: f64,
) -> UpdateResult {
    let Outcome {
        skipped,
        stats,
        loss,
        grad_norm,
        rows,
        all_tokens,
        entropy,
        reward,
        staleness,
    } = trained.outcome.clone();
    let tokens = stats.n_valid;
    let weighted: f64 = staleness
        .iter()
        .map(|(&age, &n)| age as f64 * n as f64)
        .sum();
    UpdateResult {
        format: CONTROL_FORMAT.to_owned(),
        learner: settings.learner.clone(),
        policy: settings.policy.clone(),
        version: plan.version,
        weights_sha256,
        skipped,
        loss,
        grad_norm,
        groups: plan.groups.len() as u64,
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
        max_log_ratio: stats.max_kept_log_ratio,
        clamped_tokens: stats.n_clamped,
        entropy,
        reward,
        mean_staleness: if tokens == 0 {
            0.0
        } else {
            weighted / tokens as f64
        },
        max_staleness: staleness.keys().next_back().copied().unwrap_or(0),
        staleness,
        wait_seconds,
        update_seconds: trained.seconds,
        record_seconds,
        finished_at_ms: jiff::Timestamp::now().as_millisecond(),
    }
}
