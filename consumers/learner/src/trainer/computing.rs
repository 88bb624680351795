//! One update of the policy in training: begun, computed outside the event loop, ended.

use std::time::Instant;

use bytes::Bytes;
use tokio::task::JoinHandle;
use vintage_control::{Plan, Precision, Sha256, UpdateNumber};
use vintage_store::{Weights, sha256};

use super::{Trained, Trainer};
use crate::{
    engine::UpdateStats,
    error::{Error, Result},
    fingerprint,
    intake::ReadyGroup,
    update::{TrainedPolicy, update},
};

/// Update that is being computed.
pub(crate) struct Computing(JoinHandle<Computed>);

impl Computing {
    /// Returns true if the update is computed.
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits until the update is computed.
    pub(crate) async fn finished(self) -> Result<Computed> {
        self.0.await.map_err(|error| Error::panicked(&error))
    }
}

/// Update that was computed, successfully or not.
pub(crate) struct Computed {
    policy: TrainedPolicy,
    update: UpdateNumber,
    precision: Precision,
    outcome: Result<UpdateStats>,
    weights: Result<(Bytes, Sha256)>,
    seconds: f64,
}

impl Trainer {
    /// Runs `plan` on its groups and moves to the next version. A penalty's versions are taken from
    /// `weights`.
    pub async fn run(
        &mut self,
        weights: &Weights,
        plan: Plan,
        groups: Vec<ReadyGroup>,
    ) -> Result<Trained> {
        let computing = self.begin(weights, plan, groups, false).await?;
        let computed = computing.finished().await?;
        self.end(computed)
    }

    /// Begins to compute the update of `plan`, outside the event loop. Until [`Trainer::end`] this
    /// is the version before, whose policy is in use. Its [`Trainer::weights`] remain if they are
    /// `kept`; otherwise the update has their memory.
    pub(crate) async fn begin(
        &mut self,
        weights: &Weights,
        plan: Plan,
        groups: Vec<ReadyGroup>,
        kept: bool,
    ) -> Result<Computing> {
        self.check(&plan)?;
        let mut policy = self.policy.take().ok_or(Error::PolicyLost)?;
        let fresh = self.fresh.as_deref();
        let anchored = policy.anchor(weights, &plan, fresh, self.precision).await;
        if let Err(error) = anchored {
            self.policy = Some(policy);
            return Err(error);
        }
        if !kept {
            self.fresh = None;
        }
        Ok(Computing(tokio::task::spawn_blocking(move || {
            let (update_number, precision) = (plan.update(), plan.training.publish);
            let started = Instant::now();
            let outcome = update(&mut policy, &plan, &groups);
            let weights = policy.decoder.to_safetensors_of(precision).map(|bytes| {
                let digest = sha256(&bytes);
                (Bytes::from(bytes), digest)
            });
            Computed {
                policy,
                update: update_number,
                precision,
                outcome,
                weights: weights.map_err(Error::from),
                seconds: started.elapsed().as_secs_f64(),
            }
        })))
    }

    /// Moves to the version that an update has made.
    pub(crate) fn end(&mut self, computed: Computed) -> Result<Trained> {
        let Computed {
            policy,
            update,
            precision,
            outcome,
            weights,
            seconds,
        } = computed;
        self.policy = Some(policy);
        let outcome = outcome?;
        let (bytes, digest) = weights?;
        (self.fresh, self.weights_sha256) = (Some(bytes), digest);
        self.precision = precision;
        self.deviates = false;
        self.version = update.version_after();
        Ok(Trained { outcome, seconds })
    }

    /// Returns true unless an update is being computed.
    pub(crate) fn is_idle(&self) -> bool {
        self.policy.is_some()
    }

    /// Refuses a plan that does not begin where this version ended, or that another device made.
    fn check(&self, plan: &Plan) -> Result<()> {
        if plan.version != self.version {
            return Err(Error::OtherVersion {
                update: plan.update(),
                version: self.version,
            });
        }
        if plan.weights_sha256 != self.weights_sha256 {
            // Plans form a chain: update N starts from the weights that update N − 1 gave.
            return Err(Error::Diverged {
                update: UpdateNumber::that_made(self.version).unwrap_or_default(),
                computed: self.weights_sha256,
                recorded: plan.weights_sha256,
            });
        }
        let (planned, here) = (&plan.fingerprint, &self.fingerprint);
        if planned.device == fingerprint::TORCH && here.device != fingerprint::TORCH {
            return Err(Error::ByPyTorch {
                update: plan.update(),
                planned: fingerprint::describe(planned),
            });
        }
        if planned.device != here.device {
            return Err(Error::OtherDevice {
                update: plan.update(),
                planned: fingerprint::describe(planned),
                here: fingerprint::describe(here),
            });
        }
        if plan.training.lora.as_ref() != self.policy()?.decoder.lora() {
            return Err(Error::OtherAdapters {
                update: plan.update(),
            });
        }
        Ok(())
    }
}
