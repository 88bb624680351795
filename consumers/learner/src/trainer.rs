//! Policy in training, and the one way to run a plan: live, in recovery and in a replay.

mod computing;

use bytes::Bytes;
use tokio::task::JoinError;
use vintage_control::{
    Fingerprint, Plan, PolicyVersion, Precision, Sha256, Training, UpdateNumber,
};
use vintage_model::{BaseModel, Decoder, DecoderConfig, ParamSet};
use vintage_settings::Device;
use vintage_store::{Checkpoint, CheckpointFiles, Weights, sha256};

use crate::{
    adamw::AdamW,
    devices::Devices,
    engine::UpdateStats,
    error::{Error, Result},
    fingerprint,
    intake::{Intake, ReadyGroup},
    update::TrainedPolicy,
};

/// Policy at one version, with its optimizer state.
pub struct Trainer {
    policy: Option<TrainedPolicy>,
    version: PolicyVersion,
    /// Bytes of `model.safetensors` of this version, until they are taken or the next update
    /// begins, which needs the memory.
    fresh: Option<Bytes>,
    weights_sha256: Sha256,
    /// Precision of the weights that this version is published with; what is trained is f32.
    precision: Precision,
    /// True if `weights_sha256` is a recorded digest that the weights in memory do not have.
    deviates: bool,
    /// Fingerprint of this build on the device that computes updates.
    fingerprint: Fingerprint,
}

/// State from which training resumes.
#[derive(Debug, Default)]
pub struct Saved {
    /// Version of the weights, the number of updates done.
    pub version: PolicyVersion,
    /// Optimizer with its moments.
    pub optimizer: AdamW,
    /// Bytes of `adapter_model.safetensors`, if adapters are trained and any update was done.
    pub adapter: Option<Bytes>,
    /// The f32 weights, if the published ones are rounded and no adapters are trained.
    pub masters: Option<Bytes>,
}

impl TryFrom<&Checkpoint> for Saved {
    type Error = Error;

    fn try_from(checkpoint: &Checkpoint) -> Result<Self> {
        let manifest = &checkpoint.manifest;
        Ok(Self {
            version: manifest.version,
            optimizer: AdamW::from_safetensors(manifest.optimizer_steps, &checkpoint.moments)?,
            adapter: checkpoint.adapter.clone(),
            masters: checkpoint.masters.clone(),
        })
    }
}

/// Outcome of running a plan.
pub struct Trained {
    /// Statistics and effects of the update.
    pub outcome: UpdateStats,
    /// Seconds spent computing.
    pub seconds: f64,
}

/// Training state besides the weights, as the files of a checkpoint.
pub struct State {
    /// Number of steps that the optimizer took.
    pub steps: u64,
    /// Moments, f32 weights and adapters.
    pub files: CheckpointFiles,
    /// Digest of the moments' file.
    pub moments_sha256: Sha256,
    /// Digest of the f32 weights' file, if the published ones are rounded.
    pub masters_sha256: Option<Sha256>,
    /// Digest of `adapter_model.safetensors`, if adapters are trained.
    pub adapter_sha256: Option<Sha256>,
}

impl State {
    fn of(policy: &TrainedPolicy, rounded: bool, base: Option<&BaseModel>) -> Result<Self> {
        let optimizer = policy.optimizer()?;
        let moments = optimizer.to_safetensors()?;
        let adapter = policy.decoder.peft_files(base)?;
        let masters = if rounded {
            Some(policy.decoder.params().to_safetensors()?)
        } else {
            None
        };
        Ok(Self {
            steps: optimizer.steps(),
            moments_sha256: sha256(&moments),
            masters_sha256: masters.as_deref().map(sha256),
            adapter_sha256: adapter.first().map(|(_, bytes)| sha256(bytes)),
            files: CheckpointFiles {
                moments,
                masters,
                adapter,
            },
        })
    }
}

