//! Replay: a learner's plans are run again from its log, and the bits are compared.

use std::collections::BTreeMap;

use vintage_control::{PartitionResume, Plan, PolicyVersion, Sha256, UpdateNumber};
use vintage_model::DecoderConfig;
use vintage_settings::LearnerConfig;
use vintage_store::{Records, Weights};

use crate::{
    devices::Devices,
    error::{Error, Result},
    extent::Extent,
    fingerprint,
    intake::{Intake, ReadyGroup, judge::PermittedVersions},
    reuse::ReuseWindow,
    settings::LearnerSettings,
    source::RolloutSource,
    trainer::{Saved, Trainer, in_order, missing_record, model_config, no_archive},
};

/// Result of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Number of updates run again.
    pub updates: u64,
    /// Digest of the last version's weights.
    pub weights_sha256: Sha256,
    /// Bytes of `model.safetensors` of the last version.
    pub weights: bytes::Bytes,
    /// First disagreement between the records and this machine, if any.
    pub deviation: Option<Mismatch>,
}

/// First disagreement between the records and a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Update at which they disagree.
    pub update: UpdateNumber,
    /// Description of the difference, in words.
    pub detail: String,
    /// True if plan and machine have different fingerprints, so that other bits are not a fault.
    pub other_machine: bool,
    /// True if updates were computed on a GPU, which need not reproduce its bits.
    pub on_gpu: bool,
}

/// Inputs of a replay.
pub struct Recording<'a> {
    /// Rollouts of the run.
    pub source: &'a mut dyn RolloutSource,
    /// Points at which the learner began to read them; empty means the beginning of the log.
    pub start: &'a [PartitionResume],
    /// Archive that was blended in, if one was.
    pub blended: Option<&'a mut dyn RolloutSource>,
    /// Extent of the learner's work by all its records, which its plans must cover.
    pub extent: &'a Extent,
}

/// Intakes of a replay, created at its first plan.
struct Intakes {
    own: Intake,
    blended: Option<Intake>,
    window: ReuseWindow,
}

impl Intakes {
    fn new(plan: &Plan, config: &DecoderConfig, start: &[PartitionResume]) -> Self {
        let settings = settings_of(plan, config.max_position_embeddings, config.vocab_size);
        Self {
            own: Intake::new(settings, start, &BTreeMap::new()),
            blended: None,
            window: ReuseWindow::default(),
        }
    }

    /// Reads until every record of `plan` has arrived, and takes the plan's groups.
    async fn groups_of(
        &mut self,
        plan: &Plan,
        config: &DecoderConfig,
        recording: &mut Recording<'_>,
    ) -> Result<Vec<ReadyGroup>> {
        let own = read(plan, &mut self.own, recording.source).await?;
        let groups = plan.groups.iter().map(|group| &group.source);
        let refused = plan.rejections.iter().map(|refused| &refused.source);
        let again = self.window.take(plan)?;
        let Some(name) = groups.chain(refused).flatten().next() else {
            return in_order(plan, own, Vec::new(), again);
        };
        let Some(source) = recording.blended.as_deref_mut() else {
            return Err(no_archive(plan, name));
        };
        let intake = self
            .blended
            .get_or_insert_with(|| Self::new(plan, config, &[]).own.of_archive(name));
        let blended = read(plan, intake, source).await?;
        in_order(plan, own, blended, again)
    }

    fn finish(&mut self, plan: &Plan) {
        self.own.finish(plan);
        if let Some(blended) = &mut self.blended {
            blended.finish(plan);
        }
    }
}

async fn read(
    plan: &Plan,
    intake: &mut Intake,
    source: &mut dyn RolloutSource,
) -> Result<Vec<ReadyGroup>> {
    loop {
        if let Some(groups) = intake.take_planned(plan)? {
            return Ok(groups);
        }
        let Some(incoming) = source.next().await? else {
            return Err(missing_record(plan, intake));
        };
        // A recorded log holds only groups of announced versions.
        intake.take(incoming, PermittedVersions::Any)?;
    }
}