impl Trainer {
    /// Loads a version of the store, verified by hash, with the moments that belong to it. With
    /// adapters, it loads version 0, their base, and the adapters; those of version 0 are drawn
    /// from `seed`. Where published weights are rounded, the f32 ones are those of the checkpoint. Updates are computed on `device`, one of the program's `devices`.
    pub async fn load(
        weights: &Weights,
        saved: Saved,
        training: &Training,
        seed: u64,
        device: Device,
        devices: &'static dyn Devices,
    ) -> Result<Self> {
        let Saved {
            version,
            optimizer,
            adapter,
            masters,
        } = saved;
        let engine = run_blocking(move || devices.open(device, optimizer)).await??;
        let config = model_config(weights).await?;
        let base = match training.lora {
            Some(_) => PolicyVersion::ZERO,
            None => version,
        };
        // Version 0 is as it was given.
        let published = weights.manifest(version).await?;
        let published = published.filter(|_| version != PolicyVersion::ZERO);
        let precision = published.map_or(Precision::F32, |manifest| manifest.precision);
        let has_masters = masters.is_some();
        let bytes = match masters {
            Some(masters) => masters,
            None if is_rounded(precision, training.lora.is_some()) => {
                return Err(Error::NoMasters { version });
            }
            None => weights.fetch(base).await?,
        };
        let mut weights_sha256 = sha256(&bytes);
        let params = ParamSet::from_safetensors(&bytes, &config)?;
        drop(bytes);
        let mut decoder = Decoder::new(config, params)?;
        if let Some(lora) = &training.lora {
            decoder = decoder.with_adapters(lora.clone(), seed)?;
        }
        match adapter {
            Some(adapter) => {
                decoder.load_adapters(&adapter)?;
                weights_sha256 = sha256(&decoder.to_safetensors_of(precision)?);
            }
            None if has_masters => {
                weights_sha256 = sha256(&decoder.to_safetensors_of(precision)?);
            }
            None if base != version => {
                return Err(Error::NoAdapters { version });
            }
            None => {}
        }
        let policy = TrainedPolicy::new(decoder, engine);
        Ok(Self {
            fingerprint: policy.fingerprint().clone(),
            policy: Some(policy),
            version,
            weights_sha256,
            precision,
            deviates: false,
            fresh: None,
        })
    }

    /// Returns the current version, the number of updates done.
    pub fn version(&self) -> PolicyVersion {
        self.version
    }

    /// Returns the update that starts from the current version.
    pub fn next_update(&self) -> UpdateNumber {
        UpdateNumber::from_version(self.version)
    }

    /// Returns the precision of this version's `model.safetensors`.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Returns true if training goes on from other weights than the published ones: these are
    /// rounded, and no adapters are trained.
    fn is_rounded(&self) -> Result<bool> {
        let adapts = self.policy()?.decoder.lora().is_some();
        Ok(is_rounded(self.precision, adapts))
    }

    /// Returns `model.safetensors` of this version, with adapters merged.
    pub async fn weights(&mut self) -> Result<Bytes> {
        if let Some(bytes) = self.fresh.take() {
            return Ok(bytes);
        }
        let precision = self.precision;
        let bytes = self.with_policy(move |policy| policy.decoder.to_safetensors_of(precision));
        Ok(Bytes::from(bytes.await??))
    }

    /// Returns the digest of the f32 weights, as a checkpoint of this version has it; `None` if
    /// there it has none.
    pub async fn masters_sha256(&mut self) -> Result<Option<Sha256>> {
        if !self.is_rounded()? {
            return Ok(None);
        }
        let digest = self.with_policy(|policy| {
            let masters = policy.decoder.params().to_safetensors();
            masters.map(|bytes| sha256(&bytes))
        });
        Ok(Some(digest.await??))
    }