/// Runs every plan of a learner from version 0. The digest of each version is compared with those
/// that the next plan, the result, the checkpoint and the published weights recorded, as far as
/// they exist. Updates are computed on the device of the plans, one of the program's `devices`. A
/// missing plan is a deviation if other records are of later updates.
pub async fn replay(
    records: &Records,
    weights: &Weights,
    mut recording: Recording<'_>,
    devices: &'static dyn Devices,
    mut progress: impl FnMut(PolicyVersion),
) -> Result<Replayed> {
    let mut deviation = None;
    let mut next = match records.plan(UpdateNumber::FIRST).await {
        Ok(next) => next,
        Err(error) => {
            deviation = Some(finding(UpdateNumber::FIRST, error.into())?);
            None
        }
    };
    let (training, seed, device) = next.as_ref().map_or_else(Default::default, |plan| {
        let device = fingerprint::device_of(&plan.fingerprint);
        (plan.training.clone(), plan.seed, device)
    });
    let saved = Saved::default();
    let mut trainer = Trainer::load(weights, saved, &training, seed, device, devices).await?;
    let config = model_config(weights).await?;
    let mut intakes: Option<Intakes> = None;
    let here = trainer.fingerprint().clone();
    while let Some(plan) = next {
        let update = trainer.next_update();
        if plan.update() != update {
            let found = plan.update();
            deviation = Some(finding(update, Error::OtherUpdate { found })?);
            break;
        }
        let start = recording.start;
        let intakes = intakes.get_or_insert_with(|| Intakes::new(&plan, &config, start));
        let groups = intakes.groups_of(&plan, &config, &mut recording).await;
        let trained = match groups {
            Ok(groups) => {
                let _nothing_is_resumed = intakes.window.advance(&plan, &groups);
                trainer.run(weights, plan.clone(), groups).await.map(|_| ())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = trained {
            deviation = Some(finding(update, error)?);
            break;
        }
        intakes.finish(&plan);
        progress(trainer.version());
        next = match records.plan(trainer.next_update()).await {
            Ok(next) => next,
            Err(error) => {
                deviation = Some(finding(trainer.next_update(), error.into())?);
                break;
            }
        };
        let computed = trainer.weights_sha256();
        let recorded = match recorded_digests(records, weights, update, next.as_ref()).await {
            Ok(recorded) => recorded,
            Err(error) => {
                deviation = Some(finding(update, error)?);
                break;
            }
        };
        let other = recorded.into_iter().find(|digest| *digest != computed);
        let mut other = other.map(|recorded| (computed, recorded));
        // Rounded weights may be equal where those that are trained are not.
        let checkpoint = records.checkpoint(trainer.version()).await?;
        if let Some(recorded) = checkpoint.and_then(|manifest| manifest.masters_sha256)
            && let Some(computed) = trainer.masters_sha256().await?
            && computed != recorded
        {
            other = other.or(Some((computed, recorded)));
        }
        if let Some((computed, recorded)) = other {
            let detail = Error::Diverged {
                update,
                computed,
                recorded,
            }
            .to_string();
            let other_machine = plan.fingerprint != here;
            deviation = Some(Mismatch {
                update,
                detail,
                other_machine,
                on_gpu: !trainer.is_exact(),
            });
            break;
        }
    }
    if deviation.is_none() {
        let update = trainer.next_update();
        let gap = recording.extent.gap(update);
        deviation = gap.map(|detail| Mismatch {
            update,
            detail,
            other_machine: false,
            on_gpu: false,
        });
    }
    Ok(Replayed {
        updates: trainer.version().0,
        weights_sha256: trainer.weights_sha256(),
        weights: trainer.weights().await?,
        deviation,
    })
}

/// Converts an error that contradicts the records to a deviation at `update`; returns any other
/// error unchanged.
fn finding(update: UpdateNumber, error: Error) -> Result<Mismatch> {
    let against = matches!(
        error,
        Error::ContentChanged { .. }
            | Error::PlannedButRefused { .. }
            | Error::RecordMissing { .. }
            | Error::OtherUpdate { .. }
            | Error::OtherVersion { .. }
            | Error::OtherAdapters { .. }
            | Error::PlanContradicts { .. }
            | Error::Diverged { .. }
            | Error::NotFinite { .. }
            | Error::Weigh { .. }
            | Error::Store(vintage_store::Error::Json { .. })
    );
    if !against {
        return Err(error);
    }
    Ok(Mismatch {
        update,
        detail: error.to_string(),
        other_machine: false,
        on_gpu: false,
    })
}

/// Returns the digests that were recorded of the version that `update` gave: by the plan after it,
/// its result, its checkpoint and its published weights.
async fn recorded_digests(
    records: &Records,
    weights: &Weights,
    update: UpdateNumber,
    next: Option<&Plan>,
) -> Result<Vec<Sha256>> {
    let result = records.result(update).await?;
    let checkpoint = records.checkpoint(update.version_after()).await?;
    let published = weights.manifest(update.version_after()).await?;
    // A plan of another update holds no digest of this version.
    let next = next.filter(|plan| plan.update() == update.next());
    let said = [
        next.map(|plan| plan.weights_sha256),
        result.map(|result| result.weights_sha256),
        checkpoint.map(|manifest| manifest.weights_sha256),
        published.map(|manifest| manifest.weights_sha256),
    ];
    Ok(said.into_iter().flatten().collect())
}

/// Derives settings from a plan and its model, as far as a replay needs any: it makes no choices.
fn settings_of(plan: &Plan, context: usize, vocabulary: usize) -> LearnerSettings {
    let learner = LearnerConfig {
        name: plan.learner.clone(),
        policy: plan.policy.clone(),
        steps: u64::MAX,
        prompts_per_update: usize::MAX,
        micro_batch_tokens: usize::MAX,
        compute: plan.training.compute,
        recompute: plan.training.recompute,
        checkpoint_every: u64::MAX,
        keep_versions: u64::MAX,
        keep_checkpoints: usize::MAX,
        optimizer: plan.optimizer.clone(),
        lora: plan.training.lora.clone().into(),
        ..LearnerConfig::default()
    };
    LearnerSettings {
        any_policy: true,
        pin_every: 1,
        incomplete_after_records: u64::MAX >> 1,
        ..LearnerSettings::new(
            learner,
            plan.seed,
            plan.algorithm.clone(),
            context,
            vocabulary,
        )
    }
}