    /// Computes something from the policy outside the event loop: it may be gigabytes.
    async fn with_policy<T: Send + 'static>(
        &mut self,
        compute: impl FnOnce(&TrainedPolicy) -> T + Send + 'static,
    ) -> Result<T> {
        let policy = self.policy.take().ok_or(Error::PolicyLost)?;
        let (policy, computed) = run_blocking(move || {
            let computed = compute(&policy);
            (policy, computed)
        })
        .await?;
        self.policy = Some(policy);
        Ok(computed)
    }

    /// Returns the files that a checkpoint holds beside the published weights. `base` is the base
    /// model that the adapters name.
    pub async fn state(&mut self, base: Option<BaseModel>) -> Result<State> {
        let rounded = self.is_rounded()?;
        self.with_policy(move |policy| State::of(policy, rounded, base.as_ref()))
            .await?
    }

    /// Returns the files of the adapters alone, which name `base` as the model that they were trained
    /// on; none if no adapters are trained.
    pub async fn adapters(
        &mut self,
        base: Option<BaseModel>,
    ) -> Result<Vec<(&'static str, Bytes)>> {
        let files = self.with_policy(move |policy| policy.decoder.peft_files(base.as_ref()));
        let files = files.await??.into_iter();
        Ok(files
            .map(|(name, bytes)| (name, Bytes::from(bytes)))
            .collect())
    }

    /// Returns the digest that is recorded or was computed for this version.
    pub fn weights_sha256(&self) -> Sha256 {
        self.weights_sha256
    }

    /// Returns true if the weights in memory differ from the digest recorded for this version. They
    /// must not be published under its number.
    pub fn deviates(&self) -> bool {
        self.deviates
    }

    /// Returns true if an update that is run again gives equal bits, as on the CPU kernels.
    pub fn is_exact(&self) -> bool {
        fingerprint::is_exact(&self.fingerprint)
    }

    /// Adopts the digest `recorded` for this version. Returns true if the weights in memory have
    /// it, too: they are loaded from `weights` if they are published there as they are trained,
    /// because adapters cannot be recovered from merged weights, nor f32 values from rounded ones.
    pub async fn take(&mut self, weights: &Weights, recorded: Sha256) -> Result<bool> {
        let published = weights.manifest(self.version).await?;
        let is_there = published.is_some_and(|manifest| manifest.weights_sha256 == recorded);
        let adapts = self.policy()?.decoder.lora().is_some();
        if is_there && !adapts && !self.is_rounded()? {
            let bytes = weights.fetch(self.version).await?;
            let policy = self.policy.take().ok_or(Error::PolicyLost)?;
            let config = policy.decoder.config().clone();
            let params = ParamSet::from_safetensors(&bytes, &config)?;
            self.policy = Some(policy.with(Decoder::new(config, params)?)?);
            self.fresh = Some(bytes);
            self.deviates = false;
        } else {
            self.deviates = true;
        }
        self.weights_sha256 = recorded;
        Ok(!self.deviates)
    }

    /// Returns the fingerprint of everything besides the plan that bits depend on.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn policy(&self) -> Result<&TrainedPolicy> {
        self.policy.as_ref().ok_or(Error::PolicyLost)
    }
}

/// Returns true if published weights of this precision do not hold what is trained.
fn is_rounded(precision: Precision, adapts: bool) -> bool {
    !adapts && precision != Precision::F32
}

pub(crate) async fn run_blocking<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|error| Error::panicked(&error))
}

impl Error {
    fn panicked(error: &JoinError) -> Self {
        Self::Panicked {
            reason: error.to_string(),
        }
    }
}

/// Reads the model's architecture, which is stored beside version 0.
pub async fn model_config(weights: &Weights) -> Result<DecoderConfig> {
    let bytes = weights
        .fetch_file(PolicyVersion::ZERO, "config.json")
        .await?
        .ok_or(Error::NoModelConfig)?;
    Ok(DecoderConfig::from_json(&bytes)?)
}

/// Returns the error for a plan whose records are missing at the end of a log.
pub(crate) fn missing_record(plan: &Plan, intake: &Intake) -> Error {
    match intake.missing(plan) {
        Some(record) => Error::RecordMissing {
            update: plan.update(),
            record,
        },
        None => Error::PlanContradicts {
            update: plan.update(),
            reason: "no records",
        },
    }
}

/// Returns the error for a plan with groups of an archive that this learner does not read.
pub(crate) fn no_archive(plan: &Plan, name: &str) -> Error {
    Error::Settings(format!(
        "plan {} blends in groups of {name}, and no archive of it is at hand: name the folder that \
         holds it as learner.archive, with learner.source=blend, in the settings of the learner",
        plan.version
    ))
}

/// Merges the groups of the run's log, of a blended archive and of earlier updates in the order of
/// the plan. A plan that names more groups than there are is an error: its micro-batches count rows
/// of all of them.
pub(crate) fn in_order(
    plan: &Plan,
    own: Vec<ReadyGroup>,
    blended: Vec<ReadyGroup>,
    reused: Vec<ReadyGroup>,
) -> Result<Vec<ReadyGroup>> {
    let (mut own, mut blended) = (own.into_iter(), blended.into_iter());
    let groups = plan.groups.iter().map(|group| match &group.source {
        None => own.next().ok_or(Error::PlanContradicts {
            update: plan.update(),
            reason: "more groups than records",
        }),
        Some(name) => blended.next().ok_or_else(|| no_archive(plan, name)),
    });
    groups.chain(reused.into_iter().map(Ok)).collect()
}
